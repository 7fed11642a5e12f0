"""Bedrock's InvokeModel and InvokeModelWithResponseStream: the model's own API inside of Bedrock's.

Spec: the Bedrock Runtime API, ResponseStream and PayloadPart; "Inference parameters" for each family of models. The
bodies of Anthropic's, OpenAI's and Amazon's chat models are read by those APIs' own readers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sandtrail.replay.models import anthropic_messages, bedrock_converse, bedrock_families, openai_chat
from sandtrail.replay.models.answer import once, settle
from sandtrail.replay.models.bedrock_stream import events
from sandtrail.replay.models.body import header, load_json
from sandtrail.replay.models.call import ModelCall, scrub
from sandtrail.replay.models.exchange import Exchange

__all__ = ["decode"]

_METRICS = b'"amazon-bedrock-invocationMetrics"'
"""Stands in the last chunk of a stream, whatever the family."""


def decode(exchange: Exchange, request: Any, response: bytes, model: str, streamed: bool) -> ModelCall:
    """Read the call by the family that its bodies show. Never raises."""
    outer = ModelCall(api="bedrock.invoke", model=model)
    chunks = list(_chunks(outer, response)) if streamed else [response] if response else []
    family = _family(request, chunks, model)
    if family in (anthropic_messages, openai_chat):
        if streamed:
            # Chunks hold what those APIs send as server-sent events; line ends in JSON are but space.
            lines = (chunk.replace(b"\r", b" ").replace(b"\n", b" ") for chunk in chunks)
            body = b"".join(b"data: " + line + b"\n\n" for line in lines)
            inner = replace(exchange, response_headers=[("content-type", "text/event-stream")])
        else:
            body, inner = response, exchange
        call: ModelCall = family.decode(inner, request, body)
        call.extra["family"] = call.api
        call.api, call.model = outer.api, model or call.model
    else:
        call = ModelCall(api=outer.api, model=model)
        if family is bedrock_converse:
            call.extra["family"] = "bedrock.converse"
            bedrock_converse.read_request(call, request)
            if streamed:
                bedrock_converse.read_stream(call, _events(chunks))
            elif response:
                bedrock_converse.read_whole(call, response)
        else:
            bedrock_families.read_request(call, request)
            bedrock_families.read_answer(call, chunks)
            ended = call.finished or _METRICS in (chunks or [b""])[-1]
            call.cut = call.error is None and (call.cut or (streamed and not ended))
        if not outer.error:
            settle(call, exchange, response)
    if outer.error:
        call.error, call.cut = outer.error, bool(exchange.response_cut or exchange.error)
    call.streamed = streamed
    for text in outer.problems:
        call.problem(text)
    call.problems_total += outer.problems_total - len(outer.problems)
    call.extra |= outer.extra
    if metadata := header(exchange.request_headers, "x-amzn-bedrock-request-metadata"):
        call.extra["requestMetadata"] = load_json(metadata)[0] or scrub(metadata)
    return call


def _chunks(call: ModelCall, response: bytes) -> Iterator[bytes]:
    """The bytes inside of a stream's chunks."""
    for kind, event in events(call, response):
        inner = event.get("bytes")
        if kind != "chunk" or not isinstance(inner, str):
            once(call, f"an event of an unknown type: {kind[:80]!r}")
            continue
        try:
            yield base64.b64decode(inner)
        except (binascii.Error, ValueError):
            call.problem("a chunk that is not base64")


def _family(request: Any, chunks: list[bytes], model: str) -> Any:
    """Which reader knows the bodies: told by the answer, or else by the request or the model's name; None for none."""
    for chunk in chunks[:3]:
        found = load_json(chunk)[0]
        if not isinstance(found, dict):
            continue
        if found.get("type") in ("message", "message_start"):
            return anthropic_messages
        if isinstance(found.get("choices"), list) and isinstance(request, dict) and "messages" in request:
            return openai_chat
        output = found.get("output")
        if "messageStart" in found or (isinstance(output, dict) and "message" in output):
            return bedrock_converse
    if isinstance(request, dict) and isinstance(request.get("messages"), list):
        if "anthropic_version" in request or "anthropic." in model:
            return anthropic_messages
        if "inferenceConfig" in request or "toolConfig" in request or "schemaVersion" in request:
            return bedrock_converse
    return None


def _events(chunks: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Converse's events as a model of InvokeModel sends them: each an object with one field, its kind."""
    for chunk in chunks:
        found = load_json(chunk)[0]
        for kind, event in found.items() if isinstance(found, dict) else []:
            if isinstance(event, dict):
                yield ("metadata" if kind == "amazon-bedrock-invocationMetrics" else kind), event
