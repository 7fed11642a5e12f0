"""Reads back what a session recorded, out of the signed log."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.errors import NotFoundError, SandtrailError
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


@dataclass
class _Log:
    """The log of one home, as far as it was read."""

    home: Path
    position: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)

    def read_on(self) -> None:
        """Read what is new, segment by segment."""
        log = open_log(self.home)
        for entry in log.entries(self.position, log.size()):
            for frame in list(log.frames(entry.map["segment"])) if entry.kind == "segment" else []:
                if frame.kind == Kind.OPEN:
                    self.streams[frame.stream] = Stream(frame.stream, cbor2.loads(frame.payload))
                elif frame.kind == Kind.DATA:
                    self.streams[frame.stream].data.append(frame.payload)
                elif frame.kind == Kind.NOTE:
                    self.streams[frame.stream].notes.append(cbor2.loads(frame.payload))
                else:
                    self.streams[frame.stream].closed = cbor2.loads(frame.payload)
            self.position = entry.index + 1


_logs: list[_Log] = []


def _read(home: Path, session: str) -> Recorded:
    # Many sessions share a home, and nobody wants to read those before over and over.
    if not _logs or _logs[-1].home != home:
        _logs[:] = [_Log(home)]
    log = _logs[-1]
    log.read_on()
    return Recorded([stream for stream in log.streams.values() if stream.descriptor.get("session") == session])


def _promised(found: Recorded) -> set[int]:
    """The streams that the lifecycle names: what is left of writers that are gone may be signed before them."""
    acts = [
        json.loads(data)
        for stream in found.streams
        if stream.descriptor["source"] == "lifecycle"
        for data in stream.data
    ]
    told = [one for act in acts if act.get("event") == "streams" for one in act["streams"]]
    return {int(one["stream"], 16) for one in told if one.get("stream")}


def recorded(home: Path, session: str, *, unclosed: str = "", timeout: float = 60.0) -> Recorded:
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
        if (
            awaited
            and all(stream.closed for stream in awaited)
            and _promised(found) <= {s.number for s in found.streams}
        ):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not closed within {timeout:.0f} s: {[s.descriptor for s in found.streams]}")
        time.sleep(0.1)


def noticed(home: Path, session: str, act: str) -> None:
    """Wait until the log has an act of a session that goes on."""
    said(home, session, "lifecycle", f'"act": "{act}"'.encode())


def said(home: Path, session: str, source: str, words: bytes, timeout: float = 60.0) -> None:
    """Wait until the log has a frame of this source with these words in it, of a session that goes on."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(NotFoundError):  # no log yet
            streams = [one for one in _read(home, session).streams if one.descriptor["source"] == source]
            if any(words in data for stream in streams for data in stream.data):
                return
        assert time.monotonic() < deadline, f"no {words!r} within {timeout:.0f} s"
        time.sleep(0.1)
