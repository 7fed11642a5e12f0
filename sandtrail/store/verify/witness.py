"""Step 12 of `verify`: others have seen this log, and lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandtrail.errors import DamagedError
from sandtrail.store.layout import Layout
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.verify.report import Affected, Report
from sandtrail.store.verify.tree import SignedTree

if TYPE_CHECKING:
    from sandtrail.store.policy import Policy

__all__ = ["check_witnesses"]


def check_witnesses(
    report: Report,
    layout: Layout,
    tree: SignedTree,
    identity: Verifier,
    note: bytes | None,
    policy: Policy | None,
    max_age: float | None,
    now: float | None,
) -> None:
    """Hold the newest witnessed head against the tree and, where there is one, against the policy."""
    path = layout.witnessed / "checkpoint"
    if policy is None:
        report.skip(12, "no policy was given, so nothing says who else must have seen this log")
    if note is None:
        if policy is not None:
            what = "no witness has seen this log: others may have been shown another one"
            report.find(12, "not-witnessed", path, what)
        return
    try:
        checkpoint = open_checkpoint(note, identity)
    except DamagedError as error:
        report.find(12, "not-witnessed", path, f"others may have been shown another log: {error}")
        return
    _compare(report, path, checkpoint, tree)
    if policy is None:
        return
    verdict = policy.judge(note, log=identity, max_age=max_age, now=now)
    report.witnessed = f"{checkpoint.size} of {tree.checkpoint.size} entries"
    if not verdict.ok:
        what = f"others may have been shown another log, or none lately: {verdict.reason}"
        report.find(12, "not-witnessed", path, what)


def _compare(report: Report, path: object, seen: Checkpoint, tree: SignedTree) -> None:
    here = tree.checkpoint
    if seen.size > here.size:
        what = f"witnesses have seen {seen.size} entries, this log has {here.size}: it was cut back"
        report.find(12, "witness-conflict", path, what, Affected(entries=(here.size, seen.size - 1)))
    elif not tree.holds:
        report.skip(12, "nothing leads to the signed root")
    else:
        root = tree.root_at(seen.size)
        if root is None:
            report.skip(12, "the hashes that lead to the witnessed head are damaged, see step 4")
        elif root != seen.root:
            what = f"the first {seen.size} entries are not the ones that witnesses have seen"
            report.find(12, "witness-conflict", path, what, Affected(everything=True))
