"""Step 11 on whole logs: clocks that were set, tokens of time that contradict them, tokens that are none.

To set the clock of the machine that runs the tests would be rude: `Clock` sets it for this process only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandtrail.store.frames import stamp
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import parse_checkpoint, parse_note
from sandtrail.store.sealer import Sealer
from sandtrail.store.verify import verify
from sandtrail.store.verify.report import Report
from tests.store.authority import Authority, certify
from tests.store.recording import kinds

HOUR = 3600 * 10**9


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.off = 0
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + self.off)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def tell(sealer: Sealer, count: int = 1) -> None:
    for _ in range(count):
        sealer.record("heartbeat", at=list(stamp()))


def token(sealer: Sealer, authority: Authority, change: Callable[[bytes], bytes] = lambda token: token) -> int:
    """Have the newest checkpoint stamped, and the token logged; returns how many entries it covers."""
    note = read_checkpoint(sealer.home / "log")
    assert note is not None
    size = parse_checkpoint(parse_note(note).text).size
    made = change(authority.token(note))
    sealer.record("time", at=list(stamp()), size=size, checkpoint=note, token=made, authority="https://tsa.example")
    return size


def found(report: Report) -> list[tuple[int, str, str]]:
    return [(one.step, one.type, one.place) for one in report.findings]


@pytest.mark.needs("openssl")
def test_good_tokens_are_counted_and_the_newest_is_told(store: Path, authority: Authority) -> None:
    sealer = Sealer(store)
    token(sealer, authority)
    tell(sealer)
    size = token(sealer, authority)
    sealer.stop()
    report = verify(store, roots=authority.roots)
    assert report.ok, report.as_dict()
    assert report.tokens == 2
    assert any(f"the first {size} log entries were there at 20" in remark for remark in report.remarks)
    assert 11 not in report.skipped


@pytest.mark.needs("openssl")
def test_without_roots_tokens_are_not_judged_and_the_report_says_so(store: Path, authority: Authority) -> None:
    sealer = Sealer(store)
    token(sealer, authority)
    sealer.stop()
    report = verify(store)
    assert report.ok
    assert report.tokens == 0
    assert "roots" in report.skipped[11]


@pytest.mark.parametrize(("by", "says"), [(-2 * HOUR, "set back 2 h"), (3 * HOUR, "set forward 3 h")])
def test_a_clock_that_is_set_is_on_the_record_and_in_the_report(store: Path, clock: Clock, by: int, says: str) -> None:
    sealer = Sealer(store)
    tell(sealer, 2)
    sealer.step()  # it looks at the clock
    clock.off = by
    deadline = time.monotonic() + 60
    while "clock" not in kinds(store):
        assert time.monotonic() < deadline
        sealer.step()
        sealer.settle()
    tell(sealer)
    sealer.stop()
    report = verify(store)
    assert report.ok, report.as_dict()
    assert report.clock_steps == 1
    assert [remark for remark in report.remarks if f"the clock was {says} between log entries" in remark]


@pytest.mark.needs("openssl")
def test_an_entry_that_a_token_shows_to_be_dated_forward_is_placed(
    store: Path, clock: Clock, authority: Authority
) -> None:
    sealer = Sealer(store)
    clock.off = 6 * HOUR
    sealer.record("heartbeat", at=list(stamp()))
    clock.off = 0
    late = len(kinds(store))  # the first entry is not counted there
    tell(sealer, 3)
    token(sealer, authority)
    sealer.stop()
    report = verify(store, roots=authority.roots)
    assert found(report) == [(11, "time-too-late", f"log entry {late}")]
    assert "6 h after the token" in report.findings[0].consequence


@pytest.mark.needs("openssl")
def test_an_entry_that_a_token_shows_to_be_dated_back_is_placed(
    store: Path, clock: Clock, authority: Authority
) -> None:
    sealer = Sealer(store)
    token(sealer, authority)
    early = len(kinds(store)) + 1
    clock.off = -6 * HOUR
    tell(sealer, 3)
    clock.off = 0
    sealer.stop()
    report = verify(store, roots=authority.roots)
    assert found(report) == [(11, "time-too-early", f"log entry {early}")]


@pytest.mark.needs("openssl")
def test_a_token_that_is_none_proves_nothing_and_is_placed(store: Path, authority: Authority, tmp_path: Path) -> None:
    sealer = Sealer(store)
    token(sealer, authority)
    at = len(kinds(store)) + 1
    token(sealer, authority, lambda made: made[:-1] + bytes([made[-1] ^ 1]))
    token(sealer, authority, lambda _made: authority.token(b"something else"))
    stranger = certify("Stranger", None)
    token(sealer, authority, lambda made: authority.resign(made, stranger))
    sealer.stop()
    report = verify(store, roots=authority.roots)
    assert found(report) == [(11, "time-token-invalid", f"log entry {at + number}") for number in range(3)]
    assert report.tokens == 1


@pytest.mark.needs("openssl")
def test_a_token_over_the_checkpoint_of_another_log_proves_nothing_here(
    store: Path, authority: Authority, tmp_path: Path
) -> None:
    other = Sealer(tmp_path / "other")
    tell(other)
    other.stop()
    note = read_checkpoint(tmp_path / "other" / "log")
    assert note is not None
    sealer = Sealer(store)
    tell(sealer, 3)
    made = authority.token(note)
    size = parse_checkpoint(parse_note(note).text).size
    sealer.record("time", at=list(stamp()), size=size, checkpoint=note, token=made, authority="")
    sealer.stop()
    report = verify(store, roots=authority.roots)
    assert [(step, kind) for step, kind, _ in found(report)] == [(11, "time-token-invalid")]
    assert "no checkpoint of this log" in report.findings[0].consequence
