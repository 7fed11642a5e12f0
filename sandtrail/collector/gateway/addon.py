"""mitmproxy's hooks: decide, record, let pass. In that order, and nothing passes that was to be recorded and is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mitmproxy import connection, http, tls
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, layers, server_hooks

from sandtrail.collector.gateway.connection import Connection
from sandtrail.collector.gateway.exchange import Exchange
from sandtrail.collector.gateway.redact import printable
from sandtrail.collector.gateway.refusal import Refusal
from sandtrail.collector.gateway.route import route
from sandtrail.collector.gateway.rules import Decision
from sandtrail.collector.gateway.session import UnrecordedError
from sandtrail.collector.gateway.turned import mismatch
from sandtrail.collector.gateway.unread import Undecided, no_request, undecided, without_empty_lines

__all__ = ["Recorder"]

_TO_THE_PROXY = frozenset({b"proxy-authorization", b"proxy-connection"})
_DNS_PORTS = frozenset({53, 5353})
_UNRECORDED = Refusal(503, "unrecorded", "nothing may pass that cannot be recorded, and now it cannot")


class Recorder:
    """The addon. `connections` is the engine's: the open connections by the client's id."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections

    def _link(self, client: connection.Client) -> Connection:
        return self._connections[client.id]

    # -- connections ---------------------------------------------------------------------------------------------------

    def client_connected(self, client: connection.Client) -> None:
        """Refuse what is over the session's share."""
        link = self._link(client)
        session = link.session
        session.counts["connections"] += 1
        if session.connections > session.policy.limits.connections:
            session.counts["refused"] += 1
            client.error = "too many connections"
            link.record_error(f"refused: over {session.policy.limits.connections} connections are open", "refused")
        elif link.turned is not None:
            try:
                link.record_connect(link.turned.ip, link.turned.port, turned=True)
            except UnrecordedError:
                client.error = _UNRECORDED.message

    def client_disconnected(self, client: connection.Client) -> None:
        """The connection is over, and whatever was under way on it."""
        self._link(client).end()

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """The connection's task asks once more whether it may: see `egress`."""
        assert data.server.address is not None
        link = self._link(data.client)
        host = data.server.address[0] if link.turned is None else data.client.sni or data.server.address[0]
        if link.session.vault.in_names(host, data.server.sni or ""):
            data.server.error = "the name holds the placeholder of a secret"
            return
        if data.server.address in link.mapped or data.server.address in link.vetted:
            return
        rules = link.session.policy.rules
        judge = rules.judge_tunnel if link.tunnelled else rules.judge_host
        named = dict.fromkeys(filter(None, (host, data.client.sni)))
        decision = next((found for found in map(judge, named) if found.denial), Decision())
        data.server.error = decision.denial or None
        if link.turned is not None and not decision.denial:
            data.server.error = await mismatch(link.session, link.turned, [host])
        if link.turned is not None and data.server.error:
            link.record_error(data.server.error, "denied" if decision.denial else "mismatch")

    def http_connect(self, flow: http.HTTPFlow) -> None:
        """A CONNECT; what it is for is decided by what comes through it."""
        link = self._link(flow.client_conn)
        link.mapped.clear()
        headers, _ = link.session.redactor.headers(flow.request.headers.fields)
        try:
            link.record_connect(flow.request.host, flow.request.port, method="CONNECT", headers=headers)
        except UnrecordedError:
            flow.response = _answer(_UNRECORDED)
        if found := link.session.vault.in_names(flow.request.host):
            refusal = link.session.vault.refusal(found, flow.request.host, "host")
            link.record_error(refusal.message, refusal.reason, status=refusal.status, **refusal.facts)
            flow.response = _answer(refusal)

    def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """What cannot be said yet is waited for, see `unread`. And mitmproxy takes whatever goes to port 53 for DNS,
        which nothing here records, and words for HTTP; as bytes they are recorded."""
        address, data = nextlayer.context.server.address, nextlayer.data_client()  # type: ignore[no-untyped-call]
        if data and undecided(data):
            nextlayer.layer = Undecided(nextlayer.context)
        elif address and (no_request(data) or address[1] in _DNS_PORTS and not starts_like_tls_record(data)):
            nextlayer.layer = layers.TCPLayer(nextlayer.context)
        else:
            without_empty_lines(nextlayer)

    # -- TLS -----------------------------------------------------------------------------------------------------------

    def tls_established_client(self, data: tls.TlsData) -> None:
        """The client trusts us."""
        link, alpn = self._link(data.context.client), data.conn.alpn or b""
        link.record_tls(data.conn.sni, established=True, version=data.conn.tls_version, alpn=printable(alpn))

    def tls_failed_client(self, data: tls.TlsData) -> None:
        """The client does not trust us, or speaks no TLS that we do: its name and its byte counts are all there is."""
        link = self._link(data.context.client)
        link.record_tls(data.conn.sni, established=False, message=link.session.redactor.message(data.conn.error or ""))

    # -- HTTP ----------------------------------------------------------------------------------------------------------

    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Where does it go, may it go there, and will its body be known before it does?"""
        link = self._link(flow.client_conn)
        exchange = link.exchanges[flow.id] = Exchange(link, flow)
        if flow.error:
            return  # malformed: the engine refuses it next
        try:
            if not link.connected:
                link.record_connect(flow.request.host, flow.request.port)
            refusal = await route(link, flow, exchange)
            if exchange.ended:
                _kill(flow)  # the client has gone while its name was looked up
            elif refusal is not None:
                link.refuses = True
                flow.metadata["refusal"] = refusal
            elif exchange.must_stream_request():
                exchange.stream_request()
                exchange.send_secrets()
                _keep_ours(flow.request)
        except UnrecordedError:
            flow.metadata["refusal"] = _UNRECORDED

    async def request(self, flow: http.HTTPFlow) -> None:
        """All of the request is there, or all of it has passed."""
        link = self._connections.get(flow.client_conn.id)
        exchange = link.exchanges.get(flow.id) if link is not None else None
        if link is None or exchange is None:
            _kill(flow)  # the client has gone, and the record of it is closed
            return
        link.refuses = False
        streamed = bool(flow.request.stream)
        refusal = _worse(flow.metadata.get("refusal"), await exchange.judge_body())
        try:
            await exchange.record_request(refused=refusal is not None)
            if refusal is not None:
                exchange.fail(refusal.message, **refusal.frame())
                flow.metadata["refusal"] = refusal
                if streamed:
                    link.abort(refusal.message)
                else:
                    flow.response = _answer(refusal)
            elif not streamed:
                exchange.send_secrets()
            _keep_ours(flow.request)
        except UnrecordedError as error:
            if streamed:
                link.abort(str(error))
            else:
                flow.metadata["refusal"] = _UNRECORDED
                flow.response = _answer(_UNRECORDED)
        if exchange.done and flow.response is not None:
            link.exchanges.pop(flow.id, None)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """An upstream's response begins, or one of ours."""
        link = self._link(flow.client_conn)
        exchange = link.exchanges[flow.id]
        if exchange.ended or flow.response is None or "refusal" in flow.metadata:
            return
        if flow.response.headers.get("transfer-encoding", "chunked").strip().lower() not in ("chunked", "identity"):
            link.record_error("the response is under a transfer coding that nobody could read", "malformed")
            _kill(flow)
            return
        try:
            exchange.begin_response()
        except UnrecordedError:
            link.abort("the response could not be recorded")
        if flow.response.status_code == 101 and not _is_websocket(flow.request, flow.response):
            # What follows is no HTTP any more, and could be any request.
            link.upgraded = flow.metadata["access"]
            rules = link.session.policy.rules
            for decision in map(rules.judge_tunnel, flow.metadata["names"]):
                if decision.denial:
                    facts = {"rules": rules.digest, "rule": decision.rule}
                    link.cut_off(Refusal(403, "denied", decision.denial, facts))

    def response(self, flow: http.HTTPFlow) -> None:
        """A response is whole; its request may still be on its way."""
        link = self._link(flow.client_conn)
        exchange = link.exchanges[flow.id]
        try:
            exchange.record_response()
        except UnrecordedError as error:
            link.abort(str(error))
        if exchange.done:
            del link.exchanges[flow.id]

    def error(self, flow: http.HTTPFlow) -> None:
        """A request or its response broke off, was malformed, or could not be sent."""
        link = self._connections.get(flow.client_conn.id)
        exchange = link.exchanges.pop(flow.id, None) if link is not None else None
        if exchange is not None and flow.error is not None:
            _unless_unrecorded(exchange, flow.error.msg)


