"""One verification as a program, `python -m bench.verifier HOME MODE`: what it found, and what it took."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Literal, get_args

from sandtrail.store.verify import verify

Mode = Literal["stored", "full"]


def _cpu_seconds() -> float:
    """Of this process and of the helpers that have ended, as all have when `verify` returns."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main(home: Path, mode: Mode) -> int:
    """Print one JSON object."""
    begin, before = time.perf_counter(), _cpu_seconds()
    report = verify(home, mode=mode)
    seconds, cpu = time.perf_counter() - begin, _cpu_seconds() - before
    found = [f"step {finding.step}, {finding.type} at {finding.place}" for finding in report.findings]
    print(json.dumps({"seconds": seconds, "cpu_s": cpu, "frames": report.frames, "findings": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), next(mode for mode in get_args(Mode) if mode == sys.argv[2])))
