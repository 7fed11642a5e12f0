"""Memory that a process needs for one segment, and for the next one again."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["keep_freed_memory"]

# malloc.h; the thresholds below take malloc's own way of adapting them out of use.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory(most: int = 64 << 20) -> None:
    """Have the C library keep up to `most` bytes that are free, instead of giving them back to the kernel each time.

    A segment takes and frees a few MiB, page by page: taken from the kernel anew, that is a tenth of what sealing
    costs. Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, most)
        mallopt(_MMAP_THRESHOLD, most // 2)
