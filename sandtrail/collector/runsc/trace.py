"""Builds a trace session from what one runsc binary says that it can report.

``runsc trace metadata`` lists the points of the installed version; the wanted points (points.py) are intersected with
it. What the version lacks is returned, so that the stream's descriptor can say what it is blind to.

Specification: gVisor pkg/sentry/seccheck/config.go (SessionConfig), runsc/boot/seccheck.go (InitConfig).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.collector.runsc import points
from sandtrail.collector.runsc.points import SAFE, Profile
from sandtrail.errors import RuntimeFailedError

__all__ = ["ALWAYS_BLIND", "Metadata", "Point", "Session", "parse_dropped", "parse_metadata", "session"]

_LINE = re.compile(r"^Name: ([^,\n]+), optional fields: \[([^\]\n]*)\], context fields: \[([^\]\n]*)\]$", re.MULTILINE)
_DROPPED = re.compile(r'^\s*Sink: "remote", dropped: (\d+)$', re.MULTILINE)


# What no version of gVisor reports, in words for whoever has to decide what "nothing was seen" is worth.
ALWAYS_BLIND: Final = (
    "contents that are read, written, sent or received; so also what processes say to each other over pipes",
    "paths of unlink, rename, mkdir, rmdir, link, symlink, chmod, chown and truncate: registers only",
    "a message with a text that is not valid UTF-8 is lost uncounted; the call itself shows as raw registers",
)


@dataclass(frozen=True)
class Point:
    """One point of a runsc version: its optional fields and its context fields, by name."""

    optional: tuple[str, ...]
    context: tuple[str, ...]


Metadata = dict[str, Point]


@dataclass(frozen=True)
class Session:
    """A trace session: `config` is the document for ``--pod-init-config``; `sees` the point names asked for;
    `blind` what was wanted and is not there, one plain sentence each."""

    config: dict[str, Any]
    sees: list[str]
    blind: list[str] = field(default_factory=list)


def _split(names: str) -> tuple[str, ...]:
    return tuple(name for name in names.split("|") if name)


def parse_metadata(text: str) -> Metadata:
    """Reads the output of ``runsc trace metadata``; raises RuntimeFailedError when no point is in it."""
    found = {m[1]: Point(_split(m[2]), _split(m[3])) for m in _LINE.finditer(text)}
    if not found:
        raise RuntimeFailedError("runsc trace metadata lists no trace points: this runsc cannot be recorded from")
    return found


def parse_dropped(text: str) -> int | None:
    """The sink's drop count from ``runsc trace list``; None when no remote sink is attached any more."""
    counts = [int(n) for n in _DROPPED.findall(text)]
    return sum(counts) if counts else None


def _optional(point: Point, profile: Profile, env: bool) -> list[str]:
    refused = set(points.OPTIONAL_REFUSED)
    if profile != "full":
        refused |= points.OPTIONAL_FULL
    if not env:
        refused |= points.OPTIONAL_SECRET
    return [name for name in point.optional if name not in refused]


_OWN_CONTEXT = frozenset({"parent_thread_group_id"})
"""What only a runsc knows (2026) whose raw exits carry the context that they were asked for."""


def session(
    metadata: Metadata,
    endpoint: str,
    *,
    profile: Profile = "default",
    env: bool = False,
    machine: str | None = None,
) -> Session:
    """The trace session for a runsc with these points, sending to the SEQPACKET socket at path `endpoint`.

    `env` also records environment variables, which hold secrets. `machine` names the sandbox's architecture.
    """
    chosen: list[dict[str, Any]] = []
    blind: list[str] = []
    raw = list(points.raw_points(profile))
    for name, wanted in points.typed_points(profile).items():
        point = metadata.get(name)
        if point is None:
            blind.append(f"{name}: this runsc has no such point")
            call = name.removeprefix("syscall/").removesuffix("/exit")
            raw += [call] if call not in raw else []
            continue
        context = [f for f in wanted if f in point.context]
        chosen.append({"name": name, "optional_fields": _optional(point, profile, env), "context_fields": context})
    for call in raw:
        number = points.syscall_number(call, machine)
        point = metadata.get(f"syscall/sysno/{number}/exit")
        if point is None:
            if number is not None:
                blind.append(f"{call}: this runsc has no raw point for it")
            continue
        context = [f for f in SAFE if f in point.context]
        chosen.append({"name": f"syscall/sysno/{number}/exit", "optional_fields": [], "context_fields": context})
        enter = f"syscall/sysno/{number}/enter"
        if not set(point.context) >= _OWN_CONTEXT and enter in metadata:
            # Such a runsc gives a raw exit the context fields of the raw enter (kernel/task_syscall.go).
            chosen.append({"name": enter, "optional_fields": [], "context_fields": context})
    missing = [f for f in SAFE if f not in metadata["container/start"].context] if "container/start" in metadata else []
    blind += [f"context field {f}: unknown to this runsc" for f in missing]
    sink = {
        "name": "remote",
        # Back-pressure instead of loss: 3,000 waits of at most 10 ms each, inside the application's call.
        "config": {"endpoint": endpoint, "retries": 3000, "backoff": "25us", "backoff_max": "10ms"},
    }
    config = {"trace_session": {"name": "Default", "points": chosen, "ignore_missing": True, "sinks": [sink]}}
    return Session(config, [p["name"] for p in chosen], blind)
