"""The commands that have a file of their own; each `register` adds its commands to the app. Wiring only."""

from __future__ import annotations

from collections.abc import Callable

import typer

from sandtrail.commands import cluster, doctor, erase, find, ingest, key, prove, verify, witness

__all__ = ["REGISTER"]

REGISTER: tuple[Callable[[typer.Typer], None], ...] = (
    cluster.register,
    doctor.register,
    erase.register,
    find.register,
    ingest.register,
    key.register,
    verify.register,
    prove.register,
    witness.register,
)
