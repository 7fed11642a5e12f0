"""The turns of a session: turn 0 until the first model call, then one turn a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandtrail.replay.models import Exchange, ModelCall, decode_exchange
from sandtrail.replay.models.body import MAX_BODY
from sandtrail.replay.turns.buckets import Bucket
from sandtrail.replay.turns.commands import Command, commands_of, tokens
from sandtrail.replay.turns.conversation import Place
from sandtrail.replay.turns.process import Process, Program

if TYPE_CHECKING:
    from sandtrail.replay.turns.others import Witness

__all__ = ["Turn"]


@dataclass(slots=True, eq=False)
class Turn:
    """One round of the agent: what the model was shown, what it answered, what came of it."""

    index: int
    exchange: Exchange | None = None
    """None for turn 0, which the operator began."""
    place: Place = field(default_factory=lambda: Place(0))
    receiver: Process | None = None
    request_ns: int = 0
    decided_ns: int = 0
    """When the first of the answer arrived; 0 while nothing has."""
    closed_ns: int | None = None
    """When the next request of the same thread left, which carries this turn's results."""
    buckets: dict[object, Bucket] = field(default_factory=dict)
    events: int = 0
    roots: list[Program] = field(default_factory=list)
    """The processes that are its commands."""
    via: str = ""
    """The gateway of somebody else that tells of the call; empty where our own saw it."""
    witnesses: list[Witness] = field(default_factory=list)
    """Who else tells of the call."""
    _call: ModelCall | None = None
    _commands: list[Command] = field(default_factory=list)
    _text: str = ""
    _tokens: frozenset[str] = frozenset()
    dirty: bool = True
    """Bytes of the answer came since it was last read."""

    def _read(self) -> None:
        if not self.dirty or self.exchange is None:
            return
        self.dirty = False
        call = decode_exchange(self.exchange)
        if call is None:
            return
        self._call = call
        self._commands = commands_of(call)
        asked = [c.text for c in self._commands] + [t.arguments for t in call.tool_calls]
        self._text = "\n".join(asked)[:MAX_BODY]
        self._tokens = tokens(self._text)

    @property
    def call(self) -> ModelCall | None:
        """The model call as far as it was seen; None for turn 0."""
        self._read()
        return self._call

    @property
    def commands(self) -> list[Command]:
        """The commands that the decision asked for."""
        self._read()
        return self._commands

    @property
    def text(self) -> str:
        """What the decision asked for, in its own words: commands and arguments of tools."""
        self._read()
        return self._text

    @property
    def tokens(self) -> frozenset[str]:
        """The names in `text`."""
        self._read()
        return self._tokens