def _unless_unrecorded(exchange: Exchange, message: str) -> None:
    try:
        exchange.fail(message, by="engine")
    except UnrecordedError:
        return  # nothing passes any more on this exchange; the session counts what it could not record


def _worse(refusal: Refusal | None, other: Refusal | None) -> Refusal | None:
    """One refusal of two reasons: that a secret was to leave is said whatever else forbade it."""
    if refusal is None or other is None:
        return refusal or other
    return replace(other, facts={**refusal.facts, **other.facts})


def _kill(flow: http.HTTPFlow) -> None:
    if flow.killable:
        flow.kill()  # type: ignore[no-untyped-call]


def _is_websocket(request: http.Request, response: http.Response) -> bool:
    """Whether the engine reads messages from here on. If not, it passes bytes on, whatever the server calls them."""
    version = request.headers.get("sec-websocket-version", "")
    return bool(response.headers.get("upgrade", "").lower() == "websocket" and version == "13")


def _answer(refusal: Refusal) -> http.Response:
    headers = {"content-type": "text/plain; charset=utf-8", "server": "sandtrail-gateway"}
    return http.Response.make(refusal.status, refusal.text.encode("utf-8", "replace"), headers)


def _keep_ours(request: http.Request) -> None:
    """Take out what the client said to its proxy, and to nobody else."""
    fields = tuple(field for field in request.headers.fields if field[0].lower() not in _TO_THE_PROXY)
    if len(fields) < len(request.headers.fields):
        request.headers.fields = fields
