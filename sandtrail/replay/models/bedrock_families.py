"""Bodies of InvokeModel for models that have no reader of their own: Titan, Llama, Mistral, Cohere, AI21 and others.

Spec: "Inference request parameters and response fields for foundation models" of Bedrock. Words are taken from where
these families have them, and everything is kept; an answer of another shape is shown as it is, and named.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandtrail.replay.models.answer import as_json, as_objects, as_text, once, request_of, tool_call
from sandtrail.replay.models.body import load_json, opening
from sandtrail.replay.models.call import Choice, Message, ModelCall, scrub
from sandtrail.replay.models.openai_chat import content_text

__all__ = ["read_answer", "read_request"]

MAX_SHOWN = 10_000
MAX_ENTRIES = 1000
_PROMPTS = ("prompt", "inputText", "inputs", "message")
_WORDS = ("outputText", "generation", "completion", "generated_text", "text")
_LISTS = ("results", "outputs", "generations", "completions", "choices", "data")
_REASONS = ("completionReason", "stop_reason", "stopReason", "finish_reason", "finishReason")
_WORDLESS = ("embedding", "embeddings", "embeddingsByType", "images", "artifacts", "amazon-bedrock-invocationMetrics")


def read_request(call: ModelCall, request: Any) -> None:
    """Read what a request asks: messages, or the one text to go on from."""
    if (request := request_of(call, request)) is None:
        return
    for raw in as_objects(request.get("messages"), MAX_ENTRIES, call, "messages"):
        content = raw.get("content")
        text = content_text(content)
        call.messages.append(Message(as_text(raw.get("role")), text, raw=raw))
    for name in _PROMPTS:
        if isinstance(prompt := request.get(name), str):
            call.messages.append(Message("user", scrub(prompt), raw={name: prompt}))
    if not call.messages:
        call.extra["request"] = request


def read_answer(call: ModelCall, chunks: Iterable[bytes]) -> None:
    """Read an answer, whole or in chunks; every chunk is kept."""
    texts: list[str] = []
    kept: list[Any] = []
    choice = Choice(0)
    for chunk in chunks:
        found, trouble = load_json(chunk)
        if trouble:
            call.problem(f"an answer that is not JSON: {trouble}")
            call.cut = call.cut or opening(chunk)[:1] == b"{"
            continue
        kept.append(found)
        words, reason = _words(found)
        if words is None and isinstance(found, dict) and isinstance(said := found.get("message"), str):
            call.error = scrub(said)[:2000]
        elif words is None and not (isinstance(found, dict) and any(name in found for name in _WORDLESS)):
            once(call, "an answer of a shape that is not known")
            texts.append(as_json(found)[:MAX_SHOWN])
        texts.append(words or "")
        choice.finish_reason = reason or choice.finish_reason
        if isinstance(found, dict):
            for one in as_objects(found.get("tool_calls"), MAX_ENTRIES, call, "tool_calls"):
                choice.tool_calls.append(
                    tool_call(as_text(one.get("id")), as_text(one.get("name")), one.get("parameters"))
                )
            usage = found.get("usage", found.get("amazon-bedrock-invocationMetrics"))
            call.usage = usage if isinstance(usage, dict) else call.usage
    if kept:
        choice.text = scrub("".join(texts))
        choice.message = kept[0] if len(kept) == 1 and isinstance(kept[0], dict) else {"chunks": kept}
        if call.error is None:
            call.choices.append(choice)


def _words(found: Any, depth: int = 0) -> tuple[str | None, str | None]:
    """(What an answer or a chunk says, why it ended): of its own fields, or of the first entry of a list."""
    if not isinstance(found, dict) or depth > 4:
        return None, None
    reason = next((found[name] for name in _REASONS if found.get(name) is not None), None)
    if isinstance(reason, dict):
        reason = reason.get("reason")
    why = as_text(reason) if reason is not None else None
    for name in _WORDS:
        if isinstance(found.get(name), str):
            return found[name], why
    for name in _LISTS:
        inner = found.get(name)
        first = inner[0] if isinstance(inner, list) and inner else inner
        words, ended = _words(first, depth + 1)
        if words is not None:
            return words, ended or why
    return None, why
