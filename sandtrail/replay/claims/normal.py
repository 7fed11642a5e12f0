"""An item -> a claim: one map, whatever the sender's convention.

```
{"operation", "conventions": [str], "provider", "model", "response_model", "response_id", "conversation", "workflow",
 "agent": {"id", "name"}, "tool": {"name", "id", "type", "arguments", "result"}, "usage": {"input", "output", …},
 "input": [Message], "input_total", "output": [Message], "finish_reasons": [str], "error", "streamed", "mcp": {…},
 "name", "trace", "span", "parent", "start_ns", "end_ns", "service", "scope", "severity", "body", "more": {the rest}}
Message = {"role", "text", "tool_calls": [{"id", "name", "arguments"}], "tool_call_id", "finish_reason"}
```

What the sender did not say is not there. Everything is text from the sandbox: capped, and believed of nothing.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sandtrail.replay.claims.conventions import CONVENTIONS, DETAILS_EVENTS, MESSAGE_EVENTS, Convention
from sandtrail.replay.claims.item import Item, Message
from sandtrail.replay.claims.messages import MAX_MESSAGES, as_messages, words
from sandtrail.replay.decode.text import as_text, fit
from sandtrail.replay.models.body import load_json

__all__ = ["claim_of"]

MAX_TEXT: Final = 4000
_MAX_ARGUMENTS: Final = 8000
_MAX_MORE: Final = 8000
_INDEXED = re.compile(r"(.+?)\.(\d{1,4})\.(.+)")
_NUMBERS = re.compile(r"\.(\d{1,4})(?=\.|$)")
_LONG: Final = frozenset({"tool.arguments", "tool.result"})
_KINDS: Final = {"span": "operation", "log": "event"}
_AS_MCP: Final = {"tools/call": "execute_tool"}


def claim_of(item: Item) -> dict[str, Any]:
    """The claim; never raises."""
    draft = _Draft()
    draft.take(item.attributes)
    for name, attributes in item.events:
        draft.event(name, attributes)
    name = item.name or as_text(item.attributes.get("event.name"), 200)
    if item.kind == "log":
        draft.event(name, item.body if isinstance(item.body, dict) else {}, item.attributes)
    claim = draft.claim(item)
    told = {
        "name": name[:400],
        "trace": item.trace[:64],
        "span": item.span[:64],
        "parent": item.parent[:64],
        "start_ns": min(item.start_ns, (1 << 63) - 1),
        "end_ns": min(item.end_ns, (1 << 63) - 1),
        "service": as_text(item.resource.get("service.name"), 200),
        "scope": item.scope,
    }
    if item.kind == "log":
        told |= {"severity": item.status[:40], "body": fit(item.body, MAX_TEXT) if item.body is not None else None}
    elif item.failed:
        told["error"] = claim.get("error") or item.status[:MAX_TEXT] or "failed"
    return claim | {key: value for key, value in told.items() if value not in ("", 0, None)}


class _Draft:
    """A claim in the making."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.lists: dict[str, dict[int, Message]] = {"input[]": {}, "output[]": {}}
        self.given: dict[str, list[Message]] = {"input[]": [], "output[]": []}
        self.more: dict[str, Any] = {}
        self.conventions: set[str] = set()

    def take(self, attributes: dict[str, Any]) -> None:
        """Attributes, by the first convention that knows each."""
        known = set()
        for convention in CONVENTIONS:
            for name, target in convention.fields.items():
                value = attributes.get(name)
                if value is not None and name not in known:
                    known.add(name)
                    self.conventions.add(convention.name)
                    self._put(convention, target, value, name)
        for name, value in attributes.items():
            if name not in known and not self._indexed(name, value):
                self.more[name] = value

    def _put(self, convention: Convention, target: str, value: Any, name: str) -> None:
        if target in self.given:
            messages = as_messages(value, "system" if name == "gen_ai.system_instructions" else "")
            self.given[target] += messages
            return
        if target == "operation":
            value = convention.operations.get(str(value), value)
        self.fields.setdefault(target, value)

    def _indexed(self, name: str, value: Any) -> bool:
        """An attribute like `gen_ai.prompt.0.content`."""
        found = _INDEXED.fullmatch(name)
        if found is None:
            return False
        for convention in CONVENTIONS:
            target = convention.messages.get(found[1])
            part = convention.parts.get(_NUMBERS.sub(".*", found[3])) if target else None
            if target is None or part is None:
                continue
            numbers = [int(number) for number in _NUMBERS.findall(f".{found[3]}")]
            self.conventions.add(convention.name)
            message = self.lists[target].setdefault(int(found[2]), {"role": "", "text": ""})
            _place(message, part, numbers, value)
            return True
        return False

    def event(self, name: str, told: dict[str, Any], beside: dict[str, Any] | None = None) -> None:
        """An event of a span with its attributes, or a log record with its body, and its attributes `beside` it."""
        if name in DETAILS_EVENTS:
            self.take(told)
        elif name in MESSAGE_EVENTS:
            self.conventions.add("genai-1.36")
            target, role = MESSAGE_EVENTS[name]
            told = told or beside or {}
            self.given[target] += as_messages(told.get("gen_ai.event.content", told), role)[:1]

    def claim(self, item: Item) -> dict[str, Any]:
        """The fields that are known, capped."""
        found: dict[str, Any] = {"conventions": sorted(self.conventions)} if self.conventions else {}
        for target, value in self.fields.items():
            head, dot, tail = target.partition(".")
            shown = _shown(target, value)
            if shown in ("", None, []):
                continue
            if dot:
                found.setdefault(head, {})[tail] = shown
            else:
                found[head] = shown
        for target, given in self.given.items():
            messages = [message for _, message in sorted(self.lists[target].items())] or given
            if messages:
                name = target.removesuffix("[]")
                found[name] = [_capped(message) for message in messages[-MAX_MESSAGES:]]
                found[f"{name}_total"] = len(messages)
        self._settle(found, item)
        if self.more:
            found["more"] = fit(self.more, _MAX_MORE)
        return found

    def _settle(self, found: dict[str, Any], item: Item) -> None:
        """What follows from the rest: some conventions say of what kind a value is only by the span's kind."""
        if "operation" not in found and (method := found.get("mcp", {}).get("method")):
            found["operation"] = _AS_MCP.get(method, f"mcp {method}")
        if item.name in MESSAGE_EVENTS or item.name in DETAILS_EVENTS:
            found.setdefault("operation", "chat")
        value, entity = found.pop("value", {}), found.pop("entity", "")
        operation = found.get("operation")
        if operation == "execute_tool":
            tool = found.setdefault("tool", {})
            tool.setdefault("name", entity or item.name[:200])
            for name, other in (("arguments", "input"), ("result", "output")):
                if other in value:
                    tool.setdefault(name, value[other])
        else:
            if entity and operation == "invoke_agent":
                found.setdefault("agent", {}).setdefault("name", entity)
            self._values(found, value)
        if "finish_reasons" not in found:
            reasons = [message["finish_reason"] for message in found.get("output", []) if message.get("finish_reason")]
            found |= {"finish_reasons": reasons} if reasons else {}

    def _values(self, found: dict[str, Any], value: dict[str, str]) -> None:
        """What OpenInference and Traceloop give as a whole: often the API's own JSON, with the answer's id."""
        answer, _ = load_json(str(self.fields.get("value.output", "")))
        if isinstance(answer, dict) and isinstance(answer.get("id"), str):
            found.setdefault("response_id", as_text(answer["id"], 200))
        for name in ("input", "output"):
            if name in value and name not in found:
                found[name] = [{"role": "", "text": value[name][:MAX_TEXT]}]


