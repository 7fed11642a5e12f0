"""Findings of secrets on their way out: placeholders that the gateway stopped, or that a name was made of."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from sandtrail.replay.events import Event
from sandtrail.replay.turns.buckets import Bucket
from sandtrail.replay.turns.facts import details
from sandtrail.replay.turns.findings import Finding, by_whom
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.lineage import clip
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.network import Connection
from sandtrail.replay.turns.passages import Told

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
    yield from _relayed(fold)


def _relayed(fold: Fold) -> Iterator[Finding]:
    """Words that left, of which it is known that a file of secrets was read for them."""
    for held in fold.web.relayed:
        told, exchange, turn = held.relays, held.exchange, held.spot[0]
        shown = fold.turns[told.turn] if told is not None else None
        if told is None or shown is None or shown.place.parent is None:
            continue
        asked = fold.turns[shown.place.parent + 1]
        read = [
            group
            for bucket in asked.buckets.values()
            if _may_give(asked, bucket, told)
            for group in bucket.groups.values()
            if "credential" in group.flags and not group.errno and group.time_ns <= shown.request_ns
        ]
        if not read:
            continue
        what, where = f"`{clip([read[0].object], 120)}`", _host(exchange.url)
        yield Finding(
            "EXFILTRATION_ATTEMPT",
            "high",
            f"what a tool gave after {what} was read was sent to {where}",
            f"In turn {asked.index} {what} was read ({read[0].summary}). The result that the model was told in turn "
            f"{shown.index} is, word for word, what `{exchange.method[:20]} {clip([exchange.url], 160)}` carried. "
            "It would be innocent if the result is not of that file, or if this service is meant to have it.",
            turn.index if turn is not None else None,
            [held.spot[2].ref, shown.exchange.request_ref if shown.exchange else "", read[0].ref],
        )


def _may_give(asked: Turn, bucket: Bucket, told: Told) -> bool:
    """Whether what a program read may be in this result: not where another of the turn's tool calls ran it."""
    origin = bucket.program.origin if bucket.program is not None else None
    if origin is None or origin.turn != asked.index or not 0 <= origin.command < len(asked.commands):
        return True
    ran = asked.commands[origin.command].tool_call_id
    return not ran or not told.tool_call_id or ran == told.tool_call_id


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "somewhere"
    except ValueError:
        return "somewhere"


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
