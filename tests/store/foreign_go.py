"""The programs of tools/foreign, as the tests ask them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.parts import foreign_go


def logcheck(requests: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every request's answer, in order. One start of the program, so that a thousand logs are cheap."""
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([str(foreign_go("logcheck"))], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_log(log: Path | str, vkey: str, old: Iterable[tuple[int, bytes]] = ()) -> dict[str, Any]:
    """What golang.org/x/mod/sumdb ("tlog") and tessera's fsck library say of one log; "" where it holds."""
    heads = [{"size": size, "root": root.hex()} for size, root in old]
    return logcheck([{"log": str(log), "vkey": vkey, "old": heads}])[0]


def fsck(log: Path | str, vkey: Path) -> str:
    """What tessera's own fsck says of a log; "" where it holds. It exits with 0 whatever it finds, and says so."""
    url = f"file://{log}" if isinstance(log, Path) else f"{log}/"
    # With fewer workers than wrong tiles this version never ends.
    command = [str(foreign_go("fsck")), "--storage_url", url, "--public_key", str(vkey), "--ui=false", "--N=256"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    good = not done.returncode and "Successfully fsck'd log" in done.stderr and "fsck failed" not in done.stderr
    return "" if good else done.stderr
