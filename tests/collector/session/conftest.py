"""Recorders: one that goes on from test to test, as on a machine that records much, and some of a test's own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandtrail.collector.control import Keeper
from sandtrail.errors import RecorderError
from tests import parts
from tests.collector.session.recorder import Recorder, eventually, gone
from tests.conftest import new_home


@pytest.fixture
def keeper_ends(home: Path) -> Iterator[None]:
    """Ends the keeper after the test, which would otherwise linger for some seconds."""
    yield
    with contextlib.suppress(RecorderError):
        keeper = Keeper.connect(home, start=False)
        pid = int(keeper.status()["pid"])
        keeper.close()
        os.kill(pid, signal.SIGTERM)
        assert eventually(gone, pid)


@pytest.fixture
def own_recorder(home: Path, runsc: parts.Runsc, keeper_ends: None) -> Recorder:
    """Records with the newest runsc, in a home and with a keeper that the test may ruin."""
    return Recorder(home, runsc)


@pytest.fixture(scope="package")
def shared_home() -> Iterator[Path]:
    """One home for many sessions: the recorder's processes need not start anew for each."""
    with new_home() as folder:
        yield folder


@pytest.fixture
def used_home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared home, exported to child processes."""
    monkeypatch.setenv("SANDTRAIL_HOME", str(shared_home))
    monkeypatch.setenv("SANDTRAIL_RUN", str(shared_home / "run"))
    return shared_home


@pytest.fixture
def recorder(used_home: Path, runsc: parts.Runsc) -> Recorder:
    """Records with the newest runsc, into the shared home."""
    return Recorder(used_home, runsc)


@pytest.fixture
def each_recorder(used_home: Path, each_runsc: parts.Runsc) -> Recorder:
    """Records with each of the three runsc versions in turn, into the shared home."""
    return Recorder(used_home, each_runsc)
