"""`sandtrail up`: the recorder, the HTTP API and the page of one machine, in the foreground."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
from rich.console import Console

from sandtrail.errors import MissingPartError, RecorderError
from sandtrail.settings import load_settings

__all__ = ["Services", "run_up"]

_START_TIMEOUT = 60.0


class Services:
    """A few processes that live and die together. Leaving the `with` block ends them, the newest first."""

    def __init__(self) -> None:
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Services:
        return self

    def __exit__(self, *_exception: object) -> None:
        for _, process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for _, process in reversed(self._processes):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        """Start `python -m ARGUMENTS`. It hears of Ctrl-C from us alone, so that it can end in its turn."""
        command = [sys.executable, "-m", *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})}, start_new_session=True
        )
        self._processes.append((name, process))

    def ended(self) -> str | None:
        """The name of a process that has ended by itself, if any has."""
        return next((name for name, process in self._processes if process.poll() is not None), None)

    def wait_for(self, url: str) -> None:
        """Return once `url` answers. Raises RecorderError when a process ends first or it takes a minute."""
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            ended = self.ended()
            if ended:
                raise RecorderError(f"{ended} ended while it was starting; its words are above")
            try:
                if httpx.get(url, timeout=2, trust_env=False).status_code < 500:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise RecorderError(f"nothing answers at {url} after {_START_TIMEOUT:.0f} s")

    def start_pages(self, home: Path) -> tuple[str, str]:
        """Start API and page for `home`; returns their addresses once both answer."""
        settings = load_settings()
        api = f"http://{settings.api_host}:{settings.api_port}"
        page = f"http://{settings.ui_host}:{settings.ui_port}"
        self.start("the API", "sandtrail", "serve", "--home", str(home))
        self.wait_for(f"{api}/v1/health")
        self.start("the page", "sandtrail", "ui", "--api-url", api)
        self.wait_for(page)
        return api, page

    def stay(self) -> int:
        """Stay until SIGINT or SIGTERM (0) or until a process ends by itself (1)."""
        stopped: list[int] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda signum, _frame: stopped.append(signum))
        while not stopped:
            ended = self.ended()
            if ended:
                Console(stderr=True).print(f"[bold red]sandtrail:[/] {ended} has ended; stopping")
                return 1
            time.sleep(0.2)
        return 0


def run_up(home: Path) -> int:
    """Run everything until Ctrl-C. Raises MissingPartError for an ordinary user."""
    if os.geteuid() != 0:
        raise MissingPartError(
            "`sandtrail up` records, and recording needs root: gVisor sandboxes, network namespaces and the packet "
            "filter are root's to make. To look at a record without recording, run: sandtrail serve & sandtrail ui"
        )
    with Services() as services:
        services.start("the recorder", "sandtrail.collector.keeper", "--home", str(home), "--wait", "30")
        api, page = services.start_pages(home)
        out = Console(highlight=False, soft_wrap=True)
        out.print(f"recording into {home}\nAPI   {api}/docs\npage  [bold]{page}[/]\nCtrl-C ends all of it")
        return services.stay()
