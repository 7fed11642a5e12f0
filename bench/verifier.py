"""One verification as a program, `python -m bench.verifier HOME MODE`: what it found, and what it took."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Literal, get_args

from sandtrail.store.verify import verify

Mode = Literal["stored", "full"]


def main(home: Path, mode: Mode) -> int:
    """Print one JSON object."""
    begin, before = time.perf_counter(), os.times()
    report = verify(home, mode=mode)
    seconds, after = time.perf_counter() - begin, os.times()
    # Helpers count from when they have ended, which is before `verify` returns.
    cpu = sum(after[:4]) - sum(before[:4])
    found = [f"step {finding.step}, {finding.type} at {finding.place}" for finding in report.findings]
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "frames": report.frames, "findings": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), next(mode for mode in get_args(Mode) if mode == sys.argv[2])))
