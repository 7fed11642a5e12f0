"""The witness protocol without its wires (C2SP tlog-witness v1.0.0): what an add-checkpoint request says, what it gets.

A request's body:

    old <size>
    <base64 hash>                       up to 63 lines of consistency proof (RFC 6962 section 2.1.2)

    <checkpoint, with its signatures>
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sandtrail.errors import DamagedError, WitnessError
from sandtrail.store.merkle import EMPTY, is_consistent
from sandtrail.store.note import (
    Checkpoint,
    Note,
    Signature,
    VerifierKey,
    decode_base64,
    parse_checkpoint,
    parse_note,
    parse_number,
    signed_by,
)

__all__ = [
    "MAX_BODY",
    "Misconduct",
    "Refused",
    "Reply",
    "Request",
    "authenticate",
    "encode_request",
    "judge",
    "parse_request",
]

MAX_BODY = 256 << 10
_MAX_PROOF = 63
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes = b""
    content_type: str = _TEXT


class Misconduct(StrEnum):
    """What a checkpoint that is genuinely signed, and refused all the same, says about its log."""

    FORK = "fork"
    """Two signed heads of one size with different roots: proof in itself that the log shows different faces."""
    EMPTY = "empty"
    """A signed head of size 0 with the root of something: proof that the log signs what cannot be."""
    UNPROVEN = "unproven"
    """A larger head without a good proof. A log that was rewritten can do no better; but anybody may send a bad proof
    along with a good head, so this is a reason to look, not a proof."""


class Refused(WitnessError):
    """A request that is not granted: the HTTP reply to give, and what it shows about the log."""

    def __init__(self, status: int, why: str, *, misconduct: Misconduct | None = None) -> None:
        super().__init__(why)
        self.reply = Reply(status, f"{why}\n".encode())
        self.misconduct = misconduct


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is well formed. Who signed the checkpoint is not known yet."""

    old: int
    proof: tuple[bytes, ...]
    raw: bytes
    """The checkpoint as it was submitted."""
    note: Note
    checkpoint: Checkpoint

    def encode(self) -> bytes:
        """The body that says this."""
        return encode_request(self.old, self.proof, self.raw)


def encode_request(old: int, proof: Iterable[bytes], note: bytes) -> bytes:
    """The body of an add-checkpoint request."""
    lines = [b"old %d" % old, *map(base64.b64encode, proof)]
    return b"\n".join(lines) + b"\n\n" + note


def parse_request(body: bytes) -> Request:
    """Read a request's body. Raises Refused (400) when it is malformed."""
    head, separator, raw = body.partition(b"\n\n")
    lines = head.split(b"\n", _MAX_PROOF + 2)
    word, _, number = lines[0].partition(b" ")
    old = parse_number(number.decode("ascii", "replace"))
    if len(body) > MAX_BODY or not separator or word != b"old" or old is None:
        raise Refused(400, "a request begins with: old <size>")
    proof = [node for node in map(decode_base64, lines[1:]) if node is not None and len(node) == 32]
    if len(proof) != len(lines) - 1 or len(proof) > _MAX_PROOF:
        raise Refused(400, "the consistency proof is malformed")
    try:
        note = parse_note(raw)
        return Request(old, tuple(proof), raw, note, parse_checkpoint(note.text))
    except DamagedError as error:
        raise Refused(400, str(error)) from None


def authenticate(request: Request, keys: Iterable[VerifierKey]) -> tuple[Signature, ...]:
    """The checkpoint's lines by those of `keys` that are its log's (a key's name is its log's origin).

    Raises Refused: 404 when none is, 403 when none has signed or a line in the name of one is bad.
    """
    trusted = [key for key in keys if key.name == request.checkpoint.origin]
    if not trusted:
        raise Refused(404, "this log is not known here")
    lines = tuple(one for one in request.note.signatures if any(key.claims(one) for key in trusted))
    claimed = [key for key in trusted if any(map(key.claims, lines))]
    if not claimed or not all(signed_by(request.note, key) for key in claimed):
        raise Refused(403, "the checkpoint carries no good signature by its log")
    return lines


def judge(request: Request, keys: Sequence[VerifierKey], held: Checkpoint | None) -> Checkpoint:
    """The head that may be cosigned next, after `held`, the largest one that was cosigned before (None: none).

    The checks, in the specification's order: a trusted signature (404, 403); old size at most the new one (400), and
    the size of what is held (409, with that size); the empty tree's root; a proof that leads from what is held to the
    new head (422). Raises Refused with the reply. The caller must make the new head durable, and let nobody come
    between, before it tells anyone.
    """
    authenticate(request, keys)
    new, size = request.checkpoint, held.size if held else 0
    misconduct = None
    if held and new.size == held.size and new.root != held.root:
        misconduct = Misconduct.FORK
    elif new.size == 0 and new.root != EMPTY:
        misconduct = Misconduct.EMPTY
    if request.old > new.size:
        raise Refused(400, "the old size is larger than the checkpoint's", misconduct=misconduct)
    if request.old != size:
        refused = Refused(409, "the old size is not that of the newest checkpoint here", misconduct=misconduct)
        refused.reply = Reply(409, b"%d\n" % size, "text/x.tlog.size")
        raise refused
    if misconduct:
        raise Refused(422, "the root is not that of the log as it is known here", misconduct=misconduct)
    if not is_consistent(size, held.root if held else EMPTY, new.size, new.root, request.proof):
        suspect = Misconduct.UNPROVEN if size < new.size and held else None
        raise Refused(422, "the consistency proof does not hold", misconduct=suspect)
    return new
