"""A real gateway process, driven as the keeper drives it, and its frames as they lie in the spool."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.collector.control import receive, send
from sandtrail.collector.secrets import Secret, write_handed
from sandtrail.store.frames import Kind
from sandtrail.store.spool import parse_records

PATIENCE_S = 15.0


def wait_for[T](look: Callable[[], T], what: str = "that") -> T:
    """Poll until `look` gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.01)
    return found


@dataclass
class Recorded:
    """One session's stream."""

    opened: dict[str, Any] = field(default_factory=dict)
    frames: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    closed: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str, /, **having: Any) -> list[dict[str, Any]]:
        """Frames of one kind, with these values."""
        return [
            frame
            for frame in self.frames
            if frame["t"] == kind and all(frame.get(key) == value for key, value in having.items())
        ]

    def one(self, kind: str, /, **having: Any) -> dict[str, Any]:
        """The one such frame."""
        found = self.of(kind, **having)
        assert len(found) == 1, f"{len(found)} {kind} frames with {having}: {self.frames}"
        return found[0]

    def streamed(self, kind: str = "chunk") -> bytes:
        """What the chunk frames hold."""
        return b"".join(body(frame, "data") for frame in self.of(kind))


def body(frame: Mapping[str, Any], key: str = "body") -> bytes:
    """A frame's bytes."""
    return base64.b64decode(frame[key])


def header(frame: Mapping[str, Any], name: str) -> str | None:
    """A header of a request or response frame."""
    return next((value for key, value in frame["headers"] if key.lower() == name), None)


class Gateway:
    """The process and our end of its socket pair."""

    NAME = "gateway"

    def __init__(self, home: Path, env: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()) -> None:
        self.home = home
        self.log = home / f"{self.NAME}.log"
        self._since: dict[str, dict[str, int]] = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = ours
        ours.settimeout(PATIENCE_S)
        command = [*prefix, sys.executable, "-m", f"sandtrail.collector.{self.NAME}", "--home", str(home)]
        with theirs, self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--control-fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        ready, _ = receive(ours)
        assert ready == {"ok": True, "op": "ready"}, ready

    def ask(self, message: Mapping[str, Any], fds: tuple[int, ...] = ()) -> dict[str, Any]:
        """One request, one answer."""
        send(self.control, message, fds)
        answer, _ = receive(self.control)
        assert answer is not None, f"the {self.NAME} has died: {self.log.read_text()}"
        return answer

    def listen(
        self, session: str, address: str = "127.0.0.1", *, secrets: Sequence[Secret] = (), **descriptor: Any
    ) -> str:
        """Hand over a listener, and secrets as `record` does; returns the proxy's URL."""
        if secrets:
            descriptor["secrets"] = [{"name": secret.name, "hosts": list(secret.hosts)} for secret in secrets]
        with socket.socket() as listener:
            listener.bind((address, 0))
            listener.listen(128)
            self._since[session] = {path.name: path.stat().st_size for path in self.spools()}
            message = {"op": "listen", "session": session, "descriptor": {"source": self.NAME, **descriptor}}
            handed = (write_handed(secrets),) if secrets else ()
            answer = self.ask(message, (listener.fileno(), *handed))
            for fd in handed:
                os.close(fd)
            assert answer["ok"], answer
            return f"http://{address}:{listener.getsockname()[1]}"

    def unlisten(self, session: str) -> dict[str, Any]:
        """End a session."""
        return self.ask({"op": "unlisten", "session": session})

    def recorded(self, session: str) -> Recorded:
        """All that is in the spool of this session, in order."""
        found = Recorded()
        for record, seq, payload in self._payloads(self._since.get(session, {})):
            opened = cbor2.loads(payload) if record.kind == Kind.OPEN else None
            if opened is not None and opened.get("session") == session:
                found = Recorded(opened={**opened, "stream": record.stream})
            if record.stream != found.opened.get("stream"):
                continue
            if record.kind == Kind.DATA:
                found.frames.append({"seq": seq, **json.loads(payload)})
            elif record.kind == Kind.NOTE:
                found.notes.append(cbor2.loads(payload))
            elif record.kind == Kind.CLOSE:
                found.closed = cbor2.loads(payload)
        return found

    def ended(self, session: str) -> Recorded:
        """End the session, then read it."""
        answer = self.unlisten(session)
        assert answer["ok"], answer
        return self.recorded(session)

    def spools(self) -> list[Path]:
        """The gateway's spool files, in order."""
        return sorted((self.home / "spool").glob(f"{self.NAME}.*.spool"))

    def _payloads(self, since: Mapping[str, int]) -> Iterator[Any]:
        for path in self.spools():
            with path.open("rb") as file:
                file.seek(since.get(path.name, 0))
                data = file.read()
            for _, record in parse_records(data):
                for seq, payload in record.frames():
                    yield record, seq, payload

    def written(self) -> bytes:
        """Every byte of every file under the home, but for the keys."""
        keys = {self.home / "keys", self.home / "gateway"}
        files = [path for path in self.home.rglob("*") if path.is_file() and not keys & set(path.parents)]
        return b"\n".join(path.read_bytes() for path in files)

    def close(self) -> None:
        """Stop it, and see it leave in order."""
        if self.process.poll() is None:
            send(self.control, {"op": "stop"})
        self.control.close()
        try:
            assert self.process.wait(PATIENCE_S) == 0, self.log.read_text()
        finally:
            self.process.kill()
