"""Hubble's flows -> net.flow, net.dns, http.exchange and gaps.

Read is what `hubble observe -o jsonpb` and the exporter write, and what the older `-o json` did.
Specification: cilium/api/v1/flow/flow.proto, in protobuf's JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sandtrail.replay.decode.others.drafted import Drafted, mapping, number, time_ns
from sandtrail.replay.decode.text import as_text, fit

__all__ = ["hubble_events"]

_KNOWN: Final = frozenset(
    {
        *(
            "time",
            "uuid",
            "verdict",
            "drop_reason",
            "drop_reason_desc",
            "ethernet",
            "IP",
            "l4",
            "l7",
            "Type",
            "Summary",
        ),
        *("source", "destination", "source_names", "destination_names", "source_service", "destination_service"),
        *("node_name", "node_labels", "event_type", "traffic_direction", "is_reply", "reply", "interface", "emitter"),
        *("trace_observation_point", "trace_reason", "policy_match_type", "policy_log", "auth_type"),
        *("ingress_allowed_by", "egress_allowed_by", "ingress_denied_by", "egress_denied_by"),
    }
)
_RCODES: Final = 1 << 16


def hubble_events(record: Mapping[str, Any]) -> list[Drafted]:
    """The events of one line."""
    if "lost_events" in record:
        return [_lost(mapping(record["lost_events"]), record)]
    # The older `-o json` writes the flow itself.
    flow = mapping(record.get("flow")) or (record if "verdict" in record else {})
    if not flow:
        kind = next((key for key in record if key not in ("node_name", "time")), "nothing")
        reason = f"an event of Hubble's that is no flow: {as_text(kind, 60)}"
        return [
            ("unknown", time_ns(record.get("time")), reason, None, {"type": "hubble", "told": fit(dict(record), 2000)})
        ]
    return [_flow(flow)]


def _lost(told: Mapping[str, Any], record: Mapping[str, Any]) -> Drafted:
    cause = "events that Hubble lost"
    at, count = time_ns(record.get("time")), number(told.get("num_events_lost"))
    where = f"{as_text(told.get('source'), 100) or 'no source told'}, node {as_text(record.get('node_name'), 200)}"
    detail = {"cause": cause, "count": count, "what": where, "from_ns": at or None, "to_ns": at or None}
    return "gap", at, cause, count, {key: value for key, value in detail.items() if value is not None}


def _flow(flow: Mapping[str, Any]) -> Drafted:
    ip, l7 = mapping(flow.get("IP")), mapping(flow.get("l7"))
    proto, ports = _layer4(mapping(flow.get("l4")))
    sport, dport = number(ports.get("source_port")) or 0, number(ports.get("destination_port")) or 0
    src, dst = as_text(ip.get("source"), 64), as_text(ip.get("destination"), 64)
    detail: dict[str, Any] = {
        "via": "hubble",
        "told_verdict": as_text(flow.get("verdict"), 40),
        "direction": as_text(flow.get("traffic_direction"), 40),
        "reply": flow.get("is_reply") if isinstance(flow.get("is_reply"), bool) else None,
        "drop_reason": as_text(flow.get("drop_reason_desc"), 100),
        "proto": proto,
        "src": src,
        "sport": sport,
        "dst": dst,
        "dport": dport,
        "icmp_type": number(ports.get("type")) if proto.startswith("icmp") else None,
        "source": _endpoint(flow.get("source")),
        "destination": _endpoint(flow.get("destination")),
        "names": [as_text(name, 255) for name in flow.get("destination_names") or [] if isinstance(name, str)][:20]
        if isinstance(flow.get("destination_names"), list)
        else [],
        "node": as_text(flow.get("node_name"), 200),
        "summary": as_text(flow.get("Summary"), 500),
        "fields_unknown": len(flow.keys() - _KNOWN),
    }
    detail = {key: value for key, value in detail.items() if value not in (None, "", [], {}, 0) or key in ("sport",)}
    at = time_ns(flow.get("time"))
    if dns := mapping(l7.get("dns")):
        return _dns(dns, l7, at, detail)
    if http := mapping(l7.get("http")):
        return _http(http, l7, at, detail)
    if l7:
        detail["l7"] = fit(dict(l7), 4000)
    there = _at(dst, dport) or as_text(mapping(flow.get("destination")).get("pod_name"), 255) or proto
    return "net.flow", at, there, None, detail


def _layer4(told: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    name = next((name for name in told if isinstance(told[name], Mapping)), "")
    return as_text(name, 20).lower(), mapping(told.get(name))


def _at(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{port}" if port and address else address


def _endpoint(value: object) -> dict[str, str]:
    """Which pod, as Kubernetes says; or what Cilium's labels say of a peer that is none."""
    told = mapping(value)
    found = {name: as_text(told.get(name), 255) for name in ("namespace", "pod_name")}
    labels = told.get("labels")
    if not found["pod_name"] and isinstance(labels, list):
        found["labels"] = ", ".join(as_text(label, 200) for label in labels[:10])
    return {key: text for key, text in found.items() if text}


def _dns(dns: Mapping[str, Any], l7: Mapping[str, Any], at: int, detail: dict[str, Any]) -> Drafted:
    answer = as_text(l7.get("type"), 20) == "RESPONSE"
    lists = {name: dns.get(name) for name in ("ips", "cnames", "qtypes", "rrtypes")}
    told = {name: [as_text(one, 255) for one in many[:50]] for name, many in lists.items() if isinstance(many, list)}
    # Protobuf's JSON leaves a code of 0 out.
    code = number(dns.get("rcode")) or 0
    name = as_text(dns.get("query"), 512).rstrip(".")
    return "net.dns", at, name, min(code, _RCODES) if answer else None, {**detail, **told, "answer": answer}


def _http(http: Mapping[str, Any], l7: Mapping[str, Any], at: int, detail: dict[str, Any]) -> Drafted:
    status, took = number(http.get("code")), number(l7.get("latency_ns")) or 0
    method, url = as_text(http.get("method"), 40), as_text(http.get("url"), 4000)
    more = {"method": method, "url": url, "protocol": as_text(http.get("protocol"), 40), "status": status or None}
    # The same request is told twice: when it passes, and with the answer.
    more |= {"answer": as_text(l7.get("type"), 20) == "RESPONSE", "flow": "", "id": ""}
    more |= {"start_ns": at - took if 0 < took < at else at, "end_ns": at}
    return "http.exchange", at, f"{method} {url}", status or None, {**detail, **more}
