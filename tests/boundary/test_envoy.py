"""Requests through a real Envoy, told by its access log service over gRPC and by its JSON log."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.envoy_proxy import NODE, envoy
from tests.boundary.litellm_proxy import ingesting, timeline, wait_for
from tests.collector.gateway.upstream import Handler, Server, serving
from tests.conftest import new_home

SECRET = "sk-ant-api03-0123456789abcdefghijABCDEFGHIJ"


def _answer(handler: Handler) -> None:
    handler.answer(b"twelve bytes", 200, content_type="text/plain")


def _rows(told: dict[str, Any]) -> list[dict[str, Any]]:
    turns = told["turns"]
    return [row for turn in turns for row in turn["outputs"]]


def _enough(home: Path, session: str) -> dict[str, Any] | None:
    found = timeline(home, session)
    return found if len(_rows(found)) >= 3 else None


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, dict[str, Any]]]]:
    """The timelines by session: the service's records are bound by its node, those of the file to a session by name."""
    folder = tmp_path_factory.mktemp("envoy")
    with new_home() as home:
        log = folder / "access.json"
        log.touch()
        server = Server()
        server.fallback = _answer
        with (
            serving(server),
            ingesting(home, "envoy", "--listen", "127.0.0.1:0", "--by", "identifier.node.id") as listener,
            ingesting(home, "envoy", "--file", str(log), "--follow", "--session", "from-file"),
            envoy(folder, int(server.url.rpartition(":")[2]), int(listener.rpartition(":")[2]), log) as (http, tcp),
        ):
            asked = urllib.request.Request(f"http://127.0.0.1:{http}/notes?api_key={SECRET}", b"five!", method="POST")
            urllib.request.urlopen(asked, timeout=30).read()
            with suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"http://127.0.0.1:{http}/again", timeout=30)
            urllib.request.urlopen(f"http://127.0.0.1:{tcp}/blind", timeout=30).read()
            found = {session: wait_for(partial(_enough, home, session), session) for session in (NODE, "from-file")}
        yield home, found


@pytest.mark.parametrize("session", [NODE, "from-file"])
def test_requests_that_envoy_passed_on_are_rows_told_by_envoy(told: Any, session: str) -> None:
    rows = [row for row in _rows(told[1][session]) if row["kind"] == "http.exchange"]
    post = next(row for row in rows if row["object"].startswith("POST"))
    assert "/notes?api_key={{credential:" in post["object"]
    assert post["result"] == 200
    assert "told by envoy" in post["summary"]
    assert "5 bytes out, 12 in" in post["summary"]
    assert "told" in post["flags"]
    assert any(row["object"].startswith("GET") and row["object"].endswith("/again") for row in rows)


@pytest.mark.parametrize("session", [NODE, "from-file"])
def test_a_connection_that_envoy_did_not_look_into_is_told_by_its_bytes(told: Any, session: str) -> None:
    flows = [row for row in _rows(told[1][session]) if row["kind"] == "net.flow_end" and "bytes out" in row["summary"]]
    assert any(row["object"].startswith("127.0.0.1:") for row in flows)


def test_no_row_makes_a_finding_and_none_is_explained_by_more_than_its_time(told: Any) -> None:
    for session in told[1].values():
        assert session["findings"] == []
        assert {row["edge"]["confidence"] for row in _rows(session)} == {0.2}


def test_a_credential_in_a_path_is_nowhere_on_disk(told: Any) -> None:
    for path in told[0].rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
