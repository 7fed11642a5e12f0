"""Step 7 of `verify`: each epoch's key is certified by the one before it, over exactly the log that it closed, and the
newest one has signed the checkpoint."""

from __future__ import annotations

from sandtrail.errors import DamagedError
from sandtrail.store.epochs import Certificate, parse_certificate
from sandtrail.store.manifest import Entry
from sandtrail.store.note import Verifier, signed_by
from sandtrail.store.verify.report import Affected, Report
from sandtrail.store.verify.tree import SignedTree

__all__ = ["EpochChain"]


class EpochChain:
    """The epochs as the log's entries begin them, in their order."""

    def __init__(self, report: Report, tree: SignedTree, identity: Verifier, first: Verifier | None) -> None:
        """`first`: the key of the first epoch, where it is known from elsewhere."""
        self._report = report
        self._tree = tree
        self._identity = identity
        self._first = first
        self._current: Verifier | None = None
        self._lost = self._broken = False
        self.epoch = -1

    def lost(self) -> None:
        """Entries could not be read; a certificate may have been among them."""
        self._lost = True

    def entry(self, entry: Entry) -> None:
        """Take the next entry that could be read."""
        if entry.map["v"] == 1:
            if self.epoch >= 0:
                what = "an entry of the old format, which needs no epoch, after the first epoch had begun"
                self._report.find(6, "format-went-back", f"log entry {entry.index}", what, _one(entry))
            return
        claimed = entry.map["epoch"]
        if self._lost and claimed > self.epoch + (entry.kind == "epoch"):
            # The certificate was in entries that have been spoken about.
            self._break(entry, "epoch-missing", f"nothing readable certifies what comes before epoch {claimed}")
            self.epoch = claimed
        elif entry.kind == "epoch":
            self._begin(entry)
        elif claimed != self.epoch:
            what = f"it claims epoch {claimed} in epoch {self.epoch}"
            self._report.find(7, "epoch-wrong", f"log entry {entry.index}", what, _one(entry))
        self._lost = False

    def _begin(self, entry: Entry) -> None:
        number, self.epoch = self.epoch + 1, entry.map["epoch"]
        if self._broken:
            return
        try:
            certificate = parse_certificate(entry.map["certificate"], self._current or self._identity)
            self._judge(entry, certificate, number)
        except DamagedError as error:
            self._break(entry, "epoch-forged", f"the certificate of epoch {self.epoch} does not hold: {error}")
        else:
            self._current = certificate.verifier

    def _judge(self, entry: Entry, certificate: Certificate, number: int) -> None:
        if (certificate.epoch, self.epoch) != (number, number):
            raise DamagedError(f"epoch {number} comes next")
        if certificate.origin != self._identity.name:
            raise DamagedError(f"it is of the log {certificate.origin!r:.200}")
        if certificate.size != entry.index:
            raise DamagedError(f"it is over {certificate.size} entries, and there are {entry.index} before it")
        if self._tree.root_at(entry.index) != certificate.root:
            raise DamagedError("the entries before it are not those that it was made over")
        if number == 0 and self._first is not None and certificate.verifier != self._first:
            raise DamagedError("its key is not the one that was pinned")

    def _break(self, entry: Entry, kind: str, why: str) -> None:
        self._broken, self._current = True, None
        last = self._tree.checkpoint.size - 1
        what = f"{why}; whoever holds the identity's key could have written log entries {entry.index} to {last}"
        self._report.find(7, kind, f"log entry {entry.index}", what, Affected(entries=(entry.index, last)))

    def finish(self, note: bytes, pinned: bool) -> None:
        """Hold the checkpoint against the newest epoch. `pinned`: whether the first epoch's key is trusted."""
        report, log = self._report, self._tree.log
        report.epoch = self.epoch if self.epoch >= 0 else None
        if self._current is not None and not signed_by(note, self._current):
            what = f"the key of epoch {self.epoch}, which the log itself certifies, has not signed the checkpoint"
            report.find(7, "epoch-unsigned", log / "checkpoint", what, Affected(everything=True))
        elif self.epoch < 0 and pinned:
            what = "the first epoch's key is known, and no entry begins an epoch: this is another way on"
            report.find(7, "epoch-missing", log, what, Affected(everything=True))
        elif self.epoch < 0:
            report.skip(7, "no epoch has begun: whoever holds the log's one key can rewrite all of it")


def _one(entry: Entry) -> Affected:
    return Affected(entries=(entry.index, entry.index))
