"""Remembered heads of the tests are the tests' own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandtrail.store import native


@pytest.fixture(autouse=True)
def _own_heads(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty home."""
    return tmp_path / "home"


@pytest.fixture
def memory() -> Iterator[Path]:
    """An empty folder, in memory where that can be: for tests that sync often and look at the calls, not the disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="st-", dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(params=["in Python", pytest.param("in C", marks=pytest.mark.needs("hashing-in-c"))], scope="module")
def each_way_of_hashing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leaves and trees hashed by Python alone, then by what was compiled: nothing else may differ."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "in Python":
            patch.setattr(native, "hashing", None)
        yield
