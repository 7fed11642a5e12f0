"""Chooses what of a timeline is shown: the reader's filter, pages of bounded length, where a frame stands. No I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sandtrail.ui.shapes import Decision, Finding, Gap, Input, Output, Timeline, Turn
from sandtrail.ui.text import as_text

__all__ = [
    "CATEGORIES",
    "QUIET_FLAGS",
    "Filter",
    "began",
    "category",
    "gaps_by_turn",
    "grave",
    "marks",
    "page_of",
    "pages",
    "same_act",
    "several_threads",
    "shorten",
    "turn_of",
]

CATEGORIES = ("model", "process", "file", "network", "other")
_CATEGORY = {
    "process": "process",
    "file": "file",
    "dir": "file",
    "net": "network",
    "http": "network",
    "mcp": "network",
    "model": "model",
}
QUIET_FLAGS = frozenset({"decided", "folded", "gateway", "local", "transport"})
"""Flags that explain a line and accuse nobody."""

LINES_A_PAGE = 700
TURNS_A_PAGE = 30
LINES_A_TURN = 60


def category(kind: str) -> str:
    """Returns which of CATEGORIES an event kind belongs to."""
    return _CATEGORY.get(kind.partition(".")[0], "other")


@dataclass(frozen=True)
class Filter:
    """What the reader asked for; an empty filter lets everything through."""

    q: str = ""
    kinds: frozenset[str] = frozenset()
    flagged: bool = False
    judged: frozenset[str] = field(default=frozenset())
    """The references that findings rest on."""
    thread: str = ""
    """The one conversation that is wanted."""

    def __bool__(self) -> bool:
        return bool(self.q or self.kinds or self.flagged or self.thread)

    def output(self, output: Output) -> bool:
        """Whether a line passes."""
        if self.flagged and not self.marked(output):
            return False
        if self.kinds and category(output["kind"]) not in self.kinds:
            return False
        if not self.q:
            return True
        q = self.q.lower()
        said = (output["summary"], output["object"], output["process"], output["kind"], str(output["pid"] or ""))
        return any(q in (text or "").lower() for text in said)

    def marked(self, output: Output) -> bool:
        """Whether a line has a telling flag or a finding rests on it."""
        return bool(set(output["flags"]) - QUIET_FLAGS) or not self.judged.isdisjoint(output["refs"] or [output["ref"]])

    def spoken(self, turn: Turn) -> bool:
        """Whether what the model was shown or answered in this turn passes."""
        if self.flagged and not self.judged.intersection(_spoken_refs(turn)):
            return False
        if self.kinds and "model" not in self.kinds:
            return False
        q = self.q.lower()
        return not q or any(q in said.lower() for said in _said(turn["input"], turn["decision"]))

    def narrow(self, turns: Sequence[Turn]) -> list[Turn]:
        """Returns the turns of which anything passes, each with the lines that do."""
        if not self:
            return list(turns)
        kept: list[Turn] = []
        for turn in turns:
            if self.thread and (turn["kind"] == "start" or str(turn.get("thread")) != self.thread):
                continue
            outputs = [output for output in turn["outputs"] if self.output(output)]
            if outputs or self.spoken(turn):
                kept.append({**turn, "outputs": outputs})
        return kept


def _spoken_refs(turn: Turn) -> list[str]:
    return [part["ref"] for part in (turn["input"], turn["decision"]) if part]


def _said(shown: Input | None, answered: Decision | None) -> Iterator[str]:
    if shown:
        yield from (as_text(message["text"]) for message in shown["new_messages"])
    if answered:
        yield as_text(answered["text"])
        yield from answered["commands"]
        yield from (f"{call['name']} {as_text(call['arguments'])}" for call in answered["tool_calls"])


def pages(turns: Sequence[Turn]) -> list[list[Turn]]:
    """Cuts turns into pages that a browser shows at once; a turn is never split here."""
    cut: list[list[Turn]] = [[]]
    lines = 0
    for turn in turns:
        weight = min(len(turn["outputs"]), LINES_A_TURN) + 6
        if cut[-1] and (lines + weight > LINES_A_PAGE or len(cut[-1]) >= TURNS_A_PAGE):
            cut.append([])
            lines = 0
        cut[-1].append(turn)
        lines += weight
    return cut


def page_of(cut: Sequence[Sequence[Turn]], turn: int | None) -> int:
    """Returns the index of the page that holds a turn, or that comes nearest before it."""
    if turn is None:
        return 0
    return max((n for n, page in enumerate(cut) if page and page[0]["index"] <= turn), default=0)


def turn_of(timeline: Timeline, ref: str) -> int | None:
    """Returns the index of the turn in which a frame stands; None when it stands nowhere."""
    for turn in timeline["turns"]:
        if ref in _spoken_refs(turn) or any(ref == o["ref"] or ref in o["refs"] for o in turn["outputs"]):
            return turn["index"]
    return None


def same_act(timeline: Timeline, ref: str) -> list[str]:
    """Returns the frames that tell of one act, this one among them: a request, its answer, its packets."""
    rows = (row for turn in timeline["turns"] for row in turn["outputs"])
    for output in (*rows, *timeline["unexplained"]):
        if ref == output["ref"] or ref in output["refs"]:
            return list(dict.fromkeys((output["ref"], *output["refs"])))
    return []


def grave(finding: Finding) -> bool:
    """Whether a finding is of the gravest kind: red on the page, where the others are amber."""
    return finding["severity"] == "high"


def marks(timeline: Timeline) -> dict[int, str]:
    """Returns which turns need a look, by index: "bad" for a grave finding, "gap" for any other and for a gap."""
    found = dict.fromkeys(gaps_by_turn(timeline), "gap")
    for finding in sorted(timeline["findings"], key=grave):
        if finding["turn"] is not None:
            found[finding["turn"]] = "bad" if grave(finding) else "gap"
    return found


def several_threads(turns: Sequence[Turn]) -> bool:
    """Whether there is more than one conversation."""
    return len({turn.get("thread") for turn in turns if turn["kind"] != "start"}) > 1


def began(turn: Turn) -> int | None:
    """Returns when a turn began: when its model call was made, else when its first line happened."""
    for part in (turn["input"], turn["decision"], *turn["outputs"][:1]):
        if part:
            return part["time_ns"]
    return None


def gaps_by_turn(timeline: Timeline) -> dict[int, list[Gap]]:
    """Returns the gaps that begin in each turn's time, by the turn's index; the first turn has those before it too."""
    known = [(start, turn["index"]) for turn in timeline["turns"] if (start := began(turn)) is not None]
    held: dict[int, list[Gap]] = {}
    for gap in timeline["gaps"]:
        if known and gap["from_ns"] is not None:
            nearest = max(bisect_right(known, gap["from_ns"], key=lambda pair: pair[0]) - 1, 0)
            held.setdefault(known[nearest][1], []).append(gap)
    return held


def shorten(outputs: Sequence[Output], want: Filter, keep: int = LINES_A_TURN) -> list[Output | int]:
    """Returns the first lines and every marked one after them; a number stands for that many lines left out there."""
    if len(outputs) <= keep + keep // 2:  # a fold that hides a handful costs more than it saves
        return list(outputs)
    shown: list[Output | int] = list(outputs[:keep])
    for output in outputs[keep:]:
        if want.marked(output) and len(shown) < 2 * keep:
            shown.append(output)
        elif isinstance(shown[-1], int):
            shown[-1] += 1
        else:
            shown.append(1)
    return shown
