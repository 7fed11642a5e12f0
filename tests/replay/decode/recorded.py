"""Real bytes for the decoders: what tests/fixtures/record_*.py recorded, and packets made with the same classes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

import zstandard

from sandtrail.replay.decode.gvisor.schema import CLASSES, KINDS
from sandtrail.replay.decode.gvisor.stream import GvisorStream
from sandtrail.replay.events import Event, to_table

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = ("20221219", "20250205", "20260905")
NUMBER = {name: number for number, (name, _) in KINDS.items()}


def _cut(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (length,) = unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


@cache
def gvisor(version: str) -> list[bytes]:
    """The packets of the story in record_gvisor.py."""
    stored = (FIXTURES / "gvisor" / f"{version}.bin.zst").read_bytes()
    return _cut(zstandard.ZstdDecompressor().decompress(stored))


@cache
def netfilter(name: str) -> list[bytes]:
    """The datagrams of the story in record_netfilter.py."""
    return _cut((FIXTURES / "netfilter" / f"{name}.bin").read_bytes())


def packet(name: str, **fields: Any) -> bytes:
    """A packet of message type `name`, sent by thread `who` = (pid, tid); fields of messages are dicts."""
    pid, tid = fields.pop("who", (7, 7))
    dropped = fields.pop("dropped", 0)
    context = {
        "time_ns": 1_000_000,
        "container_id": b"c",
        "thread_id": tid,
        "thread_start_time_ns": 500,
        "thread_group_id": pid,
        "thread_group_start_time_ns": 500,
        **fields.pop("context", {}),
    }
    message = CLASSES[NUMBER[name]](context=context, **fields)
    return pack("<HHI", 8, NUMBER[name], dropped) + bytes(message.SerializeToString())


OK = {"result": 0, "errorno": 0}


def decode(packets: list[bytes], *, finish: bool = True, **options: Any) -> list[Event]:
    """The events of a whole stream; every row has to fit the columns."""
    stream = GvisorStream("s", "sb", "00", **options)
    rows: list[tuple[Any, ...]] = []
    for seq, data in enumerate(packets, 1):
        stream.feed(f"1.{seq}", seq, 10_000 + seq, data, rows)
    if finish:
        stream.finish(rows)
    to_table(rows).validate(full=True)
    return [Event(*row) for row in rows]
