"""One export as it came: what its head says of it, and the frame that keeps it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from sandtrail.collector.claims.answers import JSON, PROTOBUF, Answer
from sandtrail.collector.claims.limits import MAX_BODY
from sandtrail.collector.claims.redact import readable

__all__ = ["Export", "Headers"]

Headers = Sequence[tuple[bytes, bytes]]

_PATHS: Final = {f"/v1/{signal}": signal for signal in ("traces", "logs", "metrics")} | {
    f"/opentelemetry.proto.collector.{package}.v1.{name}Service/Export": signal
    for package, name, signal in (
        ("trace", "Trace", "traces"),
        ("logs", "Logs", "logs"),
        ("metrics", "Metrics", "metrics"),
    )
}


@dataclass(slots=True)
class Export:
    """An export under way. `body` grows up to the limit; `taken` counts on."""

    client: tuple[str, int]
    port: int
    http_version: str
    method: str
    path: str
    headers: Headers
    grpc: bool = False
    compressed: str = ""
    """The content coding of the body: the header's, or that of the gRPC message."""
    body: bytearray = field(default_factory=bytearray)
    taken: int = 0
    held: int = 0
    """How much of the session's memory it has."""
    framed: bool = False
    """The body still has gRPC's framing, which is not as it should be."""
    cut: bool = False
    """It did not come whole, or is longer than what is kept."""
    problem: Answer | None = None
    """Why it is not taken, where its framing tells already."""
    start_ns: int = field(default_factory=time.time_ns)
    since: float = field(default_factory=time.monotonic)
    digest: Any = field(default_factory=sha256)

    def header(self, name: bytes) -> str:
        """A header's value, in lower case and without parameters; empty where there is none. Several of a name are one
        list (RFC 9110, section 5.3)."""
        values = [value.split(b";")[0].strip().lower() for key, value in self.headers if key.lower() == name]
        return b",".join(values).decode("latin-1")[:200]

    @property
    def signal(self) -> str:
        """`traces`, `logs`, `metrics`, or empty for what is none of them."""
        return _PATHS.get(self.path.partition("?")[0].rstrip("/"), "")

    @property
    def as_json(self) -> bool:
        """Whether it is OTLP/JSON."""
        return not self.grpc and self.header(b"content-type") == JSON

    def add(self, data: bytes) -> bool:
        """Take the next bytes of the body; False where it has become too long to be kept."""
        self.taken += len(data)
        self.digest.update(data)
        self.body += data[: max(0, MAX_BODY - len(self.body))]
        self.cut = self.cut or self.taken > MAX_BODY
        return not self.cut

    def judge(self) -> Answer:
        """What its head and framing are worth."""
        if self.problem is not None:
            return self.problem
        if self.method != "POST":
            return Answer.METHOD
        if not self.signal:
            return Answer.UNKNOWN
        if self.cut:
            return Answer.TOO_LARGE
        if not readable(self.compressed) or (not self.grpc and self.header(b"content-type") not in (PROTOBUF, JSON)):
            return Answer.UNSUPPORTED
        return Answer.RECORDED

    def frame(self, answer: Answer) -> dict[str, Any]:
        """The frame without what needs redacting: path, headers and body."""
        protocol = "grpc" if self.grpc else "http/json" if self.as_json else "http/protobuf"
        return {
            "t": "export",
            "signal": self.signal,
            "protocol": protocol,
            "client": list(self.client),
            "port": self.port,
            "method": self.method,
            "http_version": self.http_version,
            "encoding": self.compressed or "identity",
            "body_bytes": self.taken,
            "body_sha256": self.digest.hexdigest(),
            "cut": self.cut,
            **({"framed": True} if self.framed else {}),
            "status": answer.grpc if self.grpc else answer.http,
            "start_ns": self.start_ns,
            "end_ns": time.time_ns(),
        }
