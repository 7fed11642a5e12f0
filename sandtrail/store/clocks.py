"""What three clocks side by side tell: that somebody set the time, that the machine slept, that it began anew.

Linux counts CLOCK_MONOTONIC and CLOCK_REALTIME with the same tick, NTP's slewing included, so their distance changes
only when the time is set (or a leap second inserted), or by sleep: MONOTONIC stands still in it, BOOTTIME and REALTIME
do not. Pure: nothing here reads a clock but `read_clocks`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sandtrail.store.frames import Stamp
from sandtrail.store.manifest import Entry

__all__ = ["Change", "ClockWatch", "TimeCheck", "TimeFinding", "check_times", "read_clocks"]

_MS = 1_000_000
_SECOND = 1_000_000_000
# Between two readings a process may have to wait; `read_clocks` waits less than this on any machine that works.
STEP = 100 * _MS
# Stamps of frames are read once, by whoever receives under load.
FRAME_STEP = 2 * _SECOND
# How far a node's clock may be off from an authority's: less than that is a clock without NTP, not a lie.
TOKEN_SLACK = 10 * _SECOND
# A recorder that is idle signs every ten seconds that it lives; this is five times that it did not.
SILENCE = 60 * _SECOND
_RECENT = 4096


def read_clocks(tries: int = 5) -> Stamp:
    """The three clocks, read as close together as can be had: a process that is interrupted between two of them would
    take its own waiting for a step."""
    best: tuple[int, Stamp] | None = None
    for _ in range(tries):
        before = time.monotonic_ns()
        real, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        width = time.monotonic_ns() - before
        if best is None or width < best[0]:
            best = width, Stamp(real, before, boot)
        if width < _MS:
            break
    assert best is not None
    return best[1]


type Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to the clocks between two readings, `before` and `at` (triples in ns).

    `step_ns` is REALTIME against MONOTONIC, `suspended_ns` BOOTTIME against MONOTONIC. Over a reboot MONOTONIC and
    BOOTTIME start again: nothing is known then but that REALTIME went back, if it did.
    """

    before: Triple
    at: Triple
    step_ns: int
    suspended_ns: int
    rebooted: bool = False

    @property
    def set_ns(self) -> int:
        """How far the time was set, forward or (negative) back; sleep is no setting."""
        return self.step_ns - self.suspended_ns

    def like(self, other: Change) -> bool:
        """Whether both tell the same, as far as readings of different processes can."""
        pairs = ((self.step_ns, other.step_ns), (self.suspended_ns, other.suspended_ns))
        return self.rebooted == other.rebooted and all(abs(one - two) < FRAME_STEP for one, two in pairs)

    def __str__(self) -> str:
        said = ["the machine was started again"] if self.rebooted else []
        if abs(self.suspended_ns) >= STEP:
            said.append(
                f"the machine was suspended for {_duration(self.suspended_ns)}"
                if self.suspended_ns > 0
                else f"BOOTTIME fell back behind MONOTONIC by {_duration(self.suspended_ns)}, which no kernel does"
            )
        if abs(self.set_ns) >= STEP:
            least = "at least " if self.rebooted else ""
            said.append(f"the clock was set {'back' if self.set_ns < 0 else 'forward'} {least}{_duration(self.set_ns)}")
        return " and ".join(said) or "the clocks did nothing unusual"


class ClockWatch:
    """Compares readings with the first one since the last change, so that many small steps add up to one that shows.

    `tolerance`: what is less (ns) is taken for the time that reading takes.
    """

    def __init__(self, tolerance: int = STEP) -> None:
        self._tolerance = tolerance
        self._boot = ""
        self._base: Triple | None = None
        self._last = (0, 0, 0)

    def see(self, triple: Sequence[int], boot: str) -> Change | None:
        """Take a reading of (REALTIME, MONOTONIC, BOOTTIME) in the boot of that id; what it shows, if anything.

        A reading that is older than the last one (by MONOTONIC) shows nothing: it comes late.
        """
        real, mono, up = now = _triple(triple)
        base, last = self._base, self._last
        if base is None or boot != self._boot:
            self._boot, self._base, self._last = boot, now, now
            return Change(last, now, min(0, real - last[0]), 0, rebooted=True) if base else None
        if mono < last[1]:
            return None
        passed = mono - base[1]
        change = Change(last, now, real - base[0] - passed, up - base[2] - passed)
        self._last = now
        if abs(change.set_ns) < self._tolerance and abs(change.suspended_ns) < self._tolerance:
            return None
        self._base = now
        return change


class Bounds(Protocol):
    """What a token of time says (`timestamp.Stamped`): it was made between these, ns."""

    @property
    def earliest(self) -> int:
        """Not before."""

    @property
    def latest(self) -> int:
        """Not after."""


@dataclass(frozen=True, slots=True)
class TimeFinding:
    """Something that the times of a log show, at log entry `index`.

    `contradiction`: two things that are both on the record can't both be true; otherwise it is worth knowing.
    """

    index: int
    kind: str
    text: str
    contradiction: bool


