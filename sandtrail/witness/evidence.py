"""Evidence against a log: two heads that it has signed and that cannot both be true, for anyone who has its key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandtrail.errors import DamagedError, NotFoundError
from sandtrail.store.merkle import EMPTY, is_consistent
from sandtrail.store.note import Checkpoint, VerifierKey, decode_base64, open_checkpoint
from sandtrail.witness.protocol import Misconduct

__all__ = ["Evidence", "read_evidence"]

_MEANING = {
    Misconduct.FORK: "the log has signed two different heads of one size: it shows different faces to different people",
    Misconduct.EMPTY: "the log has signed a head of size 0 with the root of something",
    Misconduct.UNPROVEN: (
        "a head that the log has signed came without a proof that it grew out of the one before: either the log was "
        "rewritten, or somebody has sent a real head with a bad proof; compare the log with the checkpoint held here"
    ),
}
_MAX_EVIDENCE_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence: what the log had shown before, and what it signed then."""

    kind: Misconduct
    origin: str
    seen: float
    held: str
    submitted: str
    old: int
    proof: tuple[str, ...]
    path: Path

    @property
    def proven(self) -> bool:
        """Whether the two notes prove misconduct by themselves, to anyone who has the log's key."""
        return self.kind is not Misconduct.UNPROVEN

    def holds(self, keys: Iterable[VerifierKey]) -> bool:
        """Whether the file says what it claims, by the keys of the log and by nothing else.

        That is: the log has signed both notes, and they contradict each other (for `unproven`: the proof that came with
        the second one does not lead there from the first).
        """
        keys = [key for key in keys if key.name == self.origin]
        try:
            new = _opened(self.submitted, keys)
            if self.kind is Misconduct.EMPTY:
                return new.size == 0 and new.root != EMPTY
            old = _opened(self.held, keys)
        except DamagedError:
            return False
        if self.kind is Misconduct.FORK:
            return old.size == new.size and old.root != new.root
        proof = [decode_base64(line) or b"" for line in self.proof]
        return old.size < new.size and not is_consistent(old.size, old.root, new.size, new.root, proof)

    @property
    def meaning(self) -> str:
        """What it says about the log, in a sentence."""
        return _MEANING[self.kind]

    def as_dict(self) -> dict[str, Any]:
        """The fields, for programs."""
        named = {name: getattr(self, name) for name in ("kind", "origin", "seen", "held", "submitted", "old")}
        return {**named, "proof": list(self.proof), "proven": self.proven, "path": str(self.path)}


def read_evidence(path: Path) -> Evidence:
    """Read a file of evidence. Raises DamagedError when it is none, NotFoundError when it can't be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_EVIDENCE_FILE))
        kind, proof = Misconduct(found["kind"]), tuple(map(str, found["proof"]))
        notes = str(found["held"]), str(found["submitted"])
        return Evidence(kind, str(found["origin"]), float(found["seen"]), *notes, int(found["old"]), proof, path)
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedError(f"{path} is no evidence that a witness has kept: {error}") from None


def _opened(note: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    for key in keys:
        try:
            return open_checkpoint(note.encode("utf-8", "replace"), key)
        except DamagedError:
            continue
    raise DamagedError("no key of this log has signed the note")
