"""What the HTTP API answers about one frame: what it says and what proves it, or what still holds of it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from sandtrail.replay.api.shapes.base import Ns, Problem, Ref, Shape
from sandtrail.replay.api.shapes.events import EventRow
from sandtrail.replay.api.shapes.log import Act

__all__ = [
    "BodyShape",
    "CheckShape",
    "Digests",
    "EntryProof",
    "Evidence",
    "FrameShape",
    "Gone",
    "Position",
    "ProofShape",
]


class FrameShape(Shape):
    """The frame as it was received."""

    stream: str = Field(description="16 hex digits")
    seq: int = Field(description="Its number in the stream")
    kind: str = Field(description="OPEN, DATA, NOTE or CLOSE")
    realtime_ns: Ns
    monotonic_ns: int = Field(description="Nanoseconds of CLOCK_MONOTONIC at receipt")
    boottime_ns: int = Field(description="Nanoseconds of CLOCK_BOOTTIME at receipt")
    size: int = Field(description="Bytes of the payload")


class Position(Shape):
    """Where in the log it lies."""

    segment: int = Field(description="Which segment")
    index: int = Field(description="Which frame of the segment")
    log_index: int = Field(description="Which entry of the log is the segment's manifest")
    log_size: int = Field(description="Entries under the checkpoint")
    origin: str = Field(description="The log's name")


class ProofShape(Shape):
    """What ties the frame to the signature. Hashes are hex."""

    salt: str = Field(description="What the leaf is salted with; empty for what was stored without a key")
    leaf: str = Field(description="The frame's leaf hash: SHA-256 over 00, salt, stream, seq, kind, clocks, payload")
    inner: list[str] = Field(description="From the leaf to the segment's root")
    inner_root: str = Field(description="The segment's root, as its manifest has it")
    outer: list[str] = Field(description="From the manifest to the log's root")
    root: str = Field(description="The log's root, as the checkpoint has it")
    checkpoint: str = Field(description="The signed checkpoint")


class CheckShape(Shape):
    """One step of the verification."""

    step: str = Field(description="What has to hold")
    ok: bool = Field(description="Whether it does")
    detail: str = Field(description="What was compared, or what is wrong")


class BodyShape(Shape):
    """The body that the frame carries, its content coding undone."""

    bytes: int = Field(description="How long it is")
    recorded: int = Field(description="How many bytes were recorded of it, coded as they came")
    media: str = Field(description="Its media type, as its headers say")
    problems: list[str] = Field(description="Why it could not be decoded whole")
    text: str | None = Field(
        description="Its first 256 KiB; null where they are no UTF-8. All: /v1/evidence/{ref}/body"
    )
    truncated: bool = Field(description="The body is longer than that")


class Evidence(Shape):
    """One frame, what it says, and the proof that it is as it was received, checked for this answer."""

    ref: Ref
    frame: FrameShape | None = Field(description="null where the segment cannot be read")
    source: dict[str, Any] = Field(description="What the frame's stream says of itself")
    raw_hex: str = Field(description="The payload's first 64 KiB")
    raw_truncated: bool = Field(description="The payload is longer")
    decoded: list[EventRow] = Field(description="The events that it became")
    fields: Any = Field(description="The payload as a tree of named fields")
    body: BodyShape | None = Field(description="What it carries over HTTP; null where it carries nothing")
    position: Position = Field(description="Where in the log it lies")
    proof: ProofShape = Field(description="What ties it to the signature")
    verified: bool = Field(description="Every step was made and held")
    checks: list[CheckShape] = Field(description="The steps, as far as they went")
    previous: str | None = Field(description="The frame before it in the same stream and segment")
    next: str | None = Field(description="The frame after it in the same stream and segment")


class Digests(Shape):
    """What the log still holds of a segment that can't be read any more. Hashes are hex."""

    blob: str = Field(description="SHA-256 of the stored bytes")
    size: int = Field(description="How many bytes")
    kept: bool = Field(description="These bytes are still there, and still have that digest")
    inner_root: str = Field(description="The root of the segment's tree: proofs handed out before still lead to it")
    frames: int = Field(description="Leaves of that tree")


class EntryProof(Shape):
    """What ties the segment's manifest to the signature. Hashes are hex."""

    leaf: str = Field(description="The log entry's leaf hash")
    outer: list[str] = Field(description="From the manifest to the log's root")
    root: str = Field(description="The log's root, as the checkpoint has it")
    checkpoint: str = Field(description="The signed checkpoint")


class Gone(Problem):
    """A frame that was erased or removed (RFC 9457, with members of its own): what still holds of it."""

    ref: Ref
    position: Position = Field(description="Where in the log it lies")
    digests: Digests = Field(description="What the log still holds")
    proof: EntryProof = Field(description="What ties these to the signature, checked for this answer")
    removal: Act = Field(description="The signed act that took it away")
