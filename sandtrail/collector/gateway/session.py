"""One sandbox's share of the gateway: its stream, its policy, what it has learned, and the bounds on all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from sandtrail import __version__
from sandtrail.collector.frames import Spool
from sandtrail.collector.gateway.egress import Resolver
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.policy import Policy
from sandtrail.collector.gateway.redact import Redactor
from sandtrail.collector.gateway.turned import Told
from sandtrail.collector.gateway.vault import Vault
from sandtrail.collector.secrets import Secret
from sandtrail.collector.share import Share
from sandtrail.errors import StoreError

__all__ = ["Session", "UnrecordedError"]

SEES = [
    "HTTP/1.1, HTTP/2 and WebSocket through the proxy, whole, up to the recorded limits",
    "names, addresses, TLS parameters and byte counts of every connection to the proxy",
]
SEES_TURNED = [
    "the same of connections that were meant for somewhere else and turned to the gateway",
    "names that were looked up and refused; all look-ups are in the packet filter's record",
]
BLIND = [
    "traffic that does not take the gateway: the packet filter on the sandbox's link records it",
    "content of connections whose client does not trust the gateway's certificate: name and byte counts only",
    "credentials: replaced by keyed fingerprints before anything is written",
]


class UnrecordedError(Exception):
    """A frame could not be recorded, and what it tells of must not pass: the policy says so, or the session is over."""


class Session(Share):
    """Made when its listener is handed over. Raises UsageError for a descriptor that it can't make sense of, StoreError
    when the stream can't be opened."""

    def __init__(
        self,
        name: str,
        descriptor: Mapping[str, Any],
        spool: Spool,
        fingerprints: Fingerprinter,
        secrets: Iterable[Secret] = (),
    ) -> None:
        self.policy = Policy.parse(descriptor)
        self.redactor = Redactor(fingerprints, descriptor.get("redact"))
        self.transparent = descriptor.get("egress", "proxy") != "proxy"
        """Whether the link turns connections to us that were meant for somewhere else."""
        self.vault = Vault(secrets, descriptor.get("secrets"), self.redactor)
        self.resolver = Resolver()
        self.told = Told()
        self.turn = asyncio.Lock()
        """Held by the connection whose piece of traffic is worked on, until others have had their turn too."""
        sees = [*SEES, *SEES_TURNED] if self.transparent else SEES
        own = {"source": "gateway", "version": __version__, "sees": sees, "blind": BLIND, **self.policy.described()}
        if self.vault:
            own["secrets"] = self.vault.described()
        counts = ("connections", "refused", "exchanges", "interim", "up_bytes", "down_bytes")
        memory = self.policy.limits.memory
        super().__init__(name, {**descriptor, **own}, spool, counts=counts, memory=memory)

    def write(self, frame: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Record a frame, its bytes in base64: it is in the spool when this returns. Raises UnrecordedError where it is
        not and the policy is to stop then; otherwise the loss becomes a gap record as soon as one can be written."""
        if self.closed:
            raise UnrecordedError("the session has ended")
        try:
            self.frames.write(frame, urgent=urgent)
        except StoreError as error:
            if self.policy.on_failure == "stop":
                raise UnrecordedError(str(error)) from error
