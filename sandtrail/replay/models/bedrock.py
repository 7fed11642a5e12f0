"""Bedrock Runtime: `POST /model/{id}/converse`, `/converse-stream`, `/invoke` and `/invoke-with-response-stream`.

Spec: the Bedrock Runtime API, Converse, ConverseStream, InvokeModel, InvokeModelWithResponseStream. The path names the
model, or an ARN, URL-encoded; streams are AWS's binary event streams. Counts of tokens and guardrails are no calls.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sandtrail.replay.models import bedrock_converse, bedrock_invoke, eventstream
from sandtrail.replay.models.answer import settle
from sandtrail.replay.models.bedrock_stream import events
from sandtrail.replay.models.body import content_type, opening
from sandtrail.replay.models.call import ModelCall, scrub
from sandtrail.replay.models.exchange import Exchange

__all__ = ["decode", "matches"]

_OPERATIONS = frozenset({"converse", "converse-stream", "invoke", "invoke-with-response-stream"})


def matches(path: str, request: Any, response: bytes) -> bool:
    """Whether the path says so."""
    return _asked(path) is not None


def _asked(path: str) -> tuple[str, str] | None:
    """Model and operation that a path names."""
    head, _, operation = path.removesuffix("/").rpartition("/")
    model = head.partition("/model/")[2]
    return (scrub(unquote(model)), operation) if model and operation in _OPERATIONS else None


def decode(exchange: Exchange, request: Any, response: bytes) -> ModelCall:
    """Read the call, however much of it is there. Never raises."""
    model, operation = _asked(exchange.url.partition("?")[0]) or ("", "converse")
    streamed = operation.endswith("stream")
    told: list[str] = []
    if response:
        streamed, told = _is_stream(exchange, response)
    if operation.startswith("invoke"):
        call = bedrock_invoke.decode(exchange, request, response, model, streamed)
    else:
        call = ModelCall(api="bedrock.converse", model=model, streamed=streamed)
        bedrock_converse.read_request(call, request)
        if streamed:
            bedrock_converse.read_stream(call, events(call, response))
        elif response:
            bedrock_converse.read_whole(call, response)
        settle(call, exchange, response)
    for text in told:
        call.problem(text)
    return call


def _is_stream(exchange: Exchange, response: bytes) -> tuple[bool, list[str]]:
    """Whether the answer is a binary event stream: what it looks like wins over what its header says."""
    media = content_type(exchange.response_headers)
    if eventstream.looks_like(response):
        return True, [] if media in (eventstream.MEDIA_TYPE, "") else [f"an event stream, sent as {media[:60]}"]
    if media == eventstream.MEDIA_TYPE and opening(response)[:1] == b"{":
        return False, ["JSON, sent as an event stream"]
    return media == eventstream.MEDIA_TYPE, []
