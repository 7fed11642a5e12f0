"""Ten million frames appended and verified: the memory that takes, and whether a frame costs more with more of them.

Each of the three sizes is a tenth of the next. The CPU time of a frame is fitted as n^x over them: x is 0 where it
stays the same. (Of the time on the wall, other work on the machine takes its part.)
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from math import log
from pathlib import Path
from statistics import linear_regression, median

from rich.table import Table

from bench import stores
from bench.report import Figures, Outcome, Target, rotated

__all__ = ["exponent", "run"]

_LIMIT_MIB = 300
# A tenth of n^1: over the two decades measured that is a quarter more, which is what noise may do to one of the points.
_FLAT = 0.05


def run(options: argparse.Namespace, folder: Path) -> Outcome:
    """Append and verify every size once a round; the largest store is kept for the benches after this one."""
    most = options.frames or stores.MOST
    sizes = [most // 100, most // 10, most]
    results: dict[str, list[Figures]] = {f"{what} {size}": [] for what in ("append", "verify") for size in sizes}
    for names in rotated([str(size) for size in sizes], options.rounds or 3):
        for name in names:
            home = options.stores / name
            shutil.rmtree(home, ignore_errors=True)
            results[f"append {name}"].append(stores.make(home, int(name)))
            results[f"verify {name}"].append(stores.measured("bench.verifier", str(home), "full"))
            if int(name) != most:
                shutil.rmtree(home)
    rows = {what: _row(sizes, [results[f"{what} {size}"] for size in sizes]) for what in ("append", "verify")}
    problems = [
        f"{name}: {problem}" for name, rounds in results.items() for one in rounds for problem in _problems(one)
    ]
    figures = {"sizes": sizes, "rows": rows, "rounds": results}
    return Outcome(_table(sizes, rows), figures, _targets(rows), problems)


def _row(sizes: list[int], results: list[list[Figures]]) -> dict[str, list[float]]:
    def cost(unit: str) -> list[float]:
        return [median(one[unit] for one in rounds) / size * 1e6 for size, rounds in zip(sizes, results, strict=True)]

    return {
        "us_per_frame": cost("seconds"),
        "cpu_us_per_frame": cost("cpu_s"),
        "peak_mib": [max(one["peak_mib"] for one in rounds) for rounds in results],
        "exponent": [exponent(sizes, cost("cpu_s"))],
    }


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """x in cost = c * n^x."""
    return linear_regression([log(size) for size in sizes], [log(cost) for cost in costs]).slope


def _problems(said: Figures) -> list[str]:
    return [f"the store does not verify: {finding}" for finding in said.get("findings", [])]


def _targets(rows: dict[str, dict[str, list[float]]]) -> list[Target]:
    targets = []
    for what, row in rows.items():
        targets.append(Target(f"{what}: MiB at most", row["peak_mib"][-1], "<=", _LIMIT_MIB, ".0f"))
        targets.append(Target(f"{what}: CPU time of a frame as n^x, x", row["exponent"][0], "<=", _FLAT, ".3f"))
    return targets


def _table(sizes: list[int], rows: dict[str, dict[str, list[float]]]) -> Table:
    table = Table(title="cost per frame and memory, by frames in the store", title_justify="left")
    table.add_column()
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    table.add_column("x in n^x", justify="right")
    for what, row in rows.items():
        table.add_row(f"{what}, µs a frame", *(f"{cost:.2f}" for cost in row["us_per_frame"]), "")
        table.add_row("  of CPU", *(f"{cost:.2f}" for cost in row["cpu_us_per_frame"]), f"{row['exponent'][0]:.3f}")
        table.add_row("  MiB at most", *(f"{peak:.0f}" for peak in row["peak_mib"]), "")
    return table
