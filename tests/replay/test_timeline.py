"""Following a session that goes on: events come in batches, some of them late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay import live as following
from sandtrail.replay.events import Event
from sandtrail.replay.live import HOLD_NS, Live
from sandtrail.replay.turns.timeline import View
from tests.replay.turns.recording import Recording


class Growing:
    """An index that has as many rows as a test has shown so far."""

    def __init__(self) -> None:
        self.shown: list[Event] = []
        self.state = "recording"

    def rows(self, _session: str, start: int = 0) -> Iterator[Event]:
        return iter(self.shown[start:])

    def row(self) -> dict[str, Any]:
        return {"id": "s", "state": self.state, "events": len(self.shown)}


def story() -> Recording:
    r = Recording()
    agent = r.begin("agent")
    for turn in range(4):
        r.ask(agent, "go on", f"make t{turn}")
        shell = r.shell(agent, f"make t{turn}")
        for n in range(3):
            child = r.spawn(shell, "cc", f"{n}.c")
            r.read(child, "/usr/include/x.h")
            r.write(child, f"/workspace/{turn}-{n}.o")
            r.exit(child)
        r.connect(shell, "203.0.113.7", 443)
        r.exit(shell)
        r.wait(0.3)
    return r


def shown(live: Live) -> dict[str, Any]:
    return live.view.as_dict({}, True, "", 0, 1000)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.data())
def test_a_session_that_was_followed_ends_as_one_that_was_read_at_once(sizes: list[int], data: st.DataObject) -> None:
    r = story()
    whole = View(r.fold()).as_dict({}, True, "", 0, 1000)
    # Streams overtake each other by up to a second.
    delays = data.draw(st.lists(st.integers(0, HOLD_NS), min_size=len(r.events), max_size=len(r.events)))
    arriving = [
        event for event, _ in sorted(zip(r.events, delays, strict=True), key=lambda both: both[0].time_ns + both[1])
    ]
    index, live, at = Growing(), Live(r), 0
    for size in sizes:
        index.shown, at = arriving[: at + size], at + size
        if index.shown:
            live.update(index, index.row(), now_ns=index.shown[-1].time_ns)  # type: ignore[arg-type]
        shown(live)
    index.shown, index.state = arriving, "ended"
    live.update(index, index.row())  # type: ignore[arg-type]
    assert shown(live) == whole


def test_the_newest_moment_is_held_back_until_every_stream_should_have_told_it() -> None:
    r, index = story(), Growing()
    index.shown = r.events[:40]
    live = Live(r)
    last = index.shown[-1].time_ns
    live.update(index, index.row(), now_ns=last)  # type: ignore[arg-type]
    early = live.fold.events
    live.update(index, index.row(), now_ns=last + 2 * HOLD_NS)  # type: ignore[arg-type]
    assert early < live.fold.events == 40


def test_an_event_that_comes_too_late_makes_it_begin_anew() -> None:
    r, index = story(), Growing()
    late = r.events[10]
    index.shown = [*r.events[:10], *r.events[11:80]]
    live = Live(r)
    live.update(index, index.row(), now_ns=r.now + 10 * HOLD_NS)  # type: ignore[arg-type]
    index.shown = [*index.shown, late, *r.events[80:]]
    live.update(index, index.row(), now_ns=r.now + 10 * HOLD_NS)  # type: ignore[arg-type]
    index.state = "ended"
    live.update(index, index.row())  # type: ignore[arg-type]
    assert shown(live) == View(r.fold()).as_dict({}, True, "", 0, 1000)


def test_a_long_session_is_read_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BATCH", 7)
    monkeypatch.setattr(following, "HOLD_READING_NS", 1_000_000)
    r, index = story(), Growing()
    index.shown, index.state = r.events, "ended"
    live = Live(r)
    live.update(index, index.row())  # type: ignore[arg-type]
    assert shown(live) == View(r.fold()).as_dict({}, True, "", 0, 1000)


def test_an_index_that_was_made_anew_is_read_from_its_beginning() -> None:
    r, index = story(), Growing()
    index.shown, index.state = r.events, "ended"
    live = Live(r)
    live.update(index, index.row())  # type: ignore[arg-type]
    index.shown = r.events[:50]
    live.update(index, index.row())  # type: ignore[arg-type]
    assert live.fold.events == 50
