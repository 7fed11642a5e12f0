"""What single checks say of folders, disks, clocks and settings of the kernel as they may be."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from sandtrail.collector.session.sendbuffer import WANTED
from sandtrail.doctor import State, examine, machine, recording, store
from sandtrail.store.layout import Layout
from sandtrail.store.sealer import Sealer

Mount = Callable[..., AbstractContextManager[Path]]


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    @contextmanager
    def mounted(options: str) -> Iterator[Path]:
        """A disk in memory."""
        folder = tmp_path / "disk"
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)

    return mounted


def test_a_home_that_is_not_there_is_made_by_the_first_recording(tmp_path: Path) -> None:
    found = store.home(tmp_path / "a" / "b", reading=False)
    assert (found.state, found.remedy) == (State.GOOD, "")
    assert store.home(tmp_path / "a" / "b", reading=True).state is State.BAD


@pytest.mark.parametrize(
    ("mode", "state", "says"),
    [(0o700, "good", ""), (0o750, "warning", "look into"), (0o777, "bad", "write to"), (0o770, "bad", "write to")],
)
def test_a_home_is_its_owners_alone(tmp_path: Path, mode: int, state: str, says: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    found = store.home(home, reading=False)
    assert (found.state, says in found.found) == (state, True)
    assert found.remedy == ("" if state == "good" else f"chmod 700 {home}")


def test_a_home_that_is_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    assert store.home(tmp_path / "home", reading=False).state is State.BAD


@pytest.mark.needs("root")
def test_a_home_of_somebody_else_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    found = store.home(home, reading=False)
    assert (found.state, "user 65534" in found.found) == (State.WARNING, True)


@pytest.mark.needs("root")
def test_a_disk_that_is_full_or_read_only_or_forgets_is_told(mount: Mount) -> None:
    with mount("size=1m") as disk:
        found = store.space(disk / "home")
        assert (found.state, "retain" in found.remedy) == (State.BAD, True)
    with mount("size=400m,nr_inodes=900") as disk:
        assert store.space(disk / "home").state is State.BAD
    with mount("size=400m") as disk:
        found = store.space(disk / "home")
        assert (found.state, "(tmpfs)" in found.found) == (State.WARNING, True)
        assert "memory" in found.remedy
    with mount("size=400m,ro") as disk:
        found = store.space(disk / "home")
        assert (found.state, "read-only" in found.found) == (State.BAD, True)


def test_a_log_is_none_or_signed_or_damaged(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert store.log(home).found.startswith("none yet")
    Sealer(home).stop()
    found = store.log(home)
    assert (found.state, found.found.startswith("3 entries, signed by")) == (State.GOOD, True)
    path = Layout(home).checkpoint
    path.write_bytes(path.read_bytes().replace(b"\n3\n", b"\n4\n"))
    assert examine({"log": lambda: store.log(home)})["log"].state is State.BAD


def test_the_send_buffer_is_large_or_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = tmp_path / "wmem_default"
    monkeypatch.setattr(recording, "SETTING", setting)
    found = recording.send_buffer()
    assert (found.state, "hidden" in found.found) == (State.WARNING, True)
    for size in (4096, WANTED):
        setting.write_text(f"{size}\n")
        found = recording.send_buffer()
        assert (found.state, found.found.startswith(f"{size} bytes")) == (State.GOOD, True)


@pytest.mark.needs("root")
def test_a_send_buffer_that_cannot_be_raised_is_told(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    with mount("size=1m") as disk:
        (disk / "wmem_default").write_text("4096\n")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        monkeypatch.setattr(recording, "SETTING", disk / "wmem_default")
        found = recording.send_buffer()
    assert (found.state, f"net.core.wmem_default={WANTED}" in found.remedy) == (State.WARNING, True)


class Timex(ctypes.Structure):
    """<linux/timex.h>, as far as it is asked."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        *((name, ctypes.c_long) for name in ("offset", "freq", "maxerror", "esterror")),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    ]


def test_the_clock_is_judged_by_what_the_kernel_says() -> None:
    timex = Timex()
    assert ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) >= 0
    found = machine.clock()
    assert found.state is machine.judge_clock(timex.status, timex.maxerror).state
    assert machine.judge_clock(0x0040, 16_000_000).state is State.WARNING
    good = machine.judge_clock(0x2001, 1500)
    assert (good.state, good.found) == (State.GOOD, "kept right to 1.5 ms")
