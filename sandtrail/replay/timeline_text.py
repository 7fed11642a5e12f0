"""A timeline for a terminal: what the agent was told, what it decided, what it did, each line with its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import batched
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sandtrail.replay.escape import csv_text, visible
from sandtrail.replay.events import COLUMNS
from sandtrail.replay.terminal import REF, cited, clock, crop, many, rule, with_ref, wrap

__all__ = ["events_csv", "render"]

MAX_ROWS = 120
"""Rows of one turn that are printed; all of them are in the data."""
MAX_CLAIMS = 20
MAX_CHANGED = 6
_COLOURS = {"high": "bold white on red", "medium": "bold black on yellow", "low": "bold cyan"}
_QUIET = frozenset({"decided", "folded", "gateway", "local", "transport"})
_STYLES = {"net": "blue", "http": "magenta", "mcp": "magenta", "file": "green"}
_TELLING = frozenset({"upload", "download", "mismatch", "failed", "asks", "relays"})
MAX_WORDS = 4
"""Lines of what is said of one row where it does not fit beside it."""
_ROWS_A_PIECE = 1000


def render(timeline: Mapping[str, Any], console: Console) -> None:
    """Print a timeline (docs/architecture.md, "Timeline"). Reads well from 80 columns on."""
    width = max(60, min(console.width, 140))
    begin = timeline["session"].get("started_ns") or _first(timeline)
    for line in _lines(timeline, width, begin):
        console.print(line, no_wrap=True, overflow="crop", crop=False, highlight=False, soft_wrap=True)


def events_csv(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Event rows as CSV whose cells are safe to open in a spreadsheet; piece by piece, whole lines each."""
    yield csv_text((), COLUMNS)
    for some in batched(rows, _ROWS_A_PIECE):
        yield csv_text(some, COLUMNS, header=False)


def _first(timeline: Mapping[str, Any]) -> int:
    times = [row["time_ns"] for turn in timeline["turns"] for row in turn["outputs"]]
    return min(times, default=0)


def _lines(timeline: Mapping[str, Any], width: int, begin: int) -> Iterable[Text]:
    yield from _head(timeline, width)
    yield Text()
    yield from _findings(timeline["findings"], width)
    judged = {ref: finding["verdict"] for finding in reversed(timeline["findings"]) for ref in finding["refs"]}
    threads = any(turn.get("thread") for turn in timeline["turns"])
    callers = {row["pid"] for turn in timeline["turns"] for row in turn["outputs"] if row["kind"] == "model.call"}
    for turn in timeline["turns"]:
        yield Text()
        yield from _turn(turn, judged, width, begin, threads, len(callers) > 1)
    if timeline["unexplained"]:
        yield Text()
        yield Text(rule("not explained by any decision", width), "bold yellow")
        yield from _rows(timeline["unexplained"], timeline.get("unexplained_total"), judged, width, begin)
    claims = timeline.get("claims") or {}
    if claims.get("unplaced"):
        yield Text()
        yield Text(rule("claimed by the agent, beside no turn", width), "dim")
        yield from _claims(claims["unplaced"], claims["unplaced_total"], width)
    if timeline["gaps"]:
        yield Text()
        yield Text(rule("gaps in the record", width), "bold yellow")
        for gap in timeline["gaps"]:
            count = "an unknown number of" if gap["count"] is None else f"{gap['count']:,}"
            what = visible(gap["what"]) if gap.get("bytes") else f"{count} messages"
            yield cited(f"  {visible(gap['cause'])}: {what}", gap["ref"], width, "yellow")


def _head(timeline: Mapping[str, Any], width: int) -> Iterable[Text]:
    session = timeline["session"]
    state = session.get("state") or ""
    if session.get("exit_status") is not None:
        state = f"ended with {session['exit_status']}"
    title = Text("session ", "dim").append(visible(str(session.get("id") or "?")), "bold")
    yield title.append(f"  {state}  {clock(session.get('started_ns'))}", "dim")
    command = " ".join(visible(word) for word in session.get("command") or [])
    if command:
        yield Text(f"  {crop(command, width - 2)}")
    counts = ", ".join(
        f"{session[key]:,} {key}"
        for key in ("turns", "events", "gaps", "findings")
        if isinstance(session.get(key), int)
    )
    yield Text(f"  {counts}", "dim")
    known = session.get("completeness")
    if isinstance(known, Mapping):
        complete = known.get("from_first_instruction")
        words = "recorded from the first instruction" if complete else "not proven complete"
        for line in wrap(f"{words}: {visible(str(known.get('reason') or ''))}", width - 2):
            yield Text(f"  {line}", "green" if complete else "yellow")
        if known.get("egress") is not None:
            words = "all egress accounted for" if known["egress"] else "egress not accounted for"
            for line in wrap(f"{words}: {visible(str(known.get('egress_reason') or ''))}", width - 2):
                yield Text(f"  {line}", "green" if known["egress"] else "yellow")
        if known.get("claims") is False:
            for line in wrap(f"not all claims kept: {visible(str(known.get('claims_reason') or ''))}", width - 2):
                yield Text(f"  {line}", "yellow")


