"""Runs a command in a fresh gVisor sandbox and records it from outside."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sandtrail.collector.control import Keeper, run_folder
from sandtrail.collector.gateway.ca import ensure_ca
from sandtrail.collector.network import wire as network
from sandtrail.collector.network.namespaces import NETNS
from sandtrail.collector.runsc import binary, trace
from sandtrail.collector.runsc.runtime import Runtime
from sandtrail.collector.secrets import Secret
from sandtrail.collector.session import bundle, cgroup, sendbuffer
from sandtrail.collector.session.boundary import load_secrets
from sandtrail.collector.session.cleanup import cleanup, remove
from sandtrail.collector.session.connect import connect
from sandtrail.collector.session.egress import Egress
from sandtrail.collector.session.lifecycle import Lifecycle
from sandtrail.collector.session.options import RecordOptions
from sandtrail.collector.session.orphans import Orphans, how_it_ended
from sandtrail.collector.session.privilege import require_root
from sandtrail.collector.session.relay import Record
from sandtrail.collector.session.state import State, claim_session_id
from sandtrail.collector.session.stdio import Stdio
from sandtrail.collector.session.traced import Traced
from sandtrail.collector.session.watch import Signals, Watch
from sandtrail.errors import RuntimeFailedError, SandtrailError, UsageError

__all__ = ["RecordResult", "record"]

_INTERRUPTED = 130


@dataclass(frozen=True)
class RecordResult:
    """What became of a recording: its id, the command's exit status (128 + n when signal n ended it), its home."""

    session: str
    exit_status: int
    home: Path


def record(options: RecordOptions) -> RecordResult:
    """Record one command from its first instruction to its end; returns when nothing of its sandbox is left.

    The command has this process's stdin, stdout and stderr. SIGINT is passed to it, a second one ends it; SIGTERM and
    SIGHUP end it after five seconds. Raises SandtrailError when the sandbox cannot be made; what was made until then is
    removed, and what was recorded stays.
    """
    if not options.command:
        raise UsageError("nothing to record; write: sandtrail record -- COMMAND [ARGUMENT…]")
    require_root("record")
    secrets = load_secrets(options.boundary.secrets, options.env, options.command)
    options = replace(options, env={**options.env, **{secret.name: secret.placeholder for secret in secrets}})
    runsc = binary.identify(binary.find(options.runsc), only_platform=options.platform, only_network=options.network)
    cleanup(options.home)
    session = claim_session_id(options.home, options.name)
    taken = [space for space in network.namespace_names(session) if (NETNS / space).exists()]
    if taken:
        # Namespaces are the machine's, not the home's: going on would end in removing those of somebody else.
        raise UsageError(f"--name {session}: another home's session uses it now ({taken[0]} exists); choose another")
    state = State(
        options.home,
        session,
        "record",
        sandbox=f"{session}-{bundle.POD}",
        agent=f"{session}-{bundle.AGENT}",
        runsc=runsc.path,
        root=run_folder(options.home) / "runsc" / session,
        network=True,
        cgroup=cgroup.path_of(session) if options.memory else "",
        redact=options.boundary.redact,
    )
    if not options.quiet:
        how = f"gVisor {runsc.version}, platform {runsc.platform}, network {runsc.network}"
        print(f"session {session} ({how})", file=sys.stderr, flush=True)
    try:
        with (
            Signals() as signals,
            Orphans(state.root) as orphans,
            Stdio(_relay(options, state) if options.record_stdio else None) as stdio,
            contextlib.closing(Keeper.connect(options.home)) as keeper,
        ):
            state.save()
            status = _Recording(options, runsc, state, signals, orphans, keeper, stdio, secrets).run()
    finally:
        remove(state)
    return RecordResult(session, status, options.home)


def _relay(options: RecordOptions, state: State) -> Record:
    return Record(options.home, state.session, state.sandbox, options.boundary.redact)


