"""OpenAI's Responses API over a WebSocket: which message belongs to which call.

Spec: the OpenAPI document of the OpenAI API, ResponsesClientEvent and ResponsesServerEvent. `GET …/responses` is
upgraded; then each `response.create` of the client's is a call, answered by the events of a stream. Several may be
under way: each names a lane (`stream_id`) that the events of its answer repeat, and those of one lane are answered one
after the other.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, NamedTuple

from sandtrail.replay.models.answer import as_text
from sandtrail.replay.models.body import load_json, opening

__all__ = ["ASKS", "Answer", "Said", "as_event", "read_message"]

ASKS = ("input", "model", "previous_response_id", "conversation", "prompt")
"""What a request of the Responses API has, at least one of."""

_ENDS = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled", "error"})
_HEAD = re.compile(rb'\s*\{\s*"type"\s*:\s*"((?:response\.|error")[\w.]{0,80})')
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Said(NamedTuple):
    """A message that may be part of a call."""

    type: str
    data: bytes
    lane: str = ""
    response: str = ""
    """The response that it tells of, where it says which."""
    previous: str = ""
    """The response that it continues, or that it steers."""
    asks: bool = False
    """It has what a request of this API has; other APIs have messages of the same names."""

    @property
    def of_answer(self) -> bool:
        """Whether a server's message with this type is an event of an answer."""
        return self.type == "error" or (
            self.type.startswith("response.") and not self.type.startswith("response.steer.")
        )

    @property
    def ends(self) -> bool:
        """Whether no event of the same answer comes after it."""
        return self.type in _ENDS


def read_message(frame: dict[str, Any]) -> Said | None:
    """The message of a gateway's websocket frame; None where it is none of the protocol's."""
    data = frame.get("data")
    if frame.get("kind") != "text" or not isinstance(data, str):
        return None
    try:
        raw = base64.b64decode(data)
    except (binascii.Error, ValueError):
        return None
    if frame.get("cut"):
        # What it was can still be told by its beginning, as the API's own clients and servers write it.
        head = _HEAD.match(raw)
        return Said(head[1].decode().rstrip('"'), raw, asks=True) if head else None
    found, _ = load_json(raw) if opening(raw)[:1] == b"{" else (None, "")
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        return None
    inner = found.get("response")
    inner = inner if isinstance(inner, dict) else {}
    steer = found.get("steer")
    steered = steer if isinstance(steer, dict) else found
    return Said(
        found["type"],
        raw,
        _name(found.get("stream_id")),
        _name(inner.get("id")),
        _name(inner.get("previous_response_id") or steered.get("previous_response_id")),
        any(key in found for key in ASKS),
    )


def _name(value: Any) -> str:
    return as_text(value)[:200].replace("\0", "\\x00")


def as_event(data: bytes) -> bytes:
    """A message as a server-sent event, the form in which the same API streams over HTTP."""
    return b"".join(b"data: " + line + b"\n" for line in _LINE_END.split(data)) + b"\n"


class Answer:
    """Picks the server's messages that answer one call out of all, from the first of them on."""

    def __init__(self, lane: str, response: str) -> None:
        self._lane = lane
        self._response = response
        self._mine = True

    def takes(self, said: Said) -> bool:
        """Whether the next message belongs to the answer. What does not say so goes with the one before it."""
        if not said.of_answer or said.lane != self._lane:
            return False
        if said.response and self._response:
            self._mine = said.response == self._response
        return self._mine
