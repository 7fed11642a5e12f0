"""A private key is made once, is its owner's alone, and never takes the place of another."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sandtrail.errors import DamagedError, StoreError
from sandtrail.store import keyfile
from sandtrail.store.keyfile import ensure_private, read_private
from sandtrail.store.layout import publish
from tests.store.faults_os import NOT_STORED, STORED, Op, Trace


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "a.key"
    with pytest.raises(FileNotFoundError):
        read_private(path)
    key = ensure_private(path)
    assert ensure_private(path) == read_private(path) == path.read_bytes() == key
    assert len(key) == 32
    assert (path.stat().st_mode & 0o777, path.stat().st_nlink) == (0o600, 1)
    assert list(path.parent.iterdir()) == [path]


def test_it_is_on_the_disk_before_anybody_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    with Trace(tmp_path).watching() as trace:
        ensure_private(path)
    names = [op.name for op in trace.ops]
    assert names == ["create", "write", "fsync", "link", "unlink", "fsync folder"]


def test_who_comes_second_gets_the_key_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.key"
    with monkeypatch.context() as patched:

        def outrun(path: Path, data: bytes, *, new: bool) -> None:
            publish(path, b"1" * 32)
            publish(path, data, new=new)

        patched.setattr(keyfile, "publish", outrun)
        assert ensure_private(path) == b"1" * 32
    assert list(tmp_path.iterdir()) == [path]


def begin(path: Path) -> int:
    """A process that asks for the key; what it got can be read from the pipe."""
    reading, writing = os.pipe()
    if not os.fork():
        try:
            os.write(writing, ensure_private(path))
        finally:
            os._exit(0)
    os.close(writing)
    return reading


def test_many_at_once_get_one_key(tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / f"{number}.key"
        pipes = [begin(path) for _ in range(4)]
        found = []
        for pipe in pipes:
            with os.fdopen(pipe, "rb") as file:
                found.append(file.read())
            os.wait()
        assert found == [read_private(path)] * 4


@pytest.mark.parametrize("how", [NOT_STORED, STORED])
@pytest.mark.parametrize("call", ["create", "write", "fsync", "link", "unlink", "fsync folder"])
def test_a_disk_that_fails_leaves_one_whole_key_or_none(tmp_path: Path, call: str, how: str) -> None:
    path = tmp_path / "a.key"

    def fault(op: Op) -> str | None:
        return how if op.name == call else None

    key = b""
    with Trace(tmp_path, fault, errno.EIO).watching():
        if call == "unlink":
            key = ensure_private(path)
        else:
            with pytest.raises(OSError, match="Input/output error"):
                ensure_private(path)
    assert ensure_private(path) == (key or read_private(path))
    assert ensure_private(path) == path.read_bytes()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ensure_private(path := tmp_path / "a.key")
    for mode in (0o640, 0o604, 0o601):
        path.chmod(mode)
        for ask in (read_private, ensure_private):
            with pytest.raises(StoreError, match="chmod 600"):
                ask(path)


@pytest.mark.parametrize("size", [0, 31, 33, 4096])
def test_what_is_no_key_is_not_replaced_by_one(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.key"
    publish(path, bytes(size))
    with pytest.raises(DamagedError, match="restore it"):
        ensure_private(path)
    assert path.stat().st_size == size


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    ensure_private(tmp_path / "elsewhere")
    (tmp_path / "a.key").symlink_to("elsewhere")
    (tmp_path / "b.key").symlink_to("nothing")
    for name in ("a.key", "b.key"):
        with pytest.raises(OSError, match="symbolic links"):
            ensure_private(tmp_path / name)
