"""A source as small as can be: `python -m tests.store.faults_writer HOME NAME COUNT SIZE [TRIES [PAUSE]]`.

Writes numbered frames to a spool, PAUSE seconds apart, and says the number of each that was acknowledged, a line each.
A frame that the disk refuses is offered again up to TRIES times, a millisecond apart, the first time with the line
"refused"; then it gives up with status 3.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from sandtrail.errors import StoreError
from sandtrail.store import spool
from sandtrail.store.spool import SpoolWriter

TRIES = 20


def payload(name: str, number: int, size: int) -> bytes:
    """What frame `number` holds."""
    return f"{name} {number} ".encode().ljust(size, b".")


def main(home: str, name: str, count: int, size: int, patience: int = TRIES, pause: float = 0.0) -> int:
    spool.ROTATE_AT = 8 * size
    stream = None
    number = tries = 0
    while number < count:
        try:
            if stream is None:
                stream = SpoolWriter(Path(home), name).open({"source": name, "sandbox": name, "session": name})
            stream.write(payload(name, number, size))
        except StoreError as error:
            if not tries:
                os.write(1, b"refused\n")
            tries += 1
            if tries > patience:
                print(error, file=sys.stderr)
                return 3
            time.sleep(0.001)
            continue
        tries = 0
        os.write(1, b"%d\n" % number)
        number += 1
        time.sleep(pause)
    return 0


if __name__ == "__main__":
    _, home, name, *numbers = sys.argv
    raise SystemExit(main(home, name, *map(int, numbers[:3]), *map(float, numbers[3:])))