class TimeCheck:
    """Goes through the times of a log in order: first each `entry`, then, where it holds a good token, `token`.

    Kinds of findings: "clock-changed", "clock-misstated", "silent" (nothing was signed for long, and nothing says why),
    "time-too-late" (an entry that a token covers says that it is younger than the token), "time-too-early" (an entry
    behind a token says that it is older). Memory stays flat.
    """

    def __init__(self, slack: int = TOKEN_SLACK) -> None:
        self._slack = slack
        self._watch = ClockWatch(FRAME_STEP)
        self._previous = -1
        self._alive: tuple[str, int, str] | None = None
        self._floor: tuple[int, int] | None = None
        self._recent: deque[tuple[int, int]] = deque()
        self._older = (-1, 0)

    def entry(self, entry: Entry) -> Iterator[TimeFinding]:
        """Take the next entry of the log (well-formed, see `schema`)."""
        written = entry.map.get("at")
        known = written or entry.map.get("last")
        if known is None:
            return
        change = self._watch.see(known, entry.map["boot"])
        place = f"between log entries {self._previous} and {entry.index}"
        if entry.kind == "clock":
            change = yield from self._clock(entry, change, place)
        if change:
            yield TimeFinding(entry.index, "clock-changed", f"{change} {place}", contradiction=False)
        if silent := self._silence(entry, known):
            text = f"nothing was signed for {_duration(silent)} {place}, while the machine ran"
            yield TimeFinding(entry.index, "silent", text, contradiction=False)
        self._previous = entry.index
        self._remember(entry.index, known[0])
        # Frames may have waited in a spool: only what is written by its own clock has to be younger than the token.
        if self._floor and written and written[0] < self._floor[0] - self._slack:
            early = _duration(self._floor[0] - written[0])
            text = f"it says a time {early} before the token of time in log entry {self._floor[1]}, which it follows"
            self._floor = None  # once a token; what follows is as early
            yield TimeFinding(entry.index, "time-too-early", text, contradiction=True)

    def token(self, index: int, size: int, stamped: Bounds) -> Iterator[TimeFinding]:
        """Log entry `index` holds a good token over the checkpoint of the first `size` entries."""
        covered = [(real, -at) for at, real in (self._older, *self._recent) if 0 <= at < size]
        if covered:
            real, at = max(covered)
            if real > stamped.latest + self._slack:
                text = f"it says a time {_duration(real - stamped.latest)} after the token of time that covers it"
                yield TimeFinding(-at, "time-too-late", f"{text}, in log entry {index}", contradiction=True)
        # Everything that this token covers has been judged; a later one can only be later.
        self._older = (-1, 0)
        while self._recent and self._recent[0][0] < size:
            self._recent.popleft()
        if self._floor is None or stamped.earliest > self._floor[0]:
            self._floor = (stamped.earliest, index)

    def _silence(self, entry: Entry, known: Sequence[int]) -> int:
        """For how long (ns) nobody signed a heartbeat before this entry; 0 where that was not to be expected."""
        before, boot, at = self._alive, entry.map["boot"], known[1]
        same = before is not None and before[0] == boot
        # Frames may have waited: what comes late is no sign of life from then.
        self._alive = (boot, max(at, before[1]) if before and same else at, entry.kind)
        if before is None or not same or before[2] == "stop" or entry.kind == "start":
            return 0
        return at - before[1] if at - before[1] >= SILENCE else 0

    def _remember(self, index: int, real: int) -> None:
        self._recent.append((index, real))
        if len(self._recent) > _RECENT:
            oldest = self._recent.popleft()
            if self._older[0] < 0 or oldest[1] > self._older[1]:
                self._older = oldest

    def _clock(self, entry: Entry, seen: Change | None, place: str) -> Generator[TimeFinding, None, Change | None]:
        """Hold a `clock` entry against its own times; returns what was seen here and is not what it tells."""
        fields = entry.map
        told = Change(_triple(fields["before"]), _triple(fields["at"]), fields["step_ns"], fields["suspended_ns"])
        real, mono, up = (now - before for now, before in zip(told.at, told.before, strict=True))
        if not told.like(Change(told.before, told.at, real - mono, up - mono)):
            text = f"it says that {told}, which its own times do not show"
            yield TimeFinding(entry.index, "clock-misstated", text, contradiction=True)
        yield TimeFinding(entry.index, "clock-changed", f"{told} {place}", contradiction=False)
        return None if seen and told.like(seen) else seen


def check_times(entries: Iterable[Entry], tokens: Mapping[int, Bounds]) -> Iterator[TimeFinding]:
    """All of it over a log's entries; `tokens` are the good ones, by the index of their entry."""
    check = TimeCheck()
    for entry in entries:
        yield from check.entry(entry)
        if entry.index in tokens:
            yield from check.token(entry.index, entry.map["size"], tokens[entry.index])


def _triple(clocks: Sequence[int]) -> Triple:
    real, mono, up = clocks
    return real, mono, up


def _duration(ns: int) -> str:
    seconds = abs(ns) / _SECOND
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
