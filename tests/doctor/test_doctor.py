"""`sandtrail doctor`, as it is called: a machine that can record, and what is said of one that cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from sandtrail.doctor import Result, State, examine
from sandtrail.errors import MissingPartError
from tests.inside import sandtrail
from tests.parts import newest_runsc, runsc


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Nothing set but a home that is not there yet; in a working folder without a file."""
    monkeypatch.chdir(tmp_path)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SANDTRAIL_")}
    cache = {name: os.environ[name] for name in ("SANDTRAIL_CACHE",) if name in os.environ}
    return {**plain, **cache, "SANDTRAIL_HOME": str(tmp_path / "home")}


def doctor(environment: dict[str, str], *options: str, wrapper: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
    """Its exit status, and each check by its name."""
    words = ("doctor", "--json", *options)
    if "--reading" in options:
        with patch.dict(os.environ, environment, clear=True):
            done = sandtrail(*words)
    else:
        command = [*wrapper, sys.executable, "-m", "sandtrail", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["ok"] == (done.returncode == 0)
    return done.returncode, {one["check"]: one for one in said["checks"]}


@pytest.mark.needs("root", "runsc", "nft", "ip")
def test_a_machine_that_can_record_is_told_so(environment: dict[str, str]) -> None:
    best = newest_runsc()
    assert best is not None
    status, found = doctor({**environment, "SANDTRAIL_RUNSC": str(best.path)})
    assert status == 0, found
    for name in ("python", "parts", "home", "log", "root", "network", "runsc"):
        assert found[name]["state"] == "good", found[name]
    assert "a sandbox starts" in found["runsc"]["found"]
    assert not Path(environment["SANDTRAIL_HOME"]).exists(), "it has changed something"
    namespaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert "st-doctor" not in namespaces


@pytest.mark.needs("root", "nft", "ip")
def test_text_says_the_same_to_people_with_what_to_do(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sandtrail", "doctor"]
    bad = {**environment, "SANDTRAIL_RUNSC": "/nowhere/runsc"}
    done = subprocess.run(command, env=bad, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "✗ runsc" in done.stdout
    assert "/nowhere/runsc is no program that can be run" in done.stdout
    assert "✓ python" in done.stdout
    assert done.stdout.endswith("this machine cannot record yet\n")


@pytest.mark.needs("root", "runsc-distribution")
def test_what_an_older_runtime_does_not_report_is_told(environment: dict[str, str]) -> None:
    old = runsc("distribution")
    assert old is not None
    _, found = doctor({**environment, "SANDTRAIL_RUNSC": str(old.path)})
    assert found["runsc"]["state"] == "warning"
    assert "does not report" in found["runsc"]["found"]
    assert "make runsc" in found["runsc"]["remedy"]


@pytest.mark.needs("root")
def test_root_without_its_capabilities_is_not_enough(environment: dict[str, str]) -> None:
    status, found = doctor(environment, wrapper=("setpriv", "--bounding-set=-net_admin"))
    assert status == 1
    assert found["root"]["found"] == "root without CAP_NET_ADMIN"
    assert found["network"]["state"] == "bad"


def test_a_machine_that_only_reads_needs_a_store_and_no_root(environment: dict[str, str], tmp_path: Path) -> None:
    status, found = doctor(environment, "--reading")
    assert status == 1
    assert found["home"]["found"] == f"{tmp_path / 'home'} is not there"
    assert not {"root", "network", "runsc", "send buffer"} & found.keys()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    assert doctor(environment, "--reading", "--home", "elsewhere")[0] == 0


def test_a_file_of_settings_that_cannot_be_read_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "sandtrail.toml"
    file.write_text("api_port = \n")
    status, found = doctor(environment, "--reading")
    assert (status, found["settings"]["state"]) == (1, "bad")
    assert str(file) in found["settings"]["found"]
    file.write_text('api_port = "many"\n')
    assert "SANDTRAIL_API_PORT" in doctor(environment, "--reading")[1]["settings"]["found"]


def test_the_file_in_force_is_named_with_what_it_decides(environment: dict[str, str], tmp_path: Path) -> None:
    assert "there is no file" in doctor(environment, "--reading")[1]["settings"]["found"]
    file = tmp_path / "sandtrail.toml"
    file.write_text('api_port = 1\nhome = "elsewhere"\nui_port = 2\n')
    found = doctor(environment, "--reading")[1]["settings"]
    assert (found["state"], found["found"]) == ("good", f"variables, then {file} (api_port, ui_port)")
    file.chmod(0o646)
    status, checks = doctor(environment, "--reading")
    assert (status, checks["settings"]["state"]) == (1, "bad")
    assert f"the settings file {file} is not used" in checks["settings"]["found"]


def test_what_is_misspelt_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sandtrail.toml").write_text('api_prot = 1\norigin = "a.example/b/c"\n')
    _, found = doctor({**environment, "SANDTRAIL_HOEM": "/x"}, "--reading")
    assert found["settings"]["state"] == "warning"
    assert found["settings"]["found"] == "no such setting: SANDTRAIL_HOEM, api_prot"


@pytest.mark.parametrize("name", ["SANDTRAIL_WITNESS_POLICY", "SANDTRAIL_TSA_ROOTS", "SANDTRAIL_POLICY"])
def test_files_that_settings_name_are_read(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    path = tmp_path / "named"
    for there in (False, True):
        if there:
            path.write_text("nonsense ][\n")
        status, found = doctor({**environment, name: str(path)}, "--reading")
        assert (status, found["settings"]["state"]) == (1, "bad")
        assert str(path) in found["settings"]["found"]
        assert "cannot be checked" not in found["settings"]["found"]


def test_one_check_that_fails_does_not_keep_the_others_from_being_made() -> None:
    def fails() -> Result:
        raise MissingPartError("x is not installed: apt-get install x")

    def breaks() -> Result:
        raise OSError(5, "Input/output error")

    found = examine({"a": fails, "b": breaks, "c": lambda: Result(State.GOOD, "fine")})
    assert [result.state for result in found.values()] == ["bad", "bad", "good"]
    assert found["a"].found == "x is not installed: apt-get install x"
    assert "Input/output error" in found["b"].found
