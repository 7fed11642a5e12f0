"""What the commands share: options that mean the same everywhere, and how data is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sandtrail.settings import load_settings

__all__ = ["Home", "Json", "home_folder", "log_as_json", "print_json"]

Home = Annotated[Path | None, typer.Option("--home", help="The evidence store; default $SANDTRAIL_HOME.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


def home_folder(home: Path | None) -> Path:
    """The store that was named, or that of the settings."""
    return home.absolute() if home else load_settings().home


def print_json(data: Any) -> None:
    """Print data for programs; plain ASCII, so that nothing in it reaches a terminal as a command."""
    print(json.dumps(data, indent=2, ensure_ascii=True))


def log_as_json() -> None:
    """Log as JSON lines on stderr, as every process of ours that stays: stdout is for what was asked for."""
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
