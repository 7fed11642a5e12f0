"""The list of sessions: what is grave is red, and what the index has not read yet is not said to be absent."""

from __future__ import annotations

from typing import Any, cast

from sandtrail.ui.shapes import Session
from sandtrail.ui.views.sessions import behind, table
from tests.ui import stories


def listed(**more: Any) -> str:
    return str(table([cast(Session, stories.session("s", findings=4, gaps=0, **more))], stories.START))


def test_findings_are_red_where_one_of_them_is_grave() -> None:
    assert '<span class="pill bad">4</span>' in listed(grave=1)
    assert '<span class="pill warn">4</span>' in listed(grave=0)
    assert '<span class="pill bad">4</span>' in listed(), "where the server does not say, nothing is played down"


def test_an_index_that_is_being_made_says_how_far_it_is() -> None:
    assert "120 of 4,330 entries" in str(behind({"status": "behind", "log_entries": 4330, "indexed_entries": 120}))
    assert behind({"status": "behind", "log_entries": 122, "indexed_entries": 120}) is None
    assert behind({"status": "ok", "log_entries": 0, "indexed_entries": 0}) is None
