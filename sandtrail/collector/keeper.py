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
import time
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.collector.children import Child, Children, end, say
from sandtrail.collector.control import run_folder
from sandtrail.collector.endpoints import Handshakes, accept, listener
from sandtrail.collector.held import HeldSockets
from sandtrail.collector.landing import PLACES, create_landing
from sandtrail.collector.requests import Handler, Requests
from sandtrail.collector.services import SERVICES, Services
from sandtrail.collector.sessions import Sessions
from sandtrail.collector.succession import become_the_keeper, wait_for_the_last

__all__ = ["Keeper"]

_MAX_DESCRIPTOR = 64 * 1024
_FILES = 65_536
_TICK = 0.25
# Where the notary's settings can come from; it decides itself whether there is anything to do.
_NOTARY_SETTINGS = ("SANDTRAIL_WITNESS_POLICY", "SANDTRAIL_TSA_URL")
_SETTINGS_FILE = Path("/etc/sandtrail/sandtrail.toml")

Message = dict[str, Any]


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
        parts = self._handshakes, self._held, self._services
        self._sessions = Sessions(home, self.run_folder / "trace", self._selector, parts, self._add_trace)
        self._spool = -1
        self._stopping = False
        self._notary = any(map(os.environ.get, _NOTARY_SETTINGS)) or _SETTINGS_FILE.exists()
        self._lock = become_the_keeper(self.run_folder)
        self._landing = create_landing(self.run_folder)
        for stale in (self.run_folder / "trace").glob("*.sock"):
            stale.unlink()
        trace = listener(self.run_folder / "trace.sock")
        self._selector.register(trace, selectors.EVENT_READ, self._accept_trace)
        handlers: dict[str, Handler] = {
            "hello": self._op_hello,
            "status": self._op_status,
            "session": self._op_session,
            "adopt": self._op_adopt,
            "listen": self._op_listen,
            "end": self._op_end,
        }
        self._clients = Requests(self.run_folder / "keeper.sock", self._selector, handlers, self._sessions.orphan)

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
                self._sessions.closed(held, message)

    # -- sockets to record from ----------------------------------------------------------------------------------------

    def _accept_trace(self, sock: socket.socket) -> None:
        connection = accept(sock)
        if connection is not None:
            self._add_trace(connection, "")

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
        self._sessions.let_go(note["session"])

    def _note(self, note: Message) -> None:
        say(str(note))
        receiver = self._children.get("receiver")
        if receiver is not None:
            receiver.tell({"op": "note", "note": note})

    # -- control -------------------------------------------------------------------------------------------------------

    def _op_hello(self, *_: Any) -> Message:
        return {"ok": True, "pid": os.getpid(), "home": str(self.home), "version": __version__}

    def _op_status(self, *_: Any) -> Message:
        return {
            "ok": True,
            "pid": os.getpid(),
            "processes": {c.name: {"pid": c.process.pid, "starts": c.starts} for c in self._children.all()},
            "sessions": self._sessions.names(),
            "streams": [
                {"session": held.session, "source": held.descriptor.get("source"), "stream": held.stream}
                for held in self._held
            ],
        }

    def _op_session(self, connection: socket.socket, message: Message, _fds: list[int]) -> Message:
        name, sandbox = str(message["session"]), str(message["sandbox"])
        path = self._sessions.begin(name, sandbox, _descriptor(message), connection)
        return {"ok": True, "endpoint": str(path)}

    def _op_adopt(self, _connection: socket.socket, message: Message, fds: list[int]) -> Message:
        session = self._sessions.asked(message)
        descriptor = session.described(_descriptor(message))
        if not fds or session.ending or len(self._held) >= PLACES:
            raise ValueError("adopt needs a socket, a session that is not ending, and room for it")
        with socket.socket(fileno=os.dup(fds[0])) as sock:
            if sock.family not in (socket.AF_UNIX, socket.AF_NETLINK) or sock.type == socket.SOCK_STREAM:
                raise ValueError("only message sockets of AF_UNIX or AF_NETLINK can be adopted")
        self._held.add(fds.pop(0), session.name, descriptor, gvisor=False)
        return {"ok": True}

    def _op_listen(self, connection: socket.socket, message: Message, fds: list[int]) -> None:
        session = self._sessions.asked(message)
        name = message.get("service", "gateway")
        if not isinstance(name, str) or name not in SERVICES:
            raise ValueError(f"there is no service {name!r:.100}")
        descriptor = session.described(_descriptor(message))
        if not fds or session.ending or self._services.serves(name, session.name):
            raise ValueError("listen needs a socket, and a session that is not ending and is not served yet")
        self._services.listen(name, session.name, tuple(fds), descriptor, connection)
        fds.clear()

    def _op_end(self, connection: socket.socket, message: Message, _fds: list[int]) -> None:
        self._sessions.end(self._sessions.asked(message), connection)

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
            self._sessions.expire()
            now = time.monotonic()
            if self._sessions or len(self._clients) or any(held.gvisor for held in self._held):
                self._needed_at = now
            elif self._linger is not None and now - self._needed_at > self._linger:
                break
        self._shutdown()

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
