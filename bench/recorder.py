"""Sandtrail as a reader of the trace: its real processes, and a store of its own for each run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from bench.process import Meter, descendants, running
from bench.workshop import Open, Workshop
from sandtrail.collector.control import Keeper
from sandtrail.errors import RecorderError
from sandtrail.store.frames import Kind
from sandtrail.store.reader import open_log

__all__ = ["leave", "sandtrail", "with_replay"]


@contextlib.contextmanager
def sandtrail(shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """Every frame received, stored, sealed and signed."""
    home = shop.new_folder()
    with _keeper(home) as keeper:
        recording = _Recording(shop, home, keeper, sandboxes)
        yield recording.opened
        recording.finish()
    recording.count()


@contextlib.contextmanager
def with_replay(shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """The same, while `sandtrail serve` follows the log, decodes and indexes."""
    home = shop.new_folder()
    with _keeper(home) as keeper, _serving(home) as (pid, url):
        recording = _Recording(shop, home, keeper, sandboxes)
        meter = Meter({"replay": [pid, *descendants(pid)]})
        meter.settle()
        yield recording.opened
        recording.finish()
        size = open_log(home).size()
        _wait("the index has caught up", lambda: _health(url)["indexed_entries"] >= size)
        recording.opened.received.indexed_s = time.monotonic() - recording.ended
        recording.opened.received.cpu_s |= meter.read()
    recording.count()


class _Recording:
    """Sessions with a keeper, from before the sandboxes start until every frame of theirs is signed."""

    def __init__(self, shop: Workshop, home: Path, keeper: Keeper, sandboxes: int) -> None:
        self._home, self._keeper = home, keeper
        self._names = [f"bench-{number}" for number in range(sandboxes)]
        self.opened = Open([shop.trace(keeper.session(name, name, {})) for name in self._names])
        self.ended = 0.0
        self._streams: dict[str, int] = {}
        _wait("both workers run", lambda: {"receiver", "sealer"} <= set(keeper.status()["processes"]))
        workers = {name: [int(child["pid"])] for name, child in keeper.status()["processes"].items()}
        self._meter = Meter({"keeper": [int(keeper.hello()["pid"])], **workers})
        self._meter.settle()

    def finish(self) -> None:
        """The sandboxes have ended: wait for the last signature, and take what was spent until then."""
        got = self.opened.received
        self.ended = time.monotonic()
        streams = [one for name in self._names for one in self._keeper.end(name) if one["source"] == "gvisor"]
        self._streams = {str(one["stream"]): int(one["frames"]) for one in streams}
        _wait("every frame is signed", self._all_signed)
        got.sealed_s = time.monotonic() - self.ended
        got.cpu_s |= self._meter.read()
        got.dropped = sum(int(one["dropped"] or 0) for one in streams)
        got.restarts = sum(child["starts"] - 1 for child in self._keeper.status()["processes"].values())

    def _all_signed(self) -> bool:
        counts: dict[str, int] = {}
        for entry in open_log(self._home).entries():
            if entry.kind == "segment":
                for stream, (_, frames, _) in entry.map["streams"].items():
                    counts[stream] = counts.get(stream, 0) + frames
        return all(counts.get(stream, 0) >= frames for stream, frames in self._streams.items())

    def count(self) -> None:
        """Count messages and bytes by reading all of the evidence back."""
        got, log = self.opened.received, open_log(self._home)
        frames = 0
        for entry in log.entries():
            if entry.kind == "segment":
                for frame in log.frames(entry.map["segment"]):
                    frames += frame.kind == Kind.DATA and f"{frame.stream:016x}" in self._streams
        evidence = [path for part in ("segments", "log") for path in (self._home / part).rglob("*")]
        got.frames = frames
        got.disk_bytes = sum(path.stat().st_size for path in evidence if path.is_file())


@contextlib.contextmanager
def _keeper(home: Path) -> Iterator[Keeper]:
    keeper = Keeper.connect(home)
    pid = int(keeper.hello()["pid"])
    try:
        yield keeper
    finally:
        keeper.close()
        _end(pid)


@contextlib.contextmanager
def _serving(home: Path) -> Iterator[tuple[int, str]]:
    """(pid, address) of `sandtrail serve`, once it answers and its follower runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "sandtrail", "serve", f"--home={home}", f"--port={port}"])
    try:
        _wait("the API answers", lambda: _health(url)["follower"] == "on")
        yield process.pid, url
    finally:
        _end(process.pid)


def _health(url: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = httpx.get(f"{url}/v1/health", trust_env=False).raise_for_status().json()
    except httpx.TransportError:
        return {"follower": "", "indexed_entries": 0}
    return answer


def leave(home: Path) -> None:
    """End the recorder of a home, everything signed, if it has one."""
    with contextlib.suppress(RecorderError):
        keeper = Keeper.connect(home, start=False)
        pid = int(keeper.hello()["pid"])
        keeper.close()
        _end(pid)


def _wait(what: str, done: Callable[[], bool], timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise RecorderError(f"waited {timeout:.0f} s in vain until {what}")
        time.sleep(0.05)


def _end(pid: int, timeout: float = 90.0) -> None:
    """End a process of ours with those that it started, and see that all of them are gone."""
    family = [pid, *descendants(pid)]
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while any(running(one) for one in family) and time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)
    for one in filter(running, family):
        os.kill(one, signal.SIGKILL)
