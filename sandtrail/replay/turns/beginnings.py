"""What a new thread comes from: the tool call that its first message quotes, or a summary of a conversation's past."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from sandtrail.replay.models.call import ModelCall, ToolCall
from sandtrail.replay.turns.history import Answer, Digests, answers_of, leaves
from sandtrail.replay.turns.place import Place, Started

__all__ = ["Beginnings", "Seen"]

MAX_OPEN = 64
"""So many of the latest answers are held against the first words of a new thread."""
LEAST_QUOTE = 12
LEAST_SUMMARY = 40


@dataclass(slots=True, eq=False)
class Seen:
    """A model call that was placed."""

    number: int
    place: Place
    length: int
    digests: Digests | None
    """Of a thread's latest call only."""
    above: tuple[bytes, ...] = ()
    """The system's words."""
    answers: list[Answer] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    continued: bool = False


class Beginnings:
    """Keeps the answers that a new thread may come from."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, Seen] = OrderedDict()
        self._said: deque[Seen] = deque(maxlen=MAX_OPEN)

    def answered(self, seen: Seen, call: ModelCall) -> None:
        """A call was answered: its tool calls are under way until something continues it."""
        seen.answers = answers_of(call)
        seen.tool_calls = [tool for tool in call.tool_calls[:200] if not tool.server]
        if seen.tool_calls and not seen.continued:
            self._open[seen.number] = seen
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        elif any(len(answer.text) >= LEAST_SUMMARY for answer in seen.answers):
            self._said.append(seen)

    def continued(self, seen: Seen) -> None:
        """Its tool calls have come back."""
        seen.continued = True
        self._open.pop(seen.number, None)

    def starter(self, first: str) -> Started | None:
        """The tool call under way whose arguments the first message quotes; the longest quote counts."""
        best: tuple[float, int, Started] | None = None
        for seen in self._open.values():
            for tool in seen.tool_calls:
                for text in leaves(tool.parsed if tool.parsed is not None else tool.arguments):
                    sure = _quoted(text.strip(), first.strip())
                    if sure and (best is None or (sure, len(text)) > best[:2]):
                        found = Started(seen.number, seen.place.thread, tool.id, tool.name, sure)
                        best = (sure, len(text), found)
        return best[2] if best is not None else None

    def summary(self, first: str) -> Seen | None:
        """The latest answer that stands in the first message word for word: a summary in place of what it sums up."""
        words = " ".join(first.split())
        for seen in reversed(self._said):
            if any(len(answer.text) >= LEAST_SUMMARY and answer.text in words for answer in seen.answers):
                return seen
        return None


def _quoted(text: str, first: str) -> float:
    """How sure it is that a first message was made of this text; 0 where it does not hold it."""
    if len(text) < LEAST_QUOTE or not first:
        return 0.0
    if text == first:
        return 0.95
    if text in first:
        return 0.9 if len(text) >= LEAST_SUMMARY else 0.7
    return 0.8 if len(first) >= LEAST_SUMMARY and first in text else 0.0
