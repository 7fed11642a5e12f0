"""Who reads the trace, apart from Sandtrail: nobody, gVisor's null sink, the C floor."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
from collections.abc import Iterator

from bench.recorder import sandtrail, with_replay
from bench.workshop import Open, Workshop

__all__ = ["READERS"]


@contextlib.contextmanager
def off(_shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """No tracing."""
    yield Open([None] * sandboxes)


@contextlib.contextmanager
def null(shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """gVisor builds every message and throws it away."""
    config = copy.deepcopy(shop.trace(""))
    config["trace_session"]["sinks"] = [{"name": "null"}]
    yield Open([config] * sandboxes)


@contextlib.contextmanager
def floor(shop: Workshop, sandboxes: int) -> Iterator[Open]:
    """A C program receives every message and throws it away."""
    endpoint = str(shop.new_folder() / "floor.sock")
    with subprocess.Popen([str(shop.discard), endpoint, str(sandboxes)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        opened = Open([shop.trace(endpoint)] * sandboxes)
        try:
            yield opened
            said = json.loads(process.stdout.readline())
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
        finally:
            process.kill()
    opened.received.frames, opened.received.dropped = said["frames"], said["dropped"]
    opened.received.cpu_s["floor"] = usage.ru_utime + usage.ru_stime


READERS = {"off": off, "null": null, "floor": floor, "sandtrail": sandtrail, "replay": with_replay}
