"""A recorder (keeper, receiver, sealer) of a test's own, and what it has recorded."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import cbor2

from sandtrail.collector.control import Keeper
from sandtrail.errors import NotFoundError
from sandtrail.store.frames import Frame, Kind
from sandtrail.store.position import wait_sealed
from tests.store.recording import entries, sealed


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Return when the condition holds; fail when it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and was not waited for does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Recorder:
    """Leaving the `with` block stops it and waits until all of it has ended."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.keeper = Keeper.connect(home)
        self.pid = int(self.keeper.hello()["pid"])
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Both workers run, and the start is signed."""
        wait_for(lambda: {"receiver", "sealer"} <= set(self.processes()))
        run = self.processes()["sealer"]["pid"]
        wait_for(lambda: any(fields.get("pid") == run for _, fields in self._entries()))

    def _entries(self) -> list[tuple[str, dict[str, Any]]]:
        try:
            return entries(self.home)
        except NotFoundError:
            return []

    def processes(self) -> dict[str, dict[str, int]]:
        return dict(self.keeper.status()["processes"])

    def session(self, name: str = "s1", **descriptor: Any) -> str:
        """Begin a session; returns its endpoint."""
        return self.keeper.session(name, f"sandbox-{name}", descriptor)

    def kill(self, name: str) -> None:
        """Kill a worker and wait for its successor."""
        before = self.processes()[name]
        os.kill(before["pid"], signal.SIGKILL)
        wait_for(lambda: self.processes().get(name, before)["starts"] > before["starts"])
        if name == "sealer":
            self.wait_until_ready()

    def kill_all(self) -> None:
        """Kill everything at once, keeper first."""
        pids = [self.pid, *(process["pid"] for process in self.processes().values())]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(alive, pids)))
        self.keeper.close()

    def end(self, name: str = "s1") -> list[dict[str, Any]]:
        """End a session and wait until all of it is sealed."""
        streams = self.keeper.end(name)
        wait_sealed(self.home)
        return streams

    def stop(self) -> None:
        """Stop the recorder as `sandtrail up` does, and wait for its end."""
        pids = [self.pid, *(process["pid"] for process in self.processes().values())] if alive(self.pid) else []
        self.keeper.close()
        if pids:
            os.kill(self.pid, signal.SIGTERM)
            wait_for(lambda: not any(map(alive, pids)), 30)

    def log(self) -> str:
        """What the processes have said."""
        return (self.home / "run" / "keeper.log").read_text()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop()


@dataclass
class Recorded:
    """What was recorded from one socket, whichever receivers have read from it."""

    descriptor: dict[str, Any]
    frames: list[Frame] = field(default_factory=list)

    @property
    def data(self) -> list[bytes]:
        return [frame.payload for frame in self.frames if frame.kind == Kind.DATA]

    def notes(self, which: str) -> list[dict[str, Any]]:
        notes = [cbor2.loads(frame.payload) for frame in self.frames if frame.kind == Kind.NOTE]
        return [note for note in notes if note["note"] == which]

    @property
    def lost(self) -> int:
        return sum(gap["count"] for gap in self.notes("gap"))

    @property
    def closed(self) -> dict[str, Any] | None:
        last = self.frames[-1]
        return dict(cbor2.loads(last.payload)) if last.kind == Kind.CLOSE else None


def recorded(home: Path, source: str = "gvisor") -> list[Recorded]:
    """Everything sealed from a kind of source; streams that continue each other are one.

    A receiver that is killed between opening a stream and its first frame leaves one that nothing continues.
    """
    found: dict[int, Recorded] = {}
    for frame in sealed(home):
        if frame.kind == Kind.OPEN:
            descriptor = cbor2.loads(frame.payload)
            before = int(descriptor.get("continues", "0"), 16)
            found[frame.stream] = found[before] if before in found else Recorded(descriptor)
        found[frame.stream].frames.append(frame)
    unique = {id(one): one for one in found.values() if one.descriptor["source"] == source}
    return [one for one in unique.values() if len(one.frames) > 1]


def only(home: Path, source: str = "gvisor") -> Recorded:
    """What was recorded where there was but one socket."""
    (one,) = recorded(home, source)
    return one
