"""OTLP in JSON -> items: the protobuf JSON mapping, but ids in hex, and 64-bit integers as strings.

Names are taken in either spelling, and numbers as numbers or strings. What is not known is counted.
Specification: OTLP, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sandtrail.replay.claims.item import MAX_ATTRIBUTES, MAX_DEPTH, MAX_EVENTS, Item, Items, text_of
from sandtrail.replay.models.body import load_json

__all__ = ["read_json"]

MAX_GROUPS: Final = 20_000
"""Resources and scopes of one export: three bytes are enough for one."""
_LISTS: Final = {
    "traces": ("resourceSpans", "scopeSpans", "spans", "span"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords", "log"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics", "metric"),
}
# The messages themselves say which names there are, in either spelling.
_KNOWN: Final = {
    kind: frozenset([*message.DESCRIPTOR.fields_by_camelcase_name, *message.DESCRIPTOR.fields_by_name])
    for kind, message in (("span", Span), ("log", LogRecord), ("metric", Metric))
}
_POINTS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


def read_json(signal: str, data: bytes) -> Items:
    """The items of a request of this signal (`traces`, `logs`, `metrics`); never raises."""
    out = Items()
    document, trouble = load_json(data)
    if trouble:
        out.problem(f"not JSON: {trouble}")
        return out
    top, middle, low, kind = _LISTS[signal]
    groups = 0
    for group in _objects(document, top, out):
        groups += 1
        if groups > MAX_GROUPS:
            out.problem("more resources and scopes than are read")
            break
        resource = _attributes(_get(_get(group, "resource"), "attributes"), out)
        for scoped in _objects(group, middle, out):
            groups += 1
            if groups > MAX_GROUPS:
                out.problem("more resources and scopes than are read")
                break
            told = _get(scoped, "scope")
            scope = f"{text_of(_get(told, 'name'))[:200]} {text_of(_get(told, 'version'))[:100]}".strip()
            for one in _objects(scoped, low, out):
                if out.room():
                    item = _item(kind, one, out)
                    item.resource, item.scope = resource, scope
                    out.items.append(item)
    return out


def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)


def _get(holder: object, name: str) -> Any:
    if not isinstance(holder, dict):
        return None
    found = holder.get(name)
    return holder.get(_snake(name)) if found is None else found


def _objects(holder: object, name: str, out: Items) -> list[dict[str, Any]]:
    found = _get(holder, name)
    if not isinstance(found, list):
        out.problem(f"no list {name}", int(found is not None))
        return []
    objects = [one for one in found if isinstance(one, dict)]
    out.problem(f"{name} that are no objects", len(found) - len(objects))
    return objects


def _number(value: object) -> int:
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64 else 0


def _id(value: object) -> str:
    found = text_of(value)[:64].lower()
    return found if found.strip("0123456789abcdef") == "" else ""


def _item(kind: str, told: dict[str, Any], out: Items) -> Item:
    known = _KNOWN[kind]
    for name in [name for name in told if name not in known][:20]:
        out.problem(f"{kind}.{text_of(name)[:80]}")
    if kind == "metric":
        which = next((name for name in _POINTS if isinstance(_get(told, name), dict)), "")
        points = _get(_get(told, which), "dataPoints") if which else None
        unit = {"unit": text_of(_get(told, "unit")), "type": which}
        return Item(kind, text_of(_get(told, "name")), unit, points=len(points) if isinstance(points, list) else 0)
    item = Item(kind, text_of(_get(told, "name" if kind == "span" else "eventName")))
    item.attributes = _attributes(_get(told, "attributes"), out)
    item.trace, item.span = _id(_get(told, "traceId")), _id(_get(told, "spanId"))
    if kind == "log":
        item.start_ns = _number(_get(told, "timeUnixNano")) or _number(_get(told, "observedTimeUnixNano"))
        item.status = text_of(_get(told, "severityText"))
        item.body = _value(_get(told, "body"), 0, out)
        return item
    item.parent = _id(_get(told, "parentSpanId"))
    item.start_ns, item.end_ns = _number(_get(told, "startTimeUnixNano")), _number(_get(told, "endTimeUnixNano"))
    status = _get(told, "status")
    item.failed = _get(status, "code") in (2, "2", "STATUS_CODE_ERROR")
    item.status = text_of(_get(status, "message"))
    for event in _objects(told, "events", out)[:MAX_EVENTS]:
        item.events.append((text_of(_get(event, "name")), _attributes(_get(event, "attributes"), out)))
    return item


def _attributes(pairs: object, out: Items) -> dict[str, Any]:
    if not isinstance(pairs, list):
        out.problem("attributes that are no list", int(pairs is not None))
        return {}
    out.problem("attributes that were left out", max(0, len(pairs) - MAX_ATTRIBUTES))
    found = {}
    for pair in pairs[:MAX_ATTRIBUTES]:
        if isinstance(pair, dict) and isinstance(pair.get("key"), str):
            found[text_of(pair["key"])[:400]] = _value(pair.get("value"), 0, out)
        else:
            out.problem("attributes without a key")
    return found


def _value(value: object, depth: int, out: Items) -> Any:
    """An AnyValue."""
    if not isinstance(value, dict) or not value:
        out.problem("values that are no objects", int(value is not None and not isinstance(value, dict)))
        return None
    if depth >= MAX_DEPTH:
        return "…"
    name, held = next(iter(value.items()))
    match name:
        case "stringValue" | "string_value":
            return text_of(held)
        case "boolValue" | "bool_value":
            return held is True
        case "intValue" | "int_value":
            return _integer(held)
        case "doubleValue" | "double_value":
            return float(held) if isinstance(held, int | float) and abs(held) < 1e300 else text_of(held)
        case "arrayValue" | "array_value":
            values = _get(held, "values")
            return [_value(one, depth + 1, out) for one in values[:MAX_ATTRIBUTES]] if isinstance(values, list) else []
        case "kvlistValue" | "kvlist_value":
            values = _get(held, "values")
            pairs = (
                [one for one in values[:MAX_ATTRIBUTES] if isinstance(one, dict)] if isinstance(values, list) else []
            )
            return {text_of(one.get("key"))[:400]: _value(one.get("value"), depth + 1, out) for one in pairs}
        case "bytesValue" | "bytes_value":
            try:
                return base64.b64decode(held, validate=True) if isinstance(held, str) else b""
            except (binascii.Error, ValueError):
                out.problem("bytes that are not base64")
                return b""
    out.problem(f"values of type {text_of(name)[:80]}")
    return None


def _integer(held: object) -> int | str:
    if isinstance(held, bool):
        return 0
    if isinstance(held, int):
        return held if abs(held) < 1 << 63 else str(held)[:40]
    text = text_of(held)[:21]
    return int(text) if text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() else text
