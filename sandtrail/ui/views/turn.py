"""One turn as a block: what the model was shown, what it answered, what then happened."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sandtrail.ui.address import UNEXPLAINED, Address
from sandtrail.ui.choose import QUIET_FLAGS, Filter, category, shorten
from sandtrail.ui.client import Decision, Finding, Gap, Input, Output, ToolCall, Turn
from sandtrail.ui.markup import Child, Markup, block, disclosure, join, link, tag
from sandtrail.ui.text import as_text, clock, json_lines, offset, plain

__all__ = ["Scene", "gap_line", "gist", "lines", "plain_or", "turn_block", "unexplained_block"]

LINES_ALONE = 800
_DEEPEST = 12
_LINE_CHARS = 400


@dataclass(frozen=True)
class Scene:
    """What every line needs to know about the session that it stands in."""

    address: Address
    start_ns: int | None
    judged: Mapping[str, Finding]
    want: Filter

    def time(self, ns: int | None) -> Markup:
        """Returns seconds since the session's start, the wall clock in its tooltip."""
        return tag("span", offset(ns, self.start_ns), cls="t", title=f"{clock(ns, 9)} UTC")


def turn_block(turn: Turn, scene: Scene, gaps: Sequence[Gap] = ()) -> Markup:
    """Returns the whole block of one turn; `gaps` are those that fall into its time."""
    findings = {f["id"]: f for ref, f in scene.judged.items() if f["turn"] == turn["index"]}
    head = tag(
        "div",
        link(scene.address.to_turn(turn["index"]), _name(turn), cls="name"),
        [tag("span", _spaced(f["verdict"]), cls="pill bad", title=f["title"]) for f in findings.values()],
        [tag("span", "evidence missing", cls="pill gap") for _ in gaps[:1]],
        tag("span", cls="grow"),
        tag("span", _counts(turn["counts"], turn["events_total"]), cls="dim"),
        scene.time(_began(turn)),
        cls="turn-head",
    )
    spoken = None
    if scene.want and not scene.want.spoken(turn):
        spoken = tag("div", gist(turn), cls="gist")
    elif turn["input"] or turn["decision"]:
        spoken = tag("div", _input(turn["input"], scene), _decision(turn["decision"], scene), cls="spoken")
    happened = _happened(turn["outputs"], scene, turn["index"], gaps)
    return tag(
        "section", head, spoken, happened, cls="turn flagged" if findings else "turn", id=f"turn-{turn['index']}"
    )


def unexplained_block(outputs: Sequence[Output], scene: Scene) -> Markup:
    """Returns the block of everything that no decision explains."""
    head = tag(
        "div",
        link(scene.address.to_turn(UNEXPLAINED), "Not explained", cls="name"),
        tag("span", "things that happened and that no decision of the model leads to", cls="dim"),
        cls="turn-head",
    )
    body = _happened(outputs, scene, UNEXPLAINED, ())
    return tag("section", head, body, cls="turn odd", id=f"turn-{UNEXPLAINED}")


def _name(turn: Turn) -> str:
    return "Before the first model call" if turn["kind"] == "start" else f"Turn {turn['index']}"


def _began(turn: Turn) -> int | None:
    for part in (turn["input"], turn["decision"], *turn["outputs"][:1]):
        if part:
            return part["time_ns"]
    return None


def gist(turn: Turn) -> str:
    """Returns what a turn is about, in the words of its own commands."""
    answer = turn["decision"]
    if turn["kind"] == "start":
        return "before the first model call"
    if not answer:
        return "no answer recorded"
    if answer["commands"]:
        return answer["commands"][0].strip().split("\n")[0]
    if answer["tool_calls"]:
        return answer["tool_calls"][0]["name"]
    return as_text(answer["text"]).strip().split("\n")[0]


def _counts(counts: Mapping[str, int], total: int) -> str:
    named = {"process": "processes", "file": "files", "net": "network"}
    parts = [f"{name} {counts[key]:,}" for key, name in named.items() if counts.get(key)]
    return " · ".join([*parts, f"{total:,} events"])


def _part(step: str, hint: Child, body: Child, cls: str, aside: Child = None) -> Markup:
    return tag("div", tag("h4", step, tag("span", hint), aside), body, cls=f"part {cls}")


def _open(scene: Scene, ref: str) -> Markup:
    return link(scene.address.to_evidence(ref), f"evidence {ref}", cls="ref")


def _cut(cut: bool) -> Markup | None:
    return tag("div", "The bytes end before the message does: what came is shown.", cls="note gap") if cut else None


def _input(shown: Input | None, scene: Scene) -> Markup:
    if shown is None:
        return _part("Input", "not recorded", None, "input")
    new = shown["new_messages"]
    hint = f"what {plain(shown['model'], 60)} was shown: {len(new)} new of {shown['messages_total']} messages"
    messages = [
        tag("div", tag("b", message["role"]), block(message["text"], "say"), cls=f"message {_role(message['role'])}")
        for message in new
    ]
    return _part("Input", hint, join(messages, _cut(shown["cut"])), "input", _open(scene, shown["ref"]))


def _role(role: str) -> str:
    return role if role in {"system", "user", "assistant", "tool"} else "other"


