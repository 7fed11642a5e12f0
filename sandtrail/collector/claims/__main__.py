"""`python -m sandtrail.collector.claims --home H --control-fd N`: the receiver as a process of the keeper's."""

from __future__ import annotations

import socket
from pathlib import Path

from sandtrail.collector.claims.service import Claims
from sandtrail.collector.handed import run


async def _serve(home: Path, control: socket.socket) -> None:
    await Claims(home, control).run()


if __name__ == "__main__":
    raise SystemExit(run("claims", _serve))
