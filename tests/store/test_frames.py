"""Names of frames, and the leaf that commits to one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import UsageError
from sandtrail.store.frames import Frame, Ref


@given(st.integers(0, 10**15 - 1), st.integers(0, 10**9 - 1))
def test_a_reference_is_read_back(segment: int, place: int) -> None:
    assert Ref.parse(str(Ref(segment, place))) == (segment, place)
    assert Frame(segment, place, 0, 0, 2, 0, 0, 0, b"").ref == str(Ref(segment, place))


@given(st.text(max_size=40))
def test_a_reference_is_read_or_refused(text: str) -> None:
    try:
        ref = Ref.parse(text)
    except UsageError:
        return
    assert ref.segment >= 0
    assert ref.place >= 0


@pytest.mark.parametrize(
    "text", ["", ".", "1", "1.", ".1", "1.2.3", "-1.2", "1.-2", "+1.2", " 1.2", "1.2\n", "1.٣", "².1", "a.b", "1,2"]
)
def test_what_is_no_reference_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"12\.345|larger"):
        Ref.parse(text)


def test_a_huge_reference_is_refused() -> None:
    with pytest.raises(UsageError, match="larger"):
        Ref.parse("1" * 4000 + ".1")
