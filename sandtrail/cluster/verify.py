"""Whether a cluster's log is what was signed, and whether the nodes' own logs are what it says of them.

The procedure, with the numbers of `sandtrail.store.verify` where it does the same:

 1. Find the key: given, remembered, or beside the log (then the report says that it was not pinned).
 2. The checkpoint is well-formed and signed by that key.
 3. Against a remembered head: the log has not shrunk, and its first entries still lead to the remembered root.
 4. Every tile and entry bundle leads to the signed root.
 6. Every entry is well-formed and may follow those before it (`registry`): each checkpoint of a node is signed by the
    registered key and, by its proof, goes on from the one before.
12. Its own witnesses: `witnessed/checkpoint` is cosigned by the policy's quorum, recently, and this log begins with it.
14. The nodes: none is silent, none has contradicted itself, none is in doubt.
15. The nodes' own logs, as far as they are given: none is missing, shorter than it was, or another one.

Step 15 compares the newest checkpoint that is logged with the tree of the node's log. The earlier ones need no look: in
step 6 each was shown to be the beginning of the next. Whether a node's entries are whole says `sandtrail verify`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandtrail.cluster.entries import decode_entry
from sandtrail.cluster.registry import Node, Registry
from sandtrail.errors import DamagedError, NotFoundError, SandtrailError, StoreError, UsageError
from sandtrail.store.heads import head_file, read_head
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout, is_folder
from sandtrail.store.log import read_checkpoint
from sandtrail.store.merkle import leaf_hash
from sandtrail.store.note import Verifier, open_checkpoint, parse_checkpoint, parse_note, signed_by
from sandtrail.store.policy import Policy
from sandtrail.store.snapshot import Snapshot
from sandtrail.store.verify.keys import check_checkpoint, check_head
from sandtrail.store.verify.report import Affected, Report
from sandtrail.store.verify.tree import SignedTree, cut_entries
from sandtrail.store.verify.witness import check_witnesses

__all__ = ["STEPS", "ClusterReport", "verify_cluster"]

STEPS = {
    1: "key",
    2: "checkpoint signature",
    3: "remembered head",
    4: "tree",
    6: "entries",
    12: "witnesses",
    14: "nodes",
    15: "nodes' logs",
}
_LIVE_TRIES = 50


@dataclass(slots=True)
class ClusterReport(Report):
    """What `verify_cluster` found. `nodes` says what is known of each, by its origin."""

    step_names = STEPS

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    registry: Registry = field(default_factory=Registry, repr=False)

    def _untouched(self) -> str:
        if 14 in self.skipped:
            return "what this log says of the nodes was not judged, since not all of it can be trusted"
        return "every entry of this log is what was signed, and what it says of its nodes can be trusted"

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        names = (
            "home",
            "origin",
            "size",
            "root",
            "key",
            "key_from",
            "head",
            "witnessed",
            "standing",
            "remarks",
            "nodes",
        )
        facts = {name: getattr(self, name) for name in names}
        findings = [finding.as_dict() for finding in self.findings]
        return {"ok": self.ok, **facts, "steps": self.steps(), "more": dict(self.more), "findings": findings}


def verify_cluster(
    home: Path,
    *,
    key: str | None = None,
    head: Path | None = None,
    policy: Policy | None = None,
    max_age: float | None = None,
    silence: float | None = None,
    now: float | None = None,
    homes: Sequence[Path] = (),
    checkpoints: Sequence[Path] = (),
) -> ClusterReport:
    """Run the procedure over the cluster's log under `home` and report; changes nothing.

    `key`: the vkey to trust. `head`: a remembered head; by default the one of this user's last good run. `policy` and
    `max_age` (seconds): who must have cosigned, and how recently. `silence`: after how many seconds without a new
    checkpoint a node counts as silent at `now` (POSIX seconds, default: the clock's), also where the log does not say
    so. `homes` and `checkpoints`: the nodes' stores, or just their checkpoints; when there is any, every registered
    node has to be among them. Raises NotFoundError or UsageError when it cannot even begin.
    """
    now = time.time() if now is None else now
    log = Layout(home).log
    if not is_folder(log):
        raise NotFoundError(f"there is no cluster's log under {home}; name another with --home")
    remembered = read_head(head or head_file(home))
    if head is not None and remembered is None:
        raise UsageError(f"there is no remembered head at {head}")
    for _ in range(_LIVE_TRIES):
        note = read_checkpoint(log)
        report = ClusterReport(str(home), mode="cluster", note=note or b"")
        verifier = _key(report, home, key, remembered.identity if remembered else None)
        checkpoint = check_checkpoint(report, log / "checkpoint", note, verifier) if verifier else None
        tree = SignedTree(log, checkpoint) if checkpoint else None
        whole = tree is not None and _entries(report, tree)
        # One that is being written to replaces partial tiles as it signs: look again at one and the same state.
        if not report.findings or read_checkpoint(log) == note:
            break
    if tree is None or verifier is None:
        for step in (3, 4, 6, 12, 14, 15):
            report.skip(step, "the log is not signed")
        return report
    if remembered:
        check_head(report, remembered, tree)
    else:
        report.skip(3, "none was remembered")
    check_witnesses(report, Layout(home), tree, verifier, _witnessed(home), policy, max_age, now)
    if whole:
        _nodes(report, now, silence)
        _logs(report, homes, checkpoints)
    else:
        for step in (14, 15):
            report.skip(step, "the entries that tell of the nodes cannot all be trusted")
    report.sort()
    return report


def _key(report: Report, home: Path, key: str | None, remembered: Verifier | None) -> Verifier | None:
    """Step 1."""
    beside: Verifier | None = None
    try:
        beside = load_verifier(home)
    except SandtrailError as error:
        report.find(1, "key-damaged", Layout(home).vkey, f"the log's own public key cannot be read: {error}")
    trusted = Verifier.parse(key) if key is not None else remembered or beside
    if trusted is None:
        return None
    report.key_from = "given" if key is not None else "remembered" if remembered else "beside the log, not pinned"
    if beside is not None and beside != trusted:
        report.find(1, "key-replaced", Layout(home).vkey, "the key beside the log is not the trusted one")
    report.key = trusted.vkey
    return trusted


def _entries(report: ClusterReport, tree: SignedTree) -> bool:
    """Steps 4 and 6; whether every entry is one that was signed and may stand where it stands."""
    for first, count, leaves in tree.leaves(report):
        if leaves is None:
            return False
        data = tree.read(tree.path(-1, first >> 8))
        entries, exact = cut_entries(data or b"")
        if not exact or len(entries) != count:
            last = first + count - 1
            what = f"entries {first} to {last} cannot be read, so what they said of the nodes is not known"
            report.find(4, "bundle-damaged", tree.path(-1, first >> 8), what, Affected(entries=(first, last)))
            return False
        for index, (raw, leaf) in enumerate(zip(entries, leaves, strict=True), first):
            if leaf_hash(raw) != leaf:
                what = "what it says was not signed like this"
                report.find(4, "entry-changed", f"log entry {index}", what, Affected(entries=(index, index)))
                return False
            if not _entry(report, index, raw):
                return False
    return True


def _entry(report: ClusterReport, index: int, raw: bytes) -> bool:
    try:
        entry = decode_entry(index, raw)
    except DamagedError as error:
        report.find(6, "entry-malformed", f"log entry {index}", str(error), Affected(entries=(index, index)))
        return False
    reason = report.registry.why_not(entry)
    if reason:
        what = f"whoever wrote the log broke its rules, so the rest of it says nothing: {reason}"
        report.find(6, "entry-wrong", f"log entry {index}", what, Affected(entries=(index, report.size - 1)))
        return False
    report.registry.apply(entry)
    return True


def _witnessed(home: Path) -> bytes | None:
    try:
        return (Layout(home).witnessed / "checkpoint").read_bytes()
    except FileNotFoundError:
        return None


def _nodes(report: ClusterReport, now: float, silence: float | None) -> None:
    """Step 14."""
    for origin, node in report.registry.nodes.items():
        since = now - node.heard.realtime_ns / 1e9
        report.nodes[origin] = {
            "identity": node.identity.vkey,
            "first_epoch": node.first_epoch.vkey if node.first_epoch else None,
            "retired": node.retired,
            "size": node.size,
            "root": node.root.hex(),
            "heard_ns": node.heard.realtime_ns,
            "checkpoints": len(node.sizes),
            "silences": len(node.silences),
            "equivocations": len(node.equivocations),
            "refused": len(node.refused),
        }
        for size, index in node.equivocations.items():
            what = (
                f"{origin} has signed two logs of {size} entries; both notes are in the entry, and neither log can be"
            )
            report.find(14, "node-equivocated", f"log entry {index}", f"{what} trusted from where they part")
        if node.retired:
            continue
        if node.silent or (silence is not None and since > silence):
            what = f"{origin} has sent no new checkpoint for {max(0, since):.0f} s: it does not record, or cannot send"
            place = f"log entry {node.silences[-1]}" if node.silent else origin
            report.find(14, "node-silent", place, what)
        if node.in_doubt:
            what = f"{origin} has signed a log that could not be shown to go on from its {node.size} entries"
            report.find(14, "node-in-doubt", f"log entry {node.refused[-1]}", what)


def _logs(report: ClusterReport, homes: Sequence[Path], checkpoints: Sequence[Path]) -> None:
    """Step 15."""
    if not homes and not checkpoints:
        report.skip(15, "no node's log was given")
        return
    missing = {origin for origin, node in report.registry.nodes.items() if not node.retired}
    for path in (*homes, *checkpoints):
        source = path / "log" / "checkpoint" if path in homes else path
        try:
            note = source.read_bytes()
            origin = parse_checkpoint(parse_note(note).text).origin
        except (OSError, DamagedError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            report.find(15, "node-log-missing", source, f"here should be a node's signed head: {why}")
            continue
        node = report.registry.nodes.get(origin)
        if node is None:
            report.find(15, "node-unregistered", source, f"{origin} is not registered, so it can vanish unnoticed")
            continue
        missing.discard(origin)
        if not signed_by(note, node.identity):
            what = f"{origin} is not signed by the registered key: this is not the log that the cluster knows"
            report.find(15, "node-log-unsigned", source, what)
            continue
        try:
            _compare(report, node, source, Snapshot.take(path, node.identity) if path in homes else note)
        except StoreError as error:
            report.find(15, "node-log-damaged", source, f"the log of {origin} cannot be compared: {error}")
    for origin in sorted(missing):
        node = report.registry.nodes[origin]
        what = f"{origin} had {node.size} entries when it was heard last, and its log is not here at all"
        report.find(15, "node-log-missing", origin, what)


def _compare(report: Report, node: Node, place: Path, now: Snapshot | bytes) -> None:
    """Hold a node's log, or only its signed head, against the newest head that the cluster's log has of it."""
    head = now.checkpoint if isinstance(now, Snapshot) else open_checkpoint(now, node.identity)
    if head.size < node.size:
        lost = f"{node.origin} had {node.size} entries, and those from {head.size} on are gone"
        report.find(15, "node-log-rolled-back", place, lost)
        return
    if isinstance(now, Snapshot):
        if now.root() != head.root:
            report.find(15, "node-log-damaged", place, f"the tiles of {node.origin} do not lead to its signed root")
            return
        same = now.root(node.size) == node.root
    elif head.size > node.size > 0:
        report.remarks.append(f"{node.origin} has grown since; a checkpoint alone does not show out of what")
        return
    else:
        same = node.size == 0 or head.root == node.root
    if not same:
        what = (
            f"{node.origin} shows another log than the one that it had signed {node.size} entries of; do not trust it"
        )
        report.find(15, "node-log-forked", place, what)
