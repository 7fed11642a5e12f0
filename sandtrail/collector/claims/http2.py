"""OTLP over HTTP/2 without TLS: gRPC's unary calls, and plain exports, several at once on a connection (RFC 9113)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from h2.settings import SettingCodes, Settings

from sandtrail.collector.claims import grpc
from sandtrail.collector.claims.answers import AGAIN, RETRY_S, Answer, http_body
from sandtrail.collector.claims.export import Export
from sandtrail.collector.claims.limits import MAX_HEAD, RESETS, STREAMS
from sandtrail.collector.claims.link import BrokenError, Link

__all__ = ["PREFACE", "Http2"]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW: Final = 1 << 20
_SLICE: Final = 4096
"""So much is read at a time: it may be some two hundred frames."""
_SETTINGS: Final = {
    SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
    SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
    SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
}


class Http2:
    """One connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        config = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self._http = h2.connection.H2Connection(config)
        self._open: dict[int, Export] = {}
        self._resets = 0
        self._tasks: set[asyncio.Task[object]] = set()
        self._sending = asyncio.Lock()

    async def run(self, first: bytes) -> None:
        """Until either side closes. Raises BrokenError."""
        # Not `update`: what is changed later holds only once the client has acknowledged it.
        self._http.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self._http.initiate_connection()
        self._http.increment_flow_control_window(_WINDOW)
        data = first
        try:
            while data:
                for start in range(0, len(data), _SLICE):
                    async with self._link.session.turn:
                        for event in self._http.receive_data(data[start : start + _SLICE]):
                            self._handle(event)
                    await self._flush()
                self._clock()
                data = await self._link.read()
        except h2.exceptions.ProtocolError as error:
            await self._flush()
            raise BrokenError(f"no HTTP/2: {type(error).__name__}") from None
        finally:
            self._link.since = None
            for stream in list(self._open):
                self._drop(stream)
            await asyncio.gather(*self._tasks)

    def _clock(self) -> None:
        self._link.since = min((export.since for export in self._open.values()), default=None)

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived(stream_id=int(stream)):
                self._begin(stream, [(bytes(key), bytes(value)) for key, value in event.headers or ()])
            case h2.events.DataReceived(stream_id=int(stream)):
                if event.flow_controlled_length:
                    self._http.acknowledge_received_data(event.flow_controlled_length, stream)
                self._grow(stream, event.data or b"")
            case h2.events.StreamEnded(stream_id=int(stream)):
                self._take(stream)
            case h2.events.StreamReset(stream_id=int(stream)):
                self._drop(stream)
                self._resets += 1
                if self._resets > RESETS:
                    raise BrokenError(f"more than {RESETS} exports were taken back")

    def _begin(self, stream: int, fields: list[tuple[bytes, bytes]]) -> None:
        pseudo = {key: value for key, value in fields if key.startswith(b":")}
        headers = [(key, value) for key, value in fields if not key.startswith(b":")]
        method = pseudo.get(b":method", b"").decode("latin-1")
        path = pseudo.get(b":path", b"").decode("utf-8", "surrogateescape")
        export = self._link.export("HTTP/2.0", method, path, headers)
        export.grpc = export.header(b"content-type").startswith(grpc.CONTENT_TYPE)
        export.compressed = "" if export.grpc else export.header(b"content-encoding")
        self._open[stream] = export

    def _grow(self, stream: int, data: bytes) -> None:
        export = self._open.get(stream)
        if export is not None and not self._link.grow(export, data):
            self._take(stream, ended=False)

    def _take(self, stream: int, *, ended: bool = True) -> None:
        export = self._open.pop(stream, None)
        if export is not None:
            if export.grpc:
                grpc.unframe(export)
            self._run(self._record(stream, export, ended))

    def _drop(self, stream: int) -> None:
        """A stream that its client has taken back, or that ends with the connection."""
        export = self._open.pop(stream, None)
        if export is not None:
            if export.grpc:
                grpc.unframe(export)
            self._run(self._link.record(export, whole=False))

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record(self, stream: int, export: Export, ended: bool) -> None:
        answer = await self._link.record(export)
        try:
            self._answer(stream, export, answer, ended)
            await self._flush()
        except h2.exceptions.ProtocolError:
            return  # the client has taken it back, or allows us no answer
        except BrokenError:
            self._link.abort()

    def _answer(self, stream: int, export: Export, answer: Answer, ended: bool) -> None:
        http = self._http
        if export.grpc:
            head = [(":status", "200"), ("content-type", grpc.CONTENT_TYPE)]
            if answer is Answer.RECORDED:
                http.send_headers(stream, head)
                http.send_data(stream, grpc.EMPTY)
                http.send_headers(stream, grpc.trailers(answer), end_stream=True)
            else:
                http.send_headers(stream, [*head, *grpc.trailers(answer)], end_stream=True)
        else:
            kind, body = http_body(answer, export.as_json)
            head = [(":status", str(answer.http)), ("content-type", kind), ("content-length", str(len(body)))]
            head += [("retry-after", str(RETRY_S))] if answer in AGAIN else []
            http.send_headers(stream, head)
            http.send_data(stream, body, end_stream=True)
        if not ended:
            # What it still sends is not read; it may have sent its last with what was too much.
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                http.reset_stream(stream, h2.errors.ErrorCodes.NO_ERROR)

    async def _flush(self) -> None:
        async with self._sending:
            if data := self._http.data_to_send():
                await self._link.write(data)
