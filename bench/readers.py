"""Who reads the trace: nobody, gVisor's null sink, the C floor, Sandtrail, Sandtrail with replay following."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.process import cpu_seconds, descendants
from sandtrail.collector.control import Keeper
from sandtrail.collector.runsc.points import Profile
from sandtrail.collector.runsc.trace import Metadata, session
from sandtrail.errors import RecorderError
from sandtrail.store.frames import Kind
from sandtrail.store.reader import open_log

__all__ = ["READERS", "Received", "Workshop"]


@dataclass
class Received:
    """What a reader got of one run. `sealed_s`: from the end of the last sandbox until its last frame is signed."""

    frames: int | None = None
    dropped: int | None = None
    restarts: int = 0
    sealed_s: float | None = None
    disk_bytes: int | None = None
    cpu_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Open:
    """A reader that is ready: one session per sandbox, and the result, which is filled in when the reader closes."""

    sessions: list[dict[str, Any] | None]
    received: Received = field(default_factory=Received)


class Workshop:
    """What all readers share: a folder, the runtime's points, the compiled floor."""

    def __init__(self, folder: Path, metadata: Metadata, discard: Path, profile: Profile) -> None:
        self.profile: Profile = profile
        self.folder = folder
        self.discard = discard
        self._metadata = metadata
        self._rounds = 0

    def new_folder(self) -> Path:
        """A folder for one run."""
        self._rounds += 1
        made = self.folder / f"r{self._rounds}"
        made.mkdir()
        return made

    def trace(self, endpoint: str) -> dict[str, Any]:
        """The trace session that Sandtrail itself would use: every variant has the same points."""
        return session(self._metadata, endpoint, profile=self.profile).config


@contextlib.contextmanager
def off(_shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """No tracing."""
    yield Open([None] * sandboxes)


@contextlib.contextmanager
def null(shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """gVisor builds every message and throws it away."""
    config = copy.deepcopy(shop.trace(""))
    config["trace_session"]["sinks"] = [{"name": "null"}]
    yield Open([config] * sandboxes)


@contextlib.contextmanager
def floor(shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """A C program receives every message and throws it away."""
    endpoint = str(shop.new_folder() / "floor.sock")
    with subprocess.Popen([str(shop.discard), endpoint, str(sandboxes)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        opened = Open([shop.trace(endpoint)] * sandboxes)
        try:
            yield opened
            said = json.loads(process.stdout.readline())
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
        finally:
            process.kill()
    opened.received.frames, opened.received.dropped = said["frames"], said["dropped"]
    opened.received.cpu_s["floor"] = usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def sandtrail(shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """Every frame received, stored, sealed and signed."""
    home = shop.new_folder()
    keeper = Keeper.connect(home)
    pid = int(keeper.hello()["pid"])
    try:
        names = [f"bench-{number}" for number in range(sandboxes)]
        opened = Open([shop.trace(keeper.session(name, name, {})) for name in names])
        _settle(keeper)
        before = _our_cpu(keeper, pid)
        yield opened
        got = opened.received
        ended = time.monotonic()
        streams = [stream for name in names for stream in keeper.end(name) if stream["source"] == "gvisor"]
        _wait_until_sealed(home, {str(s["stream"]): int(s["frames"]) for s in streams})
        got.sealed_s = time.monotonic() - ended
        after = _our_cpu(keeper, pid)
        got.cpu_s = {name: round(after[name] - before.get(name, 0.0), 3) for name in after}
        got.restarts = sum(child["starts"] - 1 for child in keeper.status()["processes"].values())
        got.dropped = sum(int(stream["dropped"] or 0) for stream in streams)
    finally:
        keeper.close()
        _end(pid)
    got.frames, got.disk_bytes = _count_sealed(home, {str(stream["stream"]) for stream in streams})


def _settle(keeper: Keeper, timeout: float = 20.0) -> None:
    """Wait until both workers have imported what they need: starting up is not recording."""
    deadline = time.monotonic() + timeout
    last = -1.0
    while time.monotonic() < deadline:
        total = sum(cpu_seconds(child["pid"]) for child in keeper.status()["processes"].values())
        if total == last and total > 0:
            return
        last = total
        time.sleep(0.3)


def _our_cpu(keeper: Keeper, pid: int) -> dict[str, float]:
    workers = {name: int(child["pid"]) for name, child in keeper.status()["processes"].items()}
    return {"keeper": cpu_seconds(pid)} | {name: cpu_seconds(worker) for name, worker in workers.items()}


def _sealed(home: Path) -> dict[str, int]:
    """Frames under the latest signed checkpoint, by stream."""
    counts: dict[str, int] = {}
    for entry in open_log(home).entries():
        if entry.kind == "segment":
            for stream, (_, frames, _) in entry.map["streams"].items():
                counts[stream] = counts.get(stream, 0) + frames
    return counts


def _wait_until_sealed(home: Path, expected: dict[str, int], timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        counts = _sealed(home)
        if all(counts.get(stream, 0) >= frames for stream, frames in expected.items()):
            return
        if time.monotonic() > deadline:
            raise RecorderError(f"not sealed after {timeout:.0f} s: expected {expected}, the log has {counts}")
        time.sleep(0.05)


def _count_sealed(home: Path, streams: set[str]) -> tuple[int, int]:
    """(gVisor messages, bytes on disk) by reading all of the evidence back."""
    log = open_log(home)
    frames = 0
    for entry in log.entries():
        if entry.kind == "segment":
            for frame in log.frames(entry.map["segment"]):
                frames += frame.kind == Kind.DATA and f"{frame.stream:016x}" in streams
    stored = sum(
        path.stat().st_size for part in ("segments", "log") for path in (home / part).rglob("*") if path.is_file()
    )
    return frames, stored


def _end(pid: int, timeout: float = 90.0) -> None:
    """End a keeper with its workers, and see that all of them are gone."""
    family = [pid, *descendants(pid)]
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while any(_alive(one) for one in family) and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)
    for one in filter(_alive, family):
        os.kill(one, signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


READERS = {"off": off, "null": null, "floor": floor, "sandtrail": sandtrail}
