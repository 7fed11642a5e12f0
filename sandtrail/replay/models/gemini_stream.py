"""Answers of Gemini's API put together: chunks of candidates, and arguments of functions that come in pieces.

Spec: GenerateContentResponse, Candidate; FunctionCall.partialArgs and willContinue (Vertex AI). Each chunk is an answer
of its own with the parts that are new; strings are gathered and joined once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sandtrail.replay.models.answer import as_text, once
from sandtrail.replay.models.call import ModelCall, scrub
from sandtrail.replay.models.gemini_parts import MAX_PARTS, get

__all__ = ["Candidate"]

MAX_ITEMS = 10_000
_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,5})\]|\['([^']*)'\]|\["([^"]*)"\]""")


@dataclass(slots=True)
class _Text:
    """Parts of text that follow each other and say nothing else."""

    first: dict[str, Any]
    pieces: list[str]

    def whole(self) -> dict[str, Any]:
        return {**self.first, "text": scrub("".join(self.pieces))}


@dataclass(slots=True)
class _Function:
    """A part with a call of a function, whose arguments may still be coming in."""

    part: dict[str, Any]
    name: str
    call: dict[str, Any]
    leaves: dict[str, Any] = field(default_factory=dict)
    """Arguments by their JSON path; text as a list of its pieces."""
    going_on: bool = False

    def add(self, call: dict[str, Any]) -> None:
        self.going_on = get(call, "willContinue") is True
        partial = get(call, "partialArgs")
        for entry in partial if isinstance(partial, list) else []:
            if not isinstance(entry, dict):
                continue
            path, text = as_text(get(entry, "jsonPath")), get(entry, "stringValue")
            if isinstance(text, str):
                held = self.leaves.setdefault(path, [])
                if isinstance(held, list):
                    held.append(text)
            else:
                number, flag = get(entry, "numberValue"), get(entry, "boolValue")
                self.leaves[path] = number if number is not None else flag

    def whole(self) -> dict[str, Any]:
        if not self.leaves:
            return self.part
        known = self.call.get("args")
        args: dict[str, Any] = dict(known) if isinstance(known, dict) else {}
        unread: dict[str, Any] = {}
        for path, value in self.leaves.items():
            leaf = scrub("".join(value)) if isinstance(value, list) else value
            if not _put(args, path, leaf):
                unread[path] = leaf
        if unread:
            args["partialArgs"] = unread
        rest = {k: v for k, v in self.call.items() if k not in ("partialArgs", "partial_args")}
        return {**self.part, self.name: {**rest, "args": args}}


@dataclass(slots=True)
class Candidate:
    """One candidate of a streamed answer."""

    fields: dict[str, Any] = field(default_factory=dict)
    """Those beside the content; of those that come again the last stands."""
    role: str = ""
    _contents: int = 0
    _content: dict[str, Any] = field(default_factory=dict)
    """The last that came."""
    _parts: list[_Text | _Function | dict[str, Any]] = field(default_factory=list)

    def feed(self, raw: dict[str, Any], call: ModelCall) -> None:
        """Take this candidate's share of a chunk."""
        ended = get(self.fields, "finishReason") is not None
        self.fields.update({k: v for k, v in raw.items() if k != "content" and v is not None})
        content = raw.get("content")
        if not isinstance(content, dict):
            return
        self._contents, self._content = self._contents + 1, content
        self.role = as_text(content.get("role")) or self.role
        parts = content.get("parts")
        if ended and parts:
            once(call, "parts after the answer had said why it ended")
        for part in parts if isinstance(parts, list) else []:
            if not isinstance(part, dict):
                once(call, "a part that is no object")
            elif not self._continues(part):
                if len(self._parts) >= MAX_PARTS:
                    once(call, f"more than {MAX_PARTS} parts, the rest is left out")
                    return
                self._parts.append(_begun(part))

    def _continues(self, part: dict[str, Any]) -> bool:
        """Whether the part goes on with the one before, and was added to it."""
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Text) and _plain(part) and part.get("thought") == last.first.get("thought"):
            last.pieces.append(part["text"])
            return True
        asked = get(part, "functionCall")
        if isinstance(last, _Function) and last.going_on and isinstance(asked, dict) and not asked.get("name"):
            last.add(asked)
            return True
        return False

    def content(self) -> dict[str, Any]:
        """The content as far as it came; as it was sent where it came in one piece."""
        if self._contents == 1 and not any(isinstance(part, _Function) and part.leaves for part in self._parts):
            return self._content
        parts = [part if isinstance(part, dict) else part.whole() for part in self._parts]
        return {"role": self.role or "model", "parts": parts}


def _begun(part: dict[str, Any]) -> _Text | _Function | dict[str, Any]:
    if _plain(part):
        return _Text(part, [part["text"]])
    for name in ("functionCall", "function_call"):
        if isinstance(asked := part.get(name), dict):
            begun = _Function(part, name, asked)
            begun.add(asked)
            return begun
    return part


def _plain(part: dict[str, Any]) -> bool:
    return isinstance(part.get("text"), str) and part.keys() <= {"text", "thought"}


def _put(into: dict[str, Any], path: str, value: Any) -> bool:
    """Set what a JSON path (RFC 9535, names and indexes alone) leads to; False where it leads nowhere."""
    if not path.startswith("$"):
        return False
    steps: list[str | int] = []
    end = 1
    while match := _STEP.match(path, end):
        name = next(group for group in match.groups() if group is not None)
        steps.append(int(name) if match[2] is not None else scrub(name))
        end = match.end()
    if end != len(path) or not 0 < len(steps) <= 40:
        return False
    here: Any = into
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        fresh = value if after is None else [] if isinstance(after, int) else {}
        if isinstance(step, int):
            if not isinstance(here, list) or step > min(len(here), MAX_ITEMS):
                return False
            if step == len(here):
                here.append(fresh)
            elif after is None:
                here[step] = value
            here = here[step]
        else:
            if not isinstance(here, dict):
                return False
            here = here.setdefault(step, fresh)
    return True
