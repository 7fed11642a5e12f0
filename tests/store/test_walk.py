"""Trying again beside a recorder at work: only while it signs anew, and not for what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.walk import Walk, while_it_grows


class Attempts:
    """Fails as it is told, each time; the log has been signed anew in between where it `grows`."""

    def __init__(self, log: Path, error: StoreError, *, grows: int = 0, good: int = 0) -> None:
        self._log, self._error, self._grows, self._good = log, error, grows, good
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        if self._good and self.count >= self._good:
            return self.count
        if self.count <= self._grows:
            (self._log / "checkpoint").write_bytes(b"%d" % self.count)
        raise self._error


def test_what_fails_while_the_log_stays_as_it_was_fails(tmp_path: Path) -> None:
    attempt = Attempts(tmp_path, DamagedError("x"))
    with pytest.raises(DamagedError):
        while_it_grows(tmp_path, attempt)
    assert attempt.count == 1


def test_what_fails_while_the_log_grows_is_tried_again(tmp_path: Path) -> None:
    assert while_it_grows(tmp_path, Attempts(tmp_path, StoreError("x"), grows=9, good=5)) == 5
    attempt = Attempts(tmp_path, StoreError("x"), grows=3)
    with pytest.raises(StoreError):
        while_it_grows(tmp_path, attempt)
    assert attempt.count == 4


def test_it_comes_to_an_end_beside_a_log_that_grows_for_ever(tmp_path: Path) -> None:
    attempt = Attempts(tmp_path, DamagedError("x"), grows=1000)
    with pytest.raises(DamagedError):
        while_it_grows(tmp_path, attempt)
    assert 10 < attempt.count < 100


def test_what_is_not_there_is_not_looked_for_again(tmp_path: Path) -> None:
    attempt = Attempts(tmp_path, NotFoundError("x"), grows=9)
    with pytest.raises(NotFoundError):
        while_it_grows(tmp_path, attempt)
    assert attempt.count == 1


def test_without_a_head_the_first_step_fails_and_no_other_is_taken(store: Path) -> None:
    Sealer(store).stop()
    walk = Walk(open_log(store), 0, [0], b"")
    with pytest.raises(DamagedError, match="no checkpoint"):
        walk.go()
    assert [(check.ok, check.detail) for check in walk.checks] == [(False, "there is no checkpoint")]
