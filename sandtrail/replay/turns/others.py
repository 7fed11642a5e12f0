"""Other people's gateways in the fold: model calls that only they tell of become turns, all else are rows.

It is their word. A call that our own gateway saw, too, stays one turn, with theirs as a second witness; what they tell
of processes is nothing, so their rows stand under a turn by time alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sandtrail.replay.events import Event
from sandtrail.replay.models import Exchange, ModelCall, decode_exchange
from sandtrail.replay.turns.buckets import Edge
from sandtrail.replay.turns.facts import details
from sandtrail.replay.turns.modelturns import Turn

if TYPE_CHECKING:
    from sandtrail.replay.turns.fold import Fold

__all__ = ["Others", "Witness"]

SLACK_NS: Final = 5_000_000_000
"""How far another machine's clock may be off."""
MAX_WAITING: Final = 64
"""Calls of theirs that wait for one of ours to end; more become turns of their own at once."""
MAX_WITNESSES: Final = 8
MAX_MEANWHILE: Final = 500
"""So many turns back a call of theirs is looked for."""
_CALL_ID: Final = "x-litellm-call-id"
_BY_TIME: Final = Edge("by time alone: who tells of it does not say which process did it", 0.2)
_CALLED: Final = Edge("it is this turn's model call, as another gateway tells it", 0.9)


@dataclass(frozen=True, slots=True)
class Witness:
    """Somebody else who tells of a turn's model call."""

    ref: str
    source: str
    call: str
    """Its own id of the call."""
    differs: tuple[str, ...]
    """In what its words differ from what the turn shows."""

    def as_dict(self) -> dict[str, Any]:
        """For the timeline."""
        return {"ref": self.ref, "source": self.source, "differs": list(self.differs)}


@dataclass(slots=True)
class _Told:
    """A model call of theirs that is no turn yet."""

    fact: Event
    exchange: Exchange
    call: ModelCall
    response: str


