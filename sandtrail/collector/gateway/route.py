"""Where a request goes, and whether it may: the rules first, then the operator's upstreams, then addresses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mitmproxy import http

from sandtrail.collector.gateway.policy import Upstream
from sandtrail.collector.gateway.redact import printable
from sandtrail.collector.gateway.refusal import Refusal
from sandtrail.collector.gateway.turned import mismatch

if TYPE_CHECKING:
    from sandtrail.collector.gateway.connection import Connection
    from sandtrail.collector.gateway.exchange import Exchange

__all__ = ["names_of", "route"]

_PORTED = re.compile(r"\[([^\[\]]*)\](?::[0-9]*)?|([^:]*):[0-9]*")
# Servers and frameworks that take one of these take it for the method, and for the path.
_OVERRIDES = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
_OTHER_PATHS = frozenset({b"x-original-url", b"x-rewrite-url"})
_VERSIONS = ("HTTP/1.0", "HTTP/1.1", "HTTP/2.0")
_METHOD = re.compile(rb"[!#-'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(rb"/[^\0-\x20\x7f]*|\*")
_ORIGIN = re.compile(r"\A[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)
_BREAK = re.compile(rb"[\0\r\n]")


async def route(link: Connection, flow: http.HTTPFlow, exchange: Exchange) -> Refusal | None:
    """Send the request where the policy says; the refusal where it may not go."""
    request, policy = flow.request, link.session.policy
    names, host = names_of(link, flow), host_of(link, flow)
    flow.metadata["names"] = names
    upstream = policy.upstream(host)
    private = upstream is not None or request.scheme == "https"
    access = flow.metadata["access"] = exchange.access = link.session.vault.access(names, private=private)
    if refusal := access.judge_head(request, names):
        return refusal
    if doubt := _ambiguous(flow):
        return Refusal(400, "malformed", doubt)
    decision = policy.rules.judge(names, _methods(request), *_paths(request))
    exchange.decided(decision)
    if decision.denial:
        facts = {"rules": policy.rules.digest, "rule": decision.rule}
        return Refusal(403, "denied", decision.denial, facts)
    if link.turned is not None and (reason := await mismatch(link.session, link.turned, names)):
        return Refusal(403, "mismatch", reason, {"address": link.turned.ip})
    if upstream is not None:
        exchange.upstream = str(upstream)
        link.mapped.add((upstream.host, upstream.port))
        _redirect(request, upstream)
        return None
    if link.turned is not None:
        link.vetted.add((request.host, request.port))
    try:
        reason = await link.session.resolver.refusal(request.host)
    except OSError as error:
        return Refusal(502, "unresolved", f"cannot resolve {printable(request.host)[:255]}: {error}")
    return Refusal(403, "refused", reason) if reason else None


def _ambiguous(flow: http.HTTPFlow) -> str:
    """Why a server may take the request for another than the one that is judged and recorded; empty where it is clear.
    HTTP/2 has texts where HTTP/1 has a line, and the server at the other end may be of either. RFC 9110 5.5, 9.1; RFC
    9112 3, 5.2, 6.1; RFC 9113 8.2.1."""
    request = flow.request
    if not _METHOD.fullmatch(request.data.method):
        return "the method is no word"
    if not _PATH.fullmatch(request.data.path):
        return "the target is no path"
    if request.is_http2 and flow.client_conn.alpn != b"h2" or request.http_version not in _VERSIONS:
        return "it is of another version of HTTP than the connection"
    if len(request.headers.get_all("host")) > 1:
        return "it names its host twice"
    if any(_BREAK.search(value) for _, value in request.headers.fields):
        return "a header goes on over a line's end"
    if request.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        return "the body is under a transfer coding that nobody could read"
    return ""


def names_of(link: Connection, flow: http.HTTPFlow) -> list[str]:
    """Every host that somebody on the way may take for the one that is meant. An address that the client connected to
    by itself is one only where nothing has a name."""
    request = flow.request
    # HTTP/2 has a host of its own beside a header of that name, and of headers there may be several.
    hosts = request.headers.get_all("host")
    names = [request.host_header or "", *hosts, request.authority, flow.client_conn.sni or ""]
    if link.turned is None or not any(names):
        names.insert(0, request.host)
    return list(dict.fromkeys(filter(None, map(_without_port, names))))


def host_of(link: Connection, flow: http.HTTPFlow) -> str:
    """The host that the request is for."""
    request = flow.request
    if link.turned is None:
        return request.host
    return _without_port(request.host_header or flow.client_conn.sni or "") or request.host


def _methods(request: http.Request) -> list[str]:
    return [request.method, *_values(request, _OVERRIDES)]


def _paths(request: http.Request) -> list[str]:
    return [request.path, *(_ORIGIN.sub("", value, count=1) for value in _values(request, _OTHER_PATHS))]


def _values(request: http.Request, names: frozenset[bytes]) -> list[str]:
    fields = request.headers.fields
    return [value.decode("utf-8", "surrogateescape").strip() for name, value in fields if name.lower() in names]


def _without_port(name: str) -> str:
    """A name that stands in another form stays as it is: no rule means to allow `good.test:@bad.test`."""
    found = _PORTED.fullmatch(name)
    return next(filter(None, found.groups()), name) if found else name


def _redirect(request: http.Request, upstream: Upstream) -> None:
    """Like curl's --connect-to: a mapped name keeps its Host header, unless the upstream is itself a name."""
    path = upstream.path.encode() + request.data.path if request.data.path.startswith(b"/") else request.data.path
    if not upstream.is_address:
        request.host = upstream.host  # sets the Host header too
    request.data.host, request.data.port = upstream.host, upstream.port
    request.data.scheme = upstream.scheme.encode()
    request.data.path = path
