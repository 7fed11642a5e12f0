"""mitmproxy as a library: its protocol layers, certificates and addons, on connections that we accept ourselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from mitmproxy import addonmanager, hooks, options
from mitmproxy.addons import disable_h2c, next_layer, proxyserver, tlsconfig
from mitmproxy.master import Master

from sandtrail.collector.gateway import bounds, http1
from sandtrail.collector.gateway.addon import Recorder
from sandtrail.collector.gateway.addon_tunnels import TunnelRecorder
from sandtrail.collector.gateway.ca import ca_folder
from sandtrail.collector.gateway.connection import Connection
from sandtrail.collector.gateway.session import Session
from sandtrail.collector.gateway.turned import Turned

__all__ = ["Engine"]

IDLE_S = 3600
"""A model may think for long before it says the first word."""
_SYSTEM_TRUST = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


class _Certificates(tlsconfig.TlsConfig):
    """mitmproxy's, without its answer to a magic path on every host."""

    request: Any = None


class _Addons(addonmanager.AddonManager):
    """mitmproxy's, for addons that never change: what each has for an event is looked up once."""

    def __init__(self, master: Any) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]
        self._calls: dict[str, list[Callable[[Any], Any]]] = {}

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """Call them one after the other. What one raises is logged, as mitmproxy does."""
        (message,) = event.args()
        calls = self._calls.get(event.name)
        if calls is None:
            found = [getattr(addon, event.name, None) for addon in self.chain]
            calls = self._calls[event.name] = [call for call in found if call is not None]
        for call in calls:
            with addonmanager.safecall():
                waiting = call(message)
                if waiting is not None:
                    await waiting


class Engine:
    """Everything of mitmproxy that the gateway runs, and nothing that listens."""

    def __init__(self, home: Path) -> None:
        bounds.install()
        http1.install()
        self._open: dict[str, Connection] = {}
        self._master = cast(Any, Master(options.Options()))
        self._master.addons = _Addons(self._master)
        # The first has the options of the layers; it is told to start no server.
        servers: Any = proxyserver.Proxyserver
        self._master.addons.add(
            servers(),
            Recorder(self._open),
            TunnelRecorder(self._open),
            disable_h2c.DisableH2C(),
            next_layer.NextLayer(),
            _Certificates(),
        )
        self._master.options.update(
            server=False,
            confdir=str(ca_folder(home)),
            connection_strategy="lazy",
            ssl_verify_upstream_trusted_ca=_trusted(),
            tcp_timeout=IDLE_S,
        )

    async def run(self) -> None:
        """Until `stop`."""
        await self._master.run()

    def stop(self) -> None:
        """End `run`."""
        self._master.shutdown()

    async def serve(
        self,
        session: Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        turned: Turned | None = None,
    ) -> None:
        """One accepted connection, for as long as it lasts."""
        connection = Connection(self._master, session, reader, writer, turned)
        session.connections += 1
        self._open[connection.client.id] = connection
        try:
            await connection.handle_client()
        finally:
            del self._open[connection.client.id]
            session.connections -= 1

    def connections(self, session: Session) -> list[Connection]:
        """The session's open connections."""
        return [connection for connection in self._open.values() if connection.session is session]


def _trusted() -> str | None:
    """The certificates by which upstreams are judged: OpenSSL's variable, else the system's, else mitmproxy's."""
    named = os.environ.get("SSL_CERT_FILE")
    if named:
        return named
    return next((path for path in _SYSTEM_TRUST if Path(path).exists()), None)
