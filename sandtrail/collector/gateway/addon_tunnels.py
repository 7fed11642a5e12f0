"""mitmproxy's hooks for what is no HTTP exchange: WebSocket messages and tunnels of bytes.

As in `addon`: recorded first, and no placeholder of a secret passes that does not belong there."""

from __future__ import annotations

from collections.abc import Mapping

from mitmproxy import connection, http, tcp
from wsproto.frame_protocol import Opcode

from sandtrail.collector.gateway.connection import Connection
from sandtrail.collector.gateway.refusal import Refusal
from sandtrail.collector.gateway.session import UnrecordedError
from sandtrail.collector.gateway.tunnel import Tunnel, record_message, record_websocket_end

__all__ = ["TunnelRecorder"]


class TunnelRecorder:
    """The addon. `connections` is the engine's: the open connections by the client's id."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections

    def _link(self, client: connection.Client) -> Connection:
        return self._connections[client.id]

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """Messages follow."""
        self._link(flow.client_conn).tunnelled = True

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """A message is about to be passed on, or a control frame that carries something (`bounds`). The reason of a
        close is recorded with the end."""
        link = self._link(flow.client_conn)
        assert flow.websocket is not None
        message = flow.websocket.messages[-1]
        try:
            if message.type == Opcode.CLOSE:
                flow.websocket.messages.clear()
            else:
                record_message(link, flow)
        except UnrecordedError as error:
            message.dropped = True
            link.abort(str(error))
            return
        access = flow.metadata["access"]
        if not message.from_client:
            came = message.content
            if returns := access.returns():
                message.content = returns.text(came)
            if message.type not in (Opcode.TEXT, Opcode.BINARY) and message.content != came:
                message.dropped = True
                link.abort("a control frame of the WebSocket brought a secret back")
        elif found := flow.metadata.setdefault("lookout", access.lookout()).feed(message.content):
            message.dropped = True
            link.cut_off(access.refuse(found, "websocket"))

    def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Either side has closed it."""
        link = self._link(flow.client_conn)
        link.tunnelled = False
        try:
            record_websocket_end(link, flow)
        except UnrecordedError as error:
            link.abort(str(error))

    def tcp_start(self, flow: tcp.TCPFlow) -> None:
        """Bytes that are no HTTP; `egress` judges where they go."""
        link = self._link(flow.client_conn)
        link.tunnelled = True
        flow.metadata["tunnel"] = Tunnel(link, flow)
        host, vault = (flow.server_conn.address or ("",))[0], link.session.vault
        access = flow.metadata["access"] = vault.tunnel(host)
        flow.metadata["lookout"] = access.lookout()
        if found := vault.in_names(host, flow.server_conn.sni or ""):
            link.cut_off(access.refuse(found, "host"))

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        """Bytes are about to be passed on."""
        link, message = self._link(flow.client_conn), flow.messages[-1]
        try:
            flow.metadata["tunnel"].record(flow)
        except UnrecordedError as error:
            message.content = b""
            link.abort(str(error))
            return
        if message.from_client:
            if found := flow.metadata["lookout"].feed(message.content):
                message.content = b""
                link.cut_off(flow.metadata["access"].refuse(found, "tunnel"))
        elif spoken := flow.metadata["tunnel"].answered(message.content):
            message.content = b""
            link.cut_off(Refusal(403, "unread", f"{spoken} that did not begin as such: nobody could have read it"))
        elif link.upgraded is not None and (returns := link.upgraded.returns()):
            message.content = returns.text(message.content)

    def tcp_end(self, flow: tcp.TCPFlow) -> None:
        """Both sides are done."""
        self._end_tunnel(flow, "")

    def tcp_error(self, flow: tcp.TCPFlow) -> None:
        """It broke off, or was never made."""
        self._end_tunnel(flow, flow.error.msg if flow.error else "")

    def _end_tunnel(self, flow: tcp.TCPFlow, message: str) -> None:
        self._link(flow.client_conn).tunnelled = False
        try:
            flow.metadata["tunnel"].end(message)
        except UnrecordedError as error:
            self._link(flow.client_conn).abort(str(error))
