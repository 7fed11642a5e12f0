"""Which data keys keep what is in the index, and what the log says of them; kept up to date segment by segment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from sandtrail.store.custody import removed
from sandtrail.store.manifest import Entry
from sandtrail.store.reader import LogReader

__all__ = ["Holdings", "Ranges", "Removed"]


class Holdings:
    """Data keys of the catalog. `recall` finds a key's row in it, by its id as hex digits."""

    def __init__(self, recall: Callable[[str], dict[str, Any] | None]) -> None:
        self._stored = recall
        self._rows: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, dict[str, Any]] = {}
        self._owners: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()

    def _row(self, key: str) -> dict[str, Any]:
        row = self._rows.get(key) or self._stored(key)
        if row is None:
            counts = dict.fromkeys(("segments", "frames", "first_entry", "last_entry", "first_ns", "last_ns"), 0)
            row = {"id": key, **counts, "held": None, "erased": None}
        self._rows[key] = self._changed[key] = row
        return row

    def segment(self, entry: Entry) -> None:
        """Count a segment under its key; one of format 1 has none."""
        if "key" not in entry.map:
            return
        row = self._row(entry.map["key"].hex())
        first, last = int(entry.map["first"][0]), int(entry.map["last"][0])
        if not row["segments"]:
            row["first_entry"], row["first_ns"], row["last_ns"] = entry.index, first, last
        row["segments"] += 1
        row["frames"] += entry.map["frames"]
        row["last_entry"] = entry.index
        row["first_ns"], row["last_ns"] = min(row["first_ns"], first), max(row["last_ns"], last)

    def owned(self, entry: Entry, session: str) -> None:
        """A segment holds frames of a session, or the session has an event about it."""
        if "key" in entry.map:
            self._owners.add((entry.map["key"].hex(), session))

    def hold(self, entry: Entry) -> None:
        """A legal hold begins or ends."""
        for key in entry.map["keys"]:
            self._row(key.hex())["held"] = str(entry.map["case"]) if entry.map["on"] else None

    def take_changes(self) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        """(keys that changed, pairs of a key and a session that are new to this object)."""
        rows, pairs = list(self._changed.values()), sorted(self._owners - self._told)
        self._told |= self._owners
        self._changed, self._owners = {}, set()
        return rows, pairs


class Ranges:
    """Numbers of segments, as ranges that do not overlap; first and last are in."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._pairs = sorted(pairs)
        self._firsts = [first for first, _ in self._pairs]

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._pairs[at][1]


class Removed:
    """What the log says further on about segments that can't be read."""

    def __init__(self) -> None:
        self._seen = 0
        self._keys: set[bytes] = set()
        self._found: list[tuple[int, int]] = []
        self._ranges = Ranges(())

    def explains(self, reader: LogReader, entry: Entry) -> bool:
        """Whether an entry behind this one says that the segment was erased or removed."""
        start, size = max(self._seen, entry.index), reader.size()
        if start < size:
            acts = [later for later in reader.entries(start, size) if later.kind in ("erase", "retain")]
            self._keys.update(key for act in acts if act.kind == "erase" for key in act.map["keys"])
            self._found += removed(acts)
            self._ranges = Ranges(self._found)
            self._seen = size
        return entry.map.get("key") in self._keys or entry.map["segment"] in self._ranges
