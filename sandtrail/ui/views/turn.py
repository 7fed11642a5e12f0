"""One turn as a block: what the model was shown, what it answered, what then happened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sandtrail.ui.address import UNEXPLAINED
from sandtrail.ui.choose import began, grave, shorten
from sandtrail.ui.markup import Child, Markup, block, disclosure, join, link, tag
from sandtrail.ui.shapes import Decision, Gap, Input, Message, OtherWitness, Output, Rewritten, ToolCall, Turn
from sandtrail.ui.text import as_text, json_lines, plain
from sandtrail.ui.views.claims import claims_part
from sandtrail.ui.views.lines import Scene, gap_line, lines, verdicts

__all__ = ["gist", "turn_block", "unexplained_block"]

LINES_ALONE = 800
_LAID_OUT = 12


def turn_block(turn: Turn, scene: Scene, gaps: Sequence[Gap] = ()) -> Markup:
    """Returns the whole block of one turn; `gaps` are those that fall into its time."""
    findings = [f for found in scene.judged.values() for f in found if f["turn"] == turn["index"]]
    head = tag(
        "div",
        link(scene.address.to_turn(turn["index"]), _name(turn), cls="name"),
        verdicts(findings),
        [tag("span", "evidence missing", cls="pill gap") for _ in gaps[:1]],
        _thread(turn, scene),
        tag("span", f"told by {turn['via']} alone", cls="pill warn") if turn.get("via") else None,
        [_witness(one, scene) for one in turn.get("witnesses", [])],
        tag("span", cls="grow"),
        tag("span", _counts(turn["counts"], turn["events_total"]), cls="dim"),
        scene.time(began(turn)),
        cls="turn-head",
    )
    spoken = None
    if scene.want and not scene.want.spoken(turn):
        spoken = tag("div", gist(turn), cls="gist")
    elif turn["input"] or turn["decision"]:
        spoken = tag("div", _input(turn["input"], scene), _decision(turn["decision"], scene), cls="spoken")
    happened = _happened(turn["outputs"], scene, turn["index"], gaps)
    mark = "turn flagged" if any(map(grave, findings)) else "turn odd" if findings or gaps else "turn"
    claims = turn.get("claims", [])
    claimed = claims_part(claims, turn.get("claims_total", len(claims)), scene)
    note = tag("div", turn["note"], cls="history calm" if _calm(turn) else "history") if turn.get("note") else None
    return tag("section", head, note, spoken, happened, claimed, cls=mark, id=f"turn-{turn['index']}")


def _calm(turn: Turn) -> bool:
    """Whether the note only says what started a sub-agent."""
    return bool(turn.get("started_by")) and (turn.get("note") or "").startswith("started by ")


def _thread(turn: Turn, scene: Scene) -> Markup | None:
    """Which conversation it is of, where there are several, and the turn that it goes on from or was started by."""
    if not scene.threads or turn["kind"] == "start":
        return None
    start, before = turn.get("started_by"), turn.get("continues")
    whence = ("started in", start["turn"]) if start else ("after", before) if before is not None else None
    alone = link(scene.address.to_thread(turn.get("thread") or 0), f"thread {turn.get('thread')}", cls="ref")
    after = (whence[0], " ", link(scene.address.to_turn(whence[1]), f"turn {whence[1]}", cls="ref")) if whence else None
    return tag("span", alone, tag("span", " ", after, cls="dim") if after else None)


def _witness(one: OtherWitness, scene: Scene) -> Markup:
    """Another gateway's word on the same call, and where it says something else."""
    differs = f", which tells otherwise: {', '.join(one['differs'])}" if one["differs"] else ""
    told = link(scene.address.to_evidence(one["ref"]), f"also told by {one['source']}{differs}")
    return tag("span", told, cls="pill warn" if differs else "dim")


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


def _warned(said: str) -> Markup:
    return tag("div", block(said), cls="note gap")


def _input(shown: Input | None, scene: Scene) -> Markup:
    if shown is None:
        return _part("Input", "not recorded", None, "input")
    new = shown["new_messages"]
    total = shown.get("new_total", len(new))
    hint = f"what {plain(shown['model'], 60)} was shown: {total:,} new of {shown['messages_total']:,} messages"
    hint += f" · {plain(shown['api'], 40)}" if shown.get("api") else ""
    messages = [
        tag(
            "div",
            tag("b", _who(message)),
            _result_of(message),
            _origin(message, scene),
            _message(message["text"], message.get("characters", 0)),
            cls=f"message {_role(message['role'])}",
        )
        for message in new
    ]
    left = (
        tag("div", f"{total - len(new):,} more before these: open the evidence", cls="note")
        if total > len(new)
        else None
    )
    changed = [_changed(one) for one in shown.get("changed") or ()]
    return _part("Input", hint, join(changed, left, messages, _cut(shown["cut"])), "input", _open(scene, shown["ref"]))


def _result_of(message: Message | Rewritten) -> Markup | None:
    """Which tool call a message is the result of."""
    named = [plain(word, 80) for word in (message.get("tool"), message.get("tool_call_id")) if word]
    return tag("div", f"result of {' '.join(named)}", cls="of") if named else None


