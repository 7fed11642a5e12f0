from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandtrail.ui import text
from tests.ui.stories import HOSTILE

anything = st.text(st.characters(codec=None), max_size=80)  # lone surrogates too: bytes that were not UTF-8


@given(anything)
@example("\x1b[2J\x07\x9b\x00\r\n\u2028\u202e\u200b\ufeff\udcff\ud800\u2800\ufe0f\U000e0041")
def test_what_is_left_has_ink_moves_nothing_and_can_be_encoded(said: str) -> None:
    shown = text.plain(said)
    assert shown.isprintable()
    shown.encode()
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in shown)


@given(anything)
def test_harmless_characters_stay_as_they_are(said: str) -> None:
    kept = "".join(piece for piece, escaped in text.pieces(said) if not escaped)
    assert kept == "".join(char for char in said if char in kept)
    ascii_only = "".join(char for char in said if " " <= char <= "~")
    assert "".join(char for char in kept if " " <= char <= "~") == ascii_only


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("gpj\u202eexe", r"gpj\u202eexe"),
        ("\udcff", r"\xff"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("日本 é ✓", "日本 é ✓"),
    ],
)
def test_each_character_without_ink_has_its_escape(said: str, shown: str) -> None:
    assert text.plain(said) == shown


def test_a_pile_of_combining_marks_does_not_reach_over_its_neighbours() -> None:
    assert text.plain("a" + "\u0301" * 50).count("\u0301") == 3


def test_a_limit_is_kept_before_escapes_are_written() -> None:
    assert text.plain("x" * 100, limit=10) == "x" * 9 + "…"


@given(anything)
@example("=cmd|' /C calc'!A0")
@example(" \t=1+1")
@example("\ufeff=1+1")
def test_no_cell_is_a_formula(said: str) -> None:
    cell = text.spreadsheet_cell(said)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "|", "%", "\t", "\r"))
    assert cell.isprintable()


def test_numbers_stay_numbers_in_a_spreadsheet() -> None:
    assert text.spreadsheet_cell(-1) == "-1"


def test_every_hostile_string_of_the_story_becomes_printable() -> None:
    assert all(text.plain(said).isprintable() for said in HOSTILE)


@given(st.one_of(st.none(), st.integers()), st.integers(0, 9))
def test_a_clock_never_fails(ns: int | None, digits: int) -> None:
    assert text.clock(ns, digits)
    assert text.day(ns)


def test_times_are_told_in_utc_to_the_nanosecond() -> None:
    ns = 1_772_366_602_123_456_789
    assert (text.day(ns), text.clock(ns), text.clock(ns, 9)) == ("2026-03-01", "12:03:22.123", "12:03:22.123456789")
    assert text.clock(ns, 0) == "12:03:22"


@pytest.mark.parametrize(
    ("ns", "told"), [(None, "–"), (18_240_000_000, "18.2 s"), (200 * 10**9, "3 min 20 s"), (3720 * 10**9, "1 h 02 min")]
)
def test_durations_are_told_in_the_units_of_a_reader(ns: int | None, told: str) -> None:
    assert text.duration(ns) == told
