"""`python -m sandtrail.replay.api.following --home HOME`: the follower, until standard input ends."""

from __future__ import annotations

import argparse
import os
import select
import sys
import time
from pathlib import Path

import structlog

from sandtrail.errors import StoreError
from sandtrail.replay.follow import Follower

__all__ = ["main"]

_log = structlog.get_logger()


def main() -> None:
    """Follow until standard input ends; wait while another follower is at work."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home
    while not _orphaned():
        try:
            follower = Follower(home)
        except StoreError as busy:
            _log.info("waiting", reason=str(busy))
            time.sleep(1)
            continue
        try:
            follower.run(_orphaned)
        finally:
            follower.close()
        return


def _orphaned() -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready) and not os.read(sys.stdin.fileno(), 4096)


if __name__ == "__main__":
    main()