class _Recording:
    """One call of `record`, step by step; whatever fails, `remove(state)` takes everything away."""

    def __init__(
        self,
        options: RecordOptions,
        runsc: binary.Runsc,
        state: State,
        signals: Signals,
        orphans: Orphans,
        keeper: Keeper,
        stdio: Stdio,
        secrets: list[Secret],
    ) -> None:
        self._options = options
        self._secrets = secrets
        self._runsc = runsc
        self._state = state
        self._signals = signals
        self._orphans = orphans
        self._keeper = keeper
        self._stdio = stdio
        self._runtime = Runtime(runsc, state.root, state.bundle, cgroups=bool(options.memory))
        self._created: list[str] = []  # containers, the newest first
        self._egress: Egress | None = None
        self._session = trace.session(runsc.metadata, "", profile=options.profile, env=options.record_env)

    def run(self) -> int:
        state = self._state
        facts: dict[str, Any] = {
            "command": list(self._options.command),
            "runtime": binary.describe(self._runsc),
            "egress": self._options.egress,
            "stdio": "recorded" if self._options.record_stdio else "not recorded",
            # Without both, nothing proves that the sandbox was seen from its first instruction.
            "expected": ["trace connection", "container/start"],
        }
        with Lifecycle(state.home, state.session, state.sandbox, **facts) as acts:
            traced = Traced(acts, self._runtime, self._keeper, state)
            try:
                endpoint = self._keeper.session(state.session, state.sandbox, self._gvisor())
                connect(self._keeper, state.session, self._options, self._secrets)
                self._egress = Egress(acts, state.session)
                self._create(acts, endpoint)
                traced.require()
                if not (caught := self._signals.pending()):
                    return self._run_command(acts, traced)
                acts.act("runtime", event="interrupted", words=f"{caught[0].name} before the command was started")
                return _INTERRUPTED
            finally:
                self._end(acts, traced)

    # -- before --------------------------------------------------------------------------------------------------------

    def _gvisor(self) -> dict[str, Any]:
        blind = [*self._session.blind, *trace.ALWAYS_BLIND]
        return {
            "source": "gvisor",
            "version": self._runsc.version,
            "platform": self._runsc.platform,
            "network": self._runsc.network,
            "containers": {bundle.POD: self._state.sandbox, bundle.AGENT: self._state.agent},
            "sees": self._session.sees,
            "blind": blind,
        }

    def _create(self, acts: Lifecycle, endpoint: str) -> None:
        state, options = self._state, self._options
        bundles = bundle.write(
            state.bundle,
            options,
            hostname=state.session,
            pod=state.sandbox,
            namespace=network.namespace_names(state.session)[0],
            ca=ensure_ca(options.home),
            cgroup=state.cgroup,
        )
        config = trace.session(self._runsc.metadata, endpoint, profile=options.profile, env=options.record_env).config
        init = state.bundle / "trace.json"
        init.write_text(json.dumps(config))
        state.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        with sendbuffer.raised() as send_buffer:
            self._runtime.create(state.sandbox, bundles.pod, init_config=init)
        self._orphans.look()
        self._created.insert(0, state.sandbox)
        acts.act("create", container=state.sandbox, role=bundle.POD, send_buffer=send_buffer, trace=config)
        self._runtime.start(state.sandbox)
        acts.act("start", container=state.sandbox, role=bundle.POD)
        self._runtime.create(state.agent, bundles.agent)
        self._created.insert(0, state.agent)
        acts.act(
            "create",
            container=state.agent,
            role=bundle.AGENT,
            command=list(options.command),
            workdir=bundles.workdir,
            # Values hold secrets; the names tell which were there.
            environment=sorted(bundles.environment),
            user=options.user or "0:0",
            rootfs=str(options.rootfs or "the host's system folders"),
            mounts=[{"source": str(m.source), "target": m.target, "writable": m.writable} for m in options.mounts],
            memory=options.memory,
        )

    # -- while ---------------------------------------------------------------------------------------------------------

    def _run_command(self, acts: Lifecycle, traced: Traced) -> int:
        state = self._state
        sentry = int(self._runtime.state(state.sandbox)["pid"])
        try:
            self._runtime.start(state.agent, stdio=self._stdio.fds)
            self._stdio.handed_over()
        except RuntimeFailedError as error:
            return self._not_started(acts, str(error))
        self._orphans.look()
        acts.act("start", container=state.agent, role=bundle.AGENT, sentry_pid=sentry)
        waiting = self._runtime.waiting(state.agent)

        def kill(name: str) -> None:
            acts.act("runtime", event="signal", container=state.agent, signal=name)
            with contextlib.suppress(RuntimeFailedError):  # it ended in this very moment
                self._runtime.kill(state.agent, name, everything=name == "KILL")

        def check() -> None:
            traced.check()
            if self._egress is not None:
                with self._tolerating(acts, "egress", state.sandbox):
                    self._egress.check()

        watch = Watch(waiting, sentry, self._signals, kill, check)
        alive = watch.run()
        if not alive:
            waiting.kill()
        words, errors = waiting.communicate()
        if state.cgroup and (events := cgroup.memory_events(state.cgroup)).get("oom_kill"):
            acts.act("oom", container=state.sandbox, limit=self._options.memory, **events)
        try:
            status = int(json.loads(words)["exitStatus"])
        except (ValueError, KeyError, TypeError):
            return self._sentry_died(acts, sentry, errors)
        acts.act("exit", container=state.agent, exit_status=status, words=words.strip())
        return status

    def _not_started(self, acts: Lifecycle, words: str) -> int:
        """The command itself cannot be started: that is its result, with the statuses that a shell has for it."""
        missing = any(hint in words for hint in ("no such file", "not found", "error finding executable"))
        status = 127 if missing else 126
        acts.act("exit", container=self._state.agent, exit_status=status, started=False, words=words)
        print(f"sandtrail: {words}", file=sys.stderr)
        return status

    def _sentry_died(self, acts: Lifecycle, sentry: int, words: str) -> int:
        for _ in range(100):
            if (result := self._orphans.ended(sentry)) is not None:
                break
            time.sleep(0.01)
        ended = how_it_ended(result)
        said = self._runtime.panic() or words.strip()
        acts.act("runtime", event="died", container=self._state.sandbox, sentry_pid=sentry, words=said, **ended)
        acts.gap("the sandbox's kernel died under the command", None, time.time_ns(), time.time_ns())
        number = ended.get("signal")
        return 128 + number if isinstance(number, int) else 255

    # -- after ---------------------------------------------------------------------------------------------------------

    def _end(self, acts: Lifecycle, traced: Traced) -> None:
        """Ask the runtime what it still knows, end the sandbox, then the session. Goes on after each failure: this is
        the only chance to learn the rest."""
        state = self._state
        if self._created:
            traced.ask_dropped()
        for container in self._created:
            with self._tolerating(acts, "delete", container):
                self._orphans.look()
                self._runtime.delete(container)
                acts.act("delete", container=container)
        self._stdio.finish()
        with self._tolerating(acts, "egress", state.sandbox):
            if self._egress is not None:
                self._egress.finish()
            time.sleep(0.05)  # the kernel holds packets back for at most 20 ms before it reports them
        traced.end(connected=bool(self._created))

    @contextlib.contextmanager
    def _tolerating(self, acts: Lifecycle, event: str, container: str) -> Iterator[None]:
        try:
            yield
        except (SandtrailError, OSError) as error:
            acts.act("runtime", event=f"{event} failed", container=container, words=str(error))
