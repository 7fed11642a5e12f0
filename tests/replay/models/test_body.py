"""Content codings undone as clients undo them, and whatever else a body holds is told."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.models.body import decode_body

HEADERS = [("Content-Encoding", "gzip")]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
def test_every_member_of_a_gzip_body_is_read(members: list[bytes]) -> None:
    assert decode_body(b"".join(map(gzip.compress, members)), HEADERS) == (b"".join(members), [])


def test_what_stands_behind_a_gzip_body_is_told() -> None:
    found, problems = decode_body(gzip.compress(b"seen") + b"hidden", HEADERS)
    assert found == b"seen"
    assert problems[0].startswith("gzip body: ")


@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_gzip_body_that_breaks_off_yields_what_came(cut: int) -> None:
    whole = gzip.compress(b"one") + gzip.compress(bytes(range(256)) * 9)
    found, problems = decode_body(whole[:-cut], HEADERS)
    assert found.startswith(b"one")
    assert problems == ["gzip body: ends early"]


def test_a_bomb_of_many_members_ends_at_the_limit() -> None:
    assert decode_body(gzip.compress(bytes(1 << 20)) * 20, HEADERS, 3 << 20) == (
        bytes(3 << 20),
        [f"body longer than {3 << 20} bytes, the rest is left out"],
    )
    found, problems = decode_body(gzip.compress(b"") * 5000 + gzip.compress(b"x"), HEADERS)
    assert (found, len(problems)) == (gzip.compress(b"") * 5000 + gzip.compress(b"x"), 1)
