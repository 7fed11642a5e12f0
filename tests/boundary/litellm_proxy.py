"""The LiteLLM proxy, run for real in an environment of its own, and our command beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandtrail.errors import SandtrailError
from sandtrail.replay.timeline import read_timeline
from tests.boundary.sandboxed import installed

PATIENCE_S = 120.0
MASTER = "sk-master0123456789abcdefABCDEF"
UPSTREAM = "sk-upstream0123456789abcdefABCDEF"


def wait_for[T](look: Callable[[], T | None], what: str) -> T:
    """Poll until `look` gives something true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.1)
    return found


@contextmanager
def ingesting(home: Path, *options: str) -> Iterator[str]:
    """`sandtrail ingest` until the block ends; yields the line that it prints first, where it listens."""
    command = [sys.executable, "-m", "sandtrail", "ingest", *options, "--home", str(home)]
    log = home / "run" / f"ingest-{len(list((home / 'run').glob('ingest-*')))}.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as running,
    ):
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip() if "--listen" in options else ""
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(PATIENCE_S) == 0, log.read_text()


@contextmanager
def litellm(folder: Path, model: str, callback: str) -> Iterator[str]:
    """The proxy with one model, `m`, at `model`; its callback posts to `callback`, and `folder/litellm.log` is its log
    with every call's record in it. Yields its base address."""
    at = {"model": "openai/scripted", "api_base": f"{model}/v1", "api_key": UPSTREAM}
    settings = {"callbacks": ["generic_api"], "num_retries": 0}
    config = {"model_list": [{"model_name": "m", "litellm_params": at}], "litellm_settings": settings}
    (folder / "config.json").write_text(json.dumps(config))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    env = {
        **os.environ,
        "GENERIC_LOGGER_ENDPOINT": callback,
        # What is added to a batch while the one before is being sent, LiteLLM forgets.
        "DEFAULT_BATCH_SIZE": "1",
        "LITELLM_PRINT_STANDARD_LOGGING_PAYLOAD": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER,
        "JSON_LOGS": "true",
        "NO_PROXY": "*",
    }
    options = ["--config", str(folder / "config.json"), "--host", "127.0.0.1", "--port", str(port)]
    command = [str(installed("litellm").program("litellm")), *options]
    with (
        (folder / "litellm.log").open("wb") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as proxy,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _ready(url, proxy, folder), "LiteLLM to start")
            yield url
        finally:
            proxy.terminate()
            proxy.wait(PATIENCE_S)


def _ready(url: str, proxy: subprocess.Popen[bytes], folder: Path) -> bool:
    assert proxy.poll() is None, (folder / "litellm.log").read_text()
    try:
        with urllib.request.urlopen(f"{url}/health/readiness", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def timeline(home: Path, session: str) -> dict[str, Any]:
    """A session's timeline; without turns while nothing is signed of it."""
    try:
        return read_timeline(home, session)
    except SandtrailError:
        return {"turns": []}
