"""What an intake of others' records has written, read from its spool."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.collector.others.intake import Binding, Intake
from sandtrail.collector.others.sources import source_named
from sandtrail.store.frames import Kind
from sandtrail.store.spool import parse_records

__all__ = ["Spooled"]


class Spooled:
    """What an intake has written."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.stop = threading.Event()

    def intake(self, source: str = "hubble", **binding: str) -> Intake:
        return Intake(self.home, source_named(source), Binding(**binding))

    def read(self) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
        """Frames by session, and all notes."""
        names: dict[int, str] = {}
        frames: dict[str, list[dict[str, Any]]] = {}
        notes = []
        for path in sorted((self.home / "spool").glob("*.spool")):
            for _, record in parse_records(path.read_bytes()):
                for _, payload in record.frames():
                    if record.kind == Kind.OPEN:
                        names[record.stream] = cbor2.loads(payload)["session"]
                    elif record.kind == Kind.DATA:
                        frames.setdefault(names[record.stream], []).append(json.loads(payload))
                    elif record.kind == Kind.NOTE:
                        notes.append(cbor2.loads(payload))
        return frames, notes

    def records(self, session: str = "hubble") -> list[bytes]:
        return [base64.b64decode(frame["data"]) for frame in self.read()[0].get(session, [])]

    def streams(self) -> list[int]:
        """How many frames before its end each stream has that was closed."""
        return [
            cbor2.loads(payload)["frames"]
            for path in sorted((self.home / "spool").glob("*.spool"))
            for _, record in parse_records(path.read_bytes())
            for _, payload in record.frames()
            if record.kind == Kind.CLOSE
        ]
