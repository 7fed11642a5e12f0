"""Bodies on their way through, as mitmproxy's stream callables: recorded first, then passed on, never held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from sandtrail.collector.gateway.lookout import Lookout
from sandtrail.collector.gateway.session import Session, UnrecordedError
from sandtrail.collector.gateway.tap import Tap
from sandtrail.collector.secrets import Secret

__all__ = ["Guarded", "Passage", "Whole"]

_MERGED = 64 * 1024


class Whole:
    """A body of known length that is recorded in one frame: `done` is called before its last bytes are passed on."""

    def __init__(self, tap: Tap, expected: int, done: Callable[[], None]) -> None:
        self.tap = tap
        self._expected = expected
        self._done = done

    def __call__(self, data: bytes) -> bytes:
        """mitmproxy's callable."""
        if data:
            self.tap.feed(data)
            if self.tap.size >= self._expected:
                self._done()
        return data


class Passage:
    """A body that is recorded in frames of its own as it passes.

    The first bytes of every turn of the event loop are recorded before they are passed on; what follows in the same
    turn is put together, so that a sender of single bytes does not get a frame for each, and is recorded when the turn
    ends.
    """

    def __init__(self, session: Session, frame: dict[str, Any], tap: Tap, abort: Callable[[str], None]) -> None:
        self.tap = tap
        self.chunks = 0
        self.first_ns = 0
        self._session = session
        self._frame = frame
        self._abort = abort
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._in_turn = False

    def __call__(self, data: bytes) -> bytes:
        """mitmproxy's callable; raises UnrecordedError, on which the engine gives the connection up."""
        if data:
            self.first_ns = self.first_ns or time.time_ns()
            self._pending.append(data)
            self._pending_size += len(data)
            if not self._in_turn or self._pending_size >= _MERGED:
                self.flush()
            if not self._in_turn:
                self._in_turn = True
                asyncio.get_running_loop().call_soon(self._end_turn)
        return data

    def _end_turn(self) -> None:
        self._in_turn = False
        try:
            self.flush()
        except UnrecordedError as error:
            self._abort(str(error))

    def flush(self) -> None:
        """Record what has passed."""
        if self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            self._pending_size = 0
            self._record(self.tap.feed(data))

    def finish(self, *, cut: bool = False) -> None:
        """Record the rest: the body has ended, or broken off."""
        self.flush()
        self._record(self.tap.finish(cut=cut))

    def _record(self, data: bytes) -> None:
        if not data:
            return
        frame: dict[str, Any] = {**self._frame, "n": self.chunks, "at_ns": time.time_ns(), "data": data}
        if self.tap.decoded:
            frame["decoded"] = True
        self.chunks += 1
        self._session.write(frame)


class Guarded:
    """A passage that ends where a placeholder shows that may not go there: what completes it is recorded and stays."""

    def __init__(self, passage: Passage, lookout: Lookout, misplaced: Callable[[Secret], None]) -> None:
        self._passage = passage
        self._lookout = lookout
        self._misplaced = misplaced
        self._ended = False

    def __call__(self, data: bytes) -> list[bytes]:
        """mitmproxy's callable."""
        if self._ended:
            return []
        self._passage(data)
        if found := self._lookout.feed(data):
            self._ended = True
            self._misplaced(found)
            return []
        return [data] if data else []
