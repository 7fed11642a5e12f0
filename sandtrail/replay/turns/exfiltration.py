"""Findings of secrets on their way out: placeholders that the gateway stopped, or that a name was made of."""

from __future__ import annotations

from collections.abc import Iterator

from sandtrail.replay.events import Event
from sandtrail.replay.turns.facts import details
from sandtrail.replay.turns.findings import Finding, by_whom
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.network import Connection

__all__ = ["exfiltrations"]

_MARKER = "sandtrail-secret-"
_PLACES = {
    "host": "in the name of the host",
    "url": "in the URL",
    "header": "in the header {}",
    "trailer": "in the trailer {}",
    "body": "in the body",
    "websocket": "in a WebSocket's message",
    "tunnel": "in a tunnel that is no HTTP",
}
_INNOCENT = (
    "The sandbox holds a placeholder only, so nothing secret has left. It would be innocent if the program sends its "
    "whole environment along (a crash report, what a command printed), or if the secret is meant for this host too and "
    "the operator has not said so."
)


def exfiltrations(fold: Fold) -> Iterator[Finding]:
    """Placeholders of secrets that were sent to where they do not belong."""
    grouped: dict[tuple[int | None, object, tuple[str, ...]], list[tuple[Event, Connection | None]]] = {}
    for fact, connection in fold.web.misplaced:
        told = details(fact)
        process = connection.process.key if connection is not None and connection.process is not None else None
        what = tuple(str(told.get(key, "")) for key in ("secret", "host", "in", "at"))
        turn = fold.traffic.turn_of(connection) if connection is not None else None
        grouped.setdefault((turn, process, what), []).append((fact, connection))
    for (turn, _, (secret, host, where, at)), members in grouped.items():
        connection = members[0][1]
        who = by_whom(connection) if connection is not None else "A process that could not be told"
        place = _PLACES.get(where, "in what it sent").format(at)
        often = f" {len(members)} times" if len(members) > 1 else ""
        yield Finding(
            "EXFILTRATION_ATTEMPT",
            "high",
            f"tried to send the secret {secret} to {host}",
            f"{who} sent the placeholder of {secret} {place} towards {host}{often}; that secret is not for this host, "
            f"or not to be sent in this way. The gateway refused it. {_INNOCENT}",
            turn,
            [fact.ref for fact, _ in members],
        )
    yield from _lookups(fold)


def _lookups(fold: Fold) -> Iterator[Finding]:
    for connection in fold.traffic.connections.all:
        names = [name for name in connection.names if _MARKER in name.lower()]
        if names:
            yield Finding(
                "EXFILTRATION_ATTEMPT",
                "high",
                "looked up a name that holds the placeholder of a secret",
                f"{by_whom(connection)} asked {connection.peer} for {', '.join(names[:5])}: whoever answers for that "
                f"domain gets to know what is in the name. {_INNOCENT}",
                fold.traffic.turn_of(connection),
                fold.traffic.refs_of(connection),
            )
