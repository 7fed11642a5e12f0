"""`sandtrail find` over a real store: in which session, turn and exchange a file's bytes went out or came in."""

from __future__ import annotations

import base64
import gzip
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner, Result

from sandtrail.cli import app
from sandtrail.replay.api import create_app
from sandtrail.store import sealer
from tests.replay.index.recording import Recorder

FILE = b"the plan of the vault\n" * 20
DIGEST = sha256(FILE).hexdigest()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three sessions: one uploads the file and downloads it compressed, another puts it into JSON, and from
    the third it is not let out."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
            patch.setattr(sealer, name, 0.0)
        home = tmp_path_factory.mktemp("find") / "home"
        made = Recorder(home)
        form = httpx.Request("POST", "http://drop.test/", files={"f": ("vault.txt", FILE)})
        media = form.headers["content-type"]
        coded = {"content-type": "text/plain", "content-encoding": "gzip"}
        session(made, "s1", [
            ("http://drop.test/new", form.read(), {"content-type": media}, b"ok", {}),
            ("http://drop.test/get", b"", {}, gzip.compress(FILE), coded),
        ])  # fmt: skip
        talk = json.dumps({"image": base64.b64encode(FILE).decode()}).encode()
        session(made, "s2", [("http://api.test/", talk, {"content-type": "application/json"}, b"{}", {})])
        session(made, "s3", [("http://denied.test/", FILE, {"content-type": "text/plain"}, None, {})])
        made.stop()
    return home


def session(
    made: Recorder, name: str, exchanges: list[tuple[str, bytes, dict[str, str], bytes | None, dict[str, str]]]
) -> None:
    life = made.open("lifecycle", name, part="record", command=["sh"])
    gateway = made.open("gateway", name)
    for number, (url, asked, headers, answered, back) in enumerate(exchanges):
        key = {"flow": "f", "id": str(number)}
        request = {"t": "request", **key, "method": "POST", "url": url, "headers": list(headers.items()), **body(asked)}
        ended = {"t": "error", **key, "message": "denied", "by": "gateway", "reason": "denied", "at_ns": 2}
        if answered is not None:
            ended = {"t": "response", **key, "status": 200, "headers": list(back.items()), **body(answered)}
        for frame in (request, ended):
            gateway.write(json.dumps(frame).encode())
    gateway.close("ended", dropped=0)
    made.act(life, "exit", container=f"{name}-agent", exit_status=0)
    life.close("ended")
    made.seal()


def body(data: bytes) -> dict[str, Any]:
    told = {"body": base64.b64encode(data).decode(), "body_bytes": len(data)}
    return {**told, "body_sha256": sha256(data).hexdigest(), "start_ns": 1, "end_ns": 2}


def run(home: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["find", *words, "--home", str(home)])


def test_a_file_is_found_wherever_it_went(home: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(FILE)
    result = run(home, str(tmp_path / "copy"), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["sha256"] == DIGEST
    assert [(seen["session"], seen["way"], seen["how"], seen["name"], seen["bytes"]) for seen in told["found"]] == [
        ("s1", "left", "part", "f, vault.txt", len(FILE)),
        ("s1", "arrived", "decoded body", "", len(FILE)),
        ("s2", "left", "base64", "image", len(FILE)),
        ("s3", "refused", "body", "", len(FILE)),
    ]
    assert all(seen["ref"].count(".") == 1 for seen in told["found"])
    assert {seen["turn"] for seen in told["found"]} == {None}


def test_one_session_can_be_looked_at_alone(home: Path) -> None:
    result = run(home, DIGEST.upper(), "--session", "s2")
    assert result.exit_code == 0
    assert f"sha256 {DIGEST}: seen 1×" in result.stdout
    assert (
        "session s2, unexplained: left the sandbox as base64 (image), 440 bytes  POST http://api.test/" in result.stdout
    )


def test_bytes_that_were_never_seen_end_with_one(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"something else")
    result = run(home, str(tmp_path / "other"))
    assert (result.exit_code, result.stdout.strip().endswith("not seen")) == (1, True)


@pytest.mark.parametrize("what", ["no-such-file", "empty"])
def test_what_is_no_file_of_any_bytes_is_refused(home: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").write_bytes(b"")
    result = run(home, str(tmp_path / what))
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "UsageError"


def test_events_are_found_by_digest_over_http(home: Path) -> None:
    with TestClient(create_app(home), base_url="http://127.0.0.1") as client:
        found = client.get("/v1/events", params={"sha256": DIGEST}).raise_for_status().json()["events"]
        assert {event["session"] for event in found} == {"s1", "s2", "s3"}
        assert {event["kind"] for event in found} == {"http.request", "http.exchange"}
        none = client.get("/v1/events", params={"sha256": "0" * 64, "session": "s1"}).json()["events"]
        assert none == []
        assert client.get("/v1/events", params={"sha256": "abc"}).status_code == 400
