"""The threat model says true numbers, and names findings that there are."""

from __future__ import annotations

import inspect
import re

from sandtrail.cluster.log import ClusterLog
from sandtrail.settings import Settings
from sandtrail.store import clocks, policy, sealer
from tests.parts import CHECKOUT

TEXT = (CHECKOUT / "docs" / "threat-model.md").read_text()
VERIFICATION = (CHECKOUT / "docs" / "verification.md").read_text()


def row(start: str) -> str:
    """The one table row that begins so."""
    [found] = [line for line in TEXT.splitlines() if line.startswith(f"| {start}")]
    return found


def default(name: str) -> float:
    return float(Settings.model_fields[name].default)


def test_how_fast_is_as_fast_as_the_code_is() -> None:
    fast = TEXT.partition("## How fast")[2].partition("## ")[0]
    assert f"| it is in a closed segment | {sealer.SEGMENT_AGE} s; {sealer.URGENT_AGE} s for" in fast
    assert f"covers it | {sealer.CHECKPOINT_EVERY:g} s more; {sealer.CHECKPOINT_URGENT} s for" in fast
    assert f"a heartbeat is signed | {sealer.HEARTBEAT_EVERY:g} s |" in fast
    assert f"(`SANDTRAIL_WITNESS_EVERY`) | {default('witness_every'):g} s |" in fast
    assert f"(`SANDTRAIL_TSA_EVERY`) | {default('tsa_every') / 3600:g} h |" in fast
    assert f"(`SANDTRAIL_EPOCH_HOURS`) | {default('epoch_hours'):g} h |" in fast
    silence = inspect.signature(ClusterLog.__init__).parameters["silence"].default
    assert f"the cluster's log says so | {silence:g} s |" in fast


def test_what_clocks_may_be_off_by_is_what_the_code_takes() -> None:
    assert sealer.DUTY_EVERY == 0.1
    assert f"less than {clocks.STEP / 1e9:g} s in all" in row("set the clock, then record")
    assert f"less than {clocks.FRAME_STEP / 1e9:g} s" in row("set the clock, then record")
    assert f"{clocks.TOKEN_SLACK / 1e9:g} s either way" in row("let NTP slew it slowly")
    assert f"{clocks.SILENCE / 1e9:g} s in the log" in row("pause it (SIGSTOP")
    assert policy.AHEAD == 300
    assert "more than five minutes ahead" in row("a witness dates a cosignature wrongly")


def test_every_finding_that_is_named_is_one_of_its_step() -> None:
    rows = re.findall(r"^\| (\d+) \| ((?:`[a-z-]+`(?:, )?)+)", VERIFICATION, re.MULTILINE)
    steps = {kind: step for step, kinds in rows for kind in re.findall("`([a-z-]+)`", kinds)}
    named = [(step, kind) for step, kind in re.findall(r"step (\d+): `([a-z-]+)`", TEXT, re.IGNORECASE)]
    assert len(named) >= 8
    for step, kind in named:
        assert steps[kind] == step, kind
    known = steps.keys() | {"not-witnessed"}
    for kind in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", TEXT):
        assert kind in known, kind


def test_every_row_has_as_many_cells_as_its_table() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table
