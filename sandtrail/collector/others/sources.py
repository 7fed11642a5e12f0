"""Which sources there are, what each sees, and what it is blind to: the words that its streams carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sandtrail.errors import UsageError

__all__ = ["SOURCES", "Source", "source_named"]

_OURS: Final = (
    "whether it is true: it is another program's word about the traffic",
    "credentials: replaced by keyed fingerprints before anything is written",
    "records over 8 MiB: the beginning is kept",
)


@dataclass(frozen=True)
class Source:
    """Somebody else's program that tells of traffic."""

    name: str
    sees: tuple[str, ...]
    blind: tuple[str, ...]
    spread: bool = False
    """It writes a record over several lines where it logs to a file."""


SOURCES: Final = {
    source.name: source
    for source in (
        Source(
            "litellm",
            (
                "model calls that went through this proxy, told when they were over: messages, parameters, the answer "
                "or the error, times, the key's hash",
            ),
            (
                "calls that went around the proxy",
                "what crossed the wire: messages and answers are as LiteLLM took them in and put them together, in "
                "OpenAI's shape whatever the provider's was, a stream as one answer",
                "content that its operator has switched off (turn_off_message_logging)",
                "a call that is under way, and calls whose records it drops: it sends each batch once, unless told to "
                "retry, and forgets it",
                "which process asked, and which sandbox where --by names something that the caller chooses",
                *_OURS,
            ),
            spread=True,
        ),
        Source(
            "envoy",
            (
                "requests and connections that went through this proxy, told when they were over: method, authority, "
                "path, status, byte counts, SNI, upstream, response flags, times",
            ),
            (
                "bodies, so also what a model was told and what it decided",
                "traffic that went around the proxy, and what its filters for access logs leave out",
                "inside of TLS that it passes through: only SNI and byte counts",
                "requests under way, and records that Envoy drops: the access log service has no acknowledgements",
                "fields that the operator's log format leaves out",
                "which process asked",
                *_OURS,
            ),
        ),
        Source(
            "hubble",
            (
                "packets that Cilium saw at the pods' interfaces: addresses, ports, verdict, reason of a drop, names "
                "of pods; DNS and HTTP where a layer 7 policy has its proxy look into them",
            ),
            (
                "payloads, and byte counts of flows",
                "DNS names and HTTP where no layer 7 policy applies, and inside of TLS",
                "events that it lost or aggregated: it says how many were lost, not which",
                "events that its filters or field masks leave out",
                "traffic inside a pod, and which process sent it",
                *_OURS,
            ),
        ),
    )
}


def source_named(name: str) -> Source:
    """The source of this name. Raises UsageError."""
    if name not in SOURCES:
        raise UsageError(f"{name!r} is no source; there are {', '.join(SOURCES)}")
    return SOURCES[name]
