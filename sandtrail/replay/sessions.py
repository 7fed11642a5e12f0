"""What the index says of sessions and streams, kept up to date frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandtrail.replay.decode.decoder import StreamState
from sandtrail.replay.index.index import RECORDER
from sandtrail.store.frames import Frame, Kind

__all__ = ["Book", "session_of"]

Row = tuple[Any, ...]
_KIND, _OBJECT, _RESULT = 4, 18, 19


def session_of(state: StreamState) -> str:
    """The session of a stream; one that names none is its own."""
    if state.session:
        return state.session
    return RECORDER if state.source == "collector" else f"unbound-{state.id}"


@dataclass(slots=True)
class _Session:
    row: dict[str, Any]
    open_streams: set[str] = field(default_factory=set)
    exit_ns: int | None = None


class Book:
    """Sessions and streams that are not over; `take_changes` gives the rows that changed since the last call."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._streams: dict[str, dict[str, Any]] = {}
        self._changed_sessions: dict[str, dict[str, Any]] = {}
        self._changed_streams: dict[str, dict[str, Any]] = {}

    def frame(self, frame: Frame, state: StreamState, rows: list[Row], log_index: int) -> str:
        """Take note of a frame and of the events that it became; returns its session."""
        name = session_of(state)
        session = self._session(name, frame, state, log_index)
        stream = self._stream(name, frame, state, session)
        stream["frames"] += 1
        session.row["events"] += len(rows)
        for row in rows:
            kind = row[_KIND]
            if kind == "gap":
                session.row["gaps"] += 1
            elif kind.startswith("lifecycle.") and state.source == "lifecycle":
                self._lifecycle(session, frame, row)
        if frame.kind == Kind.CLOSE:
            stream["closed"], stream["reason"] = True, _closing_words(rows)
            session.open_streams.discard(state.id)
            self._streams.pop(state.id, None)
            if not session.open_streams:
                self._end(name, session, session.exit_ns or frame.realtime_ns)
        self._changed_sessions[name] = session.row
        self._changed_streams[state.id] = stream
        return name

    def _session(self, name: str, frame: Frame, state: StreamState, log_index: int) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            row: dict[str, Any] = {
                "id": name,
                "sandbox": state.sandbox,
                "command": [],
                "state": "recording",
                "started_ns": frame.realtime_ns,
                "ended_ns": None,
                "exit_status": None,
                "events": 0,
                "gaps": 0,
                "first_entry": log_index,
                "facts": {},
            }
            session = self._sessions[name] = _Session(row)
        command = state.descriptor.get("command")
        if frame.kind == Kind.OPEN and state.source == "lifecycle" and isinstance(command, list):
            session.row["command"] = session.row["command"] or [str(word)[:4096] for word in command[:256]]
            session.row["sandbox"] = session.row["sandbox"] or state.sandbox
        return session

    def _stream(self, name: str, frame: Frame, state: StreamState, session: _Session) -> dict[str, Any]:
        stream = self._streams.get(state.id)
        if stream is None:
            stream = self._streams[state.id] = {
                "id": state.id,
                "session": name,
                "source": state.source,
                "descriptor": _plain(state.descriptor),
                "opened_ref": frame.ref,
                "opened_ns": frame.realtime_ns,
                "frames": 0,
                "dropped": 0,
                "closed": False,
                "reason": "",
            }
            session.open_streams.add(state.id)
            self._continue(state, session)
        return stream

    def _continue(self, state: StreamState, session: _Session) -> None:
        """A restarted receiver goes on with a stream under a new number; the old one will see no close."""
        old = str(state.descriptor.get("continues", ""))
        if old in session.open_streams:
            session.open_streams.discard(old)
            before = self._streams.pop(old, None)
            if before is not None:
                before["closed"], before["reason"] = True, f"goes on as {state.id}"
                self._changed_streams[old] = before

    def _lifecycle(self, session: _Session, frame: Frame, row: Row) -> None:
        if row[_KIND] == "lifecycle.exit" and row[_RESULT] is not None and session.row["exit_status"] is None:
            session.row["exit_status"] = row[_RESULT]
            session.exit_ns = frame.realtime_ns

    def _end(self, name: str, session: _Session, when_ns: int) -> None:
        session.row["state"] = "ended"
        session.row["ended_ns"] = when_ns
        del self._sessions[name]

    def dropped(self, state: StreamState, count: int) -> None:
        """Count frames that a source lost."""
        stream = self._streams.get(state.id)
        if stream is not None:
            stream["dropped"] += count

    def cut_off(self, when_ns: int, words: str) -> list[dict[str, Any]]:
        """The recorder began anew without having ended: whatever was being recorded is over. Returns those sessions."""
        ended = []
        for name, session in list(self._sessions.items()):
            session.row["facts"] = {**session.row["facts"], "cut_off": words}
            session.row["gaps"] += 1
            session.row["events"] += 1
            for stream in [self._streams.pop(s) for s in session.open_streams if s in self._streams]:
                stream["closed"], stream["reason"] = True, words
                self._changed_streams[stream["id"]] = stream
            self._end(name, session, when_ns)
            self._changed_sessions[name] = session.row
            ended.append(session.row)
        return ended

    def take_changes(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(sessions, streams) that changed."""
        sessions, streams = list(self._changed_sessions.values()), list(self._changed_streams.values())
        self._changed_sessions, self._changed_streams = {}, {}
        return sessions, streams


def _closing_words(rows: list[Row]) -> str:
    return next((row[_OBJECT] for row in reversed(rows) if row[_KIND] == "stream.close"), "")


def _plain(value: Any, depth: int = 0) -> Any:
    """A descriptor as JSON can hold it."""
    if isinstance(value, dict) and depth < 8:
        return {str(key)[:200]: _plain(item, depth + 1) for key, item in list(value.items())[:500]}
    if isinstance(value, list | tuple) and depth < 8:
        return [_plain(item, depth + 1) for item in value[:2000]]
    if isinstance(value, str):
        return value[:20_000].encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)
    return value.hex() if isinstance(value, bytes) else str(value)[:1000]
