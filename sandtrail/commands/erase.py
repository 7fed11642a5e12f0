"""`sandtrail erase`, `hold`, `retain`: what leaves the evidence, what must not, and what has had its time."""

from __future__ import annotations

import os
import pwd
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sandtrail.commands.options import Home, Json, home_folder, parse_duration, print_json, safe
from sandtrail.commands.subject import (
    Subject,
    find_subject,
    forget,
    purge_index,
    refuse_under_hold,
    refuse_while_recorded,
)
from sandtrail.errors import UsageError

__all__ = ["register"]

# No minutes: whoever wrote 3m may have meant months, and what is removed does not come back.
_AGES = "hdwy"
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
    from sandtrail.store.acts import order

    where = home_folder(home)
    subject = find_subject(where, session)
    refuse_while_recorded(where, subject)
    refuse_under_hold(where, subject)
    if not yes:
        _ask(subject)
    keys = [key.id for key in subject.keys]
    done = order(where, {"act": "erase", "keys": keys, "reason": reason, "by": _by()})
    forget(where, session)
    index = purge_index(where)
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
    out.print(f"signed    log entry {result['entry']}: {safe(reason)}")
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
    subject = find_subject(where, session)
    keys = [key.id for key in subject.keys]
    done = order(where, {"act": "hold", "keys": keys, "on": state == "on", "case": case, "by": _by()})
    purge_index(where)
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
    before = time.time_ns() - parse_duration(older_than, "--older-than", units=_AGES) * 10**9
    because = reason or f"older than {older_than}"
    if dry_run:
        plan = plan_retention(where, open_log(where), before)
        done = {"segments": len(plan.segments), "held": plan.held, "bytes": plan.size}
    else:
        done = order(where, {"act": "retain", "before": before, "reason": because, "by": _by()})
    index = "" if dry_run or not done["segments"] else purge_index(where)
    if as_json:
        print_json({**done, "before": before, "dry": dry_run, "index": index})
        return
    print(f"{'would remove' if dry_run else 'removed'} {done['segments']} segments, {done['bytes']:,} bytes")
    if done["held"]:
        print(f"{done['held']} segments stay: they are under legal hold")
    if index:
        print(f"index: {index}")


def _ask(subject: Subject) -> None:
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
        out.print(f"{safe(row['session'] or row['key'])}  {safe(row['case'])}")
    if not rows:
        out.print("nothing is under legal hold")
