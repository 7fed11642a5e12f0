"""The front door: the `sandtrail` command. Wiring only; each command hands over to the room that does the work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from sandtrail import __version__
from sandtrail.errors import SandtrailError
from sandtrail.settings import load_settings

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Records what an AI agent does in its sandbox, from outside of it, and proves the record.",
)
Home = Annotated[Path | None, typer.Option("--home", help="The evidence store; default $SANDTRAIL_HOME.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


def _home(home: Path | None) -> Path:
    return home.absolute() if home else load_settings().home


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=True))


@app.command()
def verify(
    home: Home = None,
    key: Annotated[
        str | None, typer.Option(help="The verifier key (vkey) to trust, from a copy kept elsewhere.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="A remembered head to compare with.")] = None,
    as_json: Json = False,
) -> None:
    """Check the whole store. Exit status: 0 verified, 1 damaged, missing or unsigned, 2 could not check."""
    from rich.progress import Progress

    from sandtrail.store.verify import remember_head
    from sandtrail.store.verify import verify as run

    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=as_json or not errors.is_terminal) as progress:
        task = progress.add_task("segments", total=None)
        where = _home(home)
        report = run(where, key=key, head=head, progress=lambda n, of: progress.update(task, completed=n, total=of))
    if report.ok:
        remember_head(where)
    if as_json:
        _print_json(report.as_dict())
    else:
        _print_report(report)
    raise typer.Exit(0 if report.ok else 1)


def _print_report(report: Any) -> None:
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"log       {escape(report.origin) or '-'}: {report.size} entries, root {report.root[:16] or '-'}…")
    out.print(f"key       {escape(report.key) or '-'} ({report.key_from or 'none'})")
    out.print(f"head      {'grew from the remembered ' + report.head if report.head else 'none remembered before'}")
    out.print(f"evidence  {report.frames} frames in {report.segments} segments, {report.gaps} recorded gaps")
    if report.unsealed_bytes:
        out.print(f"          {report.unsealed_bytes} bytes received but not signed yet: nothing is said about them")
    for finding in report.findings:
        out.print(f"[bold red]✗ step {finding.step}: {escape(finding.type)}[/] at {escape(finding.place)}")
        out.print(f"    {escape(finding.consequence)}")
    verdict = "[bold green]verified[/]" if report.ok else f"[bold red]NOT verified[/]: {len(report.findings)} findings"
    out.print(verdict)


@app.command()
def up(home: Home = None) -> None:
    """Run the recorder, the HTTP API and the page until Ctrl-C."""
    from sandtrail.up import run_up

    raise typer.Exit(run_up(_home(home)))


@app.command()
def serve(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Follow the log and serve the HTTP API."""
    from sandtrail.replay.api import serve as run

    settings = load_settings()
    run(_home(home), host or settings.api_host, settings.api_port if port is None else port)


@app.command()
def ui(
    api_url: Annotated[str | None, typer.Option(help="Where the HTTP API is.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Serve the page."""
    from sandtrail.ui import launch

    settings = load_settings()
    url = api_url or settings.api_url or f"http://{settings.api_host}:{settings.api_port}"
    raise typer.Exit(launch(url, host or settings.ui_host, settings.ui_port if port is None else port))


@app.command(name="version")
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run the command; an error of ours is printed without a traceback and ends with status 2."""
    try:
        app(standalone_mode=True)
    except SandtrailError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]sandtrail:[/] {escape(str(error))}")
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = _extra_for(error.name or "")
        if extra is None:
            raise
        print(
            f"sandtrail: this command needs more than is installed: pip install 'sandtrail[{extra}]'", file=sys.stderr
        )
        sys.exit(2)


def _extra_for(module: str) -> str | None:
    """The extra that brings a module, so that an installation without it says what to do."""
    extras = {
        "collector": {"mitmproxy"},
        "replay": {"fastapi", "uvicorn", "duckdb", "pyarrow", "sqlalchemy", "alembic", "google", "dns"},
        "ui": {"streamlit", "pandas"},
    }
    top = module.split(".")[0]
    return next((extra for extra, modules in extras.items() if top in modules), None)
