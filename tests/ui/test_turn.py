"""One turn as a block: whose result a result is, what was edited, which conversation it is of."""

from __future__ import annotations

import re
from typing import Any, cast

from sandtrail.ui.address import Address
from sandtrail.ui.choose import Filter
from sandtrail.ui.shapes import Timeline, Turn
from sandtrail.ui.views.lines import Scene
from sandtrail.ui.views.turn import turn_block
from tests.ui import stories

EVIL = "<b onclick=x>\u202e\x1b[2J"


def shown(*turns: dict[str, Any], **address: str) -> list[str]:
    timeline = cast(Timeline, {**stories.incident(), "turns": list(turns)})
    scene = Scene.of(timeline, Address(session="s", **address), Filter())
    return [str(turn_block(cast(Turn, one), scene)) for one in turns]


def words(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def a_turn(index: int = 1, **more: Any) -> dict[str, Any]:
    return {**stories.turn(index, [], [], index), "thread": 0, **more}


def test_a_result_names_its_call_and_a_long_message_says_how_much_of_it_is_shown() -> None:
    turn = a_turn()
    message = {"role": "tool", "text": "begin … end", "characters": 2_000_000, "tool": "bash", "tool_call_id": "call_7"}
    turn["input"] |= {"new_messages": [message], "new_total": 900}
    (html,) = shown(turn)
    assert "result of bash call_7" in words(html)
    assert "the beginning and the end of 2,000,000 characters" in words(html)
    assert "899 more before these" in words(html)
    assert "bytes end before the message" not in html


def test_what_was_edited_in_a_history_is_shown_as_it_was_and_as_it_is_and_does_nothing() -> None:
    turn = a_turn(note=f"history edited: {EVIL} {'long ' * 100}")
    edit = {"role": EVIL, "tool": EVIL, "tool_call_id": EVIL, "was": f"before {EVIL}", "now": f"after {EVIL}"}
    turn["input"]["changed"] = [edit, {**edit, "now": None}, {**edit, "was": None}]
    (html,) = shown(turn)
    assert html.count("before &lt;b onclick=x&gt;") == 2
    assert html.count("after &lt;b onclick=x&gt;") == 2
    assert [label for label in ("changed", "taken out", "put in") if f"{label} in the history" in html] == [
        "changed",
        "taken out",
        "put in",
    ]
    assert "long long" in html.partition('class="history"')[2][:600], "a note is never cut"
    assert "<b onclick" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html


def test_each_turn_names_its_conversation_only_where_there_are_several() -> None:
    assert "thread" not in words(shown(a_turn(1), a_turn(2, continues=1))[1])
    started = {"turn": 1, "thread": 0, "tool_call_id": "c", "name": "delegate", "confidence": 0.95}
    note = "started by tool call delegate (c) of thread 0"
    main, sub, after = shown(
        a_turn(1), a_turn(2, thread=1, started_by=started, note=note), a_turn(3, continues=1), q="x"
    )
    assert "thread 0" in words(main)
    assert "thread 1 started in turn 1" in words(sub)
    assert 'class="history calm"' in sub
    assert "thread 0 after turn 1" in words(after)
    assert '<a class="ref" href="./?session=s&amp;thread=0">thread 0</a>' in after


def test_a_digest_is_never_only_the_beginning_of_a_line() -> None:
    digest = f"uploads plan.txt, 1.5 kB, sha256 {'ab' * 8}…"
    row = stories.output(9, "http.exchange", "POST http://x.test/", 1, summary=digest, flags=["upload"])
    turn = a_turn()
    for flags, whole in ((["upload"], True), ([], False), (["transport", "upload"], False)):
        turn["outputs"] = [{**row, "flags": flags}]
        (html,) = shown(turn)
        assert digest in html
        assert ('class="row full' in html) is whole
