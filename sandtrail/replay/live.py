"""The fold of one session, kept up to date as the index grows.

Events are folded in as they come. They reach the index by way of several streams, so the newest moment is held back
until all of them should have told it; one that comes later still makes the fold begin anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import batched
from typing import Any

from sandtrail.replay.events import Event
from sandtrail.replay.index import Index
from sandtrail.replay.summaries import removed_at
from sandtrail.replay.turns.entries import ORDER, Entry, entries
from sandtrail.replay.turns.exchanges import Frames
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.timeline import View

__all__ = ["HOLD_NS", "Live"]

HOLD_NS = 1_000_000_000
HOLD_READING_NS = 60_000_000_000
"""While a long session is read in batches, so much of its newest is held back instead."""
BATCH = 20_000


class Live:
    """The fold of one session, as far as the index has come. One thread at a time."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._begin()
        self._cost_s = 0.0
        self._removed_at = -1
        self._rebuilt = 0.0

    def _begin(self) -> None:
        self.fold = Fold(self._frames)
        self.view = View(self.fold)
        self.rows = 0
        """How many rows of the index were taken."""
        self._held: list[Entry] = []
        self._folded_ns = 0
        self._stale = False

    def update(self, index: Index, row: Mapping[str, Any], now_ns: int | None = None) -> None:
        """Take what is new in the index of a session. One that has ended is folded to its end."""
        ended = row["state"] == "ended"
        rested = time.monotonic() - self._rebuilt > 5 * self._cost_s
        lost, self._removed_at = removed_at(row) != self._removed_at, removed_at(row)
        if lost or row["events"] < self.rows or (self._stale and (ended or rested)):  # made anew, or told too late
            self._begin()
        began, first = time.monotonic(), self.rows == 0
        until_ns = None if ended else (now_ns or time.time_ns()) - HOLD_NS
        for batch in batched(index.rows(row["id"], self.rows), BATCH):
            self.rows += len(batch)
            horizon = batch[-1].received_ns - HOLD_READING_NS
            self._take(list(batch), horizon if until_ns is None else min(until_ns, horizon))
        self._take([], until_ns)
        if first:
            self._cost_s, self._rebuilt = time.monotonic() - began, time.monotonic()
        if self._stale and ended:
            self._begin()
            everything = list(index.rows(row["id"]))
            self.rows = len(everything)
            self._take(everything, None)

    def _take(self, fresh: list[Event], until_ns: int | None) -> None:
        steps = sorted(self._held + entries(fresh), key=ORDER)
        cut = len(steps)
        if until_ns is not None:
            cut = next((place for place, entry in enumerate(steps) if entry.at_ns > until_ns), len(steps))
        self._stale = self._stale or bool(steps and steps[0].at_ns < self._folded_ns)
        self.fold.feed_entries(steps[:cut])
        self._held = steps[cut:]
        if cut:
            self._folded_ns = max(self._folded_ns, steps[cut - 1].at_ns)
