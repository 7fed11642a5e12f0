"""What a decoder knows of one stream between two of its frames, and that as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.gateway import Exchanges
from sandtrail.replay.decode.gvisor.stream import GvisorStream
from sandtrail.replay.decode.netfilter import nflog_events
from sandtrail.replay.decode.stdio import StdioStream

__all__ = ["StreamState"]

_PLAIN: Final = (
    *("id", "source", "session", "sandbox", "descriptor", "frames", "next_packet", "overrun", "sums"),
    *("over_ns", "over_ref"),
)


@dataclass(slots=True)
class StreamState:
    """What is known of one stream."""

    id: str
    source: str = ""
    session: str = ""
    sandbox: str = ""
    descriptor: dict[str, Any] = field(default_factory=dict)
    frames: int = 0
    next_packet: int = 0
    """netfilter: the sequence number that the next logged packet should have."""
    overrun: bool = False
    """netfilter: an overrun was noted, and no packet since has told how much was lost."""
    sums: dict[str, Any] = field(default_factory=dict)
    """netfilter, conntrack: what the stream's packets or flows amount to."""
    gvisor: GvisorStream | None = None
    exchanges: Exchanges | None = None
    stdio: StdioStream | None = None
    over_ns: int = 0
    """When its session ended without it; 0 while that has not."""
    over_ref: str = ""
    """The frame that told of that end."""

    def packets(self, seq: int, payload: bytes) -> list[Any]:
        """netfilter: the events of one frame, with what is missing before it."""
        events: list[Any] = []
        for number, event in nflog_events(payload):
            if number is not None:
                missing = (number - self.next_packet) % (1 << 32)
                if missing:
                    # Numbers only go up; one that seems to go down by less than half the range is one that came again.
                    count = missing if missing < 1 << 31 else None
                    cause = "packets that the kernel logged and nobody received"
                    detail = {"cause": cause, "count": count, "after_seq": seq - 1, "before_seq": seq}
                    events.append(("gap", 0, cause, count, {**detail, "stream": self.id, "source": self.source}))
                    self.sums["lost"] = self.sums.get("lost", 0) + (count or 0)
                self.next_packet = (number + 1) % (1 << 32)
                self.overrun = False
                self.sums["logged"] = self.sums.get("logged", 0) + 1
            events.append(event)
        return events

    def noted(self, event: Any) -> Any:
        """The event of a note: a gap, unless another event tells of the same or will tell more."""
        if event[0] != "gap":
            return event
        if self.gvisor is not None and self.gvisor.repeated(event[4]):
            return ("note.gap", *event[1:])
        if self.source == "netfilter":
            # The next packet's number will say how many; the stream's end, if none comes.
            self.overrun = True
            return ("note.gap", *event[1:])
        return event

    def dump(self) -> dict[str, Any]:
        """The state as plain data."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        plain["gvisor"] = self.gvisor.dump() if self.gvisor is not None else None
        plain["exchanges"] = self.exchanges.dump() if self.exchanges is not None else None
        plain["stdio"] = self.stdio.dump() if self.stdio is not None else None
        return plain

    @classmethod
    def load(cls, plain: dict[str, Any]) -> StreamState:
        """Take up a state that `dump` gave."""
        gvisor, exchanges, stdio = plain.pop("gvisor"), plain.pop("exchanges"), plain.pop("stdio", None)
        state = cls(**plain)
        if gvisor is not None:
            state.gvisor = GvisorStream.load(gvisor)
        if exchanges is not None:
            state.exchanges = Exchanges()
            state.exchanges.load(exchanges)
        if stdio is not None:
            state.stdio = StdioStream()
            state.stdio.load(stdio)
        return state
