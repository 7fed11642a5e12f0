"""Model Context Protocol over HTTP: calls of tools that run elsewhere, and what their servers ask in turn.

Specs: modelcontextprotocol.io, revisions 2024-11-05 (HTTP with SSE: a GET stream answers what is posted elsewhere),
2025-03-26 to 2025-11-25 (streamable HTTP: sessions, `initialize`, batches at first, servers that ask), 2026-07-28 (no
sessions; each request says all of itself in `_meta` and repeats it in headers; a server that needs something answers
with what it needs, and the request is made again under another id). JSON-RPC 2.0 in all of them.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandtrail.replay.models import sse
from sandtrail.replay.models.body import Headers, content_type, decode_body, header, load_json, opening
from sandtrail.replay.models.call import MAX_PROBLEMS, scrub
from sandtrail.replay.models.exchange import Exchange
from sandtrail.replay.models.mcp_exchange import McpExchange, Sorter
from sandtrail.replay.models.mcp_headers import contradictions
from sandtrail.replay.models.mcp_message import McpAnswer, McpCall

__all__ = ["McpAnswer", "McpCall", "McpExchange", "decode_mcp"]

_METHODS = ("tools/", "prompts/", "resources/", "notifications/", "sampling/", "elicitation/", "roots/", "tasks/")
_METHODS_WHOLE = frozenset(
    {"initialize", "ping", "completion/complete", "logging/setLevel", "server/discover", "subscriptions/listen"}
)


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
    answered = any(call.answered for call in found.calls)
    if exchange.status is not None and exchange.status >= 400 and not answered and found.error is None:
        found.error = _head(_answer(exchange)[0]) or f"HTTP {exchange.status}"
    elif exchange.error:
        found.error = exchange.error
    return found


def _posted(exchange: Exchange, told: bool) -> McpExchange | None:
    body, problems = decode_body(exchange.asked, _coded(exchange.request_headers, exchange.request_decoded))
    if not told and b'"jsonrpc"' not in body:
        return None
    value, trouble = load_json(body)
    messages = _messages(value)
    if not told and not any(_is_ours(message) for message in messages):
        return None
    found = McpExchange("post", _server(exchange.url), problems=problems[:MAX_PROBLEMS])
    if trouble and not exchange.request_pending:
        found.problem(f"request: {trouble}")
    sorter = Sorter(found)
    for message in messages:
        sorter.take(message, from_server=False)
    if len(found.calls) == 1 and not isinstance(value, list):
        found.mismatches = contradictions(exchange.request_headers, found.calls[0].method, found.calls[0].params)
    _read_answer(found, sorter, exchange)
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
    _read_answer(found, Sorter(found), exchange)
    found.cut = exchange.response_cut or bool(exchange.error)
    ours = bool(found.calls or found.to_client or found.session)
    return found if told or ours else None


def _answer(exchange: Exchange) -> tuple[bytes, list[str]]:
    return decode_body(exchange.body, _coded(exchange.response_headers, exchange.response_decoded))


def _read_answer(found: McpExchange, sorter: Sorter, exchange: Exchange) -> None:
    body, problems = _answer(exchange)
    for text in problems:
        found.problem(f"response: {text}")
    head = opening(body)
    if head.startswith(sse.BEGINNINGS):
        for event in sse.parse(body):
            if event.event == "endpoint":
                found.session = found.session or _query_session(event.data)
                continue
            value, trouble = load_json(event.data) if event.data else (None, "")
            if trouble:
                found.problem(f"an event that is not JSON: {trouble}")
            for message in _messages(value):
                sorter.take(message, from_server=True)
    elif head[:1] in (b"{", b"["):
        value, trouble = load_json(body)
        if trouble:
            found.problem(f"response: {trouble}")
        for message in _messages(value):
            sorter.take(message, from_server=True)
    elif head:
        found.problem("the answer is neither JSON nor a stream of events")
        found.error = _head(body)
    sorter.end()


def _head(body: bytes) -> str:
    return scrub(body[:1000].decode("utf-8", "replace"))


def _messages(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_ours(message: Any) -> bool:
    method = message.get("method") if isinstance(message, dict) else None
    if not isinstance(method, str) or message.get("jsonrpc") != "2.0":
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
