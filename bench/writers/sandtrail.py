"""The way that every frame takes: record, spool, sealer, segment, log, signed checkpoint. In one process."""

from __future__ import annotations

from bench.writers import Job, main
from sandtrail.collector.patience import PatientSpool
from sandtrail.store.heap import keep_freed_memory
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer


def write(job: Job) -> int:
    """A receiver's part (records of a batch each into the spool) and the sealer's, in turns."""
    keep_freed_memory()  # as the sealer's own process does
    sealer = Sealer(job.folder)
    spool = PatientSpool(job.folder, "bench")
    stream = spool.open({"source": "bench", "sandbox": "bench", "session": "bench"})
    handed_over = stream.seq
    for chunk in job.chunks():
        with job.watch:
            for batch in chunk:
                spool.make_room()
                stream.write_many(batch)
            while sealer.step():
                pass
    with job.watch:
        spool.close()
        sealer.stop()
    return _signed(job) - handed_over


def _signed(job: Job) -> int:
    """Frames that the signed checkpoint covers."""
    return sum(entry.map["frames"] for entry in open_log(job.folder).entries() if entry.kind == "segment")


if __name__ == "__main__":
    main(write)
