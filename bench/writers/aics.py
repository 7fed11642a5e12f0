"""aics-tlog's writer, one log entry a frame, a signed checkpoint for as many frames as a segment of ours holds.

Run by the interpreter of an environment of its own (requirements/foreign.lock) that has nothing of ours.
"""

from __future__ import annotations

from itertools import chain, islice

import aics_tlog
from aics_tlog.checkpoint import Checkpoint
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.writers import Job, main

_AT_ONCE = 16_384
_ORIGIN = "example.org/bench"


def write(job: Job) -> int:
    """Durable: its store syncs every file that it writes."""
    key = Ed25519PrivateKey.generate()
    store = aics_tlog.DirectoryTileStore(job.folder, fsync=True)
    writer = aics_tlog.IncrementalTileWriter(store)
    for chunk in job.chunks():
        with job.watch:
            entries = chain.from_iterable(chunk)
            while some := list(islice(entries, _AT_ONCE)):
                done = writer.append(some)
                note = aics_tlog.sign_checkpoint(Checkpoint(_ORIGIN, done.size, done.root), key, _ORIGIN)
                store.write_checkpoint(note.to_bytes())
    signed, _ = aics_tlog.checkpoint.checkpoint_from_note(aics_tlog.parse_note(store.read_checkpoint() or b""))
    return int(signed.size)


if __name__ == "__main__":
    main(write)
