"""What left a sandbox's link, and what of it is accounted for.

The kernel counts frames on the link (rtnl_link_stats64 of the wire's end), and the filter counts every packet that it
judged, in classes of which each packet has one: see `rules`. Both are read here, and what is on one side and not on the
other is the difference:

    from the sandbox   link = flows + refused classes + dropped classes + ARP, each packet with its frame's 14 bytes
    to the sandbox     link = frames sent; and no more of them hold IP than packets were judged

A frame that the kernel throws away before the filter sees it (a broken IP header), padding behind a packet, and a frame
that somebody takes off the link below the filter are in no class. That the flows here are those that the connection
tracker reported is judged from the record, by the reader.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sandtrail.collector.network import namespaces, rules
from sandtrail.errors import EnvironmentRefusedError

__all__ = ["Account", "Sum", "read"]

FRAME_HEADER: Final = 14
"""Bytes of an Ethernet header: the link counts them, the filter does not, but for frames on their way out."""
VLAN_TAG: Final = 4
_PATIENCE_S: Final = 2.0


class Sum(NamedTuple):
    """Packets, and their bytes."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: object) -> Sum:
        if not isinstance(other, Sum):
            return NotImplemented
        return Sum(self.packets + other.packets, self.bytes + other.bytes)

    def minus(self, other: Sum) -> Sum:
        """Either number may come out negative."""
        return Sum(self.packets - other.packets, self.bytes - other.bytes)

    @property
    def framed(self) -> Sum:
        """IP packets as the link counts them."""
        return Sum(self.packets, self.bytes + FRAME_HEADER * self.packets)


@dataclass(frozen=True)
class Account:
    """One reading. `up` is from the sandbox, `down` to it. Bytes are those of packets in classes and in `logged`, and
    those of frames everywhere else.

    `steady`: the link stood still while it was read. Of one that did not, the difference says nothing.
    """

    link: dict[str, Sum]
    lost: dict[str, int]
    """Frames that the kernel itself dropped at the wire's end of the link."""
    classes: dict[str, dict[str, Sum]]
    tagged: int
    """Frames with a VLAN tag, which the filter does not count as bytes."""
    sent: dict[str, Sum]
    """Frames that left towards the sandbox: `ip`, `arp`."""
    logged: dict[str, Sum]
    """By prefix: what was, or should have been, logged."""
    steady: bool
    dropped: int = 0
    """Packets that the connection tracker dropped, before the filter or behind it: one that can't hold any more flows,
    or can't tell of them. They explain a part of a difference, and are no class, since nobody knows their bytes."""

    @property
    def difference(self) -> dict[str, Sum]:
        """What the link carried and nothing accounts for."""
        up = sum(self.classes["up"].values(), Sum()).framed + Sum(0, VLAN_TAG * self.tagged)
        judged = sum(self.classes["down"].values(), Sum()).framed
        # What was judged and could not be delivered is fine; what was sent and not judged is not.
        unjudged = self.sent["ip"].minus(judged)
        missing = self.link["down"].minus(self.sent["ip"] + self.sent["arp"])
        if missing.packets < 0 and -missing.packets == self.lost["down"]:
            missing = Sum()
        more = unjudged if unjudged.packets > 0 or (not unjudged.packets and unjudged.bytes) else Sum()
        return {"up": self.link["up"].minus(up), "down": missing + more}

    @property
    def unlogged(self) -> int:
        """Packets that came too fast to be logged one by one."""
        return self.classes["up"]["unlogged"].packets

    def described(self) -> dict[str, Any]:
        """As a frame tells it."""
        return {
            "link": {way: {**_map(total), "lost": self.lost[way]} for way, total in self.link.items()},
            "accounted": {way: {name: _map(s) for name, s in sums.items()} for way, sums in self.classes.items()},
            "tagged": self.tagged,
            "dropped": self.dropped,
            "sent": {name: _map(total) for name, total in self.sent.items()},
            "difference": {way: _map(total) for way, total in self.difference.items()} if self.steady else None,
        }


def _map(total: Sum) -> dict[str, int]:
    return total._asdict()


def read(wire: str, link: str, *, final: bool) -> Account:
    """Read the account of a wire namespace. `final`: the link is taken down first, so that this is the last word.

    Raises EnvironmentRefusedError when it cannot be read.
    """

    def act() -> Account:
        if final:
            namespaces.tool("ip", "link", "set", link, "down")
        deadline = time.monotonic() + (_PATIENCE_S if final else 0.0)
        before = _link(link)
        while True:
            counters = _counters()
            after = _link(link)
            steady = before == after and (not final or counters == _counters())
            if steady or time.monotonic() > deadline:
                return _account(after, counters, steady, _tracker_drops())
            before = after

    return namespaces.inside(wire, act)


def _link(name: str) -> tuple[int, ...]:
    """Received packets, bytes, dropped; then the same of what was sent."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        device, _, numbers = line.partition(":")
        if device.strip() == name:
            found = [int(number) for number in numbers.split()]
            return found[1], found[0], found[3], found[9], found[8], found[11]
    raise EnvironmentRefusedError(f"the link {name} is gone: nothing counted what left over it")


def _counters() -> dict[str, Sum]:
    listed = json.loads(namespaces.tool("nft", "-j", "list", "counters"))["nftables"]
    found = [item["counter"] for item in listed if "counter" in item]
    return {c["name"]: Sum(c["packets"], c["bytes"]) for c in found if c["table"] == rules.TABLE}


def _tracker_drops() -> int:
    """The column `drop` of the connection tracker's statistics, over all processors; 0 where there are none."""
    try:
        head, *lines = Path("/proc/thread-self/net/stat/nf_conntrack").read_text().splitlines()
    except (OSError, ValueError):
        return 0
    at = head.split().index("drop")
    return sum(int(line.split()[at], 16) for line in lines)


def _account(link: tuple[int, ...], counters: dict[str, Sum], steady: bool, dropped: int) -> Account:
    classes: dict[str, dict[str, Sum]] = {"up": {}, "down": {}}
    for way, names in (("up", rules.UP), ("down", rules.DOWN)):
        for counter, name in names.items():
            classes[way][name] = classes[way].get(name, Sum()) + counters.get(counter, Sum())
    sent = {name: counters.get(f"down_{name}", Sum()) for name in ("ip", "arp")}
    tagged = counters.get("up_tagged", Sum()).packets
    logged = {prefix: counters.get(name, Sum()) for name, prefix in rules.COUNTERS.items()}
    both = {"up": Sum(link[0], link[1]), "down": Sum(link[3], link[4])}
    lost = {"up": link[2], "down": link[5]}
    return Account(both, lost, classes, tagged, sent, logged, steady, dropped)
