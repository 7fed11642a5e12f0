"""Placeholders are found however they are written, and wherever a text is torn."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from urllib.parse import quote

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from sandtrail.collector.gateway.lookout import Lookout
from sandtrail.collector.secrets import make_secret

SECRET = make_secret("API_KEY", "sk-proj-" + "a1B2" * 8, ["api.test"])
OTHER = make_secret("OTHER", "correct-horse-9-battery", ["api.test"])
HELD = SECRET.placeholder.encode()


def percent(data: bytes) -> bytes:
    return "".join(f"%{byte:02X}" for byte in data).encode()


WRITTEN: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "upper case": bytes.upper,
    "half of it": lambda held: held[-32:],
    "percent": percent,
    "percent twice": lambda held: percent(percent(held)),
    "quoted": lambda held: quote(held).encode(),
    "json": lambda held: "".join(f"\\u{byte:04x}" for byte in held).encode(),
    "base64": base64.b64encode,
    "base64 of more": lambda held: base64.b64encode(b"user:" + held + b"!"),
    "base64 of still more": lambda held: base64.b64encode(b"u:" + held + b"!!"),
    "base64 url": lambda held: base64.urlsafe_b64encode(b"?" + held),
    "base64 in json": lambda held: json.dumps({"k": base64.b64encode(held).decode()}).encode(),
    "base64 of upper case": lambda held: base64.b64encode(held.upper()),
    "hexadecimal": lambda held: held.hex().encode(),
    "hexadecimal, upper case": lambda held: held.hex().upper().encode(),
    "percent behind what is no escape": lambda held: b"%%%\r%\n" + percent(held),
    "percent in json": lambda held: percent("".join(f"\\u{byte:04x}" for byte in held[-32:]).encode())[:2000],
    "base64 in lines": lambda held: base64.encodebytes(b"x" * 30 + held),
    "base64 in lines in json": lambda held: json.dumps(base64.encodebytes(b"x" * 30 + held).decode()).encode(),
    "base64 in lines, percent": lambda held: quote(base64.encodebytes(b"x" * 30 + held)).encode(),
    "base32": base64.b32encode,
    "base32 behind one": lambda held: base64.b32encode(b"x" + held + b"!"),
    "base32 behind two": lambda held: base64.b32encode(b"xx" + held + b"!"),
    "base32 behind three": lambda held: base64.b32encode(b"xxx" + held + b"!"),
    "base32 behind four": lambda held: base64.b32encode(b"xxxx" + held + b"!").lower(),
    "wide characters": lambda held: held.decode().encode("utf-16"),
    "hexadecimal with blanks": lambda held: held.hex(" ").encode(),
    "hexadecimal of upper case": lambda held: held.upper().hex().encode(),
    "in pieces": lambda held: json.dumps([held[at : at + 4].decode() for at in range(0, len(held), 4)]).encode(),
    "percent of base64": lambda held: percent(base64.b64encode(held)),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_every_spelling_is_found(written: str) -> None:
    text = b"before " + WRITTEN[written](HELD) + b" after"
    assert Lookout([OTHER, SECRET]).feed(text) == SECRET
    assert Lookout([OTHER]).feed(text) is None


@given(st.sampled_from(sorted(WRITTEN)), st.binary(max_size=40), st.lists(st.integers(0, 2400), max_size=12))
@example("percent in json", b"", [531])
def test_where_a_text_is_torn_makes_no_difference(written: str, before: bytes, cuts: list[int]) -> None:
    text = before.replace(b"%", b"").replace(b"\\", b"") + b" " + WRITTEN[written](HELD) + b" after"
    look, places = Lookout([SECRET]), [0, *sorted(cuts), len(text)]
    found = [look.feed(text[a:b]) for a, b in zip(places, places[1:], strict=False)]
    assert SECRET in found


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    ],
)
def test_it_is_found_under_a_content_coding(coding: str, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(b"x" * 100_000 + HELD)
    assert Lookout([SECRET], coding).feed(packed) == SECRET
    look = Lookout([SECRET], coding)
    assert SECRET in [look.feed(packed[at : at + 7]) for at in range(0, len(packed), 7)]
    assert Lookout([SECRET], coding).feed(b"not packed " + HELD) == SECRET


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_it_is_found_in_a_body_that_is_a_compressed_file(pack: Callable[[bytes], bytes]) -> None:
    look, packed = Lookout([SECRET]), pack(b"x" * 100_000 + HELD)
    assert SECRET in (look.feed(packed[:20]), look.feed(packed[20:]))


def test_names_of_hosts_are_read_across_their_dots() -> None:
    core = SECRET.core.encode()
    assert Lookout([SECRET]).seen_in(core[:16] + b"." + core[16:] + b".evil.test") == SECRET
    assert Lookout([SECRET]).seen_in(b"evil.test") is None


def test_a_bomb_is_looked_into_for_a_while_only() -> None:
    packed = gzip.compress(gzip.compress(b"\0" * (200 << 20), 9), 9)
    assert Lookout([SECRET], "gzip, gzip").feed(packed) is None


@given(st.binary(max_size=400), st.sampled_from(["", "gzip", "br", "zstd", "deflate, gzip", "nonsense"]))
def test_anything_can_be_looked_at(data: bytes, coding: str) -> None:
    assert Lookout([SECRET], coding).feed(data) is None
    assert Lookout([SECRET]).seen_in(data) is None
    assert Lookout([]).feed(data) is None
