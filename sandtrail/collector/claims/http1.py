"""OTLP over HTTP/1.1: one export after the other on a connection (RFC 9112)."""

from __future__ import annotations

import time
from http import HTTPStatus

import h11

from sandtrail.collector.claims.answers import AGAIN, RETRY_S, Answer, http_body
from sandtrail.collector.claims.export import Export
from sandtrail.collector.claims.limits import MAX_HEAD
from sandtrail.collector.claims.link import BrokenError, Link

__all__ = ["Http1"]


class Http1:
    """One connection."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def run(self, first: bytes) -> None:
        """Until either side closes. Raises BrokenError."""
        try:
            self._http.receive_data(first)
            while await self._export():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._malformed(error)
            raise BrokenError(f"no HTTP/1.1: {error}") from None

    async def _event(self) -> object:
        while (event := await self._next()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            data = await self._link.read()
            self._link.since = self._link.since or time.monotonic()
            self._http.receive_data(data)
        return event

    async def _next(self) -> object:
        async with self._link.session.turn:
            return self._http.next_event()

    async def _export(self) -> bool:
        """One request and its answer; whether another may follow."""
        link = self._link
        link.since = link.since if self._http.trailing_data[0] else None
        request = await self._event()
        if not isinstance(request, h11.Request):
            return False
        link.since = link.since or time.monotonic()
        target = request.target.decode("utf-8", "surrogateescape")
        version, method = f"HTTP/{request.http_version.decode()}", request.method.decode("latin-1")
        export = link.export(version, method, target, [(bytes(key), bytes(value)) for key, value in request.headers])
        export.compressed = export.header(b"content-encoding")
        try:
            whole = await self._body(export)
        except (BrokenError, h11.RemoteProtocolError):
            await link.record(export, whole=False)
            raise
        link.since = None
        as_json = export.as_json
        await self._answer(await link.record(export), as_json, close=not whole)
        if not whole:
            await link.linger()
            return False
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _body(self, export: Export) -> bool:
        """Read it; False where it is too long to be read to its end."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                if not self._link.grow(export, bytes(event.data)):
                    return False
            elif isinstance(event, h11.EndOfMessage):
                return True
            else:
                raise BrokenError("the connection ended in the middle of an export")

    async def _answer(self, answer: Answer, as_json: bool, *, close: bool) -> None:
        kind, body = http_body(answer, as_json)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        headers += [("Retry-After", str(RETRY_S))] if answer in AGAIN else []
        headers += [("Connection", "close")] if close else []
        reason = HTTPStatus(answer.http).phrase.encode()
        await self._send(
            h11.Response(status_code=answer.http, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )

    async def _send(self, *events: h11.Event) -> None:
        await self._link.write(b"".join(self._http.send(event) or b"" for event in events))

    async def _malformed(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint or 400
            head = h11.Response(status_code=status, headers=[("Content-Length", "0"), ("Connection", "close")])
            await self._send(head, h11.EndOfMessage())
