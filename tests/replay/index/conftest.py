"""Homes for the index's tests. The sealer signs at once, so that no test waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.store import sealer
from tests.replay.index.recording import Recorder


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
        monkeypatch.setattr(sealer, name, 0.0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def recorder(home: Path, at_once: None) -> Recorder:
    return Recorder(home)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two sessions in a dozen segments, not indexed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
            patch.setattr(sealer, name, 0.0)
        home = tmp_path_factory.mktemp("recorded") / "home"
        made = Recorder(home)
        made.session("s1", seals=8)
        made.session("s2", seals=2, status=0)
        made.stop()
    return home
