"""`sandtrail ingest`: take what other people's gateways tell of the traffic that passed them."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sandtrail.commands.options import Home, home_folder
from sandtrail.errors import UsageError

if TYPE_CHECKING:
    from sandtrail.collector.others.intake import Intake

__all__ = ["register"]

_SOURCES = {
    "litellm": "Records of the LiteLLM proxy: its generic_api callback with --listen, or its log.",
    "envoy": "Envoy's access logs: its gRPC service with --listen, or JSON lines.",
    "hubble": "Flows of Cilium's Hubble, as `hubble observe -o jsonpb` and its exporter write them.",
}
app = typer.Typer(no_args_is_help=True, help="Record what LiteLLM, Envoy or Hubble tell of the traffic that they saw.")

File = Annotated[
    Path | None,
    typer.Option("--file", help="Read this file, from where an earlier reading ended; else stdin."),
]
Follow = Annotated[bool, typer.Option("--follow", help="Go on as the file grows and is rotated, until Ctrl-C.")]
Again = Annotated[bool, typer.Option("--again", help="Read the file from its beginning, also what was read before.")]
Listen = Annotated[str, typer.Option("--listen", help="Take records over HTTP or gRPC here (HOST:PORT), until Ctrl-C.")]
Session = Annotated[str, typer.Option("--session", help="The session that all records are of.")]
By = Annotated[str, typer.Option("--by", help="A field of each record that names its session: a dotted path.")]


def register(root: typer.Typer) -> None:
    """Add `ingest` and what is below it."""
    root.add_typer(app, name="ingest")


def _add(name: str, words: str) -> None:
    def command(
        file: File = None,
        follow: Follow = False,
        again: Again = False,
        listen: Listen = "",
        session: Session = "",
        by: By = "",
        home: Home = None,
    ) -> None:
        if listen and (file or follow):
            raise UsageError("either --file or --listen; run the command twice for both")
        if follow and not file:
            raise UsageError("--follow wants --file; stdin is read to its end anyway")
        if again and not file:
            raise UsageError("--again wants --file")
        if listen and name == "hubble":
            raise UsageError("Hubble sends to nobody; pipe `hubble observe -o jsonpb --follow` into this command")
        _ingest(name, home_folder(home), file, follow, again, listen, session, by)

    app.command(name, help=words)(command)


for _name, _words in _SOURCES.items():
    _add(_name, _words)


def _ingest(
    name: str, home: Path, file: Path | None, follow: bool, again: bool, listen: str, session: str, by: str
) -> None:
    from sandtrail.collector.control import Keeper
    from sandtrail.collector.others.intake import Binding, Intake
    from sandtrail.collector.others.listen import parse_address
    from sandtrail.collector.others.sources import source_named
    from sandtrail.logs import log_as_json

    log_as_json()
    source, binding = source_named(name), Binding(session, by)
    address = parse_address(listen) if listen else None
    # What is recorded has to be sealed; the keeper stays for as long as it has a client.
    keeper = Keeper.connect(home, start=True)
    intake = Intake(home, source, binding, way="listener" if listen else "file" if file else "stdin")
    reason = "failed"
    try:
        reason = asyncio.run(_listen(intake, address)) if address else _read(intake, file, follow, again)
    finally:
        intake.close(reason)
        keeper.close()
    counts = intake.counts
    told = f"{counts['records']:,} records, {counts['malformed']:,} of them no JSON, {counts['cut']:,} cut"
    print(told, file=sys.stderr)


def _read(intake: Intake, file: Path | None, follow: bool, again: bool) -> str:
    from sandtrail.collector.others.follow import read_file, read_pipe

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if file is None:
        return read_pipe(intake, sys.stdin.fileno(), stop)
    return read_file(intake, file, stop, follow=follow, again=again)


async def _listen(intake: Intake, address: tuple[str, int]) -> str:
    from sandtrail.collector.others.listen import Listener

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return await Listener(intake).run(*address, stop, lambda url: print(url, flush=True))
