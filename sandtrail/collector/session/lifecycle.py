"""The lifecycle stream of a session: what the recorder did to the sandbox and what the runtime said, in its words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from sandtrail.store.spool import SpoolWriter

__all__ = ["Lifecycle"]

# JSON may make six of one, and a record of the spool holds 32 MiB.
_MAX_WORDS = 5 << 20


class Lifecycle:
    """A stream of its own in a spool of its own; every act is in the page cache when its method returns.

    `part` tells apart the processes that write about one session at the same time.
    """

    def __init__(self, home: Path, session: str, sandbox: str, part: str = "record", **facts: Any) -> None:
        self._common = {"session": session, "sandbox": sandbox}
        # Signed entries name spool files, and must not name a session: they outlive its erasure.
        self._spool = SpoolWriter(home, f"lifecycle-{os.urandom(6).hex()}")
        sees = ["create", "start", "exec", "exit", "oom", "checkpoint", "delete", "runtime", "processes", "evicted"]
        sees.append("egress")
        self._stream = self._spool.open({"source": "lifecycle", **self._common, "part": part, "sees": sees, **facts})

    def act(self, act: str, **facts: Any) -> None:
        """Record one act. Texts beyond 5 Mi characters are cut and say so."""
        for name, value in facts.items():
            if isinstance(value, str) and len(value) > _MAX_WORDS:
                facts[name] = value[:_MAX_WORDS]
                facts[f"{name}_cut"] = len(value)
        self._stream.write(json.dumps({"act": act, **self._common, **facts}).encode(), urgent=True)

    def gap(self, cause: str, count: int | None, from_ns: int, to_ns: int, **more: Any) -> None:
        """Record that evidence is missing; `what` says it in words, `bytes` how much left both ways."""
        span = {"after_seq": self._stream.seq - 1, "before_seq": None, "from_ns": from_ns, "to_ns": to_ns}
        self._stream.note({"note": "gap", "cause": cause, "count": count, **span, **more})

    def evicted(self, **facts: Any) -> None:
        """Record that another consumer took the trace session, or that it ended in mid-run."""
        self._stream.note({"note": "evicted", **facts})
        self.act("evicted", **facts)

    def close(self, reason: str) -> None:
        """End the stream."""
        self._stream.close(reason)
        self._spool.close()

    def __enter__(self) -> Lifecycle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close("ended" if error is None else f"failed: {error}"[:2000])
