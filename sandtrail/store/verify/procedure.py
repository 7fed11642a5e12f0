"""Whether a store still is what was signed.

The procedure, by its numbers (code, report and docs/verification.md share them):

 1. Keys: the log's identity and its first epoch's key are given, remembered, or beside the log (then not pinned).
 2. Checkpoint signatures: the head is well-formed and signed by the identity.
 3. Remembered head: the log has not shrunk, and its first entries still lead to the remembered root.
 4. Tree: tiles and entry bundles are what the entries make them, and they lead to the signed root.
 5. Files accounted for: nothing lies among the evidence that the log does not account for.
 6. Entries: each is well-formed, segments are numbered without holes, what was held was not erased.
 7. Epochs: each key is certified by the one before it over the log of that moment; the newest has signed the head.
 8. Blobs: every segment's stored bytes have the signed SHA-256; one is missing only where a signed entry says so.
 9. Frames: decrypted, decompressed, they lead to the inner root and the counts; unread only where a signed entry has
    erased the data key.
10. Streams: the frames of each are numbered without holes.
11. Time: within a boot no clock goes back; tokens of time (RFC 3161) are genuine and over this log.
12. Witnesses: the policy's quorum has cosigned a head of this log, not too long ago.
13. Unsealed: what no segment holds yet is counted; nothing is said about it.

`quick` makes steps 1 to 7, `stored` 1 to 8, `full` all; 10 to 13 need no frames and are made always. What could not be
checked is in the report and never counts as passed. A finding says what, where, and which evidence can't be trusted
because of it; all other evidence still can.

Memory does not grow with the log: entries are gone through once, segments are worked on as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sandtrail.errors import NotFoundError, StoreError, UsageError
from sandtrail.store.heads import Head, head_file, heads_folder, read_head, remember_head
from sandtrail.store.layout import Layout, is_folder, listed, present
from sandtrail.store.log import read_checkpoint
from sandtrail.store.merkle import leaf_hash
from sandtrail.store.position import spools
from sandtrail.store.tiles import WIDTH, bundle_path
from sandtrail.store.verify.entries import History
from sandtrail.store.verify.files import check_files
from sandtrail.store.verify.keys import Trust, check_checkpoint, check_head, find_keys, parse_keys
from sandtrail.store.verify.report import Affected, Finding, Report
from sandtrail.store.verify.state import State
from sandtrail.store.verify.stored import Stored
from sandtrail.store.verify.tree import SignedTree, cut_entries
from sandtrail.store.verify.witness import check_witnesses
from sandtrail.store.verify.work import Work

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from sandtrail.store.policy import Policy

__all__ = ["Finding", "Mode", "Report", "heads_folder", "remember_head", "verify"]

type Mode = Literal["quick", "stored", "full"]

_LIVE_TRIES = 50
_LIVE_RUNS = 3
# What a recorder at work, who has signed a reason since, can make appear.
_LIVE = {"blob-missing", "data-key-missing", "file-unaccounted", "kept-missing"}


def verify(
    home: Path,
    *,
    keys: Sequence[str] = (),
    head: Path | None = None,
    policy: Policy | None = None,
    max_age: float | None = None,
    now: float | None = None,
    roots: Sequence[Certificate] = (),
    mode: Mode = "full",
    jobs: int = 0,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Run the procedure over the store under `home` and report; changes nothing there.

    `keys`: the vkeys to trust, the identity's and the first epoch's. `head`: a remembered head; by default the one that
    the last good run of this user kept, if any. `policy`: which witnesses must have cosigned, and `max_age` how many
    seconds ago at most, counted from `now` (POSIX seconds, by default the clock's). `roots`: of authorities of time.
    `jobs`: how many segments at once, by default one for each core. `resume`: go on where an interrupted run with
    `resume` ended (see `State` for what that is worth). `progress` is called with (entries done, entries).

    Safe beside a recorder at work. Raises NotFoundError or UsageError when it cannot even begin (no store, no such
    head, malformed key), StoreError when its helpers die.
    """
    given = parse_keys(keys)
    layout = Layout(home)
    with _readable(home):
        if not is_folder(layout.log):
            raise NotFoundError(f"there is no store under {home}; name another with --home")
        remembered = read_head(head or head_file(home))
        if head is not None and remembered is None:
            raise UsageError(f"there is no remembered head at {head}")
        if remembered is None and given is None and not _begun(layout):
            raise NotFoundError(f"nothing has been signed under {home} yet")
    for _ in range(_LIVE_RUNS):
        report = Report(str(home), mode)
        run = _Run(report, layout, mode, jobs, progress)
        with _readable(home):
            trust = find_keys(report, home, given, remembered)
            if trust is None or not run.begin(trust):
                for step in range(3 if remembered else 4, 14):
                    report.skip(step, "there is no head that can be trusted")
            else:
                with State(home, trust.identity.vkey, mode, keep=resume) as state:
                    run.entries(trust, roots, state)
                run.others(trust, remembered, policy, max_age, now)
        live = {finding.type for finding in report.findings} <= _LIVE and not report.ok
        if not (live and read_checkpoint(layout.log) != run.note):
            break
    report.sort()
    return report


def _begun(layout: Layout) -> bool:
    """Whether there is anything that could be verified."""
    return present(layout.vkey) or any(path.name != "lock" for path in listed(layout.log))


