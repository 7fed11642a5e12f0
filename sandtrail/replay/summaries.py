"""Summaries of sessions that have ended, as files, so that a list of sessions need not read their events again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandtrail.store.layout import listed, shred

__all__ = ["VERSION", "Summaries", "state"]

VERSION = 2
"""Of the rules: a summary that another version made is made again."""


def state(row: Mapping[str, Any]) -> list[Any]:
    """What a summary of this session depends on."""
    return [VERSION, row["events"], row["state"], row["gaps"], removed_at(row)]


def removed_at(row: Mapping[str, Any]) -> int:
    """The log entry that last removed a part of the session's evidence; -1 where none has."""
    facts = row.get("facts")
    known = facts.get("removed") if isinstance(facts, dict) else None
    return int(known["log_index"]) if known else -1


class Summaries:
    """The summaries of one home. They are a cache: any of them may be missing, and can be made again."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "timelines"

    def _place(self, session: str) -> Path:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in session)[:80]
        return self._folder / f"{name}.json"

    def read(self, session: str) -> dict[str, Any] | None:
        """A session's summary, if there is one."""
        found = _read(self._place(session))
        return found if found is not None and found["id"] == session else None

    def write(self, row: Mapping[str, Any], summary: Mapping[str, Any], now: Callable[[], Mapping[str, Any]]) -> None:
        """Keep the summary of a session that has ended. `now` gives its row as it is then, and raises where it is gone:
        what was erased while we computed must not come back."""
        path = self._place(row["id"])
        temporary = path.with_suffix(f".{threading.get_ident()}.tmp")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.write_text(json.dumps({"id": row["id"], **summary}))
            temporary.rename(path)
        except OSError:  # whoever may only read the home computes it each time
            return
        try:
            if state(now()) != summary["state"]:
                shred(path)
        except BaseException:
            shred(path)
            raise

    def sweep(self, recall: Callable[[str], Mapping[str, Any] | None]) -> None:
        """Remove the summaries of sessions that are not there (`recall` gives None) or not what they were."""
        for path in listed(self._folder, hidden=True):
            found = _read(path)
            row = recall(str(found["id"])) if found is not None else None
            if found is None or row is None or found["state"] != state(row):
                shred(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(found, dict) and {"id", "state", "turns", "found"} <= found.keys()
    return found if known else None
