from __future__ import annotations

from itertools import chain, islice

import pytest
import zstandard

from bench.payloads import BATCH, batches
from sandtrail.collector import landing


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 1000])
def test_there_are_as_many_as_asked_for_in_full_batches(count: int) -> None:
    made = list(batches(count))
    assert sum(map(len, made)) == count
    assert all(len(batch) == BATCH for batch in made[:-1])
    assert {len(payload) for payload in chain.from_iterable(made)} == {120}


def test_batches_are_those_of_the_receiver() -> None:
    assert BATCH == landing.BATCH


def test_a_seed_makes_the_same_frames_again_and_another_seed_others() -> None:
    assert list(batches(100, seed=1)) == list(batches(100, seed=1)) != list(batches(100, seed=2))
    # More frames begin with the same ones.
    assert list(islice(batches(1000), 2)) == list(islice(batches(2 * BATCH), 2))


def test_they_compress_about_as_well_as_real_ones() -> None:
    # Real recordings of ours take 6 to 17 % (docs/benchmarks.md).
    payloads = list(chain.from_iterable(batches(16_384)))
    assert len(set(payloads)) == len(payloads)
    raw = b"".join(payloads)
    assert 0.06 < len(zstandard.compress(raw, 3)) / len(raw) < 0.17