def _origin(message: Message, scene: Scene) -> Markup | None:
    """The answer of a server that these words came with."""
    origin = message.get("origin")
    if not origin:
        return None
    there = link(scene.address.to_evidence(origin["ref"]), origin["ref"], cls="ref")
    return tag("div", f"word for word in the answer to {plain(origin['object'], 300)} ", there, cls="of whence")


def _changed(one: Rewritten) -> Markup:
    """A message of the past that is not as it was: the words before, and those in their place."""
    was, now = one["was"], one["now"]
    label = "put in" if was is None else "taken out" if now is None else "changed"
    before = tag("div", tag("i", "before"), block(was, "say"), cls="was") if was is not None else None
    after = tag("div", tag("i", "now"), block(now, "say"), cls="now") if now is not None else None
    who = tag("b", plain(one["role"], 40))
    return tag(
        "div", who, tag("div", f"{label} in the history", _result_of(one), cls="of"), before, after, cls="message edit"
    )


def _message(said: str, characters: int = 0) -> Markup:
    """A message as it is; a JSON object laid out, so that line breaks in its strings are line breaks."""
    if characters > len(said):
        note = f"Only the beginning and the end of {characters:,} characters are shown: the rest is in the evidence."
        return join(block(said, "say"), tag("div", note, cls="note"))
    try:
        held = json.loads(said) if said.startswith("{") else None
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or not 0 < len(held) <= _LAID_OUT:
        return block(said, "say")
    rows = [
        tag("div", tag("b", name), block(value if isinstance(value, str) else json_lines(value), "say"), cls="field")
        for name, value in held.items()
    ]
    return tag("div", rows, cls="object")


def _who(message: Message) -> str:
    return plain(message["role"], 40) + (" · failed" if message.get("is_error") else "")


def _role(role: str) -> str:
    return role if role in {"system", "user", "assistant", "tool"} else "other"


def _decision(answer: Decision | None, scene: Scene) -> Markup:
    if answer is None:
        return _part("Decision", "no answer was recorded", None, "decision")
    ended = f"what it answered · {plain(answer['finish_reason'] or 'no finish reason', 40)}"
    thought = as_text(answer.get("reasoning", "")).strip()
    body = join(
        disclosure("what it thought first", block(thought, "say"), cls="call", opened=False) if thought else None,
        block(answer["text"], "say") if as_text(answer["text"]).strip() else None,
        [tag("div", block(command, "command"), cls="run") for command in answer["commands"]],
        [_call(call, folded=bool(answer["commands"])) for call in answer["tool_calls"]],
        [_warned(said) for said in (answer.get("refusal"), answer.get("error"), *answer.get("problems", [])) if said],
        _cut(answer["cut"]),
    )
    hint = ended + (" · streamed" if answer["streamed"] else "")
    return _part("Decision", hint, body, "decision", _open(scene, answer["ref"]))


def _call(call: ToolCall, folded: bool) -> Markup:
    name = join(tag("b", call["name"]), tag("span", call["id"], cls="dim"))
    arguments = call["arguments"]
    body = block(arguments if isinstance(arguments, str) else json_lines(arguments), "say")
    kind = "tool call at the provider's " if call.get("server") else "tool call "
    if call.get("result") is not None:
        said = "it failed, and the provider says" if call.get("failed") else "the provider says that it gave"
        body = join(body, tag("div", said, cls="note"), block(as_text(call["result"]), "say"))
    return disclosure(join(kind, name), body, cls="call", opened=not folded)


def _happened(outputs: Sequence[Output], scene: Scene, turn: int | str, gaps: Sequence[Gap]) -> Markup:
    alone = scene.address.whole and scene.address.turn == str(turn)
    first = max(int(scene.address.whole) - 1, 0) if alone and scene.address.whole.isdigit() else 0
    shown: Sequence[Output | int]
    if alone:
        shown = outputs[first : first + LINES_ALONE]
    else:
        shown = shorten(outputs, scene.want)
    more = tag("div", _leaf(outputs, scene, turn, first), cls="leaf") if alone or len(shown) != len(outputs) else None
    missing = tag("div", [gap_line(gap, scene) for gap in gaps], cls="lines") if gaps else None
    body = lines(shown, scene, turn) if outputs else tag("div", "nothing was seen", cls="note")
    return _part("Output", "what then happened", join(missing, body, more), "output")


def _leaf(outputs: Sequence[Output], scene: Scene, turn: int | str, first: int) -> Markup:
    """Returns how to see the rest of a turn too long for its page."""
    if scene.address.turn != str(turn) or not scene.address.whole:
        return link(scene.address.to_turn(turn, whole=True), f"show all {len(outputs):,} lines of this turn")
    last = min(first + LINES_ALONE, len(outputs))
    back = link(scene.address.to_turn(turn, True, max(first - LINES_ALONE, 0) + 1), "‹ previous") if first else None
    on = link(scene.address.to_turn(turn, True, last + 1), "next ›") if last < len(outputs) else None
    close = link(scene.address.to_turn(turn), "back to all turns")
    return join(close, back, tag("span", f"lines {first + 1:,}–{last:,} of {len(outputs):,}", cls="dim"), on)
