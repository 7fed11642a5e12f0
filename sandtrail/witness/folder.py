"""What a witness keeps: its keys, the logs that it knows, the newest head of each, and evidence against them.

    vkeys                       the witness's public keys, a line each
    keys/<type>.key             its private keys, 32 bytes each, mode 0600
    logs                        the logs that it knows: a verifier key a line, # for comments; the operator's
    heads/<origin hash>         the newest checkpoint that was cosigned, with the log's lines and ours
    evidence/<origin hash>/     what logs have signed that they should not have, one JSON file each
    lock                        held by the one server that may answer from here

The origin hash is the SHA-256 of a log's origin in hex.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from sandtrail.errors import DamagedError, NotFoundError, StoreError, UsageError
from sandtrail.store.cosignature import (
    Cosigner,
    Ed25519Cosigner,
    Ed25519Key,
    MLDSACosigner,
    cosigned_at,
    parse_key,
)
from sandtrail.store.keyfile import ensure_private, read_private
from sandtrail.store.layout import listed, present, publish, sweep
from sandtrail.store.note import MAX_NOTE, Checkpoint, VerifierKey, parse_checkpoint, parse_note
from sandtrail.witness.evidence import Evidence, read_evidence
from sandtrail.witness.protocol import Misconduct, Request

__all__ = ["WitnessFolder", "origin_hash"]

_TYPES: dict[str, type[Ed25519Cosigner | MLDSACosigner]] = {"ml-dsa-44": MLDSACosigner, "ed25519": Ed25519Cosigner}
# Suspects are cheap to make for anyone who has a genuine head; they must not crowd out forks, nor fill the disk.
_MAX_EVIDENCE = {Misconduct.FORK: 1000, Misconduct.EMPTY: 10, Misconduct.UNPROVEN: 100}


def origin_hash(origin: str) -> str:
    """By which name files and the monitoring interface know a log."""
    return sha256(origin.encode()).hexdigest()


class WitnessFolder:
    """The files of one witness. `head` and `keep` of one log must not run at once; all else may."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lock(self) -> int:
        """Become the one server of this folder, until the process ends. Raises StoreError when there is one."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise StoreError(f"another witness answers from {self.folder}; stop it first") from None
        sweep(self.folder)
        sweep(self.folder / "heads")
        return fd

    def cosigners(self, name: str = "", types: Sequence[str] = ()) -> list[Cosigner]:
        """The witness's keys; makes those of `types` (default: one of each) the first time.

        Durable when it returns. Raises StoreError when a key is missing or others can read it, UsageError when `name`
        is not the one that the keys were made for.
        """
        path = self.folder / "vkeys"
        if not present(path):
            return self._make_keys(path, name or f"sandtrail.local/witness/{socket.gethostname()}", types)
        found: list[Cosigner] = []
        for line in _lines(path):
            key = parse_key(line)
            kind = "ed25519" if isinstance(key, Ed25519Key) else "ml-dsa-44"
            try:
                cosigner = _TYPES[kind](key.name, read_private(self._key(kind)))
            except FileNotFoundError:
                raise StoreError(f"the witness's key {self._key(kind)} is missing; restore it from a copy") from None
            if cosigner.verifier != key:
                raise DamagedError(f"{self._key(kind)} is not the key that {path} names; restore it from a copy")
            found.append(cosigner)
        if name and any(cosigner.verifier.name != name for cosigner in found):
            raise UsageError(f"this witness is called {found[0].verifier.name}; a new name needs a folder of its own")
        return found

    def _key(self, kind: str) -> Path:
        return self.folder / "keys" / f"{kind}.key"

    def _make_keys(self, path: Path, name: str, types: Sequence[str]) -> list[Cosigner]:
        unknown = set(types) - set(_TYPES)
        if unknown:
            raise UsageError(f"{unknown.pop()!r} is no type of key; there are {' and '.join(_TYPES)}")
        made: list[Cosigner] = [_TYPES[kind](name, ensure_private(self._key(kind))) for kind in types or _TYPES]
        publish(path, "".join(f"{cosigner.verifier.vkey}\n" for cosigner in made).encode(), mode=0o644)
        return made

    def vkeys(self) -> list[str]:
        """The public keys. Raises NotFoundError when there is no witness here yet."""
        try:
            return _lines(self.folder / "vkeys")
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no witness under {self.folder}; start one: sandtrail witness serve"
            ) from None

    def logs(self) -> list[VerifierKey]:
        """The keys of the logs that the operator has named. Raises UsageError, with the line, when one is none."""
        try:
            lines = _lines(self.folder / "logs")
        except FileNotFoundError:
            return []
        return [parse_key(line) for line in lines]

    def add_log(self, key: VerifierKey) -> bool:
        """Know one more log from now on; False when it was known."""
        known = self.logs()
        if key in known:
            return False
        path = self.folder / "logs"
        before = path.read_bytes() if present(path) else b""
        if before and not before.endswith(b"\n"):
            before += b"\n"
        publish(path, before + f"{key.vkey}\n".encode(), mode=0o644)
        return True

    def head(self, origin: str, cosigners: Sequence[Cosigner]) -> tuple[Checkpoint | None, bytes]:
        """The newest head that was cosigned, and its note. Raises DamagedError when it is not as we left it.

        A witness that went on from a damaged head, or from none, would forget what it has vouched for.
        """
        note = self.head_note(origin_hash(origin))
        if note is None:
            return None, b""
        parsed = parse_note(note)
        checkpoint = parse_checkpoint(parsed.text)
        ours = any(cosigned_at(parsed, cosigner.verifier) is not None for cosigner in cosigners)
        if checkpoint.origin != origin or not ours:
            raise DamagedError(f"the witness's own record of {origin!r} is damaged; restore it from a copy")
        return checkpoint, note

    def head_note(self, hashed: str) -> bytes | None:
        """The newest cosigned checkpoint of the log with this origin hash."""
        try:
            with (self.folder / "heads" / hashed).open("rb") as file:
                return file.read(MAX_NOTE + 1)
        except FileNotFoundError:
            return None

    def keep_head(self, origin: str, note: bytes) -> None:
        """Replace the newest head; durable when it returns. After an OSError the old or the new one is there."""
        publish(self.folder / "heads" / origin_hash(origin), note, mode=0o644)

    def keep_evidence(self, kind: Misconduct, request: Request, held: bytes) -> Path | None:
        """Keep what a log has signed, once; None when it is known already, or when there is enough of its kind."""
        origin = request.checkpoint.origin
        folder = self.folder / "evidence" / origin_hash(origin)
        before = held.partition(b"\n\n")[0]
        path = folder / f"{kind}-{sha256(before + b'\n\n' + request.note.text).hexdigest()[:32]}.json"
        if present(path) or sum(one.name.startswith(f"{kind}-") for one in listed(folder)) >= _MAX_EVIDENCE[kind]:
            return None
        body = request.encode().partition(b"\n\n")[0].decode()
        found = {
            "v": 1,
            "kind": kind.value,
            "origin": origin,
            "seen": time.time(),
            "held": held.decode(),
            "submitted": request.raw.decode(),
            "old": request.old,
            "proof": body.split("\n")[1:],
        }
        publish(path, json.dumps(found, indent=1).encode(), mode=0o644)
        return path

    def evidence(self) -> Iterator[Evidence]:
        """All that was kept, the oldest first.

        Raises DamagedError for a file that we did not write so, StoreError when the disk does not say what there is.
        """
        try:
            paths = [path for folder in listed(self.folder / "evidence") for path in listed(folder, ".json")]
            paths.sort(key=lambda path: path.stat().st_mtime_ns)
        except OSError as error:
            raise StoreError(f"the evidence under {self.folder} cannot be listed: {error.strerror}") from None
        for path in paths:
            yield read_evidence(path)


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
