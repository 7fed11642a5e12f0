"""One sandbox's share of the receiver: its stream, what it has learned of secrets, and the bounds on all of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

from sandtrail import __version__
from sandtrail.collector.claims.allowance import Allowance, Turn, Turns
from sandtrail.collector.claims.answers import Answer
from sandtrail.collector.claims.export import Export
from sandtrail.collector.claims.limits import MEMORY, REFUSALS
from sandtrail.collector.claims.redact import Rules, clean
from sandtrail.collector.frames import Spool
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.policy import Limits
from sandtrail.collector.gateway.redact import Redactor, printable
from sandtrail.collector.share import Share
from sandtrail.errors import StoreError

__all__ = ["Session"]

SEES: Final = ["what programs in the sandbox say of themselves over OTLP: traces, logs and metrics, as sent"]
BLIND: Final = [
    "whether any of it is true: it is the agent's own word",
    "telemetry that is sent elsewhere: it takes the gateway, or the packet filter records it",
    "exports over 16 MiB: the beginning is kept; what is beyond the limits of the session is counted",
    "bodies that cannot be searched for credentials, in an unknown coding or a broken one: size and digest are kept",
    "credentials: replaced by keyed fingerprints before anything is written",
]
COUNTS: Final = (
    "connections", "refused", "exports", "unrecorded", "over_total", "over_rate", "over_bytes", "untold", "up_bytes",
    "down_bytes",
)  # fmt: skip
TURNED_AWAY: Final = "exports were turned away: the spool could not be written"
OVER: Final = {
    Answer.FULL: ("over_total", "telemetry beyond what is kept of a session was turned away"),
    Answer.PACED: ("over_rate", "telemetry came faster than it is taken, and was told to come again"),
}
"""The count of what was turned away, and the cause of the gaps that tell of it."""
GAP_EVERY_S: Final = 60.0


class Session(Share):
    """Made when its listeners are handed over. Raises UsageError for redaction rules that make no sense, StoreError
    when the stream can't be opened."""

    def __init__(
        self,
        name: str,
        descriptor: Mapping[str, Any],
        spool: Spool,
        fingerprints: Fingerprinter,
        turns: Turns,
    ) -> None:
        """`turns` are all sessions': how many exports are worked on at once."""
        self.turn = Turn()
        self._recording = asyncio.Lock()
        self._turns = turns
        self._allowance = Allowance(Limits.parse(descriptor.get("limits")))
        self._over: dict[Answer, list[int]] = {}
        """What no gap tells of yet: since when, and how many."""
        self._told = 0.0
        self._redactor = Redactor(fingerprints, descriptor.get("redact"))
        self._rules = Rules(self._redactor, descriptor.get("redact"))
        bounds = self._allowance.limits
        limits = {"claims": bounds.claims, "claims_rate": bounds.claims_rate}
        own = {"source": "claims", "version": __version__, "sees": SEES, "blind": BLIND, "limits": limits}
        super().__init__(name, {**descriptor, **own}, spool, counts=COUNTS, memory=MEMORY, cause=TURNED_AWAY)

    async def take(self, export: Export) -> Answer:
        """Record an export; what it is told says whether that was possible. The frame is in the spool by then."""
        answer = export.judge()
        if answer is Answer.BUSY:
            self.refuse(export.client, export.port, answer.words)
            return answer
        async with self._recording:
            if over := self._allowance.judge():
                return self._turned_away(export, over)
            async with self._turns.of(self._allowance):
                return await self._record(export, answer)

    def _turned_away(self, export: Export, answer: Answer) -> Answer:
        """Count an export of which nothing is kept. A gap tells of many at once, or they would fill the disk, too."""
        count, _ = OVER[answer]
        self.counts[count] += 1
        self.counts["over_bytes"] += export.taken
        self._over.setdefault(answer, [time.time_ns(), 0])[1] += 1
        if time.monotonic() - self._told >= GAP_EVERY_S:
            self._tell()
        return answer

    def _tell(self) -> None:
        self._told = time.monotonic()
        at = self.stream.seq
        for answer, (since_ns, count) in list(self._over.items()):
            bounds = {"after_seq": at - 1, "before_seq": at, "from_ns": since_ns, "to_ns": time.time_ns()}
            with contextlib.suppress(StoreError):  # it is told with the next ones
                self.stream.note({"note": "gap", "cause": OVER[answer][1], "count": count, **bounds})
                del self._over[answer]

    def close(self, reason: str) -> None:
        """End the stream. Raises StoreError when its end can't be recorded."""
        if not self.closed:
            self._tell()
        super().close(reason)

    async def _record(self, export: Export, answer: Answer) -> Answer:
        as_json, began = export.as_json, time.monotonic()
        found = await clean(self._rules, bytes(export.body), export.compressed, as_json=as_json)
        if answer is Answer.RECORDED and (found.cut or found.broken):
            answer = Answer.TOO_LARGE if found.cut else Answer.MALFORMED
        export.cut = export.cut or found.cut
        path, in_path = self._redactor.url(export.path.encode("utf-8", "surrogateescape"))
        headers, in_headers = self._redactor.headers(export.headers)
        frame = {**export.frame(answer), "path": path, "headers": headers, "body": found.body}
        frame |= {"decoded": True} if found.decoded else {}
        frame |= {"withheld": found.withheld} if found.withheld else {}
        if redacted := found.redacted + in_path + in_headers:
            frame |= {"redacted": redacted, "marks": found.marks}
        self.counts["exports"] += 1
        self._allowance.worked(found.size, time.monotonic() - began)
        self._allowance.keep(len(found.body) + len(path) + sum(len(name) + len(value) + 8 for name, value in headers))
        return answer if self._write(frame) else Answer.UNRECORDED

    def refuse(self, client: tuple[str, int], port: int, reason: str) -> None:
        """Record that a connection was turned away or broken off; beyond the first of them, only their number."""
        self.counts["refused"] += 1
        if self.counts["refused"] <= REFUSALS and self._allowance.keep(0):
            said = self._redactor.message(reason)
            self._write({"t": "refused", "client": list(client), "port": port, "reason": said, "at_ns": time.time_ns()})

    def ended(self, client: tuple[str, int], port: int, up: int, down: int) -> None:
        """Record the end of a connection: its bytes on the wire, of the sandbox's side. Where nothing more is kept,
        only the sums at the stream's end."""
        self.counts["up_bytes"] += up
        self.counts["down_bytes"] += down
        if not self._allowance.keep(0):
            self.counts["untold"] += 1
            return
        sums = {"up_bytes": up, "down_bytes": down, "at_ns": time.time_ns()}
        self._write({"t": "close", "client": list(client), "port": port, **sums})

    def _write(self, frame: Mapping[str, Any]) -> bool:
        if self.closed:
            return False
        try:
            self.frames.write(frame)
        except StoreError:
            self.counts["unrecorded"] += 1
            return False
        return True


def address(peer: object) -> tuple[str, int]:
    """(address, port) of a socket's peer."""
    if isinstance(peer, tuple) and len(peer) >= 2:
        return printable(str(peer[0])), int(peer[1])
    return "", 0
