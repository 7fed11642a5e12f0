"""A process of the keeper's that serves listening sockets of sandboxes' links: docs/architecture.md, "The keeper's
control socket"."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import structlog

from sandtrail.collector.control import receive, send
from sandtrail.collector.gateway import logs
from sandtrail.errors import SandtrailError, UsageError

__all__ = ["Handed", "run"]

Serve = Callable[[Path, socket.socket], Coroutine[Any, Any, None]]

_log = structlog.get_logger(__name__)


class Handed(ABC):
    """The process's end of a socket pair to the keeper: takes listeners, one request after the other."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._requests: asyncio.Queue[tuple[dict[str, Any] | None, list[int]]] = asyncio.Queue()

    @abstractmethod
    async def listen(self, name: str, descriptor: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Serve a session's listening sockets; what is kept of `fds` is popped. Returns what to answer.

        May raise SandtrailError or OSError, as `unlisten` may: the keeper is told in their words.
        """

    @abstractmethod
    async def unlisten(self, name: str, reason: str) -> dict[str, Any]:
        """Accept no more, let what is under way end, end the stream. Returns what to answer."""

    @abstractmethod
    def sessions(self) -> Iterable[str]:
        """The sessions that have listeners."""

    async def serve(self) -> bool:
        """Until the keeper says stop (True) or hangs up, or `hang_up` is called; every session is ended by then."""
        self._control.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._control.fileno(), self._hear)
        self.answer({"ok": True, "op": "ready"})
        while True:
            message, fds = await self._requests.get()
            op = message.get("op") if message is not None else "hang-up"
            if op in ("stop", "hang-up"):
                break
            answer = await self._handle(str(op), message or {}, fds)
            for fd in fds:
                os.close(fd)
            self.answer({"op": op, **answer})
        loop.remove_reader(self._control.fileno())
        ended = (self.unlisten(name, "recorder stopped") for name in list(self.sessions()))
        for failed in await asyncio.gather(*ended, return_exceptions=True):
            if isinstance(failed, BaseException):
                _log.error("a stream has no end in the record", error=str(failed))
        return op == "stop"

    def hang_up(self) -> None:
        """End as if the keeper had hung up: something that the process cannot do without has ended."""
        self._requests.put_nowait((None, []))

    def answer(self, answer: dict[str, Any]) -> None:
        """Tell the keeper; one that is gone hangs up, and that is heard."""
        with contextlib.suppress(OSError):
            send(self._control, answer)

    def _hear(self) -> None:
        try:
            message, fds = receive(self._control)
        except BlockingIOError:
            return
        except OSError:
            message, fds = None, []
        if message is None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._requests.put_nowait((message, fds))

    async def _handle(self, op: str, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        try:
            name = message.get("session")
            if not isinstance(name, str) or not name:
                raise UsageError("the request names no session")
            if op == "listen":
                descriptor = message.get("descriptor")
                if not fds or not isinstance(descriptor, dict):
                    raise UsageError("listen comes with a descriptor and a listening socket")
                if name in self.sessions():
                    raise UsageError(f"{name} has a listener already")
                return await self.listen(name, descriptor, fds)
            if op == "unlisten":
                if name not in self.sessions():
                    raise UsageError(f"{name} has no listener")
                return await self.unlisten(name, "session ended")
            raise UsageError(f"there is no request {op!r}")
        except (SandtrailError, OSError) as error:
            _log.error("request refused", op=op, session=message.get("session"), error=str(error))
            return {"ok": False, "error": str(error)}


def run(name: str, serve: Serve, loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> int:
    """The process itself, as the keeper starts it: serve until it says stop or hangs up."""
    parser = argparse.ArgumentParser(prog=f"sandtrail-{name}")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    options = parser.parse_args()
    # Ctrl-C is for the keeper to hear, which then says stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Its memory holds what its disk must not.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logs.configure()
    with socket.socket(fileno=options.control_fd) as control, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(serve(options.home, control))
    return 0
