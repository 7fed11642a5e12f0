"""What the index says of sessions and streams, kept up to date run by run of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sandtrail.replay.completeness import Witness
from sandtrail.replay.decode.stream import StreamState
from sandtrail.replay.decode.text import as_text, fit, to_json
from sandtrail.replay.events import Event
from sandtrail.store.frames import Kind

__all__ = ["Book"]

Row = tuple[Any, ...]
_SOURCE, _KIND, _OBJECT, _RESULT, _DETAIL = 3, 4, 18, 19, 21
# Which event of its frame a gap is that the frame itself does not tell of.
_BOOKS_N = 310
_DROPPED = "dropped by the sentry"


@dataclass(slots=True)
class _Session:
    row: dict[str, Any]
    witness: Witness
    open_streams: set[str] = field(default_factory=set)


class Book:
    """Sessions and streams that are not over; `take_changes` gives the rows that changed since the last call.

    `recall` finds a session's row in the catalog, for a stream that begins in a session that was thought over.
    """

    def __init__(self, recall: Callable[[str], dict[str, Any] | None]) -> None:
        self._stored = recall
        self._sessions: dict[str, _Session] = {}
        self._streams: dict[str, dict[str, Any]] = {}
        self._changed_sessions: dict[str, dict[str, Any]] = {}
        self._changed_streams: dict[str, dict[str, Any]] = {}

    def load(self, sessions: Sequence[Mapping[str, Any]], streams: Sequence[Mapping[str, Any]]) -> None:
        """Take up the sessions that were not over, and their open streams, from the catalog."""
        for row in sessions:
            self._sessions[row["id"]] = _made(dict(row))
        for stream in streams:
            session = self._sessions.get(stream["session"])
            if session is not None:
                session.open_streams.add(stream["id"])
                self._streams[stream["id"]] = dict(stream)

    def _recall(self, name: str) -> dict[str, Any] | None:
        """The row of a session that was thought over."""
        return self._changed_sessions.get(name) or self._stored(name)

    @property
    def recording(self) -> list[str]:
        """The sessions that are not over."""
        return list(self._sessions)

    def frames(
        self, state: StreamState, ref: str, kind: int, count: int, when_ns: int, rows: list[Row], log_index: int
    ) -> None:
        """Take note of a run of frames of one stream and one kind, from `ref` on, and of their events."""
        session = self._session(state, kind, when_ns, log_index)
        stream = self._stream(state, ref, when_ns, session)
        stream["frames"] += count
        self._changed_streams[state.id] = stream
        self.events(state.session, rows, when_ns)
        if kind == Kind.CLOSE:
            self._close_stream(
                session, state.id, next((row[_OBJECT] for row in rows if row[_KIND] == "stream.close"), "")
            )
            if state.descriptor.get("part") == "cleanup":
                # It speaks for a recorder that is gone, and whose own streams nobody closes.
                for other in [s for s in session.open_streams if self._source(s) == "lifecycle"]:
                    self._close_stream(session, other, "its recorder is gone")
            if not session.open_streams:
                self._end(session, session.row["facts"].get("exit_ns") or when_ns)

    def events(self, name: str, rows: list[Row], when_ns: int) -> None:
        """Count events of a session, and read in them what the session's own row says; gaps that they show are added
        to them."""
        if not rows:
            return
        session = self._sessions.get(name) or _made(self._recall(name) or _new(name, "", when_ns, 0))
        row = session.row
        if rows[0][_SOURCE] == "gvisor":
            session.witness.heard(rows)
        for event in rows:  # which grows where an event completes the session's books
            kind = event[_KIND]
            if kind == "gap":
                row["gaps"] += 1
                session.witness.gap(event)
                self._count_dropped(session, event)
            elif kind == "lifecycle.runtime":
                session.witness.told(event)
            elif kind in ("lifecycle.egress", "stream.total"):
                missing = session.witness.balance.take(kind, event[_OBJECT], event[_DETAIL])
                rows += [_gap(event, _BOOKS_N + n, detail) for n, detail in enumerate(missing)]
            elif kind == "lifecycle.exit" and event[_RESULT] is not None and row["exit_status"] is None:
                row["exit_status"] = event[_RESULT]
                row["facts"] = {**row["facts"], "exit_ns": when_ns}
        row["events"] += len(rows)
        self._changed_sessions[name] = row
        self._witnessed(session)

    @staticmethod
    def _witnessed(session: _Session) -> None:
        row = session.row
        verdict = session.witness.verdict(over=row["state"] == "ended")
        row["facts"] = {**row["facts"], "witness": session.witness.plain(), "completeness": asdict(verdict)}

    def _count_dropped(self, session: _Session, event: Row) -> None:
        if event[_OBJECT] != _DROPPED or event[_RESULT] is None:
            return
        for name in session.open_streams:
            if f'"stream":"{name}"' in event[_DETAIL]:
                self._streams[name]["dropped"] += event[_RESULT]
                self._changed_streams[name] = self._streams[name]

    def _session(self, state: StreamState, kind: int, when_ns: int, log_index: int) -> _Session:
        name = state.session
        session = self._sessions.get(name)
        if session is None:
            row = self._recall(name) or _new(name, state.sandbox, when_ns, log_index)
            session = self._sessions[name] = _made({**row, "state": "recording", "ended_ns": None})
        command = state.descriptor.get("command")
        if kind == Kind.OPEN and state.source == "lifecycle" and isinstance(command, list):
            session.row["command"] = session.row["command"] or [as_text(word, 4096) for word in command[:256]]
            session.row["sandbox"] = session.row["sandbox"] or state.sandbox
        return session

    def _stream(self, state: StreamState, ref: str, when_ns: int, session: _Session) -> dict[str, Any]:
        stream = self._streams.get(state.id)
        if stream is None:
            stream = self._streams[state.id] = {
                "id": state.id,
                "session": state.session,
                "source": state.source[:32],
                "descriptor": fit(state.descriptor, 256 << 10),
                "opened_ref": ref,
                "opened_ns": when_ns,
                "frames": 0,
                "dropped": 0,
                "closed": False,
                "reason": "",
            }
            session.open_streams.add(state.id)
            if state.source == "gvisor":
                session.witness.opened(state.descriptor)
            elif state.source == "claims":
                session.witness.listened = True
            before = as_text(state.descriptor.get("continues"), 16)
            if before in session.open_streams:
                # A restarted receiver goes on with a stream under a new number; the old one will see no close.
                self._close_stream(session, before, f"goes on as {state.id}")
        return stream

    def _source(self, stream: str) -> str:
        return str(self._streams[stream]["source"])

    def _close_stream(self, session: _Session, name: str, reason: str) -> None:
        session.open_streams.discard(name)
        stream = self._streams.pop(name)
        stream["closed"], stream["reason"] = True, reason
        if stream["source"] == "gvisor" and not any(self._source(s) == "gvisor" for s in session.open_streams):
            session.witness.closed(reason)
        self._changed_streams[name] = stream

    def _end(self, session: _Session, when_ns: int) -> None:
        session.row["state"], session.row["ended_ns"] = "ended", when_ns
        self._witnessed(session)
        self._changed_sessions[session.row["id"]] = session.row
        self._sessions.pop(session.row["id"], None)

    def died(self, state: StreamState, when_ns: int, words: str) -> None:
        """A stream is over that nobody closed, and with the last of them its session."""
        session = self._sessions.get(state.session)
        if session is None or state.id not in session.open_streams:
            return
        self._close_stream(session, state.id, words)
        if not session.open_streams:
            self._end(session, session.row["facts"].get("exit_ns") or state.over_ns or when_ns)

    def cut_off(self, name: str, when_ns: int, words: str) -> None:
        """The recorder began anew without having ended: a session that was being recorded is over."""
        session = self._sessions[name]
        session.row["facts"] = {**session.row["facts"], "cut_off": words}
        for stream in list(session.open_streams):
            self._close_stream(session, stream, words)
        self._end(session, when_ns)

    def take_changes(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(sessions, streams) that changed."""
        sessions, streams = list(self._changed_sessions.values()), list(self._changed_streams.values())
        self._changed_sessions, self._changed_streams = {}, {}
        return sessions, streams


def _made(row: dict[str, Any]) -> _Session:
    plain = row["facts"].get("witness")
    return _Session(row, Witness.read(plain) if plain else Witness())


def _gap(after: Row, n: int, detail: dict[str, Any]) -> Row:
    """A gap that the session's own books show, told under the event that completed them."""
    at = Event(*after)
    detail = {**detail, "from_ns": None, "to_ns": at.received_ns, "source": "netfilter"}
    made = Event(
        at.ref, at.session, at.sandbox, "netfilter", "gap", at.time_ns, at.received_ns, at.seq, object=detail["cause"],
        result=detail["count"], detail=to_json(detail), n=n,
    )  # fmt: skip
    return tuple(made)


def _new(name: str, sandbox: str, when_ns: int, log_index: int) -> dict[str, Any]:
    return {
        "id": name,
        "sandbox": sandbox,
        "command": [],
        "state": "ended",
        "started_ns": when_ns,
        "ended_ns": when_ns,
        "exit_status": None,
        "events": 0,
        "gaps": 0,
        "first_entry": log_index,
        "facts": {},
    }
