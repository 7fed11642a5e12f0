"""What the gateway adds to a streamed model call, beside the direct connection and beside bare mitmproxy."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from random import Random
from statistics import median, quantiles

from rich.table import Table

from bench.egress.client import NAME, Client, Timing, Way
from bench.report import Figures, Outcome, Target, rotated
from sandtrail.collector.control import receive, send
from sandtrail.collector.gateway.ca import ensure_ca
from sandtrail.errors import MissingPartError

__all__ = ["run"]

_LINES = {"direct": "direct", "bare": "bare mitmproxy", "sandtrail": "Sandtrail's gateway"}
_BODY = 64 * 1024
"""A conversation that an agent has had for a while."""
_EVENTS, _PAUSE_US = 100, 1000
_STREAMS = 50
"""Streams of each line in a round: mixed, so that what else the machine does meets all of them. Not in one order: a
stream that follows a direct one is a fifth faster than one that follows a proxy's."""
_BURST = 200
"""Short exchanges, one after the other, by which requests/s are told."""
_PARALLEL = 64


@dataclass
class _Line:
    """What was measured of one way to the model."""

    streams: list[Timing] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    broken: int = 0


def run(options: argparse.Namespace, folder: Path) -> Outcome:
    """Rounds of all lines; then 64 streams at once through the gateway, none of which may lose an event."""
    with _model() as model, _bare(folder / "bare", model) as bare, _gateway(folder / "home", model) as ours:
        ways = {"direct": Way(model), "bare": bare, "sandtrail": ours}
        measured = asyncio.run(_measure(ways, options.rounds or 8))
        timings = asyncio.run(_parallel(ours))
    lines = {name: _summary(line, measured["direct"], measured["bare"]) for name, line in measured.items()}
    broken = sum(line.broken for line in measured.values()) + sum(not timing.whole for timing in timings)
    problems = [f"{broken} answers did not arrive whole"] if broken else []
    figures: Figures = {"lines": lines, "parallel": {"streams": len(timings), "whole": sum(t.whole for t in timings)}}
    return Outcome(_table(lines), figures, _targets(lines["sandtrail"]), problems)


async def _measure(ways: dict[str, Way], rounds: int) -> dict[str, _Line]:
    lines = {name: _Line() for name in ways}
    clients = {name: await Client.connect(way) for name, way in ways.items()}
    body = _conversation()
    for client in clients.values():
        for _ in range(5):
            await client.ask(body, 3, 0)  # certificates are made, code is warm
    order = Random(1)
    for names in rotated(list(ways), rounds):
        for _ in range(_STREAMS):
            for name in order.sample(names, len(names)):
                lines[name].streams.append(await clients[name].ask(body, _EVENTS, _PAUSE_US))
        for name in names:
            begun = time.perf_counter()
            short = [await clients[name].ask(body, 2, 0) for _ in range(_BURST)]
            lines[name].per_s.append(_BURST / (time.perf_counter() - begun))
            lines[name].broken += sum(not timing.whole for timing in short)
    for name, client in clients.items():
        client.close()
        lines[name].broken += sum(not timing.whole for timing in lines[name].streams)
    return lines


async def _parallel(way: Way) -> list[Timing]:
    clients = [await Client.connect(way) for _ in range(_PARALLEL)]
    timings = await asyncio.gather(*(client.ask(_conversation(), 400, 2000) for client in clients))
    for client in clients:
        client.close()
    return list(timings)


def _conversation() -> bytes:
    """A request as an agent sends it: text of many words, JSON within JSON."""
    message = {
        "role": "tool",
        "tool_call_id": "call_1",
        "content": json.dumps({"output": "def f(x):\n    return x\n" * 40}),
    }
    request: dict[str, object] = {"model": "bench", "stream": True, "messages": [message] * (_BODY // 1200)}
    return json.dumps(request).encode()


# -- the parts ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _process(*command: str) -> Iterator[int]:
    """A process that prints the port that it listens on."""
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if not (port := process.stdout.readline().strip()):
                raise MissingPartError(f"{command[0]} ended before it listened; run it alone: {' '.join(command)}")
            yield int(port)
        finally:
            process.terminate()


def _model() -> contextlib.AbstractContextManager[int]:
    return _process("bench.egress.model")


@contextlib.contextmanager
def _bare(folder: Path, model: int) -> Iterator[Way]:
    folder.mkdir()
    with _process("bench.egress.bare", str(folder), str(model)) as port:
        yield Way(port, folder / "mitmproxy-ca-cert.pem")


@contextlib.contextmanager
def _gateway(home: Path, model: int) -> Iterator[Way]:
    """The gateway's own process, driven as the keeper drives it."""
    home.mkdir()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "sandtrail.collector.gateway", "--home", str(home)]
    with theirs, (home / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--control-fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _answered(receive(ours))
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            descriptor = {"source": "gateway", "upstream": {NAME: f"http://127.0.0.1:{model}"}}
            send(ours, {"op": "listen", "session": "bench", "descriptor": descriptor}, (listener.fileno(),))
            port = listener.getsockname()[1]
        _answered(receive(ours))
        yield Way(port, ensure_ca(home))
        send(ours, {"op": "stop"})
        process.wait(30)
    finally:
        ours.close()
        process.kill()
        process.wait()


def _answered(message: tuple[dict[str, object] | None, list[int]]) -> None:
    if not message[0] or not message[0].get("ok"):
        raise MissingPartError(f"the gateway does not serve: {message[0]}")


# -- the figures -------------------------------------------------------------------------------------------------------


def _summary(line: _Line, direct: _Line, bare: _Line) -> Figures:
    """The quantiles are those of all rounds' streams together."""
    found: Figures = {"requests_per_s": median(line.per_s)}
    found["requests_to_bare"] = median(one / other for one, other in zip(line.per_s, bare.per_s, strict=True))
    for what in ("first", "last"):
        for name, of in (("p50", median), ("p99", _p99)):
            ours, base, theirs = (of([getattr(t, f"{what}_s") for t in one.streams]) for one in (line, direct, bare))
            found[f"{what}_{name}_ms"] = 1000 * ours
            found[f"{what}_{name}_added_ms"] = 1000 * (ours - base)
            found[f"{what}_{name}_to_bare"] = (ours - base) / (theirs - base) if theirs > base else None
    return found


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[98]


def _targets(ours: Figures) -> list[Target]:
    targets = [
        Target(
            f"added to the {what} event, {name}, times bare mitmproxy",
            _known(ours[f"{what}_{name}_to_bare"]),
            "<=",
            1.1,
        )
        for what in ("first", "last")
        for name in ("p50", "p99")
    ]
    return [*targets, Target("requests/s, times bare mitmproxy", ours["requests_to_bare"], ">=", 1 / 1.1)]


def _known(ratio: float | None) -> float:
    """To nothing there is no ratio, and then no target is met."""
    return ratio if ratio is not None else inf


def _table(lines: dict[str, Figures]) -> Table:
    title = f"a streamed call of {_BODY // 1024} KiB, {_EVENTS} events {_PAUSE_US / 1000:.0f} ms apart, over TLS; ms"
    table = Table(title=title, title_justify="left")
    table.add_column()
    for head in ("first p50", "added", "p99", "added", "last p50", "added", "p99", "added", "requests/s"):
        table.add_column(head, justify="right")
    for name, line in lines.items():
        cells = [
            f"{line[f'{what}_{of}{more}_ms']:.2f}"
            for what in ("first", "last")
            for of in ("p50", "p99")
            for more in ("", "_added")
        ]
        table.add_row(_LINES[name], *cells, f"{line['requests_per_s']:.0f}")
    return table
