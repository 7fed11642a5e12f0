"""Envoy's access logs -> http.exchange and net.flow_end: JSON lines, and messages of its access log service.

Names of fields in a JSON log are the operator's own. Known are those of Envoy's and Istio's examples and of Envoy
Gateway's default. Specification of the messages: envoy/data/accesslog/v3/accesslog.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sandtrail.replay.decode.others.drafted import Drafted, mapping, number, time_ns, unknown
from sandtrail.replay.decode.others.wire import Tables, Wire
from sandtrail.replay.decode.text import as_text, fit

__all__ = ["envoy_events", "envoy_messages"]

MAX_ENTRIES: Final = 2000
_NAMES: Final = {
    "method": ("method", ":method", "request_method"),
    "authority": ("authority", ":authority", "host"),
    "path": ("path", ":path", "x-envoy-origin-path", "request_path"),
    "protocol": ("protocol",),
    "status": ("response_code", "status", "response_status"),
    "up_bytes": ("bytes_received",),
    "down_bytes": ("bytes_sent",),
    "duration_ms": ("duration",),
    "flags": ("response_flags",),
    "why": ("response_code_details", "connection_termination_details", "upstream_transport_failure_reason"),
    "sni": ("requested_server_name",),
    "upstream": ("upstream_host",),
    "cluster": ("upstream_cluster",),
    "client": ("downstream_remote_address",),
    "request_id": ("request_id", "x-request-id"),
    "route": ("route_name",),
    "start": ("start_time", "timestamp", "@timestamp"),
}
_NUMBERS: Final = frozenset({"status", "up_bytes", "down_bytes", "duration_ms"})
_FLAGS: Final = (
    *("LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH"),
    *("DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF"),
)
_TABLES: Final[Tables] = {
    "Message": {1: ("identifier", "Identifier"), 2: ("http", "HttpLogs"), 3: ("tcp", "TcpLogs")},
    "Identifier": {1: ("node", "Node"), 2: ("log_name", "text")},
    "Node": {1: ("id", "text"), 2: ("cluster", "text")},
    "HttpLogs": {1: ("entries", "Http*")},
    "TcpLogs": {1: ("entries", "Tcp*")},
    "Http": {1: ("common", "Common"), 2: ("version", "number"), 3: ("request", "Request"), 4: ("response", "Response")},
    "Tcp": {1: ("common", "Common"), 2: ("connection", "Connection")},
    "Connection": {1: ("up_bytes", "number"), 2: ("down_bytes", "number")},
    "Common": {
        2: ("client", "Address"),
        3: ("local", "Address"),
        4: ("tls", "Tls"),
        5: ("start", "Time"),
        13: ("upstream", "Address"),
        15: ("cluster", "text"),
        16: ("flags", "Flags"),
        18: ("why", "text"),
        19: ("route", "text"),
        11: ("first", "Time"),
        12: ("last", "Time"),
        23: ("duration", "Time"),
        25: ("ended", "text"),
        26: ("under_way", "number"),
    },
    "Address": {1: ("socket", "Socket")},
    "Socket": {2: ("address", "text"), 3: ("port", "number")},
    "Tls": {3: ("sni", "text")},
    "Time": {1: ("seconds", "number"), 2: ("nanos", "number")},
    "Value": {1: ("value", "number")},
    "Request": {
        1: ("method", "number"),
        2: ("scheme", "text"),
        3: ("authority", "text"),
        5: ("path", "text"),
        9: ("request_id", "text"),
        10: ("original_path", "text"),
        12: ("bytes", "number"),
    },
    "Response": {1: ("code", "Value"), 3: ("bytes", "number"), 6: ("details", "text")},
    # A flag says true, but for one that is a message; its name is the short one of Envoy's text logs.
    "Flags": {number: (word, "Reason" if word == "UAEX" else "number") for number, word in enumerate(_FLAGS, 1)},
    "Reason": {1: ("reason", "number")},
}
_METHODS: Final = ("", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_VERSIONS: Final = ("", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3")


def envoy_events(record: Mapping[str, Any]) -> list[Drafted]:
    """The event of one JSON line."""
    # Some write what a request was about under a name of its own.
    told: dict[str, Any] = {}
    known = 0
    for name, names in _NAMES.items():
        given = next((record[one] for one in names if record.get(one) not in (None, "", "-")), None)
        known += given is not None
        told[name] = number(given) if name in _NUMBERS else as_text(given, 2000)
    if known < 3 or not (told["method"] or told["upstream"] or told["client"]):
        detail = {"type": "envoy", "reason": "it is no access log that we know", "told": fit(dict(record), 2000)}
        return [("unknown", 0, detail["reason"], None, detail)]
    start = time_ns(told.pop("start"))
    return [_event(told, start, start + (told.pop("duration_ms") or 0) * 1_000_000 if start else 0)]


def _event(told: dict[str, Any], start: int, end: int, under_way: bool = False) -> Drafted:
    """One request, or one connection where there was none."""
    detail = {"via": "envoy", "flow": "", "id": told.get("request_id") or "", "start_ns": start, "end_ns": end}
    detail |= {key: value for key, value in told.items() if value not in (None, "", [])}
    if under_way:
        detail["under_way"] = True
    if told.get("method"):
        # A CONNECT has no path: its authority is all there is.
        url = as_text(f"{told.get('authority') or ''}{told.get('path') or ''}", 4000)
        detail["url"] = url
        return "http.exchange", start, f"{told['method']} {url}", told.get("status"), detail
    where = as_text(told.get("upstream") or told.get("sni") or "", 500)
    return "net.flow_end", start, where, told.get("up_bytes"), detail


def envoy_messages(data: bytes) -> list[Drafted]:
    """The events of one StreamAccessLogsMessage; never raises."""
    wire = Wire(_TABLES)
    message = wire.read("Message", data)
    entries = [(entry, True) for entry in mapping(message.get("http")).get("entries", ())]
    entries += [(entry, False) for entry in mapping(message.get("tcp")).get("entries", ())]
    found = [_http(entry) if of_http else _tcp(entry) for entry, of_http in entries[:MAX_ENTRIES]]
    if wire.broken:
        found.append(unknown("envoy", "a message of the access log service that breaks off", data))
    if len(entries) > MAX_ENTRIES:
        found.append(unknown("envoy", f"{len(entries) - MAX_ENTRIES} records of one message are left out", data))
    if found and wire.unknown:
        found[-1][4]["fields_unknown"] = wire.unknown
    return found


def _http(entry: Mapping[str, Any]) -> Drafted:
    common, request, response = (mapping(entry.get(part)) for part in ("common", "request", "response"))
    method = request.get("method", 0)
    told = {
        "method": _METHODS[method] if method < len(_METHODS) else f"METHOD-{method}",
        "authority": request.get("authority"),
        "path": request.get("original_path") or request.get("path"),
        "scheme": request.get("scheme"),
        "protocol": _VERSIONS[entry["version"]] if entry.get("version", 9) < len(_VERSIONS) else "",
        "status": mapping(response.get("code")).get("value"),
        "up_bytes": request.get("bytes", 0),
        "down_bytes": response.get("bytes", 0),
        "request_id": request.get("request_id"),
        "why": response.get("details"),
    }
    return _told(common, told)


def _tcp(entry: Mapping[str, Any]) -> Drafted:
    common, connection = mapping(entry.get("common")), mapping(entry.get("connection"))
    return _told(common, {name: connection.get(name, 0) for name in ("up_bytes", "down_bytes")})


def _told(common: Mapping[str, Any], told: dict[str, Any]) -> Drafted:
    flags = [name for name, value in mapping(common.get("flags")).items() if value or isinstance(value, dict)]
    more = {
        "flags": ",".join(flags),
        "sni": mapping(common.get("tls")).get("sni"),
        "upstream": _address(common.get("upstream")),
        "client": _address(common.get("client")),
        "cluster": common.get("cluster"),
        "route": common.get("route"),
        "why": common.get("why") or common.get("ended") or told.get("why"),
    }
    start = _time(common.get("start"))
    took = max(_time(common.get(name)) for name in ("duration", "last", "first"))
    return _event({**told, **more}, start, start + took if start else 0, bool(common.get("under_way")))


def _address(value: object) -> str:
    found = mapping(mapping(value).get("socket"))
    return f"{found.get('address', '')}:{found.get('port', 0)}" if found else ""


def _time(value: object) -> int:
    told = mapping(value)
    found = int(told.get("seconds", 0)) * 1_000_000_000 + int(told.get("nanos", 0))
    return found if 0 < found < 1 << 63 else 0
