"""`python -m sandtrail.collector.claims --home H --control-fd N`: the receiver as a process of the keeper's."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
from pathlib import Path

from sandtrail.collector.claims.service import Claims
from sandtrail.collector.gateway import logs


async def _serve(home: Path, control: socket.socket) -> None:
    await Claims(home, control).run()


def main() -> int:
    """Serve until the keeper says stop or hangs up."""
    parser = argparse.ArgumentParser(prog="sandtrail-claims")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    options = parser.parse_args()
    # Ctrl-C is for the keeper to hear, which then says stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure()
    with socket.socket(fileno=options.control_fd) as control:
        asyncio.run(_serve(options.home, control))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
