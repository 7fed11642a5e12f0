"""Signed notes and checkpoints (C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0).

A note is text, an empty line and signature lines `— <name> <base64(key id || signature)>`. A checkpoint is a note whose
text is `<origin>\\n<size>\\n<base64 root>\\n`. Keys here sign with Ed25519 (type 01); those of witnesses are in
`cosignature`.
"""

from __future__ import annotations

import base64
import binascii
import re
from abc import abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, NamedTuple, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sandtrail.errors import DamagedError, UsageError

__all__ = [
    "Checkpoint",
    "Note",
    "PrivateKey",
    "Signature",
    "Signer",
    "Verifier",
    "VerifierKey",
    "decode_base64",
    "open_checkpoint",
    "parse_checkpoint",
    "parse_note",
    "parse_number",
    "signature_line",
    "signed_by",
    "split_vkey",
    "valid_name",
]

MAX_NOTE = 1 << 20
MAX_SIGNATURES = 64
_MAX_NAME = 1024
_DASH = "—".encode()
_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")


def decode_base64(text: bytes | str) -> bytes | None:
    """The bytes of canonical base64 with its padding, None for any other text: one value has one spelling."""
    raw = text.encode() if isinstance(text, str) else text
    try:
        data = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data) == raw else None


def parse_number(text: str) -> int | None:
    """A size or an index: ASCII decimal without leading zeroes, below 2^63; None for any other text."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or (text[0] == "0" and text != "0"):
        return None
    number = int(text)
    return number if number < 1 << 63 else None


def valid_name(name: str) -> bool:
    """Whether a key can have this name: something, without blanks, control characters and `+`."""
    unfit = any(c.isspace() or c == "+" or c < " " or "\ud800" <= c <= "\udfff" for c in name)
    return 0 < len(name) <= _MAX_NAME and not unfit


class PrivateKey(Protocol):
    """A private Ed25519 key, wherever it lives (a file, a token)."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature. Raises StoreError when the place of the key refuses."""


class Signature(NamedTuple):
    """One signature line: who claims to have signed, and the bytes that have to prove it."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A note that is well formed. Nothing in it is to be believed before a signature has been checked."""

    text: bytes
    signatures: tuple[Signature, ...]


def signature_line(name: str, key_id: bytes, signature: bytes) -> bytes:
    """`— <name> <base64(key id || signature)>` and a newline."""
    return f"— {name} {base64.b64encode(key_id + signature).decode()}\n".encode()


def parse_note(data: bytes) -> Note:
    """Split a note into its text and its signatures, of known and of unknown keys alike.

    Strict: UTF-8 without control characters, canonical base64, at most 1 MiB and 64 signature lines. Raises
    DamagedError for anything else.
    """
    if len(data) > MAX_NOTE:
        raise DamagedError(f"the note is {len(data)} bytes long; no real one is")
    text, separator, lines = data.rpartition(b"\n\n")
    if not separator or not lines.endswith(b"\n"):
        raise DamagedError("the note carries no signature")
    if _CONTROL.search(data):
        raise DamagedError("the note holds control characters")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise DamagedError("the note is not UTF-8") from None
    found = lines[:-1].split(b"\n")
    if len(found) > MAX_SIGNATURES:
        raise DamagedError(f"the note carries {len(found)} signatures; no real one does")
    return Note(text + b"\n", tuple(map(_parse_line, found)))


def _parse_line(line: bytes) -> Signature:
    dash, name, encoded = (*line.split(b" ", 2), b"", b"")[:3]
    blob = decode_base64(encoded)
    if dash != _DASH or blob is None or len(blob) < 5 or not valid_name(name.decode()):
        raise DamagedError("a signature line of the note is malformed")
    return Signature(name.decode(), blob[:4], blob[4:])


def split_vkey(vkey: str) -> tuple[str, int, bytes]:
    """(name, signature type, public key) of a verifier key of any type.

    Raises UsageError when it is none, or its key id does not fit its key.
    """
    name, _, rest = vkey.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = decode_base64(encoded.encode("utf-8", "surrogatepass")) or b""
    if not valid_name(name) or len(raw) < 2 or not re.fullmatch("[0-9a-f]{8}", key_id):
        raise UsageError("the key is not a verifier key; it looks like NAME+1a2b3c4d+AQ…")
    if key_id != _key_id(name, raw).hex():
        raise UsageError(f"the verifier key of {name} is damaged: its key id does not fit its key")
    return name, raw[0], raw[1:]


