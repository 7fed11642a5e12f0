"""Many frames' proofs in one file: a ZIP of `proofs/<segment>.<index>.tlog-proof`, with the log's keys and a word to
the reader beside them. What is in it proves itself frame by frame; the keys in it are there for convenience, and prove
nothing to somebody who does not have them from elsewhere."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sandtrail.errors import DamagedError, NotFoundError, UsageError
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.frame_proof import FrameProof, check_proof_file, make_proofs
from sandtrail.store.frames import Ref
from sandtrail.store.keys import load_pins
from sandtrail.store.note import Verifier
from sandtrail.store.reader import open_log
from sandtrail.store.tlog_proof import MAX_PROOF

if TYPE_CHECKING:
    from sandtrail.store.policy import Policy

__all__ = ["MAX_PROOFS", "Judged", "check_bundle", "frames_of_session", "is_bundle", "write_bundle"]

MAX_PROOFS = 10_000
_MAX_TOTAL = 1 << 30
_NAME = re.compile(r"proofs/(\d{1,15}\.\d{1,9})\.tlog-proof")
_KEYS, _README = "log.vkey", "README.txt"
_WORDS = """Each file under proofs/ proves one frame of the log {origin}.
Check them all, or one by one:

    sandtrail verify THIS-FILE.zip --key KEYS
    sandtrail verify 12.345.tlog-proof --key KEYS

KEYS is a file with the log's verifier keys, which you should have from somebody you trust.
log.vkey beside this text holds what the sender says they are; it proves nothing.
"""


class Judged(NamedTuple):
    """One file of a bundle: what it has proven, or why it does not hold."""

    name: str
    proof: FrameProof | None
    error: str


def frames_of_session(home: Path, session: str) -> list[Ref]:
    """Every sealed frame that is stored under a session's data keys. Raises NotFoundError when there is none,
    UsageError when they are more than a bundle holds."""
    keys = {key.id for key in DataKeys(home).of_session(session)}
    refs: list[Ref] = []
    for entry in open_log(home).entries() if keys else ():
        if entry.kind == "segment" and entry.map.get("key") in keys:
            if len(refs) + entry.map["frames"] > MAX_PROOFS:
                raise UsageError(f"{session} has more than {MAX_PROOFS} frames; name those that matter")
            refs += [Ref(entry.map["segment"], place) for place in range(entry.map["frames"])]
    if not refs:
        raise NotFoundError(f"no frame of the session {session!r:.80} is sealed, or its data key is gone")
    return refs


def write_bundle(home: Path, refs: Iterable[Ref], path: Path) -> int:
    """Write a bundle; returns how many proofs are in it. Raises as `make_proofs`, UsageError when they are too many,
    and OSError; what was written until then is taken away."""
    wanted = sorted(set(refs))
    if not 0 < len(wanted) <= MAX_PROOFS:
        raise UsageError(f"a bundle holds 1 to {MAX_PROOFS} proofs, not {len(wanted)}")
    identity, epoch = load_pins(home)
    keys = "".join(f"{key.vkey}\n" for key in (identity, epoch) if key)
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr(_README, _WORDS.format(origin=identity.name))
            bundle.writestr(_KEYS, keys)
            for number, group in groupby(wanted, key=lambda ref: ref.segment):
                places = [ref.place for ref in group]
                for place, proof in zip(places, make_proofs(home, number, places), strict=True):
                    bundle.writestr(f"proofs/{number}.{place}.tlog-proof", proof)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return len(wanted)


def is_bundle(path: Path) -> bool:
    """Whether a file begins like one."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def check_bundle(
    path: Path,
    identity: Verifier | None,
    first_epoch: Verifier | None = None,
    policy: Policy | None = None,
    *,
    now: float | None = None,
    max_age: float | None = None,
) -> Iterator[Judged]:
    """Judge each file of a bundle as `check_proof_file` does. Raises DamagedError when the whole is no bundle of ours.

    A file that is no proof, or proves another frame than its name says, does not hold.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            items = [item for item in bundle.infolist() if item.filename not in (_KEYS, _README)]
            names = {item.filename for item in items}
            if not 0 < len(items) <= MAX_PROOFS or len(names) < len(items):
                raise DamagedError(f"a bundle holds 1 to {MAX_PROOFS} files, each once; this one has {len(items)}")
            if sum(item.file_size for item in items) > _MAX_TOTAL:
                raise DamagedError(f"the bundle's proofs are larger than {_MAX_TOTAL} bytes")
            for item in items:
                found = _NAME.fullmatch(item.filename)
                try:
                    if found is None:
                        raise DamagedError("it is no file that a bundle has")
                    with bundle.open(item) as file:
                        data = file.read(min(MAX_PROOF, item.file_size) + 1)
                    proof = check_proof_file(data, identity, first_epoch, policy, now=now, max_age=max_age)
                    if str(proof.ref) != found[1]:
                        raise DamagedError(f"it proves frame {proof.ref}, and not the one that it is named after")
                except DamagedError as error:
                    yield Judged(item.filename, None, str(error))
                else:
                    yield Judged(item.filename, proof, "")
    except (DamagedError, OSError):
        raise
    except Exception as error:  # noqa: BLE001  # what zipfile raises over a hostile archive is not described
        raise DamagedError(f"{path} is no bundle of proofs, or was changed: {error}") from None
