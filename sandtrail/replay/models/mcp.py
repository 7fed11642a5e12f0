"""Model Context Protocol over HTTP: calls of tools that run elsewhere, and what their servers ask in turn.

Specs: modelcontextprotocol.io, revisions 2024-11-05 (HTTP with SSE: a GET stream answers what is posted elsewhere),
2025-03-26 to 2025-11-25 (streamable HTTP: sessions, `initialize`, batches at first, servers that ask), 2026-07-28 (no
sessions; each request says all of itself in `_meta` and repeats it in headers; a server that needs something answers
with what it needs, and the request is made again under another id). JSON-RPC 2.0 in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandtrail.replay.models import sse
from sandtrail.replay.models.body import Headers, content_type, decode_body, header, load_json
from sandtrail.replay.models.call import MAX_PROBLEMS, scrub
from sandtrail.replay.models.exchange import Exchange
from sandtrail.replay.models.mcp_headers import contradictions
from sandtrail.replay.models.mcp_message import McpAnswer, McpCall, read_message

__all__ = ["McpAnswer", "McpCall", "McpExchange", "decode_mcp"]

MAX_MESSAGES = 1000
"""JSON-RPC messages of one exchange that are read."""
_META = "io.modelcontextprotocol/"
_METHODS = ("tools/", "prompts/", "resources/", "notifications/", "sampling/", "elicitation/", "roots/", "tasks/")
_METHODS_WHOLE = frozenset(
    {"initialize", "ping", "completion/complete", "logging/setLevel", "server/discover", "subscriptions/listen"}
)


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
    """What the server said in place of JSON-RPC."""
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


def decode_mcp(exchange: Exchange) -> McpExchange | None:
    """The protocol's messages in an exchange; None where it is not the protocol's. Never raises."""
    named = {key.lower() for key, _ in exchange.request_headers}
    session = header(exchange.request_headers, "mcp-session-id") or header(exchange.response_headers, "mcp-session-id")
    told = bool(session or named & {"mcp-protocol-version", "mcp-method"})
    if exchange.method == "POST":
        found = _posted(exchange, told)
    elif exchange.method == "GET":
        found = _stream(exchange, told)
    elif exchange.method == "DELETE" and session:
        found = McpExchange("end", _server(exchange.url))
    else:
        found = None
    if found is None:
        return None
    found.session = scrub(found.session or session or _query_session(exchange.url))[:200]
    found.version = found.version or scrub(header(exchange.request_headers, "mcp-protocol-version"))[:40]
    if exchange.status is not None and exchange.status >= 400 and not any(call.answered for call in found.calls):
        found.error = scrub(exchange.body[:1000].decode("utf-8", "replace")) or f"HTTP {exchange.status}"
    elif exchange.error:
        found.error = exchange.error
    return found


def _posted(exchange: Exchange, told: bool) -> McpExchange | None:
    body, problems = decode_body(exchange.asked, _coded(exchange.request_headers, exchange.request_decoded))
    if not told and b'"jsonrpc"' not in body:
        return None
    value, trouble = load_json(body)
    messages = list(_messages(value))
    if not told and not any(_is_ours(message) for message in messages):
        return None
    found = McpExchange("post", _server(exchange.url), problems=problems[:MAX_PROBLEMS])
    if trouble and not exchange.request_pending:
        found.problem(f"request: {trouble}")
    for message in messages:
        _take(found, message, from_server=False)
    if isinstance(value, list) and len(value) > MAX_MESSAGES:
        found.problem(f"{len(value) - MAX_MESSAGES} messages of a batch left out")
    if len(found.calls) == 1 and not isinstance(value, list):
        found.mismatches = contradictions(exchange.request_headers, found.calls[0].method, found.calls[0].params)
    _read_answer(found, exchange)
    asked = any(call.id and not call.from_server and not call.answered for call in found.calls)
    # 202 is how the oldest transport, and an answer to a server, are taken: the rest comes elsewhere or not at all.
    found.cut = asked and exchange.status != 202 and (exchange.response_done or bool(exchange.error))
    return found


def _stream(exchange: Exchange, told: bool) -> McpExchange | None:
    if content_type(exchange.response_headers) != "text/event-stream" and not told:
        return None
    head = exchange.body[:4096]
    if not told and b'"jsonrpc"' not in head and b"endpoint" not in head:
        return None
    found = McpExchange("stream", _server(exchange.url))
    _read_answer(found, exchange)
    ours = bool(found.calls or found.to_client or found.session)
    return found if told or ours else None


def _read_answer(found: McpExchange, exchange: Exchange) -> None:
    body, problems = decode_body(exchange.body, _coded(exchange.response_headers, exchange.response_decoded))
    for text in problems:
        found.problem(f"response: {text}")
    head = body.lstrip()[:6]
    if head.startswith((b"data:", b"event:", b"id:", b":", b"retry:")):
        for event in sse.parse(body):
            if event.event == "endpoint":
                found.session = found.session or _query_session(event.data)
                continue
            value, trouble = load_json(event.data) if event.data else (None, "")
            if trouble:
                found.problem(f"an event that is not JSON: {trouble}")
            for message in _messages(value):
                _take(found, message, from_server=True)
    elif head[:1] in (b"{", b"["):
        value, trouble = load_json(body)
        if trouble:
            found.problem(f"response: {trouble}")
        for message in _messages(value):
            _take(found, message, from_server=True)


def _take(found: McpExchange, message: dict[str, Any], *, from_server: bool) -> None:
    """Sort in one message: a request, a notification, or an answer to something."""
    told = read_message(message, from_server=from_server)
    if told is None:
        found.problem("a message that is neither a request nor an answer")
    elif isinstance(told, McpCall):
        if told.method == "notifications/progress" and from_server:
            _progress(found, told)
            return
        if len(found.calls) >= MAX_MESSAGES:
            found.problem("more messages than are read")
            return
        found.calls.append(told)
        _introduce(found, told.params)
    else:
        asked = next((call for call in found.calls if call.id == told.id and call.from_server != from_server), None)
        if asked is not None:
            asked.answer(told)
        elif len(found.to_client) + len(found.to_server) < MAX_MESSAGES:
            (found.to_client if from_server else found.to_server).append(told)
        if from_server and isinstance(told.result, dict):
            _introduce(found, told.result)


def _progress(found: McpExchange, told: McpCall) -> None:
    """Of which call it is says a token in the call's own `_meta`."""
    token = told.params.get("progressToken")
    for call in found.calls:
        meta = call.params.get("_meta")
        if token is not None and isinstance(meta, dict) and meta.get("progressToken") == token:
            call.progress += 1
            return
    if len(found.calls) < MAX_MESSAGES:
        found.calls.append(told)


