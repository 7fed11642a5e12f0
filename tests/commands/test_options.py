"""What the commands share."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandtrail.commands.options import parse_duration
from sandtrail.errors import UsageError

WORDS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@given(st.integers(1, 10**6), st.sampled_from([*WORDS]))
def test_a_duration_is_a_number_and_a_unit(number: int, unit: str) -> None:
    meant = timedelta(**{WORDS[unit]: number})
    if meant <= timedelta(days=100 * 365):
        assert parse_duration(f"{number}{unit}", "--age") == meant.total_seconds()
    else:
        with pytest.raises(UsageError, match="at most 100y"):
            parse_duration(f"{number}{unit}", "--age")


def test_a_number_alone_is_in_seconds_and_a_year_has_365_days() -> None:
    assert [parse_duration(text, "--age") for text in ("90", "1y", "100y")] == [90, 31_536_000, 3_153_600_000]


@given(st.text(max_size=12) | st.from_regex(r"\A[-+ 0-9.]{0,6}[smhdwyMD ]{0,2}\Z"))
@example("٣h")
@example("1.5h")
@example("0d")
@example("9999999999y")
@example("90\n")
def test_any_other_text_is_refused_with_the_name_of_the_option(text: str) -> None:
    seconds, said = 0, ""
    try:
        seconds = parse_duration(text, "--age")
    except UsageError as refused:
        said = str(refused)
    if re.fullmatch("[1-9][0-9]{0,4}[smh]?", text):
        assert seconds > 0
    elif seconds:
        assert re.fullmatch("[0-9]+[smhdwy]?", text)
        assert seconds <= 100 * 365 * 86_400
    else:
        assert said.startswith("--age ")


@pytest.mark.parametrize("text", ["3m", "90", "90s"])
def test_an_option_can_leave_out_units_that_could_be_mistaken(text: str) -> None:
    assert parse_duration(text, "--older-than") > 0
    with pytest.raises(UsageError, match="write a number and h, d, w or y"):
        parse_duration(text, "--older-than", units="hdwy")
