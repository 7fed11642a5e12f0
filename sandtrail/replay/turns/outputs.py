"""Rows for people: the acts of a turn as a tree of programs, folded so that what matters is not buried."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandtrail.replay.turns.buckets import Bucket, Edge, Group
from sandtrail.replay.turns.facts import CHANGES
from sandtrail.replay.turns.mcp_rows import mcp_rows
from sandtrail.replay.turns.network import Connection
from sandtrail.replay.turns.process import Program, shown

__all__ = ["rows"]

MAX_ROWS_PER_KIND = 25
"""So many changes or connections of one program are shown one by one; the rest are folded into a row with a count."""
MAX_OBJECT = 4000

CLAIMS_PORTS = (4317, 4318)
"""Where each link has a receiver of OTLP."""

Row = dict[str, Any]

_EXCHANGES = frozenset({"http.exchange", "model.call", "mcp.call"})
_SAYS = {
    "file.create": "created",
    "file.write": "wrote",
    "file.open": "opened for writing",
    "file.rename": "renamed",
    "file.unlink": "removed",
    "file.mkdir": "made the folder",
    "file.link": "linked",
    "file.chmod": "changed the mode of",
    "file.truncate": "truncated",
    "net.connect": "connected to",
    "net.flow": "sent packets to",
    "net.flow_end": "sent packets to",
    "net.dns": "looked up",
    "net.listen": "listens on",
    "net.bind": "bound",
    "http.connect": "reached the gateway",
}
_NAMELESS = {
    "file.create": "created a file",
    "file.write": "wrote a file",
    "file.rename": "renamed a file",
    "file.unlink": "removed a file",
    "file.mkdir": "made a folder",
    "file.link": "linked a file",
    "file.chmod": "changed the mode of a file",
    "file.truncate": "truncated a file",
}


def rows(buckets: Iterable[Bucket]) -> list[Row]:
    """The rows of a turn, programs in the order of a process tree, each followed by what it did."""
    held = list(buckets)
    here = {bucket.program: bucket for bucket in held if bucket.program is not None}
    children: dict[Bucket | None, list[Bucket]] = {}
    for bucket in held:
        children.setdefault(_above(bucket, here), []).append(bucket)
    for siblings in children.values():
        siblings.sort(key=_began)
    out: list[Row] = []
    # A stack and not recursion: a chain of ten thousand processes is a hostile sandbox's to make.
    stack = [(bucket, 0) for bucket in reversed(children.get(None, []))]
    while stack:
        bucket, depth = stack.pop()
        deeper = _bucket_rows(out, bucket, depth)
        stack += [(below, deeper) for below in reversed(children.get(bucket, []))]
    return out


def _above(bucket: Bucket, here: dict[Program, Bucket]) -> Bucket | None:
    """The bucket of the nearest program above that acts in the same turn."""
    program = bucket.program
    if program is None:
        # A process that acts before it runs a program of its own, such as a shell's fork that redirects.
        start = bucket.process.started_by if bucket.process is not None else None
        candidates = [start, *start.above()] if start is not None else []
    else:
        candidates = list(program.above())
    return next((found for p in candidates if (found := here.get(p)) is not None and found is not bucket), None)


def _began(bucket: Bucket) -> tuple[int, int]:
    times = [group.time_ns for group in bucket.groups.values()]
    if bucket.reads:
        times.append(bucket.read_first_ns)
    return (min(times, default=0), bucket.process.pid if bucket.process else 0)


def _bucket_rows(out: list[Row], bucket: Bucket, depth: int) -> int:
    """Append a bucket's rows; the depth at which programs below it stand."""
    groups = sorted(bucket.groups.values(), key=lambda g: g.time_ns)
    execs = [g for g in groups if g.program is not None]
    for group in execs:
        out.append(_exec_row(group, bucket, depth))
    deeper = depth + 1 if execs else depth
    carried = {g.connection.number for g in groups if g.connection and g.kind in _EXCHANGES}
    shown_by_kind: dict[str, list[Group]] = {}
    for group in groups:
        if group.program is None and not _carries(group, carried):
            shown_by_kind.setdefault(_class(group), []).append(group)
    acts: list[Row] = []
    more: list[Row] = []
    for kind, members in shown_by_kind.items():
        members.sort(key=lambda g: (not g.flags, g.time_ns))
        keep = members if len(members) <= MAX_ROWS_PER_KIND + 1 else members[:MAX_ROWS_PER_KIND]
        for group in keep:
            row = _act_row(group, bucket, deeper, groups)
            acts += [row] if group.mcp is None else mcp_rows(row, group.mcp, group.relay)
        if len(members) > len(keep):
            more.append(_folded_row(kind, members[len(keep) :], bucket, deeper))
    out += sorted(acts, key=lambda row: row["time_ns"])
    out += more
    if bucket.reads:
        out.append(_reads_row(bucket, deeper))
    return deeper


