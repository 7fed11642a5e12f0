"""Datagrams of the packet filter -> events: logged packets (NFLOG), beginnings and ends of flows (ctnetlink).

Specifications: linux/netfilter/nfnetlink_log.h, nfnetlink_conntrack.h.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from sandtrail.replay.decode.netlink import Message, attributes, messages, number
from sandtrail.replay.decode.packets import PROTOCOLS, read_dns, read_packet, server_name
from sandtrail.replay.decode.sockaddr import endpoint
from sandtrail.replay.decode.text import text

__all__ = ["add_flows", "conntrack_events", "nflog_events"]

Drafted = tuple[str, int, str, int | None, dict[str, Any]]
"""kind, time_ns (0: not told), object, result, detail."""

_CT, _ULOG = 1, 4
_PACKET_HDR, _TIMESTAMP, _PAYLOAD, _PREFIX, _SEQ = 1, 3, 9, 10, 12
_VERDICTS: Final = {
    "flow:allow": "allow",
    "flow:redirect": "redirect",
    "flow:reject": "reject",
    "flow:quic": "reject",
    "flow:limit": "reject",
    "flow:spoof": "spoof",
    "flow:inbound": "inbound",
    "dns:query": "reject",
    "dns:pass": "pass",
    "dns:answer": "answer",
    "icmp:error": "error",
    "invalid": "invalid",
    "invalid:out": "invalid",
    "ether": "ether",
    "fragment": "fragment",
}
_INWARD: Final = frozenset({"flow:inbound", "dns:answer", "invalid:out"})
_DNS: Final = 53


def _unknown(reason: str, body: bytes) -> Drafted:
    return (
        "unknown",
        0,
        reason,
        None,
        {"type": "netlink", "reason": reason, "bytes": len(body), "head": body[:64].hex()},
    )


def nflog_events(data: bytes) -> list[tuple[int | None, Drafted]]:
    """(sequence number or None, event) of every message of a datagram."""
    found: list[tuple[int | None, Drafted]] = []
    for message in messages(data):
        if message.problem or message.subsystem != _ULOG or message.kind != 0:
            reason = message.problem or f"netlink message {message.subsystem}/{message.kind} in a packet log"
            found.append((None, _unknown(reason, message.body)))
            continue
        fields = attributes(message.body)
        seq = number(fields[_SEQ]) if len(fields.get(_SEQ, b"")) == 4 else None
        found.append((seq, _logged(fields)))
    return found


def _logged(fields: dict[int, bytes]) -> Drafted:
    prefix = text(fields.get(_PREFIX, b"").rstrip(b"\0"), 128)
    ether_type = number(fields.get(_PACKET_HDR, b"")[:2])
    packet = read_packet(fields.get(_PAYLOAD, b""), ether_type)
    stamp = fields.get(_TIMESTAMP, b"")
    time_ns = (number(stamp[:8]) * 1_000_000 + number(stamp[8:16])) * 1000 if len(stamp) >= 16 else 0
    inward = prefix in _INWARD
    far = endpoint(packet.src, packet.sport) if inward else endpoint(packet.dst, packet.dport)
    detail: dict[str, Any] = {
        "via": "nflog",
        "prefix": prefix,
        "verdict": _VERDICTS.get(prefix, ""),
        "proto": packet.protocol,
        "src": packet.src,
        "sport": packet.sport,
        "dst": packet.dst,
        "dport": packet.dport,
        "bytes": packet.size,
        **(packet.extra or {}),
    }
    if _DNS in (packet.sport, packet.dport) and packet.payload:
        query = read_dns(packet.payload, stream=packet.protocol == "tcp")
        if query is not None:
            name, code = query.pop("name"), query.pop("rcode")
            return "net.dns", time_ns, name, code if query["answer"] else None, {**detail, **query, "peer": far}
        detail["not_dns"] = packet.payload[:32].hex()
    elif packet.protocol == "tcp" and packet.payload and (name := server_name(packet.payload)):
        detail["sni"] = name
    return "net.flow", time_ns, far if packet.src else packet.protocol, None, detail


def conntrack_events(data: bytes, sandbox_address: str = "") -> list[Drafted]:
    """The events of a datagram; `sandbox_address` tells which end of a flow is the sandbox."""
    found = []
    for message in messages(data):
        if message.problem or message.subsystem != _CT or message.kind not in (0, 2):
            reason = message.problem or f"netlink message {message.subsystem}/{message.kind} in a flow log"
            found.append(_unknown(reason, message.body))
        else:
            found.append(_flow(message, sandbox_address))
    return found


def add_flows(sums: dict[str, Any], events: list[Drafted]) -> None:
    """Add the flows that have ended to a stream's `flows`, `up` and `down`: from the sandbox, and to it."""
    for kind, _, _, _, detail in events:
        if kind == "net.flow_end":
            sums["flows"] = sums.get("flows", 0) + 1
            for way, told in (("up", detail["sent"]), ("down", detail["received"])):
                held = sums.setdefault(way, {"packets": 0, "bytes": 0})
                held["packets"] += told["packets"]
                held["bytes"] += told["bytes"]


def _flow(message: Message, sandbox_address: str) -> Drafted:
    fields = attributes(message.body)
    flow = _tuple(fields.get(1, b""))
    inward = bool(sandbox_address) and flow["dst"] == sandbox_address and flow["src"] != sandbox_address
    far = endpoint(flow["src"], flow["sport"]) if inward else endpoint(flow["dst"], flow["dport"])
    detail: dict[str, Any] = {"via": "conntrack", "verdict": "inbound" if inward else "allow", **flow}
    detail |= {"status": number(fields.get(3)), "id": number(fields.get(12))}
    times = attributes(fields.get(20, b""))
    start, stop = number(times.get(1)), number(times.get(2))
    if message.kind == 0:
        return "net.flow", start, far, None, detail
    sent, received = _counters(fields.get(9, b"")), _counters(fields.get(10, b""))
    if inward:
        sent, received = received, sent
    detail |= {"sent": sent, "received": received, "start_ns": start, "stop_ns": stop}
    return "net.flow_end", stop, far, min(sent["bytes"], (1 << 63) - 1), detail


def _tuple(data: bytes) -> dict[str, Any]:
    parts = attributes(data)
    ip, proto = attributes(parts.get(1, b"")), attributes(parts.get(2, b""))
    code = number(proto.get(1, b"")[:1])
    flow: dict[str, Any] = {
        "proto": PROTOCOLS.get(code, f"ip:{code}"),
        "src": _address(ip.get(1), ip.get(3)),
        "sport": number(proto.get(2, b"")[:2]),
        "dst": _address(ip.get(2), ip.get(4)),
        "dport": number(proto.get(3, b"")[:2]),
    }
    kind = proto.get(5) or proto.get(8)
    return {**flow, "icmp_type": kind[0]} if kind else flow


def _address(v4: bytes | None, v6: bytes | None) -> str:
    if v4 and len(v4) == 4:
        return str(IPv4Address(v4))
    return str(IPv6Address(v6)) if v6 and len(v6) == 16 else ""


def _counters(data: bytes) -> dict[str, int]:
    fields = attributes(data)
    return {"packets": number(fields.get(1) or fields.get(3)), "bytes": number(fields.get(2) or fields.get(4))}
