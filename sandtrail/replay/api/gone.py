"""Frames that were erased or removed: what still holds of them, and the signed act that took them away."""

from __future__ import annotations

from typing import Any

from sandtrail.errors import DamagedError, NotFoundError
from sandtrail.replay.index import Index
from sandtrail.store.custody import removed
from sandtrail.store.frames import Ref
from sandtrail.store.log import read_checkpoint
from sandtrail.store.manifest import Entry
from sandtrail.store.merkle import leaf_hash
from sandtrail.store.reader import LogReader
from sandtrail.store.segments import check_blob
from sandtrail.store.walk import Walk, while_it_grows

__all__ = ["gone", "words"]


def gone(reader: LogReader, index: Index, text: str) -> dict[str, Any] | None:
    """What is left to say of a frame that a signed act took away; None where none did.

    Its place, the digests that the log still holds, and their proof, which is made and checked now. Raises
    NotFoundError for a frame that never was, UsageError for a malformed reference, StoreError for a damaged log.
    """
    ref = Ref.parse(text)
    at, manifest = reader.manifest(ref.segment)
    if ref.place >= manifest["frames"]:
        raise NotFoundError(f"segment {ref.segment} has {manifest['frames']} frames, so there is no {ref}")
    act = _act(reader, index, manifest)
    if act is None:
        return None
    log = reader.home / "log"
    walk = while_it_grows(log, lambda: Walk(reader, ref.segment, [], read_checkpoint(log) or b"").go(2))
    head = walk.checkpoint
    return {
        "ref": str(ref),
        "position": {
            "segment": ref.segment,
            "index": ref.place,
            "log_index": at,
            "log_size": head.size,
            "origin": head.origin,
        },
        "digests": {
            "blob": manifest["blob"].hex(),
            "size": manifest["size"],
            "kept": _kept(reader, manifest),
            "inner_root": manifest["root"].hex(),
            "frames": manifest["frames"],
        },
        "proof": {
            "leaf": leaf_hash(walk.entry).hex(),
            "outer": [step.hex() for step in walk.outer],
            "root": head.root.hex(),
            "checkpoint": walk.note.decode(errors="replace"),
        },
        "removal": {
            "log_index": act.index,
            "kind": act.kind,
            "at_ns": int(act.map["at"][0]),
            "reason": str(act.map["reason"]),
            "by": str(act.map["by"]),
        },
    }


def _act(reader: LogReader, index: Index, manifest: dict[str, Any]) -> Entry | None:
    """The entry that says so: where the index remembers one, else, as the index may lag, in what it has not read."""
    rows = [row for row in index.removals(10_000) if row["kind"] == "retain"]
    if "key" in manifest and (erased := index.removed_by(manifest["key"].hex())):
        rows.insert(0, erased)
    for row in rows:
        entry = next(reader.entries(row["log_index"], row["log_index"] + 1))
        if _concerns(entry, manifest):
            return entry
    later = reader.entries(max(manifest["#index"], index.log_index()))
    return next((entry for entry in later if _concerns(entry, manifest)), None)


def _concerns(entry: Entry, manifest: dict[str, Any]) -> bool:
    if entry.kind == "erase":
        return manifest.get("key") in entry.map["keys"]
    return any(first <= manifest["segment"] <= last for first, last in removed([entry]))


def _kept(reader: LogReader, manifest: dict[str, Any]) -> bool:
    """Whether the stored bytes, which nobody can read any more, are still those that were signed."""
    try:
        check_blob(reader.home, manifest)
    except (NotFoundError, DamagedError):
        return False
    return True


def words(found: dict[str, Any]) -> str:
    """The same for a person."""
    act = found["removal"]
    done = "was erased: the key that it was stored under is destroyed" if act["kind"] == "erase" else "was removed"
    return (
        f"frame {found['ref']} {done}, as log entry {act['log_index']} says ({act['reason']}). Its place in the log "
        "and the digests below still hold."
    )
