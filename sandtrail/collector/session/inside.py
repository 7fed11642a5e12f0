"""Acts upon a sandbox that is being recorded, each of them on the record: run one more command, take a checkpoint."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandtrail.collector.runsc import binary
from sandtrail.collector.runsc.runtime import Runtime
from sandtrail.collector.session.lifecycle import Lifecycle
from sandtrail.collector.session.privilege import require_root
from sandtrail.collector.session.relay import Record
from sandtrail.collector.session.state import State
from sandtrail.collector.session.stdio import Stdio
from sandtrail.errors import RuntimeFailedError, UsageError

__all__ = ["checkpoint", "run_inside"]

_STDIO = {True: "recorded", False: "not recorded"}


def _runtime(state: State) -> Runtime:
    return Runtime(binary.identify(state.runsc), state.root)


def run_inside(
    home: Path,
    session: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    workdir: str = "",
    user: str = "",
    record_stdio: bool = False,
) -> int:
    """Run a command in a sandbox beside the recorded one; its exit status. It has this process's stdin, stdout, stderr;
    with `record_stdio` by way of us, and recorded: what children of the command write to them is too, until 5 seconds
    after its end.

    Raises NotFoundError when the session does not run.
    """
    require_root("exec")
    if not command:
        raise UsageError("nothing to run; write: sandtrail exec SESSION -- COMMAND [ARGUMENT…]")
    state = State.load(home, session)
    options = [f"--env={name}={value}" for name, value in (env or {}).items()]
    options += [f"--cwd={workdir}"] if workdir else []
    options += [f"--user={user}"] if user else []
    part = f"exec-{os.getpid()}-{time.time_ns()}"
    relay = Record(home, session, state.sandbox, state.redact, part) if record_stdio else None
    with Lifecycle(home, session, state.sandbox, part, stdio=_STDIO[record_stdio]) as acts, Stdio(relay) as stdio:
        facts = {"container": state.agent, "command": list(command), "workdir": workdir, "user": user}
        acts.act("exec", environment=sorted(env or {}), **facts)
        words = _runtime(state).command("exec", *options, state.agent, *command)
        status = _call(words, stdio)
        acts.act("exec", event="exit", exit_status=status, **facts)
    return status


def _call(words: list[str], stdio: Stdio) -> int:
    stdin, stdout, stderr = stdio.fds
    with subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr) as running:
        stdio.handed_over()
        try:
            return running.wait()
        except BaseException:  # what ends us, Ctrl-C for one, ends it too
            running.kill()
            raise


def checkpoint(home: Path, session: str, folder: Path, *, leave_running: bool = True) -> None:
    """Save the whole sandbox to `folder`. Raises NotFoundError, and RuntimeFailedError where the runtime refuses (the
    refusal is on the record too)."""
    require_root("checkpoint")
    state = State.load(home, session)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = [f"--image-path={folder}"] + (["--leave-running"] if leave_running else [])
    with Lifecycle(home, session, state.sandbox, f"checkpoint-{os.getpid()}-{time.time_ns()}") as acts:
        facts = {"container": state.sandbox, "folder": str(folder), "leave_running": leave_running}
        try:
            words = _runtime(state).run("checkpoint", *options, state.sandbox, timeout=600)
        except RuntimeFailedError as error:
            acts.act("checkpoint", done=False, words=str(error), **facts)
            raise
        acts.act("checkpoint", done=True, words=words, **facts)
