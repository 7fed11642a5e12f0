"""The keeper: owns every socket of the recorder, starts its processes, and starts them again when they die.

It reads from none of the sockets after the handshake, so it stays tiny and there is next to nothing in it that hostile
bytes could reach. As long as it lives the sandboxes' connections live, whatever becomes of the worker processes.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.collector.control import receive, run_folder, send
from sandtrail.collector.handshake import REPLY, handshake_version
from sandtrail.collector.landing import COUNTERS, create_landing

__all__ = ["Keeper"]

MAX_CONNECTIONS = COUNTERS
HANDSHAKE_TIMEOUT = 5.0
END_TIMEOUT = 15.0
_TICK = 0.25


@dataclass(slots=True)
class _Held:
    """A socket that the receiver records from, and that we hold for its successor."""

    ident: int
    fd: int
    session: str
    descriptor: dict[str, Any]
    gvisor: bool
    stream: str = ""


@dataclass(slots=True)
class _Session:
    name: str
    sandbox: str
    owner: socket.socket | None
    descriptor: dict[str, Any]
    endpoint: socket.socket | None = None
    path: Path | None = None
    gateway: int | None = None
    gateway_descriptor: dict[str, Any] = field(default_factory=dict)
    listener: socket.socket | None = None
    closed: list[dict[str, Any]] = field(default_factory=list)
    ending: socket.socket | None = None
    deadline: float = 0.0


@dataclass(slots=True)
class _Child:
    """A process of ours and our end of the socket pair to it."""

    name: str
    process: subprocess.Popen[bytes]
    control: socket.socket | None = None
    waiting: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)
    starts: int = 1


class Keeper:
    """One per home."""

    def __init__(self, home: Path, linger: float | None) -> None:
        self.home = home
        self.run_folder = run_folder(home)
        self._linger = linger
        self._run = os.urandom(8).hex()
        self._idle_since = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._landing = create_landing()
        self._children: dict[str, _Child] = {}
        self._held: dict[int, _Held] = {}
        self._sessions: dict[str, _Session] = {}
        self._pending: dict[socket.socket, tuple[_Session | None, float]] = {}
        self._next = 1
        self._stopping = False
        self._reapers: list[subprocess.Popen[bytes]] = []
        folder = self.run_folder / "trace"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.run_folder / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for stale in folder.glob("*.sock"):
            stale.unlink()
        self._trace = _listener(self.run_folder / "trace.sock")
        self._control = _listener(self.run_folder / "keeper.sock")
        self._selector.register(self._trace, selectors.EVENT_READ, self._accept_trace)
        self._selector.register(self._control, selectors.EVENT_READ, self._accept_control)

    # -- processes -----------------------------------------------------------------------------------------------------

    def _start(
        self, name: str, module: str, *arguments: str, fds: tuple[int, ...] = (), control: bool = True
    ) -> _Child:
        ours: socket.socket | None = None
        passed = list(fds)
        command = [sys.executable, "-m", module, "--home", str(self.home), *arguments]
        theirs: socket.socket | None = None
        if control:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            passed.append(theirs.fileno())
            command += ["--control-fd", str(theirs.fileno())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=passed, cwd="/")
        child = _Child(name, process, ours)
        if ours is not None and theirs is not None:
            theirs.close()
            self._selector.register(ours, selectors.EVENT_READ, lambda _s, c=child: self._hear(c))
        old = self._children.get(name)
        if old is not None:
            child.starts = old.starts + 1
        self._children[name] = child
        return child

    def _start_receiver(self) -> None:
        landing = str(self._landing)
        child = self._start("receiver", "sandtrail.collector.receiver", "--landing-fd", landing, fds=(self._landing,))
        for held in self._held.values():
            self._hand_over(child, held, continues=held.stream)

    def _start_sealer(self) -> None:
        self._start("sealer", "sandtrail.store.sealer", "--run", self._run, control=False)

    def _start_gateway(self) -> _Child:
        child = self._start("gateway", "sandtrail.collector.gateway")
        child.waiting.append(lambda _answer: None)
        for session in self._sessions.values():
            if session.gateway is not None:
                self._gateway_listen(child, session)
        return child

    def _hear(self, child: _Child) -> None:
        assert child.control is not None
        try:
            message, fds = receive(child.control)
        except OSError:
            message, fds = None, []
        for fd in fds:
            os.close(fd)
        if message is None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None
            for answer in child.waiting:
                answer({"ok": False, "error": f"the {child.name} has died; see keeper.log"})
            child.waiting.clear()
        elif child.name == "receiver":
            self._receiver_says(message)
        elif child.waiting:
            child.waiting.pop(0)(message)

    def _receiver_says(self, message: dict[str, Any]) -> None:
        held = self._held.get(int(message.get("id", 0)))
        if held is None:
            return
        if message.get("op") == "taken":
            held.stream = str(message["stream"])
        elif message.get("op") == "closed":
            os.close(held.fd)
            del self._held[held.ident]
            session = self._sessions.get(held.session)
            if session is not None:
                facts = {key: message.get(key) for key in ("stream", "frames", "dropped", "reason")}
                session.closed.append({"source": held.descriptor.get("source"), **facts})
                self._try_end(session)

    def _revive(self) -> None:
        """Start again whatever has died."""
        for child in list(self._children.values()):
            status = child.process.poll()
            if status is None:
                continue
            if child.control is not None:
                self._hear_all(child)
            _say(f"{child.name} ended with status {status}; starting it again")
            if child.starts > 1:
                time.sleep(min(1.0, 0.05 * child.starts))
            if child.name == "receiver":
                self._start_receiver()
            elif child.name == "sealer":
                self._start_sealer()
            elif any(session.gateway is not None for session in self._sessions.values()):
                self._start_gateway()
            else:
                del self._children[child.name]

    def _hear_all(self, child: _Child) -> None:
        """Read what a dead child said last, up to its hang-up."""
        while child.control is not None:
            self._hear(child)

    # -- trace connections ---------------------------------------------------------------------------------------------

    def _accept_trace(self, listener: socket.socket, session: _Session | None = None) -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)
        if len(self._pending) + len(self._held) >= MAX_CONNECTIONS:
            self._note({"note": "error", "cause": f"trace connection refused: over {MAX_CONNECTIONS} are open"})
            connection.close()
            return
        self._pending[connection] = (session, time.monotonic() + HANDSHAKE_TIMEOUT)
        self._selector.register(connection, selectors.EVENT_READ, self._handshake)

    def _handshake(self, connection: socket.socket) -> None:
        session, _ = self._pending.pop(connection)
        self._selector.unregister(connection)
        pid = uid = -1
        try:
            first = connection.recv(10_240)
            pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            version = handshake_version(first)
            if version is None:
                name = session.name if session else ""
                cause = "a trace connection did not begin with gVisor's handshake and was closed"
                self._note({"note": "error", "cause": cause, "bytes": first[:512].hex(), "pid": pid, "session": name})
                connection.close()
                return
            connection.send(REPLY)
        except OSError as error:
            self._note({"note": "error", "cause": f"handshake failed: {error.strerror}", "pid": pid})
            connection.close()
            return
        known = dict(session.descriptor) if session else {}
        descriptor = {"source": "gvisor", **known, "protocol": version, "peer_pid": pid, "peer_uid": uid}
        self._hold(connection.detach(), session.name if session else "", descriptor, gvisor=True)

    def _hold(self, fd: int, session: str, descriptor: dict[str, Any], *, gvisor: bool) -> None:
        held = _Held(self._next, fd, session, descriptor, gvisor)
        self._next += 1
        self._held[held.ident] = held
        child = self._children.get("receiver")
        if child is not None and child.control is not None:
            self._hand_over(child, held)

    def _hand_over(self, child: _Child, held: _Held, continues: str = "") -> None:
        descriptor = {**held.descriptor, "continues": continues} if continues else held.descriptor
        message = {"op": "take", "id": held.ident, "descriptor": descriptor, "gvisor": held.gvisor}
        assert child.control is not None
        # A receiver that has just died is found by `_revive`, and its successor gets everything that we hold.
        with contextlib.suppress(OSError):
            send(child.control, message, [held.fd])

    def _note(self, note: dict[str, Any]) -> None:
        _say(str(note))
        child = self._children.get("receiver")
        if child is not None and child.control is not None:
            with contextlib.suppress(OSError):
                send(child.control, {"op": "note", "note": note})

    # -- control -------------------------------------------------------------------------------------------------------

    def _accept_control(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        self._selector.register(connection, selectors.EVENT_READ, self._request)

    def _request(self, connection: socket.socket) -> None:
        try:
            message, fds = receive(connection)
        except OSError:
            message, fds = None, []
        if message is None:
            self._selector.unregister(connection)
            connection.close()
            for session in [s for s in self._sessions.values() if s.owner is connection]:
                self._orphaned(session)
            return
        handler = getattr(self, f"_op_{message.get('op')}", None)
        try:
            if handler is None:
                raise KeyError(f"unknown request {message.get('op')!r}")
            answer = handler(connection, message, fds)
        except (KeyError, OSError, TypeError, ValueError) as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        for fd in fds:
            os.close(fd)
        if answer is not None:
            _answer(connection, answer)

    def _op_hello(self, *_: Any) -> dict[str, Any]:
        return {"ok": True, "pid": os.getpid(), "home": str(self.home), "version": __version__}

    def _op_status(self, *_: Any) -> dict[str, Any]:
        children = {c.name: {"pid": c.process.pid, "starts": c.starts} for c in self._children.values()}
        held = [
            {"session": h.session, "source": h.descriptor.get("source"), "stream": h.stream}
            for h in self._held.values()
        ]
        return {
            "ok": True,
            "pid": os.getpid(),
            "processes": children,
            "sessions": list(self._sessions),
            "streams": held,
        }

    def _op_session(self, connection: socket.socket, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        name, sandbox = str(message["session"]), str(message["sandbox"])
        if name in self._sessions or not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
            raise ValueError(f"{name!r} is in use, or is no session id")
        path = self.run_folder / "trace" / f"{name}.sock"
        descriptor = {**message["descriptor"], "session": name, "sandbox": sandbox}
        session = _Session(name, sandbox, connection, descriptor, _listener(path), path)
        assert session.endpoint is not None
        self._selector.register(session.endpoint, selectors.EVENT_READ, lambda s: self._accept_trace(s, session))
        self._sessions[name] = session
        return {"ok": True, "endpoint": str(path)}

    def _op_adopt(self, _connection: socket.socket, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        session = self._sessions[str(message["session"])]
        descriptor = {**message["descriptor"], "session": session.name, "sandbox": session.sandbox}
        self._hold(fds.pop(0), session.name, descriptor, gvisor=False)
        return {"ok": True}

    def _op_listen(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        session = self._sessions[str(message["session"])]
        session.gateway = fds.pop(0)
        session.gateway_descriptor = {**message["descriptor"], "session": session.name, "sandbox": session.sandbox}
        session.listener = connection
        gateway = self._children.get("gateway")
        if gateway is None or gateway.control is None:
            self._start_gateway()
        else:
            self._gateway_listen(gateway, session)

    def _gateway_listen(self, gateway: _Child, session: _Session) -> None:
        assert gateway.control is not None
        assert session.gateway is not None
        message = {"op": "listen", "session": session.name, "descriptor": session.gateway_descriptor}
        gateway.waiting.append(lambda answer: self._gateway_listens(session, answer))
        with contextlib.suppress(OSError):
            send(gateway.control, message, [session.gateway])

    def _gateway_listens(self, session: _Session, answer: dict[str, Any]) -> None:
        """Tell whoever asked for the listener; after a restart of the gateway nobody waits for this."""
        if session.listener is not None:
            _answer(session.listener, answer)
            session.listener = None

    def _op_end(self, connection: socket.socket, message: dict[str, Any], _fds: list[int]) -> None:
        session = self._sessions[str(message["session"])]
        session.ending = connection
        self._finish(session)

    def _orphaned(self, session: _Session) -> None:
        """Whoever began the session is gone: end the sandbox, then the session."""
        session.owner = None
        command = [sys.executable, "-m", "sandtrail.collector.session.cleanup", "--home", str(self.home), session.name]
        _say(f"session {session.name} lost its owner; cleaning up")
        self._reapers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/"))
        self._finish(session)

    def _finish(self, session: _Session) -> None:
        session.deadline = time.monotonic() + END_TIMEOUT
        if session.endpoint is not None:
            self._selector.unregister(session.endpoint)
            session.endpoint.close()
            session.endpoint = None
            assert session.path is not None
            session.path.unlink(missing_ok=True)
        gateway = self._children.get("gateway")
        if session.gateway is not None:
            os.close(session.gateway)
            session.gateway = None
            if gateway is not None and gateway.control is not None:
                session.gateway = -1
                gateway.waiting.append(lambda answer: self._gateway_ended(session, answer))
                with contextlib.suppress(OSError):
                    send(gateway.control, {"op": "unlisten", "session": session.name})
        for held in [h for h in self._held.values() if h.session == session.name and not h.gvisor]:
            self._drop(held, "session ended")
        self._try_end(session)

    def _gateway_ended(self, session: _Session, answer: dict[str, Any]) -> None:
        session.gateway = None
        session.closed.append({"source": "gateway", **{key: answer.get(key) for key in ("stream", "frames", "error")}})
        self._try_end(session)

    def _drop(self, held: _Held, reason: str) -> None:
        child = self._children.get("receiver")
        if child is not None and child.control is not None:
            with contextlib.suppress(OSError):
                send(child.control, {"op": "drop", "id": held.ident, "reason": reason})

    def _try_end(self, session: _Session) -> None:
        """Answer `end` once nothing of the session is open any more."""
        if not session.deadline or session.gateway is not None:
            return
        if any(held.session == session.name for held in self._held.values()):
            return
        self._sessions.pop(session.name, None)
        self._idle_since = time.monotonic()
        if session.ending is not None:
            _answer(session.ending, {"ok": True, "streams": session.closed})

    # -- the loop ------------------------------------------------------------------------------------------------------

    def stop(self, *_: Any) -> None:
        """Ask the loop to end."""
        self._stopping = True

    def run(self) -> None:
        """Serve until stopped, or until nobody has needed us for `linger` seconds."""
        self._start_sealer()
        self._start_receiver()
        while not self._stopping:
            for key, _ in self._selector.select(_TICK):
                key.data(key.fileobj)
            self._revive()
            self._expire()
            self._reapers = [reaper for reaper in self._reapers if reaper.poll() is None]
            if self._sessions or self._reapers or any(h.gvisor for h in self._held.values()):
                self._idle_since = time.monotonic()
            elif self._linger is not None and time.monotonic() - self._idle_since > self._linger:
                break
        self._shutdown()

    def _expire(self) -> None:
        now = time.monotonic()
        for connection, (_, deadline) in list(self._pending.items()):
            if now > deadline:
                del self._pending[connection]
                self._selector.unregister(connection)
                connection.close()
                self._note({"note": "error", "cause": "a trace connection sent no handshake and was closed"})
        for session in list(self._sessions.values()):
            if session.deadline and now > session.deadline:
                session.deadline = now + END_TIMEOUT
                session.gateway = None
                for held in [h for h in self._held.values() if h.session == session.name]:
                    self._drop(held, "still open when its session ended")
                self._try_end(session)

    def _shutdown(self) -> None:
        """End the writers first and the sealer last, so that everything that was received is signed."""
        for path in ("keeper.sock", "trace.sock"):
            (self.run_folder / path).unlink(missing_ok=True)
        for name in ("gateway", "receiver"):
            child = self._children.get(name)
            if child is None:
                continue
            if child.control is not None:
                with contextlib.suppress(OSError):
                    send(child.control, {"op": "stop"})
            _wait(child.process, 20)
        sealer = self._children["sealer"].process
        sealer.terminate()
        _wait(sealer, 60)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        _say(f"process {process.pid} did not end within {seconds:.0f} s; killing it")
        process.kill()
        process.wait()


def _answer(connection: socket.socket, answer: dict[str, Any]) -> None:
    # The asker may have gone; its sessions are then ended by `_orphaned`.
    with contextlib.suppress(OSError):
        send(connection, answer)


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(old)
    listener.listen(64)
    return listener


def _say(text: str) -> None:
    print(f"keeper: {text[:2000]}", file=sys.stderr, flush=True)


def main() -> int:
    """The keeper as a process."""
    parser = argparse.ArgumentParser(prog="sandtrail-keeper")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--linger", type=float, default=None, help="leave after this many seconds without a session")
    options = parser.parse_args()
    try:
        keeper = Keeper(options.home, options.linger)
    except BlockingIOError:
        _say(f"another keeper serves {options.home}")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.stop)
    keeper.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
