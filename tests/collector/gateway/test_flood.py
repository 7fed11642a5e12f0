"""One sandbox that floods the gateway with connections, and another one that only wants to work."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from sandtrail.collector.gateway.admission import BURST, RATE, Admission
from sandtrail.collector.network import namespaces, wire
from tests.collector.gateway.harness import Gateway
from tests.collector.gateway.upstream import Server

pytestmark = pytest.mark.needs("root", "ip", "nft")

# How long a request of the quiet one may take: so many times what it takes without a flood, which is 10 ms on a machine
# that does nothing else, and no less than this.
PATIENCE, PATIENCE_S = 100, 2.0
FACTOR = 2

# Opens connections as fast as it can, from four processes, and holds the last few hundred of each open: for so long,
# and until they are so many times what is let in meanwhile.
_FLOOD = """
import os, socket, sys, time
address, (seconds, factor, burst, rate) = (sys.argv[1], int(sys.argv[2])), map(float, sys.argv[3:])
for _ in range(3):
    if not os.fork():
        break
began, passed, held, made = time.monotonic(), 0, [], 0
while passed < seconds or (4 * made <= factor * (burst + rate * passed) and passed < seconds + 60):
    passed = time.monotonic() - began
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(address)
    held.append(sock)
    made += 1
    if len(held) > 300:
        held.pop(0).close()
print(made, flush=True)
"""


@pytest.fixture
def links(session: str) -> Iterator[Callable[[str], wire.Wire]]:
    made: dict[str, wire.Wire] = {}

    def make(which: str) -> wire.Wire:
        made[which] = wire.Wire.create(f"fl{os.getpid()}{which}")
        return made[which]

    yield make
    for which, link in made.items():
        link.close()
        wire.remove(f"fl{os.getpid()}{which}")


def listen(gateway: Gateway, name: str, link: wire.Wire, server: Server) -> None:
    descriptor = {"source": "gateway", "upstream": {"api.test": server.url}}
    message = {"op": "listen", "session": name, "descriptor": descriptor}
    answer = gateway.ask(message, (link.listener.fileno(),))
    assert answer["ok"], answer


def request(link: wire.Wire) -> float:
    """How long one small request takes, over a connection of its own."""

    def act() -> float:
        began = time.monotonic()
        connection = http.client.HTTPConnection(wire.WIRE_ADDRESS, wire.GATEWAY_PORT, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "http://api.test/")
            assert connection.getresponse().read() == b"fine"
        return time.monotonic() - began

    return namespaces.inside(link.sandbox, act)


def test_a_flood_of_connections_holds_up_nobody_else(
    gateway: Gateway, session: str, server: Server, links: Callable[[str], wire.Wire]
) -> None:
    server.routes["/"] = lambda handler: handler.answer(b"fine")
    noisy, quiet = links("a"), links("b")
    listen(gateway, f"{session}-quiet", quiet, server)
    request(quiet)
    patience = max(PATIENCE_S, PATIENCE * max(request(quiet) for _ in range(5)))
    # One whom the flood holds up to its end is held up for too long.
    told = map(str, (wire.GATEWAY_PORT, 2 * patience, FACTOR, BURST, RATE))
    command = [sys.executable, "-c", _FLOOD, wire.WIRE_ADDRESS, *told]
    began = time.monotonic()
    listen(gateway, f"{session}-noisy", noisy, server)
    flood = namespaces.inside(noisy.sandbox, lambda: subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    took = []
    while flood.poll() is None:
        took.append(request(quiet))
        time.sleep(0.02)
    out, _ = flood.communicate(timeout=60)
    tried, let_in = sum(map(int, out.split())), BURST + RATE * (time.monotonic() - began)
    assert len(took) > 3
    assert max(took) < patience, sorted(took)[-5:]
    account = wire.finish(f"fl{os.getpid()}a")
    nothing = (0, 0)
    assert account.difference == {"up": nothing, "down": nothing}, account.described()
    begun = account.logged["flow:allow"].packets + account.logged["flow:limit"].packets + account.unlogged
    assert min(tried, begun) > 1.5 * let_in, "the flood is no flood"
    calm, loud = gateway.ended(f"{session}-quiet"), gateway.ended(f"{session}-noisy")
    assert len(calm.of("response")) == 1 + 5 + len(took)
    assert calm.closed["refused"] == 0
    # What was admitted is on record, each connection with its end.
    assert loud.closed["connections"] == len(loud.of("close"))
    assert loud.closed["connections"] <= BURST + RATE * (time.monotonic() - began)


async def _served(count: int, rate: float, burst: float) -> list[float]:
    """When each of so many connections, opened at once, was taken."""
    loop = asyncio.get_running_loop()
    taken: list[float] = []

    async def serve(_: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(loop.time())
        writer.write(await reader.readexactly(1))
        writer.close()

    with socket.create_server(("127.0.0.1", 0), backlog=count) as listener:
        admission = Admission(listener, serve, rate=rate, burst=burst)

        async def one() -> bytes:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"x")
            answer = await reader.read()
            writer.close()
            return answer

        assert await asyncio.gather(*(one() for _ in range(count))) == [b"x"] * count
        await admission.close()
    return taken


def test_connections_beyond_the_pace_are_served_in_their_turn() -> None:
    taken = asyncio.run(_served(30, rate=50, burst=10))
    assert len(taken) == 30
    assert taken[-1] - taken[0] >= 0.35, "20 of them have to wait for their turn, at 50 a second"


def test_a_burst_is_served_at_once() -> None:
    assert len(asyncio.run(_served(30, rate=0.001, burst=30))) == 30
