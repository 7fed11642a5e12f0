"""What a mutant is: an attack on a copy of the store, and what must be said about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from sandtrail.store.verify.report import Finding
from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy

__all__ = ["HEADS", "LOG", "NONE", "Expect", "Family", "Mutant"]

# Verifiers that are not ours, and what of a store they look at: the signature of the log's identity, entry bundles and
# tiles up to the signed size, and (tlog, aics) whether older heads are beginnings of it. They know nothing of epochs,
# blobs, what entries say, nor of files that the log does not need.
LOG = frozenset({"tlog", "fsck", "aics"})
HEADS = frozenset({"tlog", "aics"})
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Expect:
    """A finding that there must be: of one of these types (a|b), at a place that begins so ("~": the copy's folder)."""

    types: str
    place: str

    def met_by(self, finding: Finding, home: Path) -> bool:
        """Whether this is the finding."""
        place = self.place.replace("~", str(home))
        # "log entry 1" is not "log entry 12".
        whole = not place[-1:].isdigit() or not finding.place[len(place) :][:1].isdigit()
        return finding.type in self.types.split("|") and finding.place.startswith(place) and whole


@dataclass(frozen=True)
class Mutant:
    """One damaged store.

    `attack` names the row of docs/threat-model.md. `expect`: all of these must be found. `knows`: what the reader has
    besides the pinned keys: "head" (the newest one, remembered), "policy" (the witnesses'). `foreign`: the verifiers of
    others in whose scope it lies. `alone`: nothing but these may be found, since nothing else was touched.
    """

    family: str
    name: str
    attack: str
    change: Callable[[Copy], object]
    expect: tuple[Expect, ...]
    knows: frozenset[str] = NONE
    foreign: frozenset[str] = NONE
    alone: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to know of it, as plain data."""
        return {
            "family": self.family,
            "name": self.name,
            "attack": self.attack,
            "expect": [{"type": expect.types.split("|"), "place": expect.place} for expect in self.expect],
            "knows": sorted(self.knows),
            "foreign": sorted(self.foreign),
        }


Family = Callable[[Base, Random], Iterator[Mutant]]
