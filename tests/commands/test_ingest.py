"""`sandtrail ingest` from a pipe to the timeline."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.collector.session.recorded import recorded
from tests.inside import sandtrail
from tests.replay.decode.test_others import DROPPED, LOST

SANDTRAIL = [sys.executable, "-m", "sandtrail"]


def run(home: Path, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [*SANDTRAIL, words[0], *words[1:], "--home", str(home)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)


def timeline(home: Path, session: str) -> dict[str, Any]:
    recorded(home, session, timeout=60)
    return dict(json.loads(sandtrail("timeline", session, "--json", "--home", home).stdout))


def test_flows_from_a_pipe_are_rows_of_the_pod_that_they_name_and_what_was_lost_is_a_gap(home: Path) -> None:
    done = run(home, "ingest", "hubble", "--by", "source.pod_name", text=f"{DROPPED}\n{LOST}\n")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "2 records, 0 of them no JSON, 0 cut")
    told = timeline(home, "xwing")
    (row,) = told["turns"][0]["outputs"]
    assert (row["kind"], row["object"], row["flags"]) == ("net.flow", "10.244.1.5:80", ["refused", "told"])
    assert "told by hubble, DROPPED, POLICY_DENIED" in row["summary"]
    assert told["findings"] == []
    (source,) = told["session"]["sources"]
    assert (source["source"], source["descriptor"]["bound"]) == ("hubble", "by source.pod_name")
    (gap,) = timeline(home, "hubble")["gaps"]
    assert (gap["cause"], gap["count"]) == ("events that Hubble lost", 1)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("hubble", "--listen", "127.0.0.1:1"), "Hubble sends to nobody"),
        (("envoy", "--listen", "127.0.0.1:1", "--file", "x"), "either --file or --listen"),
        (("envoy", "--follow"), "--follow wants --file"),
        (("litellm", "--session", "a", "--by", "b"), "either --session or --by"),
        (("litellm", "--listen", "here"), "an address and a port"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(home: Path, words: tuple[str, ...], why: str) -> None:
    done = sandtrail("ingest", *words, "--home", home)
    assert done.returncode != 0
    assert why in " ".join(done.stderr.split())
    assert not (home / "spool").exists()
