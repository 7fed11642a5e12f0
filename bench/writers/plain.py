"""The same way on a machine without a compiler: leaves and trees hashed by Python alone."""

from __future__ import annotations

from unittest import mock

from bench.writers import Job, main
from bench.writers.sandtrail import write
from sandtrail.store import native


def write_plain(job: Job) -> int:
    """As `sandtrail.write`."""
    with mock.patch.object(native, "hashing", None):
        return write(job)


if __name__ == "__main__":
    main(write_plain)
