"""Frames of the receiver of claims -> claim.* events: one `claim.export` an export, and then what it holds.

The agent's clock is the agent's word, too: an event has the time of its receipt, and what it says of times is in its
detail.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from sandtrail.replay.claims.item import Item, Items
from sandtrail.replay.claims.normal import claim_of
from sandtrail.replay.claims.otlp_json import read_json
from sandtrail.replay.claims.protobuf import read_protobuf
from sandtrail.replay.decode.text import as_int, as_text
from sandtrail.replay.models.body import decode_body

__all__ = ["claim_events", "export_tree", "read_export"]

MAX_EXPORT: Final = 16 << 20
_SHOWN: Final = 200
_SIGNALS: Final = frozenset({"traces", "logs", "metrics"})

Drafted = tuple[str, int, str, int | None, dict[str, Any]]
"""kind, time_ns (0: not told), object, result, detail."""


def claim_events(payload: bytes) -> list[Drafted]:
    """The events of one frame; never raises."""
    try:
        frame = json.loads(payload)
    except (ValueError, RecursionError) as error:
        return [_unknown(f"a claims frame that is not JSON: {type(error).__name__}", payload)]
    if not isinstance(frame, dict):
        return [_unknown("a claims frame that is no map", payload)]
    kind = frame.get("t")
    if kind == "export":
        return _export(frame)
    if kind in ("refused", "close"):
        client = [as_text(part, 64) if isinstance(part, str) else as_int(part) for part in _list(frame.get("client"))]
        sums = {key: as_int(frame.get(key)) for key in ("port", "up_bytes", "down_bytes") if key in frame}
        reason = as_text(frame.get("reason"), 500)
        return [(f"claim.{kind}", as_int(frame.get("at_ns")), reason, None, {"client": client[:2], **sums})]
    return [_unknown(f"a claims frame of kind {as_text(kind, 40)!r}", payload)]


def read_export(frame: dict[str, Any]) -> Items:
    """What an export's frame holds; never raises."""
    out = Items()
    signal = as_text(frame.get("signal"), 20)
    if signal not in _SIGNALS:
        out.problem("an export of no known signal")
        return out
    body = frame.get("body")
    try:
        data = base64.b64decode(body) if isinstance(body, str) else b""
    except (binascii.Error, ValueError):
        out.problem("a body that is not base64")
        return out
    if not frame.get("decoded"):
        data, troubles = decode_body(data, [("content-encoding", as_text(frame.get("encoding"), 100))], MAX_EXPORT)
        for trouble in troubles:
            out.problem(trouble)
    found = (read_json if frame.get("protocol") == "http/json" else read_protobuf)(signal, data)
    found.problems.update(out.problems)
    return found


def export_tree(frame: dict[str, Any]) -> dict[str, Any]:
    """An export for a person who looks at the evidence: its frame, and in place of the body what is in it."""
    if frame.get("t") != "export":
        return frame
    found = read_export(frame)
    head = {key: value for key, value in frame.items() if key != "body"}
    items = [
        {name: value for name in Item.__slots__ if (value := getattr(item, name)) not in ("", 0, None, {}, [], False)}
        for item in found.items[:_SHOWN]
    ]
    return {**head, "items_total": found.total, "not_understood": dict(found.problems), "items": items}


def _export(frame: dict[str, Any]) -> list[Drafted]:
    found = read_export(frame)
    signal, at_ns = as_text(frame.get("signal"), 20), as_int(frame.get("end_ns"))
    detail: dict[str, Any] = {key: as_text(frame.get(key), 100) for key in ("signal", "protocol", "encoding")}
    detail |= {
        key: as_int(frame.get(key)) for key in ("port", "status", "body_bytes", "redacted", "withheld") if key in frame
    }
    detail |= {"sha256": as_text(frame.get("body_sha256"), 64), "cut": frame.get("cut") is True, "items": found.total}
    if left := found.total - len(found.items):
        detail["left_out"] = left
    if found.unreadable:
        detail["unreadable"] = found.unreadable
    if found.problems:
        detail["not_understood"] = dict(found.problems)
    events: list[Drafted] = [("claim.export", at_ns, signal, found.total, detail)]
    return events + [_claim(item, at_ns) for item in found.items]


def _claim(item: Item, at_ns: int) -> Drafted:
    if item.kind == "metric":
        told = {key: as_text(value, 100) for key, value in item.attributes.items()}
        service = as_text(item.resource.get("service.name"), 200)
        return "claim.metric", at_ns, item.name[:400], item.points, {**told, "service": service, "scope": item.scope}
    claim = claim_of(item)
    thing = " ".join(part for part in (claim.get("operation", ""), _what(claim)) if part) or claim.get("name", "")
    return f"claim.{item.kind}", at_ns, thing[:400], None, claim


def _what(claim: dict[str, Any]) -> str:
    """What a claim is about, in a word."""
    tool, agent = claim.get("tool", {}), claim.get("agent", {})
    if claim.get("operation") == "execute_tool":
        return str(tool.get("name", ""))
    if claim.get("operation") in ("invoke_agent", "create_agent"):
        return str(agent.get("name", "") or agent.get("id", ""))
    return str(claim.get("model") or claim.get("response_model") or "") if claim.get("operation") else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _unknown(reason: str, payload: bytes) -> Drafted:
    detail = {"type": "claims", "reason": reason, "bytes": len(payload), "head": payload[:64].hex()}
    return "unknown", 0, reason, None, detail
