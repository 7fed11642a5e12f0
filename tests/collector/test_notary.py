"""The keeper keeps a notary where one is configured, and what it signed last is witnessed when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import Checkpoint, open_checkpoint
from sandtrail.store.policy import load_policy
from sandtrail.store.sealer import Sealer
from tests.collector.recorder import Recorder, wait_for
from tests.witness.running import witness


def test_a_recorder_has_its_log_witnessed_through_a_kill_and_to_its_very_end(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sealer(home).stop()
    identity = load_verifier(home)
    policy = tmp_path / "policy"
    monkeypatch.setenv("SANDTRAIL_WITNESS_POLICY", str(policy))
    monkeypatch.setenv("SANDTRAIL_WITNESS_EVERY", "0.5")

    def witnessed() -> Checkpoint | None:
        path = Layout(home).witnessed / "checkpoint"
        return open_checkpoint(path.read_bytes(), identity) if path.exists() else None

    with witness(tmp_path / "w", "--key", "ed25519", "--log", identity.vkey) as running:
        policy.write_text(running.policy() + "quorum w0\n")
        with Recorder(home) as recorder:
            wait_for(witnessed, 60)
            recorder.kill("notary")
            before = witnessed()
            wait_for(lambda: witnessed() != before, 60)
        note = read_checkpoint(Layout(home).log)
        assert note is not None
        assert witnessed() == open_checkpoint(note, identity)
        verdict = load_policy(policy).judge((Layout(home).witnessed / "checkpoint").read_bytes(), log=identity)
        assert verdict.ok, verdict.reason
