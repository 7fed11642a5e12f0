"""The part of hashing that is written in C (`_hashing.c`), where it was built; without it everything works, slower.

`leaves` and `merkle` look here each time, so that tests can have either way.
"""

from __future__ import annotations

__all__ = ["hashing", "said"]

said = "leaves and trees are hashed in C"
try:
    import sandtrail.store._hashing as hashing
except ModuleNotFoundError:
    hashing = None  # type: ignore[assignment]
    said = "leaves and trees are hashed in Python alone: nothing was compiled"
except ImportError as error:
    hashing = None  # type: ignore[assignment]
    said = f"leaves and trees are hashed in Python alone: {error}"
