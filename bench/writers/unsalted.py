"""The same way without salts and without encryption: what a frame costs with its inner tree alone.

Nothing but the bench writes such a store: it is the real sealer, whose salts are empty and whose cipher is left out.
"""

from __future__ import annotations

from unittest import mock

from bench.writers import Job, main
from bench.writers.sandtrail import write
from sandtrail.store import segments
from sandtrail.store.layout import Layout

_ZSTD = b"\x28\xb5\x2f\xfd"


def write_unsalted(job: Job) -> int:
    """As `sandtrail.write`; checks that what was stored is indeed neither encrypted nor salted."""
    with (
        mock.patch.object(segments, "salts", return_value=b""),
        mock.patch.object(segments, "seal", lambda _key, _magic, _nonce, _number, packed: packed),
    ):
        frames = write(job)
    assert Layout(job.folder).segment(0).read_bytes().startswith(_ZSTD)
    return frames


if __name__ == "__main__":
    main(write_unsalted)
