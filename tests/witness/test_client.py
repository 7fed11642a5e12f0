"""A log's side: asking real witnesses, and what comes of witnesses that fail, lie or dawdle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandtrail.errors import WitnessError
from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.note import open_checkpoint
from sandtrail.store.policy import Policy, State, parse_policy
from sandtrail.witness.client import Ahead, Conflict, Unreachable, add_checkpoint, collect, submit
from sandtrail.witness.folder import WitnessFolder
from sandtrail.witness.protocol import Misconduct, Reply, parse_request
from tests.witness.a_log import ALog
from tests.witness.running import Running, witness
from tests.witness.serving import serving

STRANGER = Ed25519Cosigner("stranger.example", bytes(32))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, WitnessFolder]]:
    """One witness for all tests, and its folder: each test has a log of its own there."""
    home = tmp_path_factory.mktemp("home")
    with witness(home, "--name", "w.example") as running:
        yield running, WitnessFolder(home / "witness")


@pytest.fixture
def log(tmp_path: Path) -> ALog:
    return ALog(tmp_path / "log", origin=f"log.example/{tmp_path.name}")


@pytest.fixture
def running(served: tuple[Running, WitnessFolder], log: ALog) -> Running:
    """The witness, knowing this test's log."""
    served[1].add_log(log.signer.verifier)
    return served[0]


@contextmanager
def pretending(answer: Callable[[bytes], Reply | None], shown: bytes = b"") -> Iterator[str]:
    """A witness that says what it likes; None: nothing, until the client leaves. `shown` is its checkpoint."""

    with serving(lambda method, _path, body: answer(body) if method == "POST" else Reply(200, shown)) as url:
        yield url


def policy(log: ALog, lines: str, rule: str) -> Policy:
    return parse_policy(f"log {log.vkey}\n{lines}{rule}\n".encode())


def test_a_growing_log_is_cosigned_by_both_keys(running: Running, log: ALog) -> None:
    wanted = policy(log, running.policy(), "group g all w0 w1\nquorum g")
    sizes: dict[str, int] = {}
    for size in (1, 5, 300, 300, 600):
        found = collect(wanted, log.head(size), log.reader(size).consistency, sizes=sizes)
        assert [one.error for one in found.asked] == [None, None]
        verdict = wanted.judge(found.note, max_age=600)
        assert verdict.ok, verdict.reason
        assert verdict.checkpoint == log.checkpoint(size)
        sizes = found.sizes
        assert sizes == {"w0": size, "w1": size}


def test_what_the_witness_holds_need_not_be_known(running: Running, log: ALog) -> None:
    wanted = policy(log, running.policy(), "quorum w0")
    for size, thought in ((5, 0), (300, 0), (400, 399), (500, 9999)):
        found = collect(wanted, log.head(size), log.reader(size).consistency, sizes={"w0": thought})
        assert wanted.judge(found.note).ok, found.asked


def test_a_log_that_was_cut_off_or_copied_is_told_that_the_witness_is_ahead(running: Running, log: ALog) -> None:
    wanted = policy(log, running.policy(), "quorum w0")
    assert wanted.judge(collect(wanted, log.head(300), log.reader(300).consistency).note).ok
    found = collect(wanted, log.head(5), log.reader(5).consistency)
    assert not wanted.judge(found.note).ok
    for one in found.asked:
        assert isinstance(one.error, Ahead)
        assert one.error.size == 300
        # What the witness shows is signed by the log itself: no word of the witness has to be believed.
        assert one.error.note is not None
        assert open_checkpoint(one.error.note, log.signer.verifier) == log.checkpoint(300)


def test_a_witness_that_only_says_that_it_is_ahead_shows_nothing(log: ALog) -> None:
    text = log.checkpoint(5).body.encode()
    for shown in (b"", log.head(300), log.head(5) + STRANGER.line(text)):
        with pretending(lambda _: Reply(409, b"300\n"), shown) as url, pytest.raises(Ahead) as caught:
            submit(url, log.head(5), [STRANGER.verifier], 0, log.reader(5).consistency)
        assert caught.value.note is None


def test_a_witness_that_is_away_does_not_keep_the_others_from_cosigning(running: Running, log: ALog) -> None:
    nobody = f"witness gone {STRANGER.verifier.vkey} http://127.0.0.1:1\n"
    wanted = policy(log, running.policy() + nobody, "group g 2 w0 w1 gone\nquorum g")
    found = collect(wanted, log.head(5), log.reader(5).consistency)
    verdict = wanted.judge(found.note)
    assert verdict.ok
    assert [one.state for one in verdict.witnesses] == [State.GOOD, State.GOOD, State.MISSING]
    errors = {one.name: one.error for one in found.asked}
    assert isinstance(errors["gone"], Unreachable)


