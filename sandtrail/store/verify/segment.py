"""Steps 8 and 9 of `verify` for one segment: its stored bytes are those that were signed, and its frames lead to the
inner root. The work that takes the time, so it runs in several processes at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sandtrail.errors import DamagedError, ErasedError, NotFoundError
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.merkle import tree_root
from sandtrail.store.segments import Segment, check_blob, open_blob

__all__ = ["Outcome", "check_segment"]


class Outcome(NamedTuple):
    """What became of a segment: `kind` is the finding's type, or empty where all is good and `frames` were rebuilt."""

    segment: int
    frames: int
    kind: str = ""
    why: str = ""
    key: bytes = b""
    sandbox: str = ""
    streams: Sequence[str] = ()


def check_segment(home: Path, manifest: dict[str, Any], keys: DataKeys, deep: bool) -> Outcome:
    """Check one segment against its signed manifest; with `deep` also what its blob holds."""
    number = manifest["segment"]
    sandbox = ""

    def bad(kind: str, error: object) -> Outcome:
        streams = tuple(manifest["streams"])
        return Outcome(number, manifest["frames"], kind, str(error), manifest.get("key", b""), sandbox, streams)

    try:
        blob = check_blob(home, manifest)
    except DamagedError as error:
        return bad("blob-damaged", error)
    except (NotFoundError, OSError) as error:
        return bad("blob-missing", error)
    if not deep:
        return Outcome(number, 0)
    try:
        if "key" in manifest:
            sandbox = keys.get(manifest["key"]).sandbox
    except ErasedError as error:
        return bad("data-key-missing", error)
    except (DamagedError, OSError) as error:
        return bad("data-key-damaged", error)
    try:
        _check_frames(open_blob(home, manifest, blob, keys), manifest)
    except DamagedError as error:
        return bad("frames-differ", error)
    except ErasedError as error:  # while we looked
        return bad("data-key-missing", error)
    return Outcome(number, manifest["frames"])


def _check_frames(segment: Segment, manifest: dict[str, Any]) -> None:
    if not segment.records:
        raise DamagedError("it holds no frames")
    streams: dict[int, list[int]] = {}
    for record in segment.records:
        counts = streams.setdefault(record.stream, [record.seq, 0, 0])
        if record.seq != counts[0] + counts[1]:
            raise DamagedError(f"stream {record.stream:016x} jumps to frame {record.seq}")
        counts[1] += len(record.lengths)
        counts[2] += len(record.payloads)
    found = {f"{stream:016x}": counts for stream, counts in streams.items()}
    ends = [list(segment.records[0].when), list(segment.records[-1].when)]
    if found != manifest["streams"] or ends != [manifest["first"], manifest["last"]]:
        raise DamagedError("its streams or times are not those that the manifest commits to")
    if segment.count != manifest["frames"] or tree_root(segment.leaves()) != manifest["root"]:
        raise DamagedError("its frames are not those that the manifest commits to")
