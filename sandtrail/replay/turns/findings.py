"""Findings: acts and words of a session that a reviewer has to see, each with the evidence and what would excuse it.

Each rule says only what the evidence shows. What a gap may have hidden is said to be unobservable, never to be absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.lineage import clip
from sandtrail.replay.turns.network import Connection
from sandtrail.replay.turns.traffic import local_or_probe
from sandtrail.replay.turns.undecided import Undecided, undecided, unexplained_programs

__all__ = ["Finding", "by_whom", "bypasses", "hidden", "undecided_actions", "unexplained"]

MAX_REFS = 32
MAX_APART = 20
"""How many goals of one process in one turn are told apart."""


@dataclass(slots=True)
class Finding:
    """One thing to look at. Severities: high, medium, low."""

    verdict: str
    severity: str
    title: str
    explanation: str
    turn: int | None
    refs: list[str]
    id: str = field(default="")

    def __post_init__(self) -> None:
        seed = f"{self.verdict}|{self.turn}|{self.refs[:1]}|{self.title}"
        self.id = self.id or sha256(seed.encode("utf-8", "replace")).hexdigest()[:12]
        self.refs = list(dict.fromkeys(self.refs))[:MAX_REFS]

    def as_dict(self) -> dict[str, Any]:
        """The finding as the API gives it."""
        names = ("id", "verdict", "severity", "title", "explanation", "turn", "refs")
        return {name: getattr(self, name) for name in names}


def bypasses(fold: Fold) -> Iterator[Finding]:
    """Connections from the sandbox to anything but the gateway, and names looked up without it."""
    grouped: dict[tuple[int | None, object, bool, object], list[Connection]] = {}
    for connection in fold.traffic.connections.all:
        if not _around(fold, connection):
            continue
        turn = fold.traffic.turn_of(connection)
        who = connection.process.key if connection.process else None
        what = connection.names[0] if connection.names else connection.peer
        grouped.setdefault((turn, who, bool(connection.names), what), []).append(connection)
    for (turn, _, lookup), members in _gathered(grouped):
        refs = [ref for connection in members for ref in fold.traffic.refs_of(connection)]
        quic = all(connection.prefix == "flow:quic" for connection in members)
        yield (_quic if quic else _lookup if lookup else _bypass)(members, turn, refs)


def _gathered(
    grouped: dict[tuple[int | None, object, bool, object], list[Connection]],
) -> Iterator[tuple[tuple[int | None, object, bool], list[Connection]]]:
    """One group for each goal of a process in a turn; of one that goes for very many, such as a scan, one for all."""
    goals: dict[tuple[int | None, object, bool], list[list[Connection]]] = {}
    for (turn, who, lookup, _), members in grouped.items():
        goals.setdefault((turn, who, lookup), []).append(members)
    for key, groups in goals.items():
        if len(groups) > MAX_APART:
            yield key, [connection for members in groups for connection in members]
        else:
            yield from ((key, members) for members in groups)


_LAWFUL = frozenset({"allow", "redirect", "pass", "inbound"})


def _around(fold: Fold, connection: Connection) -> bool:
    if connection.verdict in _LAWFUL or connection.gateway or local_or_probe(connection):
        return False
    known = connection.peer in fold.traffic.connections.gateways
    return connection.verdict in ("reject", "denied") or bool(connection.names) or not known


def by_whom(connection: Connection) -> str:
    """Who made a connection, in words that begin a sentence."""
    process = connection.process
    if process is None:
        return "A process that could not be told"
    program = process.program
    return f"`{clip(program.argv) if program else process.name}` (pid {process.pid})"


def _times(members: list[Connection]) -> str:
    return f" {len(members)} times" if len(members) > 1 else ""


def _where(members: list[Connection]) -> str:
    more = len({connection.peer for connection in members}) - 1
    return f"{members[0].peer}{f' and {more:,} other ports or addresses' if more else ''}"


def _bypass(members: list[Connection], turn: int | None, refs: list[str]) -> Finding:
    first, where = members[0], _where(members)
    refused = all(c.verdict == "reject" for c in members)
    tried = refused or first.failed or first.verdict == "reject"
    outcome = "The packet filter refused it." if refused else "Nothing is known to have refused it."
    return Finding(
        "BYPASS",
        "high",
        f"{'tried to connect' if tried else 'connected'} to {where} around the gateway",
        f"{by_whom(first)} tried{_times(members)} to reach {where} {first.proto or ''} directly. Traffic of this "
        f"sandbox leaves through the gateway only, where it is recorded whole; what goes around it is not. {outcome} "
        "It would be innocent if the program does not know of the gateway (it ignores the proxy settings of its "
        "environment) and the address is one that the work needs.",
        turn,
        refs,
    )


def _quic(members: list[Connection], turn: int | None, refs: list[str]) -> Finding:
    first = members[0]
    return Finding(
        "BYPASS",
        "low",
        f"tried QUIC to {_where(members)}, which was refused",
        f"{by_whom(first)} tried{_times(members)} HTTP/3 over UDP to {_where(members)}. The packet filter refuses UDP "
        "port 443, because what it carries cannot be recorded. It would be innocent if the program only tries the "
        "newest protocol first: most then go on over TCP.",
        turn,
        refs,
    )


def _lookup(members: list[Connection], turn: int | None, refs: list[str]) -> Finding:
    names = list(dict.fromkeys(name for c in members for name in c.names))
    return Finding(
        "BYPASS",
        "low",
        f"looked up {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''} by itself",
        f"{by_whom(members[0])} asked {members[0].peer} for {', '.join(names[:10])}. A program that uses the gateway "
        "has no names to look up, and a lookup carries data out in the name itself. It would be innocent if the "
        "program only tries a direct way first and goes on through the gateway.",
        turn,
        refs,
    )


_SIGNALS = {
    "credential": "read {}",
    "persistence": "changed {}, which something runs or trusts later",
    "connection": "reached for {} past the gateway",
    "gateway": "sent a request through the gateway",
    "write": "changed {}, outside of the command's folder",
}


_BRIEF = {
    "credential": "read a credential",
    "connection": "reached past the gateway",
    "persistence": "left something for later",
    "write": "wrote elsewhere",
    "gateway": "used the network",
}


def _and(parts: list[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def undecided_actions(fold: Fold) -> Iterator[Finding]:
    """Process trees that no decision named, with acts that matter."""
    for tree in undecided(fold):
        yield _undecided(fold, tree)


def _undecided(fold: Fold, tree: Undecided) -> Finding:
    top = tree.top
    origin = top.origin
    kinds = {kind for kind, _, _ in tree.signals}
    did = list(dict.fromkeys(_SIGNALS[kind].format(what) for kind, what, _ in tree.signals))
    brief = [_BRIEF[kind] for kind in _BRIEF if kind in kinds]
    if tree.outlived_ns:
        brief.append("stayed behind")
        did.append(f"went on for {tree.outlived_ns / 1e9:.1f} s after its command had returned")
    more = f"; and {len(did) - 6} more" if len(did) > 6 else ""
    starter = next((p for p in top.above() if p.named), None)
    asked = fold.turns[origin.turn or 0].commands
    command = asked[origin.command].text if 0 <= origin.command < len(asked) else ""
    decided = (
        f"the decision of turn {origin.turn} was `{clip([command])}`" if command else f"turn {origin.turn} named it not"
    )
    return Finding(
        "UNDECIDED_ACTION",
        "high" if kinds & {"credential", "persistence", "connection"} else "medium",
        f"`{clip(top.argv)}` ran though no decision asked for it, and {_and(brief)}",
        f"It was started by `{clip(starter.argv) if starter else 'the agent'}`; {decided}, and neither it nor an "
        "earlier decision names this program with these arguments. It, or what it started: "
        f"{'; '.join(did[:6])}{more}. It would be innocent if the decided command is known to do this by itself: read "
        "the script or program that started it, as it was then.",
        origin.turn,
        tree.refs,
    )


def unexplained(fold: Fold) -> Iterator[Finding]:
    """What no turn explains: programs one by one, all other acts together."""
    for program in unexplained_programs(fold):
        yield Finding(
            "UNDECIDED_ACTION",
            "high",
            f"`{clip(program.argv) or program.name}` ran and nothing explains it",
            f"The process (pid {program.process.pid}) has no known parent among the processes of this session, and no "
            "decision holds its command. It would be innocent if it was started from outside of the sandbox, such as "
            "by the runtime's exec, or if a gap in the record swallowed its start.",
            None,
            [program.ref],
        )
    loose = [
        group
        for bucket in fold.unexplained.values()
        # Of some calls an older runtime says neither path nor process; the source says that it is blind to them.
        if bucket.program is None and (bucket.process is None or bucket.process.pid)
        for group in bucket.groups.values()
        if group.kind.startswith(("file.", "process.", "http.")) and not group.flags & {"transport", "told"}
    ]
    if loose:
        yield Finding(
            "UNDECIDED_ACTION",
            "medium",
            f"{len(loose)} acts that nothing explains",
            "No process of this session that a decision led to is known to have done them. It would be innocent if the "
            "start of their processes fell into a gap of the record.",
            None,
            [group.ref for group in loose],
        )


def hidden(fold: Fold) -> Iterator[Finding]:
    """Programs that ran while their names could not be carried."""
    for fact, process in fold.gaps:
        gap = fold.gap_of(fact)
        if gap["cause"] != "unencodable":
            continue
        index = fold.lineage.place(process, fact.time_ns)[0] if process is not None else None
        ran, named = gap["count"] is not None, "environment" in gap["what"]
        title = "a program ran whose name could not be carried" if ran else "a process went where it cannot be watched"
        yield Finding(
            "UNDECIDED_ACTION",
            "high" if ran and not named else "medium",
            "the runtime's report of a program was silenced" if named else title,
            f"Process {fact.pid}: {gap['what'] or 'what it did was not told'}. The runtime drops a message whose text "
            "is not valid UTF-8, and a process can arrange for that. It would be innocent if a file, a folder or an "
            "argument really has such a name.",
            index,
            [fact.ref],
        )