def _place(message: Message, part: str, numbers: list[int], value: Any) -> None:
    if part.startswith("tool_calls."):
        _, number, key = part.split(".")
        calls = message.setdefault("tool_calls", [])
        index = numbers[0] if number == "*" and numbers else 0
        while len(calls) <= min(index, 99):
            calls.append({"id": "", "name": "", "arguments": ""})
        calls[min(index, 99)][key] = words(value)
    elif part == "text":
        message["text"] = f"{message['text']}\n{words(value)}" if message["text"] else words(value)
    else:
        message[part] = words(value)


def _shown(target: str, value: Any) -> Any:
    if target.startswith("usage."):
        return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None
    if target == "finish_reasons":
        reasons = value if isinstance(value, list) else _listed(value)
        return [as_text(reason, 100) for reason in reasons[:20]]
    if target == "streamed":
        return value is True
    return words(value)[: _MAX_ARGUMENTS if target in _LONG or target.startswith("value.") else 1000]


def _listed(value: Any) -> list[Any]:
    found, trouble = load_json(value) if isinstance(value, str) and value.startswith("[") else (None, "")
    return found if isinstance(found, list) and not trouble else [value]


def _capped(message: Message) -> Message:
    kept: Message = {
        key: as_text(value, 200) for key, value in message.items() if key not in ("text", "tool_calls") and value
    }
    kept["role"] = as_text(message.get("role"), 100)
    text = as_text(message.get("text"), MAX_TEXT)
    kept["text"] = text if len(str(message.get("text") or "")) <= MAX_TEXT else f"{text}…"
    if calls := message.get("tool_calls"):
        kept["tool_calls"] = [
            {
                key: as_text(call.get(key), MAX_TEXT if key == "arguments" else 200)
                for key in ("id", "name", "arguments")
            }
            for call in calls[:20]
        ]
    return kept
