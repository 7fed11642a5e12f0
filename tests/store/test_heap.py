"""Memory that is kept for the next segment."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from sandtrail.store.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytes(bytearray(4 << 20))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(min(faults() for _ in range(5)))
"""


@pytest.mark.parametrize("way", ["kept", "given back"])
def test_memory_that_was_freed_is_there_for_the_next_segment(way: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
    pages = int(done.stdout)
    assert pages < 100 if way == "kept" else pages > 500
