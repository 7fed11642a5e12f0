"""Draws mutants from all families by a seed: the same seed, the same corpus, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from tests.store.mutants import (
    attacks_blobs,
    attacks_entries,
    attacks_files,
    attacks_history,
    attacks_keys,
    attacks_meaning,
    attacks_signatures,
)
from tests.store.mutants.base import Base, record
from tests.store.mutants.mutant import Family, Mutant

__all__ = ["COUNT", "FAMILIES", "SEED", "draw", "make_bases"]

SEED = 4
COUNT = 1200
FAMILIES = (
    "flipped",
    "reshaped",
    "added",
    "several",
    "unvouched",
    "fields",
    "reordered",
    "deleted",
    "inserted",
    "dropped segments",
    "truncated",
    "rolled back",
    "forked",
    "spliced",
    "wiped",
    "signatures",
    "re-signed",
    "cosignatures",
    "re-sealed",
    "all keys stolen",
    "stolen alone",
    "invented epochs",
    "swapped blobs",
    "retold frames",
    "shuffled frames",
    "data keys",
    "erasure",
    "manifests",
    "left out",
    "times",
    "downgraded",
)
OTHER = "sandtrail.example/fleet/node-2"


def make_bases(folder: Path, seed: int = SEED) -> tuple[Base, Base]:
    """The store that is damaged, and another node's."""
    return record(folder / "base", seed), record(folder / "other", seed + 1, OTHER)


def families(other: Base) -> list[tuple[int, Family]]:
    """Each family with its share."""
    return [
        (16, attacks_files.flipped),
        (6, attacks_files.reshaped),
        (1, attacks_files.added),
        (5, attacks_files.several),
        (2, attacks_files.unvouched),
        (18, attacks_entries.fields),
        (9, attacks_entries.reordered),
        (7, attacks_entries.deleted),
        (6, attacks_entries.inserted),
        (4, attacks_entries.dropped_segments),
        (5, attacks_history.truncated),
        (4, attacks_history.rolled_back),
        (6, attacks_history.forked),
        (4, partial(_with_other, other)),
        (1, attacks_history.wiped),
        (2, attacks_signatures.signatures),
        (2, attacks_signatures.resigned),
        (4, attacks_signatures.cosignatures),
        (5, attacks_keys.resealed),
        (1, attacks_keys.resealed_and_remembered),
        (2, attacks_keys.stolen_alone),
        (2, attacks_keys.invented_epochs),
        (4, attacks_blobs.swapped),
        (5, attacks_blobs.retold),
        (4, attacks_blobs.shuffled),
        (2, attacks_blobs.data_keys),
        (3, attacks_meaning.erasure),
        (6, attacks_meaning.manifests),
        (1, attacks_meaning.dropped),
        (4, attacks_meaning.times),
        (2, attacks_meaning.downgraded),
    ]


def _with_other(other: Base, base: Base, rng: Random) -> Iterator[Mutant]:
    return attacks_history.spliced(base, other, rng)


def draw(base: Base, other: Base, count: int = COUNT, seed: int = SEED) -> list[Mutant]:
    """At least `count` mutants, each family by its share; a family that has no more gives its share to the others."""
    drawers = [
        (share, family(base, Random(f"{seed}/{number}"))) for number, (share, family) in enumerate(families(other))
    ]
    drawn: dict[tuple[str, str], Mutant] = {}
    while len(drawn) < count and drawers:
        for drawer in list(drawers):
            share, mutants = drawer
            for _ in range(share):
                mutant = next(mutants, None)
                if mutant is None:
                    drawers.remove(drawer)
                    break
                drawn[mutant.family, mutant.name] = mutant
    return list(drawn.values())
