"""The recorded demonstration as fixtures: one real recording a runsc version and test session, shared by all tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import agent, run
from sandtrail.errors import MissingPartError
from tests import parts


@dataclass(frozen=True)
class Recording:
    """A finished recording of the demonstration, in a home of its own. `timeline` is what `sandtrail timeline --json`
    says, `status` the exit status of `sandtrail record`."""

    home: Path
    session: str
    status: int
    timeline: dict[str, Any]

    def sandtrail(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of our commands on this home."""
        return subprocess.run(
            run.sandtrail(*arguments, "--home", str(self.home)),
            env=_environment(self.home),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


Record = Callable[[parts.Runsc], Recording]
# Shared by every conftest that takes the fixtures over, so that nobody records twice.
_recorded: dict[str, Recording] = {}


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "SANDTRAIL_HOME": str(home), "SANDTRAIL_RUN": str(home / "run")}


def install_agent() -> None:
    """Install the agent, or skip the test where the package index is out of reach (in CI: fail)."""
    try:
        agent.install()
    except MissingPartError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def _record(runsc: parts.Runsc) -> Recording:
    install_agent()
    home = Path(tempfile.mkdtemp(prefix="st-demo-", dir="/tmp"))
    (home / "run").mkdir(mode=0o700)
    options = ("--home", str(home), "--runsc", str(runsc.path), "--no-timeline")
    found = Recording(home, "", run.record(*options, environment=_environment(home)), {})
    told = found.sandtrail("timeline", "--json")
    assert told.returncode == 0, told.stderr
    timeline = json.loads(told.stdout)
    return replace(found, session=timeline["session"]["id"], timeline=timeline)


@pytest.fixture(scope="session")
def demo_recordings() -> Iterator[Record]:
    """Records the demonstration with a runsc, once each; the homes are removed when all tests are over."""

    def record(runsc: parts.Runsc) -> Recording:
        if runsc.label not in _recorded:
            _recorded[runsc.label] = _record(runsc)
        return _recorded[runsc.label]

    yield record
    while _recorded:
        shutil.rmtree(_recorded.popitem()[1].home, ignore_errors=True)


@pytest.fixture(scope="session")
def demo_recording(demo_recordings: Record) -> Recording:
    """The demonstration, recorded with the newest runsc; for tests marked `needs("root", "runsc", "ip", "nft")`."""
    newest = parts.newest_runsc()
    assert newest is not None
    return demo_recordings(newest)
