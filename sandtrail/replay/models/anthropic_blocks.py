"""Content blocks of Anthropic Messages, as they stand in requests and in answers.

Spec: the OpenAPI document of the Anthropic API, InputContentBlock and ContentBlock. The same blocks carry what the
model was shown and what it said; blocks of later versions are kept and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandtrail.replay.models.answer import as_json, as_objects, as_text, flowing, once, runs, tool_call
from sandtrail.replay.models.call import Choice, Message, ModelCall, ToolCall, scrub
from sandtrail.replay.models.media import media_words

__all__ = ["MAX_BLOCKS", "answer", "messages", "words"]

MAX_BLOCKS = 20_000
MAX_DEPTH = 8
# Those of tools aside, which are known by how their names end.
_KNOWN = frozenset(
    {
        *("text", "image", "document", "search_result", "thinking", "redacted_thinking", "connector_text"),
        *("compaction", "fallback", "container_upload", "browser_state"),
        *("mcp_tool_listing", "tool_addition", "tool_removal", "tool_reference"),
    }
)


def messages(raw: dict[str, Any], call: ModelCall) -> list[Message]:
    """The messages that one of a request is: each result of a tool is one of its own, in the order of the blocks."""
    role, content = as_text(raw.get("role")), raw.get("content")
    if not isinstance(content, list):
        return [Message(role, as_text(content), raw=raw)]
    blocks = as_objects(content, MAX_BLOCKS, call, "content")
    if role == "assistant":
        said = answer(0, {"content": blocks}, call)
        # A summary in place of the conversation until here is what the model was shown of it.
        summaries = [words(block, call) for block in blocks if block.get("type") == "compaction"]
        text = "\n".join(part for part in [*summaries, said.text] if part)
        return [Message(role, text, tool_calls=said.tool_calls, raw=raw), *said.results]
    out: list[Message] = []
    rest = raw
    for run in runs(blocks, _is_result):
        if _is_result(run[0]):
            out.append(_result(run[0], call))
        else:
            calls = _tool_calls(run)
            text = "\n".join(words(block, call) for block in run)
            out.append(Message(role, scrub(text), tool_calls=calls, raw={**rest, "content": run}))
            rest = {"role": role}  # what stands beside is kept once
    return out or [Message(role, "", raw=raw)]


def answer(index: int, message: dict[str, Any], call: ModelCall, written: Sequence[str] = ()) -> Choice:
    """What an answer's message says; `message` is kept with every field.

    `written` has the input of each block as the model wrote it, where it came in pieces.
    """
    content = message.get("content")
    content = [{"type": "text", "text": content}] if isinstance(content, str) else content
    blocks = as_objects(content, MAX_BLOCKS, call, "content")
    reason, details = message.get("stop_reason"), message.get("stop_details")
    refused = as_text(details.get("explanation") or details.get("category")) if isinstance(details, dict) else ""
    for block in blocks:
        _name_unknown(block, call)
    return Choice(
        index=index,
        text=flowing(as_text(block.get("text")) if block.get("type") == "text" else None for block in blocks),
        reasoning="\n".join(as_text(block.get("thinking")) for block in blocks if block.get("type") == "thinking"),
        refusal=refused if reason == "refusal" else None,
        tool_calls=_tool_calls(blocks, written),
        results=[_result(block, call) for block in blocks if _is_result(block)],
        finish_reason=as_text(reason) if reason is not None else None,
        message=message,
        extra={k: message[k] for k in ("stop_sequence", "stop_details") if message.get(k) is not None},
    )


def _tool_calls(blocks: list[dict[str, Any]], written: Sequence[str] = ()) -> list[ToolCall]:
    out = []
    for place, block in enumerate(blocks):
        text = written[place] if place < len(written) else ""
        kind = as_text(block.get("type"))
        if kind.endswith("tool_use"):
            ident, name = as_text(block.get("id")), as_text(block.get("name"))
            out.append(tool_call(ident, name, text or block.get("input"), kind != "tool_use"))
    return out


def _is_result(block: dict[str, Any]) -> bool:
    return as_text(block.get("type")).endswith("tool_result")


def _result(block: dict[str, Any], call: ModelCall) -> Message:
    content, error = block.get("content"), block.get("is_error")
    if not isinstance(error, bool):
        kind = as_text(content.get("type")) if isinstance(content, dict) else ""
        error = True if kind.endswith("_error") else None
    ident = as_text(block["tool_use_id"]) if block.get("tool_use_id") is not None else None
    return Message("tool", content_text(content, call), ident, error, raw=block)


def content_text(content: Any, call: ModelCall, depth: int = 0) -> str:
    """The words of a result, a document or a search result: a string, blocks, or an object of the tool's own."""
    if not isinstance(content, list):
        return as_json(content)
    shown = [words(b, call, depth) if isinstance(b, dict) else as_text(b) for b in content[:MAX_BLOCKS]]
    shown += [f"[{len(content) - MAX_BLOCKS} blocks left out]"] if len(content) > MAX_BLOCKS else []
    return scrub("\n".join(shown))


def words(block: dict[str, Any], call: ModelCall, depth: int = 0) -> str:
    """A block as the model was shown it, as far as it is text; others are named in brackets."""
    kind = as_text(block.get("type"))
    if depth > MAX_DEPTH:
        return f"[{kind}]"
    if kind == "text":
        return as_text(block.get("text"))
    if kind == "compaction":
        return as_text(block.get("content"))
    if kind == "document":
        source = block.get("source")
        inner = source.get("data" if source.get("type") == "text" else "content") if isinstance(source, dict) else None
        return content_text(inner, call, depth + 1) if inner else media_words(block, kind)
    if kind == "search_result":
        found = content_text(block.get("content"), call, depth + 1)
        return f"{as_text(block.get('title'))}\n{found}"
    if kind.endswith(("_result", "_output")):  # an object inside of a result: its fields are the words
        return as_json({k: v for k, v in block.items() if not k.startswith("encrypted")})
    _name_unknown(block, call)
    return media_words(block, kind or "block")


def _name_unknown(block: dict[str, Any], call: ModelCall) -> None:
    kind = as_text(block.get("type"))
    if kind not in _KNOWN and not kind.endswith(("tool_use", "tool_result")):
        once(call, f"a content block of an unknown type: {kind[:80]!r}")
