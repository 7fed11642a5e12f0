"""From one frame down to the signature: its place in the log and a proof that is checked while it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cbor2

from sandtrail.errors import DamagedError, ErasedError, NotFoundError, StoreError
from sandtrail.store.frames import Frame, Kind, Ref
from sandtrail.store.leaves import SALT_SIZE
from sandtrail.store.log import read_checkpoint
from sandtrail.store.manifest import decode_entry
from sandtrail.store.merkle import hash_at, inclusion_path, leaf_hash, root_from_path
from sandtrail.store.note import open_checkpoint
from sandtrail.store.reader import LogReader
from sandtrail.store.segments import open_segment
from sandtrail.store.tiles import TileReader

__all__ = ["Check", "Proof", "prove", "stream_descriptor"]

_LIVE_TRIES = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One step of a verification and how it went."""

    step: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Proof:
    """A frame, its place, and the two Merkle paths that tie it to the signed checkpoint.

    `verified` is true only when every check was made and held; `checks` say which.
    """

    ref: Ref
    frame: Frame | None = None
    origin: str = ""
    log_index: int = -1
    log_size: int = 0
    leaf: bytes = b""
    salt: bytes = b""
    inner: list[bytes] = field(default_factory=list)
    inner_root: bytes = b""
    frames_in_segment: int = 0
    outer: list[bytes] = field(default_factory=list)
    root: bytes = b""
    checkpoint: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    leaves: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def verified(self) -> bool:
        """Whether all five steps were made and all of them held."""
        return len(self.checks) == 5 and all(check.ok for check in self.checks)


def prove(reader: LogReader, ref: str | Ref) -> Proof:
    """Prove one frame, now, from what is on disk.

    The steps: 1 the checkpoint's signature; 2 the segment's manifest is in the log that the checkpoint signs; 3 the
    segment's blob is the one in the manifest; 4 the frame is in the segment's tree; 5 the frame's segment, place and
    stream agree with the manifest. A step that fails ends the procedure and is in `checks`, nothing is raised for
    damage. Raises NotFoundError when the log has no such segment or frame, UsageError for a malformed reference.
    """
    ref = Ref.parse(ref) if isinstance(ref, str) else ref
    for _ in range(_LIVE_TRIES):
        proof = _attempt(reader, ref)
        # A recorder that is running replaces partial tiles as it signs: look again at one and the same state.
        if proof.verified or (read_checkpoint(reader.home / "log") or b"").decode(errors="replace") == proof.checkpoint:
            break
    return proof


def _attempt(reader: LogReader, ref: Ref) -> Proof:
    proof = Proof(ref)
    for step in (_check_signature, _check_manifest, _check_blob, _check_frame, _check_place):
        name = (step.__doc__ or "").rstrip(".")
        try:
            detail = step(reader, proof)
        except NotFoundError:
            raise
        except StoreError as error:
            proof.checks.append(Check(name, False, str(error)))
            break
        proof.checks.append(Check(name, True, detail))
    return proof


def _check_signature(reader: LogReader, proof: Proof) -> str:
    """The checkpoint is signed by the log's key."""
    note = read_checkpoint(reader.home / "log")
    if note is None:
        raise DamagedError("there is no checkpoint")
    proof.checkpoint = note.decode(errors="replace")
    checkpoint = open_checkpoint(note, reader.verifier)
    proof.origin, proof.log_size, proof.root = checkpoint.origin, checkpoint.size, checkpoint.root
    return f"{checkpoint.size} entries, signed by {checkpoint.origin}"


def _check_manifest(reader: LogReader, proof: Proof) -> str:
    """The segment's manifest is an entry of the signed log."""
    proof.log_index, found = reader.manifest(proof.ref.segment)
    tiles = TileReader(reader.home / "log", proof.log_size)
    if proof.log_index >= proof.log_size:
        raise DamagedError(f"log entry {proof.log_index} is not among those that are signed")
    data = tiles.entry(proof.log_index)
    proof.manifest = decode_entry(proof.log_index, data).map
    if proof.manifest.get("segment") != found["segment"]:
        raise DamagedError(f"log entry {proof.log_index} is not what it was a moment ago")
    proof.outer = tiles.inclusion(proof.log_index)
    if root_from_path(leaf_hash(data), proof.log_index, proof.log_size, proof.outer) != proof.root:
        raise DamagedError(f"log entry {proof.log_index} does not lead to the signed root")
    return f"entry {proof.log_index}, {len(proof.outer)} hashes to the root"


def _check_blob(reader: LogReader, proof: Proof) -> str:
    """The segment's stored bytes are those in the manifest."""
    try:
        segment = open_segment(reader.home, proof.manifest)
    except ErasedError:
        raise
    except NotFoundError as error:  # a blob that a signed manifest names is missing
        raise DamagedError(str(error)) from error
    place, count = proof.ref.place, segment.count
    if place >= count:
        raise NotFoundError(f"segment {proof.ref.segment} has {count} frames, so there is no {proof.ref}")
    proof.frame = segment.frame(proof.ref)
    proof.frames_in_segment = count
    proof.leaves = segment.leaves()
    proof.salt = segment.salts()[SALT_SIZE * place : SALT_SIZE * (place + 1)]
    return f"{proof.manifest['size']} bytes, SHA-256 {proof.manifest['blob'].hex()}"


def _check_frame(reader: LogReader, proof: Proof) -> str:
    """The frame is a leaf of the segment's tree."""
    place, count, leaves = proof.ref.place, proof.frames_in_segment, proof.leaves
    proof.leaf, proof.inner = hash_at(leaves, place), inclusion_path(leaves, place)
    proof.inner_root = proof.manifest["root"]
    if root_from_path(proof.leaf, place, count, proof.inner) != proof.inner_root:
        raise DamagedError(f"frame {proof.ref} does not lead to the root in its segment's manifest")
    return f"leaf {place} of {count}, {len(proof.inner)} hashes to the segment's root"


def _check_place(_reader: LogReader, proof: Proof) -> str:
    """The manifest knows the frame's stream and its number in it."""
    assert proof.frame is not None
    first, count, _ = proof.manifest["streams"].get(f"{proof.frame.stream:016x}", (0, 0, 0))
    if proof.manifest["frames"] != proof.frames_in_segment or not first <= proof.frame.seq < first + count:
        raise DamagedError(f"frame {proof.ref} is not among those that its manifest counts")
    return f"stream {proof.frame.stream:016x}, frame {proof.frame.seq}"


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
