"""Programs of tests/boundary/clients, recorded in real sandboxes as a user would record them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import environment
from deploy.demo.environment import Environment
from sandtrail.errors import MissingPartError
from tests import parts
from tests.collector.session.recorded import Recorded, recorded

FOLDER = Path(__file__).with_name("clients")
SESSION = "client"


@dataclass(frozen=True)
class Run:
    """What came of a recording."""

    status: int
    printed: str
    errors: str
    timeline: dict[str, Any]
    frames: Recorded

    @property
    def turns(self) -> list[dict[str, Any]]:
        """The turns that began with a model call."""
        return [turn for turn in self.timeline["turns"] if turn["kind"] == "model"]

    def rows(self, kind: str = "") -> list[dict[str, Any]]:
        """The output rows of all turns and of none, of kinds that begin so."""
        outputs = [row for turn in self.timeline["turns"] for row in turn["outputs"]] + self.timeline["unexplained"]
        return [row for row in outputs if row["kind"].startswith(kind)]

    def gateway(self, *kinds: str) -> list[dict[str, Any]]:
        """The gateway's frames of these kinds, in order."""
        frames = [json.loads(payload) for payload in self.frames.of("gateway").data]
        return [frame for frame in frames if frame["t"] in kinds]


def installed(name: str) -> Environment:
    """An environment of tests/boundary. Out of reach of a package index the test is skipped; in CI it fails."""
    try:
        return environment.install(name, FOLDER.parent / f"{name}.lock")
    except MissingPartError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def record(
    home: Path,
    runsc: parts.Runsc,
    *command: str,
    upstreams: Mapping[str, str],
    env: Mapping[str, str],
    more: tuple[str, ...] = (),
) -> Run:
    """Record a command with the clients' environment and programs in its sandbox; `python` is that environment's."""
    clients = installed("clients")
    variables = {
        "PATH": f"{clients.venv}/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": "/clients",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        **env,
    }
    options = [
        *(f"--mount={path}:{path}:ro" for path in clients.folders()),
        f"--mount={FOLDER}:/clients:ro",
        *(f"--env={name}={value}" for name, value in variables.items()),
        *(f"--upstream={host}={url}" for host, url in upstreams.items()),
        *more,
    ]
    front, place = [sys.executable, "-m", "sandtrail"], ["--home", str(home)]
    how = [f"--runsc={runsc.path}", f"--name={SESSION}", "--no-timeline"]
    done = subprocess.run(
        [*front, "record", *place, *how, *options, "--", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    frames = recorded(home, SESSION)
    told = subprocess.run(
        [*front, "timeline", *place, "--json"], capture_output=True, text=True, check=True, timeout=120
    )
    return Run(done.returncode, done.stdout, done.stderr, json.loads(told.stdout), frames)
