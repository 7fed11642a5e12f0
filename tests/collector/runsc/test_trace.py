"""The trace session that is generated from what a runsc says about itself."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.runsc import points
from sandtrail.collector.runsc.trace import Metadata, parse_dropped, parse_metadata, session
from sandtrail.errors import RuntimeFailedError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "gvisor"
VERSIONS = ("20221219", "20250205", "20260905")
NAMES = {"cwd", "process_name"}


def metadata(version: str) -> Metadata:
    return parse_metadata(zstandard.decompress((FIXTURES / f"{version}.metadata.txt.zst").read_bytes()).decode())


def chosen(version: str, **options: object) -> dict[str, dict[str, list[str]]]:
    config = session(metadata(version), "/run/x.sock", machine="x86_64", **options).config  # type: ignore[arg-type]
    return {point["name"]: point for point in config["trace_session"]["points"]}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", ["default", "full"])
def test_every_point_and_field_asked_for_is_one_that_the_version_has(version: str, profile: points.Profile) -> None:
    known = metadata(version)
    for name, point in chosen(version, profile=profile).items():
        assert set(point["context_fields"]) <= set(known[name].context)
        assert set(point["optional_fields"]) <= set(known[name].optional)


@pytest.mark.parametrize("version", VERSIONS)
def test_execution_files_network_processes_and_identity_are_covered(version: str) -> None:
    names = chosen(version)
    for name in ("container/start", "sentry/clone", "sentry/execve", "sentry/task_exit", "sentry/exit_notify_parent"):
        assert name in names
    for call in ("execve", "openat", "write", "chdir", "connect", "bind", "accept4", "socket", "setuid", "setresgid"):
        assert f"syscall/{call}/exit" in names
    for call in ("rename", "unlinkat", "mkdir", "kill", "sendto", "memfd_create", "execve", "prctl"):
        assert f"syscall/sysno/{points.syscall_number(call, 'x86_64')}/exit" in names


@pytest.mark.parametrize("version", VERSIONS)
def test_no_name_that_a_process_picks_can_silence_the_tree_the_network_or_the_exec_itself(version: str) -> None:
    told = chosen(version)
    safe = ["sentry/clone", "sentry/task_exit", "sentry/exit_notify_parent", "syscall/execve/exit"]
    safe += [f"syscall/{call}/exit" for call in ("connect", "bind", "accept", "setuid", "write", "socket")]
    safe += [name for name in told if "sysno" in name]
    for name in safe:
        assert not NAMES & set(told[name]["context_fields"]), name
    assert not [name for name in told if "sysno" in name and told[name]["optional_fields"]]
    # A relative path needs its directory, but nobody's self-chosen name.
    assert "cwd" in told["syscall/openat/exit"]["context_fields"]
    assert "process_name" not in told["syscall/openat/exit"]["context_fields"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_environment_is_left_out_unless_asked_for(version: str) -> None:
    def asked(env: bool) -> set[str]:
        return {field for point in chosen(version, env=env).values() for field in point["optional_fields"]}

    assert not asked(False) & {"env", "envv"}
    assert asked(True) >= {"env", "envv"}


def test_what_an_old_version_lacks_is_said_and_asked_for_as_registers() -> None:
    old, new = (session(metadata(version), "/run/x.sock", machine="x86_64") for version in (VERSIONS[0], VERSIONS[2]))
    assert any(text.startswith("syscall/listen/exit") for text in old.blind)
    assert any("parent_thread_group_id" in text for text in old.blind)
    assert f"syscall/sysno/{points.syscall_number('listen', 'x86_64')}/exit" in old.sees
    assert new.blind == []
    assert "syscall/listen/exit" in new.sees


def test_the_full_profile_also_reads_and_shows_opens_without_their_directory() -> None:
    default, full = chosen("20260905"), chosen("20260905", profile="full")
    assert "syscall/read/exit" in full.keys() - default.keys()
    assert not NAMES & set(full["syscall/openat/enter"]["context_fields"])


def test_losing_is_the_last_resort() -> None:
    sink = session(metadata("20260905"), "/run/x.sock").config["trace_session"]["sinks"][0]
    assert sink["config"]["retries"] == 3000
    assert sink["config"]["endpoint"] == "/run/x.sock"
    assert "ignore_setup_error" not in sink  # a sandbox that cannot be recorded must not start


def test_a_runsc_without_points_is_refused() -> None:
    with pytest.raises(RuntimeFailedError, match="no trace points"):
        parse_metadata("POINTS (0)\n\nSINKS (0)\n")


@given(st.text())
def test_whatever_runsc_prints_is_read_or_refused(text: str) -> None:
    try:
        found = parse_metadata(text)
    except RuntimeFailedError:
        return
    assert all("\n" not in name for name in found)


def test_drop_counts_are_read_and_no_session_is_not_zero_drops() -> None:
    assert parse_dropped('SESSIONS (1)\n"Default"\n\tSink: "remote", dropped: 4294967290\n') == 4294967290
    assert parse_dropped("SESSIONS (0)\n") is None


@pytest.mark.needs("cc")
@pytest.mark.parametrize("name", sorted({*points.raw_points("full"), "connect", "bind", "listen", "ptrace"}))
def test_syscall_numbers_are_the_kernels(name: str, kernels_numbers: dict[str, int]) -> None:
    assert points.syscall_number(name) == kernels_numbers.get(name)


@pytest.fixture(scope="module")
def kernels_numbers() -> dict[str, int]:
    text = subprocess.run(
        ["cc", "-E", "-dM", "-x", "c", "-"],
        input="#include <sys/syscall.h>",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}
