"""What became of a conversation's past: earlier messages held against those that the model was shown next."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sandtrail.replay.models.call import Message, ModelCall, ToolCall

__all__ = [
    "Answer",
    "Brief",
    "Change",
    "Digests",
    "answers_of",
    "changed",
    "digests",
    "leaves",
    "lost",
    "past_answer",
    "rewritten",
    "shown",
    "system",
]

_PLACEHOLDER = re.compile(r"\{\{credential:[^{}]{0,120}\}\}")
MAX_STATED = 6
ADDED = 40
"""An answer that comes back with so few characters more at its end was closed, such as by a stop word."""


@dataclass(frozen=True, slots=True)
class Brief:
    """An earlier message, without its words."""

    role: str
    tool_call_id: str | None
    size: int


@dataclass(slots=True)
class Digests:
    """The messages of a call: hashes of each beginning, of each beginning without the system's words, of each one."""

    prefixes: list[bytes]
    bare: list[bytes]
    each: list[bytes]
    briefs: list[Brief]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered, or what it is shown as its own answer: words, and tools with their arguments."""

    text: str
    calls: tuple[tuple[str, str], ...]
    ids: tuple[str, ...] = ()
    """Of the calls; by these two answers are told apart that say the same."""

    def __bool__(self) -> bool:
        return bool(self.text or self.calls)


@dataclass(frozen=True, slots=True)
class Change:
    """How an answer differs from what the model is shown as its own."""

    kind: str
    """`tool calls`, `text`, `shortened`, `closed`, or `left out`."""
    words: str


def digests(messages: Sequence[Message], seed: bytes = b"") -> Digests:
    """Hash a call's messages. `seed` sets apart those that follow something which is not among them."""
    found = Digests([], [], [], [])
    running, bare = blake2b(seed, digest_size=16), blake2b(seed, digest_size=16)
    for message in messages:
        calls = [[c.id, c.name, c.arguments] for c in message.tool_calls]
        canonical = json.dumps([message.role, message.text, message.tool_call_id, calls]).encode() + b"\n"
        running.update(canonical)
        if not system(message.role):
            bare.update(canonical)
        found.prefixes.append(running.digest())
        found.bare.append(bare.digest())
        found.each.append(blake2b(canonical, digest_size=16).digest())
        found.briefs.append(Brief(message.role, message.tool_call_id, len(message.text)))
    return found


def system(role: str) -> bool:
    """Whether it is not the conversation's but stands above it."""
    return role in ("system", "developer")


def past_answer(messages: Sequence[Message], start: int) -> int:
    """Where what is new begins: behind the answer to the earlier call, and the results that came with that."""
    at, ran = start, set()
    while at < len(messages) and messages[at].role == "assistant":
        ran |= {call.id for call in messages[at].tool_calls if call.server}
        at += 1
        while at < len(messages) and ran and messages[at].role == "tool" and messages[at].tool_call_id in ran:
            at += 1
    return at


def shown(messages: Sequence[Message], start: int) -> Answer:
    """What the model is shown as its answer, from this message on."""
    said = [message for message in messages[start : past_answer(messages, start)] if message.role == "assistant"]
    return _answer("\n".join(m.text for m in said), [call for m in said for call in m.tool_calls])


def answers_of(call: ModelCall) -> list[Answer]:
    """What a model answered, a choice each; none where it did not arrive whole, since then nothing can be compared."""
    if call.cut or call.error is not None:
        return []
    return [_answer(choice.text or choice.refusal or "", choice.tool_calls) for choice in call.choices[:16]]


def _answer(text: str, calls: Sequence[ToolCall]) -> Answer:
    named = tuple((call.name, _arguments(call)) for call in calls[:200])
    return Answer(" ".join(text.split()), named, tuple(call.id for call in calls[:200]))


def _arguments(call: ToolCall) -> str:
    if call.parsed is None:
        return "" if call.arguments.strip() in ("", "{}") else call.arguments.strip()
    try:
        return json.dumps(call.parsed, sort_keys=True) if call.parsed != {} else ""
    except (RecursionError, ValueError):
        return call.arguments


def changed(given: Sequence[Answer], back: Answer) -> Change | None:
    """How an answer differs from what the model is shown as that; None where it does not, or nothing is known."""
    found = None
    for answer in given:
        found = _change(answer, back)
        if found is None:
            return None
    return found if any(given) else None


def _change(answer: Answer, back: Answer) -> Change | None:
    if not back:
        return Change("left out", "the answer is not in it") if answer else None
    if not _same_calls(answer.calls, back.calls):
        gone, new = Counter(answer.calls), Counter(back.calls)
        missing, other = list((gone - new).elements()), list((new - gone).elements())
        parts = [f"it answered {_stated(missing)}"] if missing else []
        parts += [f"it is shown {_stated(other)}"] if other else []
        return Change("tool calls", ", ".join(parts) or "its tool calls come in another order")
    if answer.text == back.text or _alike(answer.text, back.text):
        return None
    if not back.text or back.text in answer.text:
        return Change("shortened", f"{len(answer.text) - len(back.text)} characters of its words are left out")
    if back.text.startswith(answer.text) and len(back.text) - len(answer.text) <= ADDED:
        return Change("closed", f"its words go on with {back.text[len(answer.text) :].strip()!r}")
    at = next((n for n, (a, b) in enumerate(zip(answer.text, back.text, strict=False)) if a != b), 0)
    span = slice(max(0, at - 20), at + 60)
    return Change("text", f"it said “{answer.text[span]}”, it is shown “{back.text[span]}”")


