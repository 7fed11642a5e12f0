"""What is put into the engine's layers changes what a body costs, never what it is."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from hypothesis import example, given
from hypothesis import strategies as st

from sandtrail.collector.gateway.bounds import MergingReader


def read(reader: Any, pieces: list[bytes]) -> tuple[bytes, str, int]:
    """The body, how it ended, and in how many events it came."""
    buffer, data, count = ReceiveBuffer(), b"", 0
    for piece in pieces:
        buffer += piece
        try:
            while (event := reader(buffer)) is not None:
                if isinstance(event, h11.EndOfMessage):
                    return data, f"end {list(getattr(reader, 'trailers', ()) or event.headers)}", count
                data, count = data + event.data, count + 1
        except h11.ProtocolError as error:
            return data, type(error).__name__, count
    return data, "", count


CHUNK = st.builds(lambda data: b"%x;x=y\r\n%s\r\n" % (len(data), data), st.binary(min_size=1, max_size=20))


@given(st.lists(CHUNK | st.binary(max_size=3), max_size=8), st.booleans(), st.lists(st.integers(0, 200), max_size=6))
@example([b"1\r\nx\r\n", b"no chunk\r\n"], False, [])
def test_a_chunked_body_is_what_it_was(chunks: list[bytes], ends: bool, cuts: list[int]) -> None:
    text = b"".join(chunks) + (b"0\r\nx-trailer: y\r\n\r\n" if ends else b"")
    places = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in zip(places, places[1:], strict=False)]
    assert read(MergingReader(), pieces)[:2] == read(ChunkedReader(), pieces)[:2]


@pytest.mark.parametrize(("reader", "events"), [(ChunkedReader, 10_000), (MergingReader, 1)])
def test_chunks_that_come_at_once_are_one_piece(reader: type, events: int) -> None:
    assert read(reader(), [b"1\r\nx\r\n" * 10_000]) == (b"x" * 10_000, "", events)
