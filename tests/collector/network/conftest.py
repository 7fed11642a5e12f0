"""A link of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from sandtrail.collector.network import wire
from sandtrail.collector.network.rules import EgressMode

_NUMBERS = count()


@pytest.fixture
def make_link() -> Iterator[Callable[..., wire.Wire]]:
    """Makes links, and removes them after the test."""
    made: list[tuple[str, wire.Wire]] = []

    def make(mode: EgressMode = "proxy") -> wire.Wire:
        name = f"test{os.getpid()}x{next(_NUMBERS)}"
        try:
            made.append((name, wire.Wire.create(name, mode)))
        except BaseException:
            wire.remove(name)
            raise
        return made[-1][1]

    yield make
    for name, link in made:
        link.close()
        wire.remove(name)


@pytest.fixture
def link(make_link: Callable[..., wire.Wire]) -> wire.Wire:
    """A link in the default mode."""
    return make_link()