@contextmanager
def _readable(home: Path) -> Iterator[None]:
    """What the disk does not say is no verdict. Raises StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot check {error.filename or home}: {error.strerror or error}") from error


class _Run:
    """One way through the procedure, under one checkpoint."""

    def __init__(
        self, report: Report, layout: Layout, mode: Mode, jobs: int, progress: Callable[[int, int], None] | None
    ) -> None:
        self._report = report
        self._layout = layout
        self._mode = mode
        self._jobs = jobs
        self._progress = progress
        self.tree: SignedTree | None = None
        self.note: bytes | None = None
        self.witnessed: bytes | None = None

    def begin(self, trust: Trust) -> bool:
        """Step 2, and a look at the tree's edge. A recorder replaces partial tiles as it signs: look again until the
        edge is that of one and the same state."""
        for _ in range(_LIVE_TRIES):
            # The witnessed head first: it is never ahead of a checkpoint that is read later.
            self.witnessed = _read(self._layout.witnessed / "checkpoint")
            self.note = read_checkpoint(self._layout.log)
            checkpoint = check_checkpoint(self._report, self._layout.checkpoint, self.note, trust.identity)
            if checkpoint is None:
                return False
            self._report.note = self.note or b""
            self.tree = SignedTree(self._layout.log, checkpoint)
            if self.tree.intact or read_checkpoint(self._layout.log) == self.note:
                break
        return True

    def entries(self, trust: Trust, roots: Sequence[Certificate], state: State) -> None:
        """Steps 4 to 11, and 13."""
        assert self.tree is not None
        report, tree, quick = self._report, self.tree, self._mode == "quick"
        history = History(report, tree, trust.identity, trust.epoch, roots)
        stored = Stored(report, self._layout, deep=self._mode == "full")
        with Work(self._layout.home, deep=self._mode == "full", jobs=self._jobs) as work:
            for first, count, leaves in tree.leaves(report):
                spared = leaves is not None and state.spares(report, first, leaves)
                for index, data in self._bundle(first, count, leaves, history):
                    entry = history.entry(index, data)
                    if entry is None or quick:
                        continue
                    if entry.kind == "segment" and not spared:
                        state.expect(first)
                        stored.take(work.add(first, entry.map), state)
                    elif entry.kind == "gap" and "sha256" in entry.map:
                        stored.kept(entry)
                stored.take(work.flush(first) if state.keep else work.ready(), state)
                state.close(first)
                if self._progress is not None:
                    self._progress(first + count, tree.checkpoint.size)
            stored.take(work.flush(0), state)
            stored.take(work.finish(), state)
        if tree.holds:
            history.finish(self.note or b"", trust.pinned)
            stored.settle(history)
            check_files(report, self._layout, tree, history.segments, history.kept)
        for step in range(5, 12) if not tree.holds else (8, 9) if quick else () if self._mode == "full" else (9,):
            report.skip(step, f"--{self._mode} leaves it out" if tree.holds else "nothing leads to the signed root")
        self._unsealed(history.spool)

    def others(
        self, trust: Trust, remembered: Head | None, policy: Policy | None, max_age: float | None, now: float | None
    ) -> None:
        """Steps 3 and 12: this log against what others have seen of it."""
        assert self.tree is not None
        if remembered is None:
            self._report.skip(3, "no head was remembered: a log that was cut back to an older state would not show")
        else:
            check_head(self._report, remembered, self.tree)
        check_witnesses(self._report, self._layout, self.tree, trust.identity, self.witnessed, policy, max_age, now)

    def _bundle(
        self, first: int, count: int, leaves: list[bytes] | None, history: History
    ) -> Iterator[tuple[int, bytes]]:
        """(index, entry) of those that the tree vouches for; the others are reported and lost."""
        last = first + count - 1
        if leaves is None or self.tree is None:
            history.lost(first, last)
            return
        path = bundle_path(self.tree.log, first // WIDTH, count)
        data = self.tree.read(path)
        entries, whole = cut_entries(data or b"")
        hashes = list(map(leaf_hash, entries))
        if not whole or len(entries) != count:
            bad = [at for at in range(count) if at >= len(entries) or hashes[at] != leaves[at]]
            self._damaged(path, data is None, first, bad)
        for index, leaf in enumerate(leaves, first):
            at = index - first
            if at < len(entries) and hashes[at] == leaf:
                yield index, entries[at]
                continue
            if whole and len(entries) == count:
                what = "what it says was not signed like this"
                self._report.find(4, "entry-changed", f"log entry {index}", what, Affected(entries=(index, index)))
            history.lost(index, index)

    def _damaged(self, path: Path, missing: bool, first: int, bad: list[int]) -> None:
        kind = "bundle-missing" if missing else "bundle-damaged"
        if not bad:
            self._report.find(4, kind, path, "it holds bytes that are no entry; its entries hold")
            return
        lost = Affected(entries=(first + bad[0], first + bad[-1]))
        what = f"log entries {first + bad[0]} to {first + bad[-1]} cannot be read ({len(bad)} of them)"
        self._report.find(4, kind, path, what, lost)

    def _unsealed(self, done: dict[str, int]) -> None:
        """Step 13."""
        for path in spools(self._layout.home):
            try:
                self._report.unsealed_bytes += max(0, path.stat().st_size - done.get(path.name, 0))
            except FileNotFoundError:  # retired while we looked
                continue


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
