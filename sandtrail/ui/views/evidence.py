"""One frame: what it says, its very bytes, where it lies in the log and whether that was proven just now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sandtrail.ui.address import Address
from sandtrail.ui.markup import Child, Markup, block, disclosure, join, link, tag
from sandtrail.ui.shapes import Body, Check, Evidence
from sandtrail.ui.text import as_text, clock, day, pieces, plain, size

__all__ = ["fields_panel", "head", "hex_dump", "hex_panel", "position_panel", "verdict_panel"]

_HEX_BYTES = 64 * 1024
_HEX_FIRST = 4 * 1024
_TREE_NODES = 4000
_TREE_DEPTH = 24
_SHORT_LIST = 8
_SURELY_A_DATE = 10**18  # nanoseconds; clocks that count from the boot are far below
_CLOCKS = (("realtime", "realtime_ns"), ("monotonic", "monotonic_ns"), ("boot time", "boottime_ns"))


def head(
    evidence: Evidence, address: Address, earlier: str | None, later: str | None, beside: Sequence[str] = ()
) -> Markup:
    """Returns the title with the way back, to the neighbouring frames, and to those of the same act: `beside`."""
    ref = evidence["ref"]
    frame, source = evidence["frame"] or {}, evidence["source"]
    session = as_text(source.get("session"))
    there = Address.of({**vars(address), "session": address.session or session})
    kind = as_text(frame.get("kind") or "unreadable")
    what = list(dict.fromkeys(as_text(row.get("kind")) for row in evidence["decoded"][:8]))
    upon = next((as_text(row["object"]) for row in evidence["decoded"] if row.get("object")), "")
    same = [tag("b", one) if one == ref else link(there.to_evidence(one), one, cls="ref") for one in beside]
    return tag(
        "header",
        tag(
            "div",
            link(there.to_timeline(ref), "‹ back to the timeline", cls="ref") if there.session else None,
            tag("span", cls="grow"),
            link(there.to_evidence(earlier), f"‹ {earlier}", cls="ref", title="previous frame") if earlier else None,
            link(there.to_evidence(later), f"{later} ›", cls="ref", title="next frame") if later else None,
            cls="way",
        ),
        tag("h1", f"{source.get('source', 'unknown source')} frame ", tag("b", ref), cls="command"),
        tag("div", [tag("span", name, cls="pill") for name in (kind, *what)], tag("code", upon[:400]), cls="badges"),
        tag("div", tag("span", "of the same act:", cls="dim"), same, cls="badges") if len(same) > 1 else None,
        cls="session",
    )


def verdict_panel(evidence: Evidence) -> Markup:
    """Returns whether the proof holds, step by step; a proof without a single check does not."""
    checks = evidence["checks"]
    good = evidence["verified"] and bool(checks) and all(check["ok"] for check in checks)
    steps = [_step(check) for check in checks]
    why = next((f"{check['step']}: {check['detail']}" for check in checks if not check["ok"]), "no check was made")
    title = tag("h3", "verified" if good else "NOT verified")
    said = (
        "Checked just now, from these bytes up to the signed checkpoint."
        if good
        else f"This frame does not match what was signed: {why}"
    )
    return tag("section", title, tag("p", said), tag("ol", steps), cls=f"verdict {'good' if good else 'bad'}")


def _step(check: Check) -> Markup:
    mark = tag("b", "✓" if check["ok"] else "✗")
    return tag("li", mark, tag("span", check["step"]), tag("i", check["detail"]), cls="ok" if check["ok"] else "fails")


def position_panel(evidence: Evidence) -> Markup:
    """Returns the frame's place in the log, its times on three clocks, its source and the proof itself."""
    place, frame, proof = evidence["position"], evidence["frame"] or {}, evidence["proof"]
    where = _table([
        ("segment", place.get("segment")), ("index in segment", place.get("index")),
        ("log entry", place.get("log_index")), ("log size", place.get("log_size")), ("origin", place.get("origin")),
        ("stream", frame.get("stream")), ("sequence", frame.get("seq")), ("payload", size(int(frame.get("size") or 0))),
    ])  # fmt: skip
    received = frame.get("realtime_ns")
    times = _table([(name, _time(frame.get(key), key)) for name, key in _CLOCKS])
    event = next((row["time_ns"] for row in evidence["decoded"] if row.get("time_ns")), None)
    said = (
        tag("p", f"the source's own clock says {day(event)} {clock(event, 9)} UTC", cls="dim")
        if event and event != received
        else None
    )
    return join(
        tag("section", tag("h3", "Position in the log"), where),
        tag("section", tag("h3", "Received"), times, said),
        tag("section", tag("h3", "Source"), _tree(_described(evidence["source"]), opened=1)),
        tag("section", tag("h3", "Inclusion proof"), _proof(proof)),
    )


