"""One sandbox's share of the gateway: its stream, its policy, what it has learned, and the bounds on all of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sandtrail import __version__
from sandtrail.collector.frames import Frames, Spool
from sandtrail.collector.gateway.egress import Resolver
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.policy import Policy
from sandtrail.collector.gateway.redact import Redactor
from sandtrail.collector.gateway.turned import Told
from sandtrail.collector.gateway.vault import Vault
from sandtrail.collector.secrets import Secret
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


class Session:
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
        self.name = name
        self.policy = Policy.parse(descriptor)
        self.redactor = Redactor(fingerprints, descriptor.get("redact"))
        self.transparent = descriptor.get("egress", "proxy") != "proxy"
        """Whether the link turns connections to us that were meant for somewhere else."""
        self.vault = Vault(secrets, descriptor.get("secrets"), self.redactor)
        self.resolver = Resolver()
        self.told = Told()
        self.connections = 0
        self.memory = self.policy.limits.memory
        self.counts = {"connections": 0, "refused": 0, "exchanges": 0, "up_bytes": 0, "down_bytes": 0}
        self.closed = False
        sees = [*SEES, *SEES_TURNED] if self.transparent else SEES
        own = {"source": "gateway", "version": __version__, "sees": sees, "blind": BLIND, **self.policy.described()}
        if self.vault:
            own["secrets"] = self.vault.described()
        self.stream = spool.open({**descriptor, **own, "session": name})
        self._frames = Frames(self.stream, name)
        if descriptor.get("continues"):
            self._note_restart(descriptor.get("since_ns"))

    def _note_restart(self, since_ns: Any) -> None:
        """An earlier process of ours has died on this session: what it had in hand is cut, and nothing passed until
        now."""
        now = time.time_ns()
        bounds = {"after_seq": 0, "before_seq": 1, "from_ns": since_ns if isinstance(since_ns, int) else now}
        self.stream.note(
            {"note": "gap", "cause": "the gateway was started again", "count": None, **bounds, "to_ns": now}
        )

    def write(self, frame: Mapping[str, Any], *, urgent: bool = False) -> None:
        """Record a frame, its bytes in base64: it is in the spool when this returns. Raises UnrecordedError where it is
        not and the policy is to stop then; otherwise the loss becomes a gap record as soon as one can be written."""
        if self.closed:
            raise UnrecordedError("the session has ended")
        try:
            self._frames.write(frame, urgent=urgent)
        except StoreError as error:
            if self.policy.on_failure == "stop":
                raise UnrecordedError(str(error)) from error

    def reserve(self, size: int) -> bool:
        """Take `size` bytes of the session's memory for a body that is kept whole; `release` gives them back."""
        if size > self.memory:
            return False
        self.memory -= size
        return True

    def release(self, size: int) -> None:
        """Give back what `reserve` took."""
        self.memory += size

    def close(self, reason: str) -> None:
        """End the stream. Raises StoreError when its end can't be recorded."""
        if not self.closed:
            self._frames.close(reason, **self.counts)
            self.closed = True
