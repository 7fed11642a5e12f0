"""Durable appends of 120-byte frames on one core, ours beside others', in turns, and their ratios within a round."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from bench import foreign
from bench.payloads import SIZE
from bench.report import Figures, Outcome, Target, number, rotated
from sandtrail.errors import MissingPartError
from sandtrail.store import native

__all__ = ["run", "run_writer"]

_CHECKOUT = Path(__file__).resolve().parent.parent
_REFERENCE = "tessera"


@dataclass(frozen=True)
class Line:
    """One line of the table. `share` of the frames goes to a writer that needs so much longer for each."""

    what: str
    write: Callable[[Path, int, int], Figures]
    share: float = 1.0


def run_writer(name: str, folder: Path, count: int, *more: str, python: Path | str = sys.executable) -> Figures:
    """Run bench.writers.NAME into `folder` and return what it said, with the bytes that it left on disk."""
    command = [str(python), "-m", f"bench.writers.{name}", str(folder), str(count), *more]
    done = subprocess.run(command, cwd=_CHECKOUT, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        raise MissingPartError(f"the writer {name} ended with status {done.returncode}; run it alone: {command}")
    said: Figures = json.loads(done.stdout)
    return {**said, "disk_bytes": _size(folder)}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _ours(name: str) -> Callable[[Path, int, int], Figures]:
    return lambda folder, count, core: run_writer(name, folder, count, f"--core={core}")


def _aics(folder: Path, count: int, core: int) -> Figures:
    return run_writer("aics", folder, count, f"--core={core}", python=foreign.python())


def _tessera(batch: int) -> Callable[[Path, int, int], Figures]:
    return lambda folder, count, core: {
        **foreign.tessera(folder, count, SIZE, batch, core),
        "disk_bytes": _size(folder),
    }


_LINES = {
    "sandtrail": Line("Sandtrail: salts, encryption, inner tree", _ours("sandtrail")),
    "unsalted": Line("Sandtrail: inner tree only (bench only)", _ours("unsalted")),
    "plain": Line("Sandtrail: salts, encryption, without C", _ours("plain"), share=0.5),
    "sqlite": Line("SQLite: WAL, synchronous=FULL, 16,384 a batch", _ours("sqlite")),
    "aics": Line("aics-tlog's writer, 16,384 a batch", _aics, share=0.25),
    "tessera": Line("Tessera POSIX, its defaults (256 a batch)", _tessera(256), share=0.125),
    "tessera-4096": Line("Tessera POSIX, 4,096 a batch", _tessera(4096), share=0.25),
}


def run(options: argparse.Namespace, folder: Path) -> Outcome:
    """Every line once a round. A line that cannot run is a problem; the others are measured all the same."""
    count = options.frames or 1 << 20
    core = max(os.sched_getaffinity(0))
    results: dict[str, list[Figures]] = {name: [] for name in _LINES}
    problems: dict[str, str] = {}
    for names in rotated(list(_LINES), options.rounds or 5):
        for name in names:
            if name not in problems:
                line = _LINES[name]
                try:
                    results[name].append(_measure(line, folder / name, max(1000, int(count * line.share)), core))
                except MissingPartError as error:
                    problems[name] = f"{name}: {error}"
    lines = {name: _summary(rounds, results[_REFERENCE]) for name, rounds in results.items() if rounds}
    for name, rounds in results.items():
        if lost := sum(one["asked"] - one["frames"] for one in rounds):
            problems[name] = f"{name}: {lost} frames are not in what was stored"
    return Outcome(_table(lines, count), {"lines": lines, "rounds": results}, _targets(lines), list(problems.values()))


def _measure(line: Line, folder: Path, count: int, core: int) -> Figures:
    try:
        said = line.write(folder, count, core)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {**said, "asked": count, "frames_per_s": said["frames"] / said["seconds"]}


def _summary(rounds: list[Figures], reference: list[Figures]) -> Figures:
    ratios = [one["frames_per_s"] / other["frames_per_s"] for one, other in zip(rounds, reference, strict=False)]
    return {
        "frames": rounds[0]["frames"],
        "frames_per_s": median(one["frames_per_s"] for one in rounds),
        "to_tessera": median(ratios) if ratios else None,
        "bytes_per_frame": median(one["disk_bytes"] / one["frames"] for one in rounds),
    }


def _targets(lines: dict[str, Figures]) -> list[Target]:
    ours, bare = lines.get("sandtrail", {}), lines.get("unsalted", {})
    return [
        Target("frames/s with the inner tree", bare.get("frames_per_s", 0), ">=", 400_000, ",.0f"),
        Target("frames/s with salts and encryption too", ours.get("frames_per_s", 0), ">=", 250_000, ",.0f"),
        Target("times Tessera's POSIX driver", ours.get("to_tessera") or 0, ">=", 20, ".1f"),
    ]


def _table(lines: dict[str, Figures], count: int) -> Table:
    table = Table(
        title=f"durable appends on one core, {count:,} frames of {SIZE} bytes; {native.said}", title_justify="left"
    )
    table.add_column()
    for head in ("frames", "frames/s", "to Tessera", "bytes/frame"):
        table.add_column(head, justify="right")
    for name, line in lines.items():
        table.add_row(
            _LINES[name].what,
            number(line["frames"], ",d"),
            number(line["frames_per_s"], ",.0f"),
            number(line["to_tessera"], ".1f"),
            number(line["bytes_per_frame"], ".1f"),
        )
    return table
