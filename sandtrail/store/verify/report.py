"""What a verification says: what was checked and what was not, findings, and what they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = ["STEPS", "Affected", "Finding", "Report"]

STEPS = {
    1: "keys",
    2: "checkpoint signatures",
    3: "remembered head",
    4: "tree",
    5: "files accounted for",
    6: "entries",
    7: "epochs",
    8: "blobs",
    9: "frames",
    10: "streams",
    11: "time",
    12: "witnesses",
    13: "unsealed",
}
_MAX_OF_A_KIND = 1000


@dataclass(frozen=True, slots=True)
class Affected:
    """The evidence that a finding takes the trust from; everything else keeps it. None of it where all is empty.

    `entries` and `segments` are ranges, first and last, of log entries and of segments; `frames` how many, where that
    is known; `streams` their ids (16 hex); `sandbox` whose they are, where that can be told.
    """

    everything: bool = False
    entries: tuple[int, int] | None = None
    segments: tuple[int, int] | None = None
    frames: int | None = None
    streams: tuple[str, ...] = ()
    sandbox: str = ""

    def as_dict(self) -> dict[str, Any]:
        """What there is to say, as plain data."""
        facts = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items() if value}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold: the step of `verify` in which it showed, what, where, and what follows from it.

    `type` is one of the words of docs/verification.md and stays what it is from version to version.
    """

    step: int
    type: str
    place: str
    consequence: str
    affected: Affected = field(default_factory=Affected)

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain data."""
        return {
            "step": self.step,
            "type": self.type,
            "place": self.place,
            "consequence": self.consequence,
            "affected": self.affected.as_dict(),
        }


@dataclass(slots=True)
class Report:
    """What `verify` found. `ok` is the verdict over everything that was checked; `skipped` says what was not.

    `frames` were rebuilt from what is stored and lead to the signed root; `erased` and `retained` count segments whose
    data key or blob a signed entry says has been removed. `note` is the checkpoint as it was read.
    """

    # What the steps are called; another procedure has others.
    step_names: ClassVar[dict[int, str]] = STEPS

    home: str
    mode: str = "full"
    origin: str = ""
    size: int = 0
    root: str = ""
    key: str = ""
    epoch_key: str = ""
    key_from: str = ""
    head: str = ""
    epoch: int | None = None
    segments: int = 0
    frames: int = 0
    erased: int = 0
    retained: int = 0
    # Segments that an interrupted run had found good, at or after the time beside it, and that this one has not read.
    spared: int = 0
    spared_since: str = ""
    gaps: int = 0
    clock_steps: int = 0
    tokens: int = 0
    witnessed: str = ""
    unsealed_bytes: int = 0
    # Files that a recorder writes before it signs for them; one that is killed leaves them to its successor.
    unsigned_files: int = 0
    note: bytes = field(default=b"", repr=False)
    findings: list[Finding] = field(default_factory=list)
    skipped: dict[int, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)
    _kinds: Counter[str] = field(default_factory=Counter, repr=False)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def find(self, step: int, kind: str, place: object, consequence: str, affected: Affected | None = None) -> None:
        """Add a finding; of very many of one kind the rest is counted in `more`."""
        self._kinds[kind] += 1
        if self._kinds[kind] > _MAX_OF_A_KIND:
            self.more[kind] += 1
        else:
            self.findings.append(Finding(step, kind, str(place), consequence, affected or Affected()))

    def skip(self, step: int, why: str) -> None:
        """Say that a step, or a part of it, was not checked; what was said first about it stays."""
        self.skipped.setdefault(step, why)

    def sort(self) -> None:
        """Bring the findings into the order of the steps, whoever found them first."""
        self.findings.sort(key=lambda finding: finding.step)

    @property
    def standing(self) -> str:
        """What can still be trusted, in a sentence."""
        if self.ok:
            return "everything that was checked can be trusted"
        if any(finding.affected.everything for finding in self.findings):
            return "nothing in this log can be trusted"
        return self._untouched()

    def _untouched(self) -> str:
        touched = [finding.affected for finding in self.findings if finding.affected.as_dict()]
        if not touched:
            return "no frame is affected: all evidence that was checked can still be trusted"
        lost = sum(one.segments[1] - one.segments[0] + 1 for one in touched if one.segments)
        return f"all other evidence that was checked can still be trusted ({max(0, self.segments - lost)} segments)"

    def steps(self) -> list[dict[str, Any]]:
        """Each step with what became of it: passed, failed, or not checked (then why)."""
        failed = {finding.step for finding in self.findings}
        states = []
        for step, name in self.step_names.items():
            state = "failed" if step in failed else "not checked" if step in self.skipped else "passed"
            why = {"why": self.skipped[step]} if step in self.skipped else {}
            states.append({"step": step, "name": name, "state": state, **why})
        return states

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        hidden = {"note", "findings", "skipped", "more", "_kinds"}
        facts = {name: getattr(self, name) for name in self.__slots__ if name not in hidden}
        facts |= {"standing": self.standing, "steps": self.steps(), "more": dict(self.more)}
        return {"ok": self.ok, **facts, "findings": [finding.as_dict() for finding in self.findings]}
