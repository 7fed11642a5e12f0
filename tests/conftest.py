"""What every test may use: parts that can be missing, a data folder of its own, the real runsc versions."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandtrail.collector.control import Keeper
from sandtrail.errors import RecorderError
from tests import parts

CI = os.environ.get("CI") == "true"
# A file that a group can write is refused as settings; some shells make no others.
os.umask(0o022)


def require(*names: str) -> None:
    """Skip the running test when a part is missing and say what gets it; in CI fail, since nothing may be missing."""
    lacking = [sentence for name in names if (sentence := parts.missing(name))]
    if not lacking:
        return
    text = "; ".join(lacking)
    if CI:
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


# First of all fixtures, so that nothing is set up for a test that cannot run.
@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    for marker in request.node.iter_markers("needs"):
        require(*marker.args)


@pytest.fixture
def runsc() -> parts.Runsc:
    """The newest runsc on this machine."""
    require("root", "runsc", "ip")
    found = parts.newest_runsc()
    assert found is not None
    return found


@pytest.fixture(params=parts.RUNSC_LABELS)
def each_runsc(request: pytest.FixtureRequest) -> parts.Runsc:
    """The three runsc versions that we support, one after the other."""
    label: str = request.param
    require("root", f"runsc-{label}", "ip")
    found = parts.runsc(label)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def foreign_python() -> Path:
    """An interpreter with aics-tlog, a log verifier that is not ours, in an environment of its own."""
    lock = parts.CHECKOUT / "requirements" / "foreign.lock"
    key = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = parts.CACHE / "foreign" / key
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        require("index")
        uv = str(parts.CHECKOUT / "tools" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(lock)]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return python


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty SANDTRAIL_HOME with its own SANDTRAIL_RUN, both exported to child processes; see `new_home`."""
    with new_home() as folder:
        monkeypatch.setenv("SANDTRAIL_HOME", str(folder))
        monkeypatch.setenv("SANDTRAIL_RUN", str(folder / "run"))
        yield folder


@contextlib.contextmanager
def new_home() -> Iterator[Path]:
    """An empty home, for one test or for several.

    The path is short because a Unix socket's may have 107 bytes. When the block is over, no process that names this
    folder in its arguments may be left, and no mount below it: both are ended, and fail the test.
    """
    folder = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    (folder / "run").mkdir(mode=0o700)
    yield folder
    _end_keeper(folder)
    left = _end_processes_of(folder)
    mounted = _unmount_below(folder)
    shutil.rmtree(folder, ignore_errors=True)
    assert not left, f"the test left processes behind: {left}"
    assert not mounted, f"the test left mounts behind: {mounted}"


def _end_keeper(folder: Path) -> None:
    """A keeper lingers for the next recording; here there will be none."""
    with contextlib.suppress(RecorderError, ProcessLookupError):
        keeper = Keeper.connect(folder, start=False)
        pid = int(keeper.hello()["pid"])
        keeper.close()
        os.kill(pid, signal.SIGTERM)


def _processes_of(folder: Path) -> dict[int, str]:
    """Processes (not this one) with the folder in their arguments: pid -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it ended while we looked
            continue
        if str(folder) in line:
            found[int(entry.name)] = line
    return found


def _end_processes_of(folder: Path, patience_s: float = 10.0) -> dict[int, str]:
    """Wait for the folder's processes to leave by themselves, then kill and return those that did not."""
    deadline = time.monotonic() + patience_s
    while (left := _processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return left


def _unmount_below(folder: Path) -> list[str]:
    """Unmount, and return, what is still mounted below the folder."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    left = [mount for mount in mounts if Path(mount).is_relative_to(folder)]
    for mount in reversed(left):
        subprocess.run(["umount", "--lazy", mount], check=False)
    return left
