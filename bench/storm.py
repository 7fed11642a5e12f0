"""What recording a syscall storm inside gVisor costs: each variant in turn, ratios within a round."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.readers import READERS
from bench.report import Figures, Outcome, number, rotated
from bench.sandbox import Run, Storm, compile_c
from bench.workshop import Received, Workshop
from sandtrail.collector.runsc.binary import find, identify
from sandtrail.collector.session.sendbuffer import WANTED
from sandtrail.errors import MissingPartError

_WMEM = Path("/proc/sys/net/core/wmem_default")


def run(options: argparse.Namespace, _folder: Path) -> Outcome:
    """Each variant once a round."""
    console = Console(stderr=True)
    # A Unix socket's path is short.
    with tempfile.TemporaryDirectory(prefix="st-bench-", dir="/tmp") as name, _send_buffer(options.wmem):
        figures, problems = _measure(options, Path(name), console)
    return Outcome(_table(figures), figures, [], problems)


def add_options(group: Any) -> None:
    """The options that only this bench has, and those of the runtime."""
    group.add_argument("--reads", type=int, default=100_000, help="times open, read, close (default %(default)s)")
    group.add_argument("--execs", type=int, default=500, help="times fork, exec, wait (default %(default)s)")
    group.add_argument("--eight", action="store_true", help="eight sandboxes at once, each with an eighth of the storm")
    group.add_argument("--profile", choices=("default", "full"), default="default", help="trace points of all variants")
    group.add_argument("--only", nargs="+", choices=list(READERS), default=list(READERS), help="variants to run")
    group.add_argument("--runsc", type=Path, help="runtime to use (default: the one that sandtrail record would use)")
    group.add_argument("--platform", default="", help="its platform (default: the first that starts here)")
    group.add_argument("--wmem", type=int, default=WANTED, help="net.core.wmem_default meanwhile (default %(default)s)")


@contextlib.contextmanager
def _send_buffer(size: int) -> Iterator[None]:
    """Set the send buffer that sentries get, for all variants alike, and put the old value back."""
    before = _WMEM.read_text()
    try:
        _WMEM.write_text(str(size))
    except PermissionError:
        raise MissingPartError("the bench runs sandboxes and sets net.core.wmem_default: run it as root") from None
    try:
        yield
    finally:
        _WMEM.write_text(before)


def _measure(options: argparse.Namespace, folder: Path, console: Console) -> tuple[Figures, list[str]]:
    runsc = identify(find(options.runsc), only_platform=options.platform)
    shop = Workshop(folder, runsc.metadata, compile_c("discard", folder), options.profile)
    sandboxes = 8 if options.eight else 1
    rounds = options.rounds or 5
    results: dict[str, list[Figures]] = {name: [] for name in options.only}
    with (
        Storm(runsc.path, runsc.platform, folder / "storm", options.reads, options.execs) as storm,
        console.status("") as status,
    ):
        for turn, names in enumerate(rotated(options.only, rounds), 1):
            for name in names:
                status.update(f"round {turn} of {rounds}: {name}")
                with READERS[name](shop, sandboxes) as opened:
                    runs = storm.run_together(opened.sessions)
                results[name].append(_result(runs, opened.received))
    settings = {
        **{key: getattr(options, key) for key in ("reads", "execs", "profile")},
        "rounds": rounds,
        "sandboxes": sandboxes,
        "wmem_default": options.wmem,
        "runsc": runsc.version,
        "platform": runsc.platform,
    }
    variants = {name: _summary(name, results) for name in options.only}
    return {"settings": settings, "variants": variants, "rounds": results}, _problems(results)


def _result(runs: list[Run], received: Received) -> Figures:
    # Sandboxes that start at once are one piece of work: it is over when the last one is.
    wall = max(run.wall_s for run in runs)
    return {
        "wall_s": wall,
        "first_wall_s": min(run.wall_s for run in runs),
        "storm_s": max(run.storm_s for run in runs),
        "sandbox_cpu_s": sum(run.cpu_s for run in runs),
        **vars(received),
        "frames_per_s": received.frames / wall if received.frames else None,
        "bytes_per_frame": received.disk_bytes / received.frames if received.disk_bytes and received.frames else None,
    }


def _summary(name: str, results: dict[str, list[Figures]]) -> Figures:
    rounds = results[name]
    summary: Figures = {}
    for key in rounds[0]:
        values = [one[key] for one in rounds if one[key] is not None]
        if key == "cpu_s":
            parts = sorted({part for value in values for part in value})
            summary[key] = {part: median(value.get(part, 0.0) for value in values) for part in parts}
        else:
            summary[key] = median(values) if values else None
    for base in ("off", "floor"):
        if base in results:
            for key in ("wall_s", "storm_s"):
                ratios = [one[key] / other[key] for one, other in zip(rounds, results[base], strict=True)]
                summary[f"{key.removesuffix('_s')}_to_{base}"] = median(ratios)
    return summary


def _problems(results: dict[str, list[Figures]]) -> list[str]:
    """Everything that was lost. The storm is the same each time, so every reader has to get the same frames."""
    found = []
    counts = {one["frames"] for rounds in results.values() for one in rounds if one["frames"] is not None}
    if len(counts) > 1:
        found.append(f"readers of the same storm received different numbers of frames: {sorted(counts)}")
    for name, rounds in results.items():
        if lost := sum(one["dropped"] or 0 for one in rounds):
            found.append(f"{name}: {lost} messages were dropped")
        if restarts := sum(one["restarts"] for one in rounds):
            found.append(f"{name}: {restarts} restarts of a worker")
    return found


_ROWS = (
    ("wall, s", "wall_s", ".2f"),
    ("  to off", "wall_to_off", ".2f"),
    ("  to floor", "wall_to_floor", ".2f"),
    ("first to last call, s", "storm_s", ".2f"),
    ("  to floor", "storm_to_floor", ".2f"),
    ("first sandbox done, s", "first_wall_s", ".2f"),
    ("frames", "frames", ",.0f"),
    ("frames/s", "frames_per_s", ",.0f"),
    ("dropped", "dropped", ",.0f"),
    ("bytes/frame on disk", "bytes_per_frame", ".1f"),
    ("signed after the end, s", "sealed_s", ".2f"),
    ("indexed after the end, s", "indexed_s", ".2f"),
    ("CPU of the sandbox, s", "sandbox_cpu_s", ".2f"),
)


def _table(report: Figures) -> Table:
    settings, variants = report["settings"], report["variants"]
    reads, execs = settings["reads"] // settings["sandboxes"], settings["execs"] // settings["sandboxes"]
    title = (
        f"{settings['sandboxes']} x ({reads:,} open/read/close + {execs:,} fork/exec), median of {settings['rounds']}\n"
        f"runsc {settings['runsc']}, {settings['platform']}"
    )
    table = Table(title=title, title_justify="left", min_width=72)
    table.add_column()
    for name in variants:
        table.add_column(name, justify="right")
    for label, key, form in _ROWS:
        table.add_row(label, *(number(one.get(key), form) for one in variants.values()))
    for part in dict.fromkeys(part for one in variants.values() for part in one["cpu_s"]):
        table.add_row(f"CPU of our {part}, s", *(number(one["cpu_s"].get(part), ".2f") for one in variants.values()))
    return table
