"""A scripted model behind OpenAI's APIs, for real clients: Chat Completions and Responses, and the latter's WebSocket.

It is no model: it gives the answers that it was made with, one after the other, whole or streamed as it is asked, and
keeps what was asked and sent to the byte.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.boundary.scripted.openai import Map, Split, chat_chunks, events, in_pieces, sse
from tests.collector.gateway.upstream import Handler, Server, serving

__all__ = ["Exchanged", "ScriptedOpenAI"]

OVER: Map = {"error": {"message": "the script has no more answers", "type": "invalid_request_error", "code": "over"}}


@dataclass
class Exchanged:
    """A call as it crossed the wire: the request's body, and the answer's, or the messages of a WebSocket."""

    over: str
    """`http` or `websocket`."""
    asked: bytes
    answer: Map
    sent: list[bytes] = field(default_factory=list)


class ScriptedOpenAI:
    """Serve it with `running()`; it listens on a loopback port, `url` is its base address.

    `sockets` False refuses upgrades with 426, as servers do that have no WebSocket.
    """

    def __init__(self, answers: Iterable[Map], split: Split | None = None, *, sockets: bool = True) -> None:
        self.server = Server()
        self.exchanged: list[Exchanged] = []
        self.refused = 0
        self._answers = iter(answers)
        self._split = split or in_pieces(7)
        self._sockets = sockets
        self._turn = threading.Lock()
        self.server.routes = {"/v1/responses": self._responses, "/v1/chat/completions": self._chat}

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return self.server.url

    @contextmanager
    def running(self) -> Iterator[ScriptedOpenAI]:
        """Serve for as long as the block lasts."""
        with serving(self.server):
            yield self

    def _next(self, over: str, asked: bytes) -> Exchanged:
        with self._turn:
            answer = next(self._answers, OVER)
            if answer.get("object") == "response":
                answer = {**answer, "previous_response_id": json.loads(asked).get("previous_response_id")}
            self.exchanged.append(Exchanged(over, asked, answer))
            return self.exchanged[-1]

    def _chat(self, handler: Handler) -> None:
        call, request = self._asked(handler)
        parts: list[bytes] | None = None
        if request.get("stream") and call.answer is not OVER:
            chunks = (sse([chunk], named=False) for chunk in chat_chunks(call.answer, self._split))
            parts = [*chunks, b"data: [DONE]\n\n"]
        self._answer(handler, call, parts)

    def _responses(self, handler: Handler) -> None:
        if handler.command == "GET":
            self._upgrade(handler)
            return
        call, request = self._asked(handler)
        streamed = request.get("stream") and call.answer is not OVER
        self._answer(handler, call, [sse([e]) for e in events(call.answer, self._split)] if streamed else None)

    def _asked(self, handler: Handler) -> tuple[Exchanged, Map]:
        body = handler.asked.body
        return self._next("http", body), json.loads(body)

    def _answer(self, handler: Handler, call: Exchanged, parts: list[bytes] | None) -> None:
        if parts is None:
            call.sent = [json.dumps(call.answer).encode()]
            handler.answer(call.sent[0], 400 if call.answer is OVER else 200, content_type="application/json")
            return
        call.sent = parts
        handler.head(content_type="text/event-stream", transfer_encoding="chunked")
        for part in [*parts, b""]:
            handler.chunk(part)

    def _upgrade(self, handler: Handler) -> None:
        """The WebSocket: each `response.create` is answered by the events of the next answer, in its lane."""
        if not self._sockets:
            self.refused += 1
            handler.answer(b"", 426)
            return
        handler.close_connection = True
        protocol = ServerProtocol(max_size=None)
        head = [handler.raw_requestline.decode(), *(f"{name}: {value}\r\n" for name, value in handler.headers.items())]
        data = "".join([*head, "\r\n"]).encode()
        while data and not protocol.close_expected():
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._message(protocol, bytes(event.data))
            for out in protocol.data_to_send():
                handler.wfile.write(out)
            data = handler.connection.recv(65_536)

    def _message(self, protocol: ServerProtocol, data: bytes) -> None:
        asked = json.loads(data)
        if asked.get("type") != "response.create":
            return
        call = self._next("websocket", data)
        lane: dict[str, Any] = {"stream_id": asked["stream_id"]} if "stream_id" in asked else {}
        over = [{"type": "error", "status": 400, **OVER, **lane}]
        for event in over if call.answer is OVER else events(call.answer, self._split, **lane):
            call.sent.append(json.dumps(event).encode())
            protocol.send_text(call.sent[-1])
