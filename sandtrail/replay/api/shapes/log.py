"""What the HTTP API answers about the log: its head, what was erased or removed, how far the index is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sandtrail.replay.api.shapes.base import Ns, Shape

__all__ = ["Act", "Health", "Log", "Removal", "Removals"]


class Log(Shape):
    """The head of the log."""

    origin: str = Field(description="The log's name")
    size: int = Field(description="Entries")
    root: str = Field(description="Root hash, hex")
    signed_at: str | None = Field(description="When the checkpoint was written (the file's time, not signed)")
    checkpoint: str = Field(description="The signed checkpoint")
    vkey: str = Field(description="The key that checks it; compare it with a copy kept elsewhere")


class Act(Shape):
    """A signed act by which evidence was erased or removed."""

    log_index: int = Field(description="The log entry that says so")
    kind: Literal["erase", "retain"] = Field(description="erase: its keys were destroyed; retain: its time was over")
    at_ns: Ns
    reason: str = Field(description="Why, in the words of whoever did it")
    by: str = Field(description="Who did it")


class Removal(Act):
    """What was erased or removed. Nothing in it says of whom."""

    keys: list[str] = Field(description="Ids of the data keys that were destroyed, hex")
    segments: int = Field(description="How many segments")
    frames: int = Field(description="How many frames")
    from_ns: int | None = Field(description="When the first of these frames was received")
    to_ns: int | None = Field(description="When the last was received")


class Removals(Shape):
    """What was erased or removed, the newest first."""

    removals: list[Removal] = Field(description="The acts")


class Health(Shape):
    """Whether this server can answer."""

    status: Literal["ok", "behind"] = Field(description="behind: the index has not caught up with the log")
    version: str = Field(description="Of Sandtrail")
    follower: str = Field(description="on: here; off: none was asked for; waiting: another process has its place")
    log_entries: int = Field(description="Entries under the latest checkpoint")
    indexed_entries: int = Field(description="Entries that are in the index")
