"""The packet filter of the wire namespace: what passes, what is refused, what is logged, and what all of it amounts to.

Each logged packet carries a prefix that says why it was logged; the words are an interface to the decoder:

=============  ====================================================================================================
flow:allow     first packet of a flow that may pass (to the gateway, or to another service on the link)
flow:redirect  first packet of a flow to somewhere else that is turned to the gateway (transparent modes only)
flow:reject    first packet of a flow that may not pass; it is refused so that the program inside fails at once
flow:quic      the same for UDP port 443: HTTP/3 clients fall back to TCP when they are refused
flow:limit     a connection beyond the most that one sandbox may have open; refused
flow:spoof     a packet whose sender is not the sandbox's address; dropped
dns:query      a packet to port 53, TCP or UDP, that is refused
dns:pass       a packet to port 53 that is answered by the gateway (transparent modes only)
dns:answer     a packet from port 53 towards the sandbox
icmp:error     an ICMP error about a flow that passes
flow:inbound   first packet of a flow towards the sandbox; dropped
invalid        a packet that belongs to no flow and cannot begin one; dropped
invalid:out    a packet towards the sandbox that belongs to no flow any more; dropped
ether          a frame that is neither IPv4 nor ARP (as IPv6), has a VLAN tag, or is for another machine; dropped
fragment       a part of an IPv4 packet; dropped, as nothing allowed needs it and a part cannot be judged
=============  ====================================================================================================

Every packet on the link is also in exactly one of the counters in `UP` or `DOWN`: see `account`. Of packets that are
not part of a flow at most a thousand a second are logged one by one; the others are dropped and only counted.

Specification: nft(8); linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, get_args

__all__ = ["COUNTERS", "DOWN", "EGRESS_MODES", "GROUP", "PREFIXES", "TABLE", "UP", "EgressMode", "ruleset"]

EgressMode = Literal["proxy", "transparent", "transparent-all"]
"""How traffic reaches the gateway: by the client's will only; ports 80 and 443 whatever the client does; all TCP."""

EGRESS_MODES: Final = get_args(EgressMode)
GROUP: Final = 1
TABLE: Final = "sandtrail"
MAX_FLOWS: Final = 4096
"""Open flows of one sandbox; the gateway's own limit of connections is below it."""
LOGGED_A_SECOND: Final = 1000
LOGGED_AT_ONCE: Final = 5000

_LOGGED: Final = f"{LOGGED_A_SECOND}/second burst {LOGGED_AT_ONCE} packets"
_LINK_LEVEL: Final = ("ether", "fragment")
_IP_LEVEL: Final = (
    *("flow:allow", "flow:redirect", "flow:reject", "flow:quic", "flow:limit", "flow:spoof", "dns:query", "dns:pass"),
    *("dns:answer", "icmp:error", "flow:inbound", "invalid", "invalid:out"),
)
PREFIXES: Final = (*_IP_LEVEL, *_LINK_LEVEL)


def _name(prefix: str) -> str:
    return f"n_{prefix.replace(':', '_')}"


COUNTERS: Final = {_name(prefix): prefix for prefix in PREFIXES}
"""Counter -> the prefix whose logged packets it counts."""

UP: Final = {
    **{_name(prefix): prefix for prefix in (*_LINK_LEVEL, "flow:reject", "flow:quic", "flow:limit", "flow:spoof")},
    **{_name(prefix): prefix for prefix in ("dns:query", "icmp:error", "invalid")},
    "up_flows": "flows",
    "up_arp": "arp",
    "up_unlogged": "unlogged",
    "up_frames_unlogged": "unlogged",
}
"""Counter -> class, of packets from the sandbox; each is in one of them."""
DOWN: Final = {"down_flows": "flows", "down_refusals": "refusals"}
"""The same of packets that are on their way to the sandbox; `down_ip` and `down_arp` count what really left."""

