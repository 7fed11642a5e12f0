"""Writers and sealer are killed at random moments, again and again: no acknowledged frame is lost, none comes twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandtrail.store.verify import verify
from tests.store.faults_processes import Processes, eventually, processes, signed
from tests.store.faults_work import judge


def _heard(running: Processes, chance: random.Random) -> Callable[[], object]:
    return lambda: running.lines() or chance.random() < 0.02


@pytest.mark.parametrize("seed", range(2))
def test_whoever_is_killed_whenever_no_acknowledged_frame_is_lost(memory: Path, seed: int) -> None:
    home, chance = memory / "home", random.Random(seed)
    promised: list[bytes] = []
    for round_ in range(6):
        with processes(home, memory / f"said{round_}", name=f"w{round_}") as running:
            # From the first moments of both until long after their first checkpoint.
            eventually(_heard(running, chance))
            for _ in range(chance.randrange(4)):
                time.sleep(chance.random() * 0.4)
                running.sealer.kill()
                running.sealer.wait()
                running.keep()
            time.sleep(chance.random() * 0.5)
            first, second = chance.sample([running.writer, running.sealer], 2)
            first.kill()
            time.sleep(chance.random() * 0.1)
            second.kill()
            running.kill()
            promised += running.acknowledged()
        if (home / "log" / "checkpoint").exists():
            assert verify(home).ok
    judge(home, promised)
    assert promised
    assert signed(home) >= set(promised)