def _findings(findings: list[Mapping[str, Any]], width: int) -> Iterable[Text]:
    if not findings:
        yield Text("no findings", "green")
        return
    yield Text(rule(f"{len(findings)} finding{'' if len(findings) == 1 else 's'}", width), "bold red")
    for finding in findings:
        colour = _COLOURS.get(finding["severity"], "bold")
        where = "in no turn" if finding["turn"] is None else f"turn {finding['turn']}"
        head = Text(" ").append(f" {finding['severity'].upper()} ", colour)
        head.append(f" {visible(finding['verdict'])}", "bold").append(f"  {where}  ", "dim")
        yield head.append(" ".join(visible(ref) for ref in finding["refs"][:4]), "cyan")
        for place, line in enumerate(wrap(visible(finding["title"]), width - 4)):
            yield Text(f"    {line}", "bold" if place < 3 else "")
        for line in wrap(visible(finding["explanation"]), width - 4):
            yield Text(f"    {line}", "dim")


def _turn(
    turn: Mapping[str, Any], judged: Mapping[str, str], width: int, begin: int, threads: bool, callers: bool
) -> Iterable[Text]:
    shown, decided = turn["input"], turn["decision"]
    counts = turn["counts"]
    name = (
        "start: the operator's command" if turn["kind"] == "start" else visible((shown or {}).get("model") or "model")
    )
    thread = f", thread {turn['thread']}" if threads and turn["kind"] != "start" else ""
    call = next((row for row in turn["outputs"] if row["kind"] == "model.call" and row["pid"]), None)
    caller = f", called by {visible(call['process'])} (pid {call['pid']})" if callers and call is not None else ""
    yield Text(rule(f"turn {turn['index']}  {name}{thread}{caller}", width), "bold blue")
    for line in wrap(visible(turn["note"]), width - 2) if turn.get("note") else ():
        yield Text(f"  {line}", "yellow")
    if turn.get("via"):
        yield Text(f"  told by {visible(turn['via'])} alone: our own gateway did not see this call", "yellow")
    for witness in turn.get("witnesses", []):
        differs = ", ".join(map(visible, witness["differs"]))
        said = f"also told by {visible(witness['source'])}" + (f", which tells otherwise: {differs}" if differs else "")
        yield cited(f"  {said}", witness["ref"], width, "yellow" if differs else "dim")
    if shown:
        yield from _changed(shown.get("changed") or [], shown["ref"], width)
        results = sum(1 for message in shown["new_messages"] if message["role"] == "tool")
        for message in shown["new_messages"]:
            failed = " failed" if message.get("is_error") else ""
            if results > 1 and message["role"] == "tool":
                yield cited(f"  the result of {_call(message)}:", shown["ref"], width, "dim")
            if origin := message.get("origin"):
                yield cited(
                    f"  word for word in the answer to {visible(origin['object'])}:", origin["ref"], width, "yellow"
                )
            yield from _said(f"told {visible(message['role'])}{failed}", message, shown["ref"], width, "dim", 4)
        if shown["cut"]:
            yield cited("  … the input is cut here", shown["ref"], width, "yellow")
    if decided:
        yield from _said("decided", decided, decided["ref"], width, "bold", 12)
        for command in decided["commands"]:
            for place, line in enumerate(command.split("\n")[:8]):
                yield cited(f"  {'$' if place == 0 else '>'} {visible(line)}", decided["ref"], width, "bold green")
        if not decided["commands"]:
            for call in decided["tool_calls"]:
                where = "  (at the provider's)" if call.get("server") else ""
                said = f"  → {visible(call['name'])}({visible(call['arguments'])}){where}"
                yield cited(said, decided["ref"], width, "bold green")
        if decided.get("error"):
            yield cited(f"  error: {visible(decided['error'])}", decided["ref"], width, "red")
        if decided["cut"]:
            yield cited("  … the answer was cut off here", decided["ref"], width, "yellow")
    named = (("process", "process", "processes"), ("file", "file change", "file changes"))
    total = [many(counts[key], *words) for key, *words in (*named, ("net", "connection", "connections"))]
    yield Text(f"  did: {', '.join(total)}, {many(turn['events_total'], 'event', 'events')}", "dim")
    yield from _rows(turn["outputs"], turn.get("outputs_total"), judged, width, begin)
    yield from _claims(turn.get("claims", []), turn.get("claims_total", 0), width)


def _claims(claims: list[Mapping[str, Any]], total: int, width: int) -> Iterable[Text]:
    """The agent's own words, after what was seen and told apart from it."""
    for claim in claims[:MAX_CLAIMS]:
        edge = claim["edge"]
        sure = f"  ~{edge['confidence']:.2f}" if edge else ""
        note = f"  {visible(claim['note'])}" if claim["note"] else ""
        style = "italic yellow" if edge and note else "italic dim"
        yield cited(f"  claims: {visible(claim['title'])}{sure}{note}", claim["ref"], width, style)
    if total > MAX_CLAIMS:
        yield Text(f"  … {total - MAX_CLAIMS:,} more claims of the agent's: see the page, or --json", "dim")


