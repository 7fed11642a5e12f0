"""What the head of a session says of how much was seen and kept."""

from __future__ import annotations

from typing import Any, cast

from sandtrail.ui.shapes import Session
from sandtrail.ui.views.session import complete
from tests.ui import stories


def shown(**known: Any) -> str:
    told = {"from_first_instruction": True, "reason": "r", **known}
    return str(complete(cast(Session, stories.session("s", completeness=told))))


def test_claims_that_are_missing_are_told_apart_from_what_was_seen() -> None:
    page = shown(egress=True, claims=False, claims_reason="<b>too much</b> (7 exports)")
    assert "complete from the first instruction" in page
    assert "not all claims kept" in page
    assert "&lt;b&gt;too much" in page
    assert "claims" not in shown(claims=True)
    assert "claims" not in shown(claims=None, claims_reason="")
