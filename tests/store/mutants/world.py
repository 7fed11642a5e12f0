"""Makes a recording come out the same every time: randomness from a seed, clocks that tick when they are read."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from sandtrail.store import sealer as sealer_module

# The first moment of the recording: 2026-01-05 09:00 UTC.
BEGAN = 1_767_603_600_000_000_000
_TICK = 1_000_000


@contextmanager
def repeatable(seed: int, began: int = BEGAN) -> Iterator[None]:
    """Within it, `os.urandom`, the clocks that frames and entries are stamped with, and the names of process and boot
    depend on nothing but the seed; the sealer closes and signs as soon as it can."""
    rng = random.Random(seed)
    ticks = count(_TICK, _TICK)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "urandom", rng.randbytes)
        patched.setattr(os, "getpid", lambda: 4242)
        patched.setattr(time, "time_ns", lambda: began + next(ticks))
        patched.setattr(time, "monotonic_ns", lambda: next(ticks))
        patched.setattr(time, "clock_gettime_ns", lambda _clock: next(ticks))
        patched.setattr(sealer_module, "boot_id", lambda: "5eed0000-0000-4000-8000-000000000001")
        for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
            patched.setattr(sealer_module, name, 0.0)
        patched.setattr(sealer_module, "HEARTBEAT_EVERY", 3600.0)
        # Orders and clocks are looked at when real time has passed, of which there is more on a slow machine.
        patched.setattr(sealer_module, "DUTY_EVERY", 3600.0)
        yield
