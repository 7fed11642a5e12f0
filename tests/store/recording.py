"""What the store's tests share: writing frames, dying, and reading back what was sealed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandtrail.store import sealer as sealing
from sandtrail.store.frames import Frame
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer


def killed(act: Callable[[], object]) -> None:
    """Do something in a process of its own that is killed (SIGKILL) when it has done so."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except BaseException:  # noqa: BLE001  # a fork of the test runner must never go on as a second test runner
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "what was to be done before the kill has failed"


def entries(home: Path) -> list[tuple[str, dict[str, Any]]]:
    """(kind, map) of every signed entry."""
    return [(entry.kind, entry.map) for entry in open_log(home).entries()]


def kinds(home: Path) -> list[str]:
    """The entries' kinds, less the one with which each log begins."""
    first, *others = [kind for kind, _ in entries(home)]
    assert first == "epoch"
    return others


def sealed(home: Path) -> list[Frame]:
    """Every sealed frame in its order; the frames of each stream are numbered without holes, none comes twice."""
    frames: list[Frame] = []
    following: dict[int, int] = {}
    reader = open_log(home)
    for kind, fields in entries(home):
        if kind == "segment":
            for frame in reader.frames(fields["segment"]):
                assert frame.seq == following.get(frame.stream, 0), f"{frame.ref} does not follow in its stream"
                following[frame.stream] = frame.seq + 1
                frames.append(frame)
    return frames


def payloads(home: Path) -> list[bytes]:
    """The payloads of every sealed DATA frame."""
    return [frame.payload for frame in sealed(home) if frame.kind == 2]


def step_until_idle(sealer: Sealer) -> None:
    while sealer.step():
        pass


@contextmanager
def growing(home: Path, times: int) -> Iterator[None]:
    """Whatever is done here happens while the log grows: the writer signs anew, and removes partial tiles, before each
    of the first files of it that are read; there must be so many."""
    left = [times]
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.is_relative_to(home / "log" / "tile") and left[0]:
            left[0] -= 1
            with pytest.MonkeyPatch.context() as still:
                still.setattr(Path, "read_bytes", real)
                sealer.step()
        return real(path)

    with pytest.MonkeyPatch.context() as patched:
        for name in ("HEARTBEAT_EVERY", "CHECKPOINT_EVERY"):
            patched.setattr(sealing, name, 0.0)
        sealer = Sealer(home)
        patched.setattr(Path, "read_bytes", read_bytes)
        yield
    sealer.stop()
    assert not left[0], "the log has not grown as often as it should"
