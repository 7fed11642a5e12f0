"""Whether a sandbox was seen from its first instruction to its last, as far as the evidence can say.

gVisor's tracing fails open: a sandbox whose trace never connected runs all the same. So "nothing happened" needs proof:

1. the sandbox's trace connected, and was not attached to a sandbox that already ran;
2. of every container the first message is its start;
3. no gap is on record, whatever its cause;
4. of a sandbox that has ended: the connection ended by itself, and the runtime's own count of messages that it could
   not deliver, read at the end, is 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sandtrail.replay.index import Index

__all__ = ["Completeness", "completeness"]

_END = "end of connection"


@dataclass(frozen=True, slots=True)
class Completeness:
    """`reason` is a plain sentence either way; it holds text of the sandbox only as the index holds it."""

    from_first_instruction: bool
    reason: str


def completeness(index: Index, session: str) -> Completeness:
    """What the index can say of a session. Raises NotFoundError when there is no such session."""
    row = index.session(session)
    traces = [stream for stream in index.streams(row["id"]) if stream["source"] == "gvisor"]
    problem = _began(traces) or _first_messages(index, row["id"]) or _gaps(index, row)
    if problem is None and row["state"] == "ended":
        problem = _ended(index, row["id"], traces)
    if problem is not None:
        return Completeness(False, problem)
    told = "the trace connected before container/start, nothing is missing"
    if row["state"] != "ended":
        return Completeness(True, f"{told} so far; what was dropped at the very end shows only then")
    return Completeness(True, f"{told}, and the runtime dropped 0 messages to the end")


def _began(traces: list[dict[str, Any]]) -> str | None:
    if not traces:
        return "no trace of the sandbox ever connected: nothing that happened inside was seen"
    if any(stream["descriptor"].get("attached") for stream in traces):
        return "the recorder attached to a sandbox that already ran: what came before was not seen"
    return None


def _first_messages(index: Index, session: str) -> str | None:
    """Whether the first that was heard of each container is its start."""
    with index.connection(session) as db:
        found = db.execute(
            "SELECT container, arg_min(kind, (received_ns, seq, n)) FROM events "
            "WHERE source = 'gvisor' AND container <> '' GROUP BY container ORDER BY container"
        ).fetchall()
    if not found:
        return "the trace connected and told of no container"
    late = [container for container, kind in found if kind != "lifecycle.container_start"]
    if late:
        return f"the first message of container {late[0]} is not its start: it ran before it was seen"
    return None


def _gaps(index: Index, row: dict[str, Any]) -> str | None:
    if not row["gaps"]:
        return None
    with index.connection(row["id"]) as db:
        found = db.execute(
            "SELECT object, count(*), sum(result), count(*) FILTER (result IS NULL) FROM events "
            "WHERE kind = 'gap' GROUP BY object ORDER BY count(*) DESC, object LIMIT 5"
        ).fetchall()
    listed = "; ".join(f"{cause} ({_how_much(*rest)})" for cause, *rest in found)
    return f"evidence is missing: {listed}"


def _how_much(gaps: int, events: int | None, unknown: int) -> str:
    if not events:
        return f"{gaps} times, how much is not known"
    return f"{events} events" + (f", and {unknown} times how much is not known" if unknown else "")


def _ended(index: Index, session: str, traces: list[dict[str, Any]]) -> str | None:
    last = traces[-1]
    if not last["closed"]:
        return "the trace's end was not recorded"
    if last["reason"] != _END:
        return f"the trace did not end by itself: {last['reason']}"
    with index.connection(session) as db:
        found = db.execute(
            "SELECT detail FROM events WHERE kind = 'lifecycle.runtime' AND object = 'trace-list' "
            "ORDER BY received_ns DESC LIMIT 1"
        ).fetchone()
    if found is None:
        return "nobody asked the runtime at the end how much it had dropped"
    # The record's own sum may come short of it: drops after the last message are gaps of the lifecycle stream, and
    # have been looked for above.
    dropped = json.loads(found[0]).get("dropped")
    return None if isinstance(dropped, int) else "the runtime could not say at the end how much it had dropped"
