"""Streamed answers put together: fields of deltas merged over plain dicts, so that unknown ones are kept.

Strings are gathered as lists of parts and joined once, and entries of lists are found by their index: appending to a
growing string, or looking through a growing list, for each of a million deltas would take quadratic time.
"""

from __future__ import annotations

from typing import Any

from sandtrail.replay.models.call import scrub

__all__ = ["MAX_DEPTH", "MAX_ENTRIES", "Deltas"]

MAX_DEPTH = 40
MAX_ENTRIES = 4096

# These name a thing or say of which type it is; a server that repeats one in each delta does not mean more of it.
_REPLACED = frozenset({"index", "type", "role"})
_NAMES = frozenset({"id", "name"})


class _Parts(list[str]):
    """A string that is still coming in."""

    def __init__(self, first: str) -> None:
        super().__init__([first])
        self.size = len(first)

    def add(self, part: str) -> None:
        self.append(part)
        self.size += len(part)

    def says(self, text: str) -> bool:
        """Whether this is what came so far; the parts are looked at where they are as long as the text alone."""
        return self.size == len(text) and "".join(self) == text


class _Entries(list[Any]):
    """A list that is still coming in, and where in it those are that have an index."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, dict[str, Any]] = {}


class Deltas:
    """One object that comes in pieces: strings and lists grow, numbers add up, objects merge, indexed entries meet."""

    def __init__(self) -> None:
        self.left_out = 0
        """Fields and entries beyond `MAX_ENTRIES` of one object or list, and what is nested too deeply to be merged."""
        self.clashes = 0
        """Entries that came under the index of one that has another id: each is one of its own."""
        self._value: dict[str, Any] = {}

    def add(self, delta: dict[str, Any]) -> None:
        """Add a delta to what came before."""
        self._merge(self._value, delta, 0)

    def __bool__(self) -> bool:
        return bool(self._value)

    def whole(self) -> dict[str, Any]:
        """What came, with its strings put together."""
        return {scrub(key): _joined(value, 1) for key, value in self._value.items()}

    def _merge(self, into: dict[str, Any], delta: dict[str, Any], depth: int) -> None:
        for key, value in delta.items():
            if len(into) >= MAX_ENTRIES and key not in into:
                self.left_out += 1
            else:
                into[key] = self._merged(key, into.get(key), value, depth)

    def _merged(self, key: str, old: Any, new: Any, depth: int) -> Any:
        if new is None:
            return old
        if old is None or key in _REPLACED:
            return self._fresh(new, depth)
        if depth > MAX_DEPTH:
            self.left_out += 1
        elif isinstance(old, _Parts) and isinstance(new, str):
            if not (key in _NAMES and old.says(new)):
                old.add(new)
        elif isinstance(old, dict) and isinstance(new, dict):
            self._merge(old, new, depth + 1)
        elif isinstance(old, _Entries) and isinstance(new, list):
            self._extend(old, new, depth)
        elif isinstance(old, int | float) and isinstance(new, int | float):
            return new if isinstance(new, bool) else _sum(old, new)
        else:
            return self._fresh(new, depth)
        return old

    def _fresh(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return _Parts(value)
        if depth > MAX_DEPTH:
            return value
        if isinstance(value, dict):
            out: dict[str, Any] = {}
            self._merge(out, value, depth + 1)
            return out
        if isinstance(value, list):
            entries = _Entries()
            self._extend(entries, value, depth)
            return entries
        return value

    def _extend(self, old: _Entries, new: list[Any], depth: int) -> None:
        for entry in new:
            index = entry.get("index") if isinstance(entry, dict) else None
            index = index if isinstance(index, int) and not isinstance(index, bool) else None
            held = old.places.get(index) if index is not None else None
            if held is not None and _other(held.get("id"), entry.get("id")):
                self.clashes += 1
                held = None
            if held is not None:
                self._merge(held, entry, depth + 1)
            elif len(old) >= MAX_ENTRIES:
                self.left_out += 1
            else:
                old.append(self._fresh(entry, depth + 1))
                if index is not None and isinstance(old[-1], dict):
                    old.places[index] = old[-1]


def _other(held: Any, told: Any) -> bool:
    return isinstance(held, _Parts) and isinstance(told, str) and bool(told) and not held.says(told)


def _sum(old: float, new: float) -> float:
    try:
        return old + new
    except OverflowError:  # an integer that is too long for the other's fraction
        return new


def _joined(value: Any, depth: int) -> Any:
    if isinstance(value, _Parts):
        return scrub("".join(value))
    if depth > 2 * MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return {scrub(k): _joined(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_joined(v, depth + 1) for v in value]
    return value
