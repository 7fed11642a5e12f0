"""What a session has made on this machine, written down before it is made, so that anybody can remove it later."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandtrail.collector.control import run_folder
from sandtrail.errors import NotFoundError, UsageError
from sandtrail.store.layout import listed

__all__ = ["State", "claim_session_id", "process_start", "sessions"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)


def claim_session_id(home: Path, name: str = "") -> str:
    """A session id that no session of this home has had: `name`, or a new one, `YYMMDD-xxxxxx`, which sorts by day and
    is short enough to be typed. Raises UsageError for a name that cannot be an id or has been one: two sessions under
    one id could not be told apart in the evidence."""
    if name and not _NAME.fullmatch(name):
        raise UsageError(f"--name {name}: write at most 40 letters, digits, '-' and '_', a letter or digit first")
    folder = home / "sessions"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        session = name or time.strftime("%y%m%d-", time.gmtime()) + "".join(secrets.choice(_ALPHABET) for _ in range(6))
        try:
            (folder / session).touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            if name:
                raise UsageError(f"--name {name}: a session of this home has that id; choose another") from None
            continue
        return session


def process_start(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot (with the pid it names a process); None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass
class State:
    """`kind` is "record" or "attach"; `sandbox` the root container's id, `agent` the id of the container that runs the
    command; `root` runsc's state folder; `network` whether namespaces were asked for; `cgroup` its path or "";
    `redact` the policy's rules of redaction, for commands that are run beside."""

    home: Path
    session: str
    kind: str
    sandbox: str
    agent: str
    runsc: Path
    root: Path
    network: bool = False
    cgroup: str = ""
    redact: Any = None
    owner_pid: int = field(default_factory=os.getpid)
    owner_start: int | None = field(default_factory=lambda: process_start(os.getpid()))

    @property
    def bundle(self) -> Path:
        """The folder with the OCI bundles and runsc's own words."""
        return run_folder(self.home) / "bundles" / self.session

    @property
    def path(self) -> Path:
        """The file that holds this."""
        return run_folder(self.home) / "sessions" / f"{self.session}.json"

    @property
    def owned(self) -> bool:
        """Whether the process that began the session still runs."""
        return self.owner_start is not None and process_start(self.owner_pid) == self.owner_start

    def save(self) -> None:
        """Write it, whole or not at all."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}))
        temporary.rename(self.path)

    def forget(self) -> None:
        """Remove the file: nothing of the session is left."""
        self.path.unlink(missing_ok=True)

    @classmethod
    def load(cls, home: Path, session: str) -> State:
        """The state of a session. Raises NotFoundError when it has none (it ended and was cleaned up)."""
        path = run_folder(home) / "sessions" / f"{session}.json"
        try:
            return cls._parse(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise NotFoundError(f"no session {session} runs here ({path}: {error})") from None

    @classmethod
    def _parse(cls, document: dict[str, Any]) -> State:
        for name in ("home", "runsc", "root"):
            document[name] = Path(document[name])
        return cls(**document)


def sessions(home: Path) -> Iterator[State]:
    """Every session that has something on this machine."""
    for path in listed(run_folder(home) / "sessions", ".json"):
        try:
            yield State.load(home, path.stem)
        except NotFoundError:
            continue  # it went away while we looked, or was cut off while being written: nothing was made yet
