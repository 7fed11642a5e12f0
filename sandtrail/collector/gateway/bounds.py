"""Bounds that mitmproxy's protocol layers do not have of their own: how long a message head and a message may grow."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import h11
import wsproto.events
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.http import _http1

__all__ = ["MAX_HEAD", "MAX_MESSAGE", "install"]

MAX_HEAD = 256 * 1024
MAX_MESSAGE = 16 << 20


class _HeadBuffer(ReceiveBuffer):
    """Gives up on a head (HTTP/1 request or response, chunk header, trailers) that does not end.

    A head that is too long becomes one that cannot be parsed, for which the layers have their answers.
    """

    def maybe_extract_lines(self) -> list[bytearray] | None:
        lines = super().maybe_extract_lines()
        if lines is None and len(self) > MAX_HEAD:
            self._extract(len(self))
            return [bytearray(b"too-long")]
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        line = super().maybe_extract_next_line()
        if line is None and len(self) > MAX_HEAD:
            raise h11.RemoteProtocolError("the header of a chunk does not end")
        return line


class _BoundedWebsocket(websocket.WebsocketConnection):
    """Closes a connection whose message grows beyond the limit, as if its sender had."""

    _pending = 0

    def events(self) -> Generator[Any, None, None]:
        for event in super().events():
            if isinstance(event, wsproto.events.Message):
                self._pending += len(event.data)
                if self._pending > MAX_MESSAGE:
                    self.frame_buf = [b""]
                    yield wsproto.events.CloseConnection(1009, "message too big")
                    return
                if event.message_finished:
                    self._pending = 0
            yield event


def install() -> None:
    """Put the bounds into the layers of this process, before any of them is used: mitmproxy has no setting for them."""
    vars(_http1)["ReceiveBuffer"] = _HeadBuffer
    vars(websocket)["WebsocketConnection"] = _BoundedWebsocket
