"""Reads back what a session recorded, out of the signed log."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.errors import SandtrailError
from sandtrail.store.frames import Kind
from sandtrail.store.reader import open_log


@dataclass
class Stream:
    """One stream of a session: its descriptor, its data, its notes, and how it was closed (None: it was not)."""

    number: int
    descriptor: dict[str, Any]
    data: list[bytes] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    closed: dict[str, Any] | None = None


@dataclass
class Recorded:
    """All streams of one session."""

    streams: list[Stream]

    def of(self, source: str, part: str | None = None) -> Stream:
        """The one stream of a source (and of a part of the lifecycle)."""
        (found,) = [
            s
            for s in self.streams
            if s.descriptor["source"] == source and (part is None or s.descriptor["part"].startswith(part))
        ]
        return found

    def acts(self, part: str = "record") -> list[dict[str, Any]]:
        """The lifecycle acts that a part of the recorder wrote."""
        return [json.loads(payload) for payload in self.of("lifecycle", part).data]

    def act(self, act: str, part: str = "record", **facts: Any) -> dict[str, Any]:
        """The one act with these facts."""
        found = [a for a in self.acts(part) if a["act"] == act and facts.items() <= a.items()]
        assert len(found) == 1, (act, facts, self.acts(part))
        return found[0]

    def gaps(self, part: str = "record") -> list[str]:
        """The causes of the gaps in the lifecycle."""
        return [note["cause"] for note in self.of("lifecycle", part).notes if note["note"] == "gap"]

    def message_types(self) -> list[int]:
        """The types of the trace packets, in order."""
        return [int.from_bytes(packet[2:4], "little") for packet in self.of("gvisor").data]


def _read(home: Path, session: str) -> Recorded:
    streams: dict[int, Stream] = {}
    log = open_log(home)
    for entry in log.entries():
        if entry.kind != "segment":
            continue
        for frame in log.frames(entry.map["segment"]):
            if frame.kind == Kind.OPEN:
                descriptor = cbor2.loads(frame.payload)
                if descriptor.get("session") == session:
                    streams[frame.stream] = Stream(frame.stream, descriptor)
            elif stream := streams.get(frame.stream):
                if frame.kind == Kind.DATA:
                    stream.data.append(frame.payload)
                elif frame.kind == Kind.NOTE:
                    stream.notes.append(cbor2.loads(frame.payload))
                else:
                    stream.closed = cbor2.loads(frame.payload)
    return Recorded(list(streams.values()))


def recorded(home: Path, session: str, *, unclosed: str = "", timeout: float = 15.0) -> Recorded:
    """What the log holds of a session, once each of its streams is closed in it, or another one continues it, but for
    the lifecycle's part `unclosed`: its writer was killed."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = _read(home, session)
        except SandtrailError:
            found = Recorded([])
        continued = {int(s.descriptor["continues"], 16) for s in found.streams if s.descriptor.get("continues")}
        awaited = [
            s
            for s in found.streams
            if s.number not in continued and (not unclosed or s.descriptor.get("part") != unclosed)
        ]
        if awaited and all(stream.closed for stream in awaited):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not closed within {timeout:.0f} s: {[s.descriptor for s in found.streams]}")
        time.sleep(0.1)
