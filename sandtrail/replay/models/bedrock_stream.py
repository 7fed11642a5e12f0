"""The streamed answer of Bedrock's Converse, put together from its events.

Spec: the Bedrock Runtime API, ConverseStreamOutput: messageStart, contentBlockStart, contentBlockDelta,
contentBlockStop, messageStop, metadata. Strings are gathered in parts and joined once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandtrail.replay.models import eventstream
from sandtrail.replay.models.answer import as_text, once
from sandtrail.replay.models.bedrock_blocks import MAX_BLOCKS
from sandtrail.replay.models.body import load_json
from sandtrail.replay.models.call import ModelCall, scrub
from sandtrail.replay.models.deltas import Deltas

__all__ = ["Accumulator", "events"]

MAX_KEPT = 10_000


def events(call: ModelCall, response: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a binary stream with their kinds; what is wrong with them, and exceptions, are told in the call."""
    for event in eventstream.parse(response):
        for text in event.problems:
            call.problem(text)
        found, trouble = load_json(event.payload) if event.payload else ({}, "")
        if event.headers.get(":message-type") in ("exception", "error"):
            said = found.get("message", found.get("Message")) if isinstance(found, dict) else None
            said = said or event.headers.get(":error-message") or event.payload[:2000].decode("utf-8", "replace")
            name = event.headers.get(":exception-type") or event.headers.get(":error-code") or "an exception"
            call.error = scrub(f"{name}: {as_text(said)}")[:2000]
        elif isinstance(found, dict):
            if event.whole or found:
                yield event.headers.get(":event-type", ""), found
        else:
            call.problem(f"an event that is not a JSON object{f': {trouble}' if trouble else ''}")
            if not event.whole:
                call.extra["cut event"] = scrub(event.payload[:MAX_KEPT].decode("utf-8", "replace"))


@dataclass(slots=True)
class _Block:
    fields: dict[str, Any] = field(default_factory=dict)
    """What its start said."""
    text: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    reasoning: dict[str, Any] = field(default_factory=dict)
    citations: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    ended: bool = False
    unknown: Deltas = field(default_factory=Deltas)

    def whole(self) -> dict[str, Any]:
        block = dict(self.fields)
        use, result = block.get("toolUse"), block.get("toolResult")
        if isinstance(use, dict) or self.arguments:
            text = scrub("".join(self.arguments))
            value, trouble = load_json(text) if text else ({}, "")
            block["toolUse"] = {**(use if isinstance(use, dict) else {}), "input": text if trouble else value}
        if isinstance(result, dict) or self.results:
            told = _run_together(self.results)
            block["toolResult"] = {**(result if isinstance(result, dict) else {}), "content": told}
        if self.thought or self.reasoning:
            thought = {k: v for k, v in self.reasoning.items() if k != "signature"}
            if self.thought or "signature" in self.reasoning:
                said = {"text": scrub("".join(self.thought))}
                sign = {"signature": self.reasoning["signature"]} if "signature" in self.reasoning else {}
                thought["reasoningText"] = said | sign
            block["reasoningContent"] = thought
        if self.citations:
            said = {"text": scrub("".join(self.text))}
            block["citationsContent"] = {"content": [said], "citations": self.citations}
        elif self.text:
            block["text"] = scrub("".join(self.text))
        return self.unknown.whole() | block


def _run_together(deltas: list[Any]) -> list[Any]:
    """Deltas of a tool's result; words that follow each other are one text."""
    out: list[Any] = []
    words: list[str] = []
    for delta in [*deltas, None]:
        if isinstance(delta, dict) and isinstance(delta.get("text"), str):
            words.append(delta["text"])
            continue
        if words:
            out.append({"text": scrub("".join(words))})
            words = []
        if delta is not None:
            out.append(delta)
    return out


