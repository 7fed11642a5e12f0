"""What the HTTP API answers about sessions as a whole."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sandtrail.replay.api.shapes.base import Ns, Ref, Shape

__all__ = ["Completeness", "Loss", "Session", "SessionDetail", "Sessions", "Source"]


class Source(Shape):
    """A place outside of the sandbox from which something was seen."""

    stream: str = Field(description="The stream's number, 16 hex digits")
    source: str = Field(
        description="gvisor, lifecycle, gateway, netfilter, conntrack, claims, stdio, litellm, envoy, hubble or "
        "collector"
    )
    ref: Ref
    sees: list[str] = Field(description="What it can see, in its own words")
    blind: list[str] = Field(description="What it cannot see, in its own words")
    descriptor: dict[str, Any] = Field(description="The stream's first frame, decoded")
    frames: int = Field(description="Frames received so far")
    dropped: int = Field(description="Messages known to be lost")
    closed: bool = Field(description="Whether its end was recorded")
    reason: str = Field(description="Why it ended")


class Completeness(Shape):
    """Whether the record begins with the sandbox's first instruction."""

    from_first_instruction: bool = Field(description="Proven to begin with the first instruction")
    reason: str = Field(description="How that is known, or why it is not")
    egress: bool | None = Field(description="Every byte that left the link is accounted for; null where nothing tells")
    egress_reason: str = Field(description="How that is known, or what is missing")
    claims: bool | None = Field(
        description="All telemetry that the agent sent us of itself is kept; null where nobody listened for it"
    )
    claims_reason: str = Field(description="What of it is missing")


class Session(Shape):
    """One run of an agent."""

    id: str = Field(description="The session's id")
    sandbox: str = Field(description="The sandbox's id")
    command: list[str] = Field(description="What the operator ran")
    state: Literal["recording", "ended"] = Field(description="Whether it goes on")
    started_ns: Ns
    ended_ns: Ns | None = Field(description="Nanoseconds since 1970-01-01 UTC; null while it goes on")
    exit_status: int | None = Field(description="The command's exit status; null where it is not known")
    turns: int = Field(description="Turns so far, the start included")
    events: int = Field(description="Decoded events so far")
    gaps: int = Field(description="Recorded gaps so far")
    findings: int = Field(description="Findings so far")
    grave: int = Field(description="Those of them whose severity is high")


class Loss(Shape):
    """A part of a session's evidence that was removed after its time."""

    log_index: int = Field(description="The log entry that says so, the latest")
    frames: int = Field(description="Frames that were removed, in all")


class SessionDetail(Session):
    """One session and how it was recorded."""

    removed: Loss | None = Field(description="What of its evidence was removed; null where all of it is there")
    held: list[str] = Field(description="Cases for which it must not be erased")

    sources: list[Source] = Field(description="Where it was seen from")
    completeness: Completeness = Field(description="Whether the record begins with the first instruction")


class Sessions(Shape):
    """Sessions, the newest first."""

    sessions: list[Session] = Field(description="The sessions")
    next: str | None = Field(description="Pass as `cursor` for older ones; null at the end")
