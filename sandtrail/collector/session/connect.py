"""The way out of a session's sandbox: its link is made, and the keeper gets every socket on it to be recorded."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from sandtrail.collector.control import Keeper
from sandtrail.collector.network import wire as network
from sandtrail.collector.network.wire import Wire
from sandtrail.collector.secrets import Secret, write_handed
from sandtrail.collector.session.options import RecordOptions

__all__ = ["connect"]


def connect(keeper: Keeper, session: str, options: RecordOptions, secrets: list[Secret]) -> None:
    """Make the link, and have it recorded and served; nothing of it is kept open here when it returns.

    `secrets` go to the gateway, and the list is then empty: this process has no more use for them. Raises
    SandtrailError and OSError; what was made until then is removed with the session.
    """
    services = network.CLAIMS_PORTS if options.claims else ()
    with contextlib.closing(Wire.create(session, options.egress, services)) as link:
        common = {"link": link.wire, "sandbox_address": network.SANDBOX_ADDRESS, "address": network.WIRE_ADDRESS}
        common["egress"] = options.egress
        filtered = {"source": "netfilter", "sees": link.sees, "blind": link.blind, **common}
        keeper.adopt(session, link.nflog.fileno(), filtered)
        if link.conntrack is not None:
            flows = {"source": "conntrack", "sees": ["flows that pass: beginning, end, volume"], **common}
            keeper.adopt(session, link.conntrack.fileno(), {**flows, "blind": ["refused flows"]})
        given = {"redact": options.boundary.redact, "limits": options.boundary.limits}
        bounds = {name: value for name, value in given.items() if value}
        claims = {"source": "claims", **bounds, "ports": list(services), **common}
        served = [sock.fileno() for sock in link.services]
        # Both processes start at the same time.
        with keeper.listening(session, served, claims, "claims") if served else contextlib.nullcontext():
            listeners = [sock.fileno() for sock in (link.listener, link.names) if sock is not None]
            gateway = {"source": "gateway", **options.boundary.described(), **common}
            _open_gateway(keeper, session, listeners, gateway, secrets)


def _open_gateway(
    keeper: Keeper, session: str, listeners: list[int], descriptor: dict[str, Any], secrets: list[Secret]
) -> None:
    if not secrets:
        keeper.listen(session, listeners, descriptor)
        return
    named = [{"name": secret.name, "hosts": list(secret.hosts)} for secret in secrets]
    handed = write_handed(secrets)
    try:
        keeper.listen(session, [*listeners, handed], {**descriptor, "secrets": named})
    finally:
        os.close(handed)
        secrets.clear()
