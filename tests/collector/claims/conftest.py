"""One receiver for all tests of a file, each with a session of its own."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.claims.harness import Claims

_numbers = itertools.count()


@pytest.fixture(scope="module")
def claims() -> Iterator[Claims]:
    home = Path(tempfile.mkdtemp(prefix="st-", dir="/tmp"))
    running = Claims(home)
    yield running
    running.close()
    shutil.rmtree(home)


@pytest.fixture
def session() -> str:
    return f"s{next(_numbers)}"
