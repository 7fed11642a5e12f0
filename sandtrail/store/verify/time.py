"""Step 11 of `verify`: what the times in a log's entries say of each other, and tokens of time of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sandtrail.errors import DamagedError
from sandtrail.store.clocks import TimeCheck, TimeFinding
from sandtrail.store.manifest import Entry
from sandtrail.store.note import Verifier, parse_checkpoint, parse_note, signed_by
from sandtrail.store.verify.report import Report
from sandtrail.store.verify.tree import SignedTree

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from sandtrail.store.timestamp import Stamped

__all__ = ["Times"]


class Times:
    """Takes every entry in order. What contradicts something else is a finding, what is worth knowing a remark."""

    def __init__(
        self,
        report: Report,
        tree: SignedTree,
        identity: Verifier,
        roots: Sequence[Certificate],
        remark: Callable[[str], None],
    ) -> None:
        self._report = report
        self._tree = tree
        self._identity = identity
        self._roots = roots
        self._remark = remark
        self._check = TimeCheck()
        self._clock: tuple[str, list[int]] = ("", [0, 0, 0])
        self._newest: tuple[int, Stamped] | None = None

    def entry(self, entry: Entry) -> None:
        """Take the next entry that could be read."""
        if entry.kind == "clock":
            self._report.clock_steps += 1
        if "at" in entry.map:
            self._at(entry)
        self._tell(self._check.entry(entry))
        if entry.kind == "time":
            self._token(entry)

    def finish(self) -> None:
        """All entries have been taken."""
        if self._newest:
            size, token = self._newest
            when = datetime.fromtimestamp(token.time / 1e9, UTC).isoformat(" ", "seconds")
            self._remark(f"the first {size} log entries were there at {when}, says {token.authority}")

    def _tell(self, found: Iterable[TimeFinding]) -> None:
        for one in found:
            if one.contradiction:
                self._report.find(11, one.kind, f"log entry {one.index}", one.text)
            else:
                self._remark(one.text)

    def _at(self, entry: Entry) -> None:
        """Within one boot, neither MONOTONIC nor BOOTTIME goes back."""
        boot, at = entry.map["boot"], entry.map["at"]
        if boot == self._clock[0] and any(now < before for now, before in zip(at[1:], self._clock[1][1:], strict=True)):
            what = "its time is earlier than that of an entry before it; when it was written is not known"
            self._report.find(11, "clock-went-back", f"log entry {entry.index}", what)
        self._clock = (boot, at)

    def _token(self, entry: Entry) -> None:
        """A token of time is genuine, and over a checkpoint of this very log."""
        size = entry.map["size"]
        try:
            stamped = self._stamped(entry.map, entry.index)
            if not self._roots:
                self._report.skip(11, "tokens of time are not judged without the roots of their authority")
                return
            from sandtrail.store.timestamp import check_token

            token = check_token(entry.map["token"], stamped, self._roots)
        except DamagedError as error:
            what = f"it does not prove when log entries before {size} were written: {error}"
            self._report.find(11, "time-token-invalid", f"log entry {entry.index}", what)
            return
        self._report.tokens += 1
        self._newest = size, token
        self._tell(self._check.token(entry.index, size, token))

    def _stamped(self, fields: dict[str, Any], index: int) -> bytes:
        note = parse_note(fields["checkpoint"])
        checkpoint = parse_checkpoint(note.text)
        if checkpoint.origin != self._identity.name or not signed_by(note, self._identity):
            raise DamagedError("what it stamps is no checkpoint of this log")
        if checkpoint.size != fields["size"] or checkpoint.size > index:
            raise DamagedError("the checkpoint that it stamps is of another size")
        if self._tree.root_at(checkpoint.size) != checkpoint.root:
            raise DamagedError("the checkpoint that it stamps does not fit this log")
        return bytes(fields["checkpoint"])
