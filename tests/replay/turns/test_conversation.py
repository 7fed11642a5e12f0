from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models.call import Choice, Message, ModelCall, ToolCall
from sandtrail.replay.turns.conversation import Place, Threads


def say(*words: str) -> list[Message]:
    """`s…` is the system's, `u…` the user's, `a…` the assistant's, anything else a tool's."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [Message(roles.get(word[0], "tool"), word) for word in words]


def places(*calls: list[Message]) -> list[Place]:
    threads = Threads()
    return [threads.add(ModelCall("x", messages=call)) for call in calls]


def test_a_call_that_extends_an_earlier_one_continues_it() -> None:
    first, second, third = places(say("s", "u"), say("s", "u", "a1", "t1"), say("s", "u", "a1", "t1", "a2", "t2"))
    assert (first.thread, second.thread, third.thread) == (0, 0, 0)
    assert (second.parent, second.new_from) == (0, 3)
    assert (third.parent, third.new_from) == (1, 5)
    assert [place.note for place in (first, second, third)] == [None, None, None]


def test_the_same_messages_again_are_a_retry() -> None:
    _, again = places(say("s", "u"), say("s", "u"))
    assert again.thread == 0
    assert again.note == "asked again: the same messages as in turn 1, to which no whole answer had come"


def test_a_second_try_of_a_call_that_was_answered_says_so() -> None:
    threads, call = Threads(), ModelCall("x", messages=say("s", "u"), choices=[Choice(0, text="hello")])
    threads.add(call)
    threads.answered(0, call)
    assert threads.add(call).note == "asked again: the same messages as in turn 1, which had been answered"


def test_of_a_request_that_was_recorded_in_part_nothing_is_said_that_the_rest_could_change() -> None:
    threads = Threads()
    threads.add(ModelCall("x", messages=say("s", "u", "a", "u long")))
    again = threads.add(ModelCall("x", messages=say("s", "u", "a", "u long"), input_cut=True))
    assert again.note is not None
    assert again.note.startswith("as far as its request was recorded: asked again")
    nothing = threads.add(ModelCall("x", input_cut=True))
    assert nothing.thread == 1
    assert nothing.note is not None
    assert "it may continue a conversation that is here too" in nothing.note


def test_an_edited_history_is_reported_and_stays_in_its_thread() -> None:
    _, edited = places(say("s", "u", "a1", "t1"), say("s", "u", "a1 changed", "t1", "a2", "t2"))
    assert edited.thread == 0
    assert edited.note is not None
    assert "history edited" in edited.note


def test_an_answer_that_was_changed_afterwards_is_an_edit_and_no_branch() -> None:
    *_, edited = places(say("s", "u"), say("s", "u", "a1", "t1"), say("s", "u", "a9", "t1", "a2", "t2"))
    assert (edited.thread, edited.parent, edited.new_from) == (0, 1, 5)
    assert edited.note is not None
    assert "history edited" in edited.note


def test_a_sub_agent_with_the_same_system_words_is_a_thread_of_its_own() -> None:
    _, other, back = places(say("s", "u main"), say("s", "u sub"), say("s", "u main", "a1", "t1"))
    assert (other.thread, other.parent) == (1, None)
    assert (back.thread, back.parent) == (0, 0)


def test_two_that_go_on_from_the_same_point_branch() -> None:
    _, one, two, one_more = places(
        say("s", "u"), say("s", "u", "a1", "t1"), say("s", "u", "a2", "t2"), say("s", "u", "a1", "t1", "a3")
    )
    assert one.thread == 0
    assert (two.thread, two.note) == (1, "branches off thread 0")
    assert one_more.thread == 0


def test_no_messages_at_all_are_a_thread() -> None:
    assert [place.thread for place in places([], say("u"), [])] == [0, 1, 2]


@given(st.lists(st.lists(st.sampled_from(["s", "u1", "u2", "a1", "a2", "t"]), max_size=6), max_size=12))
def test_every_call_gets_a_place_whose_new_messages_exist(calls: list[list[str]]) -> None:
    threads = Threads()
    for number, words in enumerate(calls):
        place = threads.add(ModelCall("x", messages=say(*words)))
        assert 0 <= place.new_from <= len(words)
        assert place.parent is None or place.parent < number


def answering(text: str, *tools: tuple[str, str, str]) -> ModelCall:
    calls = [ToolCall(ident, name, given, json.loads(given)) for ident, name, given in tools]
    return ModelCall("x", choices=[Choice(0, text, tool_calls=calls, finish_reason="stop")])


def said(text: str, *tools: tuple[str, str, str]) -> Message:
    return Message("assistant", text, tool_calls=answering(text, *tools).tool_calls)


def result(ident: str, text: str) -> Message:
    return Message("tool", text, tool_call_id=ident)


class Story:
    """Calls and answers, one after the other."""

    def __init__(self) -> None:
        self.threads = Threads()
        self.count = 0

    def ask(self, *messages: Message, **more: Any) -> Place:
        self.count += 1
        return self.threads.add(ModelCall("x", messages=list(messages), **more))

    def answer(self, call: ModelCall, number: int | None = None, response_id: str = "") -> None:
        call.response_id = response_id
        self.threads.answered(self.count - 1 if number is None else number, call)


START = [Message("system", "be good"), Message("user", "fix the parser in the library")]
RUN = ("call_1", "bash", '{"command": "ls"}')


def test_an_answer_that_comes_back_as_it_was_is_not_remarked_on() -> None:
    story = Story()
    story.ask(*START)
    story.answer(answering("I look.\n", RUN))
    back = Message(
        "assistant", " I  look.", tool_calls=[ToolCall("call_1", "bash", '{"command":"ls"}', {"command": "ls"})]
    )
    place = story.ask(*START, back, result("call_1", "a"))
    assert (place.parent, place.new_from, place.note) == (0, 3, None)


@pytest.mark.parametrize(
    ("back", "kind", "words"),
    [
        (
            said("I look.", ("call_1", "bash", '{"command": "rm -rf /"}')),
            "tool calls",
            'is shown bash({"command": "rm -rf /"})',
        ),
        (said("I look."), "tool calls", 'it answered bash({"command": "ls"})'),
        (said("I destroy.", RUN), "text", "it said “I look.”"),
        (said("I look. </end>", RUN), "closed", "go on with '</end>'"),
        (said("", RUN), "shortened", "7 characters of its words are left out"),
    ],
)
def test_an_answer_that_was_changed_before_it_was_sent_back_is_told(back: Message, kind: str, words: str) -> None:
    story = Story()
    story.ask(*START)
    story.answer(answering("I look.", RUN))
    place = story.ask(*START, back, result("call_1", "a"))
    assert place.altered is not None
    assert place.altered.kind == kind
    assert words in place.altered.words
    assert "does not hold what the model answered" in (place.note or "")
    assert place.thread == 0


def test_an_answer_that_is_left_out_is_told() -> None:
    story = Story()
    story.ask(*START)
    story.answer(answering("I look.", RUN))
    place = story.ask(*START, Message("user", "go on"))
    assert place.altered is not None
    assert (place.altered.kind, place.new_from) == ("left out", 2)


def test_a_credential_that_was_found_on_one_side_only_changes_nothing() -> None:
    story = Story()
    story.ask(*START)
    story.answer(answering("the key is sk-123456 as told"))
    place = story.ask(*START, said("the key is {{credential:body:0011}} as told"), Message("user", "and?"))
    assert place.altered is None


def test_an_answer_that_did_not_arrive_whole_is_held_against_nothing() -> None:
    story = Story()
    story.ask(*START)
    cut = answering("I lo")
    cut.cut = True
    story.answer(cut)
    assert story.ask(*START, said("I look."), Message("user", "and?")).altered is None


def test_results_of_tools_that_ran_at_the_provider_are_not_new() -> None:
    search = ToolCall("srv_1", "web_search", "{}", {}, server=True)
    back = Message("assistant", "found", tool_calls=[search])
    story = Story()
    story.ask(*START)
    story.answer(ModelCall("x", choices=[Choice(0, "found", tool_calls=[search])]))
    place = story.ask(*START, back, result("srv_1", "pages"), said("so"), Message("user", "and?"))
    assert place.new_from == 5


def steps(story: Story, count: int) -> list[Message]:
    """A conversation of so many tool calls; its messages."""
    messages = [*START]
    for number in range(count):
        story.ask(*messages)
        run = (f"call_{number}", "bash", json.dumps({"command": f"step {number}"}))
        story.answer(answering(f"I take step {number} of the plan.", run))
        messages += [said(f"I take step {number} of the plan.", run), result(run[0], f"output of step {number}" * 3)]
    return messages


def test_dropped_tool_results_are_an_edit_that_says_which() -> None:
    story = Story()
    messages = steps(story, 4)
    messages[3] = result("call_0", "[cleared]")
    place = story.ask(*messages)
    assert (place.thread, place.parent) == (0, 3)
    assert (
        "history edited: the first 3 of 8 earlier messages are as they were; 1 have other words (1 result: call_0)"
        in str(place.note)
    )
    assert place.new_from == 9


def test_a_past_that_is_cut_from_the_front_says_what_is_gone() -> None:
    story = Story()
    messages = steps(story, 5)
    place = story.ask(messages[0], *messages[6:])
    assert (place.thread, place.parent) == (0, 4)
    assert "history shortened: the first 1 of 10" in str(place.note)
    assert "5 are gone (2 assistant, 2 result, 1 user: call_0, call_1" in str(place.note)
    assert place.new_from == 6


def test_a_summary_in_place_of_the_past_is_a_compaction() -> None:
    story = Story()
    messages = steps(story, 3)
    summary = "So far the parser was read, its tests were run, and two of them failed."
    story.ask(*messages, Message("user", "summarise"))
    story.answer(answering(summary))
    place = story.ask(messages[0], Message("user", f"This goes on from an earlier conversation. {summary} Continue."))
    assert (place.thread, place.parent, place.new_from) == (0, 3, 0)
    assert "history compacted" in str(place.note)
    assert "turn 4 answered" in str(place.note)


def test_a_summary_beside_what_is_kept_is_a_compaction() -> None:
    story = Story()
    messages = steps(story, 5)
    place = story.ask(*messages[:2], Message("user", "[six messages were summed up]"), *messages[8:])
    assert place.thread == 0
    assert "history compacted: the first 2 of 10" in str(place.note)
    assert "6 are gone" in str(place.note) or "5 are gone" in str(place.note)


def test_other_words_of_the_system_do_not_begin_another_conversation() -> None:
    story = Story()
    messages = steps(story, 2)
    place = story.ask(Message("system", "be good; it is noon"), *messages[1:])
    assert (place.thread, place.parent) == (0, 1)
    assert place.note == "the system's words are other ones than before"


def test_a_sub_agent_is_known_by_the_tool_call_that_it_quotes() -> None:
    story = Story()
    story.ask(*START)
    prompt = "Read every file under /srv and list the functions that nobody calls."
    story.answer(answering("I delegate.", ("call_7", "task", json.dumps({"prompt": prompt, "kind": "search"}))))
    place = story.ask(Message("system", "you search"), Message("user", f"Context: none.\n{prompt}"))
    assert place.thread == 1
    assert place.started_by is not None
    assert (place.started_by.call, place.started_by.thread, place.started_by.tool_call) == (0, 0, "call_7")
    assert place.started_by.confidence == 0.9
    assert "started by tool call task (call_7) of thread 0" in str(place.note)


def test_a_thread_that_begins_when_the_tool_call_has_come_back_is_not_its_sub_agent() -> None:
    story = Story()
    messages = [*START]
    story.ask(*messages)
    prompt = "Read every file under /srv and list the functions that nobody calls."
    tool = ("call_7", "task", json.dumps({"prompt": prompt}))
    story.answer(answering("I delegate.", tool))
    story.ask(*messages, said("I delegate.", tool), result("call_7", "done"))
    assert story.ask(Message("user", prompt)).started_by is None


def test_what_the_api_names_counts() -> None:
    story = Story()
    story.ask(*START)
    story.answer(answering("one"), response_id="r1")
    second = story.ask(Message("user", "go on"), previous="r1")
    story.answer(answering("two"), response_id="r2")
    third = story.ask(Message("user", "go on"), previous="r2")
    branch = story.ask(Message("user", "go on"), previous="r1")
    unknown = story.ask(Message("user", "go on"), previous="r9")
    assert [(p.thread, p.parent, p.new_from) for p in (second, third)] == [(0, 0, 0), (0, 1, 0)]
    assert [p.note for p in (second, third)] == [None, None]
    assert (branch.thread, branch.parent, branch.note) == (1, 0, "branches off thread 0")
    assert (unknown.thread, unknown.note) == (2, "continues response r9, which was not seen here")


def test_a_history_that_contradicts_the_id_is_told() -> None:
    story = Story()
    steps(story, 2)
    story.ask(Message("user", "something else altogether"))
    story.answer(answering("yes"), response_id="r1")
    place = story.ask(*START, Message("user", "go on"), previous="r1")
    assert (place.thread, place.parent) == (1, 2)
    assert "the response that it names is of this thread, its messages are those of thread 0" in str(place.note)


def test_a_conversation_by_its_id() -> None:
    story = Story()
    one = [story.ask(Message("user", "yes"), conversation="c1") for _ in range(3)]
    other = story.ask(Message("user", "yes"), conversation="c2")
    assert ([place.thread for place in one], other.thread) == ([0, 0, 0], 1)
    assert one[2].parent == 1


@st.composite
def crowds(draw: st.DrawFn) -> list[tuple[int, str]]:
    """Steps of conversations that run side by side: (which, ask or answer)."""
    count = draw(st.integers(1, 6))
    left = {number: ["ask", "answer"] * draw(st.integers(2, 6)) for number in range(count)}
    order = []
    while left:
        number = draw(st.sampled_from(sorted(left)))
        order.append((number, left[number].pop(0)))
        if not left[number]:
            del left[number]
    return order


@settings(max_examples=150, deadline=None)
@given(crowds(), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 2))
def test_conversations_side_by_side_are_told_apart_without_a_mistake(
    order: list[tuple[int, str]], one_system: bool, one_task: bool, alike: bool, no_ids: bool, examples: int
) -> None:
    """Precision and recall are 1, also where all begin with the same words, and where all results are the same."""
    story, histories, numbers = Story(), dict[int, list[Message]](), dict[int, int]()
    placed: list[tuple[int, Place]] = []
    for who, step in order:
        if who not in histories:
            few = [Message("user", "example"), said("example answered at some length")] * examples
            system = Message("system", "be good" if one_system else f"be good, {who}")
            histories[who] = [system, *few, Message("user", "the task" if one_task else f"task {who}")]
        history = histories[who]
        if step == "ask":
            placed.append((who, story.ask(*history)))
            numbers[who] = story.count - 1
            continue
        ident = f"call_{len(history)}" if no_ids else f"call_{who}_{len(history)}"
        given = json.dumps({"command": f"run {who}" if no_ids or not alike else "run"})
        tool = (ident, "bash", given)
        story.answer(answering("I run it.", tool), numbers[who])
        history += [said("I run it.", tool), result(ident, "same" if alike else f"out {who}")]
        if len(history) % 3 == 0:
            history.append(Message("user", "go on"))
    for who, place in placed:
        for other, another in placed:
            assert (who == other) == (place.thread == another.thread), (who, place, other, another)


def test_thousands_of_calls_take_no_longer_each_than_hundreds() -> None:
    def seconds(count: int) -> float:
        story = Story()
        began = time.process_time()
        for number in range(count):
            first = Message("user", f"task {number} " + "x" * 50)
            run = (f"c{number}", "task", json.dumps({"prompt": f"do {number} with care"}))
            story.ask(START[0], first)
            story.answer(answering("", run))
            if number % 2:
                story.ask(START[0], first, said("", run), result(run[0], "done"))
        return time.process_time() - began

    seconds(50)
    few = max(min(seconds(300) for _ in range(3)), 0.02)
    assert min(seconds(3000) for _ in range(3)) < few * 10 * 4


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 8), st.data())
def test_whatever_is_taken_out_of_a_past_or_changed_in_it_is_counted(count: int, data: st.DataObject) -> None:
    """The answer to the latest call stays, as it does where an agent makes room for the next."""
    story = Story()
    messages = steps(story, count)
    last = len(messages) - 2
    touched = data.draw(st.sets(st.integers(1, last - 1), min_size=1, max_size=last - 1))
    gone = data.draw(st.sets(st.sampled_from(sorted(touched))))
    other = [
        replace(message, text=f"[changed {at}]") if at in touched else message
        for at, message in enumerate(messages)
        if at not in gone
    ]
    place = story.ask(*other)
    assert (place.thread, place.parent) == (0, count - 1)
    note = str(place.note)
    assert note.startswith("history ")
    told = {word: int(number) for number, word in re.findall(r"(\d+) (have other words|are gone)", note)}
    changed = len(touched - gone)
    assert sum(told.values()) == len(touched), note
    # Of neighbours one of which is gone and the other changed it cannot be said which is which.
    if not gone:
        assert told == {"have other words": changed}
    if not changed:
        assert told == {"are gone": len(gone)}
