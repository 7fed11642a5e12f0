"""What the commands share: options that mean the same everywhere, and how data is printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from sandtrail.errors import UsageError
from sandtrail.settings import load_settings

__all__ = ["Home", "Json", "home_folder", "parse_duration", "print_json", "safe"]

Home = Annotated[Path | None, typer.Option("--home", help="The evidence store; default $SANDTRAIL_HOME.")]
Json = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_MAX_YEARS = 100


def parse_duration(text: str, option: str, *, units: str = "smhdwy") -> int:
    """A duration in seconds: a whole number above zero and a unit, `90s`, `90m`, `24h`, `7d`, `12w` or `2y`.

    Only those of `units`; a number alone is in seconds, where those are among them, and a year has 365 days. Raises
    UsageError, in the name of `option`; also for more than 100 years: nanoseconds in 64 bits do not hold many more.
    """
    found = re.fullmatch("([0-9]{1,10})([smhdwy]?)", text)
    if found is None or (found[2] or "s") not in units or not int(found[1]):
        choice = f"{', '.join(units[:-1])} or {units[-1]}"
        raise UsageError(f"{option} {text}: write a number and {choice}, for example 90d")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > _MAX_YEARS * _UNITS["y"]:
        raise UsageError(f"{option} {text}: at most {_MAX_YEARS}y")
    return seconds


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
