"""What HTTP/1 may carry beside messages' heads and bodies, and mitmproxy's layers have no place for.

Interim responses (100, 102, 103) were taken for the answer itself, whose client then waited for it in vain. They are
passed over, as mitmproxy does in HTTP/2: the engine says 100 by itself, and the others are hints. Trailers ended the
connection. They are judged and recorded as those of HTTP/2 are; HTTP/1 lets whoever passes a message on leave them out,
and so do we. RFC 9110 6.5.1 and 15.2, RFC 8297.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, Final

from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http import _events, _http1
from mitmproxy.proxy.layers.http._base import ReceiveHttp

from sandtrail.collector.gateway.bounds import TOO_LONG, HeadBuffer, MergingReader

__all__ = ["INTERIM", "install"]

INTERIM: Final = "informational response"
"""What a message of the engine has that tells of one."""
_HEAD: Final = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r\n]")
_ENDS: Final = (_events.RequestEndOfMessage, _events.ResponseEndOfMessage)
_TRAILERS: Final = (_events.RequestTrailers, _events.ResponseTrailers)


class _Trailing(_http1.Http1Connection):
    """Tells of trailers before a message's end, and sends none."""

    def read_body(self, event: events.Event) -> Generator[Any, Any, None]:
        reader, stream = self.body_reader, self.stream_id
        assert stream is not None
        for command in super().read_body(event):
            ended = isinstance(command, ReceiveHttp) and isinstance(command.event, _ENDS)
            if ended and isinstance(reader, MergingReader) and (fields := reader.trailers):
                reader.trailers = ()  # what comes behind may be the next message's
                told = _events.RequestTrailers if isinstance(self, _http1.Http1Server) else _events.ResponseTrailers
                yield ReceiveHttp(told(stream, http.Headers(fields)))
            yield command

    def send(self, event: Any) -> Generator[Any, Any, None]:
        if not isinstance(event, _TRAILERS):
            yield from super().send(event)


class _Server(_Trailing, _http1.Http1Server):
    """The side of a client."""


class _Client(_Trailing, _http1.Http1Client):
    """The side of a server."""

    def read_headers(self, event: events.ConnectionEvent) -> Generator[Any, Any, None]:
        reads = self.request and isinstance(event, events.DataReceived)
        while reads and isinstance(self.buf, HeadBuffer) and self.buf.begins(_HEAD):
            lines = self.buf.maybe_extract_lines()
            if lines is None:
                return  # the rest of it has to come first
            if lines == [TOO_LONG]:
                buffer: ReceiveBuffer = self.buf
                buffer += TOO_LONG + b"\r\n\r\n"
                break
            yield commands.Log(f"Swallowing HTTP/1 {INTERIM}")
        yield from super().read_headers(event)


def install() -> None:
    """Put these in place of mitmproxy's, before any connection is made; `bounds` has to be there first."""
    vars(layers)["Http1Server"] = _Server
    vars(layers)["Http1Client"] = _Client