def _introduce(found: McpExchange, said: dict[str, Any]) -> None:
    """Version and names, from `initialize`, its answer, or the `_meta` of each request of today."""
    meta = said.get("_meta")
    meta = meta if isinstance(meta, dict) else {}
    version = said.get("protocolVersion", meta.get(f"{_META}protocolVersion"))
    if isinstance(version, str):
        found.version = scrub(version)[:40]
    peer = said.get("serverInfo") or said.get("clientInfo") or meta.get(f"{_META}clientInfo")
    if isinstance(peer, dict):
        found.peer = " ".join(scrub(str(peer[key]))[:100] for key in ("name", "version") if peer.get(key))


def _messages(value: Any) -> Iterator[dict[str, Any]]:
    for message in (value if isinstance(value, list) else [value])[:MAX_MESSAGES]:
        if isinstance(message, dict):
            yield message


def _is_ours(message: dict[str, Any]) -> bool:
    method = message.get("method")
    if message.get("jsonrpc") != "2.0" or not isinstance(method, str):
        return False
    return method in _METHODS_WHOLE or method.startswith(_METHODS)


def _coded(headers: Headers, decoded: bool) -> Headers:
    return [] if decoded else headers


def _server(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return scrub(url.partition("?")[0])[:500]
    return scrub(f"{parts.netloc.rpartition('@')[2]}{parts.path}")[:500]


def _query_session(url: str) -> str:
    """The session in a URL of the transport of 2024."""
    try:
        query = parse_qs(urlsplit(url).query, max_num_fields=100)
    except ValueError:
        return ""
    return next((scrub(query[key][0])[:200] for key in ("session_id", "sessionId") if key in query), "")