def test_a_cosignature_that_is_there_is_kept_when_its_witness_is_away(log: ALog) -> None:
    text = log.checkpoint(5).body.encode()
    wanted = policy(log, f"witness gone {STRANGER.verifier.vkey} http://127.0.0.1:1\n", "quorum gone")
    found = collect(wanted, log.head(5) + STRANGER.line(text), log.reader(5).consistency)
    assert wanted.judge(found.note).ok
    assert found.asked[0].error is not None


def test_a_fork_is_refused_and_kept_by_the_witness(
    running: Running, served: tuple[Running, WitnessFolder], log: ALog, tmp_path: Path
) -> None:
    fork = ALog(tmp_path / "fork", word="other", origin=log.origin)
    wanted = policy(log, running.policy(), "quorum w0")
    assert wanted.judge(collect(wanted, log.head(5), log.reader(5).consistency).note).ok
    for size in (5, 9):
        found = collect(wanted, fork.head(size), fork.reader(size).consistency)
        assert not wanted.judge(found.note).ok
        assert all("422" in str(one.error) for one in found.asked)
    kept = [one for one in served[1].evidence() if one.origin == log.origin]
    assert [one.kind for one in kept] == [Misconduct.FORK, Misconduct.UNPROVEN]
    assert all(one.holds([log.signer.verifier]) for one in kept)


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, b"", "no signature lines"),
        (200, b"nonsense\n", "no signature lines"),
        (200, b"\xff\xfe\n", "no signature lines"),
        (200, "— other.example AAAAAAAA\n".encode(), "without the cosignature"),
        (200, b"x" * 300_000, "too great a length"),
        (403, b"no\x1b[2J", r"answers 403: 'no\\x1b"),
        (404, b"\xff" * 1000, "answers 404"),
        (409, b"", "answers 409"),
        (409, b"-1\n", "answers 409"),
        (409, b"9" * 30, "answers 409"),
        (409, b"9000000000000000000\n", "cosigned 9000000000000000000 entries"),
        (301, b"", "answers 301"),
    ],
)
def test_whatever_a_witness_says_is_checked(log: ALog, status: int, body: bytes, why: str) -> None:
    with pretending(lambda _: Reply(status, body)) as url, pytest.raises(WitnessError, match=why):
        submit(url, log.head(5), [STRANGER.verifier], 0, log.reader(5).consistency)


def test_a_cosignature_of_something_else_is_not_taken(log: ALog) -> None:
    other, text = log.checkpoint(4).body.encode(), log.checkpoint(5).body.encode()
    late = int(time.time()) + 4000
    for line, why in ((STRANGER.line(other), "bad cosignature"), (STRANGER.line(text, late), "ahead of ours")):
        with pretending(lambda _, line=line: Reply(200, line)) as url, pytest.raises(WitnessError, match=why):  # type: ignore[misc]
            submit(url, log.head(5), [STRANGER.verifier], 0, log.reader(5).consistency)


def test_lines_that_nobody_asked_for_stay_outside(log: ALog) -> None:
    text = log.checkpoint(5).body.encode()
    more = STRANGER.line(text) + Ed25519Cosigner("another", bytes([1]) * 32).line(text)
    wanted = "witness s {} {}\n"
    with pretending(lambda _: Reply(200, more)) as url:
        rule = policy(log, wanted.format(STRANGER.verifier.vkey, url), "quorum s")
        found = collect(rule, log.head(5), log.reader(5).consistency)
    assert rule.judge(found.note).ok
    assert found.note.count("— ".encode()) == 2


def test_a_witness_that_contradicts_itself_is_not_asked_for_ever(log: ALog) -> None:
    asked: list[int] = []

    def answer(body: bytes) -> Reply:
        asked.append(parse_request(body).old)
        return Reply(409, b"%d\n" % len(asked))

    with pretending(answer) as url, pytest.raises(Conflict):
        submit(url, log.head(300), [STRANGER.verifier], 0, log.reader(300).consistency)
    assert asked == [0, 1, 2, 3]


def test_a_witness_that_asks_for_patience_is_asked_again(log: ALog) -> None:
    text, replies = log.checkpoint(5).body.encode(), [503, 429, 200]
    with pretending(lambda _: Reply(replies.pop(0), STRANGER.line(text))) as url:
        found = submit(url, log.head(5), [STRANGER.verifier], 0, log.reader(5).consistency)
    assert list(found) == [STRANGER.verifier]
    assert replies == []


def test_a_witness_that_never_answers_is_given_up(log: ALog) -> None:
    with pretending(lambda _: None) as url, pytest.raises(Unreachable):
        add_checkpoint(url, 0, [], log.head(5), timeout=0.3)


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x", "http://", "http://[::", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_an_error_of_ours(log: ALog, url: str) -> None:
    with pytest.raises(WitnessError):
        add_checkpoint(url, 0, [], log.head(5), timeout=5)
