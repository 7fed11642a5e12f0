"""Removes what a session has made on this machine, whoever left it: processes, namespaces, mounts, bundle, setting.

    python -m sandtrail.collector.session.cleanup --home H [SESSION]

Every step may be done twice or find nothing. Without a session: those whose recorder is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from sandtrail.collector.network import wire
from sandtrail.collector.runsc import binary, trace
from sandtrail.collector.runsc.runtime import Runtime
from sandtrail.collector.session import cgroup, sendbuffer
from sandtrail.collector.session.egress import Egress
from sandtrail.collector.session.lifecycle import Lifecycle
from sandtrail.collector.session.state import State, sessions
from sandtrail.errors import EnvironmentRefusedError, NotFoundError, SandtrailError

__all__ = ["cleanup", "remove"]

_PATIENCE_S = 5.0


def cleanup(home: Path, session: str | None = None) -> list[str]:
    """Remove a session by its id, or every session whose recorder is gone; returns the ids of those removed.

    A session that somebody else ended in between is fine.
    """
    if session is None:
        abandoned = [state for state in sessions(home) if not state.owned]
        sendbuffer.restore()
    else:
        try:
            abandoned = [State.load(home, session)]
        except NotFoundError:
            wire.remove(session)
            return []
    for state in abandoned:
        with contextlib.suppress(SandtrailError, OSError):  # a full disk is no reason to leave a sandbox running
            _record_abandoned(state)
        remove(state)
    return [state.session for state in abandoned]


def remove(state: State) -> None:
    """Remove everything that a session has made, then its state file. A sandbox that was only attached to stays.

    Raises EnvironmentRefusedError when something cannot be unmounted; the state file then stays for another try.
    """
    if state.kind == "record":
        _end_processes(state.root)
        clear = _unmount(state.root, state.bundle)
        if state.network:
            wire.remove(state.session)
        if state.cgroup:
            cgroup.remove(state.cgroup)
        if not clear:  # never delete through a mount: what is below may be somebody's
            raise EnvironmentRefusedError(f"something is still mounted below {state.root} or {state.bundle}")
        shutil.rmtree(state.root, ignore_errors=True)
        shutil.rmtree(state.bundle, ignore_errors=True)
    sendbuffer.restore()
    state.forget()


def _record_abandoned(state: State) -> None:
    """Write down that the recorder was gone before the sandbox, with what the runtime can still say."""
    facts = {"reason": "the recorder of this session is gone", "recorder_pid": state.owner_pid}
    with Lifecycle(state.home, state.session, state.sandbox, "cleanup") as acts:
        try:
            runtime = Runtime(binary.identify(state.runsc), state.root)
            words = runtime.run("trace", "list", state.sandbox, timeout=_PATIENCE_S)
            acts.act("runtime", event="trace-list", dropped=trace.parse_dropped(words), words=words)
            if state.kind == "attach":
                runtime.run("trace", "delete", "--name=Default", state.sandbox, timeout=_PATIENCE_S)
        except (SandtrailError, OSError) as error:
            acts.act("runtime", event="trace-list", dropped=None, words=str(error))
        if state.network:
            try:
                Egress(acts, state.session).finish("cleanup")
            except (SandtrailError, OSError) as error:
                acts.act("runtime", event="egress failed", container=state.sandbox, words=str(error))
        acts.act("detach" if state.kind == "attach" else "delete", container=state.sandbox, **facts)


def _belongs(pid: int, root: Path) -> bool:
    """Whether a process works on a runsc state folder: the sentry, a gofer, one of runsc's own commands."""
    try:
        return f"--root={root}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _end_processes(root: Path) -> None:
    def left() -> list[int]:
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in pids if pid != os.getpid() and _belongs(pid, root)]

    deadline = time.monotonic() + _PATIENCE_S
    while (pids := left()) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(pid)
                try:
                    if _belongs(pid, root):  # still the same process, now that the descriptor pins it
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    select.select([pidfd], [], [], 1.0)
                finally:
                    os.close(pidfd)


def _unmount(*folders: Path) -> bool:
    """Unmount whatever is mounted under these folders, innermost first; whether nothing is left there."""

    def mounted() -> list[Path]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = (Path(line.split()[4].encode().decode("unicode_escape")) for line in lines)
        return [point for point in points if any(point.is_relative_to(folder) for folder in folders)]

    for point in sorted(mounted(), key=lambda p: -len(p.parts)):
        subprocess.run(["umount", "--lazy", str(point)], capture_output=True, check=False)
    return not mounted()


def main() -> int:
    """The command line: what the keeper runs when a recorder has died."""
    parser = argparse.ArgumentParser(prog="sandtrail.collector.session.cleanup", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("session", nargs="?")
    arguments = parser.parse_args()
    try:
        removed = cleanup(arguments.home, arguments.session)
    except SandtrailError as error:
        print(f"cleanup: {error}", file=sys.stderr)
        return 1
    print(f"cleanup: removed {', '.join(removed) or 'nothing'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
