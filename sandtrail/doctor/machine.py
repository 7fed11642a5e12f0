"""What every command needs: Python, our own parts, the settings, a clock that is right."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

from sandtrail.doctor import Result, State
from sandtrail.settings import in_force, load_settings, unknown_names

__all__ = ["clock", "hashing", "judge_clock", "parts", "python", "settings"]

_OLDEST = (3, 12)
# One module of each extra, and what there is without it.
_PARTS = {
    "collector": ("mitmproxy", "no sandbox's traffic can be recorded"),
    "replay": ("fastapi", "no timeline, no API"),
    "ui": ("streamlit", "no page"),
}
# <sys/timex.h>: offsets of a 64-bit struct timex, and the bit that says that nobody keeps the clock right.
_TIMEX_SIZE = 256
_MAX_ERROR, _STATUS = 24, 40
_STA_UNSYNC = 0x0040


def python() -> Result:
    """The interpreter that runs us."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < _OLDEST:
        return Result(State.BAD, found, f"install Python {'.'.join(map(str, _OLDEST))} or later")
    return Result(State.GOOD, found)


def parts(*, reading: bool) -> Result:
    """Which extras are installed."""
    wanted = {name: told for name, told in _PARTS.items() if not (reading and name == "collector")}
    missing = [name for name, (module, _) in wanted.items() if find_spec(module) is None]
    if not missing:
        return Result(State.GOOD, ", ".join(wanted))
    without = "; ".join(f"{name} is not installed: {wanted[name][1]}" for name in missing)
    state = State.BAD if "collector" in missing else State.WARNING
    return Result(state, without, f"pip install 'sandtrail[{','.join(missing)}]'")


def hashing() -> Result:
    """Whether leaves and trees are hashed in C."""
    from sandtrail.store import native

    if native.hashing is not None:
        return Result(State.GOOD, native.said)
    remedy = "it works, several times slower; with a C compiler and Python's headers, install again: tools/environment"
    return Result(State.WARNING, native.said, remedy)


def settings() -> Result:
    """Whether the settings can be read, and the files that they name; names in them that mean nothing to us."""
    found = load_settings()
    for name, load in (("witness_policy", _witnesses), ("tsa_roots", _roots), ("policy", _sandboxes)):
        if path := found.file(name):
            load(path)
    unknown = unknown_names()
    if unknown:
        return Result(State.WARNING, f"no such setting: {', '.join(unknown)}", "see the table in README.md")
    if not in_force():
        return Result(State.GOOD, "variables; there is no file")
    given = [f"{path} ({', '.join(names) or 'nothing'})" for path, names in in_force().items()]
    return Result(State.GOOD, f"variables, then {', then '.join(given)}")


def _witnesses(path: Path) -> None:
    from sandtrail.store.policy import load_policy

    load_policy(path)


def _roots(path: Path) -> None:
    from sandtrail.store.timestamp import load_roots

    load_roots(path)


def _sandboxes(path: Path) -> None:
    from sandtrail.collector.session.boundary import read_policy

    read_policy(path)


def clock() -> Result:
    """Whether somebody keeps this machine's clock right: the record's times are its."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(_TIMEX_SIZE)  # modes 0: only asks
    if libc.adjtimex(timex) < 0:
        return Result(State.WARNING, f"the kernel does not say how right it is: {os.strerror(ctypes.get_errno())}")
    raw = timex.raw
    status = int.from_bytes(raw[_STATUS : _STATUS + 4], sys.byteorder, signed=True)
    error = int.from_bytes(raw[_MAX_ERROR : _MAX_ERROR + 8], sys.byteorder, signed=True)
    return judge_clock(status, error)


def judge_clock(status: int, max_error: int) -> Result:
    """What the kernel's NTP status word and its bound of the clock's error (in microseconds) say."""
    if status & _STA_UNSYNC:
        remedy = "have it kept right: apt-get install systemd-timesyncd, or chrony; a container has its host's clock"
        return Result(State.WARNING, "nobody keeps the clock right (the kernel says: unsynchronised)", remedy)
    return Result(State.GOOD, f"kept right to {max_error / 1000:.1f} ms")
