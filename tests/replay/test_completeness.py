"""Whether a sandbox was seen from its first instruction: what proves it, and everything that takes the proof away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandtrail.replay.completeness import Completeness, completeness
from sandtrail.store import sealer
from tests.replay.decode.recorded import OK, packet
from tests.replay.index.recording import Recorder, follow

START = packet("CONTAINER_START", id=b"c", args=[b"sh"], context={"container_id": b"c"})
FORK = packet("SYSCALL_FORK", exit=OK, context={"container_id": b"c"})


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
        monkeypatch.setattr(sealer, name, 0.0)
    return Recorder(tmp_path / "home")


def told(recorder: Recorder) -> Completeness:
    recorder.seal()
    session = follow(recorder.home).session("s1")
    found = completeness(session)
    # Whoever asks for sessions gets the verdict with them.
    assert session["facts"]["completeness"] == {
        "from_first_instruction": found.from_first_instruction,
        "reason": found.reason,
        "egress": found.egress,
        "egress_reason": found.egress_reason,
        "claims": found.claims,
        "claims_reason": found.claims_reason,
    }
    return found


def record(recorder: Recorder, packets: list[bytes], *, reason: str = "end of connection", dropped: Any = 0,
           asked: bool = True, ended: bool = True, **descriptor: Any) -> Completeness:  # fmt: skip
    """A session whose trace carried these packets."""
    life = recorder.open("lifecycle", part="record", command=["sh"])
    trace = recorder.open("gvisor", **descriptor)
    for data in packets:
        trace.write(data)
    if ended:
        trace.close(reason)
        if asked:
            recorder.act(life, "runtime", event="trace-list", dropped=dropped, words='"dropped": 7')
        recorder.act(life, "exit", exit_status=0)
        life.close("ended")
    return told(recorder)


def test_a_whole_recording_is_complete(recorder: Recorder) -> None:
    found = record(recorder, [START, FORK])
    assert found == Completeness(
        True,
        "the trace connected before the first container's start, and nothing is missing to the end of the connection",
        None,
        "the link's last account is not on record",
    )


def test_a_recording_under_way_is_complete_so_far(recorder: Recorder) -> None:
    found = record(recorder, [START, FORK], ended=False)
    assert found.from_first_instruction
    assert "so far" in found.reason


def test_a_second_container_is_held_to_the_same(recorder: Recorder) -> None:
    other = {"container_id": b"d"}
    late = packet("SYSCALL_FORK", exit=OK, context=other)
    start = packet("CONTAINER_START", id=b"d", context=other)
    assert record(recorder, [START, start, FORK, late]).from_first_instruction
    second = Recorder(recorder.home.parent / "second")
    assert "container d" in record(second, [START, FORK, late, start]).reason


def _no_trace(recorder: Recorder) -> Completeness:
    life = recorder.open("lifecycle", command=["sh"])
    life.close("ended")
    return told(recorder)


def _unencodable(recorder: Recorder) -> Completeness:
    raw = packet("SYSCALL_RAW", exit=OK, sysno=59, context={"container_id": b"c"})
    return record(recorder, [START, raw, FORK, packet("SENTRY_TASK_EXIT", context={"container_id": b"c"})])


def _noted(recorder: Recorder) -> Completeness:
    life = recorder.open("lifecycle", part="record")
    life.note({"note": "gap", "cause": "dropped after the last message", "count": 12, "from_ns": 1, "to_ns": 2})
    return record(recorder, [START])


SPOILT: dict[str, tuple[Callable[[Recorder], Completeness], str]] = {
    "no trace": (_no_trace, "no trace of the sandbox connected"),
    "attached": (lambda r: record(r, [START], attached=True), "attached to a sandbox that already ran"),
    "late": (lambda r: record(r, [FORK, START]), "the first message of container c is not its start"),
    "drops": (lambda r: record(r, [START, packet("SYSCALL_FORK", dropped=9, exit=OK)]), "by the sentry (9 events)"),
    "unencodable": (_unencodable, "unencodable (1 events)"),
    "noted": (_noted, "dropped after the last message (12 events)"),
    "silent": (lambda r: record(r, []), "told of no container"),
    "cut": (lambda r: record(r, [START], reason="socket error: x"), "did not end by itself: socket error: x"),
    "not asked": (lambda r: record(r, [START], asked=False), "did not say at the end how much it had dropped"),
    "no answer": (lambda r: record(r, [START], dropped=None), "did not say at the end how much it had dropped"),
}


@pytest.mark.parametrize("why", SPOILT)
def test_what_takes_the_proof_away_is_said(recorder: Recorder, why: str) -> None:
    act, words = SPOILT[why]
    found = act(recorder)
    assert not found.from_first_instruction
    assert words in found.reason


def test_many_causes_are_told_in_short(recorder: Recorder) -> None:
    life = recorder.open("lifecycle", part="record")
    for number in range(100):
        life.note({"note": "gap", "cause": f"cause {number} \x1b[31m" + "x" * 1000, "count": None})
    found = record(recorder, [START])
    assert len(found.reason) < 1500
    assert found.reason.endswith("more causes")


def test_what_is_missing_of_the_agents_own_word_says_nothing_of_the_sandbox(recorder: Recorder) -> None:
    claims = recorder.open("claims")
    for count in (3, 4):
        claims.note({"note": "gap", "cause": "telemetry was turned away", "count": count, "from_ns": 1, "to_ns": 2})
    claims.close("ended")
    found = record(recorder, [START, FORK])
    assert found.from_first_instruction, found.reason
    assert (found.claims, found.claims_reason) == (False, "telemetry was turned away (7 exports)")


def test_telemetry_that_nobody_listened_for_is_not_called_whole(recorder: Recorder) -> None:
    found = record(recorder, [START])
    assert (found.claims, found.claims_reason) == (None, "")
