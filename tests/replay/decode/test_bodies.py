"""What bodies carried, in the events of the gateway: whole, in pieces, and after a stop in the middle."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import cbor2
import httpx
import pytest

from sandtrail.replay.decode.bodies import MAX_HELD
from sandtrail.replay.decode.gateway import Drafted, Exchanges

FILE = bytes(range(256)) * 40
DIGEST = sha256(FILE).hexdigest()
KEY = {"flow": "f", "id": "1"}
FORM = httpx.Request("POST", "http://x/", files={"paper": ("report.pdf", FILE, "application/pdf")})


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def request(body: bytes = b"", **more: Any) -> dict[str, Any]:
    headers = [[name, value] for name, value in FORM.headers.items()]
    asked = {"t": "request", **KEY, "method": "POST", "url": "http://x/", "headers": headers, "body": b64(body)}
    return {**asked, "body_bytes": len(body), "body_sha256": sha256(body).hexdigest(), "end_ns": 5, **more}


def response(body: bytes = b"", **more: Any) -> dict[str, Any]:
    return {"t": "response", **KEY, "status": 200, "headers": [], "body": b64(body), "end_ns": 9, **more}


def feed(frames: list[dict[str, Any]], stop: int = -1) -> list[Drafted]:
    exchanges, out = Exchanges(), []
    for number, frame in enumerate(frames):
        if number == stop:
            state = cbor2.loads(cbor2.dumps(exchanges.dump()))
            exchanges = Exchanges()
            exchanges.load(state)
        out += exchanges.feed(f"1.{number}", 7, json.dumps(frame).encode())
    return out


def part(event: Drafted, side: str = "request") -> dict[str, Any]:
    (found,) = event[4][side]["parts"]
    return dict(found)


def test_a_file_in_a_form_is_named_with_its_digest() -> None:
    asked, told = feed([request(FORM.read()), response(b"ok")])
    for event in (asked, told):
        assert part(event) == {
            "as": "part",
            "name": "paper",
            "file": "report.pdf",
            "media": "application/pdf",
            "bytes": len(FILE),
            "sha256": DIGEST,
        }
        assert event[4]["request"]["media"] == "multipart/form-data"


@pytest.mark.parametrize("stop", [-1, 1, 2, 3, 4])
def test_a_body_that_passes_in_pieces_is_read_when_it_has_passed_whenever_we_stop(stop: int) -> None:
    body = FORM.read()
    head = request(stream=True, end_ns=None)
    pieces = [{"t": "request_chunk", **KEY, "data": b64(body[at : at + 4000])} for at in range(0, len(body), 4000)]
    asked, told = feed([head, *pieces, request(stream=True, chunks=3), response()], stop)
    assert "parts" not in asked[4]["request"]
    assert part(told)["sha256"] == DIGEST


def test_a_download_in_pieces_has_the_digest_of_what_was_coded() -> None:
    headers = [["content-encoding", "gzip"], ["content-disposition", "attachment; filename=a.bin"]]
    pieces = [
        {"t": "chunk", **KEY, "data": b64(FILE[at : at + 5000]), "decoded": True} for at in range(0, len(FILE), 5000)
    ]
    head = response(stream=True, headers=headers, end_ns=None)
    *_, told = feed([request(), head, *pieces, response(stream=True, headers=headers)])
    assert part(told, "response") == {"as": "decoded", "bytes": len(FILE), "sha256": DIGEST}
    assert told[4]["response"]["file"] == "a.bin"


def test_a_body_too_long_to_be_taken_apart_says_so_and_frees_what_it_held() -> None:
    piece = {"t": "request_chunk", **KEY, "data": b64(b"x" * (MAX_HELD // 2))}
    exchanges = Exchanges()
    for frame in (request(stream=True, end_ns=None), piece, piece, piece):
        exchanges.feed("1.1", 7, json.dumps(frame).encode())
    assert len(cbor2.dumps(exchanges.bodies.dump())) < 100
    exchanges.feed("1.1", 7, json.dumps(request(stream=True, chunks=3)).encode())
    (told,) = exchanges.feed("1.2", 7, json.dumps(response()).encode())
    assert told[4]["request"]["unread"] is True
    assert exchanges.bodies.dump() == []


def test_a_form_with_a_thousand_files_stays_within_the_detail() -> None:
    form = httpx.Request("POST", "http://x/", files=[("f" * 200, ("n" * 200, bytes([n % 256]))) for n in range(900)])
    headers = [[name, value] for name, value in form.headers.items()]
    (asked,) = feed([request(form.read(), headers=headers)])
    assert asked[4]["request"]["parts_total"] == 900
    assert len(json.dumps(asked[4])) < 40_000
