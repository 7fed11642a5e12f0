"""Which decoder reads an exchange: told by method, path and the body's shape, never by a host's name."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import urlsplit

from sandtrail.replay.models import anthropic_messages, bedrock, gemini, openai_chat, openai_responses
from sandtrail.replay.models.body import Headers, decode_body, load_json
from sandtrail.replay.models.call import ModelCall
from sandtrail.replay.models.cut_json import load_cut_json
from sandtrail.replay.models.exchange import WEBSOCKET, Exchange

__all__ = ["Decoder", "decode_exchange"]


class Decoder(Protocol):
    """A module that reads one API. To add an API: write such a module and put it into `DECODERS`."""

    def matches(self, path: str, request: Any, response: bytes) -> bool:
        """Whether this is a call of the API: URL path, request body as JSON (None if it is not), response body."""

    def decode(self, exchange: Exchange, request: Any, response: bytes) -> ModelCall:
        """Read the call; never raises."""


# The first that matches reads the call: those that go by the path alone come before those that also know shapes.
DECODERS: tuple[Decoder, ...] = (
    bedrock,
    anthropic_messages,
    gemini,
    openai_chat,
    openai_responses,
)


def decode_exchange(exchange: Exchange) -> ModelCall | None:
    """The model call that an exchange is, or None where it is none that we know. Never raises."""
    path = _path(exchange.url)
    if exchange.method not in ("POST", WEBSOCKET) and not (exchange.method == "GET" and openai_responses.fetches(path)):
        return None
    # Where the recorder undid a content coding to take a credential out, the header still names it.
    plain: Headers = []
    body, problems = decode_body(exchange.asked, plain if exchange.request_decoded else exchange.request_headers)
    request, trouble = load_json(body) if body else (None, "it has no body")
    if trouble and exchange.request_cut:
        request = load_cut_json(body)
    coded = plain if exchange.response_decoded else exchange.response_headers
    response, more = decode_body(exchange.body, coded)
    call = openai_responses.fetched(exchange, response) if exchange.method == "GET" else None
    if exchange.method != "GET":
        for decoder in DECODERS:
            if decoder.matches(path, request, response):
                call = decoder.decode(exchange, request, response)
                problems += [f"request: {trouble}"] if trouble and request is None else []
                call.input_cut = call.input_cut or exchange.request_cut or bool(trouble)
                break
    if call is not None:
        for text in [*problems, *(f"response: {text}" for text in more)]:
            call.problem(text)
    return call


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return url.partition("?")[0]