def _carries(group: Group, carried: set[int]) -> bool:
    """Whether a connection's row would say again what the rows of its exchanges say."""
    return group.connection is not None and group.connection.number in carried and group.kind not in _EXCHANGES


def _class(group: Group) -> str:
    if group.kind in CHANGES or (group.kind == "file.open" and "credential" not in group.flags):
        return "file changes"
    if group.kind in ("model.call", "mcp.call", "gap") or group.flags & {"credential", "hidden"}:
        return group.kind
    return "connections" if group.connection is not None else group.kind


def _row(ref: str, kind: str, time_ns: int, bucket: Bucket, depth: int, edge: Edge | None) -> Row:
    process = bucket.process
    edge = edge or bucket.edge
    return {
        "ref": ref,
        "kind": kind,
        "time_ns": time_ns,
        "pid": process.pid if process else 0,
        "pid_start_ns": process.key[2] if process else 0,
        "depth": depth,
        "process": bucket.program.name if bucket.program else process.name if process else "",
        "object": "",
        "summary": "",
        "result": None,
        "errno": None,
        "count": 1,
        "edge": {"reason": edge.reason, "confidence": round(edge.confidence, 3)} if edge else None,
        "flags": [],
        "refs": [],
    }


def _exec_row(group: Group, bucket: Bucket, depth: int) -> Row:
    program = group.program
    assert program is not None
    row = _row(group.ref, "process.exec", group.time_ns, bucket, depth, group.edge)
    known = program.argv or program.exe
    row["object"] = shown(program.argv, program.exe)[:MAX_OBJECT] if known else "a program whose name was not carried"
    row["summary"] = _ended(program)
    row["result"] = program.status
    row["refs"] = group.members.refs()
    if program.origin.decided and not program.named and row["edge"] is not None:
        row["edge"]["reason"] += ", not named by the decision"
    row["flags"] = sorted(group.flags | ({"decided"} if program.origin.root is program else set()))
    return row


def _ended(program: Program) -> str:
    status = program.status
    if program.end_ns is None or status is None:
        return ""
    took = (program.end_ns - program.time_ns) / 1e9
    if not status:
        return f"took {took:.1f} s" if took >= 1 else ""
    return f"{f'ended with {status}' if status > 0 else f'killed by signal {-status}'} after {took:.2f} s"


def _act_row(group: Group, bucket: Bucket, depth: int, groups: list[Group]) -> Row:
    row = _row(group.ref, group.kind, group.time_ns, bucket, depth, group.edge)
    connection = group.connection
    row["object"] = group.object[:MAX_OBJECT]
    row["count"], row["refs"], row["result"], row["errno"] = (
        len(group.members),
        group.members.refs(),
        group.result,
        group.errno,
    )
    flags = set(group.flags)
    if connection is not None and group.kind not in _EXCHANGES:
        row["object"] = ", ".join(connection.names)[:MAX_OBJECT] or str(connection.peer)
        row["kind"] = "net.dns" if connection.names else "net.connect" if connection.connect_ref else "net.flow"
        row["summary"] = _connection_words(connection, flags)
        row["result"], row["errno"], row["count"] = connection.result, connection.errno, 1
    elif group.kind in _EXCHANGES:
        # The exchange's row stands for its connection as well: it carries the references of both.
        own = next((g for g in groups if g.connection is connection and g.kind not in _EXCHANGES), None)
        if own is not None and connection is not None:
            row["refs"] = (row["refs"] + own.members.refs())[:16]
        row["count"] = 1
        unanswered = "refused by the gateway" if "refused" in flags else "no answer was seen"
        end = f"answered {group.result}" if group.result else unanswered
        row["summary"] = "; ".join(filter(None, (end, group.relay, group.summary)))
    elif group.summary:
        row["summary"] = f"{'read' if not group.errno else 'tried to read'} {group.summary}"
    else:
        row["summary"] = _file_words(group)
    row["flags"] = sorted(flags)
    return row


