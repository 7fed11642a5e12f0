"""Model calls out of the frames that a gateway has written, by the way that replay goes: events, then exchanges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import cbor2

from sandtrail.replay.decode.gateway import Exchanges
from sandtrail.replay.decode.text import to_json
from sandtrail.replay.events import Event
from sandtrail.replay.models import ModelCall, decode_exchange
from sandtrail.replay.turns.exchanges import ExchangeReader

__all__ = ["Memory", "events_of", "model_calls"]


class Memory:
    """Frames that are at hand, as a reader of the store gives them."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def frame(self, ref: str) -> bytes:
        """A frame's payload."""
        return self.held[int(ref.partition(".")[2])]

    def between(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        """From the first to the last named."""
        begin, end = (int(ref.partition(".")[2]) for ref in (first, last))
        return ((f"1.{n}", self.held[n]) for n in range(begin, end + 1))


def events_of(frames: Iterable[Mapping[str, Any]], memory: Memory) -> Iterator[Event]:
    """The events of one gateway stream; its frames are then in `memory`."""
    decoder = Exchanges()
    told: list[Any] = []
    for number, frame in enumerate(frames):
        memory.held.append(json.dumps(frame).encode())
        told += decoder.feed(f"1.{number}", number + 1, memory.held[-1])
        # Whoever follows a log may be stopped after any frame, and go on from what was put down.
        state, decoder = cbor2.dumps(decoder.dump()), Exchanges()
        decoder.load(cbor2.loads(state))
    for kind, time_ns, thing, result, detail in [*told, *decoder.finish()]:
        yield Event(ref="1.0", kind=kind, time_ns=time_ns, object=thing, result=result, detail=to_json(detail))


def model_calls(frames: Iterable[Mapping[str, Any]]) -> list[ModelCall]:
    """The model calls of one gateway stream, in the order in which they ended."""
    memory = Memory()
    reader = ExchangeReader(memory)
    told = list(events_of(frames, memory))
    found = [decode_exchange(reader.read(event)) for event in told if event.kind == "http.exchange"]
    return [call for call in found if call is not None]
