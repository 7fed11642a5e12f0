"""What left a sandbox's link against what is on record: what makes them agree, and what becomes a gap."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.session import egress as words
from sandtrail.replay.egress import OF_EGRESS, UNLOGGED, Balance, read_ways
from sandtrail.replay.timeline import read_timeline
from sandtrail.store import sealer
from tests.replay.decode.recorded import netfilter
from tests.replay.index.recording import Recorder, follow

# What the recordings in fixtures/netfilter hold.
LOGGED = 12
FLOWS = {"up": {"packets": 5, "bytes": 10_268}, "down": {"packets": 5, "bytes": 768}}


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
        monkeypatch.setattr(sealer, name, 0.0)
    return Recorder(tmp_path / "home")


def one_by_one(datagrams: list[bytes]) -> list[bytes]:
    """Each packet in a datagram of its own."""
    found = []
    for datagram in datagrams:
        while datagram:
            size = -(-int.from_bytes(datagram[:4], "little") // 4) * 4
            found.append(datagram[:size])
            datagram = datagram[size:]
    return found


def account(at: str = "end", logged: int = LOGGED, **flows: Any) -> dict[str, Any]:
    sums = {way: {"flows": {**FLOWS[way], **flows.get(way, {})}} for way in ("up", "down")}
    return {"at": at, "accounted": sums, "logged": {"flow:reject": {"packets": logged, "bytes": 1}}}


def story(
    recorder: Recorder,
    told: dict[str, Any],
    *,
    first: bool = True,
    packets: Callable[[list[bytes]], list[bytes]] = list,
) -> dict[str, Any]:
    """A session with the streams of the fixtures and this last account; its account comes first or last."""
    life = recorder.open("lifecycle", part="record", command=["sh"])
    if first:
        recorder.act(life, "egress", **told)
        recorder.seal()
    for source, name, take in (("netfilter", "nflog", packets), ("conntrack", "conntrack", list)):
        stream = recorder.open(source, sandbox_address="10.219.0.2")
        for datagram in take(netfilter(name)):
            stream.write(datagram)
        stream.close("session ended")
    recorder.seal()
    if not first:
        recorder.act(life, "egress", **told)
    life.close("ended")
    recorder.seal()
    follow(recorder.home)
    return read_timeline(recorder.home, "s1")


@pytest.mark.parametrize("first", [True, False])
def test_what_adds_up_leaves_no_gap(recorder: Recorder, first: bool) -> None:
    timeline = story(recorder, account(), first=first)
    assert timeline["gaps"] == []
    known = timeline["session"]["completeness"]
    assert known["egress"] is True
    assert "10,268 bytes went out in 5 packets" in known["egress_reason"]


@pytest.mark.parametrize("first", [True, False])
def test_what_passed_in_no_recorded_flow_is_a_gap_of_that_size(recorder: Recorder, first: bool) -> None:
    timeline = story(recorder, account(up={"packets": 8, "bytes": 12_000}, down={"bytes": 769}), first=first)
    (gap,) = timeline["gaps"]
    assert (gap["cause"], gap["count"]) == ("egress not accounted for", 3)
    assert gap["bytes"] == {"up": {"packets": 3, "bytes": 1732}, "down": {"packets": 0, "bytes": 1}}
    assert timeline["session"]["completeness"]["egress"] is False
    assert timeline["session"]["gaps"] == 1


def test_packets_that_came_too_fast_are_told_beside(recorder: Recorder) -> None:
    life = recorder.open("lifecycle", part="egress")
    life.note({"note": "gap", "cause": UNLOGGED, "count": 55})
    known = story(recorder, account())["session"]["completeness"]
    assert known["egress"] is True
    assert known["egress_reason"].endswith("none of them passed")
    assert "evidence is missing" not in known["reason"]


def test_packets_lost_at_the_end_are_counted(recorder: Recorder) -> None:
    timeline = story(recorder, account(logged=LOGGED + 30))
    (gap,) = timeline["gaps"]
    assert (gap["cause"], gap["count"]) == ("packets that the kernel logged and nobody received", 30)


def test_packets_lost_in_between_are_counted_once(recorder: Recorder) -> None:
    timeline = story(recorder, account(), packets=lambda found: [*one_by_one(found)[:3], *one_by_one(found)[7:]])
    assert [(gap["cause"], gap["count"]) for gap in timeline["gaps"]] == [
        ("packets that the kernel logged and nobody received", 4)
    ]


def test_the_accounts_of_a_session_that_still_runs_promise_nothing(recorder: Recorder) -> None:
    timeline = story(recorder, account("running", up={"packets": 1}))
    assert timeline["gaps"] == []
    assert timeline["session"]["completeness"]["egress"] is None


def test_packets_that_were_logged_and_are_on_no_record_promise_nothing() -> None:
    balance = Balance()
    balance.take("lifecycle.egress", "lifecycle", json.dumps(account()))
    balance.take("stream.total", "conntrack", json.dumps(FLOWS))
    assert balance.verdict()[0] is None
    balance.take("stream.total", "netfilter", json.dumps({"logged": LOGGED}))
    assert balance.verdict()[0] is True


def test_a_receiver_that_was_started_again_goes_on_with_the_sums(recorder: Recorder) -> None:
    life = recorder.open("lifecycle", part="record", command=["sh"])
    for source, name in (("netfilter", "nflog"), ("conntrack", "conntrack")):
        before, datagrams = recorder.open(source, sandbox_address="10.219.0.2"), one_by_one(netfilter(name))
        before.write(datagrams[0])
        recorder.seal()
        follow(recorder.home)  # which stores what it knows, and takes it up again
        after = recorder.open(source, sandbox_address="10.219.0.2", continues=f"{before.id:016x}")
        for datagram in datagrams[1:]:
            after.write(datagram)
        after.close("session ended")
    recorder.act(life, "egress", **account())
    life.close("ended")
    recorder.seal()
    follow(recorder.home)
    timeline = read_timeline(recorder.home, "s1")
    assert timeline["gaps"] == []
    assert timeline["session"]["completeness"]["egress"] is True


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["at", "accounted", "logged", "up", "down", "flows", "packets", "bytes", "x"]), inner
        )
    ),
    max_leaves=20,
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["lifecycle.egress", "stream.total"]), st.sampled_from(["netfilter", "conntrack"]), JSON
        )
    )
)
def test_no_account_however_wrong_is_more_than_wrong(told: list[tuple[str, str, Any]]) -> None:
    balance = Balance()
    for kind, source, detail in told:
        if isinstance(detail, dict) and kind == "lifecycle.egress":
            detail = {"at": "end", **detail}
        for gap in balance.take(kind, source, json.dumps(detail)):
            read_ways(gap.get("bytes"))
    whole, reason = balance.verdict()
    assert whole in (True, False, None)
    assert reason
    read_ways(told)


def test_what_is_no_json_is_nothing() -> None:
    assert Balance().take("lifecycle.egress", "", "{") == []


def test_recorder_and_reader_have_the_same_words_for_a_gap() -> None:
    assert {words.UNACCOUNTED, words.UNLOGGED} == OF_EGRESS
