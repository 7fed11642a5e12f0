"""Where a placeholder becomes a value, and where it does not; and values that come back."""

from __future__ import annotations

import base64
import gzip
import json
import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.redact import Redactor
from sandtrail.collector.gateway.returns import Returns, written_forms
from sandtrail.collector.gateway.swap import Swap
from sandtrail.collector.gateway.vault import Vault
from sandtrail.collector.secrets import make_secret

# Every character that one of the spellings has to escape.
VALUE = 'sk-proj-a1+/=&?"\\ %B2~9z'
SECRET = make_secret("API_KEY", VALUE, ["api.test", "*.cdn.test"])
OTHER = make_secret("OTHER", "correct-horse-9-battery", ["other.test"])
HELD = SECRET.placeholder
REDACTOR = Redactor(Fingerprinter(b"k" * 32), {"fields": ["pin"], "query": ["ticket"]})


def request(body: bytes = b"", url: str = "https://api.test/", **headers: str) -> http.Request:
    made = http.Request.make(
        "POST", url, b"", http.Headers((k.replace("_", "-").encode(), v.encode()) for k, v in headers.items())
    )
    made.raw_content = body
    made.headers["content-length"] = str(len(body))
    return made


def swapped(asked: http.Request) -> tuple[http.Request, list[tuple[str, str]]]:
    swap = Swap(asked, [SECRET], REDACTOR.names_field, body=True)
    swap.apply(asked)
    return asked, [(where, at) for _, where, at in swap.made]


def test_headers_of_any_name() -> None:
    asked, made = swapped(
        request(authorization=f"Bearer {HELD}", x_api_key=HELD, x_note=f"a {HELD} b", cookie=f"a={HELD}")
    )
    assert asked.headers["authorization"] == f"Bearer {VALUE}"
    assert asked.headers["x-api-key"] == VALUE
    assert asked.headers["x-note"] == f"a {VALUE} b"
    assert asked.headers["cookie"] == f"a={VALUE}"
    assert made == [("header", name) for name in ("authorization", "x-api-key", "x-note", "cookie")]


@pytest.mark.parametrize("pair", [f"user:{HELD}", f"{HELD}:", f"x-access-token:{HELD}", f"{HELD}:{HELD}"])
def test_the_user_and_password_of_a_basic_authorization(pair: str) -> None:
    asked, made = swapped(request(authorization="Basic " + base64.b64encode(pair.encode()).decode()))
    scheme, _, coded = asked.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(coded).decode()) == ("Basic", pair.replace(HELD, VALUE))
    assert set(made) == {("header", "authorization")}


def test_parameters_that_name_a_credential() -> None:
    asked, made = swapped(request(url=f"https://api.test/a?key={HELD}&ticket=x{HELD}&q={HELD}&%6bey={HELD}"))
    query = parse_qs(urlsplit(asked.path).query)
    assert query == {"key": [VALUE, VALUE], "ticket": [f"x{VALUE}"], "q": [HELD]}
    assert made == [("query", "key"), ("query", "ticket"), ("query", "key")]


@pytest.mark.parametrize("kind", ["application/json", "application/vnd.api+json; charset=utf-8", "APPLICATION/JSON"])
def test_fields_of_json_that_name_a_credential(kind: str) -> None:
    said = {
        "client_secret": HELD,
        "auth": {"api_key": HELD, "list": [{"token": f"Bearer {HELD}"}], "pin": HELD},
        "messages": [{"role": "user", "content": HELD}, {"content": json.dumps({"api_key": HELD})}],
        "n": 1.10,
        "key": [HELD],
    }
    text = json.dumps(said, indent=1).replace("1.1", "1.10")
    asked, made = swapped(request(text.encode(), content_type=kind))
    sent = json.loads(asked.content or b"")
    assert sent["client_secret"] == VALUE
    assert sent["auth"] == {"api_key": VALUE, "list": [{"token": f"Bearer {VALUE}"}], "pin": VALUE}
    assert sent["messages"] == said["messages"]
    assert sent["key"] == [HELD]
    assert b"1.10" in (asked.content or b"")
    assert asked.headers["content-length"] == str(len(asked.content or b""))
    assert made == [("body", name) for name in ("client_secret", "api_key", "token", "pin")]