def _file_words(group: Group) -> str:
    failed = ", which failed" if group.errno else ", dropped by the packet filter" if "dropped" in group.flags else ""
    if not group.object:
        return f"{_NAMELESS.get(group.kind, group.kind)} whose name was not carried{failed}"
    return f"{_SAYS.get(group.kind, group.kind)} {group.object[:500]}{failed}"


_REFUSALS = {"reject": ", refused by the packet filter", "denied": ", which the gateway did not look up"}
_WHY_REFUSED = {
    "flow:quic": ", QUIC, refused so that its client falls back to TCP",
    "flow:limit": ", refused: too many connections were open",
}


def _connection_words(connection: Connection, flags: set[str]) -> str:
    verb = "looked up" if connection.names else "tried to reach" if connection.failed else "connected to"
    what = f"{verb} {', '.join(connection.names)[:500] or connection.peer}"
    if connection.verdict in _REFUSALS:
        flags.add("refused")
        what += _WHY_REFUSED.get(connection.prefix, _REFUSALS[connection.verdict])
    elif connection.verdict == "redirect":
        flags.add("gateway")
        what += ", turned to the gateway"
    elif connection.verdict == "allow" or connection.gateway:
        flags.add("gateway")
        claims = connection.peer.port in CLAIMS_PORTS and not connection.exchanges
        what += ", where the agent's claims are received" if claims else ", the gateway"
    elif connection.peer.is_local:
        flags.add("local")
        what += ", inside the sandbox"
    elif not connection.flow_ref:
        what += ", no packet of it was seen"
    if connection.sni:
        what += f"; TLS for {connection.sni} was not opened, its client trusts other certificates"
    if connection.tunnel:
        flags.add("tunnel")
        what += f"; for {connection.tunnel}, in bytes that are no HTTP"
    if connection.cut_off:
        what += f"; {connection.cut_off}"
    if (connection.up or connection.down) and not connection.exchanges:
        what += f"; {connection.up:,} bytes out, {connection.down:,} in"
    return what


def _folded_row(kind: str, members: list[Group], bucket: Bucket, depth: int) -> Row:
    row = _row(members[0].ref, "folded", members[0].time_ns, bucket, depth, members[0].edge)
    row["count"] = sum(len(group.members) for group in members)
    row["refs"] = [group.ref for group in members[:16]]
    row["summary"] = f"{len(members)} more {kind}"
    row["object"], row["flags"] = kind, ["folded"]
    return row


def _reads_row(bucket: Bucket, depth: int) -> Row:
    refs, count = bucket.reads.refs(), len(bucket.reads)
    row = _row(refs[0], "file.open", bucket.read_first_ns, bucket, depth, None)
    row["count"], row["refs"] = count, refs
    row["summary"] = f"opened {count:,} file{'' if count == 1 else 's'} for reading"
    if bucket.notable:
        named = ", ".join(bucket.notable[:6])
        row["summary"] = f"read {named}"[:MAX_OBJECT] + (f"; {count:,} opens in all" if count > 1 else "")
    row["flags"] = ["folded"]
    return row


def counts(buckets: Iterable[Bucket]) -> dict[str, int]:
    """How many execs, file changes and connections a turn holds."""
    out = {"process": 0, "file": 0, "net": 0}
    for bucket in buckets:
        for group in bucket.groups.values():
            if group.program is not None:
                out["process"] += 1
            elif _class(group) == "file changes":
                # Where no path was carried, each act is a change of its own.
                out["file"] += 1 if group.object else len(group.members)
            elif group.connection is not None and group.kind not in _EXCHANGES:
                out["net"] += 1
    return out
