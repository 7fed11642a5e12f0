"""The documents say what is: every command in them is run by a test, every setting and link in them exists."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sandtrail.cli import app
from sandtrail.settings import Settings
from tests.parts import CHECKOUT

DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]

# Who runs each command: a test by its file and name, or the script that runs all tests.
RUN_BY = {
    "make run": "tests/test_docs.py::test_make_run_leaves_api_and_page_up",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    "make bench": "tests/bench/test_storm.py::test_every_variant_is_measured_and_none_loses_a_frame",
    "make runsc": "tests/test_docs.py::test_make_runsc_names_what_it_built",
    "pip install --require-hashes -r requirements/collector.lock": (
        "tests/test_house.py::test_collector_installs_and_records_without_the_page"
    ),
    "sandtrail up": "tests/test_docs.py::test_make_run_leaves_api_and_page_up",
    'sandtrail witness serve --name witness.example.org/1 --log "$LOG_VKEY"': (
        "tests/commands/test_witness.py::test_a_witness_serves_and_shows_what_it_has_seen"
    ),
    "sandtrail witness key": "tests/commands/test_witness.py::test_a_witness_serves_and_shows_what_it_has_seen",
    "sandtrail witness evidence": "tests/commands/test_witness.py::test_a_witness_serves_and_shows_what_it_has_seen",
    "sandtrail cluster serve --origin example.org/production --policy /etc/sandtrail/witnesses": (
        "tests/cluster/test_server.py::test_the_command_is_witnessed_itself"
    ),
    "sandtrail cluster register $NODE_KEYS": (
        "tests/cluster/test_server.py::test_the_command_survives_being_killed_between_two_checkpoints"
    ),
    "sandtrail cluster retire example.org/production/node1": (
        "tests/cluster/test_server.py::test_the_command_survives_being_killed_between_two_checkpoints"
    ),
    "sandtrail cluster verify --node /srv/copies/node1 --node /srv/copies/node2 --silence 600": (
        "tests/cluster/test_server.py::test_the_command_survives_being_killed_between_two_checkpoints"
    ),
    **dict.fromkeys(
        (
            "sandtrail key | head -1 > id.vkey",
            'fsck --storage_url "file://$SANDTRAIL_HOME/log" --public_key id.vkey --ui=false --N=256',
            'aics-tlog verify-checkpoint --tiles "$SANDTRAIL_HOME/log" --vkey-file id.vkey --save-checkpoint head',
            'aics-tlog verify-consistency --tiles "$SANDTRAIL_HOME/log" --vkey-file id.vkey --old-checkpoint head',
        ),
        "tests/store/test_other_verifiers.py::test_the_commands_for_strangers_find_a_good_log_good_and_a_damaged_one_not",
    ),
    "curl -s http://127.0.0.1:8700/v1/sessions": "tests/test_docs.py::test_make_run_leaves_api_and_page_up",
}


def commands(document: Path) -> list[str]:
    """Every command line of the document's sh blocks."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def run_here(document: Path) -> list[str]:
    return [command for command in commands(document) if command not in RUN_BY]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_command_is_run_by_a_test(document: Path) -> None:
    for command in commands(document):
        if command not in RUN_BY:
            # The others are run below, one after the other, as a reader would.
            assert shlex.split(command)[0] == "sandtrail", f"nobody runs {command!r}"
            continue
        path, _, name = RUN_BY[command].partition("::")
        text = (CHECKOUT / path).read_text()
        if name:
            assert name in {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
        else:
            assert command in text


def test_no_entry_of_the_table_is_stale() -> None:
    written = {command for document in DOCUMENTS for command in commands(document)}
    assert set(RUN_BY) <= written


@pytest.mark.needs("root", "runsc", "nft", "ip")
@pytest.mark.parametrize("document", [one for one in DOCUMENTS if run_here(one)], ids=lambda path: path.stem)
def test_commands_of_a_document_work_one_after_the_other(document: Path, home: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in run_here(document):
        done = subprocess.run(
            command, shell=True, cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip(), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_nothing_is_left_to_fill_in() -> None:
    for document in [*DOCUMENTS, CHECKOUT / "CHANGELOG.md"]:
        assert not re.findall(r"TIMES-\w+|TODO|FIXME|TBD", document.read_text()), document.name


def test_settings_table_is_complete_and_true() -> None:
    rows = dict(re.findall(r"^\| `(SANDTRAIL_\w+)` \| (.*?) \|", (CHECKOUT / "README.md").read_text(), re.MULTILINE))
    fields = {f"SANDTRAIL_{name.upper()}": field for name, field in Settings.model_fields.items()}
    read = set()
    for folder in ("sandtrail", "deploy"):
        for source in (CHECKOUT / folder).rglob("*.py"):
            read |= set(re.findall(r"[\"'](SANDTRAIL_[A-Z_]*[A-Z])[\"']", source.read_text()))
    assert set(rows) == set(fields) | read
    for name, field in fields.items():
        if isinstance(field.default, int) or (isinstance(field.default, str) and field.default):
            assert f"`{field.default}`" in rows[name], name


def test_every_command_of_ours_is_in_the_readme() -> None:
    ours = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    ours |= {group.name for group in app.registered_groups if group.name}
    documented = set(re.findall(r"^\| `sandtrail (\w+)", (CHECKOUT / "README.md").read_text(), re.MULTILINE))
    assert {"record", "verify"} <= ours
    assert documented == ours


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.timeout(600)
@pytest.mark.needs("root", "runsc", "nft", "ip", "make", "git")
def test_make_run_leaves_api_and_page_up(home: Path, tmp_path: Path) -> None:
    api, page = free_port(), free_port()
    ports = {"SANDTRAIL_API_PORT": str(api), "SANDTRAIL_UI_PORT": str(page)}
    with (tmp_path / "out").open("wb") as out:
        # A terminal's Ctrl-C reaches the whole group, and only this group.
        process = subprocess.Popen(
            ["make", "run"], cwd=CHECKOUT, env={**os.environ, **ports}, stdout=out, stderr=out, start_new_session=True
        )
        try:
            # Our last line: Streamlit prints the page's address by itself, and earlier.
            printed = wait_for(process, "Ctrl-C ends all of it", tmp_path / "out")
            sessions = get(f"http://127.0.0.1:{api}/v1/sessions").json()["sessions"]
            shown = get(f"http://127.0.0.1:{page}/")
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
    assert [one["state"] for one in sessions] == ["ended"]
    assert sessions[0]["turns"] > 3
    assert sessions[0]["id"] in printed
    assert f"http://127.0.0.1:{api}" in printed
    assert f"http://127.0.0.1:{page}" in printed
    assert "text/html" in shown.headers["content-type"]


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=20, trust_env=False).raise_for_status()


def wait_for(process: subprocess.Popen[bytes], text: str, out: Path) -> str:
    """What the command has printed, once `text` is in it; fails when the command ends before."""
    deadline = time.monotonic() + 480
    while text not in (printed := out.read_text()):
        assert process.poll() is None, printed
        assert time.monotonic() < deadline, printed
        time.sleep(0.2)
    return printed


@pytest.mark.needs("runsc-2026-09", "make")
def test_make_runsc_names_what_it_built() -> None:
    done = subprocess.run(["make", "runsc"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "runsc version 2026-09" in done.stdout
