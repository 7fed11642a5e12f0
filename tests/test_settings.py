from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sandtrail.settings import OTHERS, Settings

ASK = "from sandtrail.settings import load_settings; s = load_settings(); print(s.home, s.epoch_hours, s.api_port)"
CHILD = f"""
import subprocess, sys
from sandtrail.settings import load_settings
load_settings()
subprocess.run([sys.executable, "-c", {ASK!r}], cwd="/", check=True)
"""


def told(folder: Path, program: str, **environment: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SANDTRAIL_")}
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=folder, env={**plain, **path, **environment}, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_file_in_the_working_folder_holds_for_the_processes_that_we_start_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "sandtrail.toml").write_text('home = "evidence"\nepoch_hours = 2\n')
    expected = f"{tmp_path}/evidence 2.0 8700"
    assert told(tmp_path, ASK) == expected
    assert told(tmp_path, CHILD) == expected


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sandtrail.toml"
    for text in (b"home = \n", b"\xff"):
        file.write_bytes(text)
        with pytest.raises(subprocess.CalledProcessError) as failed:
            told(tmp_path, ASK)
        assert f"UsageError: {file} is not as TOML has to be" in failed.value.stderr


def test_every_documented_variable_is_known() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    documented = set(re.findall(r"^\| `(SANDTRAIL_\w+)` \|", readme, re.MULTILINE))
    assert {"SANDTRAIL_HOME", "SANDTRAIL_RUNSC"} <= documented
    assert documented == {f"SANDTRAIL_{name.upper()}" for name in Settings.model_fields} | OTHERS


def test_a_variable_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "sandtrail.toml").write_text("epoch_hours = 2\napi_port = 1\n")
    assert told(tmp_path, CHILD, SANDTRAIL_EPOCH_HOURS="5", SANDTRAIL_HOME="/x") == "/x 5.0 1"


def test_a_file_that_others_could_have_written_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "sandtrail.toml"
    file.write_text("epoch_hours = 2\n")
    file.chmod(0o666)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        told(tmp_path, ASK)
    assert f"UsageError: the settings file {file} is not used, since others can write to {file}" in failed.value.stderr
    file.chmod(0o644)
    assert " 2.0 " in told(tmp_path, ASK)


@pytest.mark.parametrize("place", ["file", "variable"])
def test_a_policy_that_others_could_have_written_is_refused(tmp_path: Path, place: str) -> None:
    policy = tmp_path / "policy.toml"
    given = {} if place == "file" else {"SANDTRAIL_POLICY": str(policy)}
    if place == "file":
        (tmp_path / "sandtrail.toml").write_text(f'policy = "{policy}"\n')
    ask = "from sandtrail.settings import load_settings; print(load_settings().file('policy'))"
    assert told(tmp_path, ask, **given) == str(policy)  # that it is not there is told by who reads it
    policy.write_text("")
    assert told(tmp_path, ask, **given) == str(policy)
    policy.chmod(0o646)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        told(tmp_path, ask, **given)
    assert f"UsageError: the settings' policy {policy} is not used" in failed.value.stderr
