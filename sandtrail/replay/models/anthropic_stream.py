"""The streamed answer of Anthropic Messages, put together from its events.

Spec: the Anthropic API, "Streaming messages": message_start, content_block_start, _delta and _stop, message_delta,
message_stop, ping, error. Strings are gathered in parts and joined once, so that a million deltas take linear time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandtrail.replay.models.answer import as_json, as_text, once
from sandtrail.replay.models.anthropic_blocks import MAX_BLOCKS
from sandtrail.replay.models.body import load_json
from sandtrail.replay.models.call import ModelCall, scrub
from sandtrail.replay.models.deltas import Deltas

__all__ = ["Accumulator", "error_text"]

# Which field of which block a delta of a known type adds to.
_GROWS = {
    "text_delta": ("text", "text", "text"),
    "thinking_delta": ("thinking", "thinking", "thinking"),
    "input_json_delta": ("partial_json", "", "tool_use"),
}
_REPLACES = {"signature_delta": "thinking", "compaction_delta": "compaction"}


@dataclass(slots=True)
class _Block:
    fields: dict[str, Any]
    parts: dict[str, list[str]] = field(default_factory=dict)
    citations: list[Any] = field(default_factory=list)
    ended: bool = False
    unknown: Deltas = field(default_factory=Deltas)
    """Deltas of types that we do not know, by type."""

    def whole(self) -> dict[str, Any]:
        block = dict(self.fields)
        for name, parts in self.parts.items():
            before = block.get(name) if name else ""
            text = scrub((before if isinstance(before, str) else "") + "".join(parts))
            if name:
                block[name] = text
            elif text:  # the input of a tool; what is no JSON yet, or never was, stays as it came
                value, trouble = load_json(text)
                block["input"] = text if trouble else value
        if self.citations:
            before = block.get("citations")
            block["citations"] = [*(before if isinstance(before, list) else []), *self.citations]
        return self.unknown.whole() | block


class Accumulator:
    """Takes a stream's events in order; never raises on what they hold."""

    def __init__(self, call: ModelCall) -> None:
        self.done = False
        self._call = call
        self._message: dict[str, Any] | None = None
        self._blocks: list[_Block] = []
        self._places: dict[int, _Block] = {}

    def feed(self, event: dict[str, Any], name: str = "") -> None:
        """Take one event; `name` is its type where the event itself does not say."""
        kind = as_text(event.get("type")) or name
        if name not in ("", "message", kind):
            once(self._call, f"an event named {name[:80]!r} that says to be {kind[:80]!r}: clients go by the name")
        if self.done and kind != "ping":
            once(self._call, f"{kind[:80]} after the message's end")
        if kind == "message_start":
            self._start(event)
        elif kind == "content_block_start":
            begun = event.get("content_block")
            self._begin(event, dict(begun) if isinstance(begun, dict) else {})
        elif kind == "content_block_delta":
            self._delta(event)
        elif kind == "message_delta":
            self._end(event)
        elif kind == "message_stop":
            self.done = True
            self._keep(event, ("type",))
        elif kind == "error" or (not kind and "error" in event):
            self._call.error = error_text(event.get("error"))
        elif kind == "content_block_stop":
            if (block := self._places.get(_place(event, len(self._blocks) - 1))) is not None:
                block.ended = True
        elif kind != "ping":
            once(self._call, f"an event of an unknown type: {kind[:80]!r}")
            kept = self._call.extra.setdefault("unknown events", [])
            if isinstance(kept, list) and len(kept) < 100:
                kept.append(event)

    def message(self) -> dict[str, Any] | None:
        """The message as far as it came; None where nothing of it did."""
        if self._message is None and not self._blocks:
            return None
        if left := sum(block.unknown.left_out for block in self._blocks):
            once(self._call, f"{left} fields or entries of unknown deltas are left out")
        return {**(self._message or {}), "content": [block.whole() for block in self._blocks]}

    def written(self) -> list[str]:
        """What came of each block's input, as the model wrote it; empty where nothing did."""
        return [scrub("".join(block.parts.get("", []))) for block in self._blocks]

    def _start(self, event: dict[str, Any]) -> None:
        message = event.get("message")
        if self._message is not None:
            self._call.problem("the stream begins a second message")
        if not isinstance(message, dict):
            self._call.problem("message_start without a message")
            message = {}
        if self._message is None:
            self._message = dict(message)
        for key, value in message.items():
            self._message.setdefault(key, value)
        content = message.get("content")
        for place, block in enumerate(content[:MAX_BLOCKS] if isinstance(content, list) else []):
            if isinstance(block, dict):
                self._begin({"index": place}, dict(block))

    def _begin(self, event: dict[str, Any], block: dict[str, Any]) -> _Block:
        place = _place(event, len(self._blocks))
        if place in self._places:
            once(self._call, "two content blocks of one index")
        if len(self._blocks) >= MAX_BLOCKS:
            once(self._call, f"more than {MAX_BLOCKS} content blocks, the rest is left out")
            return _Block(block)
        found = self._places[place] = _Block(block)
        self._blocks.append(found)
        target = block.get("to")
        if block.get("type") == "fallback" and isinstance(target, dict) and self._message is not None:
            # Another model took over; the last one to do so is the one that answered.
            self._message["model"] = target.get("model") or self._message.get("model")
        return found

    def _delta(self, event: dict[str, Any]) -> None:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            once(self._call, "content_block_delta without a delta")
            return
        kind = as_text(delta.get("type"))
        grows = _GROWS.get(kind)
        block = self._places.get(_place(event, len(self._blocks) - 1))
        if block is None:
            once(self._call, "a delta of a content block that never began")
            block = self._begin(event, {"type": grows[2] if grows else _REPLACES.get(kind, "text")})
        if block.ended:
            once(self._call, "a delta of a content block that had ended")
        if grows:
            # Not scrubbed yet: halves of a character may meet across deltas.
            part = delta.get(grows[0])
            block.parts.setdefault(grows[1], []).append(part if isinstance(part, str) else as_text(part))
        elif kind == "citations_delta":
            block.citations.append(delta.get("citation"))
        elif kind in _REPLACES:
            block.fields |= {k: v for k, v in delta.items() if k != "type"}
        else:
            once(self._call, f"a delta of an unknown type: {kind[:80]!r}")
            block.unknown.add({kind or "delta": {k: v for k, v in delta.items() if k != "type"}})

    def _end(self, event: dict[str, Any]) -> None:
        message = self._message if self._message is not None else {}
        self._message = message
        delta, usage = event.get("delta"), event.get("usage")
        if isinstance(delta, dict):
            message.update({k: v for k, v in delta.items() if v is not None})
        if isinstance(usage, dict):
            # Counts are totals so far, not more of them; those that are absent stand as they were.
            before = message.get("usage")
            held = message["usage"] = before if isinstance(before, dict) else {}
            held.update({k: v for k, v in usage.items() if v is not None})
        self._keep(event, ("type", "delta", "usage"))

    def _keep(self, event: dict[str, Any], known: tuple[str, ...]) -> None:
        message = self._message if self._message is not None else {}
        self._message = message
        message.update({k: v for k, v in event.items() if k not in known and v is not None})


def error_text(error: Any) -> str:
    """What an error object says, in its own words where it has any."""
    if isinstance(error, dict):
        return as_text(error.get("message"))[:2000] or as_json(error)[:2000]
    return as_text(error)[:2000] or "an error that says nothing"


def _place(event: dict[str, Any], default: int) -> int:
    index = event.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) else default
