from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.models.call import Message
from sandtrail.replay.turns.conversation import Place, Threads


def say(*words: str) -> list[Message]:
    """`s…` is the system's, `u…` the user's, `a…` the assistant's, anything else a tool's."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [Message(roles.get(word[0], "tool"), word) for word in words]


def places(*calls: list[Message]) -> list[Place]:
    threads = Threads()
    return [threads.add(call) for call in calls]


def test_a_call_that_extends_an_earlier_one_continues_it() -> None:
    first, second, third = places(say("s", "u"), say("s", "u", "a1", "t1"), say("s", "u", "a1", "t1", "a2", "t2"))
    assert (first.thread, second.thread, third.thread) == (0, 0, 0)
    assert (second.parent, second.new_from) == (0, 3)
    assert (third.parent, third.new_from) == (1, 5)
    assert [place.note for place in (first, second, third)] == [None, None, None]


def test_the_same_messages_again_are_a_retry() -> None:
    _, again = places(say("s", "u"), say("s", "u"))
    assert again.thread == 0
    assert again.note == "the same messages again"


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
        place = threads.add(say(*words))
        assert 0 <= place.new_from <= len(words)
        assert place.parent is None or place.parent < number
