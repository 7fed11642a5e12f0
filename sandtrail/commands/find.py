"""`sandtrail find FILE|SHA256`: where the bytes of a file left a sandbox, or came into one."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sandtrail.commands.options import Home, Json, home_folder, print_json, safe
from sandtrail.errors import UsageError

if TYPE_CHECKING:
    from sandtrail.replay.whereabouts import Sighting

__all__ = ["register"]

_DIGEST = re.compile("[0-9a-fA-F]{64}", re.ASCII)
_WAYS = {
    "left": "left the sandbox",
    "refused": "was kept back by the gateway",
    "arrived": "came into it",
    "ran": "ran as a program",
    "seen": "is named",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(find)


def find(
    what: Annotated[str, typer.Argument(metavar="FILE|SHA256", help="A file, or the SHA-256 of its bytes.")],
    session: Annotated[str, typer.Option(help="Look in this session only.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say in which session, turn and exchange a file's bytes left a sandbox or came into one: 0 found, 1 not found.

    Found are whole bodies, parts of forms, base64 in JSON, forms and URLs, messages of WebSockets, and programs that
    ran. Not found is what the sender encrypted, packed or cut, and text that was put into JSON as it is.
    """
    from sandtrail.replay.follow import catch_up
    from sandtrail.replay.timeline import Timelines
    from sandtrail.replay.whereabouts import sightings

    digest = _digest(what)
    where = home_folder(home)
    timelines = Timelines(where, catch_up(where))
    found = sightings(timelines, digest, session)
    if as_json:
        print_json({"sha256": digest, "found": [seen.as_dict() for seen in found]})
    else:
        out = Console(soft_wrap=True, highlight=False)
        out.print(f"sha256 {digest}: {f'seen {len(found)}×' if found else 'not seen'}")
        for seen in found:
            out.print(_line(seen))
    raise typer.Exit(0 if found else 1)


def _digest(what: str) -> str:
    if _DIGEST.fullmatch(what):
        return what.lower()
    try:
        with Path(what).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {what}: {error.strerror}; write a file, or 64 hex digits") from None
    if digest == hashlib.sha256().hexdigest():
        raise UsageError(f"{what} is empty, as many bodies are: nothing can be said of it")
    return digest


def _line(seen: Sighting) -> str:
    when = datetime.fromtimestamp(seen.time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    where = f"session {safe(seen.session)}, " + (f"turn {seen.turn}" if seen.turn is not None else "unexplained")
    how = seen.how + (f" ({safe(seen.name)})" if seen.name else "")
    size = f", {seen.bytes:,} bytes" if seen.bytes is not None else ""
    who = f", by {safe(seen.process)} (pid {seen.pid})" if seen.pid else ""
    cut = ", recorded in part" if seen.cut else ""
    return f"  {when}  {where}: {_WAYS[seen.way]} as {how}{size}{who}{cut}  {safe(seen.object)}  [cyan]{seen.ref}[/]"
