"""What one exchange of the Model Context Protocol says: its messages, each answer at its question."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from sandtrail.replay.models.call import MAX_PROBLEMS, scrub
from sandtrail.replay.models.mcp_message import McpAnswer, McpCall, ident_of, read_message
from sandtrail.replay.models.mcp_words import error_words

__all__ = ["MAX_MESSAGES", "McpExchange", "Sorter"]

MAX_MESSAGES = 1000
"""JSON-RPC messages of one exchange that are kept, calls and answers each."""
_META = "io.modelcontextprotocol/"


@dataclass(slots=True)
class McpExchange:
    """What one HTTP exchange carried of the protocol."""

    kind: str
    """`post`, `stream` (a GET that the server speaks on), or `end` (a DELETE of the session)."""
    server: str
    """Host and path."""
    version: str = ""
    session: str = ""
    peer: str = ""
    """Name and version that the client or the server gives itself."""
    calls: list[McpCall] = field(default_factory=list)
    to_server: list[McpAnswer] = field(default_factory=list)
    """The client's answers to what a server asked in another exchange."""
    to_client: list[McpAnswer] = field(default_factory=list)
    """The server's answers to what was posted in another exchange."""
    mismatches: list[str] = field(default_factory=list)
    """Headers that say something else than the body: whoever routes by them is told another story."""
    cut: bool = False
    """A request of it got no answer, or a stream did not end."""
    error: str | None = None
    """What the server said in place of JSON-RPC, or to no request of which it says the id."""
    problems: list[str] = field(default_factory=list)

    @property
    def link(self) -> tuple[str, str]:
        """What exchanges of one session share: the host, and the session's id or else the path."""
        host, _, path = self.server.partition("/")
        return host, self.session or f"/{path}"

    def problem(self, text: str) -> None:
        """Note something that could not be understood."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(scrub(text)[:300])


class Sorter:
    """Takes an exchange's messages in order, each in the same time however many there were; never raises."""

    def __init__(self, found: McpExchange) -> None:
        self._found = found
        self._waiting: dict[tuple[bool, str], deque[McpCall]] = {}
        """Requests by who asks and by their id; of one id the first that is not answered yet comes first."""
        self._tokens: dict[str, McpCall] = {}
        """Requests by the token under which notifications tell of their progress."""
        self._left_out = 0

    def take(self, message: Any, *, from_server: bool) -> None:
        """Sort in one message: a request, a notification, or an answer to something."""
        told = read_message(message, from_server=from_server) if isinstance(message, dict) else None
        if told is None:
            self._found.problem("a message that is neither a request nor an answer")
        elif isinstance(told, McpAnswer):
            self._answer(told, from_server=from_server)
        elif not (told.method == "notifications/progress" and from_server and self._progress(told)):
            self._call(told)

    def end(self) -> None:
        """All were taken: say how many found no room."""
        if self._left_out:
            self._found.problem(f"{self._left_out} messages are left out: more than {MAX_MESSAGES} of a kind")

    def _call(self, told: McpCall) -> None:
        if len(self._found.calls) >= MAX_MESSAGES:
            self._left_out += 1
            return
        self._found.calls.append(told)
        if told.id:
            waiting = self._waiting.setdefault((told.from_server, told.id), deque())
            if waiting:
                self._found.problem(f"two requests of the id {told.id[:80]}, of which neither was answered yet")
            waiting.append(told)
        meta = told.params.get("_meta")
        if isinstance(meta, dict) and meta.get("progressToken") is not None:
            self._tokens.setdefault(ident_of(meta["progressToken"]), told)
        self._introduce(told.params)

    def _answer(self, told: McpAnswer, *, from_server: bool) -> None:
        waiting = self._waiting.get((not from_server, told.id)) if told.id else None
        if waiting:
            waiting.popleft().answer(told)
        elif waiting is not None:
            self._found.problem(f"another answer to the request {told.id[:80]}; the first stands")
        elif from_server and not told.id and told.error is not None:
            self._found.error = error_words(told.error)[0]
        elif len(self._found.to_client) + len(self._found.to_server) < MAX_MESSAGES:
            (self._found.to_client if from_server else self._found.to_server).append(told)
        else:
            self._left_out += 1
        if from_server and isinstance(told.result, dict):
            self._introduce(told.result)

    def _progress(self, told: McpCall) -> bool:
        """Whether the notification tells of a request here: which one says a token in the request's own `_meta`."""
        call = self._tokens.get(ident_of(told.params.get("progressToken")))
        if call is not None:
            call.progress += 1
        return call is not None

    def _introduce(self, said: dict[str, Any]) -> None:
        """Version and names, from `initialize`, its answer, or the `_meta` of each request of today."""
        meta = said.get("_meta")
        meta = meta if isinstance(meta, dict) else {}
        version = said.get("protocolVersion", meta.get(f"{_META}protocolVersion"))
        if isinstance(version, str):
            self._found.version = scrub(version)[:40]
        peer = said.get("serverInfo") or said.get("clientInfo") or meta.get(f"{_META}clientInfo")
        if isinstance(peer, dict):
            self._found.peer = " ".join(scrub(str(peer[key]))[:100] for key in ("name", "version") if peer.get(key))
