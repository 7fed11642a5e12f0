"""Frames of other people's gateways -> events: what each of them tells, marked as told by it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, Final

from sandtrail.replay.decode.others.drafted import Drafted, unknown
from sandtrail.replay.decode.others.envoy import envoy_events, envoy_messages
from sandtrail.replay.decode.others.hubble import hubble_events
from sandtrail.replay.decode.others.litellm import litellm_events
from sandtrail.replay.decode.text import as_text

__all__ = ["OTHERS", "other_events", "other_tree", "record_of"]

Record = dict[str, Any]
_READERS: Final[dict[str, Callable[[Record], list[Drafted]]]] = {
    "litellm": litellm_events,
    "envoy": envoy_events,
    "hubble": hubble_events,
}
OTHERS: Final = frozenset(_READERS)
"""The sources that are not ours."""


def record_of(payload: bytes) -> tuple[Record, bytes]:
    """A frame and the record in it, as it came; never raises. Both are empty where there is none."""
    try:
        frame = json.loads(payload)
    except (ValueError, RecursionError):
        return {}, b""
    data = frame.get("data") if isinstance(frame, dict) else None
    try:
        return (frame, base64.b64decode(data)) if isinstance(data, str) else ({}, b"")
    except (binascii.Error, ValueError):
        return {}, b""


def other_events(source: str, payload: bytes) -> list[Drafted]:
    """The events of one frame of such a source; never raises."""
    frame, data = record_of(payload)
    if frame.get("t") != "record":
        return [unknown(source, "a frame that holds no record", payload)]
    if frame.get("via") == "grpc":
        return envoy_messages(data)
    record = _map(data)
    if record is None:
        why = "a record that is cut" if frame.get("cut") else "a line that is no JSON object"
        return [unknown(source, why, data)]
    return _READERS[source](record)


def _map(data: bytes) -> Record | None:
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def other_tree(payload: bytes) -> Record:
    """A frame for a person who looks at the evidence: with its record in place of base64."""
    frame, data = record_of(payload)
    about = {key: value for key, value in frame.items() if key != "data"}
    if frame.get("via") == "grpc":
        return {
            **about,
            "read": [{"kind": kind, "object": thing, **more} for kind, _, thing, _, more in envoy_messages(data)],
        }
    record = _map(data)
    return {**about, "record": record if record is not None else as_text(data, 64 << 10)}
