"""The proof of one frame as a small file that is checked without the store: a C2SP tlog-proof of its segment's entry,
whose extra line leads from the frame to the entry (docs/log-format.md, "A frame's proof").

Steps of the check, each of which leads to the next:

 1. The file is a tlog-proof, and its extra line a deterministic CBOR map of known fields.
 2. The entry in it is a segment's manifest, and counts a frame of this stream and number.
 3. The frame's leaf, made from salt and frame, leads to the manifest's root at its place.
 4. The entry's leaf leads to the root of the checkpoint at its index.
 5. The checkpoint is signed by the log's identity and, where a policy is given, cosigned by its quorum.
 6. Where the first epoch's key is given, certificates lead from it to a key that has signed the checkpoint too; and an
    entry of an epoch that is over leads to the root in the certificate that closed it, which nobody can make again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2

from sandtrail.errors import DamagedError
from sandtrail.store.epochs import parse_certificate
from sandtrail.store.frames import Ref
from sandtrail.store.layout import Layout
from sandtrail.store.leaves import SALT_SIZE, frame_leaf
from sandtrail.store.manifest import decode_entry
from sandtrail.store.merkle import leaf_hash, root_from_path
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint, parse_note, signed_by
from sandtrail.store.reader import LogReader, open_log
from sandtrail.store.schema import check_entry
from sandtrail.store.tiles import TileReader
from sandtrail.store.tlog_proof import TlogProof, check_proof, encode_proof, parse_proof
from sandtrail.store.walk import Walk, while_it_grows

if TYPE_CHECKING:
    from sandtrail.store.policy import Policy, WitnessState

__all__ = ["FrameProof", "check_proof_file", "make_proof", "make_proofs"]

_VERSION = 2
_MAX_PATH = 63
_FIELDS = {
    "v": int,
    "entry": bytes,
    "place": int,
    "salt": bytes,
    "inner": list,
    "stream": int,
    "seq": int,
    "kind": int,
    "when": list,
    "payload": bytes,
    "epochs": list,
    "closed": list,
}


@dataclass(frozen=True, slots=True)
class FrameProof:
    """What a proof that holds has proven: this frame is in that log, which is signed, and cosigned by `witnesses`.

    `epoch`: the number of the epoch that has signed as well, None where the first epoch's key was not given.
    """

    ref: Ref
    stream: int
    seq: int
    kind: int
    when: tuple[int, int, int]
    payload: bytes = field(repr=False)
    manifest: dict[str, Any] = field(repr=False)
    checkpoint: Checkpoint
    index: int
    epoch: int | None
    witnesses: tuple[WitnessState, ...]


# -- making ------------------------------------------------------------------------------------------------------------


def make_proof(home: Path, ref: Ref) -> bytes:
    """The proof of a frame; see `make_proofs`."""
    return make_proofs(home, ref.segment, [ref.place])[0]


def make_proofs(home: Path, number: int, places: Sequence[int]) -> list[bytes]:
    """Proofs of frames of one segment, under the newest head that witnesses have cosigned where that covers it, else
    the newest.

    Raises NotFoundError where there is no such frame, ErasedError where it can't be read any more, DamagedError where
    what is stored does not lead to what was signed.
    """
    return while_it_grows(Layout(home).log, lambda: _make(home, number, places))


def _make(home: Path, number: int, places: Sequence[int]) -> list[bytes]:
    reader = open_log(home)
    index, _ = reader.manifest(number)
    walk = Walk(reader, number, places, _head(home, reader, index)).go()
    tiles = walk.tiles
    begun = _epochs(tiles)
    common = {
        "v": _VERSION,
        "entry": walk.entry,
        "epochs": [str(decode_entry(at, tiles.entry(at)).map.get("certificate")) for at in begun],
        "closed": next((tiles.past(at).inclusion(index) for at in begun if at > index), []),
    }
    proofs = []
    for frame, salt, inner in zip(walk.frames, walk.salts, walk.inner, strict=True):
        own = {
            "place": frame.place,
            "salt": salt,
            "inner": inner,
            "stream": frame.stream,
            "seq": frame.seq,
            "kind": frame.kind,
            "when": [frame.realtime_ns, frame.monotonic_ns, frame.boottime_ns],
            "payload": frame.payload,
        }
        proofs.append(encode_proof(index, walk.outer, walk.note, cbor2.dumps({**common, **own}, canonical=True)))
    return proofs


def _head(home: Path, reader: LogReader, index: int) -> bytes:
    """The head to prove against: witnessed where that covers the entry."""
    for path in (Layout(home).witnessed / "checkpoint", Layout(home).checkpoint):
        try:
            note = path.read_bytes()
            checkpoint = open_checkpoint(note, reader.verifier)
        except (OSError, DamagedError):
            continue
        if index < checkpoint.size:
            return note
    raise DamagedError(f"no signed head covers log entry {index}; run: sandtrail verify")


def _epochs(tiles: TileReader) -> list[int]:
    """The entries that begin epoch 1 and all that follow; an entry says to which epoch it belongs, so a binary search
    finds them."""
    newest = _epoch(tiles, tiles.size - 1)
    found, low = [], 0
    for epoch in range(1, newest + 1):
        high = tiles.size - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if _epoch(tiles, middle) >= epoch else (middle + 1, high)
        found.append(low)
    return found


def _epoch(tiles: TileReader, index: int) -> int:
    epoch = decode_entry(index, tiles.entry(index)).map
    return int(epoch["epoch"]) if epoch["v"] >= _VERSION else -1


# -- checking ----------------------------------------------------------------------------------------------------------


def check_proof_file(
    data: bytes,
    identity: Verifier | None,
    first_epoch: Verifier | None = None,
    policy: Policy | None = None,
    *,
    now: float | None = None,
    max_age: float | None = None,
) -> FrameProof:
    """Check a proof by the steps above; needs nothing but the keys. Raises DamagedError with what does not hold.

    `identity` may be None where the policy names the log. `max_age`: seconds that cosignatures may be older than `now`.
    """
    proof = parse_proof(data)
    frame = _extra(proof.extra)
    entry = decode_entry(proof.index, frame["entry"])
    check_entry(entry)
    manifest = entry.map
    if entry.kind != "segment":
        raise DamagedError(f"log entry {proof.index} is no segment's manifest")
    first, count, _ = manifest["streams"].get(f"{frame['stream']:016x}", (0, 0, 0))
    if not first <= frame["seq"] < first + count or len(frame["salt"]) != (SALT_SIZE if manifest["v"] > 1 else 0):
        raise DamagedError("the segment's manifest counts no such frame")
    when = frame["when"]
    leaf = frame_leaf(frame["stream"], frame["seq"], frame["kind"], when, frame["payload"], frame["salt"])
    if root_from_path(leaf, frame["place"], manifest["frames"], frame["inner"]) != manifest["root"]:
        raise DamagedError("the frame does not lead to the root in its segment's manifest")
    checkpoint = check_proof(proof, leaf_hash(frame["entry"]), identity, policy, now=now, max_age=max_age)
    witnesses = policy.judge(proof.checkpoint, log=identity, now=now, max_age=max_age).witnesses if policy else ()
    return FrameProof(
        Ref(manifest["segment"], frame["place"]),
        frame["stream"],
        frame["seq"],
        frame["kind"],
        when,
        frame["payload"],
        manifest,
        checkpoint,
        proof.index,
        _check_epochs(frame, proof, checkpoint, first_epoch) if first_epoch else None,
        witnesses,
    )


def _extra(data: bytes | None) -> dict[str, Any]:
    if data is None:
        raise DamagedError("this tlog-proof proves a log entry, and no frame: it has no extra line")
    try:
        found = cbor2.loads(data)
        canonical = cbor2.dumps(found, canonical=True) == data
    except Exception as error:  # noqa: BLE001  # whatever the decoder stumbles over, it is no proof of ours
        raise DamagedError(f"the proof's extra line is not CBOR: {error}") from None
    typed = isinstance(found, dict) and found.keys() == _FIELDS.keys() and canonical
    if not typed or any(type(found[name]) is not kind for name, kind in _FIELDS.items()):
        raise DamagedError("the proof's extra line does not tell of a frame")
    numbers = [found["place"], found["stream"], found["seq"], *found["when"]]
    if (
        found["v"] != _VERSION
        or len(found["when"]) != 3
        or any(type(one) is not int or not 0 <= one < 1 << 64 for one in numbers)
        or not 0 <= found["kind"] < 256
        or len(found["inner"]) > _MAX_PATH
        or len(found["closed"]) > _MAX_PATH
        or any(type(one) is not bytes or len(one) != 32 for one in [*found["inner"], *found["closed"]])
        or any(type(one) is not str for one in found["epochs"])
    ):
        raise DamagedError("the proof's extra line is malformed")
    return {**found, "when": tuple(found["when"])}


def _check_epochs(frame: dict[str, Any], proof: TlogProof, checkpoint: Checkpoint, first: Verifier) -> int:
    current, closing, size = first, None, 0
    for epoch, text in enumerate(frame["epochs"], 1):
        certificate = parse_certificate(text, current)
        if (certificate.origin, certificate.epoch) != (checkpoint.origin, epoch) or not (
            size < certificate.size < checkpoint.size
        ):
            raise DamagedError(f"the certificate of epoch {epoch} is not of this log, or not of that epoch")
        current, size = certificate.verifier, certificate.size
        if closing is None and proof.index < size:
            closing = certificate
    if not signed_by(parse_note(proof.checkpoint), current):
        raise DamagedError(f"the key of epoch {len(frame['epochs'])} has not signed the checkpoint")
    if closing is not None:
        root = root_from_path(leaf_hash(frame["entry"]), proof.index, closing.size, frame["closed"])
        if root != closing.root:
            raise DamagedError(
                f"log entry {proof.index} is not the one that was there when epoch {closing.epoch} began"
            )
    elif frame["closed"]:
        raise DamagedError("the proof speaks of an epoch that was closed, and has no certificate of it")
    return len(frame["epochs"])
