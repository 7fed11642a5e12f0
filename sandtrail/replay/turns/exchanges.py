"""Whole exchanges for the events that tell of them, read from the gateway's frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Protocol

from sandtrail.errors import SandtrailError
from sandtrail.replay.decode.others import record_of
from sandtrail.replay.events import Event
from sandtrail.replay.models import Assembler, Exchange
from sandtrail.replay.models.body import MAX_BODY
from sandtrail.replay.models.exchange import WEBSOCKET
from sandtrail.replay.models.litellm import exchange_frames
from sandtrail.replay.models.websocket import Answer, as_event, read_message
from sandtrail.replay.turns.facts import details, whole
from sandtrail.store.frames import Frame, Ref
from sandtrail.store.reader import LogReader

__all__ = ["ExchangeReader", "Frames", "StoredFrames"]

MAX_SEGMENTS = 2000
MAX_REFS = 1000


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
        if detail.get("method") == WEBSOCKET:
            return self._of_socket(event, detail)
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
        found.client = _client(detail)
        if detail.get("error"):  # where no frame says so: the record itself broke off
            found.error = found.error or str(detail["error"])
        return found

    def _of_socket(self, event: Event, detail: dict[str, Any]) -> Exchange:
        """A call that shared a WebSocket: its request is the client's messages, its body the server's as a stream."""
        flow, ident = _key(detail).values()
        request, response = detail.get("request"), detail.get("response")
        found = Exchange(flow, ident, WEBSOCKET, str(detail.get("url") or ""), client=_client(detail))
        found.status = HTTPStatus.SWITCHING_PROTOCOLS
        found.error = str(detail["error"]) if detail.get("error") else None
        found.request_cut, found.response_cut = _is_cut(request), _is_cut(response)
        found.request_ref, found.response_ref = _ref(request) or event.ref, _ref(response)
        found.request_ns = whole(detail.get("start_ns")) or event.time_ns
        found.first_ns, found.end_ns = whole(detail.get("first_ns")), whole(detail.get("end_ns"))
        found.refs = [str(ref) for ref in detail.get("asks") or [] if isinstance(ref, str)]
        try:
            asked = [said.data for ref in found.refs if (said := read_message(_map(self._frames.frame(ref))))]
            found.request_body = asked[0] if len(asked) == 1 else b"[" + b",".join(asked) + b"]" if asked else b""
            if first := str(detail.get("first_ref") or ""):
                self._answer(found, detail, first)
        except SandtrailError as error:
            found.error = f"its evidence cannot be read: {error}"
        return found

    def _answer(self, to: Exchange, detail: dict[str, Any], first: str) -> None:
        answer = Answer(str(detail.get("lane") or ""), str(detail.get("response_id") or ""))
        for ref, payload in self._frames.between(first, to.response_ref):
            frame = _map(payload)
            ours = frame.get("t") == "websocket" and frame.get("flow") == to.flow and frame.get("from") == "server"
            if not ours or str(frame.get("id")) != to.id.partition("#")[0]:
                continue
            said = read_message(frame)
            # The last is told to be its own; an error need not name the lane.
            if said is None or not (answer.takes(said) or ref == to.response_ref):
                continue
            to.response_cut |= len(to.chunks) + len(said.data) > MAX_BODY
            to.chunks += as_event(said.data)[: MAX_BODY - len(to.chunks)]
            if len(to.refs) < MAX_REFS:
                to.refs.append(ref)

    def _frames_of(self, event: Event, detail: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Request and response, and everything between them where either passed in pieces."""
        if event.source == "litellm":
            return self._told(event, detail)
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

    def _told(self, event: Event, detail: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """A call that another gateway tells of in one record: the frames that ours would have made of it."""
        try:
            _, data = record_of(self._frames.frame(event.ref))
            frames = exchange_frames(_map(data), _key(detail)["id"])
        except SandtrailError as error:
            frames = [{"t": "error", **_key(detail), "message": f"its evidence cannot be read: {error}"}]
        return [(event.ref, frame) for frame in frames]


def _key(detail: dict[str, Any]) -> dict[str, str]:
    return {name: str(detail.get(name) or "") for name in ("flow", "id")}


def _ref(part: object) -> str:
    ref = part.get("ref") if isinstance(part, dict) else None
    return ref if isinstance(ref, str) else ""


def _client(detail: dict[str, Any]) -> tuple[str, int] | None:
    client = detail.get("client")
    if isinstance(client, list) and len(client) >= 2 and isinstance(client[1], int):
        return str(client[0]), client[1]
    return None


def _is_cut(part: object) -> bool:
    return isinstance(part, dict) and bool(part.get("cut"))


def _map(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
