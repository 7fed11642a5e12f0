"""Drives one runsc state folder: each method is one runsc command, and returns what runsc said."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sandtrail.collector.runsc.binary import Runsc
from sandtrail.errors import RuntimeFailedError

__all__ = ["Runtime"]

_PATIENCE_S = 60.0
_MAX_WORDS = 64 << 10
_NOTHING: Final = (subprocess.DEVNULL,) * 3


@dataclass(frozen=True)
class Runtime:
    """`root` is runsc's state folder, `logs` the folder for its own words (None for a runtime that is not ours).

    Every method raises RuntimeFailedError with runsc's words when the command fails. Each command has a session of its
    own: a Ctrl-C at the terminal is the recorder's to pass on, not an end to runsc in the middle of its work.
    """

    runsc: Runsc
    root: Path
    logs: Path | None = None
    cgroups: bool = False

    def _flags(self) -> list[str]:
        flags = [f"--root={self.root}"]
        if self.logs is None:
            return flags
        flags += [f"--platform={self.runsc.platform}", f"--network={self.runsc.network}", self.runsc.overlay]
        flags += [f"--log={self.logs / 'runsc.log'}", "--log-format=json", f"--panic-log={self.logs / 'panic.log'}"]
        return flags if self.cgroups else [*flags, "--ignore-cgroups"]

    def command(self, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
        """The command line of a runsc command on this state folder."""
        return [str(self.runsc.path), *self._flags(), *flags, *arguments]

    def run(self, *arguments: str, timeout: float = _PATIENCE_S, limit: int = _MAX_WORDS) -> str:
        """Run a command that prints and ends; what it printed, up to `limit` characters."""
        command = self.command(*arguments)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeFailedError(f"runsc {arguments[0]} did not end within {timeout:.0f} s") from None
        if done.returncode:
            words = done.stderr.strip() or f"exit status {done.returncode}"
            raise RuntimeFailedError(f"runsc {' '.join(arguments[:2])}: {words[:2000]}")
        return done.stdout[:limit]

    def create(self, container: str, bundle: Path, *, init_config: Path | None = None) -> None:
        """Create a container; the root container's processes get nothing to read and nowhere to write."""
        flags = [f"--pod-init-config={init_config}"] if init_config else []
        self._attached("create", f"--bundle={bundle}", container, flags=flags, stdio=_NOTHING)

    def start(self, container: str, *, stdio: tuple[int, int, int] = _NOTHING) -> None:
        """Start what was created. A container that is not the root one gets the three files of `stdio`."""
        self._attached("start", container, stdio=stdio)

    def _attached(self, *arguments: str, stdio: tuple[int, int, int], flags: Sequence[str] = ()) -> None:
        """Run a command whose own three files become the container's, so that they cannot carry its words."""
        stdin, stdout, stderr = stdio
        command = self.command(*arguments, flags=flags)
        done = subprocess.run(
            command, stdin=stdin, stdout=stdout, stderr=stderr, timeout=_PATIENCE_S, check=False, start_new_session=True
        )
        if done.returncode:
            words = self.words() or f"exit status {done.returncode}"
            raise RuntimeFailedError(f"runsc {arguments[0]} {arguments[-1]}: {words}")

    def waiting(self, container: str) -> subprocess.Popen[str]:
        """A process that ends when the container does, and then has printed its exit status (see `exit_status`)."""
        return subprocess.Popen(
            self.command("wait", container),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def state(self, container: str) -> dict[str, Any]:
        """The OCI state document."""
        document = json.loads(self.run("state", container))
        if not isinstance(document, dict):
            raise RuntimeFailedError(f"runsc state {container} printed no document")
        return document

    def kill(self, container: str, signal_name: str, *, everything: bool = False) -> None:
        """Send a signal to the container's first process, or to all of its processes."""
        self.run("kill", *(["--all"] if everything else []), container, signal_name)

    def delete(self, container: str) -> None:
        """Remove a container, ending it if need be."""
        self.run("delete", "--force", container)

    def words(self) -> str:
        """The last errors in runsc's own log, and what a dying sentry wrote."""
        if self.logs is None:
            return ""
        texts: list[str] = []
        log = self.logs / "runsc.log"
        if log.exists():
            for line in log.read_text(errors="replace").replace("}{", "}\n{").splitlines()[-20:]:
                try:
                    texts.append(str(json.loads(line)["msg"]))
                except (ValueError, KeyError, TypeError):
                    texts.append(line)
        return "; ".join(texts)[-2000:]

    def panic(self) -> str:
        """What the sentry wrote when it died; empty when it did not."""
        path = self.logs / "panic.log" if self.logs else None
        return path.read_text(errors="replace")[:_MAX_WORDS] if path and path.exists() else ""
