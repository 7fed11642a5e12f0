"""Bytes of files in bodies: each way in which clients send them is found by its digest."""

from __future__ import annotations

import base64
import gzip
import json
from email.message import EmailMessage
from hashlib import sha256
from typing import Any

import brotli  # type: ignore[import-untyped]  # it has no type hints
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models.contents import LEAST_BASE64, MAX_FIELDS, MAX_NODES, MAX_SEARCHED, contents_of, of_query
from sandtrail.replay.models.multipart import boundary_of, file_name, parts_of

FILE = bytes(range(256)) * 3


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def contents(body: bytes, media: str = "", **how: Any) -> dict[str, Any]:
    headers = [("Content-Type", media), *how.pop("headers", [])]
    return contents_of(body, headers, **{"decoded": False, "cut": False, "redacted": False, **how})


def digests(found: dict[str, Any]) -> dict[str, str]:
    return {part["sha256"]: part["as"] for part in found.get("parts", [])}


names = st.text(
    st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters='"\\\r\n'), min_size=1, max_size=20
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(names, names, st.binary(max_size=300)), min_size=1, max_size=6),
    st.dictionaries(names, names, max_size=3),
)
def test_what_an_http_client_puts_into_a_form_is_taken_out_again(
    files: list[tuple[str, str, bytes]], fields: dict[str, str]
) -> None:
    given_files = [(name, (file, data, "application/pdf")) for name, file, data in files]
    request = httpx.Request("POST", "http://x/", data=fields, files=given_files)
    media = request.headers["content-type"]
    parts = parts_of(request.read(), boundary_of(media))
    assert [part.data for part in parts if part.file or part.media] == [data for _, _, data in files]
    assert [part.data.decode() for part in parts if not part.media] == list(fields.values())
    found = contents(request.content, media)
    assert {digest(data) for _, _, data in files} <= set(digests(found))
    assert found["parts_total"] == len(files) + len(fields)
    assert not any(part.cut for part in parts)


def test_a_mail_of_parts_in_base64_is_read_as_what_it_carries() -> None:
    mail = EmailMessage()
    mail.set_content("see the file")
    mail.add_attachment(FILE, maintype="application", subtype="octet-stream", filename="naïve file.bin")
    head, _, body = mail.as_bytes(policy=mail.policy.clone(linesep="\r\n")).partition(b"\r\n\r\n")
    media = mail["content-type"].replace("\n", "")
    assert head
    part = parts_of(body, boundary_of(media))[1]
    assert (part.file, part.data) == ("naïve file.bin", FILE)


def test_a_form_that_breaks_off_has_its_last_part_marked() -> None:
    request = httpx.Request("POST", "http://x/", files=[("a", ("a", b"1" * 50)), ("b", ("b", b"2" * 50))])
    body, media = request.read(), request.headers["content-type"]
    first, second = parts_of(body[:-80], boundary_of(media))
    assert (first.data, first.cut) == (b"1" * 50, False)
    assert second.cut
    assert (b"2" * 50).startswith(second.data)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ('form-data; name="f"; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=plain.bin", "plain.bin"),
        ("attachment; filename=\"x\"; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ('form-data; name="f"; filename="a\\"b"', 'a"b'),
        ("inline", ""),
    ],
)
def test_file_names(told: str, name: str) -> None:
    assert file_name(told) == name


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"deep": [{"file": base64.b64encode(FILE).decode()}], "n": 1}).encode(),
        json.dumps({"image_url": {"url": "data:image/png;base64," + base64.b64encode(FILE).decode()}}).encode(),
        json.dumps([base64.urlsafe_b64encode(FILE).decode().rstrip("=")]).encode(),
        base64.b64encode(FILE),
        base64.encodebytes(FILE),
        b"a=1&data=" + base64.b64encode(FILE).replace(b"+", b"%2B").replace(b"/", b"%2F"),
        b"data=" + base64.b64encode(FILE),
    ],
)
def test_base64_is_found_in_objects_forms_and_alone(body: bytes) -> None:
    assert digests(contents(body, "application/x-www-form-urlencoded")) == {digest(FILE): "base64"}


def test_base64_in_an_object_says_where() -> None:
    found = contents(json.dumps({"a": [0, {"b": base64.b64encode(FILE).decode()}]}).encode(), "application/json")
    (part,) = found["parts"]
    assert part == {"as": "base64", "name": "a[1].b", "bytes": len(FILE), "sha256": digest(FILE)}


def test_what_cannot_hold_base64_does_not_keep_from_what_can() -> None:
    held = base64.b64encode(FILE).decode()
    found = contents(json.dumps([0] * 300_000 + [{"k": "v"}, held]).encode(), "application/json")
    assert [(part["name"], part["sha256"]) for part in found["parts"]] == [("[300001]", digest(FILE))]


def test_base64_in_a_url_is_found() -> None:
    (part,), left = of_query("https://x/?q=1&d=" + base64.urlsafe_b64encode(FILE).decode())
    assert left == 0
    assert (part["as"], part["name"], part["sha256"]) == ("query", "d", digest(FILE))


