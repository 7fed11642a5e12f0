"""Whether everything that left a sandbox's link is in the record.

The recorder's last account (lifecycle act `egress`) says what the packet filter let pass and what it logged, and has
already told as a gap what left the link beside that. Here the other half is checked: that the record holds it. The ends
of flows add up to what passed, both ways and byte for byte, and the logged packets to what was logged. What is missing
becomes a gap. Spools are read side by side, so the account and the streams' totals may come in any order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.text import as_int

__all__ = ["LOST_PACKETS", "OF_EGRESS", "UNACCOUNTED", "UNLOGGED", "Balance", "read_ways"]

UNACCOUNTED: Final = "egress not accounted for"
UNLOGGED: Final = "packets that came too fast to be recorded one by one; none of them passed"
OF_EGRESS: Final = frozenset({UNACCOUNTED, UNLOGGED})
"""Causes of gaps that the recorder tells of the link."""
LOST_PACKETS: Final = "packets that the kernel logged and nobody received"
_MAX_CAUSES: Final = 10
_LAST: Final = ("end", "cleanup")
_WAYS: Final = ("up", "down")


def read_ways(told: object) -> dict[str, dict[str, int]] | None:
    """A gap's packets and bytes, `up` from the sandbox and `down` to it; None where it tells of none."""
    if not isinstance(told, Mapping):
        return None
    return {way: dict(zip(("packets", "bytes"), _sum(told.get(way)), strict=True)) for way in _WAYS}


def _sum(told: object) -> tuple[int, int]:
    """(packets, bytes) of `{"packets", "bytes"}`; zeros for anything else."""
    if not isinstance(told, Mapping):
        return 0, 0
    return as_int(told.get("packets")), as_int(told.get("bytes"))


@dataclass(slots=True)
class Balance:
    """What is known of one session's egress; plain data, kept with the session's row."""

    passed: dict[str, tuple[int, int]] | None = None
    """By the last account: what the filter let pass, up and down."""
    logged: int = 0
    """By the last account: how many packets were logged."""
    recorded: dict[str, tuple[int, int]] | None = None
    """The same of the flows in the record, once their stream has ended."""
    received: int | None = None
    """The same of the packets: recorded, or known to be lost already."""
    gaps: list[str] = field(default_factory=list)
    """The causes of gaps that are on record."""
    checked: list[str] = field(default_factory=list)
    """What has been compared."""

    def take(self, kind: str, source: str, detail: str) -> list[dict[str, Any]]:
        """Take an account of the recorder's (`lifecycle.egress`), or the total of a stream that has ended
        (`stream.total`); returns the details of gaps that it shows."""
        if kind == "stream.total":
            self._total(source, detail)
        else:
            self._account(detail)
        return self._missing()

    def _account(self, detail: str) -> None:
        """An account of the recorder's; only the last one counts."""
        told = _map(detail)
        if told.get("at") not in _LAST:
            return
        accounted, logged = told.get("accounted"), told.get("logged")
        classes = accounted if isinstance(accounted, Mapping) else {}
        flows = {way: classes.get(way) for way in _WAYS}
        self.passed = {w: _sum(f.get("flows")) if isinstance(f, Mapping) else (0, 0) for w, f in flows.items()}
        self.logged = sum(_sum(one)[0] for one in logged.values()) if isinstance(logged, Mapping) else 0

    def _total(self, source: str, detail: str) -> None:
        """A stream of flows or packets has ended."""
        told = _map(detail)
        if source == "conntrack":
            self.recorded = {way: _sum(told.get(way)) for way in _WAYS}
        elif source == "netfilter":
            self.received = as_int(told.get("logged")) + as_int(told.get("lost"))

    def gap(self, cause: str) -> None:
        """A gap of the network's was recorded."""
        if cause not in self.gaps and len(self.gaps) < _MAX_CAUSES:
            self.gaps.append(cause)

    def _missing(self) -> list[dict[str, Any]]:
        """The gaps that can be told now and were not told before: their details."""
        found = []
        if self.passed is not None and self.recorded is not None and "flows" not in self.checked:
            self.checked.append("flows")
            found += self._flows(self.passed, self.recorded)
        if self.passed is not None and self.received is not None and "packets" not in self.checked:
            self.checked.append("packets")
            if self.logged > self.received:
                what = f"the filter logged {self.logged:,} packets, {self.received:,} are on record or known to be lost"
                found.append({"cause": LOST_PACKETS, "count": self.logged - self.received, "what": what})
        return found

    def _flows(
        self, passed: Mapping[str, tuple[int, int]], recorded: Mapping[str, tuple[int, int]]
    ) -> list[dict[str, Any]]:
        lacking = {w: (passed[w][0] - recorded[w][0], passed[w][1] - recorded[w][1]) for w in _WAYS}
        if not any(number for pair in lacking.values() for number in pair):
            return []
        words = [f"{p:+,} packets, {b:+,} bytes {way}" for way, (p, b) in lacking.items() if p or b]
        return [
            {
                "cause": UNACCOUNTED,
                "count": sum(max(packets, 0) for packets, _ in lacking.values()) or None,
                "what": "passed and in no recorded flow: " + "; ".join(words),
                "bytes": {way: {"packets": p, "bytes": b} for way, (p, b) in lacking.items()},
            }
        ]

    def verdict(self) -> tuple[bool | None, str]:
        """Whether all egress is accounted for, None where nothing can be said (yet); and why, in a sentence."""
        if lacking := [cause for cause in self.gaps if cause != UNLOGGED]:
            return False, "; ".join(lacking)
        if self.passed is None:
            return None, "the link's last account is not on record"
        if self.recorded is None:
            return None, "the ends of the flows are not on record, so what passed cannot be added up"
        if self.received is None and self.logged:
            return None, "the packets that the filter logged are not on record, so nothing tells what was refused"
        (packets, up), (_, down) = self.passed["up"], self.passed["down"]
        return True, (
            f"every frame on the link is accounted for; {up:,} bytes went out in {packets:,} packets of recorded "
            f"flows, {down:,} came in" + (f"; but for {UNLOGGED}" if UNLOGGED in self.gaps else "")
        )


def _map(detail: str) -> dict[str, Any]:
    try:
        told = json.loads(detail)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
