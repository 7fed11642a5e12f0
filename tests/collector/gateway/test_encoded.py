"""Secrets in base64: found wherever they begin in what was encoded, and what is left can still be decoded."""

from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.gateway.encoded import base64_forms
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.redact import Redactor

KEY = b"k3y-0123456789abcdefghijKLMNOP"
secrets = st.text(string.ascii_letters + string.digits + "+/=_-.!#", min_size=12, max_size=60).map(str.encode)


def redactor(*secrets: bytes) -> Redactor:
    found = Redactor(Fingerprinter(b"k" * 32))
    for secret in secrets:
        found.know("KEY", secret, ())
    return found


@given(secrets, st.binary(max_size=7), st.binary(max_size=7), st.sampled_from([b"+/", b"-_"]), st.integers(1, 9))
def test_wherever_it_begins_it_is_gone_and_the_rest_is_as_it_was(
    secret: bytes, before: bytes, after: bytes, signs: bytes, step: int
) -> None:
    text = base64.b64encode(before + secret + after, signs)
    scan = redactor(secret).scan()
    clean = b"".join(scan.feed(text[at : at + step]) for at in range(0, len(text), step)) + scan.finish()
    assert (scan.count, len(clean)) == (1, len(text))
    said = base64.b64decode(clean, signs)
    assert (said[: len(before)], said[len(said) - len(after) :]) == (before, after)
    inside = said[len(before) : len(said) - len(after)]
    assert inside[1:-1].startswith(b"{{cred")
    assert inside[1:-1] != secret[1:-1]


@given(secrets)
def test_what_stands_there_breaks_no_json(secret: bytes) -> None:
    text = base64.b64encode(json.dumps({"delta": {"text": f"say {secret.decode()} now"}}).encode())
    clean, count = redactor(secret).text(text)
    assert count == 1
    assert json.loads(base64.b64decode(clean))["delta"]["text"].startswith("say ")


def test_a_secret_that_stood_in_a_telling_place_is_found_in_base64_later_on() -> None:
    found = redactor()
    found.headers([(b"x-api-key", KEY)])
    for text in (base64.b64encode(b"user:" + KEY), base64.urlsafe_b64encode(b"??" + KEY)):
        clean, count = found.text(b'{"bytes":"' + text + b'"}')
        assert count == 1
        assert KEY[3:-3] not in base64.b64decode(json.loads(clean)["bytes"], b"-_" if b"_" in text else None)


def test_an_event_of_bedrocks_with_a_secret_in_it_can_still_be_read() -> None:
    said = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": f"it is {KEY.decode()}"}}
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(said).encode()).decode(), "p": "abcd"}).encode()
    clean, _ = redactor(KEY).text(payload)
    assert len(clean) == len(payload)
    told = json.loads(base64.b64decode(json.loads(clean)["bytes"]))["delta"]["text"]
    assert told.startswith("it is ")
    assert "{{credential:key:" in told
    assert KEY.decode()[2:-2] not in told


@pytest.mark.parametrize("size", range(12, 16))
def test_every_form_is_long_enough_to_be_no_word(size: int) -> None:
    forms = dict(base64_forms(b"a" * size, b"{{credential}}"))
    assert min(map(len, forms)) >= 15
    assert all(len(form) == len(cover) for form, cover in forms.items())


def test_of_very_many_secrets_only_so_many_are_learned() -> None:
    found = redactor()
    for n in range(400):
        found.learn("x-key", b"secret-number-%03d" % n)
    assert found.text(b"secret-number-005 secret-number-300")[1] == 1
