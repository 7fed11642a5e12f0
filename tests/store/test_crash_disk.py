"""Real processes on a file system of the test's own, which is shut off, fills up, or turns read-only under them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import signal
import struct
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from sandtrail.store.log import read_checkpoint
from sandtrail.store.reader import open_log
from sandtrail.store.verify import verify
from tests.store.faults_processes import eventually, processes, signed
from tests.store.faults_work import judge, survived

pytestmark = pytest.mark.needs("root", "loop")

# EXT4_IOC_SHUTDOWN without flushing the journal: the file system stops as if the power had gone.
_SHUTDOWN, _NO_FLUSH = 0x8004587D, 2


def with_own_mounts(act: Callable[[], None]) -> None:
    """Do something in a process with a mount namespace of its own, which takes all its mounts with it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            try:
                os.unshare(os.CLONE_NEWNS)
                mount("--make-rprivate", "/")
                act()
            except BaseException:  # noqa: BLE001  # a fork of the test runner must not go on; its parent says what was
                os.write(writing, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    assert not said, said


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


@pytest.fixture
def ext4(memory: Path) -> Path:
    """The image of an empty file system."""
    image = memory / "image"
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    (memory / "disk").mkdir()
    return image


def _replaced(home: Path, before: bytes | None) -> Callable[[], bool]:
    return lambda: read_checkpoint(home / "log") != before


@pytest.mark.parametrize("seed", range(3))
def test_the_power_goes_under_real_processes(ext4: Path, memory: Path, seed: int) -> None:
    disk, chance = memory / "disk", random.Random(seed)
    home = disk / "home"

    def act() -> None:
        mount("-o", "loop", str(ext4), str(disk))
        with processes(home, memory / "said") as running:
            for _ in range(chance.randrange(2, 6)):
                eventually(_replaced(home, read_checkpoint(home / "log")))
            time.sleep(chance.random() / 2)
            promised = eventually(lambda: signed(home))
            seen = read_checkpoint(home / "log")
            fd = os.open(disk, os.O_RDONLY)
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
            os.close(fd)
            eventually(lambda: running.writer.poll() is not None and running.sealer.poll() is not None)
        subprocess.run(["umount", disk], check=True)
        mount("-o", "loop", str(ext4), str(disk))
        assert seen is not None
        judge(home, promised, [seen])
        assert any(entry.kind == "gap" for entry in open_log(home).entries())

    with_own_mounts(act)


def test_a_disk_that_turns_read_only_stops_the_recorder_and_corrupts_nothing(ext4: Path, memory: Path) -> None:
    disk = memory / "disk"
    home = disk / "home"

    def act() -> None:
        mount("-o", "loop", str(ext4), str(disk))
        with processes(home, memory / "said") as running:
            eventually(lambda: len(signed(home)) > 10)
            # What ext4 does to itself when it finds an error.
            mount("-o", "remount,abort", str(disk))
            eventually(lambda: running.writer.poll() is not None and running.sealer.poll() is not None)
            assert (running.writer.returncode, running.sealer.returncode) == (3, 1)
            assert verify(home).ok
            promised, seen = survived(home), read_checkpoint(home / "log")
        subprocess.run(["umount", disk], check=True)
        mount("-o", "loop", str(ext4), str(disk))
        assert seen is not None
        judge(home, promised, [seen])

    with_own_mounts(act)


def test_a_full_disk_loses_nothing_acknowledged_and_recording_goes_on_when_there_is_space(memory: Path) -> None:
    disk = memory / "disk"
    home = disk / "home"
    disk.mkdir()
    count = 3000

    def act() -> None:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
        # Something else takes the space; a little is left for the first frames.
        with processes(home, memory / "said", count, patience=1_000_000) as running:
            eventually(lambda: signed(home))
            with (disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
                while True:
                    other.write(bytes(4096))

            def refused() -> bool:
                running.keep()
                return b"refused" in running.lines() and 1 in running.ended

            eventually(refused)
            assert verify(home).ok
            (disk / "other").unlink()
            mount("-o", "remount,size=64m", str(disk))

            def done() -> bool:
                running.keep()
                return running.writer.poll() is not None

            eventually(done, 120)
            assert running.writer.returncode == 0
            promised = running.acknowledged()
            assert len(promised) == count
            running.sealer.send_signal(signal.SIGTERM)
            running.sealer.wait(60)
        judge(home, promised)
        causes = {entry.map["cause"] for entry in open_log(home).entries() if entry.kind == "gap"}
        assert causes == {"recorder ended without a stop"}

    with_own_mounts(act)
