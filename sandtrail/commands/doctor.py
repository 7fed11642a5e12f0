"""`sandtrail doctor`: what this machine lacks, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from sandtrail.commands.options import Home, Json, print_json, safe

__all__ = ["register"]

_MARKS = {"good": "[green]✓[/]", "warning": "[yellow]![/]", "bad": "[bold red]✗[/]"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    home: Home = None,
    reading: Annotated[
        bool, typer.Option("--reading", help="This machine only reads a store: leave out what recording needs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look whether this machine can record, and what it lacks. Exit status: 0 it can, 1 something has to be done."""
    from rich.console import Console

    from sandtrail.doctor import State, checks, examine

    results = examine(checks(home.absolute() if home else None, reading=reading))
    bad = [name for name, result in results.items() if result.state is State.BAD]
    if as_json:
        rows = [
            {"check": name, "state": str(result.state), "found": result.found, "remedy": result.remedy}
            for name, result in results.items()
        ]
        print_json({"ok": not bad, "checks": rows})
        raise typer.Exit(1 if bad else 0)
    out = Console(soft_wrap=True, highlight=False)
    for name, result in results.items():
        out.print(f"{_MARKS[result.state]} {name:<12}{safe(result.found)}")
        if result.remedy:
            out.print(f"  {'':<12}→ {safe(result.remedy)}")
    what = "read a store" if reading else "record"
    out.print(f"[bold red]this machine cannot {what} yet[/]" if bad else f"this machine can {what}")
    raise typer.Exit(1 if bad else 0)
