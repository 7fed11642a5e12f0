"""A spool for whoever must not lose anything: it waits while the disk refuses, and remembers what it had to endure."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from sandtrail.errors import StoreError
from sandtrail.store.spool import SpoolWriter

__all__ = ["PatientSpool"]

_DISK_RETRY = 0.2


class PatientSpool(SpoolWriter):
    """A spool that waits while the disk refuses: the sandbox's sentry then waits with us, and nothing is lost."""

    on_new_file: Callable[[int], None] | None = None
    # The times that nothing could be written, or that what was written has vanished, until somebody has noted them.
    troubles: tuple[dict[str, Any], ...] = ()
    _refused: dict[str, Any] | None = None

    def append(self, record: bytes) -> None:
        """As `append_here`, when that is possible."""
        # Only `make_room` begins a new file, unless this one is gone: a batch and the remarks upon it are in one, where
        # a successor finds them.
        self._patiently(lambda: self.append_here(record))

    def make_room(self) -> None:
        """As any spool's, when that is possible."""
        self._patiently(lambda: SpoolWriter.make_room(self))

    def _patiently(self, act: Callable[[], None]) -> None:
        before = getattr(self, "path", None)  # not the descriptor: that of a file that has gone is given anew
        while True:
            try:
                if self.removed():
                    self._leave_removed()
                act()
            except StoreError as error:
                self._wait(error)
            else:
                break
        if self.path != before and self.on_new_file is not None:
            self.on_new_file(self._fd)
        if self._refused is not None:
            self.troubles += ({**self._refused, "to_ns": time.time_ns()},)
            self._refused = None

    def _leave_removed(self) -> None:
        if self._refused is None or self._refused["note"] != "gap":
            cause = f"the spool {self.path.name} was removed while it was written to"
            self._refused = {"note": "gap", "cause": cause, "count": None, "from_ns": time.time_ns()}
            _say(f"{cause}; what of it was not sealed is lost")
        SpoolWriter._leave_removed(self)

    def _wait(self, error: StoreError) -> None:
        if self._refused is None:
            _say(f"{error}; trying again until it can be written")
            self._refused = {"note": "stalled", "cause": str(error), "from_ns": time.time_ns()}
        time.sleep(_DISK_RETRY)


def _say(text: str) -> None:
    print(f"receiver: {text}", file=sys.stderr, flush=True)
