"""The packet filter of the wire namespace: what passes, what is refused, what is logged.

Each logged packet carries a prefix that says why it was logged; the words are an interface to the decoder:

=============  ====================================================================================================
flow:allow     first packet of a flow that may pass (to the gateway)
flow:reject    first packet of a flow that may not; it is refused so that the program inside fails at once
dns:query      a packet to port 53, TCP or UDP; refused as well
dns:answer     a packet from port 53 towards the sandbox
flow:inbound   first packet of a flow towards the sandbox; dropped
invalid        a packet that belongs to no flow and cannot begin one; dropped
ether          a frame that is neither IPv4 nor ARP (IPv6 among them); dropped
=============  ====================================================================================================

Specification: nft(8); linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

from typing import Final

__all__ = ["COUNTERS", "GROUP", "PREFIXES", "TABLE", "ruleset"]

GROUP: Final = 1
TABLE: Final = "sandtrail"
PREFIXES: Final = ("flow:allow", "flow:reject", "dns:query", "dns:answer", "flow:inbound", "invalid", "ether")
COUNTERS: Final = {f"n_{prefix.replace(':', '_')}": prefix for prefix in PREFIXES}

_RULES = """
table netdev {table} {{
  counter n_ether {{ }}
  chain ingress {{
    type filter hook ingress device "{link}" priority -500; policy accept;
    meta protocol {{ ip, arp }} accept
    counter name n_ether log prefix "ether" group {group}
    drop
  }}
}}
table inet {table} {{
{counters}
  chain from_sandbox {{
    type filter hook prerouting priority filter; policy drop;
    iif lo accept
    ct state invalid counter name n_invalid log prefix "invalid" group {group} drop
    meta l4proto {{ tcp, udp }} th dport 53 counter name n_dns_query log prefix "dns:query" group {group} goto refuse
    ct state established,related accept
    ip daddr {gateway} tcp dport {port} counter name n_flow_allow log prefix "flow:allow" group {group} accept
    counter name n_flow_reject log prefix "flow:reject" group {group} goto refuse
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmp type port-unreachable
    reject with icmp type admin-prohibited
  }}
  chain to_sandbox {{
    type filter hook output priority filter; policy accept;
    oif lo accept
    tcp flags & rst != 0 accept
    meta l4proto {{ tcp, udp }} th sport 53 counter name n_dns_answer log prefix "dns:answer" group {group}
    ct state new counter name n_flow_inbound log prefix "flow:inbound" group {group} drop
  }}
}}
"""


def ruleset(link: str, gateway: str, port: int) -> str:
    """The nft script for a wire namespace whose link to the sandbox is `link` and whose gateway listens at
    `gateway`:`port` (IPv4)."""
    counters = "\n".join(f"  counter {name} {{ }}" for name in COUNTERS if name != "n_ether")
    return _RULES.format(table=TABLE, link=link, group=GROUP, gateway=gateway, port=port, counters=counters)