def _key_id(name: str, typed: bytes) -> bytes:
    return sha256(name.encode("utf-8", "surrogatepass") + b"\n" + typed).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under its name; each subclass is one signature type."""

    name: str
    public: bytes

    kind: ClassVar[int]
    length: ClassVar[int]
    what: ClassVar[str]

    @property
    def key_id(self) -> bytes:
        """The four bytes by which a signature line names the key."""
        return _key_id(self.name, bytes([self.kind]) + self.public)

    @property
    def vkey(self) -> str:
        """The signed-note form `<name>+<key id>+<base64(type || key)>`."""
        key = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read a vkey of this type. Raises UsageError when it is not one, or its key id does not fit its key."""
        name, kind, public = split_vkey(vkey)
        if kind != cls.kind or len(public) != cls.length:
            raise UsageError(f"the verifier key of {name} is not {cls.what}")
        return cls(name, public)

    @abstractmethod
    def check_signature(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over the note text `text`."""

    def check(self, text: bytes, blob: bytes) -> bool:
        """Whether `blob` (key id || signature) is this key's signature of `text`."""
        return blob[:4] == self.key_id and self.check_signature(text, blob[4:])

    def claims(self, signature: Signature) -> bool:
        """Whether a signature line names this key, rightly or not."""
        return signature.name == self.name and signature.key_id == self.key_id


class Verifier(VerifierKey):
    """A log's public Ed25519 key under its name (type 01)."""

    __slots__ = ()
    kind = 1
    length = 32
    what = "an Ed25519 key of a log; it looks like NAME+1a2b3c4d+AQ…"

    def check_signature(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over the note text `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


class _Ed25519:
    """A private key in memory."""

    def __init__(self, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


class Signer:
    """A log's private key under its name: 32 bytes, or whatever keeps them. Raises UsageError for what is no name."""

    def __init__(self, name: str, key: bytes | PrivateKey) -> None:
        if not valid_name(name):
            raise UsageError(f"{name!r} cannot name a log: no blanks and no '+'")
        self._key: PrivateKey = _Ed25519(key) if isinstance(key, bytes) else key
        self.verifier = Verifier(name, self._key.public)

    def line(self, text: bytes) -> bytes:
        """The signature line over a note's text, which must end in a newline."""
        return signature_line(self.verifier.name, self.verifier.key_id, self._key.sign(text))

    def sign(self, text: str) -> bytes:
        """The signed note over `text`, which must end in a newline."""
        raw = text.encode()
        return raw + b"\n" + self.line(raw)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: how many entries, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def signed_by(note: bytes | Note, key: VerifierKey) -> bool:
    """Whether a note carries a signature by `key`, and no bad one in its name: such a note is malformed.

    Lines of other keys say nothing and are ignored. A note that is no note is signed by nobody.
    """
    try:
        parsed = parse_note(note) if isinstance(note, bytes) else note
    except DamagedError:
        return False
    ours = [one for one in parsed.signatures if key.claims(one)]
    return bool(ours) and all(key.check_signature(parsed.text, one.signature) for one in ours)


def open_checkpoint(note: bytes, verifier: VerifierKey) -> Checkpoint:
    """Check the signature on a checkpoint and read it.

    Raises DamagedError when the note is malformed, is of another log, or has no good signature by `verifier`. Unknown
    signature lines are ignored, as the specification asks; a missing one of ours is never taken for a good one.
    """
    parsed = parse_note(note)
    if not signed_by(parsed, verifier):
        raise DamagedError(f"the checkpoint carries no good signature by {verifier.name}")
    found = parse_checkpoint(parsed.text)
    if found.origin != verifier.name:
        raise DamagedError(f"the checkpoint is of the log {found.origin!r}, not of {verifier.name!r}")
    return found


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Read a note's text as a checkpoint; what it says is as good as the signatures on it.

    Extension lines are allowed and ignored. Raises DamagedError when it is no checkpoint.
    """
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        lines = []
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise DamagedError("the note is no checkpoint: origin, size and root are missing")
    size, root = parse_number(lines[1]), decode_base64(lines[2])
    if size is None or root is None or len(root) != 32:
        raise DamagedError("the checkpoint is malformed: its size or its root is none")
    return Checkpoint(lines[0], size, root)
