"""Outgoing connections of the gateway: whose they are, which names become which addresses, and which are refused.

The last word is had where the socket connects: whatever a name resolved to, then or now, an address that `addresses`
refuses is connected to only as an upstream of the policy.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sandtrail.collector.gateway.addresses import why_not

__all__ = ["EgressLoop", "Resolver", "UnknownNameError", "leaving"]

RESOLVE_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 30.0
_KEPT = 1024
_FRESH_S, _FRESH_FAILURE_S = 15.0, 2.0
_LOOKUPS = 8

_NO_NAME = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

Info = tuple[Any, Any, int, str, Any]


class UnknownNameError(OSError):
    """There is no such name, or no address for it."""


class Resolver:
    """One sandbox's name look-ups: a few at a time, so that many slow ones are nobody else's trouble."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, list[Info] | OSError]] = {}
        self._turn = asyncio.Semaphore(_LOOKUPS)

    async def resolve(self, host: str) -> list[Info]:
        """getaddrinfo's answer with port 0, remembered for a moment. Raises OSError when there is none."""
        if len(host) > 255:
            raise OSError("that is no host name")
        answer = self._fresh(host)
        if answer is None:
            async with self._turn:
                answer = self._fresh(host) or await self._look_up(host)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _fresh(self, host: str) -> list[Info] | OSError | None:
        until, answer = self._known.get(host, (0.0, None))
        return answer if time.monotonic() < until else None

    async def _look_up(self, host: str) -> list[Info] | OSError:
        answer: list[Info] | OSError
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(None, lambda: socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))
        except TimeoutError:
            answer = OSError(f"no answer within {RESOLVE_TIMEOUT_S:.0f} s")
        except ValueError:  # not to be encoded, or with a NUL in it
            answer = OSError("that is no host name")
        except OSError as error:
            unknown = isinstance(error, socket.gaierror) and error.errno in _NO_NAME
            answer = (UnknownNameError if unknown else OSError)(error.strerror or str(error))
        if len(self._known) >= _KEPT:
            self._known.clear()
        fresh = _FRESH_FAILURE_S if isinstance(answer, OSError) else _FRESH_S
        self._known[host] = (time.monotonic() + fresh, answer)
        return answer

    async def refusal(self, host: str) -> str | None:
        """Why connections to this host are refused, None when they are not. Raises OSError if it can't be resolved."""
        for info in await self.resolve(host):
            if reason := why_not(info[4][0]):
                return f"{info[4][0]} is refused: {reason}"
        return None


class _Leaving:
    """What the connection attempt of the current task may do."""

    def __init__(self, resolver: Resolver, mapped: bool) -> None:
        self.resolver = resolver
        self.mapped = mapped


_leaving: ContextVar[_Leaving | None] = ContextVar("leaving", default=None)


@contextmanager
def leaving(resolver: Resolver, *, mapped: bool) -> Iterator[None]:
    """Connections of this task are the resolver's sandbox's; `mapped` ones go to an upstream of its policy."""
    token = _leaving.set(_Leaving(resolver, mapped))
    try:
        yield
    finally:
        _leaving.reset(token)


class EgressLoop(asyncio.SelectorEventLoop):
    """An event loop that connects nowhere on nobody's behalf."""

    def __init__(self) -> None:
        super().__init__()
        self.set_default_executor(ThreadPoolExecutor(64, thread_name_prefix="lookup"))

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> list[Info]:
        """The answer that was judged is the answer that is used."""
        permit = _leaving.get()
        if permit is None or not isinstance(host, str):
            raise OSError(f"a look-up of {host!r} that is no sandbox's")
        infos = await permit.resolver.resolve(host)
        return [(family, kind, protocol, "", (a[0], port, *a[2:])) for family, kind, protocol, _, a in infos]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect, or raise PermissionError where this task may not."""
        permit = _leaving.get()
        if permit is None:
            raise PermissionError(f"a connection to {address[0]} that is no sandbox's")
        if not permit.mapped and (reason := why_not(address[0])):
            raise PermissionError(f"{address[0]} is refused: {reason}")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await super().sock_connect(sock, address)
        except TimeoutError:
            raise OSError(f"no connection to {address[0]} within {CONNECT_TIMEOUT_S:.0f} s") from None