_RULES = """
table netdev {table} {{
{link_counters}
  chain ingress {{
    type filter hook ingress device "{link}" priority -500; policy drop;
    ether type != {{ 8021q, 8021ad }} meta protocol arp counter name up_arp accept
    ether type != {{ 8021q, 8021ad }} meta pkttype != other ip frag-off & 0x3fff == 0 accept
    ether type {{ 8021q, 8021ad }} counter name up_tagged
    limit rate over {logged} counter name up_frames_unlogged drop
    ether type != {{ 8021q, 8021ad }} meta pkttype != other ip frag-off & 0x3fff != 0 {count[fragment]} drop
    {count[ether]} drop
  }}
  chain egress {{
    type filter hook egress device "{link}" priority 500; policy accept;
    meta protocol arp counter name down_arp accept
    counter name down_ip
  }}
}}
table inet {table} {{
{ip_counters}
  chain from_sandbox {{
    type filter hook prerouting priority mangle; policy drop;
    iif lo accept
    ct state != established limit rate over {logged} counter name up_unlogged drop
    ip saddr != {sandbox} {count[flow:spoof]} drop
    ct state invalid {count[invalid]} drop
    ct state related {count[icmp:error]} accept
    meta l4proto {{ tcp, udp }} th dport 53 goto names
    ct state established counter name up_flows accept
    ip daddr {gateway} tcp dport {{ {ports} }} goto begin
    udp dport 443 {count[flow:quic]} goto refuse
{redirected}
    {count[flow:reject]} goto refuse
  }}
  chain begin {{
    ct count over {most} {count[flow:limit]} goto refuse
    counter name up_flows {count[flow:allow]} accept
  }}
  chain begin_turned {{
    ct count over {most} {count[flow:limit]} goto refuse
    counter name up_flows {count[flow:redirect]} accept
  }}
  chain names {{
{dns}
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmp type port-unreachable
    reject with icmp type admin-prohibited
  }}
  chain to_sandbox {{
    type filter hook postrouting priority srcnat + 100; policy drop;
    oif lo accept
    ct state established meta l4proto {{ tcp, udp }} ct original proto-dst 53 {count[dns:answer]}
    ct state established counter name down_flows accept
    ct state related counter name down_refusals accept
    meta l4proto icmp counter name down_refusals accept
    tcp flags & rst != 0 counter name down_refusals accept
    ct state new {count[flow:inbound]} drop
    {count[invalid:out]} drop
  }}
{nat}
}}
"""
_NAT = """  chain turned {{
    type nat hook prerouting priority dstnat; policy accept;
    iif lo accept
    udp dport 53 redirect to :53
    ip daddr {gateway} tcp dport {{ {ports} }} accept
    {which} redirect to :{proxy}
  }}"""
_WHICH: Final = {"proxy": "", "transparent": "tcp dport { 53, 80, 443 }", "transparent-all": "meta l4proto tcp"}


def ruleset(link: str, gateway: str, sandbox: str, ports: Collection[int], mode: EgressMode = "proxy") -> str:
    """The nft script for a wire namespace whose link to the sandbox is `link`. The services on it listen at `gateway`
    (IPv4), at `ports`; the first of them is the gateway's."""
    count = {p: f'counter name {_name(p)} log prefix "{p}" group {GROUP}' for p in PREFIXES}
    common = {"gateway": gateway, "ports": ", ".join(map(str, ports)), "which": _WHICH[mode]}
    open_dns = f"    ct state new ct count over {MAX_FLOWS} {count['flow:limit']} goto refuse\n"
    open_dns += f"    limit rate over {_LOGGED}"
    open_dns += " counter name up_unlogged drop\n"
    open_dns += f"    counter name up_flows {count['dns:pass']} accept"
    return _RULES.format(
        table=TABLE,
        link=link,
        sandbox=sandbox,
        most=MAX_FLOWS,
        logged=_LOGGED,
        count=count,
        link_counters=_declared(
            ("up_arp", "up_tagged", "up_frames_unlogged", "down_arp", "down_ip", *map(_name, _LINK_LEVEL))
        ),
        ip_counters=_declared(
            ("up_flows", "up_unlogged", "down_flows", "down_refusals", *map(_name, _IP_LEVEL)),
        ),
        redirected="" if mode == "proxy" else f"    {_WHICH[mode]} goto begin_turned",
        dns=f"    {count['dns:query']} goto refuse" if mode == "proxy" else open_dns,
        nat="" if mode == "proxy" else _NAT.format(proxy=next(iter(ports)), **common),
        **common,
    )


def _declared(names: Collection[str]) -> str:
    return "\n".join(f"  counter {name} {{ }}" for name in names)