def _decision(answer: Decision | None, scene: Scene) -> Markup:
    if answer is None:
        return _part("Decision", "no answer was recorded", None, "decision")
    ended = f"what it answered · {plain(answer['finish_reason'] or 'no finish reason', 40)}"
    body = join(
        block(answer["text"], "say") if as_text(answer["text"]).strip() else None,
        [tag("div", block(command, "command"), cls="run") for command in answer["commands"]],
        [_call(call, folded=bool(answer["commands"])) for call in answer["tool_calls"]],
        _cut(answer["cut"]),
    )
    hint = ended + (" · streamed" if answer["streamed"] else "")
    return _part("Decision", hint, body, "decision", _open(scene, answer["ref"]))


def _call(call: ToolCall, folded: bool) -> Markup:
    name = join(tag("b", call["name"]), tag("span", call["id"], cls="dim"))
    arguments = call["arguments"]
    body = block(arguments if isinstance(arguments, str) else json_lines(arguments), "say")
    return disclosure(join("tool call ", name), body, cls="call", opened=not folded)


def _happened(outputs: Sequence[Output], scene: Scene, turn: int | str, gaps: Sequence[Gap]) -> Markup:
    alone = scene.address.whole and scene.address.turn == str(turn)
    first = max(int(scene.address.whole) - 1, 0) if alone and scene.address.whole.isdigit() else 0
    shown: Sequence[Output | int]
    if alone:
        shown = outputs[first : first + LINES_ALONE]
    else:
        shown = shorten(outputs, scene.want)
    more = tag("div", _leaf(outputs, scene, turn, first), cls="leaf") if alone or len(shown) != len(outputs) else None
    body = lines(shown, scene, turn, gaps) if outputs or gaps else tag("div", "nothing was seen", cls="note")
    return _part("Output", "what then happened", join(body, more), "output")


def _leaf(outputs: Sequence[Output], scene: Scene, turn: int | str, first: int) -> Markup:
    """Returns how to see the rest of a turn too long for its page."""
    if scene.address.turn != str(turn) or not scene.address.whole:
        return link(scene.address.to_turn(turn, whole=True), f"show all {len(outputs):,} lines of this turn")
    last = min(first + LINES_ALONE, len(outputs))
    back = link(scene.address.to_turn(turn, True, max(first - LINES_ALONE, 0) + 1), "‹ previous") if first else None
    on = link(scene.address.to_turn(turn, True, last + 1), "next ›") if last < len(outputs) else None
    close = link(scene.address.to_turn(turn), "back to all turns")
    return join(close, back, tag("span", f"lines {first + 1:,}–{last:,} of {len(outputs):,}", cls="dim"), on)


def lines(outputs: Sequence[Output | int], scene: Scene, turn: int | str = "", gaps: Sequence[Gap] = ()) -> Markup:
    """Returns one line an output in their order, gaps in between where their time falls."""
    waiting = sorted(gaps, key=lambda gap: gap["from_ns"] or 0)
    rows: list[Markup] = []
    said = ""  # a reason is told once for a run of lines that share it
    for output in outputs:
        if isinstance(output, int):
            rows.append(tag("div", f"{output:,} lines left out here", cls="note left-out"))
            continue
        while waiting and (waiting[0]["from_ns"] or 0) <= output["time_ns"]:
            rows.append(gap_line(waiting.pop(0), scene))
        rows.append(_line(output, scene, turn, _why(output) if _why(output) != said else ""))
        said = _why(output)
    rows += [gap_line(gap, scene) for gap in waiting]
    return tag("div", rows, cls="lines")


def _line(output: Output, scene: Scene, turn: int | str, why: str) -> Markup:
    finding = next((scene.judged[r] for r in (output["ref"], *output["refs"]) if r in scene.judged), None)
    many = output["count"] > 1
    state = "bad" if finding else "many" if many else ""
    here = scene.address.at and scene.address.at in (output["ref"], *output["refs"])
    act = output["kind"].partition(".")[2] or output["kind"]
    depth = min(max(output["depth"], 0), _DEEPEST)
    subject = tag(
        "span",
        None if output["kind"] == "process.exec" else tag("em", f"{plain(output['process'], 40)} "),
        plain_or(output["summary"], output["object"]),
        cls="what",
        style=f"padding-left:{depth * 14}px",
    )
    row = link(
        scene.address.to_evidence(output["ref"]),
        scene.time(output["time_ns"]),
        tag("span", act, cls=f"act {category(output['kind'])}"),
        subject,
        tag("span", _flags(output, finding), _outcome(output), cls="end"),
        tag("span", output["pid"] or "", cls="pid"),
        tag("span", why, cls="why", title=_why(output)),
        cls="line",
        title=plain(output["summary"] or output["object"], 1000),
    )
    fold = tag("span", cls="fold")
    if many:
        there = scene.address.to_events(output["kind"], str(turn), str(output["pid"] or ""))
        fold = link(there, f"×{output['count']:,}", cls="fold", title="each of them")
    return tag("div", row, fold, cls=f"row {state}{' here' if here else ''}", id=f"e-{output['ref']}")


def plain_or(first: str, second: str) -> str:
    """Returns the first string that says something, cut to what a line can hold."""
    said = first or second
    return said if len(said) <= _LINE_CHARS else said[:_LINE_CHARS] + "…"


def _flags(output: Output, finding: Finding | None) -> Markup:
    verdict = tag("span", _spaced(finding["verdict"]), cls="pill bad") if finding else None
    return join(
        verdict, [tag("span", flag, cls="pill" if flag in QUIET_FLAGS else "pill warn") for flag in output["flags"]]
    )


def _spaced(verdict: str) -> str:
    return verdict.replace("_", " ").lower()


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
