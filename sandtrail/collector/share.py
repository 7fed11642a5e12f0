"""One sandbox's share of a service: its stream, its counts, and the memory that it may take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sandtrail.collector.frames import Frames, Spool

__all__ = ["Memory", "Share"]


class Memory:
    """How many bytes more may be held of bodies that are under way: `memory`."""

    memory: int

    def reserve(self, size: int) -> bool:
        """Take `size` bytes of the memory for a body under way; `release` gives them back."""
        if size > self.memory:
            return False
        self.memory -= size
        return True

    def release(self, size: int) -> None:
        """Give back what `reserve` took."""
        self.memory += size


class Share(Memory):
    """Made when listeners are handed over. Raises StoreError when the stream can't be opened."""

    def __init__(
        self,
        name: str,
        descriptor: Mapping[str, Any],
        spool: Spool,
        *,
        counts: Iterable[str],
        memory: int,
        cause: str = "the spool could not be written",
    ) -> None:
        """`descriptor` is that of the stream, its source included; `counts` are told at its end; `cause` is that of
        gaps where frames could not be written."""
        self.name = name
        self.connections = 0
        self.counts = dict.fromkeys(counts, 0)
        self.memory = memory
        self.closed = False
        self.stream = spool.open({**descriptor, "session": name})
        self.frames = Frames(self.stream, name, cause)
        if descriptor.get("continues"):
            self._note_restart(descriptor.get("source"), descriptor.get("since_ns"))

    def _note_restart(self, source: object, since_ns: object) -> None:
        """An earlier process of ours has died on this session: what it had in hand is cut, and nothing passed until
        now."""
        now = time.time_ns()
        bounds = {"after_seq": 0, "before_seq": 1, "from_ns": since_ns if isinstance(since_ns, int) else now}
        what = "gateway" if source == "gateway" else f"receiver of {source}"
        self.stream.note(
            {"note": "gap", "cause": f"the {what} was started again", "count": None, **bounds, "to_ns": now}
        )

    def close(self, reason: str) -> None:
        """End the stream. Raises StoreError when its end can't be recorded."""
        if not self.closed:
            self.frames.close(reason, **self.counts)
            self.closed = True
