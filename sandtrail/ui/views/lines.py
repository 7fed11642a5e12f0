"""Lines of what happened: each is one link to its evidence, indented as the processes descend from each other."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandtrail.ui.address import Address
from sandtrail.ui.choose import QUIET_FLAGS, Filter, category, grave, several_threads
from sandtrail.ui.markup import Markup, join, link, tag
from sandtrail.ui.shapes import Finding, Gap, Output, Timeline
from sandtrail.ui.text import clock, offset, plain

__all__ = ["Scene", "error_name", "gap_line", "lines", "plain_or", "verdicts"]

_DEEPEST = 12
_LINE_CHARS = 400
_TELLING = frozenset({"upload", "download", "mismatch", "failed", "asks", "relays"})
"""Lines with these flags are shown whole, however many lines of the page that takes: digests, answers, errors."""
_UNSHOWN = frozenset({"decided", "folded"})  # bold type and the count say these


@dataclass(frozen=True)
class Scene:
    """What every line needs to know about the session that it stands in."""

    address: Address
    start_ns: int | None
    want: Filter
    judged: Mapping[str, Sequence[Finding]]
    threads: bool = False
    """Whether there is more than one conversation to tell apart."""

    @classmethod
    def of(cls, timeline: Timeline, address: Address, want: Filter) -> Scene:
        """Returns the scene of a timeline."""
        judged: dict[str, list[Finding]] = {}
        for finding in timeline["findings"]:
            for ref in finding["refs"]:
                judged.setdefault(ref, []).append(finding)
        return cls(address, timeline["session"]["started_ns"], want, judged, several_threads(timeline["turns"]))

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
    reads = _reads(outputs, scene)
    read_by = {id(program): row for row, program in reads}
    hidden = {id(row) for row, _ in reads}
    for output in outputs:
        if isinstance(output, int):
            rows.append(tag("div", f"{output:,} lines left out here", cls="note left-out"))
        elif id(output) not in hidden:
            why = _why(output) if _begins(output) else ""
            rows.append(_line(output, scene, turn, why if why != said else "", read_by.get(id(output))))
            said = why or said
    return tag("div", rows, cls="lines")


def _reads(outputs: Sequence[Output | int], scene: Scene) -> list[tuple[Output, Output]]:
    """Returns (row of folded reads, the line of the program that made them): one line says both."""
    found: list[tuple[Output, Output]] = []
    programs: dict[tuple[int | None, int | None], Output] = {}
    for output in outputs:
        if isinstance(output, int):
            continue
        who = (output["pid"], output.get("pid_start_ns"))
        if output["kind"] == "process.exec":
            programs[who] = output
        elif output["kind"] == "file.open" and not output["object"] and who in programs and not scene.findings(output):
            found.append((output, programs.pop(who)))
    return found


def _line(output: Output, scene: Scene, turn: int | str, why: str, reads: Output | None) -> Markup:
    findings = scene.findings(output)
    many = output["count"] > 1
    missing = output["kind"] == "gap"
    state = (
        "bad" if any(map(grave, findings)) else "gap" if missing else "lesser" if findings else "many" if many else ""
    )
    refs = [output["ref"], *output["refs"], *([reads["ref"], *reads["refs"]] if reads else [])]
    here = scene.address.at in refs
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
        title=plain("\n".join(filter(None, (output["object"], output["summary"]))), 1000),
    )
    fold = tag("span", cls="fold")
    if many:
        fold = _fold(output, scene, turn, f"×{output['count']:,}")
    elif reads:
        fold = _fold(reads, scene, turn, f"{reads['count']:,} reads")
    full = "full" if "transport" not in output["flags"] and (findings or _TELLING & set(output["flags"])) else ""
    cls = " ".join(filter(None, ("row", state, full, "here" if here else "")))
    return tag("div", row, fold, cls=cls, id=f"e-{output['ref']}")


def _begins(output: Output) -> bool:
    """Whether a line begins something; what a program does stands under it for the reason that the program does."""
    doubtful = output["edge"] is not None and output["edge"]["confidence"] < 0.9
    return output["kind"] == "process.exec" or output["depth"] == 0 or doubtful


def _fold(output: Output, scene: Scene, turn: int | str, label: str) -> Markup:
    kinds = "" if output["kind"] == "folded" else output["kind"]
    there = scene.address.to_events(kinds, str(turn), str(output["pid"] or ""))
    return link(there, label, cls="fold", title="each of them")


def _needs_name(output: Output) -> bool:
    """Whether nothing above a line says which process it is: below its own program's line it would be noise."""
    return output["kind"] != "process.exec" and output["depth"] == 0


def _act(output: Output) -> str:
    return "more" if output["kind"] == "folded" else output["kind"].partition(".")[2] or output["kind"]


def _said(output: Output) -> tuple[str, str]:
    """What a line says, and what it adds in grey."""
    what, words = _short(output["object"]), _short(output["summary"])
    if output["kind"] == "gap":
        return what or words, ""
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
    """Returns each verdict once as a label, red or amber; the finding's title in the tooltip."""
    named = {finding["verdict"]: finding for finding in sorted(findings, key=grave)}
    return join([_verdict(finding) for finding in named.values()])


def _verdict(finding: Finding) -> Markup:
    colour = "pill bad" if grave(finding) else "pill warn"
    return tag("span", _spoken(finding["verdict"]), cls=colour, title=finding["title"])


def _spoken(verdict: str) -> str:
    return "undecided" if verdict == "UNDECIDED_ACTION" else verdict.replace("_", " ").lower()


def _flags(output: Output) -> Markup:
    shown = (flag for flag in output["flags"] if flag not in _UNSHOWN)
    return join([tag("span", flag, cls="pill" if flag in QUIET_FLAGS else "pill warn") for flag in shown])


def _outcome(output: Output) -> Markup | None:
    return tag("span", error_name(output["errno"]), cls="errno") if output["errno"] else None


def error_name(number: int | None) -> str:
    """Returns `ENOENT` for 2, and nothing for what did not fail."""
    return errno.errorcode.get(abs(number), f"errno {number}") if number else ""


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
    what = plain(gap.get("what") or gap["cause"], 200)
    until = f" until {offset(gap['to_ns'], scene.start_ns)}" if gap["to_ns"] else ""
    row = link(
        scene.address.to_evidence(gap["ref"]),
        scene.time(gap["from_ns"]),
        tag("span", "gap", cls="act"),
        tag("span", f"{count} missing: {what}{until}", cls="what"),
        cls="line",
    )
    return tag("div", row, cls="row gap", id=f"e-{gap['ref']}")
