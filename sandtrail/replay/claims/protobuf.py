"""OTLP in protobuf -> items. Specification: opentelemetry-proto 1.x.

A few bytes can stand for a whole message, so a body is never parsed at once: it is cut into its items by their lengths,
and each of them, up to the caps, is parsed by itself. A body that was cut off yields the items before the cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sandtrail.replay.claims.item import MAX_ATTRIBUTES, MAX_DEPTH, MAX_EVENTS, MAX_ITEM, Item, Items, text_of

__all__ = ["read_protobuf"]

_MAX_FIELDS: Final = 200_000
# In every request: its groups are field 1; in a group the resource is 1, scopes are 2; of those the name 1, items 2.
_RESOURCE, _SCOPES, _SCOPE, _ITEMS = 1, 2, 1, 2
_KINDS: Final = {"traces": "span", "logs": "log", "metrics": "metric"}


def read_protobuf(signal: str, data: bytes) -> Items:
    """The items of a request of this signal (`traces`, `logs`, `metrics`); never raises."""
    out = Items()
    budget = [_MAX_FIELDS]
    view = memoryview(data)
    for number, part in _fields(view, budget, out):
        if number != 1:
            out.problem(f"request field {number}")
            continue
        resource: dict[str, Any] = {}
        for inner, scoped in _fields(part, budget, out):
            if inner == _RESOURCE:
                resource = _resource(scoped, out)
            elif inner == _SCOPES:
                _scope(_KINDS[signal], scoped, resource, budget, out)
            elif inner != 3:
                out.problem(f"resource field {inner}")
    if budget[0] <= 0:
        out.problem("more fields than are read")
    return out


def _scope(kind: str, data: memoryview, resource: dict[str, Any], budget: list[int], out: Items) -> None:
    scope = ""
    for number, part in _fields(data, budget, out, clip=False):
        if number == _SCOPE:
            scope = _scope_name(part, out)
        elif number == _ITEMS:
            if not out.room():
                continue
            if len(part) > MAX_ITEM:
                out.problem(f"a {kind} over {MAX_ITEM >> 20} MiB")
                continue
            item = _item(kind, part, out)
            if item is not None:
                item.resource, item.scope = resource, scope
                out.items.append(item)
        elif number != 3:
            out.problem(f"scope field {number}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(len(data), at + 10)):
        value |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return value, place + 1
        shift += 7
    return -1, at


def _fields(data: memoryview, budget: list[int], out: Items, *, clip: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of the fields with a length; the others have no meaning here and are counted. With `clip` the
    last may break off: it holds others that are whole."""
    at = 0
    while at < len(data):
        budget[0] -= 1
        tag, at = _varint(data, at)
        size = {0: 0, 1: 8, 2: 0, 5: 4}.get(tag & 7, -1) if tag > 7 else -1
        if size < 0 or budget[0] <= 0:
            out.problem("bytes that are no fields")
            return
        if tag & 7 == 0 or tag & 7 == 2:
            value, at = _varint(data, at)
            if value < 0 or (tag & 7 == 2 and value > len(data) - at):
                out.problem("a message that breaks off")
                if value > 0 and clip:
                    yield tag >> 3, data[at:]
                return
            size = value if tag & 7 == 2 else 0
        if tag & 7 == 2:
            yield tag >> 3, data[at : at + size]
        else:
            out.problem(f"field {min(tag >> 3, 10_000)} of another type")
        at += size


def _resource(data: memoryview, out: Items) -> dict[str, Any]:
    found = _parsed(Resource, data, out)
    return _attributes(found.attributes, out) if found is not None else {}


def _scope_name(data: memoryview, out: Items) -> str:
    found = _parsed(InstrumentationScope, data, out)
    return f"{text_of(found.name)[:200]} {text_of(found.version)[:100]}".strip() if found is not None else ""


def _parsed(kind: Any, data: memoryview, out: Items) -> Any:
    if len(data) > MAX_ITEM:
        out.problem("a message that is too long")
        return None
    try:
        found = kind.FromString(bytes(data))
    except DecodeError:
        out.unreadable += 1
        return None
    out.problem(f"unknown fields of a {kind.DESCRIPTOR.name}", len(UnknownFieldSet(found)))
    return found


def _item(kind: str, data: memoryview, out: Items) -> Item | None:
    if kind == "span":
        span = _parsed(Span, data, out)
        return _span(span, out) if span is not None else None
    if kind == "log":
        log = _parsed(LogRecord, data, out)
        return _log(log, out) if log is not None else None
    metric = _parsed(Metric, data, out)
    if metric is None:
        return None
    which = metric.WhichOneof("data")
    points = len(getattr(metric, which).data_points) if which else 0
    return Item("metric", text_of(metric.name), {"unit": text_of(metric.unit), "type": which or ""}, points=points)


def _span(span: Any, out: Items) -> Item:
    item = Item("span", text_of(span.name), _attributes(span.attributes, out))
    item.trace, item.span, item.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    item.start_ns, item.end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    item.failed, item.status = span.status.code == 2, text_of(span.status.message)
    item.events = [(text_of(e.name), _attributes(e.attributes, out)) for e in span.events[:MAX_EVENTS]]
    out.problem("events of spans that were left out", len(span.events) - len(item.events))
    return item


def _log(log: Any, out: Items) -> Item:
    item = Item("log", text_of(log.event_name), _attributes(log.attributes, out))
    item.trace, item.span = log.trace_id.hex(), log.span_id.hex()
    item.start_ns = log.time_unix_nano or log.observed_time_unix_nano
    item.body = _value(log.body, 0, out) if log.HasField("body") else None
    item.status = text_of(log.severity_text)
    return item


def _attributes(pairs: Any, out: Items) -> dict[str, Any]:
    out.problem("attributes that were left out", max(0, len(pairs) - MAX_ATTRIBUTES))
    return {text_of(pair.key)[:400]: _value(pair.value, 0, out) for pair in pairs[:MAX_ATTRIBUTES]}


def _value(value: AnyValue, depth: int, out: Items) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    held = getattr(value, which)
    if which == "string_value":
        return text_of(held)
    if which == "array_value":
        return [_value(one, depth + 1, out) for one in held.values[:MAX_ATTRIBUTES]] if depth < MAX_DEPTH else "…"
    if which == "kvlist_value":
        if depth >= MAX_DEPTH:
            return "…"
        pairs = held.values[:MAX_ATTRIBUTES]
        return {text_of(pair.key)[:400]: _value(pair.value, depth + 1, out) for pair in pairs}
    return held
