"""What one sandbox may reach through the gateway, and where its requests go: the operator's part of a listener's
descriptor.

    {"upstream": {"api.openai.com": "http://127.0.0.1:8089"},     requests for this name go to that base address
     "rules": {"allow": ["*.example.org"], "deny": ["bad.*"]},    see `rules`
     "redact": {…}, "limits": {…}, "on_failure": "stop" | "pass"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal
from urllib.parse import urlsplit

from sandtrail.collector.gateway.rules import Rules, canonical
from sandtrail.errors import UsageError

__all__ = ["Limits", "Policy", "Upstream"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one sandbox's share, in bytes unless it says otherwise."""

    request_body: int = 8 * MIB
    """How much of a request's body is recorded."""
    response_body: int = 16 * MIB
    """How much of a response's body is recorded, and of either direction of a tunnel that is no HTTP."""
    memory: int = 256 * MIB
    """Bodies under way that are kept whole until they end; what would not fit is recorded in chunks as it passes."""
    connections: int = 512
    """Open connections from the sandbox, a number."""
    claims: int = 1024 * MIB
    """How much of the sandbox's own telemetry is kept (docs/claims.md)."""
    claims_rate: int = 4 * MIB
    """How much of it is taken a second."""

    @classmethod
    def parse(cls, given: Any) -> Limits:
        """Read `{name: number}`. Raises UsageError."""
        known = {item.name for item in fields(cls)}
        if given is None:
            return cls()
        if not isinstance(given, Mapping) or not set(given) <= known:
            raise UsageError(f"limits are {', '.join(sorted(known))}")
        if not all(isinstance(value, int) and 0 < value <= 1 << 40 for value in given.values()):
            raise UsageError("limits are positive numbers")
        limits = cls(**given)
        if max(limits.request_body, limits.response_body) > 16 * MIB:
            # A frame holds 32 MiB, and base64 makes four bytes of three.
            raise UsageError("limits: a body of more than 16 MiB does not fit into one frame")
        return limits


@dataclass(frozen=True, slots=True)
class Upstream:
    """A base address that stands in for a name."""

    scheme: str
    host: str
    port: int
    path: str
    is_address: bool

    @classmethod
    def parse(cls, base: str) -> Upstream:
        """Read `http://127.0.0.1:8089/prefix`. Raises UsageError."""
        try:
            parts = urlsplit(base)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment or parts.username:
            raise UsageError(f"an upstream is a base address such as http://127.0.0.1:8089, not {base!r}")
        address = bool(re.fullmatch(r"[0-9.]+|.*:.*|localhost", host))
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, host, port or default, parts.path.rstrip("/"), address)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it."""

    rules: Rules
    upstreams: Mapping[str, Upstream]
    limits: Limits
    on_failure: Literal["stop", "pass"]
    """When the record can't be written: refuse the traffic, or let it pass and record the gap."""

    @classmethod
    def parse(cls, descriptor: Mapping[str, Any]) -> Policy:
        """Read a listener's descriptor. Raises UsageError for what it can't make sense of: better no gateway than one
        with other rules than were meant."""
        upstream = descriptor.get("upstream") or {}
        if not isinstance(upstream, Mapping) or not all(isinstance(v, str) for v in upstream.values()):
            raise UsageError('upstream is {"name": "http://address:port"}')
        on_failure = descriptor.get("on_failure", "stop")
        if on_failure not in ("stop", "pass"):
            raise UsageError('on_failure is "stop" or "pass"')
        upstreams = {canonical(name): Upstream.parse(base) for name, base in upstream.items()}
        return cls(Rules.parse(descriptor.get("rules")), upstreams, Limits.parse(descriptor.get("limits")), on_failure)

    def upstream(self, host: str) -> Upstream | None:
        """Where requests for this name go instead."""
        return self.upstreams.get(canonical(host))

    def described(self) -> dict[str, Any]:
        """For the stream's first frame."""
        return {
            "upstream": {name: str(upstream) for name, upstream in self.upstreams.items()},
            "rules": {**self.rules.described(), "sha256": self.rules.digest},
            "limits": asdict(self.limits),
            "on_failure": self.on_failure,
        }
