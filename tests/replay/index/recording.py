"""A real store for the index's tests: spools written by hand, sealed and signed by the real sealer, at once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from sandtrail.replay.events import Event
from sandtrail.replay.follow import Follower
from sandtrail.replay.index import Index
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter, Stream
from tests.replay.decode.recorded import gvisor

ENOUGH = 10.0


class Recorder:
    """Writes streams and has them sealed. `seal` returns once everything written is under a signed checkpoint."""

    def __init__(self, home: Path, run: str = "one") -> None:
        self.home = home
        self.spool = SpoolWriter(home, "test")
        self.sealer = Sealer(home, run=run)
        self.written = 0

    def open(self, source: str, session: str = "s1", **more: Any) -> Stream:
        """Begin a stream."""
        return self.spool.open({"source": source, "session": session, "sandbox": f"{session}-pod", **more})

    def seal(self) -> None:
        """Have a segment of its own made of what was written since."""
        deadline = time.monotonic() + ENOUGH
        size = self.spool.path.stat().st_size
        while True:
            self.sealer.step()
            reader = open_log(self.home)
            last = [entry.map for entry in reader.entries() if entry.kind == "segment"][-1:]
            if last and last[0]["spool"].get(self.spool.path.name) == size:
                return
            assert time.monotonic() < deadline, "the sealer does not seal"
            time.sleep(0.002)

    def stop(self) -> None:
        """The recorder says goodbye."""
        self.spool.close()
        self.sealer.stop()

    def session(self, name: str = "s1", packets: list[bytes] | None = None, seals: int = 1, status: int = 5) -> None:
        """A whole session, in about `seals` segments."""
        packets = gvisor("20260905") if packets is None else packets
        life = self.open("lifecycle", name, part="record", command=["sh", "-c", name])
        trace = self.open("gvisor", name)
        step = -(-len(packets) // seals)
        for at in range(0, len(packets), step):
            trace.write_many(packets[at : at + step])
            self.seal()
        trace.close("end of connection", dropped=0)
        self.act(life, "runtime", event="trace-list", dropped=0)
        self.act(life, "exit", container=f"{name}-agent", exit_status=status)
        life.close("ended")
        self.seal()

    @staticmethod
    def act(stream: Stream, act: str, **facts: Any) -> None:
        """A lifecycle frame."""
        stream.write(json.dumps({"act": act, **facts}).encode(), urgent=True)


def follow(home: Path) -> Index:
    """Index everything that is signed."""
    follower = Follower(home)
    try:
        while follower.step():
            pass
    finally:
        follower.close()
    return Index(home)


def indexed(home: Path) -> dict[str, Any]:
    """All that a reader can see."""
    with closing(Index(home)) as index:
        rows = [*index.sessions(), index.session("recorder")] if _has(index, "recorder") else index.sessions()
        return {row["id"]: (row, list(index.rows(row["id"])), index.streams(row["id"])) for row in rows}


def _has(index: Index, session: str) -> bool:
    with index.connection(session) as db:
        return bool(db.execute("SELECT count(*) FROM events").fetchall()[0][0])


def events(home: Path, session: str = "s1") -> list[Event]:
    """A session's events as they were decoded."""
    return list(Index(home).rows(session))


def unindexed(home: Path, copy: Path) -> Path:
    """A copy of a home without its index."""
    ours = shutil.ignore_patterns("events", "catalog.*", "follow.lock", "*.lock")
    shutil.copytree(home, copy, ignore=ours)
    return copy


def wait_for(done: Callable[[], bool], seconds: float = ENOUGH) -> float:
    """Wait; returns how long it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - began
