"""Frames of any stream -> rows of events: finds the decoder of each stream, and keeps what they know between frames.

`Decoder` is a plain state machine: frames in, rows out, no I/O, no clock but the frames' own. Fed the same frames in
the same order it gives the same rows, wherever it was stopped, dumped and loaded in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sandtrail.replay.decode.gateway import ENDS, Exchanges
from sandtrail.replay.decode.gvisor.stream import GvisorStream
from sandtrail.replay.decode.netfilter import add_flows, conntrack_events
from sandtrail.replay.decode.others import OTHERS, other_events
from sandtrail.replay.decode.otlp import claim_events
from sandtrail.replay.decode.own import act_event, read_map, stream_event
from sandtrail.replay.decode.stdio import StdioStream
from sandtrail.replay.decode.stream import StreamState
from sandtrail.replay.decode.text import as_text, to_json
from sandtrail.store.frames import Kind

__all__ = ["DIED", "GRACE_NS", "RECORDER", "VERSION", "Decoder"]

VERSION: Final = 6
"""Of the events that come out. Raise it when they change: the index is then made anew from the evidence."""

BROKEN: Final = "the gateway was started again before it ended"
DIED: Final = "its process died, and the session ended before another took its place"
GRACE_NS: Final = 60 * 10**9
"""After its session's end so long is waited for what a service's stream may still have: spools come in any order."""
_SERVICES: Final = frozenset({"gateway", "claims"})
"""What writes streams of sessions by itself, so that nobody else closes them when it dies."""
_OVER_N: Final = 400
"""From here on events are numbered that come under a frame of another stream: of streams that ended by no frame."""
RECORDER: Final = "recorder"
"""The session of what the recorder says of itself."""
_MIN, _MAX = -(1 << 63), (1 << 63) - 1
_DATA: Final = int(Kind.DATA)
_NOBODY: Final = (0, 0, 0, 0, "", "", "", None, None)

Row = tuple[Any, ...]


class Decoder:
    """The decoders of every stream that is open."""

    def __init__(self) -> None:
        self.streams: dict[int, StreamState] = {}
        self.touched: set[int] = set()
        """Streams whose state changed since the caller last cleared this."""
        self._ended: dict[str, StreamState] = {}
        """The last gVisor streams that a restarted receiver may go on with."""

    def bind(self, stream: int, session: str, sandbox: str) -> None:
        """Say whose a stream is of which the first frame can't be had any more."""
        self.streams[stream] = StreamState(f"{stream:016x}", session=session[:128], sandbox=sandbox[:256])

    def feed(
        self,
        segment: int,
        place: int,
        stream: int,
        seq: int,
        kind: int,
        received_ns: int,
        payload: bytes,
        rows: list[Row],
    ) -> StreamState:
        """Append the events of one frame; returns its stream."""
        return self.run(segment, place, stream, kind, received_ns, [(seq, payload)], rows)

    def run(
        self,
        segment: int,
        place: int,
        stream: int,
        kind: int,
        received_ns: int,
        frames: Iterable[tuple[int, bytes]],
        rows: list[Row],
    ) -> StreamState:
        """Append the events of frames (seq, payload) of one stream that were received together, the first of them at
        `place` of the segment; returns their stream."""
        state = self.streams.get(stream)
        if state is None:
            name = f"{stream:016x}"
            # A stream that names no session is one by itself.
            state = self.streams[stream] = StreamState(name, session=f"unbound-{name}")
        self.touched.add(stream)
        state.over_ns = 0  # it lives
        begin = place
        if kind == _DATA and state.gvisor is not None:
            feed = state.gvisor.feed
            for seq, payload in frames:
                feed(f"{segment}.{place}", seq, received_ns, payload, rows)
                place += 1
        else:
            for seq, payload in frames:
                self._frame(state, f"{segment}.{place}", seq, kind, received_ns, payload, rows)
                place += 1
        state.frames += place - begin
        return state

    def _frame(
        self, state: StreamState, ref: str, seq: int, kind: int, received_ns: int, payload: bytes, rows: list[Row]
    ) -> None:
        if kind == Kind.DATA:
            self._data(state, ref, seq, received_ns, payload, rows)
            return
        before = len(rows)
        if kind == Kind.OPEN and (cut := self._open(state, payload)) is not None:
            self._finish(cut, (ref, cut.session, cut.sandbox, cut.source), seq, received_ns, rows, BROKEN)
        at = (ref, state.session, state.sandbox, state.source)
        if kind == Kind.CLOSE:
            self._finish(state, at, seq, received_ns, rows)
            self.streams.pop(int(state.id, 16), None)
            if state.source == "lifecycle":
                self._over(state, ref, received_ns)
        # What ends with a stream comes under the frames that began it, or, without one, first of this frame's.
        n = sum(row[0] == ref for row in rows[before:])
        event = stream_event(kind, payload, state.source, state.id)
        if kind == Kind.NOTE:
            event = state.noted(event)
        elif kind == Kind.CLOSE and state.gvisor is not None and state.gvisor.unknown:
            event[4]["unknown"] = dict(list(state.gvisor.unknown.items())[:200])
        rows.append(_row(at, event, received_ns, seq, "", n))

    def _open(self, state: StreamState, payload: bytes) -> StreamState | None:
        """A stream begins; the one that it goes on with, where it does not know how that would have ended."""
        told = read_map(payload)
        state.descriptor = told
        state.source = as_text(told.get("source"), 40) or "unnamed"
        state.sandbox = as_text(told.get("sandbox"), 256)
        named = as_text(told.get("session"), 128)
        state.session = named or (RECORDER if state.source == "collector" else state.session)
        if state.source == "gvisor":
            before = self._before(as_text(told.get("continues"), 16))
            if before is not None and before.gvisor is not None:
                state.gvisor, before.gvisor = before.gvisor, None
                state.gvisor.stream = state.gvisor.calls.stream = state.id
            else:
                machine = as_text(told.get("machine"), 40) or "x86_64"
                points = told.get("sees")
                state.gvisor = GvisorStream(
                    state.session,
                    state.sandbox,
                    state.id,
                    machine,
                    sees=[p for p in points if isinstance(p, str)] if isinstance(points, list) else (),
                    continues=bool(told.get("continues")),
                )
        elif state.source == "gateway":
            state.exchanges = Exchanges()
            # A gateway that was started again knows nothing of the connections of the one before: they broke with it.
            return self._before(as_text(told.get("continues"), 16))
        elif state.source == "stdio":
            state.stdio = StdioStream(as_text(state.descriptor.get("part"), 100) or "record")
        elif state.source in ("netfilter", "conntrack"):
            before = self._before(as_text(told.get("continues"), 16))
            if before is not None:
                state.next_packet, state.sums, state.overrun = before.next_packet, before.sums, before.overrun
        return None

    def _before(self, name: str) -> StreamState | None:
        """The stream that this one goes on with; its receiver may have died without closing it."""
        if not name:
            return None
        number = next((number for number, state in self.streams.items() if state.id == name), None)
        if number is None:
            return self._ended.pop(name, None)
        self.touched.add(number)
        return self.streams.pop(number)

    def _data(self, state: StreamState, ref: str, seq: int, received_ns: int, payload: bytes, rows: list[Row]) -> None:
        at = (ref, state.session, state.sandbox, state.source)
        container = ""
        if state.source == "netfilter":
            events = state.packets(seq, payload)
        elif state.source == "conntrack":
            events = conntrack_events(payload, as_text(state.descriptor.get("sandbox_address"), 64))
            add_flows(state.sums, events)
        elif state.exchanges is not None:
            events = state.exchanges.feed(ref, received_ns, payload)
        elif state.stdio is not None:
            events = state.stdio.feed(payload)
        elif state.source == "claims":
            events = claim_events(payload)
        elif state.source in OTHERS:
            events = other_events(state.source, payload)
        elif state.source in ("lifecycle", "collector"):
            event, container = act_event(payload, state.source, cbor=state.source == "collector")
            events = [event]
        else:
            reason = (
                "a frame of a source that is not known" if state.source else "a frame of a stream without a beginning"
            )
            detail = {"type": state.source, "reason": reason, "bytes": len(payload), "head": payload[:64].hex()}
            events = [("unknown", 0, reason, None, detail)]
        for n, event in enumerate(events):
            rows.append(_row(at, event, received_ns, seq, container, n))

    def _finish(
        self,
        state: StreamState,
        at: tuple[str, ...],
        seq: int,
        received_ns: int,
        rows: list[Row],
        why: str = ENDS,
    ) -> None:
        if state.gvisor is not None:
            self._ended[state.id] = state
            while len(self._ended) > 64:
                self._ended.pop(next(iter(self._ended)))
            state.gvisor.finish(rows)
        events: list[Any] = state.exchanges.finish(why) if state.exchanges is not None else []
        if state.overrun:
            cause = "netlink buffer overrun at the end"
            detail = {"cause": cause, "count": None, "before_seq": seq, "stream": state.id, "source": state.source}
            events.append(("gap", 0, cause, None, detail))
        if state.source in ("netfilter", "conntrack"):
            events.append(("stream.total", 0, state.source, None, {**state.sums, "stream": state.id}))
        for n, event in enumerate(events):
            rows.append(_row(at, event, received_ns, seq, "", n))

    def abandon(self, session: str, ref: str, seq: int, received_ns: int, rows: list[Row]) -> None:
        """The recorder died: no frame of these streams of a session can come any more, and none will be closed.

        Streams of the lifecycle have writers of their own, which may live.
        """
        n = _OVER_N
        for number, state in list(self.streams.items()):
            if state.session == session and state.source != "lifecycle":
                found: list[Row] = []
                self._finish(state, (ref, state.session, state.sandbox, state.source), seq, received_ns, found)
                for row in found:  # those that come under other frames have numbers of their own there
                    rows.append((*row[:-1], n) if row[0] == ref else row)
                    n += row[0] == ref
                del self.streams[number]
                self.touched.add(number)

    def _over(self, ended: StreamState, ref: str, received_ns: int) -> None:
        """A lifecycle ended: where it was the session's last, what its services have not closed waits for its end."""
        of_session = {number: state for number, state in self.streams.items() if state.session == ended.session}
        if ended.descriptor.get("part") != "cleanup" and any(s.source == "lifecycle" for s in of_session.values()):
            return
        for number, state in of_session.items():
            if state.source in _SERVICES:
                state.over_ns, state.over_ref = received_ns, ref
                self.touched.add(number)

    def tick(self, now_ns: int, rows: list[Row]) -> None:
        """The log has come to `now_ns`: give out what has waited too long for another message."""
        for number, state in self.streams.items():
            if state.gvisor is not None and state.gvisor.waiting and state.gvisor.tick(now_ns, rows):
                self.touched.add(number)

    def bury(self, now_ns: int, rows: list[Row], *, stopped: bool = False) -> list[StreamState]:
        """The log has come to `now_ns`: end streams of ended sessions that nobody closed; returns these. `stopped`: so
        has the recorder, and nothing can come any more."""
        dead = [s for s in self.streams.values() if s.over_ns and (stopped or now_ns - s.over_ns > GRACE_NS)]
        n = _OVER_N
        for state in dead:
            n += self._died(state, rows, n)
            del self.streams[int(state.id, 16)]
            self.touched.add(int(state.id, 16))
        return dead

    def _died(self, state: StreamState, rows: list[Row], n: int) -> int:
        """End it as its session ended, its events numbered from `n` on; returns how many there are."""
        found: list[Row] = []
        at = (state.over_ref, state.session, state.sandbox, state.source)
        self._finish(state, at, 0, state.over_ns, found)
        detail = {"cause": DIED, "count": None, "after_seq": state.frames - 1, "to_ns": state.over_ns}
        gap = ("gap", 0, DIED, None, {**detail, "stream": state.id, "source": state.source})
        found.append(_row(at, gap, state.over_ns, 0, "", len(found)))
        rows += [(*row[:-1], n + row[-1]) for row in found]
        return len(found)

    # -- stop and go on ------------------------------------------------------------------------------------------------

    def dump(self, stream: int) -> dict[str, Any] | None:
        """The state of an open stream as plain data; None for one that has ended."""
        state = self.streams.get(stream)
        if state is None:
            return None
        return state.dump()

    def load(self, stream: int, plain: dict[str, Any]) -> None:
        """Take up a state that `dump` gave."""
        self.streams[stream] = StreamState.load(plain)


def _row(at: tuple[str, ...], event: Any, received_ns: int, seq: int, container: str, n: int) -> Row:
    kind, time_ns, thing, result, detail = event
    time_ns = time_ns if 0 < time_ns <= _MAX else received_ns
    if result is not None:
        result = min(max(result, _MIN), _MAX)
    return (*at, kind, time_ns, received_ns, seq, container, *_NOBODY, thing, result, None, to_json(detail), n)
