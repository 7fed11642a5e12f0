"""What the commands share: options that mean the same everywhere, and how data is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sandtrail.settings import load_settings

__all__ = ["Home", "Json", "home_folder", "print_json", "safe"]

Home = Annotated[Path | None, typer.Option("--home", help="The evidence store; default $SANDTRAIL_HOME.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


def home_folder(home: Path | None) -> Path:
    """The store that was named, or that of the settings."""
    return home.absolute() if home else load_settings().home


def print_json(data: Any) -> None:
    """Print data for programs; plain ASCII, so that nothing in it reaches a terminal as a command."""
    print(json.dumps(data, indent=2, ensure_ascii=True))


def safe(text: str) -> str:
    """What others wrote, so that a terminal shows it and does nothing else; for rich's markup."""
    from rich.markup import escape

    from sandtrail.replay.escape import visible

    return escape(visible(text))
