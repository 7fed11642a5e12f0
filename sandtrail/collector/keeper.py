"""The keeper: owns every socket of the recorder, starts its processes, and starts them again when they die.

It reads from none of the sockets after the handshake, so it stays tiny and there is next to nothing in it that hostile
bytes could reach. As long as it lives the sandboxes' connections live, whatever becomes of the worker processes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.collector.children import Child, Children, end, say
from sandtrail.collector.control import run_folder
from sandtrail.collector.endpoints import Handshakes, accept, listener
from sandtrail.collector.held import Held, HeldSockets
from sandtrail.collector.landing import PLACES, create_landing
from sandtrail.collector.requests import Handler, Requests, answer
from sandtrail.collector.services import SERVICES, Services
from sandtrail.collector.succession import become_the_keeper, wait_for_the_last

__all__ = ["Keeper"]

END_TIMEOUT = 5.0
CLEANUP_TIMEOUT = 60.0
_MAX_DESCRIPTOR = 64 * 1024
_FILES = 65_536
_TICK = 0.25
# Where the notary's settings can come from; it decides itself whether there is anything to do.
_NOTARY_SETTINGS = ("SANDTRAIL_WITNESS_POLICY", "SANDTRAIL_TSA_URL")
_SETTINGS_FILE = Path("/etc/sandtrail/sandtrail.toml")

Message = dict[str, Any]


@dataclass(slots=True)
class _Session:
    name: str
    sandbox: str
    owner: socket.socket | None
    descriptor: Message
    endpoint: socket.socket | None
    path: Path
    # Services that were told of the session's end and have not come to theirs.
    unlistening: set[str] = field(default_factory=set)
    closed: list[Message] = field(default_factory=list)
    askers: list[socket.socket] = field(default_factory=list)
    # Zero until the session is to end.
    deadline: float = 0.0


class Keeper:
    """One per home."""

    def __init__(self, home: Path, linger: float | None) -> None:
        """Raises BlockingIOError when another one serves this home."""
        self.home = home
        self.run_folder = run_folder(home)
        self._linger = linger
        self._run = os.urandom(8).hex()
        self._needed_at = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._children = Children(home, self._selector, self._heard, self._start)
        self._handshakes = Handshakes(self._selector, self._greeted, self._refused)
        self._held = HeldSockets(self._children)
        self._services = Services(self._children)
        self._sessions: dict[str, _Session] = {}
        self._cleanups: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self._spool = -1
        self._stopping = False
        self._notary = any(map(os.environ.get, _NOTARY_SETTINGS)) or _SETTINGS_FILE.exists()
        folder = self.run_folder / "trace"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = become_the_keeper(self.run_folder)
        self._landing = create_landing(self.run_folder)
        for stale in folder.glob("*.sock"):
            stale.unlink()
        trace = listener(self.run_folder / "trace.sock")
        self._selector.register(trace, selectors.EVENT_READ, lambda sock: self._accept_trace(sock, ""))
        handlers: dict[str, Handler] = {
            "hello": self._op_hello,
            "status": self._op_status,
            "session": self._op_session,
            "adopt": self._op_adopt,
            "listen": self._op_listen,
            "end": self._op_end,
        }
        self._clients = Requests(self.run_folder / "keeper.sock", self._selector, handlers, self._hung_up)

    # -- processes -----------------------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        if name == "receiver":
            landing = str(self._landing)
            receiver = self._children.start(
                name, "sandtrail.collector.receiver", "--landing-fd", landing, fds=(self._landing,)
            )
            self._held.hand_over(receiver)
        elif name == "sealer":
            self._children.start(name, "sandtrail.store.sealer", "--run", self._run)
        elif name == "notary":
            if self._notary:
                self._children.start(name, "sandtrail.witness.notary")
            else:
                self._children.forget(name)
        else:
            self._services.start(name)

    def _heard(self, child: Child, message: Message, fds: list[int]) -> None:
        if child.name == "notary" and message.get("op") == "idle":
            self._notary = False  # it ends, and is not started again
        if child.name != "receiver":
            return
        if message.get("op") == "spool" and fds:
            old, self._spool = self._spool, fds.pop(0)
            if old >= 0:
                os.close(old)
            else:
                # Not before the first receiver has finished what one of an earlier run had in hand.
                self._start("sealer")
                self._start("notary")
        elif message.get("op") == "closed":
            held = self._held.closed(int(message["id"]))
            if held is not None:
                self._closed(held, message)

    def _closed(self, held: Held, message: Message) -> None:
        session = self._sessions.get(held.session)
        if session is not None:
            facts = {key: message.get(key) for key in ("stream", "frames", "dropped", "reason")}
            before = {"continues": held.before} if held.before else {}
            session.closed.append({"source": held.descriptor.get("source"), **facts, **before})
            self._try_end(session)

    # -- sockets to record from ----------------------------------------------------------------------------------------

    def _accept_trace(self, sock: socket.socket, session: str) -> None:
        connection = accept(sock)
        if connection is not None:
            self._add_trace(connection, session)

    def _add_trace(self, connection: socket.socket, session: str) -> None:
        if len(self._handshakes) + len(self._held) >= PLACES:
            connection.close()
            cause = f"a trace connection was refused: {PLACES} sockets are open"
            self._note({"note": "error", "cause": cause, "session": session})
        else:
            self._handshakes.add(connection, session)

    def _greeted(self, connection: socket.socket, name: str, facts: Message) -> None:
        session = self._sessions.get(name)
        known = session.descriptor if session else {}
        self._held.add(connection.detach(), name, {"source": "gvisor", **known, **facts}, gvisor=True)

    def _refused(self, note: Message) -> None:
        self._note(note)
        session = self._sessions.get(note["session"])
        if session is not None:
            self._try_end(session)

    def _note(self, note: Message) -> None:
        say(str(note))
        receiver = self._children.get("receiver")
        if receiver is not None:
            receiver.tell({"op": "note", "note": note})

    # -- control -------------------------------------------------------------------------------------------------------

    def _hung_up(self, connection: socket.socket) -> None:
        for session in list(self._sessions.values()):
            if session.owner is connection:
                self._orphaned(session)

    def _session(self, message: Message) -> _Session:
        name = message["session"]
        if not isinstance(name, str) or name not in self._sessions:
            raise ValueError(f"there is no session {name!r:.100}")
        return self._sessions[name]

    def _op_hello(self, *_: Any) -> Message:
        return {"ok": True, "pid": os.getpid(), "home": str(self.home), "version": __version__}

    def _op_status(self, *_: Any) -> Message:
        return {
            "ok": True,
            "pid": os.getpid(),
            "processes": {c.name: {"pid": c.process.pid, "starts": c.starts} for c in self._children.all()},
            "sessions": list(self._sessions),
            "streams": [
                {"session": held.session, "source": held.descriptor.get("source"), "stream": held.stream}
                for held in self._held
            ],
        }

    def _op_session(self, connection: socket.socket, message: Message, _fds: list[int]) -> Message:
        name, sandbox = str(message["session"]), str(message["sandbox"])
        plain = name.replace("-", "").replace("_", "")
        if not (plain.isascii() and plain.isalnum() and len(name) <= 64):
            raise ValueError(f"{name!r:.100} is no session id: up to 64 of letters, digits, '-' and '_'")
        if name in self._sessions:
            raise ValueError(f"session {name!r} is in use")
        descriptor = {**_descriptor(message), "session": name, "sandbox": sandbox}
        path = self.run_folder / "trace" / f"{name}.sock"
        endpoint = listener(path)
        self._selector.register(endpoint, selectors.EVENT_READ, lambda sock: self._accept_trace(sock, name))
        self._sessions[name] = _Session(name, sandbox, connection, descriptor, endpoint, path)
        return {"ok": True, "endpoint": str(path)}

    def _op_adopt(self, _connection: socket.socket, message: Message, fds: list[int]) -> Message:
        session = self._session(message)
        descriptor = {**_descriptor(message), "session": session.name, "sandbox": session.sandbox}
        if not fds or session.deadline or len(self._held) >= PLACES:
            raise ValueError("adopt needs a socket, a session that is not ending, and room for it")
        with socket.socket(fileno=os.dup(fds[0])) as sock:
            if sock.family not in (socket.AF_UNIX, socket.AF_NETLINK) or sock.type == socket.SOCK_STREAM:
                raise ValueError("only message sockets of AF_UNIX or AF_NETLINK can be adopted")
        self._held.add(fds.pop(0), session.name, descriptor, gvisor=False)
        return {"ok": True}

    def _op_listen(self, connection: socket.socket, message: Message, fds: list[int]) -> None:
        session = self._session(message)
        name = message.get("service", "gateway")
        if not isinstance(name, str) or name not in SERVICES:
            raise ValueError(f"there is no service {name!r:.100}")
        descriptor = {**_descriptor(message), "session": session.name, "sandbox": session.sandbox}
        if not fds or session.deadline or self._services.serves(name, session.name):
            raise ValueError("listen needs a socket, and a session that is not ending and is not served yet")
        self._services.listen(name, session.name, tuple(fds), descriptor, connection)
        fds.clear()

    # -- the end of a session ------------------------------------------------------------------------------------------

    def _op_end(self, connection: socket.socket, message: Message, _fds: list[int]) -> None:
        session = self._session(message)
        session.askers.append(connection)
        self._finish(session)

    def _orphaned(self, session: _Session) -> None:
        """Whoever began the session is gone: have the sandbox ended, and go on recording until it has."""
        session.owner = None
        if session.deadline or session.name in self._cleanups:
            return
        say(f"session {session.name} lost its owner; cleaning up")
        command = [sys.executable, "-m", "sandtrail.collector.session.cleanup", "--home", str(self.home), session.name]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/")
        self._cleanups[session.name] = process, time.monotonic() + CLEANUP_TIMEOUT

    def _finish(self, session: _Session) -> None:
        """Begin to end a session: nothing new is taken, and what has arrived is recorded."""
        if session.deadline:
            return
        session.deadline = time.monotonic() + END_TIMEOUT
        if session.endpoint is not None:
            while (connection := accept(session.endpoint)) is not None:
                self._add_trace(connection, session.name)
            self._selector.unregister(session.endpoint)
            session.endpoint.close()
            session.endpoint = None
            session.path.unlink(missing_ok=True)
        self._services.close(session.name, session.unlistening, partial(self._unlistened, session))
        for held in self._held.of(session.name):
            if not held.gvisor:
                self._held.drop(held, "session ended")
        self._try_end(session)

    def _unlistened(self, session: _Session, name: str, said: Message) -> None:
        session.closed.append({"source": name, **{key: said.get(key) for key in ("stream", "frames", "error")}})
        self._try_end(session)

    def _try_end(self, session: _Session) -> None:
        """Answer `end` once nothing of the session is open any more."""
        if (
            not session.deadline
            or session.unlistening
            or self._held.of(session.name)
            or self._handshakes.waiting(session.name)
        ):
            return
        if self._sessions.pop(session.name, None) is not None:
            for asker in session.askers:
                answer(asker, {"ok": True, "streams": session.closed})

    # -- the loop ------------------------------------------------------------------------------------------------------

    def stop(self, *_: Any) -> None:
        """Ask the loop to end."""
        self._stopping = True

    def run(self) -> None:
        """Serve until stopped, or until nobody has needed us for `linger` seconds."""
        self._start("receiver")
        patience = _TICK
        while not self._stopping:
            for key, _ in self._selector.select(min(_TICK, patience)):
                # What an earlier callback of this round has let go of is not called any more.
                still = self._selector.get_map().get(key.fd)
                if still is not None and still.fileobj is key.fileobj:
                    key.data(key.fileobj)
            patience = self._children.revive()
            self._handshakes.expire()
            self._expire()
            now = time.monotonic()
            if self._sessions or self._cleanups or len(self._clients) or any(held.gvisor for held in self._held):
                self._needed_at = now
            elif self._linger is not None and now - self._needed_at > self._linger:
                break
        self._shutdown()

    def _expire(self) -> None:
        now = time.monotonic()
        for name, (process, deadline) in list(self._cleanups.items()):
            if process.poll() is None and now > deadline:
                say(f"the cleanup of session {name} takes too long; killing it")
                process.kill()
                process.wait()
            if process.poll() is not None:
                del self._cleanups[name]
                if name in self._sessions:
                    self._finish(self._sessions[name])
        for session in list(self._sessions.values()):
            if session.deadline and now > session.deadline:
                session.deadline = now + END_TIMEOUT
                session.unlistening.clear()
                for held in self._held.of(session.name):
                    self._held.drop(held, "still open when its session ended")
                self._try_end(session)

    def _shutdown(self) -> None:
        """End the writers first and the sealer last, so that everything that was received is signed."""
        for path in ("keeper.sock", "trace.sock"):
            (self.run_folder / path).unlink(missing_ok=True)
        self._services.end(20)
        if self._held and self._children.get("receiver") is None:
            self._start("receiver")  # it has just died, and the sockets may still hold something
        receiver = self._children.get("receiver")
        end(receiver, 20)
        if receiver is not None and receiver.process.returncode == 0 and self._spool >= 0:
            # Nobody will have to go on with them.
            os.close(self._spool)
            (self.run_folder / "landing").unlink(missing_ok=True)
        end(self._children.get("sealer"), 60)
        end(self._children.get("notary"), 5)  # what it keeps is whole at any moment


def _descriptor(message: Message) -> Message:
    descriptor = message["descriptor"]
    if not isinstance(descriptor, dict) or len(json.dumps(descriptor)) > _MAX_DESCRIPTOR:
        raise ValueError(f"a descriptor is an object of at most {_MAX_DESCRIPTOR} bytes")
    return descriptor


def main() -> int:
    """The keeper as a process."""
    parser = argparse.ArgumentParser(prog="sandtrail-keeper")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--linger", type=float, default=None, help="leave after this many seconds without a session")
    parser.add_argument("--wait", type=float, default=0.0, help="wait this many seconds for one that is leaving")
    parser.add_argument("--detach", action="store_true", help="go on in a process that is nobody's child")
    options = parser.parse_args()
    if options.detach and os.fork():
        os._exit(0)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(most, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    wait_for_the_last(run_folder(options.home), options.wait)
    try:
        keeper = Keeper(options.home, options.linger)
    except BlockingIOError:
        say(f"another keeper serves {options.home}")
        return 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.stop)
    keeper.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
