"""Findings on what the model is shown as its own past."""

from __future__ import annotations

from collections.abc import Iterator

from sandtrail.replay.turns.findings import Finding
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.modelturns import Turn

__all__ = ["history_mismatches"]

_SAYS = {
    "tool calls": ("high", "the history shown to the model has other tool calls than it made"),
    "text": ("medium", "the history shown to the model has other words than it said"),
    "shortened": ("low", "the history shown to the model leaves out words that it said"),
    "left out": ("low", "the history shown to the model does not hold its answer"),
}


def history_mismatches(fold: Fold) -> Iterator[Finding]:
    """Answers that came back changed: one finding a thread and way of changing them."""
    grouped: dict[tuple[int, str], list[Turn]] = {}
    for turn in fold.turns:
        altered = turn.place.altered
        if altered is not None and altered.kind in _SAYS:
            grouped.setdefault((turn.place.thread, altered.kind), []).append(turn)
    for (_, kind), members in grouped.items():
        severity, title = _SAYS[kind]
        first = members[0]
        before = fold.turns[first.place.parent + 1] if first.place.parent is not None else first
        words = first.place.altered.words if first.place.altered is not None else ""
        more = f" The same in {len(members) - 1} later turns of this thread." if len(members) > 1 else ""
        refs = [_answered(before), *(turn.exchange.request_ref for turn in members if turn.exchange is not None)]
        yield Finding(
            "HISTORY_MISMATCH",
            severity,
            title,
            f"The request of turn {first.index} continues turn {before.index}, but {words}.{more} What the model goes "
            "on from is not what it decided; whoever holds its history (the agent, or something between) changed it. "
            "It would be innocent if the agent is known to rewrite answers in this way: to repair JSON, to take out "
            "reasoning, to keep one of several calls.",
            first.index,
            [ref for ref in refs if ref],
        )


def _answered(turn: Turn) -> str:
    return turn.exchange.response_ref or turn.exchange.request_ref if turn.exchange is not None else ""
