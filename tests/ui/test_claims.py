"""The agent's own words on the page: marked as such, closed, and harmless whatever they say."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sandtrail.ui.address import Address
from sandtrail.ui.choose import Filter
from sandtrail.ui.shapes import Claim, Claims
from sandtrail.ui.views.claims import claims_part, unplaced_block
from sandtrail.ui.views.lines import Scene
from tests.ui import stories

SCENE = Scene(Address(session="s"), stories.START, Filter(), {})


def test_they_are_said_to_be_the_agents_own_and_name_their_evidence() -> None:
    one = stories.claim(7, "ls", edge={"reason": "it names this answer's response id", "confidence": 0.95})
    shown = str(claims_part([cast(Claim, one)], 1, SCENE))
    assert "claimed by the agent" in shown
    assert "nothing vouches for it" in shown
    assert "evidence=12.7" in shown
    assert "it names this answer&#x27;s response id · 0.95" in shown
    assert "<details class" in shown
    assert "open" not in shown.partition("</summary>")[0]
    assert claims_part([], 0, SCENE) is None


def test_a_claim_that_contradicts_what_was_seen_says_so_before_it_is_opened() -> None:
    edge = {"reason": "it names a tool call of this decision", "confidence": 0.95}
    note = "it says <b>x</b>, the model decided y"
    shown = str(claims_part([cast(Claim, stories.claim(7, "ls", edge=edge, note=note))], 1, SCENE))
    assert "otherwise than seen" in shown.partition("</summary>")[2].partition("</summary>")[0]
    assert "it says &lt;b&gt;x&lt;/b&gt;, the model decided y" in shown
    assert "otherwise" not in str(claims_part([cast(Claim, stories.claim(7, "ls", edge=edge))], 1, SCENE))


def test_a_claim_that_stands_beside_no_turn_says_why() -> None:
    told = {"unplaced": [stories.claim(7, "launch", note="no recorded decision asked for it")], "unplaced_total": 1}
    claims = cast(Claims, {**told, "total": 1, "others": 3, "left_out": 0})
    shown = str(unplaced_block(claims, SCENE))
    assert "no recorded decision asked for it" in shown
    assert "3 spans, log records and metrics of something else" in shown
    assert unplaced_block(cast(Claims, {**told, "unplaced": [], "others": 0, "left_out": 0}), SCENE) is None


@pytest.mark.parametrize(
    "told", [{}, {"tool": "x", "output": "y"}, {"output": [1, {"tool_calls": 5}], "start_ns": "z"}, {"usage": [[]]}]
)
def test_a_claim_of_any_shape_is_shown(told: dict[str, Any]) -> None:
    one = cast(Claim, {**stories.claim(7, "x"), "told": told})
    assert "12.7" in str(claims_part([one], 1, SCENE))