def _described(source: Mapping[str, Any]) -> dict[str, Any]:
    """A source's description with its short lists on one line each."""
    return {name: _one_line(value) if isinstance(value, list) else value for name, value in source.items()}


def _one_line(items: list[Any]) -> Any:
    return ", ".join(map(as_text, items)) if len(items) <= _SHORT_LIST else items


def _time(ns: object, key: str) -> str:
    if not isinstance(ns, int):
        return "–"
    return f"{day(ns)} {clock(ns, 9)} UTC" if key == "realtime_ns" else f"{ns / 1e9:,.9f} s"


def _table(rows: Sequence[tuple[str, object]]) -> Markup:
    return tag("table", [tag("tr", tag("th", name), tag("td", as_text(value))) for name, value in rows], cls="facts")


def _proof(proof: Mapping[str, Any]) -> Markup:
    inner, outer = proof.get("inner") or [], proof.get("outer") or []
    return join(
        _hashes("salt of this frame's leaf", [proof["salt"]]) if proof.get("salt") else None,
        _hashes("this frame's leaf", [proof.get("leaf")]),
        _hashes(f"path to the segment's root ({len(inner)})", inner),
        _hashes("segment's root, in its signed manifest", [proof.get("inner_root")]),
        _hashes(f"path to the log's root ({len(outer)})", outer),
        _hashes("log's root", [proof.get("root")]),
        disclosure("signed checkpoint", tag("pre", block(proof.get("checkpoint")))),
    )


def _hashes(label: str, hashes: Sequence[object]) -> Markup:
    return tag("div", tag("h5", label), [tag("code", as_text(value)) for value in hashes], cls="hashes")


def fields_panel(evidence: Evidence) -> Markup:
    """Returns the decoded message as a tree, and the events that replay made of it."""
    events = [
        disclosure(as_text(row.get("kind") or "event"), _tree(_said(row), opened=3), opened=n == 0)
        for n, row in enumerate(evidence["decoded"])
    ]
    nothing = tag("p", "Nothing could be decoded; the bytes below are what was received.", cls="note")
    fields = evidence["fields"]
    message = tag("section", tag("h3", "Message as received, field by field"), _tree(fields, opened=3), cls="fields")
    return join(
        tag("section", tag("h3", "Events decoded from this frame"), events or nothing, cls="fields"),
        message if fields else None,
        _body(evidence.get("body")),
    )


def _body(body: Body | None) -> Markup | None:
    """What a frame carries over HTTP, read as JSON or as text where it is that."""
    if not body:
        return None
    coded = f" · {size(body['recorded'])} as recorded" if body["recorded"] != body["bytes"] else ""
    title = tag("h3", "Its body, read", tag("span", f"{size(body['bytes'])}{coded} · {body['media']}", cls="dim"))
    said, notes = body["text"], list(body["problems"])
    if body["truncated"]:
        notes.append("Only the beginning is shown: the whole body is a file to be downloaded below.")
    read = tag("p", "It is no text.", cls="note") if said is None else block(said, "say")
    if said is not None and not body["truncated"]:
        with suppress(ValueError, RecursionError):
            read = _tree(json.loads(said), opened=4)
    return tag("section", title, read, [tag("p", note, cls="note gap") for note in notes], cls="fields")


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event's row without what the page says already or what is empty, its details as the tree that they are."""
    said = {key: value for key, value in row.items() if value not in (None, "") and key not in {"ref", "session", "n"}}
    if isinstance(detail := said.get("detail"), str):
        with suppress(ValueError, RecursionError):
            said["detail"] = json.loads(detail)
    return said


