"""The events of a streamed answer of OpenAI's Responses API, put together to the response that they tell of.

Spec: the OpenAPI document of the OpenAI API, ResponseStreamEvent. What an item's end says stands; where a stream was
cut before it, the deltas do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sandtrail.replay.models import openai_items as items
from sandtrail.replay.models.answer import as_text, once
from sandtrail.replay.models.call import ModelCall, scrub

__all__ = ["Events"]

MAX_ITEMS = 4096
MAX_PARTS = 256
MAX_KEPT = 100
MAX_FIELDS = 1000

_LIFECYCLE = frozenset({"created", "queued", "in_progress", "completed", "failed", "incomplete", "cancelled"})
_ENDS = frozenset({"completed", "failed", "incomplete", "cancelled"})
_PROGRESS = frozenset({"in_progress", "searching", "interpreting", "generating", "completed", "failed", "incomplete"})
# Signs of life, pictures that are not done yet, and sound: nothing of the decision is in them.
_PASSING = ("keepalive", "ping", "response.compaction.", "response.steer.", "response.audio.")


class _Text(NamedTuple):
    """Where in an item a text lies that comes in deltas: `item[field]`, `item[field][index]`, or a key of that."""

    item: str
    """The type of item that it is of."""
    field: str
    place: str = ""
    """The event's name for the place in a list."""
    part: str = ""
    """The type of the part at that place."""
    key: str = "text"


_TEXTS = {
    "output_text": _Text("message", "content", "content_index", "output_text"),
    "refusal": _Text("message", "content", "content_index", "refusal", "refusal"),
    "reasoning_text": _Text("reasoning", "content", "content_index", "reasoning_text"),
    "reasoning_summary_text": _Text("reasoning", "summary", "summary_index", "summary_text"),
    "function_call_arguments": _Text("function_call", "arguments"),
    "mcp_call_arguments": _Text("mcp_call", "arguments"),
    "custom_tool_call_input": _Text("custom_tool_call", "input"),
    "code_interpreter_call_code": _Text("code_interpreter_call", "code"),
    "shell_call_command": _Text("shell_call", "commands", "command_index"),
    "shell_call_output_content": _Text("shell_call_output", "output", "command_index"),
}
_PARTS = {"content_part": ("content", "content_index"), "reasoning_summary_part": ("summary", "summary_index")}

_Place = tuple[_Text, int, str]


