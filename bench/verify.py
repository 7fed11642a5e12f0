"""Verification on all cores, each way of it beside the floor that no verification can be faster than.

Stored bytes (digests, manifests, log, signatures) against plain SHA-256 over the same files; the deep way (every inner
tree rebuilt from its frames) against leaf hashes and trees of the same frames, which are in memory already.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from rich.table import Table

from bench import stores
from bench.report import Figures, Outcome, Target, machine, number, rotated

__all__ = ["run"]

_LINES = {
    "sha256": ("bench.floors", "files", "floor: SHA-256 of the store's files"),
    "stored": ("bench.verifier", "stored", "verify, stored bytes"),
    "trees": ("bench.floors", "trees", "floor: leaves and trees of frames in memory"),
    "full": ("bench.verifier", "full", "verify, every frame"),
}
_AGAINST = {"stored": "sha256", "full": "trees"}


def run(options: argparse.Namespace, _folder: Path) -> Outcome:
    """Every line once a round over one store. What can be in the page cache is there before the first of them."""
    frames = options.frames or stores.MOST
    home = stores.store(options.stores, frames)
    size = sum(
        path.stat().st_size for name in ("segments", "log") for path in (home / name).rglob("*") if path.is_file()
    )
    results: dict[str, list[Figures]] = {name: [] for name in _LINES}
    stores.measured("bench.floors", str(home), "files", watch=False)
    for names in rotated(list(_LINES), options.rounds or 3):
        for name in names:
            module, mode, _ = _LINES[name]
            results[name].append(stores.measured(module, str(home), mode, watch=False))
    lines: dict[str, Figures] = {}
    for name, rounds in results.items():
        seconds = median(one["seconds"] for one in rounds)
        lines[name] = {"seconds": seconds, "frames_per_s": frames / seconds, "mb_per_s": size / seconds / 1e6}
        if floor := _AGAINST.get(name):
            pairs = zip(rounds, results[floor], strict=True)
            lines[name]["to_floor"] = median(under["seconds"] / one["seconds"] for one, under in pairs)
    problems = [
        f"{name}: the store does not verify: {finding}"
        for name in _AGAINST
        for one in results[name]
        for finding in one["findings"]
    ]
    problems += [
        f"{name}: {one['frames']} of {frames} frames were looked at"
        for name in ("trees", "full")
        for one in results[name]
        if one["frames"] < frames
    ]
    targets = [
        Target("stored bytes: speed, of plain SHA-256", lines["stored"]["to_floor"], ">=", 0.5, ".2f", possible=1),
        Target(
            "every frame: speed, of leaves and trees in memory", lines["full"]["to_floor"], ">=", 0.6, ".2f", possible=1
        ),
    ]
    figures = {"frames": frames, "bytes": size, "lines": lines, "rounds": results}
    return Outcome(_table(lines, frames, size), figures, targets, problems)


def _table(lines: dict[str, Figures], frames: int, size: int) -> Table:
    title = f"verification of {frames:,} frames, {size / 1e6:,.0f} MB on disk, on {machine()['cpus']} cores"
    table = Table(title=title, title_justify="left")
    table.add_column()
    for head in ("s", "MB/s of the store", "frames/s", "of the floor"):
        table.add_column(head, justify="right")
    for name, line in lines.items():
        deep = name in ("trees", "full")
        table.add_row(
            _LINES[name][2],
            number(line["seconds"], ".3f"),
            number(None if deep else line["mb_per_s"], ",.0f"),
            number(line["frames_per_s"] if deep else None, ",.0f"),
            number(line.get("to_floor"), ".2f"),
        )
    return table
