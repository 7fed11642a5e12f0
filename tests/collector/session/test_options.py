"""What can be written on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.session.options import Mount, parse_environment, parse_memory, parse_mount, parse_user
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
