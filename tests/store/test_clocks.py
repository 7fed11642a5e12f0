"""Three clocks side by side: what was set, slept, begun anew; and times that can't be true beside a token."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.store.clocks import STEP, Change, ClockWatch, TimeCheck, TimeFinding, check_times, read_clocks
from sandtrail.store.manifest import Entry
from sandtrail.store.timestamp import Stamped

MS = 1_000_000
SECOND = 1000 * MS
HOUR = 3600 * SECOND
NOON = 1_800_000_000 * SECOND


class Machine:
    """Clocks as Linux keeps them."""

    def __init__(self) -> None:
        self.real, self.mono, self.up, self.boots = NOON, 50 * SECOND, 60 * SECOND, 0

    def pass_(self, ns: int) -> None:
        self.real, self.mono, self.up = self.real + ns, self.mono + ns, self.up + ns

    def sleep(self, ns: int) -> None:
        self.real, self.up = self.real + ns, self.up + ns

    def set(self, ns: int) -> None:
        self.real += ns

    def reboot(self) -> None:
        self.mono = self.up = SECOND
        self.boots += 1

    @property
    def triple(self) -> tuple[int, int, int]:
        return self.real, self.mono, self.up

    @property
    def boot(self) -> str:
        return f"boot-{self.boots}"


def seen(watch: ClockWatch, machine: Machine) -> Change | None:
    return watch.see(machine.triple, machine.boot)


def test_time_that_passes_shows_nothing() -> None:
    machine, watch = Machine(), ClockWatch()
    for _ in range(50):
        assert seen(watch, machine) is None
        machine.pass_(7 * HOUR)


@pytest.mark.parametrize(
    ("by", "says"), [(-2 * HOUR, "the clock was set back 2 h"), (90 * SECOND, "the clock was set forward 1.5 min")]
)
def test_a_clock_that_is_set_shows_once(by: int, says: str) -> None:
    machine, watch = Machine(), ClockWatch()
    seen(watch, machine)
    before = machine.triple
    machine.pass_(SECOND)
    machine.set(by)
    change = seen(watch, machine)
    assert change is not None
    assert (change.before, change.at) == (before, machine.triple)
    assert (change.step_ns, change.suspended_ns, change.set_ns, change.rebooted) == (by, 0, by, False)
    assert str(change) == says
    machine.pass_(SECOND)
    assert seen(watch, machine) is None


def test_sleep_is_no_setting() -> None:
    machine, watch = Machine(), ClockWatch()
    seen(watch, machine)
    machine.sleep(3 * HOUR)
    machine.pass_(SECOND)
    change = seen(watch, machine)
    assert change is not None
    assert (change.step_ns, change.suspended_ns, change.set_ns) == (3 * HOUR, 3 * HOUR, 0)
    assert str(change) == "the machine was suspended for 3 h"


def test_a_clock_that_is_set_in_its_sleep_shows_both() -> None:
    machine, watch = Machine(), ClockWatch()
    seen(watch, machine)
    machine.sleep(3 * HOUR)
    machine.set(-HOUR)
    change = seen(watch, machine)
    assert change is not None
    assert str(change) == "the machine was suspended for 3 h and the clock was set back 1 h"


def test_small_steps_add_up() -> None:
    machine, watch = Machine(), ClockWatch()
    seen(watch, machine)
    changes = []
    for _ in range(10):
        machine.pass_(SECOND)
        machine.set(-STEP // 3)
        changes.append(seen(watch, machine))
    found = [change for change in changes if change]
    assert len(found) == 3
    assert all(change.set_ns <= -STEP for change in found)


def test_a_reboot_shows_and_says_no_more_than_is_known() -> None:
    machine, watch = Machine(), ClockWatch()
    seen(watch, machine)
    machine.reboot()
    machine.set(HOUR)
    change = seen(watch, machine)
    assert change is not None
    assert (change.rebooted, change.set_ns) == (True, 0)
    assert str(change) == "the machine was started again"
    machine.reboot()
    machine.set(-2 * HOUR)
    change = seen(watch, machine)
    assert str(change) == "the machine was started again and the clock was set back at least 2 h"


def test_a_reading_that_comes_late_shows_nothing() -> None:
    machine, watch = Machine(), ClockWatch()
    seen(watch, machine)
    late = machine.triple
    machine.pass_(SECOND)
    machine.set(-HOUR)
    assert seen(watch, machine) is not None
    assert watch.see(late, machine.boot) is None
    assert seen(watch, machine) is None


def test_what_no_kernel_does_is_said() -> None:
    watch = ClockWatch()
    watch.see((NOON, 0, 5 * HOUR), "boot")
    assert "no kernel does" in str(watch.see((NOON + SECOND, SECOND, 4 * HOUR), "boot"))


events = st.lists(
    st.tuples(
        st.sampled_from(["pass", "sleep", "set", "reboot"]),
        st.integers(0, 10 * HOUR),
        st.integers(-10 * HOUR, 10 * HOUR),
        st.integers(0, STEP // 4),
    ),
    max_size=40,
)


@given(events)
def test_what_happened_is_what_shows(happened: list[tuple[str, int, int, int]]) -> None:
    """Against a machine that says what it did: each reading shows what was done since the last change, give or take
    the time that reading takes."""
    machine, watch = Machine(), ClockWatch()
    seen(watch, machine)
    was_set = slept = 0
    for kind, long, by, jitter in happened:
        rebooted = kind == "reboot"
        match kind:
            case "pass":
                machine.pass_(long)
            case "sleep":
                machine.sleep(long)
                slept += long
            case "set":
                machine.set(by)
                was_set += by
            case _:
                machine.reboot()
                was_set = slept = 0
        real, mono, up = machine.triple
        change = watch.see((real + jitter, mono, up + jitter), machine.boot)
        if rebooted:
            assert change is not None
            assert change.rebooted
            # From here on this is the reading to compare with.
            was_set, slept = -jitter, -jitter
            continue
        truth = abs(was_set), abs(slept)
        if change is None:
            assert max(truth) < 2 * STEP
        else:
            assert max(truth) > STEP // 2
            assert abs(change.set_ns - was_set) <= STEP // 2
            assert abs(change.suspended_ns - slept) <= STEP // 2
            was_set, slept = 0, -jitter


def test_the_clocks_of_this_machine_show_nothing_while_nobody_sets_them() -> None:
    watch = ClockWatch(SECOND)
    for _ in range(200):
        assert watch.see(read_clocks(), "boot") is None


def test_clocks_are_read_close_together() -> None:
    read = read_clocks()
    assert 0 <= time.monotonic_ns() - read.monotonic_ns < 60 * SECOND
    assert 0 <= time.time_ns() - read.realtime_ns < 60 * SECOND


# -- a log's times -----------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """Entries with nothing in them but their times."""

    machine: Machine
    entries: list[Entry]
    tokens: dict[int, Stamped]

    def add(self, kind: str = "heartbeat", at: str = "at", **fields: Any) -> None:
        known = {at: list(self.machine.triple), "boot": self.machine.boot, **fields}
        self.entries.append(Entry(len(self.entries), kind, known))
        self.machine.pass_(SECOND)

    def token(self, when: int, accuracy: int | None = SECOND, size: int | None = None) -> None:
        self.tokens[len(self.entries)] = Stamped(when, accuracy, "CN=authority")
        self.add("time", size=len(self.entries) if size is None else size)

    def findings(self) -> list[TimeFinding]:
        return list(check_times(self.entries, self.tokens))


@pytest.fixture
def log() -> Log:
    return Log(Machine(), [], {})


def test_an_honest_log_has_nothing_to_say(log: Log) -> None:
    for number in range(100):
        log.add()
        log.add("segment", at="last")
        if number % 10 == 9:
            log.token(log.machine.real)
    assert log.findings() == []


def test_a_clock_that_was_set_is_named_with_the_entries_around_it(log: Log) -> None:
    log.add()
    log.add()
    log.machine.set(-2 * HOUR)
    log.add()
    [found] = log.findings()
    assert (found.index, found.kind, found.contradiction) == (2, "clock-changed", False)
    assert found.text == "the clock was set back 2 h between log entries 1 and 2"


def test_a_reboot_and_a_sleep_are_named(log: Log) -> None:
    log.add()
    log.machine.reboot()
    log.add("start")
    log.machine.sleep(5 * HOUR)
    log.add()
    assert [found.text for found in log.findings()] == [
        "the machine was started again between log entries 0 and 1",
        "the machine was suspended for 5 h between log entries 1 and 2",
    ]


def told(log: Log, by: int, **fields: Any) -> None:
    before = list(log.machine.triple)
    log.machine.pass_(SECOND)
    log.machine.set(by)
    log.add("clock", before=before, **{"step_ns": by, "suspended_ns": 0, **fields})


def test_a_step_that_the_recorder_told_is_named_once_however_small(log: Log) -> None:
    log.add()
    told(log, -3 * HOUR)
    told(log, 200 * MS)
    assert [found.text for found in log.findings()] == [
        "the clock was set back 3 h between log entries 0 and 1",
        "the clock was set forward 0.2 s between log entries 1 and 2",
    ]


def test_a_clock_entry_that_its_own_times_contradict_is_a_contradiction(log: Log) -> None:
    log.add()
    told(log, -3 * HOUR, step_ns=-3 * SECOND)
    kinds = [(found.index, found.kind, found.contradiction) for found in log.findings()]
    assert (1, "clock-misstated", True) in kinds
    assert any("set back 3 h" in found.text for found in log.findings())


def test_frames_that_waited_are_no_step_back(log: Log) -> None:
    log.add()
    late = list(log.machine.triple)
    log.machine.pass_(SECOND)
    log.machine.set(-HOUR)
    log.add()
    log.add("segment", at="last", last=late)
    log.add()
    assert [found.index for found in log.findings()] == [1]


def test_an_entry_cannot_be_younger_than_a_token_that_covers_it(log: Log) -> None:
    log.add()
    log.machine.set(6 * HOUR)
    log.add()
    log.add()
    log.machine.set(-6 * HOUR)
    log.add()
    log.token(NOON + 10 * SECOND)
    late = [found for found in log.findings() if found.contradiction]
    assert [(found.index, found.kind) for found in late] == [(2, "time-too-late")]
    assert "6 h after the token of time that covers it, in log entry 4" in late[0].text


def test_frames_cannot_be_younger_than_a_token_that_covers_them(log: Log) -> None:
    log.machine.set(6 * HOUR)
    log.add("segment", at="last")
    log.machine.set(-6 * HOUR)
    log.token(NOON + 10 * SECOND)
    assert [(found.index, found.kind) for found in log.findings() if found.contradiction] == [(0, "time-too-late")]


def test_an_entry_behind_the_checkpoint_is_not_covered(log: Log) -> None:
    log.add()
    log.machine.pass_(6 * HOUR)
    log.add()
    log.token(NOON, size=1)
    assert not [found for found in log.findings() if found.contradiction]


def test_an_entry_cannot_be_older_than_a_token_that_it_follows(log: Log) -> None:
    log.add()
    log.token(log.machine.real)
    log.machine.set(-6 * HOUR)
    log.add()
    log.add()
    early = [found for found in log.findings() if found.contradiction]
    assert [(found.index, found.kind) for found in early] == [(2, "time-too-early")]
    assert "before the token of time in log entry 1, which it follows" in early[0].text


def test_frames_that_waited_may_be_older_than_a_token_that_they_follow(log: Log) -> None:
    waited = list(log.machine.triple)
    log.machine.pass_(6 * HOUR)
    log.add()
    log.token(log.machine.real)
    log.add("segment", at="last", last=waited)
    log.add()
    assert log.findings() == []


@pytest.mark.parametrize("off", [-9 * SECOND, 9 * SECOND])
def test_a_clock_that_is_a_little_off_is_no_lie(log: Log, off: int) -> None:
    log.add()
    log.token(log.machine.real + off)
    log.add()
    assert log.findings() == []


def test_a_recorder_that_was_paused_is_noticed_by_what_it_did_not_sign(log: Log) -> None:
    log.add()
    log.machine.pass_(2 * HOUR)
    log.add()
    [found] = log.findings()
    assert (found.kind, found.contradiction) == ("silent", False)
    assert found.text == "nothing was signed for 2 h between log entries 0 and 1, while the machine ran"


@pytest.mark.parametrize(("last", "first"), [("stop", "start"), ("heartbeat", "gap"), ("heartbeat", "start")])
def test_a_pause_that_the_log_accounts_for_is_no_silence(log: Log, last: str, first: str) -> None:
    log.add()
    log.add(last)
    log.machine.pass_(2 * HOUR)
    if first == "gap":
        log.entries.append(Entry(len(log.entries), "gap", {"boot": log.machine.boot}))
        log.add("start")
    else:
        log.add(first)
    log.add()
    assert log.findings() == []


def test_a_machine_that_slept_was_not_silent(log: Log) -> None:
    log.add()
    log.machine.sleep(2 * HOUR)
    log.add()
    assert [found.kind for found in log.findings()] == ["clock-changed"]


@given(st.lists(st.sampled_from(["add", "segment", "token"]), max_size=60), st.integers(-5, 5), st.data())
def test_an_honest_machine_is_never_contradicted(steps: list[str], off: int, data: st.DataObject) -> None:
    """Whatever it does, as long as its clock is not further off than the slack: no contradiction."""
    log = Log(Machine(), [], {})
    for step in steps:
        log.machine.pass_(data.draw(st.integers(0, HOUR)))
        if step == "token":
            log.token(log.machine.real + off * SECOND, size=data.draw(st.integers(0, len(log.entries))))
        else:
            log.add(*(("heartbeat", "at") if step == "add" else ("segment", "last")))
    # A token over an old checkpoint that comes late covers less and proves less, never more.
    assert not [found for found in log.findings() if found.contradiction]


@given(st.integers(15, 100_000), st.integers(0, 20), st.integers(1, 20))
def test_a_forged_time_beyond_the_slack_is_always_contradicted(seconds: int, before: int, after: int) -> None:
    log = Log(Machine(), [], {})
    for _ in range(before):
        log.add()
    log.machine.set(seconds * SECOND)
    log.add()
    log.machine.set(-seconds * SECOND)
    for _ in range(after):
        log.add()
    truth = log.machine.real - (after + 1) * SECOND
    log.token(truth, accuracy=None, size=before + 1)
    late = [found.index for found in log.findings() if found.kind == "time-too-late"]
    assert late == [before]


def test_memory_stays_flat_and_the_worst_is_kept() -> None:
    check, machine = TimeCheck(), Machine()
    for index in range(20_000):
        real = machine.real + (HOUR if index == 500 else 0)
        list(check.entry(Entry(index, "heartbeat", {"at": [real, machine.mono, machine.up], "boot": "b"})))
        machine.pass_(MS)
    assert len(check._recent) <= 4096
    [found] = check.token(20_000, 20_000, Stamped(machine.real, 0, ""))
    assert found.index == 500
