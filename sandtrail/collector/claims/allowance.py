"""How much of its own telemetry a sandbox may have kept, how fast, and whose export is worked on next.

An agent decides how much it says of itself. Without bounds it could fill the disk, or keep the receiver so busy that
other sandboxes' exports time out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Final

from sandtrail.collector.claims.answers import Answer
from sandtrail.collector.gateway.policy import Limits

__all__ = ["FRAME", "Allowance", "Turn", "Turns"]

FRAME: Final = 512
"""What a frame takes beside the body, path and headers in it: digest, times, addresses."""
QUANTUM_S: Final = 0.002
BURST_S: Final = 16
"""An allowance that is not used adds up to that of so many seconds: what has waited may come at once."""


@dataclass(slots=True)
class Allowance:
    """One sandbox's. `limits.claims` is how many bytes are kept in all, `limits.claims_rate` how many are worked on a
    second; a second of work counts as a second's bytes, however few they were."""

    limits: Limits
    clock: Callable[[], float] = time.monotonic
    kept: int = 0
    used: float = 0.0
    """Of the receiver's work, beside what others have used: `Turns`."""
    _level: float = 0.0
    _at: float = 0.0

    def __post_init__(self) -> None:
        self._level, self._at = float(self.limits.claims_rate * BURST_S), self.clock()

    def judge(self) -> Answer | None:
        """Why nothing is taken now; None where something is."""
        if self.kept >= self.limits.claims:
            return Answer.FULL
        now = self.clock()
        rate = self.limits.claims_rate
        self._level = min(rate * BURST_S, self._level + (now - self._at) * rate)
        self._at = now
        return None if self._level > 0 else Answer.PACED

    def keep(self, size: int) -> bool:
        """Count a frame with so many bytes of the sandbox's; False where there is no room for it. The last one that
        is taken may be too large: it is one export."""
        if self.kept >= self.limits.claims:
            return False
        self.kept += size + FRAME
        return True

    def worked(self, size: int, seconds: float) -> None:
        """Count what was worked on; more than there was is owed."""
        cost = max(size + FRAME, seconds * self.limits.claims_rate)
        self._level -= cost
        self.used += cost


class Turn:
    """One sandbox's turn at the event loop: of all that its connections send, one piece is read at a time, and when
    these have taken long together, others go first. A few kB of protocol can cost a second."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._began = self._spent = 0.0

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._began = time.perf_counter()

    async def __aexit__(self, *_: object) -> None:
        self._spent += time.perf_counter() - self._began
        try:
            if self._spent > QUANTUM_S:
                self._spent = 0.0
                await asyncio.sleep(0)
        finally:
            self._lock.release()


@dataclass(slots=True)
class Turns:
    """A number of places to work at for all sandboxes. Of those who wait, the one goes on that has used least."""

    free: int
    _now: float = 0.0
    _waiting: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    @contextlib.asynccontextmanager
    async def of(self, allowance: Allowance) -> AsyncIterator[None]:
        """A place, when it is this sandbox's turn."""
        # Who was silent for long has not saved anything up by that.
        allowance.used = max(allowance.used, self._now)
        if self.free:
            self.free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heappush(self._waiting, (allowance.used, next(self._numbers), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()
                raise
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            used, _, turn = heappop(self._waiting)
            if not turn.done():
                self._now = max(self._now, used)
                turn.set_result(None)
                return
        self.free += 1