def test_fields_of_a_form_that_name_a_credential() -> None:
    body = f"grant_type=x&client_secret={HELD}&note={HELD}".encode()
    asked, made = swapped(request(body, content_type="application/x-www-form-urlencoded"))
    fields = parse_qs((asked.content or b"").decode())
    assert fields == {"grant_type": ["x"], "client_secret": [VALUE], "note": [HELD]}
    assert made == [("body", "client_secret")]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (f"password={HELD}".encode(), {"content_type": "text/plain"}),
        (gzip.compress(f"password={HELD}".encode()),
         {"content_type": "application/x-www-form-urlencoded", "content_encoding": "gzip"}),
        (f'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n{HELD}\r\n--b--'.encode(),
         {"content_type": "multipart/form-data; boundary=b"}),
        (f'{{"token": "{HELD}'.encode(), {"content_type": "application/json"}),
    ],
)  # fmt: skip
def test_other_bodies_go_out_as_they_are(body: bytes, headers: dict[str, str]) -> None:
    asked, made = swapped(request(body, **headers))
    assert (asked.raw_content, made) == (body, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["x", HELD, f"a{HELD}", '"', "\\", ":"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["token", "content", "api_key", '"', "a:", "\\"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def expected(said: Any) -> Any:
    if isinstance(said, dict):
        return {
            key: value.replace(HELD, VALUE)
            if key in ("token", "api_key") and isinstance(value, str)
            else expected(value)
            for key, value in said.items()
        }
    return [expected(item) for item in said] if isinstance(said, list) else said


@given(JSON, st.sampled_from([None, 2]))
def test_json_stays_what_it_was_but_for_the_fields_that_are_swapped(said: Any, indent: int | None) -> None:
    asked, _ = swapped(request(json.dumps(said, indent=indent).encode(), content_type="application/json"))
    assert json.loads(asked.content or b"null") == expected(said)


@given(
    st.binary(max_size=200),
    st.sampled_from(["application/json", "application/x-www-form-urlencoded"]),
    st.binary(max_size=60),
)
def test_any_request_can_be_worked_on(body: bytes, kind: str, path: bytes) -> None:
    asked = request(body + HELD.encode(), content_type=kind)
    asked.data.path = b"/" + path
    asked.data.headers.fields += ((b"Authorization", b"Basic " + path), (body[:20] or b"x", body))
    swapped(asked)


def test_a_string_that_does_not_end_is_read_once() -> None:
    body = HELD.encode() + b'"' + b'\\"' * 100_000  # to begin again at each quotation mark would take minutes
    began = time.process_time()
    asked, made = swapped(request(body, content_type="application/json"))
    assert (asked.raw_content, made) == (body, [])
    assert time.process_time() - began < 10


def vault() -> Vault:
    described = [{"name": secret.name, "hosts": list(secret.hosts)} for secret in (SECRET, OTHER)]
    return Vault([SECRET, OTHER], described, REDACTOR)


@pytest.mark.parametrize(
    ("names", "private", "own"),
    [
        (["api.test"], True, True),
        (["API.test.", "a.cdn.test"], True, True),
        (["api.test"], False, False),
        (["api.test", "other.test"], True, False),
        (["other.test"], True, False),
        (["api.test.evil.test"], True, False),
        ([], True, False),
    ],
)
def test_every_name_has_to_be_entitled_and_nobody_may_listen(names: list[str], private: bool, own: bool) -> None:
    access = vault().access(names, private=private)
    asked = request(authorization=f"Bearer {HELD}")
    refusal = access.judge_head(asked, names)
    assert (refusal is None) == own
    if refusal is not None:
        assert (refusal.status, refusal.facts["secret"], refusal.facts["in"]) == (403, "API_KEY", "header")
    swap = access.swap(asked, body=False)
    assert bool(swap and swap.records) == own


def test_another_secrets_placeholder_is_not_for_this_host() -> None:
    access = vault().access(["api.test"], private=True)
    refusal = access.judge_head(request(x_key=OTHER.placeholder), ["api.test"])
    assert refusal is not None
    assert refusal.facts["secret"] == "OTHER"


@pytest.mark.parametrize("form", written_forms(VALUE.encode()))
def test_what_comes_back_is_replaced_in_each_form(form: bytes) -> None:
    text = Returns([SECRET]).text(b"before " + form + b" after")
    assert form not in text
    assert HELD.encode() in text


@given(st.lists(st.sampled_from([VALUE, VALUE[:9], VALUE[4:], quote(VALUE, safe=""), "x", "sk-"]), max_size=8),
       st.lists(st.integers(0, 300), max_size=10))  # fmt: skip
def test_where_a_body_is_torn_makes_no_difference(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts).encode()
    returns, response = Returns([SECRET]), http.Response.make(200, b"", {"content-length": str(len(text))})
    recorded: list[bytes] = []

    def record(data: bytes) -> bytes:
        recorded.append(data)
        return data

    body = returns.body(request(), response, record)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in zip(places, places[1:], strict=False) if a < b]
    passed = [piece for data in [*pieces, b""] for piece in body(data)]
    assert b"".join(passed) == returns.text(text)
    assert all(passed), "an empty piece would end a chunked body"
    assert b"".join(recorded) == text
    assert VALUE.encode() not in b"".join(passed)
    assert "content-length" not in response.headers
