"""What the HTTP API answers about decoded events."""

from __future__ import annotations

from pydantic import Field

from sandtrail.replay.api.shapes.base import Ns, Ref, Shape

__all__ = ["EventRow", "Events"]


class EventRow(Shape):
    """One decoded event; see docs/architecture.md, "Events"."""

    ref: Ref
    session: str = Field(description="The session's id")
    sandbox: str = Field(description="The sandbox's id")
    source: str = Field(description="Where it was seen from")
    kind: str = Field(description="What happened")
    time_ns: Ns
    received_ns: Ns
    seq: int = Field(description="The frame's number in its stream")
    container: str = Field(description="The container's id")
    pid: int = Field(description="Process, as numbered inside of the sandbox")
    pid_start_ns: int = Field(description="When that process started")
    tid: int = Field(description="Thread")
    ppid: int = Field(description="The process that started it")
    process: str = Field(description="The process's name, which it gives itself")
    exe: str = Field(description="The program that it runs")
    cwd: str = Field(description="Its working folder")
    uid: int | None = Field(description="Effective user; null where the source does not say")
    gid: int | None = Field(description="Effective group; null where the source does not say")
    object: str = Field(description="What it was done to")
    result: int | None = Field(description="What the call returned")
    errno: int | None = Field(description="Why it failed; 0 where it did not")
    detail: str = Field(description="What else the message said, as JSON")
    n: int = Field(description="Which event of the frame")


class Events(Shape):
    """Events in order of time."""

    events: list[EventRow] = Field(description="The rows")
    next: str | None = Field(description="Pass as `after` for those that follow; null at the end")
