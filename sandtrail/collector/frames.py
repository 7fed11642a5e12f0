"""JSON frames into a stream, and what could not be recorded as a gap record as soon as one can be written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Protocol

import pybase64
import structlog

from sandtrail.errors import StoreError

__all__ = ["Frames", "Spool", "Stream", "encode"]

_log = structlog.get_logger(__name__)
# Made once: `json.dumps` makes one for each call that asks for anything but its defaults.
_compact = json.JSONEncoder(separators=(",", ":")).encode


class Stream(Protocol):
    """What is asked of the store's streams."""

    id: int
    seq: int

    def write(self, payload: bytes, *, urgent: bool = False) -> int:
        """Record a frame."""

    def note(self, note: Mapping[str, Any], *, urgent: bool = True) -> None:
        """Record an act of the collector."""

    def close(self, reason: str, **facts: Any) -> None:
        """Record the stream's end."""


class Spool(Protocol):
    """Where streams are opened."""

    def open(self, descriptor: Mapping[str, Any]) -> Stream:
        """Begin a stream."""


class Frames:
    """A stream of JSON frames. A frame is in the spool when `write` returns."""

    def __init__(self, stream: Stream, session: str, cause: str = "the spool could not be written") -> None:
        """`cause` is that of the gaps."""
        self.stream = stream
        self._session = session
        self._cause = cause
        self._lost = 0
        self._lost_from_ns = 0

    def write(self, frame: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Record a frame. Raises StoreError where it can't be, which is counted as a loss."""
        payload = encode(frame)
        try:
            self._note_gap()
            self.stream.write(payload, urgent=urgent)
        except StoreError as error:
            if not self._lost:
                self._lost_from_ns = time.time_ns()
                _log.error("cannot record", session=self._session, error=str(error))
            self._lost += 1
            raise

    def close(self, reason: str, **facts: Any) -> None:
        """End the stream. Raises StoreError when its end can't be recorded."""
        self._note_gap()
        self.stream.close(reason, **facts)

    def _note_gap(self) -> None:
        if self._lost:
            at = self.stream.seq
            bounds = {"after_seq": at - 1, "before_seq": at, "from_ns": self._lost_from_ns, "to_ns": time.time_ns()}
            self.stream.note({"note": "gap", "cause": self._cause, "count": self._lost, **bounds})
            self._lost = 0


def encode(frame: Mapping[str, Any]) -> bytes:
    """Compact JSON, bytes in base64. Base64 needs no escaping, and a body is long: it is put in as it is; pybase64
    takes a thirtieth of the standard library's time for it."""
    text = {name: value for name, value in frame.items() if not isinstance(value, bytes)}
    parts = [_compact(text).encode()[:-1]]
    for name, value in frame.items():
        if isinstance(value, bytes):
            parts += [b',"', name.encode(), b'":"', pybase64.b64encode(value), b'"']
    return b"".join([*parts, b"}"])
