"""What the HTTP API answers about a session from its beginning to its end, and what a reviewer has to see in it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sandtrail.replay.api.shapes.base import Ns, Ref, Shape
from sandtrail.replay.api.shapes.session import SessionDetail
from sandtrail.replay.api.shapes.turn import ClaimShape, Output, Turn

__all__ = ["Finding", "Findings", "Gap", "SessionFinding", "Timeline", "UnplacedClaims"]


class Finding(Shape):
    """Something that a reviewer has to see."""

    id: str = Field(description="Stable as long as the evidence is")
    verdict: str = Field(
        description="EXFILTRATION_ATTEMPT, UNDECIDED_ACTION, BYPASS, PHANTOM, RESULT_MISMATCH, ARG_MISMATCH, "
        "HISTORY_MISMATCH, UNREPORTED or UNOBSERVABLE"
    )
    severity: Literal["high", "medium", "low"] = Field(description="How grave")
    title: str = Field(description="In one line")
    explanation: str = Field(description="Why it is one, and what would make it innocent")
    turn: int | None = Field(description="The turn that it belongs to")
    refs: list[str] = Field(description="The evidence that it rests on")


class SessionFinding(Finding):
    """A finding, and the session in which it is."""

    session: str = Field(description="The session's id")


class Findings(Shape):
    """Findings of many sessions, those of the newest first."""

    findings: list[SessionFinding] = Field(description="The findings")
    next: str | None = Field(description="Pass as `cursor` for those of older sessions; null at the end")


class Gap(Shape):
    """Evidence that is known to be missing."""

    ref: Ref
    cause: str = Field(description="Why it is missing")
    count: int | None = Field(description="How many messages; null where nobody knows")
    from_ns: Ns | None = Field(description="Not before; nanoseconds since 1970-01-01 UTC")
    to_ns: Ns | None = Field(description="Not after; null while it goes on or nobody knows")
    stream: str = Field(description="Where")
    what: str = Field(description="What is missing, in words")
    bytes: dict[str, dict[str, int]] | None = Field(
        description="Of egress: `packets` and `bytes`, `up` from the sandbox and `down` to it; negative where too much"
    )


class UnplacedClaims(Shape):
    """Claims that name no turn, and counts of all."""

    unplaced: list[ClaimShape] = Field(description="The first 100 that stand beside no turn")
    unplaced_total: int = Field(description="How many such there are")
    total: int = Field(description="Claims of operations in the session")
    others: int = Field(description="Spans, log records and metrics that tell of no operation; see the events")
    left_out: int = Field(description="Claims of operations beyond those that are matched with turns")


class Timeline(Shape):
    """A session, turn by turn."""

    session: SessionDetail = Field(description="The session as a whole")
    turns: list[Turn] = Field(description="Those that were asked for, in order")
    turns_total: int = Field(description="How many turns there are")
    unexplained: list[Output] = Field(description="What no decision explains; the first 500 rows")
    unexplained_total: int = Field(description="How many such rows there are")
    findings: list[Finding] = Field(description="The gravest first")
    gaps: list[Gap] = Field(description="The first 500 gaps")
    gaps_total: int = Field(description="How many gaps there are")
    claims: UnplacedClaims = Field(description="What the agent said of itself beside no turn, and counts")