class _Budget:
    """How many more nodes a tree may show; a hostile message can hold very many."""

    def __init__(self, nodes: int) -> None:
        self.left = nodes

    def spend(self) -> bool:
        self.left -= 1
        return self.left >= 0


def _tree(value: Any, opened: int, budget: _Budget | None = None, depth: int = 0) -> Markup:
    budget = budget or _Budget(_TREE_NODES)
    pairs: list[tuple[Any, Any]]
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = [tuple(item) for item in value] if _named(value) else list(enumerate(value))
    else:
        return block(value)
    rows: list[Child] = []
    for name, inner in pairs:
        if not budget.spend() or depth > _TREE_DEPTH:
            rows.append(tag("div", f"{len(pairs) - len(rows):,} more fields not shown", cls="note"))
            break
        rows.append(_node(str(name), inner, opened, budget, depth))
    return tag("div", rows, cls="tree")


def _named(items: list[Any]) -> bool:
    """Whether a list is one of names with values, as headers are told."""
    return bool(items) and all(
        isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item) for item in items
    )


def _node(name: str, value: Any, opened: int, budget: _Budget, depth: int) -> Markup:
    if isinstance(value, dict | list) and value:
        hint = tag("i", f"{len(value)} {'fields' if isinstance(value, dict) else 'items'}")
        return disclosure(
            join(tag("b", name), " ", hint), _tree(value, opened - 1, budget, depth + 1), opened=opened > 0
        )
    dated = name.endswith("_ns") and isinstance(value, int) and value > _SURELY_A_DATE
    when = tag("i", f"{day(value)} {clock(value, 9)} UTC") if dated else None
    return tag("div", tag("b", name), tag("div", block(value), when), cls="node")


def hex_panel(evidence: Evidence) -> Markup:
    """Returns the bytes as offset, hex and ASCII, and as text when they are text."""
    raw = bytes.fromhex(evidence["raw_hex"])
    total = int((evidence["frame"] or {}).get("size") or len(raw))
    cut = evidence["raw_truncated"] or len(raw) > _HEX_BYTES
    shown = raw[:_HEX_BYTES]
    rest = None
    if len(shown) > _HEX_FIRST:
        rest = disclosure(
            f"{size(len(shown) - _HEX_FIRST)} more", tag("pre", hex_dump(shown[_HEX_FIRST:], _HEX_FIRST), cls="hex")
        )
    note = (
        tag("p", f"{size(len(shown))} of {size(total)} are shown; the proof covers all of them.", cls="note gap")
        if cut
        else None
    )
    return tag(
        "section",
        tag("h3", "Bytes as received", tag("span", size(total), cls="dim")),
        tag("pre", hex_dump(shown[:_HEX_FIRST]), cls="hex"),
        rest,
        note,
        _as_text(shown),
        cls="bytes",
    )


def _as_text(raw: bytes) -> Markup | None:
    """The bytes read as UTF-8, when most of them are that."""
    string = raw.decode("utf-8", "surrogateescape")
    odd = sum(len(piece) for piece, hidden in pieces(string, "\n\t") if hidden)
    return disclosure("the same as text", block(string, "say")) if raw and odd * 4 < len(string) else None


def hex_dump(raw: bytes, start: int = 0) -> Markup:
    """Returns the classic dump: offset, sixteen bytes, and what of them is printable ASCII."""
    rows = []
    for at in range(0, len(raw), 16):
        some = raw[at : at + 16]
        octets = " ".join(f"{byte:02x}" for byte in some[:8]) + "  " + " ".join(f"{byte:02x}" for byte in some[8:])
        ink = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in some)
        rows.append(join(tag("i", f"{start + at:08x}"), f"  {octets:<50}", tag("u", ink), Markup("\n")))
    return join(rows)


def title(evidence: Evidence) -> str:
    """Returns a plain title for the browser's tab."""
    return f"evidence {plain(evidence['ref'], 40)}"
