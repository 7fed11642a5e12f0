"""A recorder of the test's own, ended with it."""

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
def recorder(home: Path, runsc: parts.Runsc, keeper_ends: None) -> Recorder:
    """Records with the newest runsc."""
    return Recorder(home, runsc)


@pytest.fixture
def each_recorder(home: Path, each_runsc: parts.Runsc, keeper_ends: None) -> Recorder:
    """Records with each of the three runsc versions in turn."""
    return Recorder(home, each_runsc)
