"""The page in the browser. Talks to replay's HTTP API and imports nothing of the rooms that record, keep or explain."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from sandtrail.errors import MissingPartError

__all__ = ["argv", "environment", "launch", "start"]

_HERE = Path(__file__).parent
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def argv(host: str = "127.0.0.1", port: int = 8701) -> list[str]:
    """Returns the command that serves the page on `host`:`port`: headless, without statistics or outside addresses.

    On a loopback address only loopback names are answered, so that a foreign page cannot reach it by DNS rebinding.
    """
    settings = tomllib.loads((_HERE / "streamlit.toml").read_text())
    settings["server"] |= {"address": host, "port": port}
    settings["browser"] |= {"serverAddress": host, "serverPort": port}
    if host in _LOOPBACK:
        settings["server"]["allowedHosts"] = list(_LOOPBACK)
    flags = [f"--{name}={value}" for name, value in _flat(settings)]
    return [sys.executable, "-m", "streamlit", "run", str(_HERE / "app.py"), *flags]


def _flat(settings: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{under}{name}.")
        elif isinstance(value, list):
            yield from ((under + name, str(item)) for item in value)
        else:
            yield under + name, str(value).lower() if isinstance(value, bool) else str(value)


def environment(api_url: str) -> dict[str, str]:
    """Returns the environment that the command needs: this process's, and where the API is."""
    return {**os.environ, "SANDTRAIL_API_URL": api_url}


def start(api_url: str, host: str = "127.0.0.1", port: int = 8701) -> subprocess.Popen[bytes]:
    """Starts the page's server as a child of this process and returns it; raises MissingPartError without Streamlit."""
    _need_streamlit()
    return subprocess.Popen(argv(host, port), env=environment(api_url))


def launch(api_url: str, host: str = "127.0.0.1", port: int = 8701) -> NoReturn:
    """Becomes the page's server: the process is replaced, so that signals reach it and its exit status is its own."""
    _need_streamlit()
    command = argv(host, port)
    os.execve(command[0], command, environment(api_url))


def _need_streamlit() -> None:
    if find_spec("streamlit") is None:
        raise MissingPartError("The page needs Streamlit: pip install 'sandtrail[ui]'")
