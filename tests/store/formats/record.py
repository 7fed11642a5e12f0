"""Records the store that is kept as a specimen of the present format: `python -m tests.store.formats.record FOLDER`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sandtrail.store.keys import load_signer
from sandtrail.store.layout import Layout, publish
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter

KEY = bytes(range(32))


def record(home: Path) -> None:
    """Record the specimen into an empty folder."""
    publish(Layout(home).make().keys / "log.key", KEY)
    sealer = Sealer(home, run="0123456789abcdef", signer=load_signer(home, "fixture.example/default/node"))
    spool = SpoolWriter(home, "fixture")
    stream = spool.open({"source": "lifecycle", "session": "old", "sandbox": "old-pod"})
    for number in range(20):
        stream.write(b'{"act":"exec","n":%d}' % number)
        sealer.step()
    stream.note({"note": "gap", "cause": "example", "count": 1, "after_seq": 3, "before_seq": 5})
    stream.close("end of connection")
    own = spool.open({"source": "collector"})
    own.write_many([b"a", b"", b"\xff\x00" * 300])
    own.close("end")
    spool.close()
    sealer.begin_epoch()
    sealer.stop()
    for folder in (Layout(home).spool, Layout(home).acts):
        shutil.rmtree(folder)
    (Layout(home).log / "lock").unlink()


if __name__ == "__main__":
    record(Path(sys.argv[1]))
