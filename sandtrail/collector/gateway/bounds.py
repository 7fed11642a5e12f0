"""Bounds that mitmproxy's protocol layers do not have of their own: how long a message head and a message may grow, of
how many fields and frames, what many chunks cost, and that a WebSocket's control frames pass nobody unseen."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any

import h11
import wsproto.events
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers import websocket
from mitmproxy.proxy.layers.http import _http1
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import Opcode

__all__ = ["MAX_HEAD", "MAX_MESSAGE", "TOO_LONG", "HeadBuffer", "MergingReader", "install"]

MAX_HEAD = 256 * 1024
MAX_FIELDS = 1000
"""Lines of a head: each costs many times its bytes."""
MAX_MESSAGE = 16 << 20
TOO_LONG = b"too-long"
"""What stands in place of a head over these bounds: nobody takes it for one."""
MAX_FRAMES = 1024
"""Frames of one message, which may be empty."""


class HeadBuffer(ReceiveBuffer):
    """Gives up on a head (HTTP/1 request or response, chunk header, trailers) that does not end.

    A head that is too long becomes one that cannot be parsed, for which the layers have their answers.
    """

    def begins(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether what is to be read next begins so."""
        return pattern.match(self._data) is not None

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """As h11's, up to the first blank line."""
        lines = super().maybe_extract_lines()
        if (lines is None and len(self) > MAX_HEAD) or len(lines or ()) > MAX_FIELDS:
            self._extract(len(self))
            return [bytearray(TOO_LONG)]
        return lines

    def maybe_extract_next_line(self) -> bytearray | None:
        """As h11's. Raises RemoteProtocolError for one that does not end."""
        line = super().maybe_extract_next_line()
        if line is None and len(self) > MAX_HEAD:
            raise h11.RemoteProtocolError("the header of a chunk does not end")
        return line


class MergingReader(ChunkedReader):
    """A chunked body as it comes, not chunk by chunk: of one byte each, they would cost a thousand times their size."""

    _next: h11.EndOfMessage | Exception | None = None
    trailers: Sequence[tuple[bytes, bytes]] = ()
    """Those that the end had, which mitmproxy takes from nobody."""

    def __call__(self, buf: ReceiveBuffer) -> Any:
        """As h11's: the next of the body, its end, or None where more has to come first. Raises as that does."""
        pieces: list[bytes] = []
        while self._next is None:
            try:
                event = super().__call__(buf)
            except h11.ProtocolError as error:
                self._next = error
                break
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            else:
                self._next = event
                break
        if pieces:
            return h11.Data(data=b"".join(pieces))
        found, self._next = self._next, None
        if isinstance(found, Exception):
            raise found
        if found is not None and found.headers:
            self.trailers = tuple(found.headers.raw_items())
            return h11.EndOfMessage()
        return found


class _BoundedWebsocket(websocket.WebsocketConnection):
    """Closes a connection whose message grows beyond the limit, as if its sender had. Notes control frames that carry
    something, for `_Controlled`."""

    _pending = _frames = 0
    control: tuple[Opcode, bytes] | None = None

    def events(self) -> Generator[Any, None, None]:
        for event in super().events():
            if isinstance(event, wsproto.events.Message):
                self._pending += len(event.data)
                self._frames += event.frame_finished
                if self._pending > MAX_MESSAGE or self._frames > MAX_FRAMES:
                    self.frame_buf = [b""]
                    yield wsproto.events.CloseConnection(1009, "message too big")
                    return
                if event.message_finished:
                    self._pending = self._frames = 0
            elif isinstance(event, wsproto.events.CloseConnection):
                self.control = Opcode.CLOSE, (event.reason or "").encode("utf-8", "surrogateescape")
            elif isinstance(event, wsproto.events.Ping | wsproto.events.Pong):
                ping = isinstance(event, wsproto.events.Ping)
                self.control = Opcode.PING if ping else Opcode.PONG, bytes(event.payload)
            yield event


class _Controlled(websocket.WebsocketLayer):
    """Shows addons the control frames too, which hold up to 125 bytes each and are passed on like messages: one that
    is dropped stays here, and so does everything that came after it."""

    def relay_messages(self, event: events.Event) -> Any:
        dropped = False
        for command in super().relay_messages(event):
            for side in (self.client_ws, self.server_ws):
                assert isinstance(side, _BoundedWebsocket)
                control, side.control = side.control, None
                if control is not None and control[1]:
                    dropped = dropped or (yield from self._shown(side is self.client_ws, *control))
            if not (dropped and isinstance(command, commands.SendData)):
                yield command

    def _shown(self, from_client: bool, kind: Opcode, content: bytes) -> Any:
        assert self.flow.websocket is not None
        message = WebSocketMessage(kind, from_client, content)
        self.flow.websocket.messages.append(message)
        yield websocket.WebsocketMessageHook(self.flow)
        return message.dropped


def install() -> None:
    """Put the bounds into the layers of this process, before any of them is used: mitmproxy has no setting for them."""
    vars(_http1)["ReceiveBuffer"] = HeadBuffer
    vars(_http1)["ChunkedReader"] = MergingReader
    vars(websocket)["WebsocketConnection"] = _BoundedWebsocket
    vars(websocket)["WebsocketLayer"] = _Controlled
    # A message that an addon has changed would be cut after so many bytes, within a letter too, which is lost then.
    websocket.Fragmentizer.FRAGMENT_SIZE = 8 * MAX_MESSAGE
