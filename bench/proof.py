"""One frame's proof, made from the store and checked without it: the median over frames all over the log."""

from __future__ import annotations

import argparse
import gc
import random
import time
from pathlib import Path
from statistics import median, quantiles

from rich.table import Table

from bench import stores
from bench.report import Figures, Outcome, Target
from sandtrail.store.frame_proof import check_proof_file, make_proof
from sandtrail.store.frames import Ref
from sandtrail.store.keys import load_pins
from sandtrail.store.reader import open_log

__all__ = ["run"]

_MOST_REFS = 200


def run(options: argparse.Namespace, _folder: Path) -> Outcome:
    """Every proof is made as by a program that has just started: nothing of the log is kept from one to the next."""
    frames = options.frames or stores.MOST
    home = stores.store(options.stores, frames)
    identity, first = load_pins(home)
    refs = _refs(home, max(20, min(_MOST_REFS, frames // 1000)))
    made, checked, sizes = [], [], []
    gc.collect()
    for ref in refs:
        begin = time.perf_counter()
        proof = make_proof(home, ref)
        middle = time.perf_counter()
        check_proof_file(proof, identity, first)
        checked.append(time.perf_counter() - middle)
        made.append(middle - begin)
        sizes.append(len(proof))
    rows = {"made": _row(made), "checked": _row(checked)}
    figures = {"frames": frames, "refs": len(refs), "ms": rows, "bytes": median(sizes)}
    targets = [
        Target("one proof made, ms", rows["made"]["median"], "<=", 30, ".2f"),
        Target("one proof checked, ms", rows["checked"]["median"], "<=", 1, ".3f"),
    ]
    return Outcome(_table(figures), figures, targets)


def _refs(home: Path, wanted: int) -> list[Ref]:
    """Frames anywhere in the log, each as likely as any other."""
    segments = [
        (entry.map["segment"], entry.map["frames"]) for entry in open_log(home).entries() if entry.kind == "segment"
    ]
    rng = random.Random(7)
    chosen = rng.choices(segments, [count for _, count in segments], k=wanted)
    return [Ref(number, rng.randrange(count)) for number, count in chosen]


def _row(seconds: list[float]) -> dict[str, float]:
    return {"median": median(seconds) * 1e3, "p95": quantiles(seconds, n=20)[-1] * 1e3, "worst": max(seconds) * 1e3}


def _table(figures: Figures) -> Table:
    title = f"proofs of {figures['refs']} frames of {figures['frames']:,}; a file of {figures['bytes']:,.0f} bytes each"
    table = Table(title=title, title_justify="left")
    table.add_column()
    for head in ("median, ms", "95 %, ms", "worst, ms"):
        table.add_column(head, justify="right")
    for what, row in figures["ms"].items():
        table.add_row(what, *(f"{value:.3f}" for value in row.values()))
    return table
