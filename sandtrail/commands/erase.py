"""`sandtrail erase`, `hold`, `retain`: what leaves the evidence, what must not, and what has had its time."""

from __future__ import annotations

import os
import pwd
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from sandtrail.commands.options import Home, Json, home_folder, print_json
from sandtrail.errors import MissingPartError, NotFoundError, RecorderError, UsageError

__all__ = ["register"]

_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_SETTLE = 10.0
_NO_INDEX = "there is none"
_AFTERWARDS = (
    "Manifests, digests and tree stay, and every proof made before still verifies; what a proof shows is in whoever's "
    "hands it was given to. Copies of the home made earlier still hold keys and payloads: docs/erasure.md."
)


def register(app: typer.Typer) -> None:
    """Add `erase`, `hold` and `retain`."""
    app.command()(erase)
    app.command()(hold)
    app.command()(retain)


def erase(
    session: Annotated[str, typer.Argument(help="The session's id.")],
    reason: Annotated[str, typer.Option(help="Why; it is signed and stays in the log, so it should name nobody.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Destroy the keys of a session, so that nobody can read it any more; that it was done is signed and stays."""
    from sandtrail.collector.control import run_folder
    from sandtrail.store.acts import order

    where = home_folder(home)
    subject = _subject(where, session)
    _refuse_while_recorded(where, subject)
    _refuse_under_hold(where, subject)
    if not yes:
        _ask(subject)
    keys = [key.id for key in subject.keys]
    done = order(where, {"act": "erase", "keys": keys, "reason": reason, "by": _by()})
    (where / "sessions" / session).unlink(missing_ok=True)  # an id that nobody has any more
    _strike(run_folder(where) / "keeper.log", session)
    index = _purge_index(where)
    result = {
        "entry": done["entry"],
        "keys": [bytes(key).hex() for key in done["keys"]],
        **subject.counts(),
        "spool_bytes_left": done["spool_bytes_left"],
        "index": index,
    }
    if as_json:
        print_json(result)
        return
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"erased    {subject.words()}")
    out.print(f"keys      {len(result['keys'])} destroyed: {', '.join(key[:8] for key in result['keys'][:8])}")
    out.print(f"index     {index}")
    if result["spool_bytes_left"]:
        out.print(f"spool     {result['spool_bytes_left']} bytes stay until the recorder that holds them has ended")
    out.print(f"signed    log entry {result['entry']}: {escape(reason)}")
    out.print(_AFTERWARDS)


def hold(
    session: Annotated[str, typer.Argument(help="The session's id; without one, what is held is listed.")] = "",
    state: Annotated[str, typer.Argument(metavar="on|off", help="Begin or lift the hold.")] = "",
    case: Annotated[str, typer.Option(help="The case for which it is held; signed, and stays in the log.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Forbid that a session is erased or removed, or allow it again; both are signed."""
    from sandtrail.store.acts import order

    where = home_folder(home)
    if not session:
        _print_holds(where, as_json=as_json)
        return
    if state not in ("on", "off"):
        raise UsageError(f"write on or off: sandtrail hold {session} on --case TEXT")
    if not case.strip():
        raise UsageError("say for which case: --case TEXT")
    subject = _subject(where, session)
    keys = [key.id for key in subject.keys]
    done = order(where, {"act": "hold", "keys": keys, "on": state == "on", "case": case, "by": _by()})
    _purge_index(where)
    if as_json:
        print_json({"entry": done["entry"], "keys": [key.hex() for key in keys], "on": state == "on", "case": case})
    else:
        said = "is held: it can't be erased" if state == "on" else "is held no more: it may be erased"
        print(f"session {session} {said} (log entry {done['entry']})")


def retain(
    older_than: Annotated[str, typer.Option(help="An age: 36h, 90d, 12w, 2y.")],
    reason: Annotated[str, typer.Option(help="Why; signed, and stays in the log.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Remove the segments that are older than an age, unless held; which ones is signed and stays."""
    from sandtrail.store.acts import order
    from sandtrail.store.custody import plan_retention
    from sandtrail.store.keys import load_verifier
    from sandtrail.store.reader import open_log

    where = home_folder(home)
    load_verifier(where)  # an order to a home without a log would begin one
    before = time.time_ns() - _age(older_than) * 10**9
    because = reason or f"older than {older_than}"
    if dry_run:
        plan = plan_retention(where, open_log(where), before)
        done = {"segments": len(plan.segments), "held": plan.held, "bytes": plan.size}
    else:
        done = order(where, {"act": "retain", "before": before, "reason": because, "by": _by()})
    index = "" if dry_run or not done["segments"] else _purge_index(where)
    if as_json:
        print_json({**done, "before": before, "dry": dry_run, "index": index})
        return
    print(f"{'would remove' if dry_run else 'removed'} {done['segments']} segments, {done['bytes']:,} bytes")
    if done["held"]:
        print(f"{done['held']} segments stay: they are under legal hold")
    if index:
        print(f"index: {index}")


# -- what is asked for -------------------------------------------------------------------------------------------------


@dataclass
class _Subject:
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


def _subject(home: Path, session: str) -> _Subject:
    """Raises NotFoundError when no key keeps frames of this session, or none any more."""
    from sandtrail.store.datakeys import DataKeys
    from sandtrail.store.reader import open_log

    reader = open_log(home)
    keys = DataKeys(home).of_session(session) if session else []
    if not keys:
        _purge_index(home)  # an erasure that was cut short has perhaps still to reach the index
        raise NotFoundError(
            f"no data key keeps a session {session[:100]!r}: it was never recorded here, was erased already, or was "
            "recorded before there were data keys"
        )
    subject = _Subject(session, keys)
    named = {key.id for key in keys}
    for entry in reader.entries():
        if entry.kind == "segment" and entry.map.get("key") in named:
            subject.add(entry.map)
    return subject


def _refuse_under_hold(home: Path, subject: _Subject) -> None:
    from sandtrail.store.custody import held
    from sandtrail.store.reader import open_log

    holds = held(open_log(home).entries())
    cases = {holds[key.id] for key in subject.keys if key.id in holds}
    if cases:
        raise UsageError(
            f"session {subject.session} is under legal hold ({'; '.join(sorted(cases))}); "
            f"lift it first: sandtrail hold {subject.session} off --case …"
        )


def _refuse_while_recorded(home: Path, subject: _Subject) -> None:
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

    if _purge_index(home) == _NO_INDEX or not any(map(has_writer, spools(home))):
        return False
    from sandtrail.replay.index import Index

    index = Index(home)
    try:
        return bool(index.session(session)["state"] == "recording")
    except NotFoundError:
        return False
    finally:
        index.close()


def _unsealed(home: Path, subject: _Subject) -> int:
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


def _ask(subject: _Subject) -> None:
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to be asked; add --yes if this is to be erased")
    print(f"session {subject.session}: {subject.words()}", file=sys.stderr)
    typer.confirm("Destroy its keys? Nobody will be able to read it again", abort=True, err=True)


def _by() -> str:
    """Who acts: the one who called sudo, else this process's user."""
    try:
        own = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        own = f"uid {os.getuid()}"
    return os.environ.get("SUDO_USER") or own


def _age(text: str) -> int:
    """Seconds. Raises UsageError."""
    found = re.fullmatch(r"(\d{1,6})([hdwy])", text)
    if found is None or not int(found[1]):
        raise UsageError(f"--older-than {text}: write a number and h, d, w or y, for example 90d")
    return int(found[1]) * _UNITS[found[2]]


# -- what follows ------------------------------------------------------------------------------------------------------


def _strike(log: Path, session: str) -> None:
    """Overwrite a session's id in the recorder's own words, in place: whoever appends to them goes on doing so."""
    try:
        with log.open("r+b") as file:
            for found in re.finditer(
                rb"(?<![A-Za-z0-9_])%b(?![A-Za-z0-9_])" % re.escape(session.encode()), file.read()
            ):
                file.seek(found.start())
                file.write(b"-" * len(found[0]))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError:
        return


def _purge_index(home: Path) -> str:
    """Have the index follow the log as far as it is signed; returns what became of it, in words."""
    if not (home / "catalog.db").exists() and not os.environ.get("SANDTRAIL_CATALOG"):
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


def _print_holds(home: Path, *, as_json: bool) -> None:
    from sandtrail.store.custody import held
    from sandtrail.store.datakeys import DataKeys
    from sandtrail.store.reader import open_log

    holds = held(open_log(home).entries())
    owners = {key.id: key.session for key in DataKeys(home).all()}
    rows = [{"session": owners.get(key, ""), "key": key.hex(), "case": case} for key, case in holds.items()]
    if as_json:
        print_json(rows)
        return
    out = Console(soft_wrap=True, highlight=False)
    for row in rows:
        out.print(f"{escape(row['session'] or row['key'])}  {escape(row['case'])}")
    if not rows:
        out.print("nothing is under legal hold")
