"""Frames like those that gVisor's trace socket sends: about as compressible, and never the same twice.

Made from a seed and streamed: ten million of them are never in memory at once. Standard library only, since writers
that are not ours run in an environment of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate
from struct import Struct

__all__ = ["BATCH", "SIZE", "batches"]

SIZE = 120
BATCH = 256
"""Frames a record: what the receiver takes from the socket at a time (`collector.landing.BATCH`)."""

_WORDS = ("core", "util", "http", "parse", "codec", "event", "token", "cache", "model", "index", "frame", "query")
# Header (its size, type of message, drops), then a protobuf of context (time, thread, group, container) and fields.
_HEAD = Struct("<HHI2sQ1sI1sI2s16s2sI2s")
_CONTAINER = b"5f1b7c9e0a3d4268"


def _paths(rng: random.Random, count: int, size: int) -> list[bytes]:
    made = []
    for number in range(count):
        name = f"/usr/lib/python3.11/{rng.choice(_WORDS)}/{rng.choice(_WORDS)}_{number:05d}.py"
        made.append(name.encode().ljust(size, b"\0")[:size])
    return made


def batches(count: int, *, seed: int = 4, size: int = SIZE) -> Iterator[list[bytes]]:
    """`count` payloads of `size` bytes (at least 60), in lists of BATCH."""
    rng = random.Random(seed)
    pack = _HEAD.pack
    paths = _paths(rng, 3000, size - _HEAD.size)
    # Few files are opened again and again, most of them seldom.
    common = list(accumulate(1 / (rank + 3) for rank in range(len(paths))))
    now = 1_790_000_000_000_000_000
    for begin in range(0, count, BATCH):
        width = min(BATCH, count - begin)
        batch = []
        for path in rng.choices(paths, cum_weights=common, k=width):
            noise = rng.getrandbits(24)
            now += 4_000 + (noise & 0xFFFF)
            group = 2 + (noise >> 21)
            batch.append(
                pack(8, 3, 0, b"\n)", now, b"\x10", group + (noise >> 17 & 3), b"\x18", group, b"*\x10",
                     _CONTAINER, b"\x10\x1a", 3 + (noise >> 16 & 7), b"\"(") + path
            )  # fmt: skip
        yield batch
