"""Content codings, undone as they arrive."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from itertools import pairwise

import brotli  # type: ignore[import-untyped]  # it has no type hints
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.collector.gateway.coding import UndecodableError, decoder_for

CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),  # applied in the order of the header
}


def decode(coding: str, pieces: list[bytes]) -> bytes:
    decoder = decoder_for(coding)
    assert decoder is not None
    return b"".join(out for piece in pieces for out in decoder.feed(piece))


@pytest.mark.parametrize("coding", CODERS)
@settings(deadline=None)
@given(data=st.binary(max_size=3000) | st.integers(0, 300_000).map(bytes), places=st.lists(st.integers(0, 10**6)))
def test_any_body_in_any_pieces(coding: str, data: bytes, places: list[int]) -> None:
    coded = CODERS[coding](data)
    borders = sorted({0, len(coded), *(place % (len(coded) + 1) for place in places)})
    assert decode(coding, [coded[a:b] for a, b in pairwise(borders)]) == data


def test_deflate_without_its_wrapping() -> None:
    packer = zlib.compressobj(wbits=-15)
    assert decode("deflate", [packer.compress(b"bare") + packer.flush()]) == b"bare"


def test_several_gzip_members() -> None:
    coded = gzip.compress(b"one") + gzip.compress(b"two")
    assert decode("gzip", [coded]) == decode("x-gzip", [bytes([byte]) for byte in coded]) == b"onetwo"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_not_coded_is_given_back(coding: str) -> None:
    decoder = decoder_for(coding)
    assert decoder is not None
    with pytest.raises(UndecodableError) as caught:
        list(decoder.feed(b"\x07 plain text, and no body of that coding at all"))
    assert b"plain text" in caught.value.rest


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_what_follows_the_end_is_given_back(coding: str) -> None:
    decoder = decoder_for(coding)
    assert decoder is not None
    out: list[bytes] = []
    with pytest.raises(UndecodableError) as caught:
        for piece in (CODERS[coding](b"body"), b"sk-trailer"):
            out += decoder.feed(piece)
    assert (b"".join(out), caught.value.rest) == (b"body", b"sk-trailer")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_bomb_comes_out_in_pieces(coding: str) -> None:
    bomb = CODERS[coding](bytes(24 << 20))
    decoder = decoder_for(coding)
    assert decoder is not None
    pieces = decoder.feed(bomb[: 64 << 10])
    assert max(len(next(pieces)) for _ in range(3)) <= 8 << 20


@pytest.mark.parametrize("coding", ["", "identity", "aes128gcm", "gzip, unheard-of"])
def test_no_decoder_for_what_cannot_be_undone(coding: str) -> None:
    assert decoder_for(coding) is None
