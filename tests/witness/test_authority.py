"""Asking an authority of time over HTTP: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.errors import DamagedError, EnvironmentRefusedError
from sandtrail.store.timestamp import check_token
from sandtrail.witness.authority import stamp
from sandtrail.witness.protocol import Reply
from tests.store.authority import REPLY, Authority, responder

pytestmark = pytest.mark.needs("openssl")
DATA = b"example.org/log\n7\nAAAA\n"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Authority(tmp_path / "authority")


def test_a_stamp_is_asked_for_over_http_and_checked_offline(authority: Authority) -> None:
    with authority.serving() as url:
        token = stamp(url, DATA, authority.roots)
    found = check_token(token, DATA, authority.roots)
    assert found.accuracy == 1_500_100_000
    assert found.authority == "CN=Local Time Authority"
    assert authority.agrees(token, DATA)


def test_an_answer_to_another_request_is_refused(authority: Authority) -> None:
    """A replayed answer is good in itself, and over the same data; only the nonce tells."""
    kept: list[bytes] = []

    def replay(request: bytes) -> Reply:
        kept.append(authority.reply(request))
        return Reply(200, kept[0], REPLY)

    with responder(replay) as url:
        stamp(url, DATA, authority.roots)
        with pytest.raises(DamagedError, match="nonce"):
            stamp(url, DATA, authority.roots)


def test_an_answer_over_other_data_is_refused_without_roots_as_well(authority: Authority) -> None:
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    def other(request: bytes) -> Reply:
        # The same nonce over other data: what a dishonest authority could answer.
        mine = TimestampRequestBuilder().data(DATA).hash_algorithm(HashAlgorithm.SHA256).build().message_imprint.message
        changed = request.replace(mine, bytes(32))
        assert changed != request
        return Reply(200, authority.reply(changed), REPLY)

    with responder(other) as url, pytest.raises(DamagedError, match="step 2"):
        stamp(url, DATA)


def test_a_refusal_carries_the_authoritys_words(authority: Authority) -> None:
    with authority.serving() as url:
        (authority.folder / "ts.cnf").write_text(
            (authority.folder / "ts.cnf").read_text().replace("digests = sha256, sha512", "digests = sha512")
        )
        with pytest.raises(EnvironmentRefusedError, match="refused: status 2"):
            stamp(url, DATA)


@pytest.mark.parametrize(
    ("status", "kind", "body", "says"),
    [
        (500, "text/plain", b"no", "answered 500"),
        (302, "text/html", b"", "answered 302"),
        (200, "text/html", b"<html>", "not a time stamp"),
        (200, "application/timestamp-reply", bytes(40000), "more than"),
    ],
)
def test_what_is_no_answer_is_refused(status: int, kind: str, body: bytes, says: str) -> None:
    with (
        responder(lambda _request: Reply(status, body, kind)) as url,
        pytest.raises(EnvironmentRefusedError, match=says),
    ):
        stamp(url, DATA)


@pytest.mark.parametrize(
    "body", [b"", b"\x30\x00", b"\x30\x05\x30\x03\x02\x01\x00", b"\x30\x03\x02\x01\x00", bytes(50)]
)
def test_an_answer_without_a_token_is_refused(body: bytes) -> None:
    with (
        responder(lambda _request: Reply(200, body, REPLY)) as url,
        pytest.raises((EnvironmentRefusedError, DamagedError)),
    ):
        stamp(url, DATA)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ftp://127.0.0.1/", "nowhere", "http://[::"])
def test_an_authority_that_cannot_be_reached_is_named(url: str) -> None:
    with pytest.raises(EnvironmentRefusedError, match="can't be reached"):
        stamp(url, DATA, timeout=5)
