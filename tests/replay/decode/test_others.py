"""Records of other people's gateways become events that say whose word they are."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sandtrail.replay.decode.others import OTHERS, other_events, other_tree

# From Cilium's documentation, "Configuring Hubble exporter", its output as printed there.
DROPPED = (
    '{"flow":{"time":"2023-08-21T12:12:18.510175415Z","verdict":"DROPPED","IP":{"source":"10.244.1.60","destination":'
    '"10.244.1.5","ipVersion":"IPv4"},"l4":{"TCP":{"source_port":44916,"destination_port":80,"flags":{"SYN":true}}},'
    '"source":{"namespace":"default","pod_name":"xwing"},"destination":{"namespace":"default","pod_name":'
    '"deathstar-7848d6c4d5-th9v2"},"node_name":"kind-kind/kind-worker","drop_reason_desc":"POLICY_DENIED"},"node_name":'
    '"kind-kind/kind-worker","time":"2023-08-21T12:12:18.510175415Z"}'
)
ICMP = (
    '{"flow":{"time":"2023-08-21T12:12:13.517394084Z","verdict":"DROPPED","IP":{"source":"fe80::64d8:8aff:fe72:fc14",'
    '"destination":"ff02::2","ipVersion":"IPv6"},"l4":{"ICMPv6":{"type":133}},"source":{},"destination":{},"node_name":'
    '"kind-kind/kind-worker","drop_reason_desc":"INVALID_SOURCE_IP"},"node_name":"kind-kind/kind-worker","time":'
    '"2023-08-21T12:12:13.517394084Z"}'
)
# What the printer of Cilium's own hubble command writes, as its tests have it (hubble/pkg/printer).
LOST = '{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"1","cpu":5}}'
# An access log of Istio's gateway in its JSON format, as "Istio in Action" prints it.
ACCESS = (
    '{"user_agent":"curl/7.64.1","response_code":"504","response_flags":"UT","start_time":"2020-08-22T16:35:27.125Z",'
    '"method":"GET","request_id":"e65a3ea0-60dd-9f9c-8ef5-42611138ba07","upstream_host":"10.1.0.68:3000",'
    '"requested_server_name":"-","bytes_received":"0","bytes_sent":"24","upstream_cluster":"outbound|80||catalog",'
    '"downstream_remote_address":"192.168.65.3:41260","authority":"catalog.istioinaction.io","path":"/items",'
    '"protocol":"HTTP/1.1","duration":"503","route_name":"-"}'
)


def frame(data: str | bytes, via: str = "file") -> bytes:
    raw = data if isinstance(data, bytes) else data.encode()
    return json.dumps({"t": "record", "via": via, "data": base64.b64encode(raw).decode()}).encode()


def one(source: str, data: str) -> tuple[str, int, str, int | None, dict[str, Any]]:
    (event,) = other_events(source, frame(data))
    return event


def test_a_dropped_packet_is_a_flow_with_ports_pods_and_the_reason() -> None:
    kind, time_ns, thing, _, detail = one("hubble", DROPPED)
    assert (kind, time_ns, thing) == ("net.flow", 1692619938510175415, "10.244.1.5:80")
    assert (detail["via"], detail["told_verdict"], detail["drop_reason"]) == ("hubble", "DROPPED", "POLICY_DENIED")
    assert (detail["src"], detail["sport"], detail["proto"]) == ("10.244.1.60", 44916, "tcp")
    assert detail["source"] == {"namespace": "default", "pod_name": "xwing"}
    assert "fields_unknown" not in detail


def test_icmp_has_no_ports() -> None:
    _, _, thing, _, detail = one("hubble", ICMP)
    assert (thing, detail["proto"], detail["icmp_type"]) == ("ff02::2", "icmpv6", 133)


def test_what_hubble_lost_is_a_gap_with_its_count() -> None:
    kind, _, thing, count, detail = one("hubble", LOST)
    assert (kind, thing, count) == ("gap", "events that Hubble lost", 1)
    assert "HUBBLE_RING_BUFFER" in detail["what"]


@pytest.mark.parametrize(("kind", "code", "result"), [("REQUEST", 0, None), ("RESPONSE", 3, 3), ("RESPONSE", 0, 0)])
def test_dns_is_a_question_or_an_answer_with_its_code(kind: str, code: int, result: int | None) -> None:
    dns = {"query": "api.example.org.", "qtypes": ["A"], **({"rcode": code} if code else {})}
    event = one("hubble", json.dumps({"flow": {"verdict": "FORWARDED", "l7": {"type": kind, "dns": dns}}}))
    assert (event[0], event[2], event[3], event[4]["answer"]) == (
        *("net.dns", "api.example.org", result),
        kind == "RESPONSE",
    )


def test_http_that_ciliums_proxy_saw_has_status_and_latency() -> None:
    http = {"code": 403, "method": "PUT", "url": "http://deathstar/v1/exhaust-port", "protocol": "HTTP/1.1"}
    flow = {"time": "2023-08-21T12:12:18Z", "l7": {"type": "RESPONSE", "latency_ns": "2000000", "http": http}}
    kind, _, thing, status, detail = one("hubble", json.dumps({"flow": flow}))
    assert (kind, thing, status) == ("http.exchange", "PUT http://deathstar/v1/exhaust-port", 403)
    assert detail["end_ns"] - detail["start_ns"] == 2_000_000


def test_a_line_of_envoys_json_log_is_an_exchange_without_bodies() -> None:
    kind, start, thing, status, detail = one("envoy", ACCESS)
    assert (kind, thing, status) == ("http.exchange", "GET catalog.istioinaction.io/items", 504)
    assert start == 1598114127125000000
    assert detail["end_ns"] - start == 503_000_000
    assert (detail["flags"], detail["down_bytes"], detail["upstream"]) == ("UT", 24, "10.1.0.68:3000")
    assert "sni" not in detail


def test_a_log_format_that_is_not_known_is_told_as_such() -> None:
    kind, _, reason, _, detail = one("envoy", '{"verb": "GET", "target": "/"}')
    assert (kind, reason) == ("unknown", "it is no access log that we know")
    assert detail["told"] == {"verb": "GET", "target": "/"}


@pytest.mark.parametrize("source", sorted(OTHERS))
@pytest.mark.parametrize("data", ["", "words", "[1]", "{}", '{"flow": 1}', "[" * 100_000])
def test_what_is_no_record_is_unknown_and_counted(source: str, data: str) -> None:
    assert [event[0] for event in other_events(source, frame(data))] == ["unknown"]


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b'{"t":"record","data":"?"}', b'{"t":"record","data":5}'])
def test_a_frame_that_holds_no_record_is_unknown(payload: bytes) -> None:
    for source in OTHERS:
        assert [event[0] for event in other_events(source, payload)] == ["unknown"]
        other_tree(payload)


def test_a_message_of_many_small_parts_is_cut_and_says_so() -> None:
    entries = b"\x12\x04\x0a\x02\x0a\x00" * 50_000
    found = other_events("envoy", frame(entries, "grpc"))
    assert len(found) <= 2002
    assert "left out" in found[-1][2]
