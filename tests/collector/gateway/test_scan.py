"""Credentials in texts, whole and in pieces."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from re._parser import parse  # type: ignore[import-not-found]  # it is private and has no type hints

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandtrail.collector.gateway.patterns import BUILT_IN, REACH, field_rule, prefix_rule, query_rule
from sandtrail.collector.gateway.scan import Literals, Patterns, Scan
from tests.collector.gateway.secrets_of_all_kinds import TOKENS, in_context

PATTERNS = Patterns(BUILT_IN)


def mark(name: str, secret: bytes) -> bytes:
    return b"{{credential:%s:%s}}" % (name.encode(), hashlib.sha256(secret).hexdigest()[:16].encode())


def literals() -> Literals:
    known = Literals()
    known.add(b"s3cret value", "known")
    known.add(b"qwerty-98765", "known")
    return known


def scan(pieces: list[bytes], *, cut: bool = False) -> tuple[bytes, int]:
    text = Scan(PATTERNS, literals(), mark)
    return b"".join(map(text.feed, pieces)) + text.finish(cut=cut), text.count


def split(text: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(borders)] or [text]


@pytest.mark.parametrize("kind", TOKENS)
def test_each_kind_is_found_in_its_context(kind: str) -> None:
    text, count = scan([b"before " + in_context(kind) + b" after"])
    assert count == 1
    assert b"{{credential:%s:" % kind.encode() in text
    assert TOKENS[kind] not in text
    assert text.startswith(b"before ")
    assert text.endswith(b" after")


@pytest.mark.parametrize("kind", TOKENS)
def test_each_kind_is_found_in_single_bytes(kind: str) -> None:
    text = b"before " + in_context(kind) + b" after"
    assert scan([bytes([byte]) for byte in text]) == scan([text])


FRAGMENTS = [
    *map(in_context, TOKENS),
    b"sk-", b"sk-ant-", b"Bearer ", b"Authorization: Basic ", b"password", b'"password"', b'"password": "', b"null",
    b"password=", b'\\"api_key\\": \\"', b'\\\\"', b"?key=", b"&token=", b"://", b"me:pw@", b'"', b"'", b"\\", b" ",
    b"\n", b":", b"=", b"&", b"{", b"}", b"-", b"_", b".", b"abc1", b"0" * 40, b"A" * 4090, b"-----BEGIN ",
    b"PRIVATE KEY-----", b"-----END ", b"s3cret value", b"s3cret", b" val", b"qwerty-98765", b"qwerty-9876",
    b"{{credential:jwt:0123456789abcdef}}",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=12).map(b"".join)


@settings(max_examples=1500, deadline=None)
@given(text=TEXTS, places=st.lists(st.integers(0, 50_000), max_size=12))
@example(text=b"sk-eyJhbGciOiJI.eyJzdWIiOiIx.c2ln\x00sk-ant-api03-AbCd1234EfGh5678IjKl", places=[])
def test_where_a_text_is_cut_makes_no_difference(text: bytes, places: list[int]) -> None:
    assert scan(split(text, places)) == scan([text])


@settings(max_examples=300, deadline=None)
@given(text=TEXTS.filter(lambda text: len(text) < 2000))
def test_nor_do_single_bytes(text: bytes) -> None:
    assert scan([bytes([byte]) for byte in text]) == scan([text])


@settings(max_examples=500, deadline=None)
@given(
    kind=st.sampled_from(list(TOKENS)),
    before=st.binary(max_size=50).map(lambda b: b + b"\n"),
    after=st.binary(max_size=50).map(lambda b: b"\n" + b),
    places=st.lists(st.integers(0, 5000), max_size=10),
)
def test_no_secret_comes_out_whatever_stands_around_it(
    kind: str, before: bytes, after: bytes, places: list[int]
) -> None:
    text, _ = scan(split(before + in_context(kind) + after, places))
    assert TOKENS[kind] not in text


@settings(max_examples=500, deadline=None)
@given(kind=st.sampled_from(list(TOKENS)), data=st.data())
def test_a_text_that_breaks_off_in_a_secret_does_not_end_in_half_of_it(kind: str, data: st.DataObject) -> None:
    text = in_context(kind)
    start = text.index(TOKENS[kind])
    # A few bytes of it are not yet recognizable as a secret, and not yet one.
    stop = data.draw(st.integers(start + 12, start + len(TOKENS[kind])))
    out, _ = scan([text[:stop]], cut=True)
    assert text[start:stop] not in out


ORDINARY = [
    b"the task-management-and-planning-tool of the risk-analysis-department-2024",
    b"desk-lamp-with-1234567890-options and disk-usage-report-2026-11-21",
    b"You may authorize it. The password is required. Forgotten passwords are sent by mail; bearer of good news",
    b'{"max_tokens": 4096, "logprobs": [{"token": "Hello", "logprob": -0.1}], "password": null}',
    b"https://example.org/a/b?page=2&q=token#key and http://[::1]:8080/x, mailto:me@example.org",
    b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    b"{{credential:jwt:0123456789abcdef}}",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_alone(text: bytes) -> None:
    assert scan([text]) == (text, 0)


def test_what_is_replaced_already_is_not_replaced_again() -> None:
    once, _ = scan([b"\n".join(map(in_context, TOKENS))])
    assert scan([once]) == (once, 0)


@pytest.mark.parametrize(
    "text",
    [
        b'"api_key": "abc\\"def ghi"',
        b'{"arguments": "{\\"api_key\\": \\"abc def ghi\\"}"}',
        b'{\\\\\\"api_key\\\\\\": \\\\\\"abc def ghi\\\\\\"}',
        b"api_key = 'abc def ghi'",
        b"export API_KEY=abc_def_ghi; run",
        b"apikey: abc_def_ghi\n",
        b"x=1&api_key=abc_def_ghi&y=2",
    ],
)
def test_fields_are_found_in_many_spellings(text: bytes) -> None:
    out, count = scan([text])
    assert count == 1
    assert b"ghi" not in out
    assert re.search(rb"(?i)api_?key", out), "the field's name stays"


def test_a_long_run_is_not_scanned_again_for_every_byte() -> None:
    class Counting(Scan):
        scanned = 0

        def _replace_patterns(self, data: bytes, *, last: bool, cut: bool) -> bytes:
            self.scanned += len(data) + len(self._held)
            return super()._replace_patterns(data, last=last, cut=cut)

    text = Counting(PATTERNS, Literals(), mark)
    long = b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 16_000
    for byte in long:
        text.feed(bytes([byte]))
    text.finish()
    assert text.scanned < 20 * len(long)


def test_a_rule_of_the_operators() -> None:
    text = Scan(Patterns([*BUILT_IN, prefix_rule("acme-key", "acme_", 8)]), Literals(), mark)
    assert text.feed(b"use acme_12345678, not acme_x ") + text.finish() == (
        b"use " + mark("acme-key", b"acme_12345678") + b", not acme_x "
    )


def test_no_rule_looks_further_than_it_says() -> None:
    of_an_operator = [
        prefix_rule("acme-key", "a" * 64, 1024),
        field_rule("field", "f" * 128),
        query_rule("query-key", "q" * 128),
    ]
    for rule in [*BUILT_IN, *of_an_operator]:
        for pattern in (rule.pattern, rule.undecided):
            assert parse(pattern.pattern, pattern.flags).getwidth()[1] < REACH, rule.name
