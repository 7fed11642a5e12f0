"""The command's stdin, stdout and stderr by way of us, each piece recorded before it goes on.

What two programs say to each other over these three, such as an MCP client outside and its server in the sandbox, is to
be seen nowhere else: the runtime's trace says that something was written, and not what.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any, Final

from sandtrail.collector.frames import Frames
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.redact import Redactor
from sandtrail.errors import StoreError
from sandtrail.store.spool import SpoolWriter

__all__ = ["NAMES", "Record"]

NAMES: Final = ("stdin", "stdout", "stderr")
PIECE: Final = 1 << 16
BLIND: Final = (
    "pipes between processes inside the sandbox",
    "files and sockets that the command opened itself",
    "a terminal: the command has pipes in its place",
)


class Record:
    """A stream of source `stdio`: `{"t": "stdin" | "stdout" | "stderr", "n", "at_ns", "bytes", "data"}`, and at a
    file's end `{"t", "end": true, "bytes", "sha256", "at_ns"}` with what was held back; credentials are replaced as the
    gateway does, `bytes` and `sha256` are of the bytes themselves. `redact` adds to its rules, as in a policy; `part`
    tells apart the commands of one session."""

    def __init__(self, home: Path, session: str, sandbox: str, redact: Any = None, part: str = "record") -> None:
        # Signed entries name spool files, and must not name a session: they outlive its erasure.
        self._spool = SpoolWriter(home, f"stdio-{os.urandom(6).hex()}")
        whose = "the recorded command" if part == "record" else "a command that was run beside the recorded one"
        sees = [f"{name} of {whose}" for name in NAMES]
        about: dict[str, Any] = {"source": "stdio", "session": session, "sandbox": sandbox, "part": part}
        about |= {"sees": sees, "blind": list(BLIND)}
        self._frames = Frames(self._spool.open(about), session)
        redactor = Redactor(Fingerprinter.load(home), redact)
        self._scans = {name: redactor.scan() for name in NAMES}
        self._sums = {name: hashlib.sha256() for name in NAMES}
        self._sizes = dict.fromkeys(NAMES, 0)
        self._numbers = dict.fromkeys(NAMES, 0)
        # Three threads write, and a spool has one writer.
        self._lock = threading.Lock()
        self._open = set(NAMES)

    def piece(self, name: str, data: bytes) -> None:
        """Record some bytes. What cannot be recorded is counted as a gap, and goes on all the same."""
        with self._lock:
            if name not in self._open:
                return
            self._sums[name].update(data)
            self._sizes[name] += len(data)
            settled = self._scans[name].feed(data)
            self._write(name, {"n": self._numbers[name], "bytes": len(data), "data": settled})
            self._numbers[name] += 1

    def end(self, name: str, reason: str = "") -> None:
        """Nothing more will come."""
        with self._lock:
            if name not in self._open:
                return
            self._open.discard(name)
            rest = self._scans[name].finish()
            sums = {"bytes": self._sizes[name], "sha256": self._sums[name].hexdigest()}
            self._write(name, {"end": True, **sums, "data": rest, **({"reason": reason} if reason else {})})

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        with contextlib.suppress(StoreError):  # it is counted, and told as a gap when something can be written again
            self._frames.write({"t": name, "at_ns": time.time_ns(), **facts})

    def close(self) -> None:
        """End the stream, whatever is still open."""
        for name in NAMES:
            self.end(name, "the command has ended")
        with self._lock, contextlib.suppress(StoreError):
            self._frames.close("ended")
            self._spool.close()
