"""One verification as a program, `python -m bench.verifier HOME MODE`: what it found, and how long it took."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Literal, get_args

from sandtrail.store.verify import verify

Mode = Literal["stored", "full"]


def main(home: Path, mode: Mode) -> int:
    """Print one JSON object."""
    begin = time.perf_counter()
    report = verify(home, mode=mode)
    seconds = time.perf_counter() - begin
    found = [f"step {finding.step}, {finding.type} at {finding.place}" for finding in report.findings]
    print(json.dumps({"seconds": seconds, "frames": report.frames, "findings": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), next(mode for mode in get_args(Mode) if mode == sys.argv[2])))
