"""Streamed answers put together: fields of deltas merged over plain dicts, so that unknown ones are kept.

Strings are gathered as lists of parts and joined once: appending to a growing string for each of a million deltas would
take quadratic time.
"""

from __future__ import annotations

from typing import Any

from sandtrail.replay.models.call import scrub

__all__ = ["MAX_DEPTH", "joined", "merge"]

MAX_DEPTH = 40
MAX_ENTRIES = 4096

# These name a thing or say of which type it is; a server that repeats one in each delta does not mean more of it.
_REPLACED = frozenset({"index", "type", "role"})
_NAMES = frozenset({"id", "name"})


class _Parts(list[str]):
    """A string that is still coming in."""


def merge(into: dict[str, Any], delta: dict[str, Any], depth: int = 0) -> None:
    """Add a delta to what came before: strings and lists grow, numbers add up, objects merge, indexed entries meet."""
    for key, value in delta.items():
        if len(into) >= MAX_ENTRIES and key not in into:
            continue
        into[key] = _merged(key, into.get(key), value, depth)


def _merged(key: str, old: Any, new: Any, depth: int) -> Any:
    if new is None or depth > MAX_DEPTH:
        return new if old is None else old
    if old is None or key in _REPLACED:
        return _fresh(new, depth)
    if isinstance(old, _Parts) and isinstance(new, str):
        if not (key in _NAMES and "".join(old) == new):
            old.append(new)
    elif isinstance(old, dict) and isinstance(new, dict):
        merge(old, new, depth + 1)
    elif isinstance(old, list) and isinstance(new, list) and not isinstance(old, _Parts):
        _extend(old, new, depth)
    elif isinstance(old, int | float) and isinstance(new, int | float):
        return new if isinstance(new, bool) else old + new
    else:
        return _fresh(new, depth)
    return old


def _fresh(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _Parts([value])
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, dict):
        out: dict[str, Any] = {}
        merge(out, value, depth + 1)
        return out
    if isinstance(value, list):
        entries: list[Any] = []
        _extend(entries, value, depth)
        return entries
    return value


def _extend(old: list[Any], new: list[Any], depth: int) -> None:
    for entry in new:
        index = entry.get("index") if isinstance(entry, dict) else None
        if isinstance(index, int) and not isinstance(index, bool):
            held = next((o for o in old if isinstance(o, dict) and o.get("index") == index), None)
            if held is not None:
                merge(held, entry, depth + 1)
                continue
        if len(old) < MAX_ENTRIES:
            old.append(_fresh(entry, depth + 1))


def joined(value: Any, depth: int = 0) -> Any:
    """The merged value with its strings put together."""
    if isinstance(value, _Parts):
        return scrub("".join(value))
    if depth > 2 * MAX_DEPTH:
        return value
    if isinstance(value, dict):
        return {scrub(k): joined(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [joined(v, depth + 1) for v in value]
    return value