class Accumulator:
    """Takes a stream's events in order; never raises on what they hold."""

    def __init__(self, call: ModelCall) -> None:
        self.reason: Any = None
        self.done = False
        self._call = call
        self._role: str | None = None
        self._blocks: list[_Block] = []
        self._places: dict[int, _Block] = {}

    def feed(self, kind: str, event: dict[str, Any]) -> None:
        """Take one event of a kind."""
        if self.done and kind != "metadata":
            once(self._call, f"{kind[:80]} after the message's end")
        if kind == "messageStart":
            self._role = as_text(event.get("role"))
        elif kind == "contentBlockStart":
            begun = event.get("start")
            self._begin(event).fields = dict(begun) if isinstance(begun, dict) else {}
        elif kind == "contentBlockDelta":
            delta = event.get("delta")
            block = self._block(event)
            if block.ended:
                once(self._call, "a delta of a content block that had ended")
            for name, value in delta.items() if isinstance(delta, dict) else []:
                self._delta(block, name, value)
        elif kind == "messageStop":
            self.done, self.reason = True, event.get("stopReason")
            self._keep(event, ("stopReason",))
        elif kind == "metadata":
            if isinstance(event.get("usage"), dict):
                self._call.usage = event["usage"]
            self._keep(event, ("usage",))
        elif kind == "contentBlockStop":
            if _place(event) in self._places:
                self._places[_place(event)].ended = True
        else:
            once(self._call, f"an event of an unknown type: {kind[:80]!r}")
            kept = self._call.extra.setdefault("unknown events", [])
            if isinstance(kept, list) and len(kept) < 100:
                kept.append({kind: event})

    def message(self) -> dict[str, Any] | None:
        """The message as far as it came; None where nothing of it did."""
        if self._role is None and not self._blocks and not self.done:
            return None
        if left := sum(block.unknown.left_out for block in self._blocks):
            once(self._call, f"{left} fields or entries of unknown deltas are left out")
        return {"role": self._role or "assistant", "content": [block.whole() for block in self._blocks]}

    def written(self) -> list[str]:
        """What came of each block's input, as the model wrote it; empty where nothing did."""
        return [scrub("".join(block.arguments)) for block in self._blocks]

    def _begin(self, event: dict[str, Any]) -> _Block:
        place = _place(event)
        if place in self._places:
            once(self._call, "two content blocks of one index")
        block = self._places[place] = _Block()
        if len(self._blocks) < MAX_BLOCKS:
            self._blocks.append(block)
        else:
            once(self._call, f"more than {MAX_BLOCKS} content blocks, the rest is left out")
        return block

    def _block(self, event: dict[str, Any]) -> _Block:
        # Blocks of text and thought have no start.
        return self._places.get(_place(event)) or self._begin(event)

    def _delta(self, block: _Block, name: str, value: Any) -> None:
        if name == "text":
            block.text.append(value if isinstance(value, str) else as_text(value))
        elif name == "toolUse" and isinstance(value, dict):
            block.arguments.append(value["input"] if isinstance(value.get("input"), str) else "")
        elif name == "reasoningContent" and isinstance(value, dict):
            if isinstance(value.get("text"), str):
                block.thought.append(value["text"])
            block.reasoning |= {k: v for k, v in value.items() if k != "text" and v is not None}
        elif name == "citation":
            block.citations.append(value)
        elif name == "toolResult" and isinstance(value, list):
            block.results += value[:MAX_BLOCKS]
        elif name == "image" and isinstance(value, dict):
            block.unknown.add({name: value})
        else:
            once(self._call, f"a delta of an unknown kind: {name[:80]!r}")
            block.unknown.add({name: value})

    def _keep(self, event: dict[str, Any], known: tuple[str, ...]) -> None:
        for key, value in event.items():
            # "p" is padding, which hides how long an event's words are.
            if key not in known and key != "p" and value is not None and len(self._call.extra) < 100:
                self._call.extra[scrub(key)] = value


def _place(event: dict[str, Any]) -> int:
    index = event.get("contentBlockIndex")
    return index if isinstance(index, int) and not isinstance(index, bool) else 0