def _same_calls(one: tuple[tuple[str, str], ...], other: tuple[tuple[str, str], ...]) -> bool:
    return one == other or (
        len(one) == len(other)
        and all(a[0] == b[0] and (a[1] == b[1] or _alike(a[1], b[1])) for a, b in zip(one, other, strict=True))
    )


def _alike(one: str, other: str) -> bool:
    """Whether they differ in nothing but credentials, of which the recorder may have found one on one side alone."""
    for marked, plain in ((one, other), (other, one)):
        pieces = _PLACEHOLDER.split(marked)
        if len(pieces) > 1:
            at = 0
            for piece in pieces:
                at = plain.find(piece, at)
                if at < 0:
                    break
                at += len(piece)
            else:
                return True
    return False


def _stated(calls: Sequence[tuple[str, str]]) -> str:
    said = [f"{name}({arguments[:120]})" for name, arguments in calls[:3]]
    return " and ".join(said) + (f" and {len(calls) - 3} more" if len(calls) > 3 else "")


def lost(before: Digests, now: Digests, answered: int | None = None) -> tuple[str, int]:
    """What of the messages shown before is not shown any more, in words, and how many are the same as they were first.

    `answered` is where the answer to them stands among those of now: it and what follows are no other words for them.
    Messages are paired in order, those between two pairs by their roles: one that has only other words was changed.
    """
    altered: list[Brief] = []
    gone: list[Brief] = []
    put = 0
    for old, new, tail in _runs(before.each, now.each[:answered]):
        pairs = 0
        for place, (a, b) in enumerate(zip(old, new, strict=False)):
            one, other = before.briefs[a], now.briefs[b]
            if (one.role, one.tool_call_id) != (other.role, other.tool_call_id):
                break
            altered.append(one)
            pairs = place + 1
        gone += [before.briefs[place] for place in old[pairs:]]
        put += 0 if tail and answered is None else len(new) - pairs
    alike = [a == b for a, b in zip(before.each, now.each, strict=False)]
    same = alike.index(False) if False in alike else len(alike)
    what = "compacted" if gone and put else "shortened" if gone and not altered else "edited"
    parts = [f"{len(altered)} have other words ({_kinds(altered)})"] if altered else []
    parts += [f"{len(gone)} are gone ({_kinds(gone)}, {sum(b.size for b in gone):,} characters)"] if gone else []
    parts += [f"{put} stand in their place"] if put and gone else [f"{put} were put in"] if put else []
    words = f"history {what}: the first {same} of {len(before.each)} earlier messages are as they were"
    return "; ".join([words, *parts]), same


def rewritten(
    before: Sequence[Message], now: Sequence[Message], until: int
) -> Iterator[tuple[Message | None, Message | None]]:
    """Messages that were shown before and what stands in their place now, paired as `lost` does; None where nothing is.

    `until` is where what is new begins; the answer to the messages before, which stands there, is nothing put in.
    """
    while until and now[until - 1].role == "assistant":
        until -= 1
    for old, new, _ in _runs(digests(before).each, digests(now[:until]).each):
        pairs = 0
        for place, (a, b) in enumerate(zip(old, new, strict=False)):
            if (before[a].role, before[a].tool_call_id) != (now[b].role, now[b].tool_call_id):
                break
            yield before[a], now[b]
            pairs = place + 1
        yield from ((before[a], None) for a in old[pairs:])
        yield from ((None, now[b]) for b in new[pairs:])


def _runs(old: list[bytes], new: list[bytes]) -> Iterator[tuple[list[int], list[int], bool]]:
    """What lies between messages that both have, in order: places in the old and in the new, whether at the end."""
    places: dict[bytes, list[int]] = {}
    for place in range(len(old) - 1, -1, -1):
        places.setdefault(old[place], []).append(place)
    at_old = at_new = 0
    for place, digest in enumerate(new):
        known = places.get(digest)
        while known and known[-1] < at_old:
            known.pop()
        if known:
            found = known.pop()
            yield list(range(at_old, found)), list(range(at_new, place)), False
            at_old, at_new = found + 1, place + 1
    yield list(range(at_old, len(old))), list(range(at_new, len(new))), True


def _kinds(briefs: Sequence[Brief]) -> str:
    counts = Counter("result" if brief.role == "tool" else brief.role or "?" for brief in briefs)
    words = ", ".join(f"{count} {role[:20]}" for role, count in counts.most_common())
    ids = [brief.tool_call_id[:40] for brief in briefs if brief.tool_call_id][:MAX_STATED]
    return words + (f": {', '.join(ids)}" if ids else "")


def leaves(value: Any, most: int = 200) -> Iterator[str]:
    """The strings in a tool call's arguments."""
    stack = [value]
    while stack and most > 0:
        node = stack.pop()
        most -= 1
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            stack += list(node.values())[:200]
        elif isinstance(node, list):
            stack += node[:200]
