"""`sandtrail doctor`: whether this machine has what recording and reading need, and what to do where it has not.

Each check looks at one thing as it is now; none changes anything that stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sandtrail.errors import SandtrailError

__all__ = ["Check", "Result", "State", "checks", "examine"]


class State(StrEnum):
    """How a check went."""

    GOOD = "good"
    WARNING = "warning"
    """It works, with less than there could be."""
    BAD = "bad"
    """It does not work until somebody has done what `remedy` says."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was found, and what to do about it (empty where nothing has to be done)."""

    state: State
    found: str
    remedy: str = ""


Check = Callable[[], Result]


def checks(home: Path | None, *, reading: bool = False) -> dict[str, Check]:
    """Every check by its name. `home`: the store, by default that of the settings; `reading`: leave out what only
    recording needs."""
    from sandtrail.doctor import machine, recording, store

    found: dict[str, Check] = {
        "python": machine.python,
        "parts": lambda: machine.parts(reading=reading),
        "hashing": machine.hashing,
        "settings": machine.settings,
        "clock": machine.clock,
        "home": lambda: store.home(home, reading=reading),
        "log": lambda: store.log(home),
    }
    if not reading:
        found |= {
            "space": lambda: store.space(home),
            "root": recording.root,
            "network": recording.network,
            "runsc": recording.runtime,
            "send buffer": recording.send_buffer,
        }
    return found


def examine(wanted: dict[str, Check]) -> dict[str, Result]:
    """Make every check, whatever becomes of the others."""
    return {name: _made(check) for name, check in wanted.items()}


def _made(check: Check) -> Result:
    try:
        return check()
    except SandtrailError as error:
        return Result(State.BAD, str(error))  # its text says what to do
    except Exception as error:  # noqa: BLE001  # on a machine where something is wrong anything may be; that is told
        return Result(State.BAD, f"cannot be checked: {type(error).__name__}: {error}")
