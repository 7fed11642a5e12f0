"""Which model call continues which: conversations told apart by the hashes of their message prefixes.

Chat APIs carry no conversation id; each request carries its whole history instead. A request whose messages begin
with all messages of an earlier one continues it; where several could be meant, the one whose answer it holds. One that
shares only a part of them has an edited history, which is evidence and not an error. One that shares no more than the
system's words starts a thread of its own, unless it holds messages of another's past, or the summary that took their
place. Where an API names what is continued, that counts, and a history that says otherwise is told.

Each call costs time in proportion to its messages, however many calls there were.
"""

from __future__ import annotations

from sandtrail.replay.models.call import Message, ModelCall
from sandtrail.replay.turns.beginnings import Beginnings, Seen
from sandtrail.replay.turns.history import Answer, Digests, changed, digests, lost, past_answer, shown, system
from sandtrail.replay.turns.place import Place

__all__ = ["Place", "Threads"]

MAX_SAME = 32
"""Calls with the same messages among which the one that is continued is looked for."""
MAX_QUOTED = 100_000
DISTINCT = 20
"""A message of fewer characters may be in many conversations; a tool's result is told by its call's id."""
REMNANT = 50
"""So many messages from the end on are looked up where the beginning is not known."""


class Threads:
    """Takes the calls of a session in the order of their requests, and their answers when these come."""

    def __init__(self) -> None:
        self._seen: list[Seen] = []
        self._ends: dict[bytes, list[Seen]] = {}
        self._bare: dict[bytes, Seen] = {}
        self._prefixes: dict[bytes, Seen] = {}
        self._owners: dict[bytes, int] = {}
        self._given: dict[Answer, Seen] = {}
        self._latest: dict[int, Seen] = {}
        self._responses: dict[str, Seen] = {}
        self._conversations: dict[str, int] = {}
        self._beginnings = Beginnings()
        self._above: dict[tuple[bytes, ...], int] = {}
        self._count = 0

    def add(self, call: ModelCall) -> Place:
        """Place the next call."""
        messages = call.messages
        seed = (call.previous or call.conversation).encode("utf-8", "replace")
        now = digests(messages, seed)
        above = tuple(d for d, brief in zip(now.each, now.briefs, strict=True) if system(brief.role))
        if call.previous or call.conversation:
            place = self._named(call, digests(messages))
        else:
            place = self._placed(now, messages, above)
            if call.input_cut:
                _cut_short(place)
        seen = Seen(len(self._seen), place, len(messages), now, above)
        self._seen.append(seen)
        self._keep(seen, now)
        if call.conversation:
            self._conversations[call.conversation] = place.thread
        return place

    def answered(self, number: int, call: ModelCall) -> None:
        """The call of this number was answered."""
        seen = self._seen[number]
        self._beginnings.answered(seen, call)
        for answer in seen.answers:
            if _distinct(answer):
                self._given[answer] = seen
        if call.response_id:
            self._responses[call.response_id] = seen

    def _keep(self, seen: Seen, now: Digests) -> None:
        thread = seen.place.thread
        before = self._latest.get(thread)
        if before is not None:
            before.digests = None
        self._latest[thread] = seen
        self._above[seen.above] = thread
        for digest, brief in zip(now.each, now.briefs, strict=True):
            if not system(brief.role) and (brief.tool_call_id or brief.size >= DISTINCT):
                self._owners[digest] = thread
        for digest in now.prefixes:
            self._prefixes[digest] = seen
        if now.prefixes:
            same = self._ends.setdefault(now.prefixes[-1], [])
            same.append(seen)
            del same[:-MAX_SAME]
            self._bare[now.bare[-1]] = seen

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    # named by the API

    def _named(self, call: ModelCall, plain: Digests) -> Place:
        """By the id of the response before, or of the conversation; such a request may hold its new messages only."""
        before = self._responses.get(call.previous) if call.previous else None
        thread = self._conversations.get(call.conversation) if call.conversation else None
        if before is not None:
            place = Place(before.place.thread, before.number)
            if before.continued:
                place.notes.append(f"branches off thread {place.thread}")
                place.thread = self._new()
            self._beginnings.continued(before)
        elif thread is not None:
            latest = self._latest[thread]
            place = Place(thread, latest.number)
            self._beginnings.continued(latest)
        else:
            place = Place(self._new())
            if call.previous:
                place.notes.append(f"continues response {call.previous[:80]}, which was not seen here")
        whole = self._longest_end(plain.prefixes, len(plain.prefixes))
        other = self._ends[plain.prefixes[whole - 1]][-1] if whole else None
        if other is not None and whole >= _opening(call.messages) and other.place.thread != place.thread:
            named = "response" if call.previous else "conversation"
            place.notes.append(f"the {named} that it names is of this thread, its messages are those of thread "
                               f"{other.place.thread}")  # fmt: skip
        return place

    # told by the messages

    def _placed(self, now: Digests, messages: list[Message], above: tuple[bytes, ...]) -> Place:
        known = self._known(now.prefixes)
        whole = self._longest_end(now.prefixes, known)
        if whole:
            same = self._ends[now.prefixes[whole - 1]]
            if whole == len(messages):
                return Place(same[-1].place.thread, same[-1].number, whole, [_again(same[-1])])
            return self._after(self._chosen(same, shown(messages, whole)), same, whole, now, messages)
        if known >= _opening(messages):
            near = self._latest[self._prefixes[now.prefixes[known - 1]].place.thread]
            held = set(near.digests.each[known:]) if near.digests is not None else set()
            fresh = now.briefs[known:]
            if held & set(now.each[known:]) or any(brief.role in ("assistant", "tool") for brief in fresh):
                return self._edited(near, now, messages)
        return self._bare_end(now, messages) or self._remnant(now, messages) or self._begins(now, messages, above)

    def _known(self, prefixes: list[bytes]) -> int:
        """The length of the longest beginning that an earlier call had too: they are all known up to it."""
        low, high = 0, len(prefixes)
        while low < high:
            middle = (low + high + 1) // 2
            if prefixes[middle - 1] in self._prefixes:
                low = middle
            else:
                high = middle - 1
        return low

    def _longest_end(self, prefixes: list[bytes], most: int) -> int:
        return next((length for length in range(most, 0, -1) if prefixes[length - 1] in self._ends), 0)

    def _chosen(self, same: list[Seen], back: Answer) -> Seen:
        """Of calls with the same messages the one whose answer follows; the first that nothing followed yet."""
        fitting = [seen for seen in same if seen.answers and changed(seen.answers, back) is None] or same
        fitting = [seen for seen in fitting if any(back.ids == answer.ids for answer in seen.answers)] or fitting
        return next((seen for seen in fitting if not seen.continued), fitting[-1])

    def _after(self, before: Seen, same: list[Seen], whole: int, now: Digests, messages: list[Message]) -> Place:
        thread, notes = before.place.thread, []
        if before.continued:
            latest = self._latest[thread]
            held = set(latest.digests.each[whole:]) if latest.digests is not None else set()
            if held & set(now.each[whole:]) or self._answer_in(latest, messages) is not None:
                # What came later is still there: not another way on, but another past.
                return self._edited(latest, now, messages)
            notes, thread = [f"branches off thread {thread}"], self._new()
        elif any(other.continued and other.place.thread == thread for other in same):
            # It was no second try: both went on. Its own call was where this thread began.
            before.place.thread = thread = self._new()
            before.place.notes[:] = [f"begins with the messages of thread {same[0].place.thread}"]
            before.place.parent, before.place.new_from = None, 0
            self._latest[thread] = before
        self._beginnings.continued(before)
        altered = changed(before.answers, shown(messages, whole))
        return Place(thread, before.number, past_answer(messages, whole), notes, altered=altered)

    def _edited(self, before: Seen, now: Digests, messages: list[Message]) -> Place:
        """It is of a thread, but of that one's past not all is there."""
        held = before.digests or digests(())
        answered = self._answer_in(before, messages)
        words, start = lost(held, now, answered)
        known = set(held.each)
        start = max((place + 1 for place, digest in enumerate(now.each) if digest in known), default=start)
        start = start if answered is None else answered
        self._beginnings.continued(before)
        back = shown(messages, start)
        altered = changed(before.answers, back) if back else None
        return Place(before.place.thread, before.number, past_answer(messages, start), [words], altered=altered)

    def _answer_in(self, before: Seen, messages: list[Message]) -> int | None:
        """Where a history holds the answer to a call; None where it does not, or that is not known."""
        for place in range(len(messages) - 1, max(-1, len(messages) - 1 - REMNANT), -1):
            if messages[place].role == "assistant" and any(map(_distinct, before.answers)):
                back = shown(messages, place)
                if back.ids == before.answers[0].ids and changed(before.answers, back) is None:
                    return place
        return None

    def _bare_end(self, now: Digests, messages: list[Message]) -> Place | None:
        """The same conversation under other words of the system."""
        for length in range(len(messages), 0, -1):
            before = self._bare.get(now.bare[length - 1])
            if before is None or system(messages[length - 1].role):
                continue
            back = shown(messages, length)
            spoken = any(brief.role == "assistant" for brief in now.briefs[:length])
            if back and (changed(before.answers, back) is None if before.answers else spoken):
                self._beginnings.continued(before)
                notes = ["the system's words are other ones than before"]
                altered = changed(before.answers, back)
                new_from = past_answer(messages, length)
                return Place(before.place.thread, before.number, new_from, notes, altered=altered)
        return None

    def _remnant(self, now: Digests, messages: list[Message]) -> Place | None:
        """Its beginning is gone, but what a thread had come to is in it: the last words, or the answer to them."""
        for place in range(len(messages) - 1, max(-1, len(messages) - 1 - REMNANT), -1):
            if messages[place].role == "assistant":
                given = self._given.get(shown(messages, place))
                if given is not None and self._latest[given.place.thread] is given:
                    return self._edited(given, now, messages)
                continue
            thread = self._owners.get(now.each[place])
            latest = self._latest[thread] if thread is not None else None
            if latest is None or latest.digests is None or latest.digests.each[-1] != now.each[place]:
                continue
            # Others may have been told the same; the answer to it is this one's own.
            back = shown(messages, place + 1)
            if not latest.answers or (back and changed(latest.answers, back) is None):
                return self._edited(latest, now, messages)
        return None

    def _begins(self, now: Digests, messages: list[Message], above: tuple[bytes, ...]) -> Place:
        """A thread of its own, or one that goes on from a summary of itself."""
        first = next((message.text for message in messages if not system(message.role)), "")[:MAX_QUOTED]
        starter = self._beginnings.starter(first)
        if starter is None and (said := self._beginnings.summary(first)) is not None:
            thread = said.place.thread if said.above == above else self._above.get(above, said.place.thread)
            before = self._latest[thread]
            self._beginnings.continued(before)
            instead = f"what turn {said.number + 1} answered stands in their place"
            return Place(thread, before.number, 0, [f"history compacted: its messages are gone, {instead}"])
        return Place(self._new(), started_by=starter)


def _distinct(answer: Answer) -> bool:
    """Whether no other call is likely to be answered like this."""
    return any(answer.ids) or len(answer.text) >= DISTINCT


def _cut_short(place: Place) -> None:
    """The request was recorded in part: what is not there tells nothing."""
    place.altered = None
    if place.parent is None:
        place.notes.append("its request was not recorded whole: it may continue a conversation that is here too")
    else:
        place.notes = [f"as far as its request was recorded: {note}" for note in place.notes]


def _again(before: Seen) -> str:
    """A note on a call with the messages of an earlier one: mostly a second try."""
    had = "which had been answered" if before.answers else "to which no whole answer had come"
    return f"asked again: the same messages as in turn {before.number + 1}, {had}"


def _opening(messages: list[Message]) -> int:
    """How many messages two calls must share to be of one conversation: the system's and the first of the user."""
    for number, message in enumerate(messages, start=1):
        if not system(message.role):
            return number
    return len(messages) + 1
