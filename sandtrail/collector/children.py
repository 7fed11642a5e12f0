"""The keeper's processes: starting them, talking to them without ever waiting for them, starting them again."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandtrail.collector.control import receive, send

__all__ = ["Child", "Children", "end", "say"]

Message = dict[str, Any]
# A process that lived this long has not died of how it was started: it is started again at once.
_HEALTHY = 5.0
_BACK_OFF = 0.05
_BACK_OFF_MAX = 1.0


class Child:
    """A process and our end of the socket pair to it."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        selector: selectors.BaseSelector,
        heard: Callable[[Child, Message, list[int]], None],
    ) -> None:
        self.name = name
        self.process = process
        self.started = time.monotonic()
        self.starts = 1
        # How often in a row it has died young, and when it may be started again.
        self.early_deaths = 0
        self.again_at: float | None = None
        # What to do with the answers to come, in the order of the requests.
        self.waiting: deque[Callable[[Message], None]] = deque()
        self._control: socket.socket | None = control
        self._selector = selector
        self._heard = heard
        self._outbox: deque[tuple[Mapping[str, Any], list[int]]] = deque()
        control.setblocking(False)
        selector.register(control, selectors.EVENT_READ, self._event)

    @property
    def connected(self) -> bool:
        """Whether it can be talked to."""
        return self._control is not None

    def tell(self, message: Mapping[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send a message as soon as the process takes it; to one that has died, nothing."""
        if self._control is not None:
            self._outbox.append((message, [os.dup(fd) for fd in fds]))
            self._flush()

    def ask(self, message: Mapping[str, Any], answered: Callable[[Message], None], fds: tuple[int, ...] = ()) -> None:
        """Send a request; `answered` gets the answer, or an error if the process dies before."""
        if self._control is None:
            answered(self._died())
        else:
            self.waiting.append(answered)
            self.tell(message, fds)

    def _died(self) -> Message:
        return {"ok": False, "error": f"the {self.name} has died; see keeper.log"}

    def _flush(self) -> None:
        while self._outbox and self._control is not None:
            message, fds = self._outbox[0]
            try:
                send(self._control, message, fds)
            except BlockingIOError:
                break
            except OSError:
                self._drop_outbox()  # it has died, as we shall hear
                break
            self._outbox.popleft()
            _close(fds)
        if self._control is not None:
            write = selectors.EVENT_WRITE if self._outbox else 0
            self._selector.modify(self._control, selectors.EVENT_READ | write, self._event)

    def _drop_outbox(self) -> None:
        for _, fds in self._outbox:
            _close(fds)
        self._outbox.clear()

    def _event(self, _socket: object = None) -> None:
        self._flush()
        self.hear()

    def hear(self) -> None:
        """Read what the process has said; notice its hang-up."""
        while self._control is not None:
            try:
                message, fds = receive(self._control)
            except BlockingIOError:
                return
            except OSError:
                message, fds = None, []
            if message is None:
                self.hang_up()
            elif self.waiting:
                self.waiting.popleft()(message)
            else:
                self._heard(self, message, fds)
            _close(fds)

    def hang_up(self) -> None:
        """Let go of the socket pair; whoever waits for an answer is told."""
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None
            self._drop_outbox()
            while self.waiting:
                self.waiting.popleft()(self._died())


class Children:
    """The processes of one keeper by their names."""

    def __init__(
        self,
        home: Path,
        selector: selectors.BaseSelector,
        heard: Callable[[Child, Message, list[int]], None],
        again: Callable[[str], None],
    ) -> None:
        """`heard` gets what a process says unasked, `again` the name of one that has died and is to be started."""
        self._home = home
        self._selector = selector
        self._heard = heard
        self._again = again
        self._children: dict[str, Child] = {}

    def get(self, name: str) -> Child | None:
        """The process of that name if it can be talked to."""
        child = self._children.get(name)
        return child if child is not None and child.connected else None

    def all(self) -> list[Child]:
        """Every process that has been started, also one that has died and waits for its next start."""
        return list(self._children.values())

    def start(self, name: str, module: str, *arguments: str, fds: tuple[int, ...] = ()) -> Child:
        """Start `python -m MODULE --home H ARGUMENTS --control-fd N`; it inherits `fds` under their numbers."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", module, "--home", str(self._home), *arguments]
        with theirs:
            command += ["--control-fd", str(theirs.fileno())]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(*fds, theirs.fileno()), cwd="/")
        child = Child(name, process, ours, self._selector, self._heard)
        old = self._children.get(name)
        if old is not None:
            child.starts, child.early_deaths = old.starts + 1, old.early_deaths
        self._children[name] = child
        return child

    def forget(self, name: str) -> None:
        """A process that nobody needs any more is not started again."""
        self._children.pop(name, None)

    def revive(self) -> float:
        """Start again what has died; returns in how many seconds to look again."""
        patience = 1.0
        now = time.monotonic()
        for child in self.all():
            if child.process.poll() is None:
                # Hung up and not yet dead: it will be in a moment.
                patience = patience if child.connected else min(patience, 0.01)
                continue
            if child.again_at is None:
                child.hear()  # what it said last
                child.hang_up()
                young = now - child.started < _HEALTHY
                child.early_deaths = child.early_deaths + 1 if young else 0
                wait = _BACK_OFF * (child.early_deaths - 1) if child.early_deaths else 0
                child.again_at = now + min(_BACK_OFF_MAX, wait)
                say(f"{child.name} ended with status {child.process.returncode}; starting it again")
            if now >= child.again_at:
                self._again(child.name)
            else:
                patience = min(patience, child.again_at - now)
        return patience


def end(child: Child | None, seconds: float) -> None:
    """Ask a process to stop, wait, and kill it when it does not."""
    if child is None:
        return
    child.tell({"op": "stop"})
    deadline = time.monotonic() + seconds
    while child.process.poll() is None and time.monotonic() < deadline:
        child.hear()
        time.sleep(0.005)
    if child.process.poll() is None:
        say(f"{child.name} did not end within {seconds:.0f} s; killing it")
        child.process.kill()
        child.process.wait()
    child.hang_up()


def _close(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    fds.clear()


def say(text: str) -> None:
    """One line for the keeper's log."""
    print(f"keeper: {text[:2000]}", file=sys.stderr, flush=True)
