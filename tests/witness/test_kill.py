"""State comes before the reply: a witness that is killed at any moment never knows less than it has vouched for."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from sandtrail.errors import WitnessError
from sandtrail.witness.client import Conflict, add_checkpoint
from tests.witness.a_log import ALog
from tests.witness.running import witness


def _held(url: str, log: ALog) -> int:
    """What the witness holds, by its own word: the answer to a size that it cannot hold."""
    with pytest.raises(Conflict) as caught:
        add_checkpoint(url, 600, [], log.head(600), timeout=60)
    return caught.value.size


def test_after_a_kill_it_holds_what_it_had_cosigned(tmp_path: Path) -> None:
    log = ALog(tmp_path / "log")
    chance = random.Random(5)
    options = ("--name", "w", "--key", "ed25519", "--log", log.vkey)
    acknowledged = 0
    for _ in range(3):
        with witness(tmp_path / "w", *options) as running:
            kill = threading.Timer(chance.uniform(0.0, 0.4), running.process.kill)
            size = _held(running.url, log)
            assert size >= acknowledged
            kill.start()
            try:
                while size < 599:
                    add_checkpoint(running.url, size, log.reader(size + 1).consistency(size), log.head(size + 1))
                    size = acknowledged = size + 1
            except WitnessError:
                pass
            kill.join()
    with witness(tmp_path / "w", *options) as running:
        assert _held(running.url, log) in (acknowledged, acknowledged + 1)


@pytest.mark.needs("strace")
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_what_is_not_on_the_disk_is_not_cosigned(tmp_path: Path, call: str) -> None:
    log = ALog(tmp_path / "log")
    options = ("--name", "w", "--key", "ed25519", "--log", log.vkey)
    with witness(tmp_path / "w", *options) as running:
        assert add_checkpoint(running.url, 0, [], log.head(5))
    # From the first such call on, the disk fails.
    broken = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO")
    with witness(tmp_path / "w", *options, before=broken) as running, pytest.raises(WitnessError, match="500"):
        add_checkpoint(running.url, 5, log.reader(9).consistency(5), log.head(9), timeout=60)
    with witness(tmp_path / "w", *options) as running:
        assert _held(running.url, log) == 5
        assert add_checkpoint(running.url, 5, log.reader(9).consistency(5), log.head(9))
