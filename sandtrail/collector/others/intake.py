"""What all ways in have in common: a record is bound to a session, cleaned of credentials, and written."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Final

import structlog

from sandtrail import __version__
from sandtrail.collector.frames import Frames, encode
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.redact import Redactor
from sandtrail.collector.others.pieces import Piece
from sandtrail.collector.others.sources import Source
from sandtrail.errors import StoreError, UsageError
from sandtrail.store.spool import SpoolWriter

__all__ = ["Binding", "Intake"]

MAX_STREAMS: Final = 1000
"""Of sessions that are open at once; the one that was silent for longest is closed for a new one."""
MAX_NAMES: Final = 10_000
"""Sessions that records may name while this runs: each has a data key of its own, and who chooses the names may be the
agent. Records that name more are of no session."""
IDLE_S: Final = 60.0
"""After so long without a record a stream ends, so that its session can; more of it begins another."""
AGAIN_S: Final = 1.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Binding:
    """Whose records they are: of one session, or of the session that a field of each record names. Records that name
    none are of a session that has the source's own name."""

    session: str = ""
    by: str = ""
    """A dotted path, such as `source.pod_name`."""

    def __post_init__(self) -> None:
        if self.session and self.by:
            raise UsageError("either --session or --by: one session for all, or one that each record names")
        if self.session and not _NAME.fullmatch(self.session):
            raise UsageError(f"--session {self.session}: letters, digits, '.', '-' and '_', 100 at most")

    def of(self, record: Mapping[str, Any] | None) -> str:
        """The session that a record names; empty where it names none."""
        if self.session or not self.by or record is None:
            return self.session
        # What is told of a flow stands under `flow` in Hubble's export.
        return _named(record, self.by) or _named(record, f"flow.{self.by}")


def _named(record: object, path: str) -> str:
    for step in path.split("."):
        record = record.get(step) if isinstance(record, Mapping) else None
    return record if isinstance(record, str) and _NAME.fullmatch(record) else ""


class Intake:
    """The streams of one source, in a spool of their own. Not for use from several threads at once."""

    def __init__(
        self, home: Path, source: Source, binding: Binding, redact: Mapping[str, Any] | None = None, **facts: Any
    ) -> None:
        """`facts` are for the streams' descriptors. Raises UsageError for redaction rules that make no sense,
        StoreError when the store cannot be written."""
        self.home = home
        self.source = source
        self.binding = binding
        self.counts = dict.fromkeys(("records", "malformed", "cut", "redacted", "names_refused"), 0)
        fingerprints = Fingerprinter.load(home)
        self.fingerprint = fingerprints.fingerprint
        self.redactor = Redactor(fingerprints, redact)
        self._facts = facts
        # Signed entries name spool files, and must not name a session: they outlive its erasure.
        self._spool = SpoolWriter(home, f"{source.name}-{os.urandom(6).hex()}")
        self._streams: dict[str, Frames] = {}
        """The one that was silent for longest comes first."""
        self._heard: dict[str, float] = {}
        self._names: set[str] = set()
        # So that the streams of a run can be told in the log by their numbers.
        self._ids = itertools.count(int.from_bytes(os.urandom(8)) & ~(1 << 31))
        self.run = f"{next(self._ids):016x}"[:8]
        """With what the numbers of all streams of this run begin."""

    def take(self, piece: Piece, via: str, *, wait: Event | None = None, **facts: Any) -> None:
        """Record a piece of text. Raises StoreError when it cannot be written; with `wait`, only when that is
        set before it can."""
        data, redacted = self.redactor.text(piece.data)
        facts |= {"malformed": True} if piece.value is None else {}
        session = self.binding.of(piece.value)
        self.write(session, via, data, piece.size, cut=piece.cut, redacted=redacted, wait=wait, **facts)

    def write(
        self,
        session: str,
        via: str,
        data: bytes,
        size: int,
        *,
        cut: bool,
        redacted: int,
        wait: Event | None = None,
        **facts: Any,
    ) -> None:
        """Record what has been cleaned. Raises StoreError as `take` does."""
        self.counts["records"] += 1
        self.counts["malformed"] += "malformed" in facts
        self.counts["cut"] += cut
        self.counts["redacted"] += redacted
        told = {"cut": cut, "redacted": redacted, **facts}
        frame = {"t": "record", "via": via, "at_ns": time.time_ns(), "bytes": size}
        frame |= {name: value for name, value in told.items() if value} | {"data": data}
        session = self._admitted(session)
        if wait is None:
            self._stream(session).write(frame)
            return
        while True:
            # Not by way of Frames: nothing is lost, it only comes later.
            try:
                self._stream(session).stream.write(encode(frame))
            except StoreError as error:
                _log.error("cannot record", source=self.source.name, error=str(error))
                if wait.wait(AGAIN_S):
                    raise
            else:
                return

    def written(self) -> tuple[str, int]:
        """The spool file that is written to, and how much is in it."""
        return self._spool.path.name, self._spool.size

    def _admitted(self, session: str) -> str:
        """The session that a record goes to, whatever it names."""
        if session in self._names or session == self.binding.session or not session:
            return session or self.source.name
        if len(self._names) >= MAX_NAMES:
            self.counts["names_refused"] += 1
            return self.source.name
        self._names.add(session)
        return session

    def rest(self) -> None:
        """End the streams that have been silent for long. Raises StoreError when their end cannot be recorded."""
        now = time.monotonic()
        while self._streams:
            oldest = next(iter(self._streams))
            if now - self._heard[oldest] < IDLE_S:
                return
            self._end(oldest, "silent; it goes on in another stream if more comes")

    def _end(self, session: str, reason: str) -> None:
        self._streams[session].close(reason)
        del self._streams[session], self._heard[session]

    def lost(self, cause: str, count: int | None = None) -> None:
        """Record that something did not come in; whose it was is not known."""
        frames = self._stream(self.binding.session or self.source.name)
        bounds = {
            "after_seq": frames.stream.seq - 1,
            "before_seq": None,
            "from_ns": time.time_ns(),
            "to_ns": time.time_ns(),
        }
        frames.stream.note({"note": "gap", "cause": cause, "count": count, **bounds})

    def _stream(self, session: str) -> Frames:
        found = self._streams.pop(session, None)
        if found is None:
            if len(self._streams) >= MAX_STREAMS:
                self._end(next(iter(self._streams)), "silent for longest while others came")
            found = self._open(session)
        self._streams[session], self._heard[session] = found, time.monotonic()
        return found

    def _open(self, session: str) -> Frames:
        bound = session != self.source.name
        about = {
            "source": self.source.name,
            "session": session,
            # A session has one sandbox, its pod; what is bound to the one is kept and erased with the other.
            "sandbox": f"{session}-pod" if bound else self.source.name,
            "version": __version__,
            "bound": "by the operator" if self.binding.session else f"by {self.binding.by}" if bound else "",
            "sees": list(self.source.sees),
            "blind": list(self.source.blind),
            **self._facts,
        }
        frames = Frames(
            self._spool.open(about, stream=next(self._ids)),
            session,
            "records were turned away: the spool could not be written",
        )
        _log.info("recording", source=self.source.name, stream=f"{frames.stream.id:016x}")
        return frames

    def close(self, reason: str) -> None:
        """End all streams. Raises StoreError when their end cannot be recorded."""
        while self._streams:
            _, frames = self._streams.popitem()
            frames.close(reason, **({} if self._streams else self.counts))
        self._spool.close()
