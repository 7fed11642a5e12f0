from __future__ import annotations

import pytest

from sandtrail.replay.turns.carried import carried


@pytest.mark.parametrize(
    ("request_told", "response_told", "words"),
    [
        ({"unlooked": 7}, {}, "5 B out, 5 B back, 7 values of the request were not searched for files"),
        ({"unread": True}, {"unread": True}, "5 B out, 5 B back, the request could not be searched for files"),
        ({}, {"unlooked": 2}, "5 B out, 5 B back, 2 values of the response were not searched for files"),
        ({}, {}, "5 B out, 5 B back"),
    ],
)
def test_where_a_file_was_not_looked_for_is_said(
    request_told: dict[str, object], response_told: dict[str, object], words: str
) -> None:
    told = {"bytes": 5, "media": "application/json"}
    detail = {"method": "POST", "url": "http://h/", "request": told | request_told, "response": told | response_told}
    assert carried(detail) == (words, set())
