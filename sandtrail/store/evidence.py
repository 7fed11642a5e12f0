"""From one frame down to the signature: its place in the log and a proof that is checked while it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cbor2

from sandtrail.errors import NotFoundError, StoreError
from sandtrail.store.frames import Frame, Kind, Ref
from sandtrail.store.log import read_checkpoint
from sandtrail.store.reader import LogReader
from sandtrail.store.walk import Check, Walk, while_it_grows

__all__ = ["Proof", "prove", "stream_descriptor"]


@dataclass(frozen=True, slots=True)
class Proof:
    """A frame, its place, and the two Merkle paths that tie it to the signed checkpoint.

    `verified` is true only when every check was made and held; `checks` say which.
    """

    ref: Ref
    frame: Frame | None
    origin: str
    log_index: int
    log_size: int
    leaf: bytes
    salt: bytes
    inner: list[bytes]
    inner_root: bytes
    frames_in_segment: int
    outer: list[bytes]
    root: bytes
    checkpoint: str
    manifest: dict[str, Any]
    checks: list[Check]

    @property
    def verified(self) -> bool:
        """Whether all five steps were made and all of them held."""
        return len(self.checks) == 5 and all(check.ok for check in self.checks)


def prove(reader: LogReader, ref: str | Ref) -> Proof:
    """Prove one frame, now, from what is on disk, by the steps of `Walk`.

    A step that fails ends the procedure and is in `checks`, nothing is raised for damage. Raises NotFoundError when the
    log has no such segment or frame, ErasedError when it can't be read any more, UsageError for a malformed reference.
    """
    ref = Ref.parse(ref) if isinstance(ref, str) else ref
    log = reader.home / "log"
    walks: list[Walk] = []

    def attempt() -> None:
        walks.append(Walk(reader, ref.segment, [ref.place], read_checkpoint(log) or b""))
        walks[-1].go()

    try:
        while_it_grows(log, attempt)
    except NotFoundError:
        raise
    except StoreError:
        pass  # the last check says so
    return _proof(ref, walks[-1])


def _proof(ref: Ref, walk: Walk) -> Proof:
    return Proof(
        ref=ref,
        frame=next(iter(walk.frames), None),
        origin=walk.checkpoint.origin,
        log_index=walk.index,
        log_size=walk.checkpoint.size,
        leaf=b"".join(walk.leaves),
        salt=b"".join(walk.salts),
        inner=next(iter(walk.inner), []),
        inner_root=walk.manifest["root"] if walk.inner else b"",
        frames_in_segment=walk.count,
        outer=walk.outer,
        root=walk.checkpoint.root,
        checkpoint=walk.note.decode(errors="replace"),
        manifest=walk.manifest,
        checks=walk.checks,
    )


def stream_descriptor(reader: LogReader, stream: int, segment: int) -> dict[str, Any]:
    """What the stream's OPEN frame says, searched backwards from `segment`; empty when it cannot be found.

    Cost: one manifest look-up a segment; only the segment in which the stream begins is read.
    """
    key = f"{stream:016x}"
    for number in range(segment, -1, -1):
        _, manifest = reader.manifest(number)
        counts = manifest["streams"].get(key)
        if counts is not None and counts[0] == 0:
            for frame in reader.frames(number):
                if frame.stream == stream and frame.kind == Kind.OPEN:
                    try:
                        value = cbor2.loads(frame.payload)
                    except (cbor2.CBORError, ValueError):
                        return {}
                    return value if isinstance(value, dict) else {}
    return {}
