"""The keeper's control socket, client side; see docs/architecture.md, "The keeper's control socket"."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandtrail.errors import RecorderError

__all__ = ["Keeper", "receive", "run_folder", "send"]

MAX_PACKET = 256 * 1024
_MAX_FDS = 8
# How long a keeper that was started may take before another one is.
_PATIENCE = 12.0


def run_folder(home: Path) -> Path:
    """Where sockets and state of running sessions are: `$SANDTRAIL_RUN`, else /run/sandtrail for the default home."""
    named = os.environ.get("SANDTRAIL_RUN")
    if named:
        return Path(named)
    return Path("/run/sandtrail") if home == Path("/var/lib/sandtrail") else home / "run"


def send(sock: socket.socket, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one message, whole, with its file descriptors.

    Raises RecorderError when it is too long, OSError as sendmsg(2) does.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_PACKET:
        raise RecorderError(f"a control message of {len(data)} bytes is over the limit of {MAX_PACKET}")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights)


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One message and its file descriptors; (None, []) at the end. A packet that is no JSON object, or holds text that
    is no Unicode (which JSON can spell and nothing else can store), becomes {}."""
    room = socket.CMSG_SPACE(_MAX_FDS * 4)
    try:
        data, ancillary, _, _ = sock.recvmsg(MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # Told once to whom the other side left without having read everything; its own last words are still there.
        data, ancillary, _, _ = sock.recvmsg(MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
    if not data:
        return None, list(fds)
    try:
        message = json.loads(data)
        json.dumps(message, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        message = {}
    return message if isinstance(message, dict) else {}, list(fds)


class Keeper:
    """A connection to the keeper. Sessions begun on it end with it: keep it open for as long as the sandbox lives."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def connect(cls, home: Path, *, start: bool = True, timeout: float = 20.0) -> Keeper:
        """Connect to the keeper of `home`, starting one if there is none and `start` says so.

        Raises RecorderError when none runs or none can be started.
        """
        path = run_folder(home) / "keeper.sock"
        deadline = time.monotonic() + timeout
        started = -_PATIENCE
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                sock.connect(str(path))
            except OSError as error:
                sock.close()
                if not start:
                    raise RecorderError(
                        f"no recorder runs for {home} ({error.strerror}); start it: sandtrail up"
                    ) from None
            else:
                keeper = cls(sock)
                try:
                    keeper.hello()
                except RecorderError:  # it was just ending
                    keeper.close()
                else:
                    return keeper
            # A keeper that finds another one already there ends by itself, so two clients may both try to start one.
            if start and time.monotonic() - started > _PATIENCE:
                started = time.monotonic()
                _start(home)
            if time.monotonic() > deadline:
                log = run_folder(home) / "keeper.log"
                raise RecorderError(f"the recorder did not come up within {timeout:.0f} s; its words are in {log}")
            time.sleep(0.05)

    def call(self, message: Mapping[str, Any], fds: Sequence[int] = (), *, timeout: float = 60.0) -> dict[str, Any]:
        """Send a request and return the answer. Raises RecorderError when it is refused or the keeper is gone."""
        self._sock.settimeout(timeout)
        op = str(message.get("op"))
        with _gone(op, timeout):
            send(self._sock, message, fds)
        return self._answer(op, timeout)

    def _answer(self, op: str, timeout: float) -> dict[str, Any]:
        with _gone(op, timeout):
            answer, extra = receive(self._sock)
        for fd in extra:
            os.close(fd)
        if answer is None:
            raise RecorderError("the recorder is gone; what was received until then is kept")
        if not answer.get("ok"):
            raise RecorderError(str(answer.get("error", "the recorder refused without a word")))
        return answer

    def hello(self) -> dict[str, Any]:
        """`{"pid", "home", "version"}` of the keeper."""
        return self.call({"op": "hello"})

    def session(self, session: str, sandbox: str, descriptor: Mapping[str, Any]) -> str:
        """Begin a session; returns the path of its sandbox's trace endpoint."""
        answer = self.call({"op": "session", "session": session, "sandbox": sandbox, "descriptor": dict(descriptor)})
        return str(answer["endpoint"])

    def adopt(self, session: str, fd: int, descriptor: Mapping[str, Any]) -> None:
        """Have every datagram of the socket `fd` recorded; the caller closes its own copy."""
        self.call({"op": "adopt", "session": session, "descriptor": dict(descriptor)}, [fd])

    def listen(self, session: str, fds: Sequence[int], descriptor: Mapping[str, Any], service: str = "gateway") -> None:
        """Have a service ("gateway" or "claims") serve listening sockets; returns when it does."""
        with self.listening(session, fds, descriptor, service):
            pass

    @contextlib.contextmanager
    def listening(
        self, session: str, fds: Sequence[int], descriptor: Mapping[str, Any], service: str, timeout: float = 60.0
    ) -> Iterator[None]:
        """As `listen`, but it is waited for at the end of the block, in which nothing but `listen` may be called: both
        services start at once, and it does not matter whose answer comes first."""
        request = {"op": "listen", "session": session, "service": service, "descriptor": dict(descriptor)}
        self._sock.settimeout(timeout)
        with _gone("listen", timeout):
            send(self._sock, request, fds)
        yield
        self._answer("listen", timeout)

    def end(self, session: str) -> list[dict[str, Any]]:
        """End a session whose sandbox is gone; returns its streams with their counts once all are in the spool."""
        return list(self.call({"op": "end", "session": session}).get("streams", []))

    def status(self) -> dict[str, Any]:
        """Processes, sessions, streams and counts."""
        return self.call({"op": "status"})

    def close(self) -> None:
        """Hang up. Sessions of this connection that have not ended are cleaned up by the keeper."""
        with contextlib.suppress(OSError):
            self._sock.close()


@contextlib.contextmanager
def _gone(op: str, timeout: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise RecorderError(f"the recorder did not answer {op!r} within {timeout:.0f} s") from None
    except OSError as error:
        raise RecorderError(f"the recorder is gone: {error.strerror}") from None


def _start(home: Path) -> None:
    folder = run_folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sandtrail.collector.keeper", "--home", str(home), "--linger", "5", "--detach"]
    with (folder / "keeper.log").open("ab") as log:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", check=False
        )
