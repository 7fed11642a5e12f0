"""What all readers of the trace share, and what each of them hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandtrail.collector.runsc.points import Profile
from sandtrail.collector.runsc.trace import Metadata, session

__all__ = ["Open", "Received", "Workshop"]


@dataclass
class Received:
    """What a reader got of one run.

    `sealed_s` and `indexed_s`: from the end of the last sandbox until its last frame is signed, or in the index.
    """

    frames: int | None = None
    dropped: int | None = None
    restarts: int = 0
    sealed_s: float | None = None
    indexed_s: float | None = None
    disk_bytes: int | None = None
    cpu_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Open:
    """A reader that is ready: one session per sandbox, and the result, which is filled in when the reader closes."""

    sessions: list[dict[str, Any] | None]
    received: Received = field(default_factory=Received)


class Workshop:
    """What all readers share: a folder, the runtime's points, the compiled floor."""

    def __init__(self, folder: Path, metadata: Metadata, discard: Path, profile: Profile) -> None:
        self.profile: Profile = profile
        self.folder = folder
        self.discard = discard
        self._metadata = metadata
        self._rounds = 0

    def new_folder(self) -> Path:
        """A folder for one run."""
        self._rounds += 1
        made = self.folder / f"r{self._rounds}"
        made.mkdir()
        return made

    def trace(self, endpoint: str) -> dict[str, Any]:
        """The trace session that Sandtrail itself would use: every variant has the same points."""
        return session(self._metadata, endpoint, profile=self.profile).config
