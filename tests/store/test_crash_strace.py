"""The real processes with the kernel against them: strace makes one call fail, or kills at it; `verify` is the judge.

A run without faults tells which calls touch the store; each of a sample of them (by a seed; all of them with
SANDTRAIL_CRASH=all) fails once in a run of its own, which is then started again without faults.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cbor2
import pytest

from sandtrail.store.layout import Layout, publish
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter, Stream, encode_record
from tests.parts import CHECKOUT
from tests.store.faults_work import ERASED, hurried, judge
from tests.store.faults_writer import payload

pytestmark = pytest.mark.needs("strace")

EVERYTHING = os.environ.get("SANDTRAIL_CRASH") == "all"
# Those that change something, and those that only look.
CHANGES = ["openat", "write", "pwrite64", "fsync", "rename", "unlink", "link", "ftruncate", "mkdir", "rmdir"]
CALLS = [*CHANGES, "flock", "read", "pread64", "newfstatat", "fstat", "getdents64", "close", "lseek"]
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")
_SIZE = 200


def strace(*options: str) -> list[str]:
    return ["strace", "--follow-forks", "--decode-fds=path", "--quiet=all", *options]


def injecting(fault: str, trace: Path) -> list[str]:
    # strace 6.1 delivers no signals where seccomp tells it of the calls.
    faster = [] if "signal" in fault else ["--seccomp-bpf"]
    return strace(*faster, f"--output={trace}", f"--trace={fault.partition(':')[0]}", f"--inject={fault}")


def happened(status: int, trace: Path) -> bool:
    """Whether the fault was injected: a call that is told by its number may not come in another run."""
    return status == -signal.SIGKILL or "(INJECTED)" in trace.read_text(errors="replace")


def seal(home: Path, *wrapper: str) -> int:
    """One whole life of a sealer: it starts, seals what there is, and stops, which it is told beforehand."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b'{"op":"stop"}')
        fd = theirs.fileno()
        command = [
            *wrapper,
            sys.executable,
            "-m",
            "sandtrail.store.sealer",
            "--home",
            str(home),
            "--control-fd",
            str(fd),
        ]
        return subprocess.run(command, cwd=CHECKOUT, pass_fds=[fd], stderr=subprocess.DEVNULL, timeout=120).returncode


def write(home: Path, *wrapper: str) -> tuple[int, list[bytes]]:
    """One whole life of a writer: how it ended, and what was acknowledged."""
    command = [*wrapper, sys.executable, "-m", "tests.store.faults_writer", str(home), "w", "20", str(_SIZE)]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
    return done.returncode, [payload("w", int(number), _SIZE) for number in done.stdout.split() if number.isdigit()]


def touching(trace: Path, home: Path) -> dict[str, list[int]]:
    """Of each kind of call, which ones (counted from 1) had to do with the store."""
    counts: dict[str, int] = {}
    found: dict[str, list[int]] = {}
    for line in trace.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match and match[1] in CALLS:
            counts[match[1]] = counts.get(match[1], 0) + 1
            if str(home) in match[2]:
                found.setdefault(match[1], []).append(counts[match[1]])
    return found


def faults(found: dict[str, list[int]], seed: int, count: int) -> list[str]:
    """A sample of what strace can be told to inject, each kind of call at least once."""
    all_of: dict[str, list[str]] = {}
    for call, numbers in found.items():
        for number in numbers:
            kinds = ["error=EIO"]
            if call in CHANGES:
                kinds += ["error=ENOSPC", "error=EROFS", "signal=KILL"]
            all_of.setdefault(call, []).extend(f"{call}:{kind}:when={number}" for kind in kinds)
    if EVERYTHING:
        return [one for each in all_of.values() for one in each]
    chance = random.Random(seed)
    chosen = [chance.choice(each) for each in all_of.values()]
    rest = [one for call in CHANGES for one in all_of.get(call, []) if one not in chosen]
    return chosen + chance.sample(rest, min(len(rest), count - len(chosen)))


def _half_sealed(home: Path, promised: list[bytes]) -> tuple[SpoolWriter, Stream]:
    """A spool that was sealed up to its middle: only the log knows how far."""
    writer = SpoolWriter(home, "half")
    stream = writer.open({"sandbox": "half", "session": "half"})
    promised.append(b"one half" * 10)
    stream.write(promised[-1])
    return writer, stream


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A home with a log, where a sealer has everything to do: spools, a torn record, a blob of a dead one, orders."""
    home = tmp_path_factory.mktemp("begun") / "home"
    promised: list[bytes] = []
    with hurried():
        writer = SpoolWriter(home, "first")
        writer.open({"sandbox": "gone", "session": "gone"}).write(ERASED)
        writer.close()
        half, stream = _half_sealed(home, promised)
        running = Sealer(home)
        (key,) = running.keys.of_session("gone")
        running.leave()
        promised.append(b"the other half" * 10)
        stream.write(promised[-1])
        half.close()
        for name in ("one", "two"):
            writer = SpoolWriter(home, name)
            stream = writer.open({"sandbox": name, "session": name})
            for number in range(12):
                promised.append(b"%s %d" % (name.encode(), number) * 40)
                stream.write(promised[-1])
            os.write(writer.fileno(), encode_record(2, 1, 0, (1, 1, 1), [bytes(100)])[:90])
            writer.close()
    blob = Layout(home).segment(running._segment)
    blob.write_bytes(b"of a sealer that was killed")
    blob.with_name(".000000099.seg.1.tmp").write_bytes(b"the same")
    for number, act in enumerate(({"act": "epoch"}, {"act": "erase", "keys": [key.id], "reason": "asked", "by": "b"})):
        publish(Layout(home).acts / f"{number}.order", cbor2.dumps(act))
    return home, promised


def test_any_call_of_the_sealer_may_fail(begun: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    base, promised = begun
    home, trace = tmp_path / "home", tmp_path / "trace"
    shutil.copytree(base, home)
    assert seal(home, *strace(f"--output={trace}", f"--trace={','.join(CALLS)}")) == 0
    found = touching(trace, home)
    assert {"openat", "write", "fsync", "rename", "unlink", "flock", "mkdir"} <= set(found)
    hits, injected = 0, faults(found, 1, 24)
    for fault in injected:
        shutil.rmtree(home)
        shutil.copytree(base, home)
        status = seal(home, *injecting(fault, trace))
        print(fault, status)
        hits += happened(status, trace)
        with hurried():
            judge(home, promised)
    assert hits > len(injected) * 0.8


def test_any_call_of_a_writer_may_fail(tmp_path: Path) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace"
    status, acknowledged = write(home, *strace(f"--output={trace}", f"--trace={','.join(CALLS)}"))
    assert (status, len(acknowledged)) == (0, 20)
    found = touching(trace, home)
    assert {"openat", "write", "link", "unlink", "flock", "mkdir"} <= set(found)
    hits, injected = 0, faults(found, 2, 14)
    for fault in injected:
        shutil.rmtree(home)
        # Half of the errors do not go away any more.
        lasting = "+" if "error" in fault and sum(fault.encode()) % 2 else ""
        status, acknowledged = write(home, *injecting(fault + lasting, trace))
        print(fault + lasting, status, len(acknowledged))
        hits += happened(status, trace)
        assert lasting or status != 0 or len(acknowledged) == 20
        with hurried():
            judge(home, acknowledged)
    assert hits > len(injected) * 0.8
