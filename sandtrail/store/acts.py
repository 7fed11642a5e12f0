"""Acts upon a log: ordered by anybody who may write under the home, carried out by the one who writes the log.

An order is a file in `acts/`; it stays until the act is in the signed log and done, so that a sealer that is killed in
the middle does it again. Each act can be done twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.errors import RecorderError, StoreError, UsageError
from sandtrail.store.layout import Layout, listed, present, publish, sync_folder

__all__ = ["ACTS", "Orders", "order"]

ACTS = frozenset({"epoch", "erase", "hold", "retain", "time"})
_MAX_ORDER = 1 << 20


def order(home: Path, act: Mapping[str, Any], *, timeout: float = 60.0) -> dict[str, Any]:
    """Have an act carried out, by the sealer that runs here or by this process; returns what became of it.

    `act["act"]` is one of ACTS; `store/custody.py` says what else it needs. When this returns the act is in the signed
    log and done. Raises UsageError when it was refused, RecorderError when nobody has done it in time: the order then
    stays and will be carried out.
    """
    if act.get("act") not in ACTS:
        raise UsageError(f"{act.get('act')!r:.40} is no act; there are: {', '.join(sorted(ACTS))}")
    folder = Layout(home).make().acts
    path = folder / f"{time.time_ns():020d}-{os.urandom(4).hex()}.order"
    publish(path, cbor2.dumps(dict(act), canonical=True))
    answer = path.with_suffix(".done")
    deadline = time.monotonic() + timeout
    while not present(answer):
        if time.monotonic() > deadline:
            raise RecorderError(f"the order {path} has not been carried out yet; the recorder will do so: sandtrail up")
        if not _carry_out(home):
            time.sleep(0.05)
    said: dict[str, Any] = cbor2.loads(answer.read_bytes())
    answer.unlink()
    if "error" in said:
        raise UsageError(said["error"])
    return said


def _carry_out(home: Path) -> bool:
    """Be the one who writes the log for as long as it takes, unless somebody is."""
    from sandtrail.store.sealer import Sealer  # it imports us

    try:
        sealer = Sealer(home)
    except StoreError as error:
        if "another process writes" in str(error):
            return False
        raise
    sealer.stop()
    return True


class Orders:
    """The orders that wait, for the one who carries them out."""

    def __init__(self, home: Path) -> None:
        self._folder = Layout(home).acts

    def waiting(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """(file, order), the oldest first. One that can't be read is answered with what is wrong.

        Raises OSError where the disk does not say which there are.
        """
        for path in listed(self._folder, ".order"):
            try:
                if path.stat().st_size > _MAX_ORDER:
                    raise ValueError("too long")
                found = cbor2.loads(path.read_bytes())
                if not isinstance(found, dict) or found.get("act") not in ACTS:
                    raise ValueError("no act")
            except Exception as error:  # noqa: BLE001  # whatever is wrong with a file that anybody put here
                self.done(path, {"error": f"the order cannot be read: {error}"})
                continue
            yield path, found

    def done(self, path: Path, result: Mapping[str, Any]) -> None:
        """Say what became of an order, and take it away."""
        publish(path.with_suffix(".done"), cbor2.dumps(dict(result)))
        path.unlink(missing_ok=True)
        sync_folder(self._folder)
