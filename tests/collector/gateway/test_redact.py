"""Headers, URLs and what a session learns from them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.redact import Redactor, printable
from sandtrail.errors import UsageError

PRINTS = Fingerprinter(b"k" * 32)


@pytest.fixture
def redactor() -> Redactor:
    return Redactor(PRINTS)


def headers(redactor: Redactor, *fields: tuple[str, str]) -> dict[str, str]:
    shown, _ = redactor.headers([(name.encode(), value.encode()) for name, value in fields])
    return {name: value for name, value in shown}  # noqa: C416  # pairs are lists


def test_authorization_keeps_its_scheme(redactor: Redactor) -> None:
    shown = headers(redactor, ("Authorization", "Bearer abc"), ("Proxy-Authorization", "Basic bWU6cHc="))
    assert shown["Authorization"] == "Bearer " + PRINTS.mark("authorization", b"abc")
    assert shown["Proxy-Authorization"] == "Basic " + PRINTS.mark("proxy-authorization", b"bWU6cHc=")


@pytest.mark.parametrize(
    "name",
    [
        "x-api-key", "api-key", "X-Goog-Api-Key", "x-amz-security-token", "PRIVATE-TOKEN", "x-vault-token",
        "Ocp-Apim-Subscription-Key", "x-client-secret", "x-auth",
    ],
)  # fmt: skip
def test_headers_that_carry_secrets(redactor: Redactor, name: str) -> None:
    assert headers(redactor, (name, "abc")) == {name: PRINTS.mark(name.lower(), b"abc")}


@pytest.mark.parametrize(
    "name", ["content-type", "sec-websocket-key", "idempotency-key", "x-ratelimit-remaining-tokens", "etag", "author"]
)
def test_headers_that_do_not(redactor: Redactor, name: str) -> None:
    assert headers(redactor, (name, "abc")) == {name: "abc"}


def test_cookies_keep_their_names(redactor: Redactor) -> None:
    shown = headers(redactor, ("Cookie", "a=1; sid=xyz"), ("Set-Cookie", "sid=xyz; Path=/; HttpOnly"))
    assert shown["Cookie"] == f"a={PRINTS.mark('cookie', b'1')}; sid={PRINTS.mark('cookie', b'xyz')}"
    assert shown["Set-Cookie"] == f"sid={PRINTS.mark('cookie', b'xyz')}; Path=/; HttpOnly"


def test_a_url_keeps_what_is_no_secret(redactor: Redactor) -> None:
    url, count = redactor.url(b"https://x.test/p?a=1&key=abc&X-Amz-Signature=00ff&%61pi_key=zz#f")
    key, signature, encoded = (PRINTS.mark("query-key", secret) for secret in (b"abc", b"00ff", b"zz#f"))
    assert url == f"https://x.test/p?a=1&key={key}&X-Amz-Signature={signature}&%61pi_key={encoded}"
    assert count == 3


def test_one_secret_has_one_fingerprint_wherever_it_stands(redactor: Redactor) -> None:
    secret = "abcd-1234-efgh-5678"
    in_header = headers(redactor, ("Authorization", f"Bearer {secret}"))["Authorization"].split(":")[-1]
    in_url, _ = redactor.url(f"http://x.test/?token={secret}".encode())
    in_body, _ = redactor.text(json.dumps({"echo": secret}).encode())
    assert in_url.endswith(in_header)
    assert in_header in in_body.decode()


def test_what_stood_in_a_secrets_place_is_known_from_then_on(redactor: Redactor) -> None:
    text = b"they said abcd+1234/efgh and abcd%2B1234%2Fefgh"
    assert redactor.text(text) == (text, 0)
    headers(redactor, ("x-api-key", "abcd+1234/efgh"))
    shown, count = redactor.text(text)
    assert count == 2
    assert b"1234" not in shown.replace(b"credential", b"")


@pytest.mark.parametrize("word", ["password", "rm -rf /workspace", "/etc/passwd", "evil.example.org", "12345678901234"])
def test_no_word_can_be_blotted_out_by_calling_it_a_secret(redactor: Redactor, word: str) -> None:
    headers(redactor, ("authorization", word), ("x-api-key", word))
    text = f"the model said: {word}.".encode()
    assert redactor.text(text) == (text, 0)


def test_different_homes_have_different_fingerprints() -> None:
    assert Fingerprinter(b"a" * 32).mark("x", b"secret") != Fingerprinter(b"b" * 32).mark("x", b"secret")


def test_rules_of_the_operators() -> None:
    extra = {
        "headers": ["X-Acme"],
        "query": ["acme"],
        "fields": ["acmePin"],
        "prefixes": [{"name": "acme", "prefix": "ac_"}],
    }
    redactor = Redactor(PRINTS, extra)
    assert headers(redactor, ("x-acme", "1")) == {"x-acme": PRINTS.mark("x-acme", b"1")}
    assert "zz" not in redactor.url(b"http://x/?acme=zz")[0]
    assert b"4711" not in redactor.text(b'{"acmePin": "4711"}')[0]
    assert b"0123456789abcdef" not in redactor.text(b"ac_0123456789abcdef")[0].replace(
        PRINTS.mark("acme", b"ac_0123456789abcdef").encode(), b""
    )


@pytest.mark.parametrize(
    "extra",
    [
        {"header": []},
        {"headers": "x"},
        {"query": [1]},
        {"prefixes": [{"name": "A b", "prefix": "xx"}]},
        {"prefixes": ["x"]},
    ],
)
def test_rules_that_make_no_sense_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Redactor(PRINTS, extra)


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=80)), max_size=8), st.binary(max_size=200))
def test_any_bytes_become_printable_json(fields: list[tuple[bytes, bytes]], url: bytes) -> None:
    redactor = Redactor(PRINTS)
    shown = [
        redactor.headers(fields)[0],
        redactor.url(url)[0],
        redactor.message(url.decode("utf-8", "surrogateescape")),
    ]
    json.dumps(shown, ensure_ascii=False).encode()


def test_bytes_that_are_no_text_stay_readable() -> None:
    assert printable(b"caf\xc3\xa9 \xff") == "café \\xff"
    assert printable("a\udcff") == "a\\xff"


def test_a_remembered_url_is_looked_at_again_when_a_secret_was_learned(redactor: Redactor) -> None:
    url = b"https://api.test/v1/s3cr3t-0123456789/models"
    assert redactor.url(url) == redactor.url(url) == (url.decode(), 0)
    redactor.headers([(b"Authorization", b"Bearer s3cr3t-0123456789")])
    shown, found = redactor.url(url)
    assert found == 1
    assert "s3cr3t" not in shown
    assert redactor.url(url) == (shown, found)
