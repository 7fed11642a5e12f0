"""Where a model call stands among the conversations of a session, and what is odd about its history."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandtrail.replay.turns.history import Change

__all__ = ["Place", "Started"]


@dataclass(frozen=True, slots=True)
class Started:
    """The tool call of another thread that a thread was started by."""

    call: int
    thread: int
    tool_call: str
    name: str
    confidence: float

    def words(self) -> str:
        """For a note."""
        which = f"{self.name}{f' ({self.tool_call})' if self.tool_call else ''}"
        return f"started by tool call {which} of thread {self.thread}, which its first message quotes"


@dataclass(slots=True)
class Place:
    """Where a call stands: its thread, what is new in it, and what happened to the history."""

    thread: int
    parent: int | None = None
    """The call that it continues, by number; None where it starts a thread."""
    new_from: int = 0
    """The first message that is new."""
    notes: list[str] = field(default_factory=list)
    started_by: Started | None = None
    altered: Change | None = None
    """The answer to the earlier call as this one's history has it, where that differs."""

    @property
    def note(self) -> str | None:
        """In plain words, where the history was edited, sent again or branched, or who started the thread."""
        said = [*self.notes]
        if self.started_by is not None:
            said.append(f"{self.started_by.words()} (confidence {self.started_by.confidence:.2f})")
        if self.altered is not None:
            said.append(f"the history does not hold what the model answered: {self.altered.words}")
        return "; ".join(said) or None
