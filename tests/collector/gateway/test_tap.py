"""Bodies on their way past."""

from __future__ import annotations

import gzip
import hashlib
import random
from itertools import pairwise

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.redact import Redactor
from sandtrail.collector.gateway.tap import Tap
from tests.collector.gateway.secrets_of_all_kinds import TOKENS, in_context

KINDS = list(TOKENS)


def tap(coding: str = "", cap: int = 1 << 20, *, whole: bool = True) -> Tap:
    return Tap(Redactor(Fingerprinter(b"k" * 32)), coding, cap, whole=whole)


def kept(one: Tap, *pieces: bytes, cut: bool = False) -> tuple[bytes, bool]:
    for piece in pieces:
        one.feed(piece)
    one.finish(cut=cut)
    return one.kept()


@given(st.lists(st.binary(max_size=100)))
def test_a_plain_body_is_kept_as_it_is(pieces: list[bytes]) -> None:
    one, data = tap(), b"".join(pieces)
    assert kept(one, *pieces) == (data, False)
    assert (one.size, one.sha256, one.cut) == (len(data), hashlib.sha256(data).hexdigest(), False)


def test_a_coded_body_without_secrets_is_kept_as_on_the_wire() -> None:
    wire = gzip.compress(b"nothing to hide")
    assert kept(tap("gzip"), wire) == (wire, False)


def test_a_coded_body_with_a_secret_is_kept_decoded() -> None:
    one, wire = tap("gzip"), gzip.compress(b"<" + in_context("openai-key") + b">")
    body, decoded = kept(one, wire)
    assert decoded
    assert (body[:1], body[-1:]) == (b"<", b">")
    assert TOKENS["openai-key"] not in body
    assert (one.size, one.sha256) == (len(wire), hashlib.sha256(wire).hexdigest()), "of the wire bytes"


def test_a_secret_beside_the_compressed_data_does_not_stay() -> None:
    secret = TOKENS["openai-key"]
    named = b"\x1f\x8b\x08\x08" + bytes(6) + secret + b"\0" + gzip.compress(b"harmless", mtime=0)[10:]
    trailing = gzip.compress(b"harmless") + secret
    skipped = b"\x50\x2a\x4d\x18" + len(secret).to_bytes(4, "little") + secret + zstandard.compress(b"harmless")
    for coding, wire in (("gzip", named), ("gzip", trailing), ("zstd", skipped)):
        body, _ = kept(tap(coding), wire)
        assert secret not in body
        assert body.startswith(b"harmless{{" if wire == trailing else b"harmless")


def test_a_body_over_the_cap_is_hashed_whole_and_kept_in_part() -> None:
    one, data = tap(cap=10), b"0123456789abcdef"
    assert kept(one, data[:12], data[12:]) == (data[:10], False)
    assert (one.size, one.sha256, one.cut) == (16, hashlib.sha256(data).hexdigest(), True)


def test_a_coded_body_that_is_large_only_when_decoded_is_kept_as_on_the_wire() -> None:
    one, wire = tap("gzip", cap=4000), gzip.compress(bytes(12_000))
    assert kept(one, wire) == (wire, False)
    assert not one.cut


def test_a_bomb_is_given_up_on_and_said_to_be_cut() -> None:
    one = tap("gzip", cap=1 << 20)
    wire = gzip.compress(bytes(1 << 28))
    body, decoded = kept(one, *[wire[n : n + 65536] for n in range(0, len(wire), 65536)])
    assert decoded
    assert one.cut
    assert len(body) == 1 << 20
    assert one.sha256 == hashlib.sha256(wire).hexdigest()


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_few_bytes_are_decoded_to_no_more_than_their_share(coding: str) -> None:
    text = b"harmless words, " * 300_000
    wire = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress}[coding](text)
    one = tap(coding, cap=1 << 24, whole=False)
    recorded = one.feed(wire) + one.finish()
    assert one.cut
    assert text.startswith(recorded)
    assert len(recorded) <= max(512 << 10, 32 * len(wire))
    assert one.sha256 == hashlib.sha256(wire).hexdigest()


def test_a_coded_stream_full_of_what_begins_like_a_credential_is_given_up_on_and_said_to_be_cut() -> None:
    noise = random.Random(5)
    wire = gzip.compress(b"".join(b"://" * 20_000 + noise.randbytes(1900) for _ in range(30)))
    one = tap("gzip", cap=1 << 24, whole=False)
    recorded = one.feed(wire) + one.finish()
    assert 0 < len(recorded) < 200_000
    assert one.cut
    assert one.sha256 == hashlib.sha256(wire).hexdigest()


def test_what_breaks_off_is_cut() -> None:
    one = tap()
    assert kept(one, b"half of", cut=True) == (b"half of", False)
    assert one.cut


def test_the_pieces_of_a_coded_stream_are_recorded_decoded() -> None:
    one, wire = tap("gzip", whole=False), gzip.compress(b"data: 1\n\ndata: 2\n\n")
    assert one.decoded
    assert one.feed(wire) + one.finish() == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("coding", ["", "gzip", "zstd"])
@settings(deadline=None, max_examples=200)
@given(
    kind=st.sampled_from(KINDS), places=st.lists(st.integers(0, 10_000)), whole=st.booleans(), cap=st.integers(1, 400)
)
def test_no_secret_is_kept_whatever_the_pieces_and_the_cap(
    coding: str, kind: str, places: list[int], whole: bool, cap: int
) -> None:
    text = b"head\n" + in_context(kind) + b"\ntail"
    wire = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[coding](text)  # type: ignore[operator]
    borders = sorted({0, len(wire), *(place % (len(wire) + 1) for place in places)})
    one = tap(coding, cap, whole=whole)
    recorded = b"".join(one.feed(wire[a:b]) for a, b in pairwise(borders)) + one.finish()
    recorded += one.kept()[0] if whole else b""
    assert TOKENS[kind] not in recorded
    assert TOKENS[kind] not in _undone(coding, recorded)


def _undone(coding: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data) if coding == "gzip" else zstandard.decompress(data)
    except (OSError, EOFError, zstandard.ZstdError):
        return b""
