"""What a command says when the disk refuses: which file, why, what to do; never a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandtrail.commands.disk import told
from sandtrail.errors import EnvironmentRefusedError
from sandtrail.store.sealer import Sealer

SANDTRAIL = (sys.executable, "-m", "sandtrail")
# In a mount namespace of its own: a disk of 1 MiB with the store on it, then what is done to the disk, then a command.
ON_A_DISK = 'mount -t tmpfs -o size=1m,mode=0700 none "$1" && cp -a "$2" "$1/home" && eval "$3" && shift 3 && exec "$@"'
READ_ONLY = 'mount -o remount,ro "$1"'
FULL = 'dd if=/dev/zero of="$1/ballast" bs=4k status=none 2>/dev/null; true'


def on_a_disk(tmp_path: Path, becomes: str, *words: str) -> subprocess.CompletedProcess[str]:
    home, disk = tmp_path / "made", tmp_path / "disk"
    Sealer(home).stop()
    disk.mkdir()
    command = [*SANDTRAIL, *words, "--home", str(disk / "home")]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", ON_A_DISK, "sh", str(disk), str(home), becomes, *command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    ("becomes", "words", "why"),
    [
        (READ_ONLY, ["timeline"], "follow.lock: Read-only file system; it is mounted read-only"),
        (
            READ_ONLY,
            ["retain", "--older-than", "9d", "--reason", "old"],
            ": Read-only file system; it is",
        ),
        (FULL, ["retain", "--older-than", "9d", "--reason", "old"], "No space left on device; make room there"),
        (FULL, ["timeline"], "`sandtrail doctor` says whether it is full"),
    ],
)
def test_a_disk_that_is_full_or_read_only_is_told(tmp_path: Path, becomes: str, words: list[str], why: str) -> None:
    done = on_a_disk(tmp_path, becomes, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert done.stderr.startswith("sandtrail: ")
    assert "Traceback" not in done.stderr


def test_a_home_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [*SANDTRAIL, "timeline", "--home", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"sandtrail: cannot use {tmp_path / 'file'}: File exists; it is not what it should")


@pytest.mark.parametrize("name", ["a/file", b"a/file", Path("a/file"), None, 3], ids=repr)
def test_what_failed_is_named_where_the_error_knows(name: object) -> None:
    with pytest.raises(EnvironmentRefusedError) as refused, told():
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)
    place = "the disk refused to be read or written" if name in (None, 3) else "cannot use a/file"
    assert str(refused.value).startswith(f"{place}: Input/output error; the disk fails")


@pytest.mark.parametrize("error", [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError("x"), KeyError("x")])
def test_what_is_no_matter_of_the_disk_stays_what_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as same, told():
        raise error
    assert same.value is error