@pytest.mark.parametrize(("coding", "coded"), [("gzip", gzip.compress(FILE)), ("br", brotli.compress(FILE))])
def test_a_coded_body_has_the_digest_of_what_was_coded(coding: str, coded: bytes) -> None:
    found = contents(coded, "application/pdf", headers=[("Content-Encoding", coding)])
    assert digests(found) == {digest(FILE): "decoded"}
    assert digests(contents(FILE, headers=[("Content-Encoding", coding)], decoded=True)) == {digest(FILE): "decoded"}


def test_ordinary_bodies_have_no_parts() -> None:
    assert contents(b"hello", "text/plain") == {"media": "text/plain"}
    assert contents(json.dumps({"text": "some words, " * 50}).encode(), "application/json") == {
        "media": "application/json"
    }
    assert contents(b"") == {}


def test_what_is_cut_or_had_credentials_taken_out_says_so() -> None:
    body = json.dumps({"f": base64.b64encode(FILE).decode()}).encode()
    (part,) = contents(body, redacted=True)["parts"]
    assert part["redacted"]
    request = httpx.Request("POST", "http://x/", files=[("a", ("a", FILE))])
    (part,) = contents(request.read(), request.headers["content-type"], cut=True)["parts"]
    assert part["cut"]


def test_of_many_parts_the_largest_are_kept_and_all_are_counted() -> None:
    files = [("f", (str(n), b"x" * n)) for n in range(100)]
    request = httpx.Request("POST", "http://x/", files=files)
    found = contents(request.read(), request.headers["content-type"])
    assert found["parts_total"] == 100
    assert len(found["parts"]) == 24
    assert {part["bytes"] for part in found["parts"]} == set(range(76, 100))


@settings(deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from(["multipart/form-data; boundary=b", "application/json", "", 'multipart/x; boundary=""']),
    st.booleans(),
)
def test_nothing_makes_it_raise(body: bytes, media: str, marked: bool) -> None:
    if marked:
        body = b"--b\r\n" + body.replace(b"\n", b"\r\n--b")
    found = contents(
        body, media, headers=[("Content-Encoding", "gzip, br"), ("Content-Disposition", body.decode("latin-1"))]
    )
    json.dumps(found, ensure_ascii=False).encode()


@given(st.binary(min_size=LEAST_BASE64))
def test_any_bytes_in_base64_are_found(data: bytes) -> None:
    assert digests(contents(json.dumps({"a": base64.b64encode(data).decode()}).encode())) == {digest(data): "base64"}


def test_long_text_that_is_nearly_base64_takes_no_longer() -> None:
    for body in (b"A" * 3_000_000 + b"!", b" \n" * 1_500_000 + b"!", b"A \n" * 1_000_000 + b"!"):
        assert contents(body, "text/plain") == {"media": "text/plain"}


BASE64 = base64.b64encode(FILE).decode()


def test_values_beyond_those_that_are_looked_at_are_counted() -> None:
    body = json.dumps([[[1]]] * MAX_NODES + [[BASE64], BASE64]).encode()
    found = contents(body, "application/json")
    # The list itself and the first half with what is in each are looked at.
    assert (found["unlooked"], "parts" in found) == (2 * MAX_NODES + 1 + 3 - MAX_NODES, False)


def test_fields_beyond_those_that_are_looked_at_are_counted() -> None:
    fields = "&".join(["a=1"] * (MAX_FIELDS - 1) + [f"d={BASE64}", "b=2", "c=3"]).replace("+", "%2B")
    found = contents(fields.encode(), "application/x-www-form-urlencoded")
    assert (digests(found), found["unlooked"]) == ({digest(FILE): "base64"}, 2)
    queried, left = of_query(f"https://x/?{fields}")
    assert ([part["sha256"] for part in queried], left) == ([digest(FILE)], 2)
    assert "unlooked" not in contents(fields.removesuffix("&b=2&c=3").encode(), "application/x-www-form-urlencoded")


def test_parts_beyond_those_that_are_taken_apart_are_counted() -> None:
    body = b"--b\r\n\r\nx\r\n" * 1005 + b"--b--\r\n"
    found = contents(body, "multipart/form-data; boundary=b")
    assert (found["parts_total"], found["unlooked"]) == (1000, 5)


def test_a_coding_that_is_not_known_hides_what_is_in_it_and_says_so() -> None:
    found = contents(FILE, "application/pdf", headers=[("Content-Encoding", "lz4")])
    assert found == {"media": "application/pdf", "unread": True}
    (part,) = contents(gzip.compress(FILE)[:-9], headers=[("Content-Encoding", "gzip")])["parts"]
    assert (part["as"], part["cut"]) == ("decoded", True)


def test_a_body_too_long_to_be_searched_says_so() -> None:
    assert contents(b"x" * (MAX_SEARCHED + 1), "application/json") == {"media": "application/json", "unread": True}
