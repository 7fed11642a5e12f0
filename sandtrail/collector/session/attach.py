"""Records a sandbox that already runs, and that is somebody else's: only its trace, from now on."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sandtrail.collector.control import Keeper, run_folder
from sandtrail.collector.runsc import binary, trace
from sandtrail.collector.runsc.points import Profile
from sandtrail.collector.runsc.runtime import Runtime
from sandtrail.collector.session import sendbuffer
from sandtrail.collector.session.cleanup import cleanup, remove
from sandtrail.collector.session.lifecycle import Lifecycle
from sandtrail.collector.session.privilege import require_root
from sandtrail.collector.session.record import RecordResult
from sandtrail.collector.session.state import State, claim_session_id
from sandtrail.collector.session.traced import Traced
from sandtrail.collector.session.watch import Signals
from sandtrail.errors import RuntimeFailedError

__all__ = ["AttachOptions", "attach"]

_CHECK_S = 2.0
_BLIND = (
    "everything before the attachment",
    "what the sandbox sends and receives, and what its model is told: it has no link of ours, so neither gateway nor "
    "packet filter",
    "what its programs tell of themselves over OTLP (claims): there is no receiver on a link that is not ours",
    "its stdin, stdout and stderr",
)
_MAX_PROCESSES = 5 << 20


@dataclass(frozen=True)
class AttachOptions:
    """`root` is the state folder of the runsc that runs the sandbox (containerd: /run/containerd/runsc/k8s.io),
    `container` the id of its root container. `force` takes the trace session away from another consumer."""

    home: Path
    root: Path
    container: str
    runsc: str = ""
    name: str = ""
    force: bool = False
    profile: Profile = "default"
    quiet: bool = False


def attach(options: AttachOptions) -> RecordResult:
    """Record a running sandbox until it ends (exit status 0) or until this process is told to stop (130).

    What the sandbox did before is unknown; the processes that run at this moment are recorded as such. Raises
    RuntimeFailedError when there is no such sandbox or its trace session is taken and `force` is not set.
    """
    require_root("attach")
    cleanup(options.home)
    runsc = binary.identify(binary.find(options.runsc))
    runtime = Runtime(runsc, options.root)
    pid = int(runtime.state(options.container)["pid"])
    session = claim_session_id(options.home, options.name)
    state = State(options.home, session, "attach", options.container, options.container, runsc.path, options.root)
    if not options.quiet:
        print(f"session {session} (attached to {options.container}, gVisor {runsc.version})", file=sys.stderr)
    try:
        with Signals() as signals, contextlib.closing(Keeper.connect(options.home)) as keeper:
            state.save()
            facts = {"runtime": binary.describe(runsc), "expected": ["trace connection"], "attached": True}
            with Lifecycle(options.home, session, options.container, "attach", **facts) as acts:
                traced = Traced(acts, runtime, keeper, state)
                _begin(options, runtime, keeper, state, acts)
                ended = _follow(pid, signals, traced)
                _finish(runtime, state, acts, traced, ended=ended)
    finally:
        remove(state)
    return RecordResult(session, 0 if ended else 130, options.home)


def _begin(options: AttachOptions, runtime: Runtime, keeper: Keeper, state: State, acts: Lifecycle) -> None:
    wanted = trace.session(runtime.runsc.metadata, "", profile=options.profile)
    descriptor = {
        "source": "gvisor",
        "version": runtime.runsc.version,
        "attached": True,
        "sees": wanted.sees,
        "blind": [*_BLIND, *wanted.blind, *trace.ALWAYS_BLIND],
    }
    endpoint = keeper.session(state.session, state.sandbox, descriptor)
    config = trace.session(runtime.runsc.metadata, endpoint, profile=options.profile).config
    path = run_folder(options.home) / "sessions" / f"{state.session}.trace"
    path.write_text(json.dumps(config))
    try:
        force = ["--force"] if options.force else []
        with sendbuffer.raised() as send_buffer:
            words = runtime.run("trace", "create", *force, f"--config={path}", state.sandbox)
    finally:
        path.unlink()
    acts.act(
        "attach", container=state.sandbox, forced=options.force, send_buffer=send_buffer, trace=config, words=words
    )
    try:
        table = runtime.run("trace", "procfs", state.sandbox, limit=_MAX_PROCESSES)
    except RuntimeFailedError as error:
        acts.act("runtime", event="procfs failed", container=state.sandbox, words=str(error))
    else:
        acts.act("processes", container=state.sandbox, at_ns=time.time_ns(), words=table)


def _follow(pid: int, signals: Signals, traced: Traced) -> bool:
    """True when the sandbox ended, False when we were told to stop."""
    try:
        sentry = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        while True:
            ready, _, _ = select.select([sentry, signals.wake], [], [], _CHECK_S)
            if sentry in ready:
                return True
            if signals.pending():
                return False
            traced.check()
    finally:
        os.close(sentry)


def _finish(runtime: Runtime, state: State, acts: Lifecycle, traced: Traced, *, ended: bool) -> None:
    if ended:
        acts.act("runtime", event="ended", container=state.sandbox)
    else:
        traced.check()
        traced.ask_dropped()
        if not traced.evicted:
            with contextlib.suppress(RuntimeFailedError):  # it ended in this very moment
                runtime.run("trace", "delete", "--name=Default", state.sandbox)
        acts.act("detach", container=state.sandbox)
    traced.end()
