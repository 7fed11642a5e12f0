"""Which model call continues which: conversations told apart by the hashes of their message prefixes.

Chat APIs carry no conversation id; each request carries its whole history instead. A request whose messages begin
with all messages of an earlier one continues it. One that shares only a part of them has an edited history, which is
evidence and not an error. One that shares no more than the system's words starts a thread of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b

from sandtrail.replay.models.call import Message

__all__ = ["Place", "Threads"]


@dataclass(slots=True)
class Place:
    """Where a call stands: its thread, what is new in it, and what happened to the history."""

    thread: int
    parent: int | None = None
    """The call that it continues, by number; None where it starts a thread."""
    new_from: int = 0
    """The first message that is new."""
    note: str | None = None
    """In plain words, where the history was edited, sent again or branched."""


@dataclass(slots=True)
class _Seen:
    call: int
    thread: int
    prefixes: list[bytes]
    each: list[bytes]
    """The messages one by one."""
    continued: bool = False


@dataclass(slots=True)
class Threads:
    """Takes the calls of a session in the order of their requests."""

    _seen: list[_Seen] = field(default_factory=list)
    _ends: dict[bytes, _Seen] = field(default_factory=dict)
    _latest: dict[int, _Seen] = field(default_factory=dict)
    _count: int = 0

    def add(self, messages: list[Message]) -> Place:
        """Place the next call."""
        prefixes, each = _digests(messages)
        place = self._place(prefixes, each, messages)
        seen = _Seen(len(self._seen), place.thread, prefixes, each)
        self._seen.append(seen)
        self._latest[place.thread] = seen
        if prefixes:
            self._ends[prefixes[-1]] = seen
        return place

    def _place(self, prefixes: list[bytes], each: list[bytes], messages: list[Message]) -> Place:
        for length in range(len(prefixes), 0, -1):
            before = self._ends.get(prefixes[length - 1])
            if before is None:
                continue
            if length == len(prefixes):
                return Place(before.thread, before.call, length, "the same messages again")
            thread, note = before.thread, None
            if before.continued:
                latest = self._latest[thread]
                common = set(latest.each[length:]) & set(each[length:])
                if common:
                    # What came later is still there: not another way on, but another past.
                    last = max(place for place, digest in enumerate(each) if digest in common)
                    return Place(thread, latest.call, _past_answer(messages, last + 1), _edited(length, latest))
                self._count += 1
                thread, note = self._count - 1, f"branches off thread {before.thread}"
            before.continued = True
            return Place(thread, before.call, _past_answer(messages, length), note)
        shared, before = self._closest(prefixes)
        if before is not None and shared >= _opening(messages):
            return Place(before.thread, before.call, shared, _edited(shared, before))
        self._count += 1
        return Place(self._count - 1)

    def _closest(self, prefixes: list[bytes]) -> tuple[int, _Seen | None]:
        """The latest call with the longest common beginning, among the last few hundred."""
        best: tuple[int, _Seen | None] = (0, None)
        for seen in reversed(self._seen[-300:]):
            low, high = 0, min(len(prefixes), len(seen.prefixes))
            while low < high:  # prefixes hash what is before them, so equality is monotone
                middle = (low + high + 1) // 2
                if prefixes[middle - 1] == seen.prefixes[middle - 1]:
                    low = middle
                else:
                    high = middle - 1
            if low > best[0]:
                best = (low, seen)
        return best


def _opening(messages: list[Message]) -> int:
    """How many messages two calls must share to be of one conversation: the system's and the first of the user."""
    for number, message in enumerate(messages, start=1):
        if message.role not in ("system", "developer"):
            return number
    return len(messages) + 1


def _past_answer(messages: list[Message], start: int) -> int:
    """Skip the answer to the earlier call: it was shown as that call's decision."""
    return start + 1 if start < len(messages) and messages[start].role == "assistant" else start


def _edited(shared: int, before: _Seen) -> str:
    return f"history edited: the first {shared} of {len(before.prefixes)} earlier messages are as they were"


def _digests(messages: list[Message]) -> tuple[list[bytes], list[bytes]]:
    """Of each beginning of the conversation, and of each message."""
    prefixes, each = [], []
    running = blake2b(digest_size=16)
    for message in messages:
        canonical = _canonical(message)
        running.update(canonical)
        prefixes.append(running.digest())
        each.append(blake2b(canonical, digest_size=16).digest())
    return prefixes, each


def _canonical(message: Message) -> bytes:
    calls = [[c.id, c.name, c.arguments] for c in message.tool_calls]
    return json.dumps([message.role, message.text, message.tool_call_id, calls]).encode() + b"\n"
