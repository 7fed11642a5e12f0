"""The API as it is run: following a log that grows, in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.replay.api.conftest import seal, write_story


@contextmanager
def served(home: Path) -> Iterator[httpx.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sandtrail", "serve", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            wait(lambda: client.get("/v1/health").status_code == 200)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def wait(reached: object, seconds: float = 60) -> None:
    assert callable(reached)
    deadline = time.monotonic() + seconds
    while True:
        try:
            if reached():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.1)


def followers(home: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if b"sandtrail.replay.api.following" in line and os.fsencode(home) in line:
            found.append(int(entry.name))
    return found


def test_what_is_recorded_while_it_serves_can_be_seen(home: Path) -> None:
    with served(home) as api:
        assert api.get("/v1/sessions").json()["sessions"] == []
        assert api.get("/v1/health").json()["follower"] in ("on", "waiting")
        write_story(home, "s1")
        seal(home)
        wait(lambda: [s["state"] for s in api.get("/v1/sessions").json()["sessions"]] == ["ended"])
        assert len(api.get("/v1/sessions/s1/timeline").json()["turns"]) == 3
        wait(lambda: api.get("/v1/health").json()["status"] == "ok")


def test_a_follower_that_is_killed_is_started_again(home: Path) -> None:
    with served(home) as api:
        wait(lambda: followers(home))
        for pid in followers(home):
            os.kill(pid, signal.SIGKILL)
        write_story(home, "s2")
        seal(home)
        wait(lambda: api.get("/v1/sessions").json()["sessions"])
    wait(lambda: not followers(home), 20)


def test_an_address_that_is_taken_is_said_so(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "sandtrail", "serve", "--home", str(home), "--port", str(port)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert "--port" in done.stderr
