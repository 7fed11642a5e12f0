"""The trace connection of one session: whether it is still ours, and whether all that it sent arrived."""

from __future__ import annotations

import time
from typing import Any

from sandtrail.collector.control import Keeper
from sandtrail.collector.runsc import trace
from sandtrail.collector.runsc.runtime import Runtime
from sandtrail.collector.session.lifecycle import Lifecycle
from sandtrail.collector.session.state import State
from sandtrail.errors import RecorderError, RuntimeFailedError

__all__ = ["Traced"]

_MODULUS = 1 << 32  # of the sink's drop counter


class Traced:
    """Asks the keeper and the runtime about one sandbox's trace; what it finds out is in the lifecycle stream."""

    def __init__(self, acts: Lifecycle, runtime: Runtime, keeper: Keeper, state: State) -> None:
        self._acts = acts
        self._runtime = runtime
        self._keeper = keeper
        self._state = state
        self._began_ns = self._seen_ns = time.time_ns()
        self._dropped: int | None = None
        self.evicted = False

    def check(self) -> None:
        """Record an eviction: a connection that ended although its sandbox still answers. A sandbox has one trace
        session; another consumer that wants it takes it away from us."""
        if self.evicted:
            return
        streams = self._keeper.status().get("streams", [])
        if any(s["session"] == self._state.session and s["source"] == "gvisor" for s in streams):
            self._seen_ns = time.time_ns()
            return
        try:
            words = self._runtime.run("trace", "list", self._state.sandbox)
        except RuntimeFailedError:
            return  # the sandbox itself is gone; whoever waits for it says so
        self.evicted = True
        self._acts.evicted(container=self._state.sandbox, words=words)

    def ask_dropped(self) -> None:
        """Ask the runtime how many messages were lost, while it can still be asked."""
        try:
            words = self._runtime.run("trace", "list", self._state.sandbox)
        except RuntimeFailedError as error:
            self._acts.act("runtime", event="trace-list", dropped=None, words=str(error))
            return
        self._dropped = None if self.evicted else trace.parse_dropped(words)
        self._acts.act("runtime", event="trace-list", dropped=self._dropped, words=words)

    def require(self) -> None:
        """Make sure that the sandbox is traced. gVisor starts a sandbox whose trace session it could not set up, with a
        warning in a log; a command that nobody records must not start. Raises RuntimeFailedError."""
        words = self._runtime.run("trace", "list", self._state.sandbox)
        streams = self._keeper.status().get("streams", [])
        connected = any(s["session"] == self._state.session and s["source"] == "gvisor" for s in streams)
        self._acts.act("runtime", event="trace-on", connected=connected, words=words)
        if not connected or trace.parse_dropped(words) is None:
            raise RuntimeFailedError(f"the sandbox's trace is not on, so nothing was started: {words.strip()}")

    def end(self, *, connected: bool = True) -> None:
        """End the session at the keeper, and record as gaps what never arrived. Drops after the last message travel in
        no message; only the runtime's own count has them. `connected`: whether the sandbox was made at all."""
        try:
            streams = self._keeper.end(self._state.session)
        except RecorderError as error:
            self._acts.act("runtime", event="end failed", container=self._state.sandbox, words=str(error))
            self._acts.gap("the recorder itself failed", None, self._seen_ns, time.time_ns())
            return
        self._acts.act("runtime", event="streams", streams=streams)
        gvisor = [stream for stream in streams if stream.get("source") == "gvisor"]
        if not connected:
            return
        if not gvisor:
            self._gap("the sandbox never connected its trace", None)
        elif self.evicted:
            self._acts.gap("another consumer took the trace session", None, self._seen_ns, time.time_ns())
        elif self._dropped is None:
            self._gap("the runtime could not be asked how much was dropped at the end", None)
        elif trailing := (self._dropped - _last_count(gvisor)) % _MODULUS:
            self._gap("dropped after the last message", trailing)

    def _gap(self, cause: str, count: int | None) -> None:
        self._acts.gap(cause, count, self._began_ns, time.time_ns())


def _last_count(streams: list[dict[str, Any]]) -> int:
    return int(streams[-1].get("dropped") or 0)