def _call(message: Mapping[str, Any]) -> str:
    """The tool call that a result is of."""
    tool, ident = visible(message.get("tool") or ""), visible(message.get("tool_call_id") or "")
    return f"{tool} ({ident})" if tool and ident else tool or ident or "a call that it does not name"


def _changed(changed: list[Mapping[str, Any]], ref: str, width: int) -> Iterable[Text]:
    """What was edited in the history: the words before, and those in their place."""
    for one in changed[:MAX_CHANGED]:
        whose = visible(one["role"]) + (f", {_call(one)}" if one["role"] == "tool" else "")
        heads = ("was", "now") if None not in (one["was"], one["now"]) else ("gone", "put in")
        for head, said in zip(heads, (one["was"], one["now"]), strict=True):
            if said is not None:
                words = visible(" ".join(said.split()))
                yield cited(f"  {head:<6} {whose}: “{crop(words, width - 30 - cell_len(whose))}”", ref, width, "yellow")
    if len(changed) > MAX_CHANGED:
        yield Text(f"  … {len(changed) - MAX_CHANGED} more: see the page, or --json", "dim")


def _said(who: str, said: Mapping[str, Any], ref: str, width: int, style: str, most: int) -> Iterable[Text]:
    text = said["text"].rstrip("\n") or ("(nothing)" if who.startswith("told") else "")
    lines = [piece for line in text.split("\n") for piece in wrap(visible(line), width - 18 - REF)]
    for place, line in enumerate(lines[:most]):
        yield cited(f"  {who if place == 0 else '':<12.12} {line}", ref, width, style)
    if len(lines) > most:
        left = many(len(lines) - most, "more line", "more lines")
        whole = said.get("characters", 0)
        more = left if whole <= len(said["text"]) else f"more, {whole:,} characters in all"
        yield cited(f"  {'':<12} … {more}", ref, width, "dim")


def _rows(
    rows: list[Mapping[str, Any]], total: int | None, judged: Mapping[str, str], width: int, begin: int
) -> Iterable[Text]:
    told = [row for row in rows if not _noise(row)]
    for row in told[:MAX_ROWS]:
        yield (line := _row(row, judged, width, begin))
        if "…" in line.plain and _TELLING & set(row["flags"]) and "transport" not in row["flags"]:
            # Names and digests of what went out are what somebody looks for: never only the beginning.
            for words in wrap(visible(row["summary"]), width - 16)[:MAX_WORDS]:
                yield Text(f"{'':<14}{words}", "dim")
    left = (total or len(rows)) - len(rows) + len(told) - min(len(told), MAX_ROWS)
    if left > 0:
        yield Text(f"  … {left:,} more rows: see the page, or --json", "dim")


def _noise(row: Mapping[str, Any]) -> bool:
    """Opens of libraries and the like, which every program makes when it starts."""
    return row["kind"] == "file.open" and "folded" in row["flags"] and row["summary"].startswith("opened ")


def _row(row: Mapping[str, Any], judged: Mapping[str, str], width: int, begin: int) -> Text:
    verdict = next((judged[ref] for ref in (row["ref"], *row["refs"]) if ref in judged), "")
    edge = row["edge"]
    doubt = "why?" if not edge else f"~{edge['confidence']:.1f}" if edge["confidence"] < 0.9 else ""
    flags = [flag for flag in row["flags"] if flag not in _QUIET]
    tail = "  ".join(visible(part) for part in (*flags, doubt, verdict) if part)
    line = Text(f"{(row['time_ns'] - begin) / 1e9:>8.2f}s ", "dim").append("  " * min(row["depth"], 8))
    room = width - REF - cell_len(line.plain) - (cell_len(tail) + 2 if tail else 0)
    calm = "dim" if "transport" in row["flags"] else _STYLES.get(row["kind"].partition(".")[0], "")
    style = "bold red" if verdict else "bold" if "decided" in row["flags"] else calm
    what = _what(row)
    line.append(crop(what, max(room, 12)), style)
    if tail:
        line.append("  ").append(tail, "bold red" if verdict else "yellow" if flags else "dim")
    return with_ref(line, row["ref"], width)


def _what(row: Mapping[str, Any]) -> str:
    """The row in words: what was done, to what, how it ended."""
    what, words, kind = visible(row["object"]), visible(row["summary"]), row["kind"]
    if kind.startswith(("net.", "folded")):
        return words or what
    if kind.startswith("file.") and "credential" not in row["flags"]:
        nameless = row["count"] > 1 and not row["object"] and "folded" not in row["flags"]
        return words + (f", {row['count']:,} times" if nameless else "")
    return f"{what}  ({words})" if words else what