class _Item:
    """An item of the output that is still coming."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.done = False
        self.texts: dict[_Place, list[str]] = {}

    def read(self) -> dict[str, Any]:
        """The item as far as it came."""
        if not self.done:
            if isinstance(action := self.value.get("action"), dict):
                self.value["action"] = dict(action)
            for place, pieces in self.texts.items():
                _put(self.value, place, scrub("".join(pieces)))
            for field in ("content", "summary", "output"):
                if isinstance(parts := self.value.get(field), list):
                    self.value[field] = [part for part in parts if part is not None]
        return self.value


class Events:
    """Takes the events of one answer in order; never raises. What is odd about them becomes a problem of `call`."""

    def __init__(self, call: ModelCall) -> None:
        self.call = call
        self.response: dict[str, Any] = {}
        self.error: Any = None
        self.ended = False
        """The event came after which there is nothing more."""
        self.spoken: list[str] = []
        """What was said aloud, in pieces."""
        self._items: dict[int, _Item] = {}
        self._number: int | None = None

    def take(self, event: dict[str, Any]) -> None:
        """Take one event."""
        self._count(event.get("sequence_number"))
        name = as_text(event.get("type"))
        head, _, what = name.removeprefix("response.").rpartition(".")
        if name == "error":
            self.error = event.get("error") or event
            self.ended = True
        elif not head and what in _LIFECYCLE:
            self._lifecycle(event, what)
        elif head == "output_item" and what in ("added", "done"):
            self._item(event, event.get("item"), done=what == "done")
        elif head in _PARTS and what in ("added", "done"):
            self._part(event, *_PARTS[head])
        elif head in _TEXTS and what in ("added", "delta", "done"):
            self._text(event, _TEXTS[head], what)
        elif name == "response.audio.transcript.delta":
            self.spoken.append(as_text(event.get("delta")))
        elif name == "response.output_text.annotation.added":
            self._annotation(event)
        elif head.endswith(("_call", "mcp_list_tools")) and what in _PROGRESS:
            self._progress(event, head, what)
        elif not name.startswith(_PASSING) and what != "partial_image":
            once(self.call, f"an event of unknown type {name[:80]!r}")
            kept = self.call.extra.setdefault("events", [])
            if len(kept) < MAX_KEPT:
                kept.append(event)

    def output(self) -> list[dict[str, Any]]:
        """The items of the answer: what its end says, or else what came; what its end leaves out is kept and named."""
        came = [item.read() for _, item in sorted(self._items.items())]
        told = self.response.get("output")
        final = [item for item in told if isinstance(item, dict)] if self.ended and isinstance(told, list) else []
        if not final:
            return came
        names = {_identity(item) for item in final}
        missing = [item for item in came if _identity(item) not in names]
        before = {_identity(item.value): item.value for item in self._items.values() if item.done}
        if other := sum(_identity(item) in before and _says(before[_identity(item)]) != _says(item) for item in final):
            self.call.problem(f"the answer's end says something else of {other} items than came before")
        if missing:
            self.call.problem(f"the answer's end leaves out {len(missing)} items that came before")
        return final + missing

    def _count(self, number: Any) -> None:
        if not isinstance(number, int) or isinstance(number, bool):
            return
        if self._number is not None and number <= self._number:
            self.call.problem(f"event {number} came again, or out of order")
        elif self._number is not None and number != self._number + 1:
            self.call.problem(f"events {self._number + 1} to {number - 1} are missing")
        self._number = max(number, self._number or 0)

    def _lifecycle(self, event: dict[str, Any], what: str) -> None:
        response = event.get("response")
        self.ended = self.ended or what in _ENDS
        if not isinstance(response, dict):
            self.call.problem(f"response.{what} without a response")
            response = {}
        before = self.response.get("id")
        if before is not None and response.get("id", before) != before:
            once(self.call, f"events of another response, {as_text(response['id'])[:80]}, in the same stream")
        for key, value in response.items():
            if value is not None and (key in self.response or len(self.response) < MAX_FIELDS):
                self.response[key] = value
        if what in _ENDS and response.get("status") is None:
            self.response["status"] = what

    def _at(self, event: dict[str, Any], kind: str) -> _Item | None:
        """The item that an event is of, made where its beginning was not seen."""
        index = _index(event.get("output_index"), MAX_ITEMS)
        if index is None:
            once(self.call, f"{as_text(event.get('type'))[:80]} without a place in the output")
            return None
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item()
            if kind:
                item.value = {"type": kind, "id": event.get("item_id")}
        return item

    def _item(self, event: dict[str, Any], value: Any, *, done: bool) -> None:
        item = self._at(event, "") if isinstance(value, dict) else None
        if item is None or item.done:
            self.call.problem(f"{as_text(event.get('type'))} without an item, or once more")
            return
        item.done = done
        item.value = dict(value)
        if done:
            for place, pieces in item.texts.items():
                self._compare(pieces, _get(value, place))
            item.texts = {}

    def _part(self, event: dict[str, Any], field: str, index: str) -> None:
        item, place, part = self._at(event, ""), _index(event.get(index)), event.get("part")
        if item is None or item.done or place is None or not isinstance(part, dict):
            self._placeless(event, item, place)
            return
        _grown(_list(item.value, field), place)[place] = dict(part)

    def _text(self, event: dict[str, Any], text: _Text, what: str) -> None:
        item = self._at(event, text.item)
        index = _index(event.get(text.place)) if text.place else 0
        if item is None or index is None or item.done:
            self._placeless(event, item, index)
            return
        for key, value in _values(event, text, what):
            pieces = item.texts.setdefault((text, index, key), [])
            if what == "delta":
                pieces.append(value)
            elif what == "done":
                self._compare(pieces, value)
                pieces[:] = [value]
            else:
                pieces[:] = [value]

    def _placeless(self, event: dict[str, Any], item: _Item | None, place: int | None) -> None:
        if item is not None and place is None:
            once(self.call, f"{as_text(event.get('type'))[:80]} without a place in its item")

    def _compare(self, pieces: list[str], end: Any) -> None:
        """What came in deltas against what the end says: a client that showed the one acted on the other."""
        if pieces and isinstance(end, str) and "".join(pieces) != end:
            self.call.problem("the deltas of a text say something else than its end")

    def _annotation(self, event: dict[str, Any]) -> None:
        item, place = self._at(event, "message"), _index(event.get("content_index"))
        parts = _list(item.value, "content") if item is not None and not item.done else []
        if place is not None and place < len(parts) and isinstance(parts[place], dict):
            _list(parts[place], "annotations").append(event.get("annotation"))

    def _progress(self, event: dict[str, Any], kind: str, what: str) -> None:
        item = self._at(event, kind)
        if item is not None and not item.done:
            item.value["status"] = what


def _values(event: dict[str, Any], text: _Text, what: str) -> Iterator[tuple[str, str]]:
    """The texts of an event, and the key of each in its part."""
    value = event.get("delta") if what == "delta" else event.get(text.key, event.get(text.field))
    if text.item == "shell_call":
        value = event.get("delta") if what == "delta" else event.get("command")
    if text.item == "shell_call_output":
        if what == "delta" and isinstance(value, dict):
            yield from ((key, value[key]) for key in ("stdout", "stderr") if isinstance(value.get(key), str))
    elif isinstance(value, str):
        yield text.key, value


def _index(value: Any, limit: int = MAX_PARTS) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit else None


def _list(value: dict[str, Any], field: str) -> list[Any]:
    """The list of a field, made where there is none."""
    held = value.get(field)
    if isinstance(held, list):
        return held
    made = value[field] = []
    return made


def _grown(entries: list[Any], place: int) -> list[Any]:
    """With room for an entry at `place`."""
    entries += [None] * (place + 1 - len(entries))
    return entries


def _put(item: dict[str, Any], place: _Place, words: str) -> None:
    text, index, key = place
    if not text.place:
        item[text.field] = words
        return
    if text.field == "commands":
        action = item.get("action")
        if not isinstance(action, dict):
            action = item["action"] = {}
        item = action
    entries = _grown(_list(item, text.field), index)
    if text.field == "commands":
        entries[index] = words
    else:
        held = entries[index]
        kind = {"type": text.part} if text.part else {}
        entries[index] = {**kind, **(held if isinstance(held, dict) else {}), key: words}


def _get(item: dict[str, Any], place: _Place) -> Any:
    text, index, key = place
    if not text.place:
        return item.get(text.field)
    action = item.get("action") if text.field == "commands" else item
    entries = action.get(text.field) if isinstance(action, dict) else None
    entry = entries[index] if isinstance(entries, list) and index < len(entries) else None
    return entry.get(key) if isinstance(entry, dict) else entry


def _says(item: dict[str, Any]) -> tuple[str, str, Any]:
    """What of an item a client shows or does."""
    tool = items.tool_call(item)
    return items.words(item), items.refusal(item), tool and (tool.name, tool.arguments)


def _identity(item: dict[str, Any]) -> tuple[str, str]:
    return as_text(item.get("type")), as_text(item.get("call_id") or item.get("id"))
