"""Finding runsc, and finding out what it can do here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandtrail.collector.runsc import binary
from sandtrail.errors import MissingPartError, UsageError
from tests import parts


def _program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose PATH and cache are empty."""
    monkeypatch.delenv("SANDTRAIL_RUNSC", raising=False)
    monkeypatch.setenv("SANDTRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_the_named_one_comes_before_the_variable_before_the_built_one_before_path(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = _program(nowhere / "bin" / "runsc")
    assert binary.find() == on_path
    built = _program(nowhere / "cache" / "bin" / "runsc")
    assert binary.find() == built
    variable = _program(nowhere / "variable")
    monkeypatch.setenv("SANDTRAIL_RUNSC", str(variable))
    assert binary.find() == variable
    named = _program(nowhere / "named")
    assert binary.find(named) == named


def test_a_named_one_that_is_no_program_is_a_mistake_not_a_reason_to_take_another(nowhere: Path) -> None:
    _program(nowhere / "bin" / "runsc")
    with pytest.raises(UsageError, match="no program"):
        binary.find(nowhere / "missing")


def test_a_machine_without_any_is_told_how_to_get_one(nowhere: Path) -> None:
    with pytest.raises(MissingPartError, match="apt-get install runsc"):
        binary.find()


def test_another_program_is_not_taken_for_runsc(nowhere: Path) -> None:
    with pytest.raises(UsageError, match="is not runsc"):
        binary.identify(Path("/bin/true").resolve())


@pytest.mark.needs("root", "runsc", "ip")
def test_a_platform_and_a_network_mode_that_really_start_are_chosen_and_remembered(
    each_runsc: parts.Runsc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDTRAIL_CACHE", str(tmp_path))
    found = binary.identify(each_runsc.path)
    assert found.platform == each_runsc.platform
    assert found.network in ("sandbox", "host")
    assert found.reasons[-1].endswith("a sandbox starts")
    assert "container/start" in found.metadata
    kept = list((tmp_path / "probe").iterdir())
    assert len(kept) == 1
    kept[0].write_text(kept[0].read_text().replace("a sandbox starts", "remembered"))
    assert binary.identify(each_runsc.path).reasons[-1].endswith("remembered")
    assert not [name for name in os.listdir("/run/netns") if "probe" in name]  # noqa: PTH208


@pytest.mark.needs("root", "runsc-2026-09", "ip")
def test_a_forced_choice_is_not_second_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDTRAIL_CACHE", str(tmp_path))
    newest = parts.newest_runsc()
    assert newest is not None
    found = binary.identify(newest.path, only_platform="ptrace", only_network="host")
    assert (found.platform, found.network) == ("ptrace", "host")
