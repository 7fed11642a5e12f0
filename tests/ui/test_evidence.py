"""What a frame carries over HTTP, read on its page."""

from __future__ import annotations

import json
from typing import Any, cast

from sandtrail.ui.shapes import Evidence
from sandtrail.ui.views.evidence import fields_panel
from tests.ui import stories


def shown(text: str | None, **more: Any) -> str:
    size = len(text or "")
    body = {"bytes": size, "recorded": size, "media": "text/html", "problems": [], "text": text, "truncated": False}
    return str(fields_panel(cast(Evidence, {**stories.frame("1.1", "s"), "body": {**body, **more}})))


def test_a_body_is_read_and_does_nothing() -> None:
    for evil in stories.HOSTILE:
        for said in (evil, f'{{"content": {json.dumps(evil)}}}'):
            html = shown(said)
            assert "Its body, read" in html
            assert "<script" not in html
            assert "<img" not in html
            assert "\x1b" not in html
            assert "\u202e" not in html


def test_a_body_that_is_long_coded_or_no_text_says_so() -> None:
    assert "Only the beginning is shown" in shown("x", truncated=True)
    assert "293.0 KiB · 97.7 KiB as recorded" in shown("x", bytes=300_000, recorded=100_000)
    assert "It is no text." in shown(None)
    assert "unknown content coding" in shown("x", problems=["unknown content coding 'x'"])
    assert "Its body" not in str(fields_panel(cast(Evidence, {**stories.frame("1.1", "s"), "body": None})))
