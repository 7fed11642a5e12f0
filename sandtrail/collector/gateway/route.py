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
# Servers and frameworks that take one of these take it for the method.
_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")


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
    decision = policy.rules.judge(names, _methods(request), request.path)
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
    named = [value for name in _OVERRIDES for value in request.headers.get_all(name)]
    return [request.method, *(value.strip() for value in named)]


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
