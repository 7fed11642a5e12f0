"""The fuzzer's targets hold for a few inputs near the format; the fuzzer itself runs for hours, and elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS


@st.composite
def near(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with some pieces of it cut out, doubled, or replaced by bytes."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        start, size = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        piece = draw(st.sampled_from([b"", data[start : start + size] * 2]) | st.binary(max_size=6))
        data = data[:start] + piece + data[start + size :]
    return data


def test_every_target_has_seeds() -> None:
    assert set(SEEDS) == set(TARGETS)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_near_the_format_raises(name: str) -> None:
    @settings(max_examples=60, deadline=None)
    @given(near(SEEDS[name]) | st.binary(max_size=60))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()
