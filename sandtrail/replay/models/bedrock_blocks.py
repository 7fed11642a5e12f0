"""Content blocks of Bedrock's Converse, as they stand in requests and in answers.

Spec: the Bedrock Runtime API, Message and ContentBlock. A block is an object with one field, which says its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandtrail.replay.models.answer import as_json, as_objects, as_text, flowing, once, runs, tool_call
from sandtrail.replay.models.call import Choice, Message, ModelCall, ToolCall, scrub
from sandtrail.replay.models.media import media_words

__all__ = ["MAX_BLOCKS", "answer", "messages", "words"]

MAX_BLOCKS = 20_000
_KNOWN = frozenset(
    {
        *("text", "image", "document", "video", "audio", "toolUse", "toolResult", "guardContent", "cachePoint"),
        *("reasoningContent", "citationsContent", "searchResult", "toolAddition", "toolRemoval", "json"),
    }
)


def messages(raw: dict[str, Any], call: ModelCall) -> list[Message]:
    """The messages that one of a request is: each result of a tool is one of its own."""
    role, content = as_text(raw.get("role")), raw.get("content")
    if isinstance(content, str):  # not what Converse says, but models of InvokeModel take it
        return [Message(role, scrub(content), raw=raw)]
    blocks = as_objects(content, MAX_BLOCKS, call, "content")
    if role == "assistant":
        said = answer(0, {"content": blocks}, None, call)
        return [Message(role, said.text, tool_calls=said.tool_calls, raw=raw), *said.results]
    out: list[Message] = []
    rest = raw
    for run in runs(blocks, _is_result):
        if _is_result(run[0]):
            out.append(_result(run[0], call))
        else:
            text = "\n".join(words(block, call) for block in run if "cachePoint" not in block)
            out.append(Message(role, scrub(text), tool_calls=_tool_calls(run), raw={**rest, "content": run}))
            rest = {"role": role}  # what stands beside is kept once
    return out or [Message(role, "", raw=raw)]


def answer(index: int, message: dict[str, Any], reason: Any, call: ModelCall, written: Sequence[str] = ()) -> Choice:
    """What an answer's message says; `message` is kept with every field.

    `written` has the input of each block as the model wrote it, where it came in pieces.
    """
    content = message.get("content")
    content = [{"text": content}] if isinstance(content, str) else content
    blocks = as_objects(content, MAX_BLOCKS, call, "content")
    for block in blocks:
        _name_unknown(block, call)
    return Choice(
        index=index,
        text=flowing(_said(block) for block in blocks),
        reasoning="\n".join(_thought(block) for block in blocks if "reasoningContent" in block),
        tool_calls=_tool_calls(blocks, written),
        results=[_result(block, call) for block in blocks if _is_result(block)],
        finish_reason=as_text(reason) if reason is not None else None,
        message=message,
    )


def _said(block: dict[str, Any]) -> str | None:
    if "citationsContent" in block:
        cited = block["citationsContent"]
        content = cited.get("content") if isinstance(cited, dict) else None
        return "".join(as_text(one.get("text")) for one in _objects(content))
    return as_text(block["text"]) if "text" in block else None


def _thought(block: dict[str, Any]) -> str:
    content = block.get("reasoningContent")
    inner = content.get("reasoningText") if isinstance(content, dict) else None
    return as_text(inner.get("text")) if isinstance(inner, dict) else ""


def _tool_calls(blocks: list[dict[str, Any]], written: Sequence[str] = ()) -> list[ToolCall]:
    out = []
    for place, block in enumerate(blocks):
        text = written[place] if place < len(written) else ""
        if isinstance(use := block.get("toolUse"), dict):
            ident, name = as_text(use.get("toolUseId")), as_text(use.get("name"))
            out.append(tool_call(ident, name, text or use.get("input"), as_text(use.get("type")) == "server_tool_use"))
    return out


def _is_result(block: dict[str, Any]) -> bool:
    return isinstance(block.get("toolResult"), dict)


def _result(block: dict[str, Any], call: ModelCall) -> Message:
    found = block["toolResult"]
    status = as_text(found.get("status"))
    content = found.get("content")
    blocks = as_objects(content, MAX_BLOCKS, call, "toolResult")
    text = as_json(content) if not isinstance(content, list) else "\n".join(words(one, call) for one in blocks)
    ident = as_text(found["toolUseId"]) if found.get("toolUseId") is not None else None
    return Message("tool", scrub(text), ident, status == "error" if status else None, raw=block)


def words(block: dict[str, Any], call: ModelCall) -> str:
    """A block as the model was shown it, as far as it is text; others are named in brackets."""
    if isinstance(block.get("text"), str):
        return as_text(block["text"])
    if "json" in block:
        return as_json(block["json"])
    _name_unknown(block, call)
    kind = as_text(next(iter(block), "block"))
    inner = block.get(kind)
    if not isinstance(inner, dict):
        return f"[{kind[:80]}]"
    if kind == "guardContent" and isinstance(text := inner.get("text"), dict):
        return as_text(text.get("text"))
    source = inner.get("source")
    content = source.get("content") if isinstance(source, dict) else inner.get("content")
    texts = [as_text(one["text"]) for one in _objects(content) if "text" in one]
    if isinstance(source, dict) and isinstance(source.get("text"), str):
        texts = [as_text(source["text"])]
    return "\n".join(texts) if texts else media_words(inner, kind)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value[:MAX_BLOCKS] if isinstance(one, dict)] if isinstance(value, list) else []


def _name_unknown(block: dict[str, Any], call: ModelCall) -> None:
    if not block.keys() & _KNOWN:
        once(call, f"a content block of an unknown kind: {as_text(next(iter(block), ''))[:80]!r}")
