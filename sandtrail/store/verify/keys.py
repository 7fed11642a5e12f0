"""Steps 1 to 3 of `verify`: whom to trust, whether they have signed, and whether the log is the one of last time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sandtrail.errors import DamagedError, SandtrailError, UsageError
from sandtrail.store.epochs import epoch_name
from sandtrail.store.heads import Head
from sandtrail.store.keys import load_pins
from sandtrail.store.layout import Layout
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.verify.report import Affected, Report
from sandtrail.store.verify.tree import SignedTree

__all__ = ["Trust", "check_checkpoint", "check_head", "find_keys", "parse_keys"]


class Trust(NamedTuple):
    """The keys that a verification begins with; `pinned`: the first epoch's came from outside of the store."""

    identity: Verifier
    epoch: Verifier | None
    pinned: bool


def parse_keys(keys: Sequence[str]) -> tuple[Verifier, Verifier | None] | None:
    """The identity's and the first epoch's key among the given ones. Raises UsageError when they are no such two."""
    found = list(dict.fromkeys(map(Verifier.parse, keys)))
    if not found:
        return None
    found.sort(key=lambda key: len(key.name))
    if len(found) > 2 or (len(found) == 2 and found[1].name != epoch_name(found[0].name)):
        raise UsageError("give one log's keys: its identity's, and its first epoch's (NAME and NAME/epoch)")
    return found[0], found[1] if len(found) == 2 else None


def find_keys(
    report: Report, home: Path, given: tuple[Verifier, Verifier | None] | None, head: Head | None
) -> Trust | None:
    """Step 1."""
    path = Layout(home).vkey
    beside: tuple[Verifier, Verifier | None] | None = None
    try:
        beside = load_pins(home)
    except SandtrailError as error:
        report.find(1, "key-damaged", path, f"the log's own public keys cannot be read: {error}")
    if given is not None:
        report.key_from, trusted = "given", given
    elif head is not None:
        report.key_from, trusted = "remembered", (head.identity, head.epoch)
    elif beside is not None:
        report.key_from, trusted = "beside the log, not pinned", beside
    else:
        return None
    identity, epoch = trusted
    if given is not None and epoch is None and head is not None and head.identity == identity:
        epoch = head.epoch
    pinned = epoch is not None and trusted is not beside
    if beside is not None:
        if beside[0] != identity or (pinned and beside[1] != epoch):
            what = "the keys beside the log are not the trusted ones"
            if given is None and head is not None:
                what += (
                    f"; those are remembered in {head.path}: remove that file if this store was begun anew on purpose"
                )
            report.find(1, "key-replaced", path, what)
        elif epoch is None:
            epoch = beside[1]
    if epoch is not None and not pinned:
        report.remarks.append("the first epoch's key was not pinned: give both keys with --key to rule out another log")
    report.key, report.epoch_key = identity.vkey, epoch.vkey if epoch else ""
    return Trust(identity, epoch, pinned)


def check_checkpoint(report: Report, path: Path, note: bytes | None, identity: Verifier) -> Checkpoint | None:
    """Step 2; that the newest epoch has signed as well is step 7, because the entries say which one it is."""
    everything = Affected(everything=True)
    if note is None:
        what = "nothing in this log can be trusted: it has no signed head"
        report.find(2, "checkpoint-missing", path, what, everything)
        return None
    try:
        checkpoint = open_checkpoint(note, identity)
    except DamagedError as error:
        report.find(2, "checkpoint-unsigned", path, f"nothing in this log can be trusted: {error}", everything)
        return None
    report.origin, report.size, report.root = checkpoint.origin, checkpoint.size, checkpoint.root.hex()
    return checkpoint


def check_head(report: Report, head: Head, tree: SignedTree) -> None:
    """Step 3."""
    old, new = head.checkpoint, tree.checkpoint
    report.head = f"{old.size} entries"
    if old.origin != new.origin:
        what = f"the remembered head is of {old.origin}, this log is {new.origin}"
        report.find(3, "other-log", old.origin, what, Affected(everything=True))
    elif old.size > new.size:
        lost = f"entries {new.size} to {old.size - 1} were signed once (see {head.path}) and are gone"
        report.find(3, "rolled-back", f"log entry {new.size}", lost, Affected(entries=(new.size, old.size - 1)))
    elif not tree.holds:
        report.skip(3, "nothing leads to the signed root")
    else:
        root = tree.root_at(old.size)
        if root is None:
            report.skip(3, "the hashes that lead to the remembered head are damaged, see step 4")
        elif root != old.root:
            what = "they are not the ones signed earlier: the log's past was rewritten"
            report.find(3, "history-rewritten", f"log entries 0 to {old.size - 1}", what, Affected(everything=True))
