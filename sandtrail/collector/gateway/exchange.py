"""One HTTP request and its response, as frames: docs/architecture.md, "Payloads by source"."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.net.http.url import hostport

from sandtrail.collector.gateway.passage import Guarded, Passage, Whole
from sandtrail.collector.gateway.redact import printable
from sandtrail.collector.gateway.refusal import Refusal
from sandtrail.collector.gateway.rules import Decision, canonical
from sandtrail.collector.gateway.session import Session
from sandtrail.collector.gateway.swap import Swap
from sandtrail.collector.gateway.tap import Tap
from sandtrail.collector.gateway.turned import Turned
from sandtrail.collector.gateway.vault import Access
from sandtrail.collector.secrets import Secret

__all__ = ["Exchange", "Link"]

_SLICE = 64 * 1024
# Of a coded body, which may be many times as much when it is decoded.
_CODED_SLICE = 4 * 1024
# A larger response is recorded as it passes: one frame of it would keep everybody else waiting while it is written.
_WHOLE = 1 << 20
_NO_BODY_EXPECTED = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})
_MOST_NAMES = 8
_STREAMED_TYPES = (
    "text/event-stream",
    "application/vnd.amazon.eventstream",
    "application/x-ndjson",
    "application/grpc",
)


class Link(Protocol):
    """The client's connection, as far as an exchange needs it."""

    session: Session
    flow: str
    turned: Turned | None

    def abort(self, reason: str) -> None:
        """Close the connection at once."""


