"""Whole exchanges for the events that tell of them, read from the gateway's frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

from sandtrail.errors import SandtrailError
from sandtrail.replay.events import Event
from sandtrail.replay.models import Assembler, Exchange
from sandtrail.replay.turns.facts import details, whole
from sandtrail.store.frames import Frame, Ref
from sandtrail.store.reader import LogReader

__all__ = ["ExchangeReader", "Frames", "StoredFrames"]

MAX_SEGMENTS = 2000


class Frames(Protocol):
    """Where frames come from."""

    def frame(self, ref: str) -> bytes:
        """A frame's payload. Raises SandtrailError where it cannot be had."""

    def between(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        """References and payloads of the frames of one stream, from the first to the last named."""


class StoredFrames:
    """Frames of the store."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader

    def frame(self, ref: str) -> bytes:
        """A frame's payload."""
        return self._reader.frame(ref).payload

    def between(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        """References and payloads of one stream; at most so many segments are read."""
        begin, end = Ref.parse(first), Ref.parse(last)
        stream = self._reader.frame(begin).stream
        for segment in range(begin.segment, min(end.segment, begin.segment + MAX_SEGMENTS) + 1):
            for frame in self._frames(segment):
                if frame.stream == stream and begin <= (frame.segment, frame.place) <= end:
                    yield frame.ref, frame.payload

    def _frames(self, segment: int) -> list[Frame]:
        return self._reader.segment_frames(segment)


class ExchangeReader:
    """Reads exchanges. One whose evidence cannot be read has that as its error."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def read(self, event: Event) -> Exchange:
        """The exchange that an event of kind http.exchange tells of."""
        detail = details(event)
        assembler = Assembler(limit=1)
        flow, ident = _key(detail).values()
        found: Exchange | None = None
        for ref, frame in self._frames_of(event, detail):
            if str(frame.get("flow")) == flow and str(frame.get("id")) == ident:
                found = assembler.feed(frame, ref, event.received_ns) or found
        found = found or Exchange(flow, ident)
        found.method, found.url = (
            found.method or str(detail.get("method") or ""),
            found.url or str(detail.get("url") or ""),
        )
        found.request_ns = found.request_ns or whole(detail.get("start_ns")) or event.time_ns
        found.first_ns = found.first_ns or whole(detail.get("first_ns"))
        found.request_ref = found.request_ref or event.ref
        client = detail.get("client")
        if isinstance(client, list) and len(client) >= 2 and isinstance(client[1], int):
            found.client = (str(client[0]), client[1])
        return found

    def _frames_of(self, event: Event, detail: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Request and response, and everything between them where either passed in pieces."""
        refs = detail.get("refs")
        first, last = (str(refs[0]), str(refs[-1])) if isinstance(refs, list) and refs else (event.ref, event.ref)
        parts = [part for part in (_ref(detail.get("request")), _ref(detail.get("response"))) if part]
        try:
            found = [(ref, _map(self._frames.frame(ref))) for ref in dict.fromkeys(parts)]
            pieces = detail.get("streamed") or detail.get("error") or any(frame.get("stream") for _, frame in found)
            if first != last and (pieces or not found):
                found = [(ref, _map(payload)) for ref, payload in self._frames.between(first, last)]
        except SandtrailError as error:
            return [(event.ref, {"t": "error", **_key(detail), "message": f"its evidence cannot be read: {error}"})]
        return found


def _key(detail: dict[str, Any]) -> dict[str, str]:
    return {name: str(detail.get(name) or "") for name in ("flow", "id")}


def _ref(part: object) -> str:
    ref = part.get("ref") if isinstance(part, dict) else None
    return ref if isinstance(ref, str) else ""


def _map(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
