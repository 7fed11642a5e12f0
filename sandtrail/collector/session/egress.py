"""The account of a session's link, as acts of its lifecycle: what left, what of it is recorded, and what is not."""

from __future__ import annotations

import time
from typing import Any, Final

from sandtrail.collector.network import wire
from sandtrail.collector.network.account import Account
from sandtrail.collector.session.lifecycle import Lifecycle

__all__ = ["UNACCOUNTED", "UNLOGGED", "Egress"]

UNACCOUNTED: Final = "egress not accounted for"
UNLOGGED: Final = "packets that came too fast to be recorded one by one; none of them passed"
EVERY_S: Final = 30.0


class Egress:
    """One session's account. `check` while it runs, `finish` when its sandbox has ended."""

    def __init__(self, acts: Lifecycle, session: str) -> None:
        self._acts = acts
        self._session = session
        self._from_ns = time.time_ns()
        self._next = time.monotonic() + EVERY_S

    def check(self) -> None:
        """Record the account so far, if the last one is old: what a crash would leave behind."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            self._act(wire.running(self._session), "running")

    def finish(self, at: str = "end") -> None:
        """Record the last account, and what it lacks as gaps. May raise EnvironmentRefusedError: nothing is known then,
        and a gap says so."""
        try:
            account = wire.finish(self._session)
        except Exception:
            self._gap(UNACCOUNTED, None)
            raise
        self._act(account, at)
        ways = account.difference
        if not account.steady:
            self._gap(UNACCOUNTED, None, what="the link did not stand still while it was counted")
        elif any(number for total in ways.values() for number in total):
            sums = {way: total._asdict() for way, total in ways.items()}
            words = "; ".join(f"{t.packets:+} frames, {t.bytes:+} bytes {way}" for way, t in ways.items() if any(t))
            if account.dropped:
                words += f"; the connection tracker dropped {account.dropped} packets"
            self._gap(UNACCOUNTED, sum(max(t.packets, 0) for t in ways.values()) or None, what=words, bytes=sums)
        if account.unlogged:
            self._gap(UNLOGGED, account.unlogged)

    def _act(self, account: Account, at: str) -> None:
        logged = {prefix: total._asdict() for prefix, total in account.logged.items()}
        self._acts.act("egress", at=at, **account.described(), logged=logged)

    def _gap(self, cause: str, count: int | None, **more: Any) -> None:
        self._acts.gap(cause, count, self._from_ns, time.time_ns(), **more)
