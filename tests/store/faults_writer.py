"""A source as small as can be: `python -m tests.store.faults_writer HOME NAME COUNT SIZE`.

Writes numbered frames to a spool and says the number of each that was acknowledged, a line each. A frame that the disk
refuses is offered again for a while; then it gives up with status 3.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from sandtrail.errors import StoreError
from sandtrail.store import spool
from sandtrail.store.spool import SpoolWriter

_TRIES = 20


def payload(name: str, number: int, size: int) -> bytes:
    """What frame `number` holds."""
    return f"{name} {number} ".encode().ljust(size, b".")


def main(home: str, name: str, count: int, size: int) -> int:
    spool.ROTATE_AT = 8 * size
    stream = None
    number = tries = 0
    while number < count:
        try:
            if stream is None:
                stream = SpoolWriter(Path(home), name).open({"source": name, "sandbox": name, "session": name})
            stream.write(payload(name, number, size))
        except StoreError as error:
            tries += 1
            if tries > _TRIES:
                print(error, file=sys.stderr)
                return 3
            time.sleep(0.001)
            continue
        tries = 0
        os.write(1, b"%d\n" % number)
        number += 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
