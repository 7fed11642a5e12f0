"""Exports as real instrumentations sent them (tests/fixtures/claims), and as a test makes them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandtrail.replay.decode.otlp import claim_events

FIXTURES = Path(__file__).parents[2] / "fixtures" / "claims"


def frame(body: bytes, signal: str = "traces", protocol: str = "http/protobuf", **more: Any) -> bytes:
    """The receiver's frame of an export."""
    told = {"t": "export", "signal": signal, "protocol": protocol, "body": base64.b64encode(body).decode(), **more}
    return json.dumps(told).encode()


def recorded(name: str, *, zipped: bool = False) -> list[dict[str, Any]]:
    """The claims in one of the fixtures."""
    body = (FIXTURES / f"{name}.bin").read_bytes()
    signal = name.rpartition(".")[2]
    payload = frame(gzip.compress(body), signal, encoding="gzip") if zipped else frame(body, signal)
    return claims(payload)


def claims(payload: bytes) -> list[dict[str, Any]]:
    """The claims of a frame."""
    return [event[4] for event in claim_events(payload) if event[0] in ("claim.span", "claim.log")]


def value(held: Any) -> dict[str, Any]:
    """An AnyValue in JSON."""
    if isinstance(held, bool):
        return {"boolValue": held}
    if isinstance(held, int):
        return {"intValue": str(held)}
    if isinstance(held, list):
        return {"arrayValue": {"values": [value(one) for one in held]}}
    if isinstance(held, dict):
        return {"kvlistValue": {"values": [{"key": key, "value": value(one)} for key, one in held.items()]}}
    return {"stringValue": held}


def attributes(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(held)} for key, held in told.items()]


def span(
    told: dict[str, Any], name: str = "a span", events: Sequence[tuple[str, dict[str, Any]]] = ()
) -> dict[str, Any]:
    """The claim of a span with these attributes, sent as JSON."""
    one = {"name": name, "traceId": "ab" * 16, "spanId": "cd" * 8, "attributes": attributes(told)}
    one["events"] = [{"name": event, "attributes": attributes(held)} for event, held in events]
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}
    (claim,) = claims(frame(json.dumps(document).encode(), protocol="http/json"))
    return claim
