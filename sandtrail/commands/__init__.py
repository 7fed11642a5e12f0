"""The commands that have a file of their own; each `register` adds its commands to the app. Wiring only."""

from __future__ import annotations

from collections.abc import Callable

import typer

from sandtrail.commands import key, witness

__all__ = ["REGISTER"]

REGISTER: tuple[Callable[[typer.Typer], None], ...] = (key.register, witness.register)
