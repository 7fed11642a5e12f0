"""What can be written on the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.session.options import (
    Mount,
    keep_outside,
    parse_environment,
    parse_memory,
    parse_mount,
    parse_user,
)
from sandtrail.errors import UsageError


def test_a_mount_is_read_only_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert parse_mount(f"{tmp_path}:/data") == Mount(tmp_path, "/data", writable=False)
    assert parse_mount(f"{tmp_path}:/data/:ro") == Mount(tmp_path, "/data", writable=False)
    assert parse_mount(f"{tmp_path}:/data:rw") == Mount(tmp_path, "/data", writable=True)


@pytest.mark.parametrize("text", ["", "/tmp", "/tmp:data", "/tmp:/data:w", "/no/such/place:/data", ":/data"])
def test_a_mount_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mount"):
        parse_mount(text)


def test_a_variable_is_given_or_taken_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "value")
    assert parse_environment(["A=1", "B=", "C=x=y", "FROM_HERE"]) == {
        "A": "1",
        "B": "",
        "C": "x=y",
        "FROM_HERE": "value",
    }
    with pytest.raises(UsageError, match="NOT_SET_HERE"):
        parse_environment(["NOT_SET_HERE"])


@pytest.mark.parametrize(
    ("text", "size"), [("512M", 512 << 20), ("2GiB", 2 << 30), ("1073741824", 1 << 30), ("1g", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "12", "-1G", "1.5G", "1Q"])
def test_a_size_that_is_none_or_too_small_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        parse_memory(text)


def test_users() -> None:
    assert parse_user("") == (0, 0)
    assert parse_user("1000") == (1000, 1000)
    assert parse_user("1000:50") == (1000, 50)
    with pytest.raises(UsageError, match="--user"):
        parse_user("agent")


@given(st.text())
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    for parse in (parse_mount, parse_memory, parse_user):
        try:
            parse(text)
        except UsageError:
            continue


def test_a_sandbox_may_not_write_the_files_that_say_what_it_may_do(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    file = folder / "sandtrail.toml"
    file.write_text("")
    for source in (tmp_path, folder, file, tmp_path / "link"):
        keep_outside([Mount(source, "/w")], [file], tmp_path.parent / "home")
        with pytest.raises(UsageError, match=f"the sandbox could rewrite {file}, .* move that to /etc/sandtrail"):
            keep_outside([Mount(source, "/w", writable=True)], [file], tmp_path.parent / "home")
    keep_outside([Mount(tmp_path / "other", "/w", writable=True)], [file], tmp_path.parent / "home")


@pytest.mark.parametrize("writable", [False, True])
def test_a_sandbox_may_not_see_the_store(tmp_path: Path, writable: bool) -> None:
    home = tmp_path / "a" / "home"
    (home / "keys").mkdir(parents=True)
    (tmp_path / "link").symlink_to(home)
    for source in (tmp_path, home, home / "keys", tmp_path / "link"):
        with pytest.raises(UsageError, match=f"the sandbox could see the store {home}, and the keys"):
            keep_outside([Mount(source, "/w", writable)], [], home)
    keep_outside([Mount(tmp_path / "b", "/w", writable)], [], home)


def test_a_recording_does_not_begin_where_its_sandbox_could_write_its_settings(tmp_path: Path) -> None:
    (tmp_path / "sandtrail.toml").write_text('home = "home"\n')
    command = [sys.executable, "-m", "sandtrail", "record", "--mount", ".:/work:rw", "--", "true"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"the sandbox could rewrite {tmp_path}/sandtrail.toml" in done.stderr
    assert not (tmp_path / "home").exists()
