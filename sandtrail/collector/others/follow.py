"""Records out of a file, also one that grows and is rotated, and out of a pipe."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Final

from sandtrail.collector.others.intake import Intake
from sandtrail.collector.others.pieces import Lines, Piece
from sandtrail.errors import UsageError

__all__ = ["read_file", "read_pipe"]

STEP: Final = 1 << 20
LOOK_S: Final = 0.2
"""How often a file that has come to its end is looked at again."""


def read_pipe(intake: Intake, fd: int, stop: Event) -> str:
    """Record the lines of a pipe until it ends or `stop` is set; returns why it is over."""
    lines = Lines(spread=intake.source.spread)
    reason = "stopped"
    while not stop.is_set():
        if not select.select([fd], [], [], LOOK_S)[0]:
            intake.rest()
            continue
        data = os.read(fd, STEP)
        if not data:
            reason = "end of input"
            break
        _record(intake, lines.feed(data), "stdin", stop)
    _record(intake, lines.finish(), "stdin", stop)
    return reason


def read_file(intake: Intake, path: Path, stop: Event, *, follow: bool) -> str:
    """Record the lines of a file from its beginning on, with `follow` also those that are still to come; returns why
    it is over. A file that is renamed is read to its end before the one that takes its place; of one that is cut short
    in its place, what had not been read is lost, and a gap says so. Raises UsageError when it cannot be read."""
    lines = Lines(spread=intake.source.spread)
    for data in _bytes(intake, path, stop, follow):
        _record(intake, lines.feed(data), "file", stop)
    _record(intake, lines.finish(), "file", stop)
    return "stopped" if stop.is_set() else "end of file"


def _record(intake: Intake, pieces: Iterator[Piece], via: str, stop: Event) -> None:
    for piece in pieces:
        intake.take(piece, via, wait=stop)


def _bytes(intake: Intake, path: Path, stop: Event, follow: bool) -> Iterator[bytes]:
    fd = _open(path)
    try:
        while not stop.is_set():
            if data := os.read(fd, STEP):
                yield data
                continue
            if not follow:
                return
            if _replaced(fd, path):
                while data := os.read(fd, STEP):  # what came between our last look and the renaming
                    yield data
                os.close(fd)
                fd = -1
                fd = _open(path)
            elif os.fstat(fd).st_size < os.lseek(fd, 0, os.SEEK_CUR):
                intake.lost("the file was cut short in its place; what had not been read of it is lost")
                os.lseek(fd, 0, os.SEEK_SET)
            else:
                intake.rest()
                stop.wait(LOOK_S)
    finally:
        if fd >= 0:
            os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _replaced(fd: int, path: Path) -> bool:
    """Whether another file has the name now."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False  # it is being rotated; the next one comes
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
