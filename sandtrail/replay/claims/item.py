"""One span, log record or metric, as its sender wrote it, whatever the encoding."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.text import clean

__all__ = ["MAX_ITEMS", "Item", "Items", "Message", "text_of"]

MAX_ITEMS: Final = 2000
"""Items of one export that are read; exporters send 512 at a time."""
MAX_ITEM: Final = 4 << 20
"""Bytes of one item that is read."""
MAX_ATTRIBUTES: Final = 1000
MAX_EVENTS: Final = 200
MAX_DEPTH: Final = 12
MAX_STRING: Final = 256 << 10

Message = dict[str, Any]


@dataclass(slots=True)
class Item:
    """`kind` is `span`, `log` or `metric`. Times are in ns of the sender's own clock, 0 where it gave none."""

    kind: str
    name: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Of a span: name and attributes."""
    resource: dict[str, Any] = field(default_factory=dict)
    scope: str = ""
    trace: str = ""
    span: str = ""
    parent: str = ""
    """Ids in hex."""
    start_ns: int = 0
    end_ns: int = 0
    failed: bool = False
    status: str = ""
    """What it says of its failure."""
    points: int = 0
    """Of a metric."""


@dataclass(slots=True)
class Items:
    """What an export holds."""

    items: list[Item] = field(default_factory=list)
    total: int = 0
    """How many there are, those included that were left out."""
    unreadable: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    """What was not understood, and how often; of the names of unknown fields the first."""

    def problem(self, what: str, times: int = 1) -> None:
        """Count something that was not understood."""
        if times and (what in self.problems or len(self.problems) < 50):
            self.problems[what] += times

    def room(self) -> bool:
        """Count one more item; whether it is to be read."""
        self.total += 1
        return self.total <= MAX_ITEMS


def text_of(value: object) -> str:
    """A string without what cannot be kept, capped."""
    return clean(value, MAX_STRING) if isinstance(value, str) else ""
