"""Proofs that travel alone (C2SP tlog-proof): an entry's place in a log, the path to the root, and the signed head.

c2sp.org/tlog-proof@v1
extra <base64>                      left out when there is none; nobody has signed it
index <n>
<base64 hash>                       the path, from the leaf's sibling up (RFC 6962 section 2.1.1)

<checkpoint, with its signatures>
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sandtrail.errors import DamagedError
from sandtrail.store.merkle import root_from_path
from sandtrail.store.note import MAX_NOTE, Checkpoint, VerifierKey, decode_base64, open_checkpoint, parse_number
from sandtrail.store.policy import Policy

__all__ = ["MAX_PROOF", "TlogProof", "check_proof", "encode_proof", "parse_proof"]

_HEADER = b"c2sp.org/tlog-proof@v1"
_MAX_PATH = 63
_MAX_EXTRA = 64 << 20
MAX_PROOF = _MAX_EXTRA * 4 // 3 + MAX_NOTE + (1 << 16)


@dataclass(frozen=True, slots=True)
class TlogProof:
    """What a proof says; true only once `check_proof` has been passed."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None


def encode_proof(index: int, path: Sequence[bytes], checkpoint: bytes, extra: bytes | None = None) -> bytes:
    """The text of a proof."""
    lines = [_HEADER]
    if extra is not None:
        lines.append(b"extra " + base64.b64encode(extra))
    lines.append(b"index %d" % index)
    lines.extend(map(base64.b64encode, path))
    return b"\n".join(lines) + b"\n\n" + checkpoint


def parse_proof(data: bytes) -> TlogProof:
    """Read a proof's text. Strict: what it returns encodes to the same bytes. Raises DamagedError for anything else."""
    if len(data) > MAX_PROOF:
        raise DamagedError(f"the proof is {len(data)} bytes long; no real one is")
    head, separator, checkpoint = data.partition(b"\n\n")
    lines = head.split(b"\n", _MAX_PATH + 4)
    if not separator or lines.pop(0) != _HEADER:
        raise DamagedError("this is no tlog-proof: its first line or its checkpoint is missing")
    extra = None
    if lines and lines[0].startswith(b"extra "):
        extra = decode_base64(lines.pop(0)[6:])
        if extra is None or len(extra) > _MAX_EXTRA:
            raise DamagedError("the proof's extra line is malformed")
    word, _, number = lines.pop(0).partition(b" ") if lines else (b"", b"", b"")
    index = parse_number(number.decode("ascii", "replace"))
    if word != b"index" or index is None:
        raise DamagedError("the proof does not say which entry it is of")
    path = tuple(map(decode_base64, lines))
    if len(path) > _MAX_PATH or not all(node is not None and len(node) == 32 for node in path):
        raise DamagedError("the proof's path is malformed")
    return TlogProof(index, tuple(node for node in path if node is not None), checkpoint, extra)


def check_proof(
    proof: TlogProof,
    leaf: bytes,
    log: VerifierKey | None,
    policy: Policy | None = None,
    *,
    now: float | None = None,
    max_age: float | None = None,
) -> Checkpoint:
    """Check a proof; the steps are the specification's.

    1. The leaf hash, 32 bytes, is the caller's to compute from what it wants to see proven.
    2. The checkpoint is of the log whose key is given, and signed with it; else of a log that the policy lists.
    3. Where there is a policy, its quorum of witnesses has cosigned, within `max_age` seconds where that is given.
    4. The path leads from the leaf, at its index, to the checkpoint's root.

    Raises DamagedError, with what failed, when one does not hold, or when there is neither key nor policy.
    """
    if policy is not None:
        verdict = policy.judge(proof.checkpoint, now=now, max_age=max_age, log=log)
        if not verdict.ok or verdict.checkpoint is None:
            raise DamagedError(f"the proof's checkpoint fails the policy: {verdict.reason}")
        head = verdict.checkpoint
    elif log is not None:
        head = open_checkpoint(proof.checkpoint, log)
    else:
        raise DamagedError("a proof cannot be checked without the key of its log")
    if root_from_path(leaf, proof.index, head.size, proof.path) != head.root:
        raise DamagedError(f"the proof's path does not lead from entry {proof.index} to the root of the log")
    return head
