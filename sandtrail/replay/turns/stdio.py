"""MCP over the command's stdin and stdout: each request a row, with the answer that came for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandtrail.replay.events import Event
from sandtrail.replay.models.mcp import McpExchange
from sandtrail.replay.models.mcp_message import McpAnswer, read_message
from sandtrail.replay.turns.buckets import Bucket, Edge, Group
from sandtrail.replay.turns.facts import details
from sandtrail.replay.turns.mcp import SAME
from sandtrail.replay.turns.modelturns import Turn

if TYPE_CHECKING:
    from sandtrail.replay.turns.fold import Fold

__all__ = ["Stdio"]

MAX_OPEN = 10_000
_FROM_SERVERS = frozenset({"sampling/createMessage", "elicitation/create", "roots/list"})
_OUTSIDE = Edge("asked over the command's stdin, from outside of the sandbox", 1.0)
_COMMAND = Edge("asked over the command's stdout; which of its processes wrote it is not told", 0.5)


class Stdio:
    """Takes the events of source `stdio`."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._open: dict[tuple[str, str, str], tuple[Turn | None, Bucket, Group]] = {}

    def take(self, fact: Event) -> None:
        """Take one event: pieces are counted, requests stand under what decided them or else under the start."""
        detail = details(fact)
        message, name, part = detail.get("message"), str(detail.get("on") or ""), str(detail.get("part") or "")
        told = read_message(message, from_server=False) if isinstance(message, dict) else None
        if isinstance(told, McpAnswer):
            asked = self._open.pop((part, "stdin" if name == "stdout" else "stdout", told.id), None)
            if asked is not None and asked[2].mcp is not None:
                asked[2].mcp.calls[0].answer(told)
                self._fold.extend(*asked, fact)
                return
        if told is None or isinstance(told, McpAnswer):
            self._fold.count(None, fact)
            return
        fold = self._fold
        told.from_server = told.method in _FROM_SERVERS
        said = McpExchange("post", "stdin" if name == "stdin" else "stdout", calls=[told])
        found = fold.web.protocol.asked(said, fact.time_ns, fact.ref) if name == "stdout" else None
        edge = found[1] if found is not None else _OUTSIDE if name == "stdin" else _COMMAND
        turn, bucket = fold.bucket(found[0].index if found is not None else 0, edge, None, None)
        key = ("stdio", part, told.method) if not told.id else ("stdio", fact.ref, fact.n)
        group = fold.add(turn, bucket, key, fact, edge)
        if group.mcp is not None:
            return  # one more of the same notification
        group.kind, group.mcp = "mcp.call", said
        group.flags |= {"decided"} if found is not None and edge.confidence >= SAME else set()
        if told.id:
            if len(self._open) >= MAX_OPEN:
                self._open.pop(next(iter(self._open)))
            self._open[part, name, told.id] = (turn, bucket, group)
