"""A session as the store and its surroundings know it: its data keys, what they keep, whether it may be touched."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandtrail.errors import MissingPartError, NotFoundError, RecorderError, UsageError
from sandtrail.store.layout import present

__all__ = ["Subject", "find_subject", "forget", "purge_index", "refuse_under_hold", "refuse_while_recorded"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)
_SETTLE = 10.0
_NO_INDEX = "there is none"


@dataclass
class Subject:
    """A session as the log knows it, by the data keys that keep it."""

    session: str
    keys: list[Any]
    segments: int = 0
    frames: int = 0
    size: int = 0
    from_ns: int | None = None
    to_ns: int | None = None
    streams: set[str] = field(default_factory=set)

    def add(self, manifest: dict[str, Any]) -> None:
        """Count one of its segments."""
        self.segments += 1
        self.frames += manifest["frames"]
        self.size += manifest["size"]
        self.from_ns = min(self.from_ns or manifest["first"][0], manifest["first"][0])
        self.to_ns = max(self.to_ns or 0, manifest["last"][0])
        self.streams.update(manifest["streams"])

    def counts(self) -> dict[str, Any]:
        """What it comes to."""
        names = ("segments", "frames", "from_ns", "to_ns")
        return {**{name: getattr(self, name) for name in names}, "bytes": self.size}

    def words(self) -> str:
        """The same in words."""
        times = [_time(when) for when in (self.from_ns, self.to_ns) if when]
        span = f", {times[0]} to {times[1]}" if times else ""
        return f"{self.frames:,} frames in {self.segments:,} segments ({self.size:,} bytes){span}"


def _time(ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ns // 10**9))


def find_subject(home: Path, session: str) -> Subject:
    """Raises NotFoundError when no key keeps frames of this session, or none any more."""
    from sandtrail.store.datakeys import DataKeys
    from sandtrail.store.reader import open_log

    reader = open_log(home)
    keys = DataKeys(home).of_session(session) if session else []
    if not keys:
        if purge_index(home) != _NO_INDEX and _left_behind(home, session):
            forget(home, session)
        raise NotFoundError(
            f"no data key keeps a session {session[:100]!r}: it was never recorded here, was erased already, or was "
            "recorded before there were data keys"
        )
    subject = Subject(session, keys)
    named = {key.id for key in keys}
    for entry in reader.entries():
        if entry.kind == "segment" and entry.map.get("key") in named:
            subject.add(entry.map)
    return subject


def _left_behind(home: Path, session: str) -> bool:
    """Whether an erasure was killed when all but this was done: an id older than an erasure, and unknown otherwise."""
    from sandtrail.store.reader import open_log

    if not _ID.fullmatch(session) or _indexed(home, session):
        return False
    try:
        begun = (home / "sessions" / session).stat().st_mtime_ns
    except FileNotFoundError:
        return False
    return any(entry.kind == "erase" and entry.map["at"][0] > begun for entry in open_log(home).entries())


def refuse_under_hold(home: Path, subject: Subject) -> None:
    """Raises UsageError while a legal hold forbids it."""
    from sandtrail.store.custody import held
    from sandtrail.store.reader import open_log

    holds = held(open_log(home).entries())
    cases = {holds[key.id] for key in subject.keys if key.id in holds}
    if cases:
        raise UsageError(
            f"session {subject.session} is under legal hold ({'; '.join(sorted(cases))}); "
            f"lift it first: sandtrail hold {subject.session} off --case …"
        )


def refuse_while_recorded(home: Path, subject: Subject) -> None:
    """Raises UsageError while the session is being recorded or frames of it wait to be sealed."""
    from sandtrail.collector.control import Keeper

    try:
        keeper = Keeper.connect(home, start=False)
    except RecorderError:  # none runs
        running: list[str] = []
    else:
        running = list(keeper.status()["sessions"])
        keeper.close()
    if subject.session in running or _indexed_as_recording(home, subject.session):
        raise UsageError(f"session {subject.session} is being recorded; it can be erased when it has ended")
    deadline = time.monotonic() + _SETTLE
    while waiting := _unsealed(home, subject):
        if time.monotonic() > deadline:
            raise UsageError(
                f"{waiting} frames of session {subject.session} are not sealed yet, and who wrote them still runs; "
                "try again when it has ended"
            )
        time.sleep(0.1)


def _indexed_as_recording(home: Path, session: str) -> bool:
    """Whether the index says so, and somebody is there who may still write."""
    from sandtrail.store.position import has_writer, spools

    if purge_index(home) == _NO_INDEX or not any(map(has_writer, spools(home))):
        return False
    row = _indexed(home, session)
    return row is not None and row["state"] == "recording"


def _indexed(home: Path, session: str) -> dict[str, Any] | None:
    from sandtrail.replay.index import Index

    index = Index(home)
    try:
        return index.session(session)
    except NotFoundError:
        return None
    finally:
        index.close()


def _unsealed(home: Path, subject: Subject) -> int:
    """How many frames of the session wait in spools that are still written to. What others have left is sealed, and
    destroyed with the rest, by whoever carries out the order."""
    import cbor2

    from sandtrail.store.frames import Kind
    from sandtrail.store.position import has_writer, last_positions, spools
    from sandtrail.store.reader import open_log
    from sandtrail.store.spool import parse_records

    found, streams = 0, set(subject.streams)
    sealed = last_positions(open_log(home))
    for path in spools(home):
        if not has_writer(path):
            continue
        with path.open("rb") as file:
            file.seek(sealed.get(path.name, 0))
            data = file.read()
        for _, record in parse_records(data):
            name = f"{record.stream:016x}"
            if record.kind == Kind.OPEN and name not in streams:
                try:
                    told = cbor2.loads(next(record.frames())[1])
                except Exception:  # noqa: BLE001  # whatever is wrong with it, it does not name the session
                    told = None
                if isinstance(told, dict) and told.get("session") == subject.session:
                    streams.add(name)
            found += len(record.lengths) if name in streams else 0
    return found


def forget(home: Path, session: str) -> None:
    """Take away the id itself, where it is no evidence: the list of ids that were used, and the recorder's own words.

    The words are overwritten in place: whoever appends to them goes on doing so.
    """
    from sandtrail.collector.control import run_folder

    if _ID.fullmatch(session):  # the recorder makes no others, and this one becomes a file's name
        (home / "sessions" / session).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError), (run_folder(home) / "keeper.log").open("r+b") as file:
        for found in re.finditer(rb"(?<![A-Za-z0-9_])%b(?![A-Za-z0-9_])" % re.escape(session.encode()), file.read()):
            file.seek(found.start())
            file.write(b"-" * len(found[0]))
        file.flush()
        os.fsync(file.fileno())


def purge_index(home: Path) -> str:
    """Have the index follow the log as far as it is signed; returns what became of it, in words."""
    if not present(home / "catalog.db") and not os.environ.get("SANDTRAIL_CATALOG"):
        return _NO_INDEX
    try:
        from sandtrail.replay.follow import catch_up
    except ModuleNotFoundError as error:
        raise MissingPartError(
            f"the log is done, but the index can't be purged from here ({error.name} is missing): run `sandtrail "
            "timeline` where sandtrail[replay] is installed"
        ) from None
    catch_up(home).close()
    return "purged"
