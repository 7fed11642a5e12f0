"""What the agent said of itself over OTLP: beside a turn, closed until asked for, and never dressed up as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandtrail.ui.markup import Markup, block, disclosure, join, link, tag
from sandtrail.ui.shapes import Claim, Claims
from sandtrail.ui.text import as_text, json_lines, plain
from sandtrail.ui.views.lines import Scene

__all__ = ["claims_part", "unplaced_block"]

_WORD = "The agent's own word, sent from inside of the sandbox; nothing vouches for it."


def claims_part(claims: Sequence[Claim], total: int, scene: Scene) -> Markup | None:
    """Returns the claims of a turn; None where there are none."""
    if not claims:
        return None
    label = join("claimed by the agent ", tag("span", f"{total:,} {'claim' if total == 1 else 'claims'}", cls="dim"))
    body = join(tag("div", _WORD, cls="note"), [_claim(claim, scene) for claim in claims])
    return tag("div", disclosure(label, body), cls="part claimed")


def unplaced_block(claims: Claims, scene: Scene) -> Markup | None:
    """Returns the claims that name no turn, and what else was sent; None where nothing was."""
    others, left = claims["others"], claims["left_out"]
    if not (claims["unplaced"] or others or left):
        return None
    counts = [
        f"{claims['unplaced_total']:,} beside no turn",
        f"{others:,} spans, log records and metrics of something else" if others else "",
        f"{left:,} more are among the single events" if left else "",
    ]
    head = tag(
        "div",
        tag("span", "Claimed by the agent", cls="name"),
        tag("span", " · ".join(count for count in counts if count), cls="dim"),
        cls="turn-head",
    )
    body = join(tag("div", _WORD, cls="note"), [_claim(claim, scene) for claim in claims["unplaced"]])
    return tag("section", head, tag("div", body, cls="part claimed"), cls="turn", id="turn-claims")


def _claim(claim: Claim, scene: Scene) -> Markup:
    told, edge = claim["told"], claim["edge"]
    why = f"{edge['reason']} · {edge['confidence']:.2f}" if edge else claim["note"] or "it names no turn"
    otherwise = (
        tag("div", f"Otherwise than it was seen: {claim['note']}.", cls="note gap") if edge and claim["note"] else None
    )
    head = join(
        tag("b", plain(claim["title"], 120)),
        scene.time(_number(told.get("start_ns")) or claim["received_ns"]),
        tag("span", why, cls="dim"),
        link(scene.address.to_evidence(claim["ref"]), f"claim {claim['ref']}", cls="ref"),
    )
    rows = [
        tag("div", tag("b", name), block(value, "say"), cls="message")
        for name, value in _said(told)
        if as_text(value).strip()
    ]
    said = rows or tag("div", "it says no more", cls="note")
    mark = tag("span", "otherwise than seen", cls="pill warn") if otherwise else None
    return disclosure(join(head, mark), join(otherwise, said), cls="call")


def _said(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what a claim says, as name and text."""
    rows: list[tuple[str, Any]] = []
    tool = told.get("tool")
    if isinstance(tool, dict):
        rows += [("tool", tool.get("name")), ("arguments", tool.get("arguments")), ("result", tool.get("result"))]
    messages = told.get("output")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict):
            rows.append((str(message.get("role") or "said"), message.get("text")))
            calls = message.get("tool_calls")
            rows += [("call", call) for call in calls] if isinstance(calls, list) else []
    rows += [(name, told.get(name)) for name in ("error", "response_id", "usage", "service")]
    return [(name, value if isinstance(value, str) else json_lines(value)) for name, value in rows if value]


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
