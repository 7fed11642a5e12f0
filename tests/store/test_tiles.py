"""Names and contents of tiles and entry bundles, by the examples of the C2SP specification."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError
from sandtrail.store.tiles import (
    bundle_path,
    decode_bundle,
    encode_bundle,
    parse_tile_index,
    partial_widths,
    tile_index,
    tile_path,
)

LOG = Path("log")


@pytest.mark.parametrize(
    ("number", "width", "name"),
    [
        (0, 256, "000"),
        (999, 256, "999"),
        (1000, 256, "x001/000"),
        (1234067, 256, "x001/x234/067"),
        (1234067, 8, "x001/x234/067.p/8"),
        (273, 112, "273.p/112"),
    ],
)
def test_a_tile_is_named_as_the_specification_says(number: int, width: int, name: str) -> None:
    assert tile_path(LOG, 0, number, width) == LOG / "tile/0" / name
    assert tile_path(LOG, 2, number, width) == LOG / "tile/2" / name
    assert bundle_path(LOG, number, width) == LOG / "tile/entries" / name


def test_a_log_of_seventy_thousand_has_the_partial_tiles_of_the_specification() -> None:
    assert list(partial_widths(70_000)) == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]


@pytest.mark.parametrize("size", [0, 256, 65_536, 256**3])
def test_a_log_has_no_partial_tile_where_a_tile_is_just_full(size: int) -> None:
    widths = list(partial_widths(size))
    assert all(width for _, _, width in widths)
    assert (0, size // 256, 0) not in widths
    assert len(widths) <= 1


@given(st.integers(0, (1 << 64) - 1), st.integers(1, 256))
def test_a_name_is_read_back(number: int, width: int) -> None:
    assert parse_tile_index(tile_index(number, width)) == (number, width)


@given(st.text(alphabet="0123456789x/.p", max_size=24))
def test_only_a_name_that_would_be_written_is_read(text: str) -> None:
    place = parse_tile_index(text)
    assert place is None or tile_index(*place) == text


@pytest.mark.parametrize("text", ["", "1", "0000", "x000/001", "001.p/0", "001.p/256", "001.p/257", "001.p/07", "٠٠١"])
def test_other_names_are_none(text: str) -> None:
    assert parse_tile_index(text) is None


@given(st.lists(st.binary(max_size=40), max_size=256))
def test_a_bundle_is_read_back(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries)) == entries


@given(st.binary(max_size=200))
def test_a_bundle_of_garbage_is_damaged_or_says_exactly_what_it_holds(data: bytes) -> None:
    try:
        entries = decode_bundle(data)
    except DamagedError:
        return
    assert encode_bundle(entries) == data


@pytest.mark.parametrize("data", [b"\0", b"\0\1", b"\0\2a", b"\0\1a\0"])
def test_a_bundle_that_ends_too_early_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError):
        decode_bundle(data)
