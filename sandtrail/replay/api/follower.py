"""The follower as a process of its own beside the API, so that decoding a storm does not hold up an answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import structlog

__all__ = ["FollowerProcess"]

_log = structlog.get_logger()


class FollowerProcess:
    """Starts the follower, starts it again when it ends, and ends it with us. A context manager."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="follower", daemon=True)

    def __enter__(self) -> FollowerProcess:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        self._thread.join(30)

    @property
    def state(self) -> str:
        """`on`, or `waiting` where it is not running."""
        process = self._process
        return "on" if process is not None and process.poll() is None else "waiting"

    def _watch(self) -> None:
        while not self._stopping.is_set():
            # It leaves when its standard input ends, so it does not outlive us, however we end.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sandtrail.replay.api.following", "--home", str(self._home)],
                stdin=subprocess.PIPE,
            )
            while self._process.poll() is None and not self._stopping.wait(0.2):
                pass
            if self._stopping.is_set():
                assert self._process.stdin is not None
                self._process.stdin.close()
                try:
                    self._process.wait(20)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
                return
            _log.warning("the follower ended; starting it again", status=self._process.returncode)
            self._stopping.wait(2)
