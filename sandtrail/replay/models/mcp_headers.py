"""Where the headers of an MCP request say something else than its body (revision 2026-07-28, HeaderMismatch -32020).

Proxies route, allow and log by these headers. A client that says one thing there and another in the body deceives them;
the server has to refuse it, and this is for the case that it did not.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from sandtrail.replay.models.body import Headers, header
from sandtrail.replay.models.call import scrub
from sandtrail.replay.models.mcp_words import NAMED_BY, name_of

__all__ = ["contradictions", "plain_value"]

MODERN = "2026-07-28"
_VERSION = "io.modelcontextprotocol/protocolVersion"
_PARAM = "mcp-param-"
MAX_LEAVES = 5000


def contradictions(headers: Headers, method: str, params: dict[str, Any]) -> list[str]:
    """What is wrong, in words; empty for a request of an older revision, which repeats nothing in headers."""
    said = header(headers, "mcp-protocol-version")
    meta = params.get("_meta")
    version = meta.get(_VERSION) if isinstance(meta, dict) else None
    names = [key.lower() for key, _ in headers]
    if version is None and "mcp-method" not in names and said < MODERN:
        return []
    found = [
        f"the header {name} comes {names.count(name)} times"
        for name in ("mcp-protocol-version", "mcp-method", "mcp-name")
        if names.count(name) > 1
    ]
    found += _compared("MCP-Protocol-Version", said, version)
    found += _compared("Mcp-Method", header(headers, "mcp-method"), method)
    if method in NAMED_BY and method != "resources/subscribe":
        found += _compared("Mcp-Name", plain_value(header(headers, "mcp-name")), name_of(method, params) or None)
    found += _params(headers, params.get("arguments"))
    return [scrub(text)[:500] for text in found]


def _compared(name: str, said: str | None, meant: Any) -> list[str]:
    if meant is None:
        return [f"the header {name} says {said!r}, the body says nothing"] if said else []
    if not said:
        return [f"the header {name} is not there, the body says {str(meant)[:200]!r}"] if said is not None else []
    return [] if said == meant else [f"the header {name} says {said[:200]!r}, the body says {str(meant)[:200]!r}"]


def _params(headers: Headers, arguments: Any) -> Iterator[str]:
    """Which argument a `Mcp-Param-…` repeats is in the tool's schema; without that, some argument has to be it."""
    values: set[str] | None = None
    for key, raw in headers:
        if not key.lower().startswith(_PARAM):
            continue
        values = values if values is not None else set(_leaves(arguments))
        value = plain_value(raw)
        if value is None:
            yield f"the header {key[:100]} is not well coded"
        elif value not in values and not _number(value, values):
            yield f"the header {key[:100]} says {value[:200]!r}, which no argument is"


def _leaves(value: Any) -> Iterator[str]:
    stack, seen = [value], 0
    while stack and seen < MAX_LEAVES:
        node = stack.pop()
        seen += 1
        if isinstance(node, dict):
            stack += list(node.values())[:MAX_LEAVES]
        elif isinstance(node, list):
            stack += node[:MAX_LEAVES]
        elif isinstance(node, bool):
            yield "true" if node else "false"
        elif isinstance(node, str):
            yield node
        elif isinstance(node, int | float):
            try:
                yield str(node)
            except ValueError:  # more digits than Python writes
                continue


def _number(value: str, values: set[str]) -> bool:
    """42 and 42.0 are one number."""
    whole, point, rest = value.partition(".")
    return (bool(point) and set(rest) <= {"0"} and whole in values) or f"{value}.0" in values


def plain_value(value: str) -> str | None:
    """A header's value without the `=?base64?…?=` that carries what a header cannot; None where that is broken."""
    if not (value.startswith("=?base64?") and value.endswith("?=") and len(value) >= 11):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, ValueError):
        return None
