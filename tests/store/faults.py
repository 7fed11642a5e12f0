"""The fault table: every step of the append path, and what becomes of it when it fails in either of two ways.

`docs/crash-safety.md` shows it; `test_crash_faults` makes each cell happen and lets `verify` judge, and sees to it that
no call upon the store's files is without a row.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.store.faults_os import Op


class Step(NamedTuple):
    """One row: the calls that it is about (`name path`, a pattern), and what happens then."""

    name: str
    calls: str
    not_stored: str
    stored: str

    def is_of(self, op: Op) -> bool:
        return re.fullmatch(self.calls, f"{op.name} {op.path}") is not None


_REFUSED = "the writer is told; the frame is not acknowledged, and may be offered again"
_REFUSED_STORED = (
    "the writer is told and cuts the file back to what was acknowledged; offered again, the frame is there once"
)
_NO_FILE = "the writer is told, and tries again under another number; the old file stays in use"
_DIES = "the sealer ends; the next one"
_REDONE = f"{_DIES} finds every frame still in the spools and writes it anew"
_LEFT = f"{_DIES} removes what nobody has signed for, and writes it anew"
_ORDERED = "whoever gives the order is told that it was not given"


def _published(what: str, folder: str, name: str, not_there: str, there: str, *, new: bool = False) -> list[Step]:
    """The steps of publishing a file; that of syncing its folder is a row of its own, and so is that of removing the
    temporary name of one that is not to take the place of another."""
    temporary = rf"{folder}/\.{name}\.\d+\.tmp"
    return [
        Step(
            f"{what}: temporary file made, written, synced", rf"(create|write|fsync) {temporary}", not_there, not_there
        ),
        Step(f"{what}: linked, where nothing may be yet", rf"link {temporary}", not_there, there)
        if new
        else Step(f"{what}: renamed into its place", rf"rename {temporary}", not_there, there),
    ]


STEPS = (
    Step(
        "folder made",
        r"mkdir .*",
        "the writer or the sealer ends with what the disk said; the next start makes it",
        "the next start finds it and syncs it before anything is built upon it",
    ),
    Step(
        "folder synced: after a rename or a removal in it, and at each start",
        r"fsync folder .*",
        f"{_DIES} syncs every folder again before it trusts a name in it",
        "the same: nobody can tell the two apart",
    ),
    Step("spool file made, under a name that nobody looks for", r"create spool/\.[^/]*\.new", _NO_FILE, _NO_FILE),
    Step("spool file locked", r"flock spool/\.[^/]*\.new", _NO_FILE, _NO_FILE),
    Step(
        "spool file named",
        r"link spool/\.[^/]*\.new",
        _NO_FILE,
        "the same; the empty file has no lock, and the sealer removes it",
    ),
    Step(
        "spool file's first name removed",
        r"unlink spool/\.[^/]*\.new",
        "the file is used all the same; the sealer removes the name",
        "the file is used",
    ),
    Step("frame written to the spool", r"write spool/[^./][^/]*", _REFUSED, _REFUSED_STORED),
    Step(
        "spool cut back after a write that failed",
        r"truncate spool/[^./][^/]*",
        "nothing is written behind the torn bytes: the cut is tried again before the next frame",
        "the same",
    ),
    Step(
        "spool read, or its writer's lock tried",
        r"(read|flock) spool/[^./][^/]*",
        "the sealer ends, or takes the writer to be alive; the next one reads it again",
        "the same",
    ),
    Step(
        "log locked",
        r"(create|flock) log/lock",
        "the sealer does not start; nothing has been touched",
        "the same; the lock ends with the process",
    ),
    *_published(
        "identity's key",
        "keys",
        r"log\.key",
        "the sealer does not start; nothing was signed, and the next start makes another",
        "the next start uses it",
        new=True,
    ),
    *_published(
        "public keys",
        "keys",
        r"log\.vkey",
        "the sealer ends before it signs anything with the new key; the next start writes them again",
        "the next start finds them as they belong",
    ),
    *_published(
        "epoch's key",
        "keys/epochs",
        r"\d+\.key",
        f"{_DIES} makes another; the old epoch goes on until a signed checkpoint ends it",
        f"{_DIES} certifies this one",
        new=True,
    ),
    *_published(
        "data key",
        "keys/data",
        r"[0-9a-f]+\.key",
        f"{_DIES} makes another; nothing was stored under this one",
        f"{_DIES} uses it",
    ),
    *_published(
        "bytes that are no record", "damaged", "[^/]+", _REDONE, f"{_DIES} keeps them again and signs for that"
    ),
    *_published("blob", r"segments/\d+", r"\d+\.seg", _REDONE, _LEFT),
    *_published("entry bundle", "log/tile/entries(/.*)?", r"\d+", _REDONE, _LEFT),
    *_published("tile", r"log/tile/\d+(/.*)?", r"\d+", _REDONE, _LEFT),
    *_published(
        "checkpoint made durable",
        "log",
        r"\.checkpoint\.next\.tmp",
        f"{_REDONE}; nobody has seen the signature",
        f"{_DIES} finds it durable and shows it",
    ),
    Step(
        "checkpoint shown",
        r"rename log/\.checkpoint\.next\.tmp",
        f"{_DIES} shows it: what it covers is durable, and so is it",
        f"{_DIES} goes on from it",
    ),
    Step(
        "older tiles and bundles removed",
        r"(unlink|rmdir) log/tile/.*",
        f"{_DIES} removes them; they agree with what is signed",
        "they are gone, which nobody minds",
    ),
    Step(
        "spool file removed: sealed to its end, signed for, no writer",
        r"unlink spool/[^./][^/]*",
        f"{_DIES} reads in the log that all of it is sealed, and removes it",
        "it is gone; the log forgets it only when that is durable",
    ),
    Step(
        "unsigned blob removed",
        r"unlink segments/\d+/\d+[.]seg",
        f"{_DIES} removes it, the highest number first, so that none is hidden behind a hole",
        "it is gone",
    ),
    Step(
        "temporary file removed",
        r"unlink .*\.tmp",
        "the next start removes it; it is never read",
        "it is gone",
    ),
    *_published(
        "order", "acts", r"[^/]+\.order", _ORDERED, "the same, and it may be carried out; each act can be done twice"
    ),
    *_published(
        "answer to an order",
        "acts",
        r"[^/]+\.done",
        f"{_DIES} carries the order out again",
        f"{_DIES} carries it out again",
    ),
    Step(
        "order removed",
        r"unlink acts/[^/]+\.order",
        f"{_DIES} carries it out again",
        "it is done",
    ),
    Step(
        "key destroyed: overwritten, synced, removed",
        r"(write|fsync|unlink) keys/(epochs|data)/[^./]+\.key",
        f"{_DIES} destroys it: the order, or the newer epoch, is signed for",
        "the same, where anything is left",
    ),
    Step(
        "spool synced before torn bytes are kept, or overwritten where it is sealed (erasure)",
        r"(pwrite|fsync) spool/[^./][^/]*",
        f"{_DIES} does it again",
        "the same",
    ),
)


def step_of(op: Op) -> Step | None:
    """The row that a call belongs to; the first that fits."""
    return next((step for step in STEPS if step.is_of(op)), None)


def table() -> str:
    """The rows as docs/crash-safety.md shows them."""
    rows = [f"| {step.name} | {step.not_stored} | {step.stored} |" for step in STEPS]
    return "\n".join(["| step | failed and not stored | failed but stored |", "|---|---|---|", *rows])
