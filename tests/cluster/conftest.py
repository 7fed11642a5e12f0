"""Remembered heads of the tests are the tests' own; a home for each."""

from __future__ import annotations

from tests.store.conftest import _own_heads, store

__all__ = ["_own_heads", "store"]
