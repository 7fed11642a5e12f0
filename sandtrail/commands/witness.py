"""`sandtrail witness`: run one, print its keys, list what it holds against the logs that it watches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sandtrail.commands.options import Home, Json, home_folder, print_json, safe

__all__ = ["register"]

app = typer.Typer(no_args_is_help=True, help="Cosign the logs of others, and keep evidence against them.")


def register(root: typer.Typer) -> None:
    """Add `witness` and what is below it."""
    root.add_typer(app, name="witness")


def _folder(home: Path | None) -> Path:
    return home_folder(home) / "witness"


@app.command()
def serve(
    home: Home = None,
    name: Annotated[str, typer.Option(help="The witness's name; it stays that of the first start.")] = "",
    key: Annotated[
        list[str] | None, typer.Option(help="ml-dsa-44 or ed25519: which keys the first start makes; default both.")
    ] = None,
    log: Annotated[list[str] | None, typer.Option(help="The verifier key of a log; it is added to the file.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8702,
    submit: Annotated[str, typer.Option(help="Submission prefix: a path before /add-checkpoint.")] = "",
    monitor: Annotated[str, typer.Option(help="Monitoring prefix: a path before /<origin hash>/checkpoint.")] = "",
) -> None:
    """Answer add-checkpoint requests until Ctrl-C, for the logs of HOME/witness/logs (a verifier key a line)."""
    from sandtrail.logs import log_as_json
    from sandtrail.store.cosignature import parse_key
    from sandtrail.witness.folder import WitnessFolder
    from sandtrail.witness.http import serve as run
    from sandtrail.witness.protocol import MAX_BODY
    from sandtrail.witness.server import WitnessServer

    log_as_json()
    logs = tuple(map(parse_key, log or []))
    server = WitnessServer(_folder(home), name=name, types=key or (), logs=logs, submit=submit, monitor=monitor)

    for one in logs:
        WitnessFolder(_folder(home)).add_log(one)

    def ready(address: str) -> None:
        for vkey in server.vkeys:
            print(vkey)
        print(f"{address}{submit}", flush=True)

    run(server.handle, host, port, max_body=MAX_BODY, ready=ready)


@app.command(name="key")
def print_keys(home: Home = None) -> None:
    """Print the witness's verifier keys, for the policies of those who trust it."""
    from sandtrail.witness.folder import WitnessFolder

    for vkey in WitnessFolder(_folder(home)).vkeys():
        print(vkey)


@app.command()
def evidence(
    file: Annotated[
        Path | None, typer.Argument(help="One file of evidence; default: all that this witness has.")
    ] = None,
    home: Home = None,
    log: Annotated[list[str] | None, typer.Option(help="The log's verifier key, beside those known here.")] = None,
    as_json: Json = False,
) -> None:
    """List what logs have signed that they should not have, and check it. Exit status: 0 nothing, 1 something."""
    from rich.console import Console

    from sandtrail.store.cosignature import parse_key
    from sandtrail.witness.evidence import read_evidence
    from sandtrail.witness.folder import WitnessFolder

    folder = WitnessFolder(_folder(home))
    keys = [*map(parse_key, log or []), *folder.logs()]
    found = [(one, one.holds(keys)) for one in ([read_evidence(file)] if file else folder.evidence())]
    if as_json:
        print_json([{**one.as_dict(), "holds": holds} for one, holds in found])
    out = Console(soft_wrap=True, highlight=False, quiet=as_json)
    for one, holds in found:
        colour = "red" if one.proven else "yellow"
        out.print(f"[bold {colour}]{one.kind.value}[/] {safe(one.origin)}  {safe(str(one.path))}")
        out.print(f"    {safe(one.meaning)}")
        if not holds:
            out.print("    [bold]not checked[/]: no key that is known has signed both; name the log's with --log")
    if not found:
        out.print("nothing is held against any log")
    raise typer.Exit(1 if found else 0)
