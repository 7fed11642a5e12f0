"""Lines of what happened: each is one link to its evidence, indented as the processes descend from each other."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandtrail.ui.address import Address
from sandtrail.ui.choose import QUIET_FLAGS, Filter, category
from sandtrail.ui.client import Finding, Gap, Output, Timeline
from sandtrail.ui.markup import Markup, join, link, tag
from sandtrail.ui.text import clock, offset, plain

__all__ = ["Scene", "gap_line", "lines", "plain_or", "verdicts"]

_DEEPEST = 12
_LINE_CHARS = 400
_UNSHOWN = frozenset({"decided", "folded"})  # bold type and the count say these


@dataclass(frozen=True)
class Scene:
    """What every line needs to know about the session that it stands in."""

    address: Address
    start_ns: int | None
    want: Filter
    judged: Mapping[str, Sequence[Finding]]

    @classmethod
    def of(cls, timeline: Timeline, address: Address, want: Filter) -> Scene:
        """Returns the scene of a timeline."""
        judged: dict[str, list[Finding]] = {}
        for finding in timeline["findings"]:
            for ref in finding["refs"]:
                judged.setdefault(ref, []).append(finding)
        return cls(address, timeline["session"]["started_ns"], want, judged)

    def time(self, ns: int | None) -> Markup:
        """Returns seconds since the session's start, the wall clock in its tooltip."""
        return tag("span", offset(ns, self.start_ns), cls="t", title=f"{clock(ns, 9)} UTC")

    def findings(self, output: Output) -> list[Finding]:
        """Returns the findings that rest on a line, each once."""
        found = (f for ref in (output["ref"], *output["refs"]) for f in self.judged.get(ref, ()))
        return list({finding["id"]: finding for finding in found}.values())


def lines(outputs: Sequence[Output | int], scene: Scene, turn: int | str) -> Markup:
    """Returns one line an output in their order; a number stands for that many lines left out."""
    rows: list[Markup] = []
    said = ""  # a reason is told once for a run of lines that share it
    for output in outputs:
        if isinstance(output, int):
            rows.append(tag("div", f"{output:,} lines left out here", cls="note left-out"))
            continue
        why = _why(output)
        rows.append(_line(output, scene, turn, why if why != said else ""))
        said = why
    return tag("div", rows, cls="lines")


def _line(output: Output, scene: Scene, turn: int | str, why: str) -> Markup:
    findings = scene.findings(output)
    many = output["count"] > 1
    missing = output["kind"] == "gap"
    state = "bad" if findings else "gap" if missing else "many" if many else ""
    here = scene.address.at and scene.address.at in (output["ref"], *output["refs"])
    main, aside = _said(output)
    decided = "decided" in output["flags"]
    what = tag(
        "span",
        tag("em", f"{plain(output['process'], 40)} ") if _needs_name(output) else None,
        main,
        tag("em", f"  {aside}") if aside else None,
        cls="what decided" if decided else "what",
        style=f"padding-left:{min(max(output['depth'], 0), _DEEPEST) * 14}px",
    )
    row = link(
        scene.address.to_evidence(output["ref"]),
        scene.time(output["time_ns"]),
        tag("span", _act(output), cls="act"),
        what,
        tag("span", verdicts(findings), _flags(output), _outcome(output), cls="end"),
        tag("span", output["pid"] or "", cls="pid"),
        tag("span", why, cls="why", title=_why(output)),
        cls="line",
        title=plain(output["object"] or output["summary"], 1000),
    )
    fold = tag("span", cls="fold")
    if many:
        kinds = "" if output["kind"] == "folded" else output["kind"]
        there = scene.address.to_events(kinds, str(turn), str(output["pid"] or ""))
        fold = link(there, f"×{output['count']:,}", cls="fold", title="each of them")
    return tag("div", row, fold, cls=f"row {state}{' here' if here else ''}", id=f"e-{output['ref']}")


def _needs_name(output: Output) -> bool:
    """Whether nothing above a line says which process it is: below its own program's line it would be noise."""
    return output["kind"] != "process.exec" and output["depth"] == 0


def _act(output: Output) -> str:
    return "more" if output["kind"] == "folded" else output["kind"].partition(".")[2] or output["kind"]


def _said(output: Output) -> tuple[str, str]:
    """What a line says, and what it adds in grey."""
    what, words = _short(output["object"]), _short(output["summary"])
    if output["kind"].startswith("net.") or output["kind"] == "folded" or not what:
        return words or what, ""
    if category(output["kind"]) == "file" and output["kind"] != "file.open":
        return what, ""  # the act and the path say all of it
    return what, words if words != what else ""


def plain_or(first: str, second: str) -> str:
    """Returns the first string that says something, cut to what a line can hold."""
    return _short(first or second)


def _short(said: str) -> str:
    return said if len(said) <= _LINE_CHARS else said[:_LINE_CHARS] + "…"


def verdicts(findings: Sequence[Finding]) -> Markup:
    """Returns each verdict once, as red labels; the finding's title in the tooltip."""
    named = {finding["verdict"]: finding for finding in findings}
    return join(
        [tag("span", name.replace("_", " ").lower(), cls="pill bad", title=f["title"]) for name, f in named.items()]
    )


def _flags(output: Output) -> Markup:
    shown = (flag for flag in output["flags"] if flag not in _UNSHOWN)
    return join([tag("span", flag, cls="pill" if flag in QUIET_FLAGS else "pill warn") for flag in shown])


def _outcome(output: Output) -> Markup | None:
    number = output["errno"]
    if number:
        return tag("span", errno.errorcode.get(abs(number), f"errno {number}"), cls="errno")
    return None


def _why(output: Output) -> str:
    edge = output["edge"]
    if not edge:
        return ""
    sure = edge["confidence"]
    return plain(edge["reason"], 120) + (f" ({sure:.0%})" if sure < 0.995 else "")


def gap_line(gap: Gap, scene: Scene) -> Markup:
    """Returns a line that says what is missing here."""
    known = gap["count"]
    count = "an unknown number of frames" if known is None else f"{known:,} frame{'s' if known != 1 else ''}"
    until = f" until {offset(gap['to_ns'], scene.start_ns)}" if gap["to_ns"] else ""
    row = link(
        scene.address.to_evidence(gap["ref"]),
        scene.time(gap["from_ns"]),
        tag("span", "gap", cls="act"),
        tag("span", f"{count} missing: {plain(gap['cause'], 200)}{until}", cls="what"),
        cls="line",
    )
    return tag("div", row, cls="row gap", id=f"e-{gap['ref']}")
