"""Whatever happened, and in whatever order it was told: every event stands in one place, and in one only."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.timeline import View
from tests.replay.turns.recording import GATEWAY, Recording

COMMANDS = ("ls -la", "make test", "bash run.sh", "curl https://x.test/", "nohup ./server &")
PATHS = ("/workspace/a.py", "/etc/hosts", "/home/agent/.ssh/id_rsa", "/tmp/x", "relative", "")


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    r = Recording()
    pids = [r.begin("agent", "--run")] if draw(st.booleans()) else [draw(st.integers(2, 9))]
    for _ in range(draw(st.integers(1, 40))):
        pid = draw(st.sampled_from(pids))
        match draw(st.integers(0, 13)):
            case 0 | 1:
                pids.append(r.fork(pid))
            case 2:
                r.exec(pid, *draw(st.sampled_from(COMMANDS)).split())
            case 3:
                pids.append(r.shell(pid, draw(st.sampled_from(COMMANDS))))
            case 4:
                r.exit(pid, draw(st.integers(-9, 3)))
            case 5:
                r.read(pid, draw(st.sampled_from(PATHS)), ok=draw(st.booleans()))
            case 6:
                r.write(pid, draw(st.sampled_from(PATHS)), draw(st.sampled_from(["file.create", "file.write"])))
            case 7:
                r.add("file.unlink", pid, result=0, detail={"syscall": "unlink"})
            case 8:
                r.connect(pid, *draw(st.sampled_from([GATEWAY, ("203.0.113.7", 443), ("127.0.0.1", 80)])))
            case 9:
                r.lookup(pid, "x.test")
            case 10:
                r.flow("203.0.113.9", 22, "tcp", "reject", sport=draw(st.integers(1, 5)))
            case 11:
                r.request(pid, "GET", "https://x.test/")
            case 12:
                r.ask(pid, "I ran the tests and they pass.", *draw(st.lists(st.sampled_from(COMMANDS), max_size=2)))
            case _:
                r.add("gap", draw(st.sampled_from([0, pid])), object="unencodable", detail={"cause": "unencodable"})
    return r


def places(fold: Fold) -> Counter[tuple[int, int, int]]:
    buckets = [bucket for turn in fold.turns for bucket in turn.buckets.values()]
    return Counter(member for bucket in [*buckets, *fold.unexplained.values()] for member in bucket.members())


@settings(max_examples=120, deadline=None)
@given(recordings(), st.randoms(use_true_random=False), st.booleans())
def test_every_event_stands_in_one_place(r: Recording, random: object, shuffle: bool) -> None:
    if shuffle:
        random.shuffle(r.events)  # type: ignore[attr-defined]
    fold = r.fold()
    ids = Counter((int(e.ref.split(".")[0]), int(e.ref.split(".")[1]), e.n) for e in r.events)
    assert places(fold) == ids
    assert fold.events == len(r.events)
    assert sum(turn.events for turn in fold.turns) + fold.unexplained_events == len(r.events)


@settings(max_examples=80, deadline=None)
@given(recordings())
def test_every_exec_change_and_connection_has_a_row(r: Recording) -> None:
    fold = r.fold()
    view = View(fold)
    rows = [row for turn in [*range(len(fold.turns)), None] for row in view.outputs(turn)]
    shown = Counter(ref for row in rows for ref in {row["ref"], *row["refs"]})
    execs = [e for e in r.events if e.kind == "process.exec"]
    assert sum(row["kind"] == "process.exec" for row in rows) == len(execs)
    for event in execs:
        assert shown[event.ref] == 1
    changed = {e.object for e in r.events if e.kind in ("file.create", "file.write") and e.object.startswith("/")}
    assert changed <= {row["object"] for row in rows}
    assert sum(row["kind"] in ("http.exchange", "model.call") for row in rows) == sum(
        e.kind == "http.exchange" for e in r.events
    )


@settings(max_examples=60, deadline=None)
@given(recordings(), st.integers(1, 7))
def test_it_does_not_matter_in_how_many_batches_events_come(r: Recording, size: int) -> None:
    once = View(r.fold()).as_dict({}, True, "", 0, 1000)
    fold = Fold(r)
    for start in range(0, len(r.events), size):
        fold.feed(r.events[start : start + size])
        View(fold).as_dict({}, True, "", 0, 1000)
    assert View(fold).as_dict({}, True, "", 0, 1000) == once