class Others:
    """Takes the events of sources that are not ours."""

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self._waiting: list[_Told] = []

    def take(self, fact: Event, phase: str) -> None:
        """Take one event; a call of theirs counts when it is over, as they tell of it then."""
        if phase == "answer":
            return
        detail = details(fact)
        if fact.kind == "http.exchange" and fact.source == "litellm":
            exchange = self.fold.web.reader.read(fact)
            call = decode_exchange(exchange)
            if call is not None:
                told = _Told(fact, exchange, call, str(detail.get("response_id") or ""))
                if not self._placed(told):
                    self._waiting.append(told)
                return
        if fact.kind in ("http.exchange", "net.flow", "net.flow_end", "net.dns"):
            self._row(fact, detail)
        else:
            self.fold.count(None, fact)

    def settle(self) -> None:
        """A call of our own gateway is over: those that may have been the same can be judged now."""
        waiting, self._waiting = self._waiting, []
        self._waiting = [told for told in waiting if not self._placed(told)]

    def _placed(self, told: _Told) -> bool:
        """Put a call where it belongs; False while our gateway still waits for an answer that may be its."""
        for turn in self._meanwhile(told.exchange):
            if self._same(turn, told):
                self._witness(turn, told)
                return True
        undecided = any(
            turn.via == "" and turn.exchange is not None and not turn.exchange.end_ns and not turn.exchange.error
            for turn in self._meanwhile(told.exchange)
        )
        if undecided and len(self._waiting) < MAX_WAITING:
            return False
        self._becomes_turn(told)
        return True

    def _meanwhile(self, exchange: Exchange) -> Iterator[Turn]:
        """The turns whose calls lasted while this one did, the latest first."""
        for turn in islice(reversed(self.fold.turns), MAX_MEANWHILE):
            if not turn.index:
                return
            ended = turn.exchange.end_ns if turn.exchange is not None else 0
            if turn.request_ns <= exchange.end_ns + SLACK_NS and (not ended or ended >= exchange.request_ns - SLACK_NS):
                yield turn

    def _same(self, turn: Turn, told: _Told) -> bool:
        source, ident = told.fact.source, told.exchange.id
        others = [witness.call for witness in turn.witnesses if witness.source == source]
        if turn.via == source and turn.exchange is not None:
            return turn.exchange.id == ident  # told by its callback and its log
        if others:
            return ident in others
        headers = turn.exchange.response_headers if turn.exchange is not None else []
        named = [value for name, value in headers if name.lower() == _CALL_ID]
        if named:
            return ident in named
        # Servers do give one id twice; what is told twice also has the same time.
        return bool(told.response) and turn.call is not None and turn.call.response_id == told.response

    def _witness(self, turn: Turn, told: _Told) -> None:
        if len(turn.witnesses) < MAX_WITNESSES and turn.call is not None:
            differs = tuple(_differences(turn.call, told.call))
            turn.witnesses.append(Witness(told.fact.ref, told.fact.source, told.exchange.id, differs))
        self.fold.count_in(turn, told.fact)

    def _becomes_turn(self, told: _Told) -> None:
        fold, exchange = self.fold, told.exchange
        turn = fold.web.begin(exchange, told.call, None)
        turn.via = told.fact.source
        _, bucket = fold.bucket(turn.index, _CALLED, None, None)
        group = fold.add(turn, bucket, (told.fact.source, exchange.id), told.fact, _CALLED)
        group.kind, group.summary = "model.call", f"told by {told.fact.source}"
        group.flags |= {"transport", "told"}
        turn.decided_ns = exchange.first_ns or exchange.end_ns or exchange.request_ns
        fold.lineage.decided(turn)
        fold.web.threads.answered(turn.index - 1, told.call)

    def _row(self, fact: Event, detail: dict[str, Any]) -> None:
        turns = reversed(self.fold.turns)
        last = next((turn.index for turn in turns if 0 < turn.decided_ns <= fact.time_ns), 0)
        turn, bucket = self.fold.bucket(last, _BY_TIME, None, None)
        key = (fact.source, fact.kind, fact.object, fact.result, detail.get("told_verdict"), detail.get("direction"))
        group = self.fold.add(turn, bucket, key, fact, _BY_TIME)
        group.summary = _summary(fact, detail)
        group.flags.add("told")
        if detail.get("told_verdict") in ("DROPPED", "ERROR"):
            group.flags.add("refused")


def _summary(fact: Event, detail: dict[str, Any]) -> str:
    said = [f"told by {fact.source}"]
    for name in ("told_verdict", "drop_reason", "direction", "flags", "why", "sni"):
        if detail.get(name):
            said.append(f"SNI {detail[name]}" if name == "sni" else str(detail[name]))
    if "up_bytes" in detail or "down_bytes" in detail:
        said.append(f"{detail.get('up_bytes') or 0:,} bytes out, {detail.get('down_bytes') or 0:,} in")
    ends = [detail.get(name) for name in ("source", "destination")]
    named = [str(end.get("pod_name") or end.get("labels") or "") if isinstance(end, dict) else "" for end in ends]
    if any(named):
        said.append(" -> ".join(name or "?" for name in named))
    return ", ".join(said)[:500]


def _differences(ours: ModelCall, theirs: ModelCall) -> Iterator[str]:
    """What a reader should know before taking two tellings of one call for the same."""
    if ours.text != theirs.text:
        yield "the answer's text"
    if [(c.name, _plain(c.parsed, c.arguments)) for c in ours.tool_calls] != [
        (c.name, _plain(c.parsed, c.arguments)) for c in theirs.tool_calls
    ]:
        yield "the tool calls"
    if bool(ours.error) != bool(theirs.error):
        yield "whether it failed"
    shown, told = ([(m.role, m.text) for m in call.messages if m.role != "system"] for call in (ours, theirs))
    if shown != told:
        yield "the messages that the model was shown"


def _plain(parsed: Any, text: str) -> Any:
    return text if parsed is None else parsed