class Exchange:
    """Begins when a request's headers are there. Its methods raise UnrecordedError, see `Session.write`."""

    def __init__(self, link: Link, flow: http.HTTPFlow) -> None:
        self._link = link
        self._session = link.session
        self._flow = flow
        self._key = {"flow": link.flow, "id": flow.id.replace("-", "")[:16]}
        request = flow.request
        host = request.host
        if link.turned is not None:
            host = request.pretty_host if request.host_header else flow.client_conn.sni or host
        target = hostport(request.scheme or "http", host, request.port).encode("utf-8", "surrogateescape")
        self._url = request.data.scheme + b"://" + target + request.data.path if target else request.data.path
        self._request: Passage | None = None
        self._response: Passage | Whole | None = None
        self._request_recorded = False
        self._request_ended = False
        self._reserved = 0
        self._decision: dict[str, Any] = {}
        self._swap: Swap | None = None
        # What the other side is sent, and what it sends, may be changed on its way: recorded is what came.
        self._request_fields, _ = self._session.redactor.headers(request.headers.fields)
        self._response_fields: list[list[str]] | None = None
        self.access: Access | None = None
        """What it may do with the sandbox's secrets; None until that is judged."""
        self.upstream = ""
        """The base address that this request went to instead of its own."""
        self.ended = False
        """Whether the response is recorded, or why there is none; the request may go on."""

    @property
    def done(self) -> bool:
        """Whether nothing of it is to come any more."""
        return self.ended and self._request_ended

    def decided(self, decision: Decision) -> None:
        """By which rule the request may leave, if it may."""
        rules = self._session.policy.rules
        if rules and not decision.denial:
            self._decision = {"rules": rules.digest, "rule": decision.rule}

    # -- the request ---------------------------------------------------------------------------------------------------

    def must_stream_request(self) -> bool:
        """Whether the request's body is recorded as it passes: its length is unknown, or more than is kept whole."""
        try:
            size = http1.expected_http_body_size(self._flow.request)
        except ValueError:
            return False
        if self._flow.request.is_http2 and "content-length" not in self._flow.request.headers:
            return True
        if size is None or size < 0 or size > self._session.policy.limits.request_body:
            return True
        if not self._session.reserve(size):
            return True
        self._reserved += size
        return False

    def stream_request(self) -> None:
        """Record the request's head, its body as it passes."""
        request, limits = self._flow.request, self._session.policy.limits
        tap = Tap(self._session.redactor, request.headers.get("content-encoding", ""), limits.request_body, whole=False)
        frame = {"t": "request_chunk", **self._key}
        self._request = Passage(self._session, frame, tap, self._link.abort)
        request.stream = self._request
        if self.access is not None:
            self._swap = self.access.swap(request, body=False)
            if self.access.watches:
                coding = request.headers.get("content-encoding", "")
                request.stream = Guarded(self._request, self.access.lookout(coding), self._misplaced)
        # Only HTTP/2 leaves open at this point whether there is a body at all. Mostly there is none with these methods,
        # and the one frame is written when that is certain, still before anything goes upstream.
        if not (request.is_http2 and request.method in _NO_BODY_EXPECTED):
            self._session.write({**self._request_head(), "body": "", "stream": True}, urgent=True)
            self._request_recorded = True

    def _misplaced(self, secret: Secret) -> None:
        """A body that is on its way holds a placeholder that may not go there."""
        assert self.access is not None
        refusal = self.access.refuse(secret, "body")
        self.fail(refusal.message, **refusal.frame())
        self._link.abort(refusal.message)

    async def judge_body(self) -> Refusal | None:
        """Why a request that is all there, but for its head, may not go where it goes. A streamed body was looked at as
        it passed."""
        if self.access is None:
            return None
        if self._request is not None:
            return self.access.judge_trailers(self._flow.request)
        return await self.access.judge_body(self._flow.request)

    def send_secrets(self) -> None:
        """Put values in place of placeholders, when that is recorded."""
        if self._swap is not None:
            self._swap.apply(self._flow.request)

    async def record_request(self, *, refused: bool = False) -> None:
        """Record the whole request, or the end of a streamed one."""
        body = self._flow.request.raw_content or b""
        if self._request is None and self.access is not None and not refused:
            self._swap = self.access.swap(self._flow.request, body=True)
        frame = self._request_head() | {"end_ns": _ns(self._flow.request.timestamp_end)}
        if self._request is not None and not (body or not self._request.tap.size):
            self._request.finish()
            tap = self._request.tap
            frame |= {"body": "", "stream": True, "chunks": self._request.chunks, **_sums(tap)}
        else:
            coding = self._flow.request.headers.get("content-encoding", "")
            tap = Tap(self._session.redactor, coding, self._session.policy.limits.request_body, whole=True)
            step = _CODED_SLICE if coding else _SLICE
            for start in range(0, len(body), step):
                if start:
                    await asyncio.sleep(0)  # others have their turn
                tap.feed(body[start : start + step])
            tap.finish()
            frame |= _whole(tap)
        if trailers := self._flow.request.trailers:
            frame["trailers"], _ = self._session.redactor.headers(trailers.fields)
        self._request_recorded = self._request_ended = True
        self._session.write(frame, urgent=True)

    def _request_head(self) -> dict[str, Any]:
        request = self._flow.request
        url, _ = self._session.redactor.url(self._url)
        frame = {
            "t": "request",
            **self._key,
            "method": printable(request.data.method)[:64],
            "url": url,
            "http_version": printable(request.data.http_version)[:16],
            "headers": self._request_fields,
            "start_ns": _ns(request.timestamp_start),
            **self._decision,
        }
        names = list(dict.fromkeys(map(canonical, self._flow.metadata.get("names", ()))))
        if len(names) > 1:
            frame["names"] = [self._session.redactor.name(name) for name in names[:_MOST_NAMES]]
        if self._swap is not None and self._swap.records:
            frame["secrets"] = self._swap.records
        return frame | ({"upstream": self.upstream} if self.upstream else {})

    # -- the response --------------------------------------------------------------------------------------------------

    def begin_response(self) -> None:
        """The response's headers are there."""
        response, limits = self._flow.response, self._session.policy.limits
        assert response is not None
        self._response_head()
        returns = self.access.returns() if self.access is not None else None
        coding = response.headers.get("content-encoding", "")
        try:
            size = http1.expected_http_body_size(self._flow.request, response)
        except ValueError:
            size = None
        if returns is not None:
            returns.head(response)
        if size == 0:
            return
        streamed = response.headers.get("content-type", "").lower().startswith(_STREAMED_TYPES)
        whole = size is not None and 0 < size <= min(limits.response_body, _WHOLE) and not streamed
        if whole and size is not None and self._session.reserve(size):
            self._reserved += size
            tap = Tap(self._session.redactor, coding, limits.response_body, whole=True)
            self._response = Whole(tap, size, self.record_response)
        else:
            tap = Tap(self._session.redactor, coding, limits.response_body, whole=False)
            frame = {"t": "chunk", **self._key}
            self._response = Passage(self._session, frame, tap, self._link.abort)
            self._session.write({**self._response_head(), "body": "", "stream": True}, urgent=True)
        response.stream = self._response
        if returns is not None:
            response.stream = returns.body(self._flow.request, response, self._response)

    def record_response(self) -> None:
        """The response is whole: record it, or the end of a streamed one."""
        if self.ended:
            return
        assert self._flow.response is not None
        frame = self._response_head() | {"end_ns": time.time_ns()}
        # A response that mitmproxy took for bodiless never reached the callable.
        if isinstance(self._response, Passage):
            self._response.finish()
            frame |= {"body": "", "stream": True, "chunks": self._response.chunks, **_sums(self._response.tap)}
        else:
            frame |= {"stream": False, **self._whole_response(cut=False)}
        if trailers := self._flow.response.trailers:
            frame["trailers"], _ = self._session.redactor.headers(trailers.fields)
            if self.access is not None and (returns := self.access.returns()) is not None:
                returns.headers(trailers)
        self._end()
        self._session.write(frame, urgent=True)

    def _whole_response(self, *, cut: bool) -> dict[str, Any]:
        if self._response is not None:
            tap = self._response.tap
        else:
            tap = Tap(self._session.redactor, "", self._session.policy.limits.response_body, whole=True)
            assert self._flow.response is not None
            tap.feed(self._flow.response.raw_content or b"")
        tap.finish(cut=cut)
        return _whole(tap)

    def _response_head(self) -> dict[str, Any]:
        response = self._flow.response
        assert response is not None
        if self._response_fields is None:
            self._response_fields, _ = self._session.redactor.headers(response.headers.fields)
        frame: dict[str, Any] = {
            "t": "response",
            **self._key,
            "status": response.status_code,
            "http_version": printable(response.data.http_version)[:16],
            "headers": self._response_fields,
            "start_ns": _ns(response.timestamp_start),
        }
        if peer := self._flow.server_conn.peername:
            frame["server"] = [peer[0], peer[1]]
        return frame

    # -- neither -------------------------------------------------------------------------------------------------------

    def fail(self, message: str, **facts: Any) -> None:
        """There is no (whole) response or no whole request, and never will be: record what came, and why no more."""
        self._cut_request()
        if self.ended:
            return
        self._end()
        if isinstance(self._response, Passage):
            self._response.finish(cut=True)
            facts |= {"chunks": self._response.chunks, **_sums(self._response.tap)}
        elif self._flow.response is not None and self._response is not None:
            self._session.write({**self._response_head(), "stream": True, **self._whole_response(cut=True)})
        text = self._session.redactor.message(message)
        self._session.write({"t": "error", **self._key, "message": text, "at_ns": time.time_ns(), **facts}, urgent=True)

    def _cut_request(self) -> None:
        if self._request_ended:
            return
        self._request_ended = True
        if not self._request_recorded:
            # It never went upstream; its body was not looked at.
            self._session.write({**self._request_head(), "body": "", "body_bytes": None, "cut": True}, urgent=True)
        elif self._request is not None:
            self._request.finish(cut=True)
            frame = {**self._request_head(), "body": "", "stream": True, "chunks": self._request.chunks}
            self._session.write(frame | _sums(self._request.tap))

    def _end(self) -> None:
        self.ended = True
        self._session.counts["exchanges"] += 1
        self._session.release(self._reserved)
        self._reserved = 0


def _whole(tap: Tap) -> dict[str, Any]:
    body, decoded = tap.kept()
    frame = {"body": body, **_sums(tap)}
    return frame | ({"decoded": True} if decoded else {})


def _sums(tap: Tap) -> dict[str, Any]:
    frame: dict[str, Any] = {"body_bytes": tap.size, "body_sha256": tap.sha256, "cut": tap.cut}
    if tap.redacted:
        frame["redacted"] = tap.redacted
    return frame | ({"decoded": True} if tap.decoded else {})


def _ns(seconds: float | None) -> int:
    return int(seconds * 1e9) if seconds else time.time_ns()
