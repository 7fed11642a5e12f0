"""What a verification says: findings, and what was looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Finding", "Report"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold: in which step of `verify` it showed, what, where, and what follows from it."""

    step: int
    type: str
    place: str
    consequence: str


@dataclass(slots=True)
class Report:
    """What `verify` found. `ok` is the verdict over everything that was checked."""

    home: str
    origin: str = ""
    size: int = 0
    root: str = ""
    key: str = ""
    key_from: str = ""
    head: str = ""
    segments: int = 0
    frames: int = 0
    gaps: int = 0
    unsealed_bytes: int = 0
    # Files that a recorder writes before it signs for them; one that is killed leaves them to its successor.
    unsigned_files: int = 0
    findings: list[Finding] = field(default_factory=list)
    # The checkpoint as it was read, for `remember_head`; the rest of the report says what is in it.
    note: bytes = field(default=b"", repr=False)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def find(self, step: int, kind: str, place: object, consequence: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(step, kind, str(place), consequence))

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        facts = asdict(self)
        del facts["note"]
        return {"ok": self.ok, **facts}
