"""The notary: has the log's checkpoint cosigned by witnesses, and stamped by time authorities, again and again.

A process beside the sealer: it reads the log's public files, and whatever it waits for, recording does not. A witness
may be the log of the cluster (`cluster`), which takes note of the checkpoint as it cosigns it: it is named in the
policy like any other, whether the quorum wants it or not.

`witnessed/checkpoint` is replaced only by a newer one that the policy's quorum has cosigned.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from sandtrail.errors import DamagedError, SandtrailError
from sandtrail.logs import log_as_json
from sandtrail.store.acts import order
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout, publish
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.policy import load_policy
from sandtrail.store.snapshot import Snapshot
from sandtrail.witness.client import Ahead, collect

__all__ = ["Notary", "Round", "main"]

_log = structlog.get_logger(__name__)
# A log that somebody writes gets an entry every ten seconds.
_ALIVE = 60.0
_LAST_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """What came of asking everybody once. `problem` is empty when the quorum has cosigned."""

    size: int = 0
    cosigned: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    # A witness has seen more of this log than there is: it was cut off, or somebody else has its key.
    behind: bool = False


class Notary:
    """Speaks for one log, a node's or a cluster's; one per home."""

    def __init__(
        self,
        home: Path,
        *,
        policy: Path | None = None,
        tsa_url: str = "",
        tsa_roots: Path | None = None,
        tsa_every: float = 3600.0,
        timeout: float = 10.0,
    ) -> None:
        """`policy`: whom to ask; read again each time. `tsa_url`: a time authority, asked every `tsa_every` seconds;
        its tokens have to lead to `tsa_roots` (PEM) where these are given. `timeout`: of one answer, in seconds.
        """
        self.home = home
        self._policy = policy
        self._tsa_url = tsa_url
        self._tsa_roots = tsa_roots
        self._tsa_every = tsa_every
        self._timeout = timeout
        self._sizes: dict[str, int] = {}
        self._stamped: float | None = None
        self._last: Round | None = None

    def round(self, *, timeout: float | None = None) -> Round:
        """Ask every witness once to cosign the log as it is now, and keep the result if it satisfies the policy.

        What is kept is durable when this returns. Raises nothing that a witness, the network or the store can cause: it
        is in the result.
        """
        try:
            found = self._round(self._timeout if timeout is None else timeout)
        except (SandtrailError, OSError) as error:
            found = Round(problem=str(error))
        self._tell(found)
        return found

    def _round(self, timeout: float) -> Round:
        if self._policy is None:
            return Round()
        policy = load_policy(self._policy)
        verifier = load_verifier(self.home)
        head = Snapshot.take(self.home, verifier)
        path = Layout(self.home).witnessed / "checkpoint"
        before = _witnessed(path, verifier)
        if before is not None and before.size > head.size:
            lost = f"{before.size} entries of this log were witnessed once, and it has only {head.size}"
            return Round(head.size, problem=f"{lost}: it was cut off; run: sandtrail verify", behind=True)
        found = collect(policy, head.note, head.consistency, sizes=self._sizes, timeout=timeout)
        self._sizes = found.sizes
        verdict = policy.judge(found.note, log=verifier)
        if verdict.ok:
            publish(path, found.note, mode=0o644)
        return Round(
            head.size,
            tuple(one.name for one in found.asked if one.error is None),
            {one.name: str(one.error) for one in found.asked if one.error is not None},
            verdict.reason,
            behind=any(isinstance(one.error, Ahead) for one in found.asked),
        )

    def _tell(self, found: Round) -> None:
        """Log what has changed since the last round: a witness that is down for a week is not news every minute."""
        last, self._last = self._last, found
        before = last.failed if last else {}
        for name, error in found.failed.items():
            if before.get(name) != error:
                _log.warning("a witness has not cosigned", witness=name, error=error)
        for name in before.keys() & set(found.cosigned):
            _log.info("a witness cosigns again", witness=name)
        if found.behind:
            _log.critical("the log is behind what was witnessed", size=found.size, error=found.problem)
        elif found.problem and (last is None or last.problem != found.problem):
            _log.error("the log is not witnessed", size=found.size, error=found.problem)
        elif found.cosigned and (last is None or last.problem):
            _log.info("the log is witnessed", size=found.size, witnesses=list(found.cosigned))

    def stamp(self) -> bool:
        """Have the checkpoint stamped by the time authority if it is due, and the token logged; whether that was done.

        A log that nobody writes at the moment is left alone. Raises nothing, as `round`.
        """
        now = time.monotonic()
        if not self._tsa_url or (self._stamped is not None and now - self._stamped < self._tsa_every):
            return False
        from sandtrail.store.timestamp import load_roots
        from sandtrail.witness.authority import stamp

        try:
            if time.time() - Layout(self.home).checkpoint.stat().st_mtime > _ALIVE:
                return False
            note = read_checkpoint(Layout(self.home).log) or b""
            size = open_checkpoint(note, load_verifier(self.home)).size
            roots = load_roots(self._tsa_roots) if self._tsa_roots else []
            token = stamp(self._tsa_url, note, roots, timeout=self._timeout)
            order(
                self.home,
                {"act": "time", "size": size, "checkpoint": note, "token": token, "authority": self._tsa_url},
            )
        except (SandtrailError, OSError) as error:
            _log.error("the log got no time token", authority=self._tsa_url, error=str(error))
            return False
        self._stamped = now
        _log.info("the log got a time token", authority=self._tsa_url, size=size)
        return True

    def run(self, every: float, stopped: Callable[[float], bool]) -> None:
        """Ask every `every` seconds, and sooner after a failure, until told to stop; then once more.

        `stopped(seconds)` waits so long at most and says whether to stop. The last round is for what was signed last.
        """
        pause, failures = 0.0, 0
        while not stopped(pause):
            failures = failures + 1 if self.round().problem else 0
            self.stamp()
            pause = min(every, 2.0 ** min(failures - 1, 16)) if failures else every
        self.round(timeout=_LAST_TIMEOUT)


def _witnessed(path: Path, verifier: Verifier) -> Checkpoint | None:
    """What was kept before; whatever is no checkpoint of this log does not stand in the way of one."""
    try:
        return open_checkpoint(path.read_bytes(), verifier)
    except (FileNotFoundError, DamagedError):
        return None


def main(argv: list[str] | None = None) -> int:
    """The notary as a process, with what the settings say.

    Under a keeper (`--control-fd`) it ends when the keeper says so or hangs up, otherwise on SIGTERM or SIGINT. Where
    nothing is configured it tells the keeper so and ends.
    """
    from sandtrail.settings import load_settings

    parser = argparse.ArgumentParser(prog="sandtrail-notary")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--control-fd", type=int)
    options = parser.parse_args(argv)
    settings = load_settings()
    log_as_json()
    with contextlib.suppress(OSError):
        os.nice(5)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signum, _frame: told.set())
    stopped: Callable[[float], bool] = told.wait
    if options.control_fd is not None:
        keeper = select.poll()
        keeper.register(options.control_fd, select.POLLIN)
        stopped = lambda seconds: bool(keeper.poll(seconds * 1000))  # noqa: E731
        if not (settings.witness_policy or settings.tsa_url):
            os.write(options.control_fd, b'{"op": "idle"}')
            return 0
    notary = Notary(
        options.home,
        policy=settings.file("witness_policy"),
        tsa_url=settings.tsa_url,
        tsa_roots=settings.file("tsa_roots"),
        tsa_every=settings.tsa_every,
    )
    notary.run(settings.witness_every, stopped)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
