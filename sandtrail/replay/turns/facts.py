"""What the rules of this package read in an event: everything that depends on how decoders name things is here."""

from __future__ import annotations

import json
from typing import Any

from sandtrail.replay.events import Event

__all__ = ["CHANGES", "argv_of", "details", "whole"]

CHANGES = frozenset(
    {
        "file.create",
        "file.write",
        "file.rename",
        "file.unlink",
        "file.mkdir",
        "file.link",
        "file.chmod",
        "file.truncate",
    }
)
"""Kinds that change a file."""


def details(fact: Event) -> dict[str, Any]:
    """An event's detail as a dict; empty where it is none."""
    if not fact.detail:
        return {}
    try:
        found = json.loads(fact.detail)
    except (ValueError, RecursionError):  # it was capped in the middle
        return {}
    return found if isinstance(found, dict) else {}


def argv_of(detail: dict[str, Any]) -> list[str]:
    """The words of an exec."""
    argv = detail.get("argv")
    return [str(word) for word in argv] if isinstance(argv, list) else []


def whole(value: object, otherwise: int = 0) -> int:
    """A whole number as it is; `otherwise` for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
