"""Refusals of the gateway: by which rule, and whether the placeholder of a secret was on its way out."""

from __future__ import annotations

from typing import Any, Final

from sandtrail.replay.decode.text import as_int, as_text, fit

__all__ = ["attempts", "swaps", "why_refused"]

_WHAT: Final = ("secret", "fingerprint", "host", "in", "at")
_MOST_SWAPS: Final = 50


def attempts(frame: dict[str, Any], flow: str) -> list[tuple[str, int, str, int | None, dict[str, Any]]]:
    """The `http.exfiltration` event of an error frame; none where it tells of something else."""
    if frame.get("reason") != "exfiltration":
        return []
    detail: dict[str, Any] = {key: as_text(frame.get(key), 255) for key in (*_WHAT, "id", "message") if key in frame}
    return [
        (
            "http.exfiltration",
            as_int(frame.get("at_ns")),
            as_text(frame.get("host"), 255),
            None,
            {"flow": flow, **detail},
        )
    ]


def why_refused(frame: dict[str, Any]) -> dict[str, Any]:
    """What an error frame says beyond its message: who refused and why, the rule, the digest of the rules."""
    return {key: as_text(frame[key], 2048) for key in ("by", "reason", "rule", "rules") if frame.get(key)}


def swaps(frame: dict[str, Any]) -> list[dict[str, Any]]:
    """Which secrets a request got on its way out."""
    told = frame.get("secrets")
    items = told[:_MOST_SWAPS] if isinstance(told, list) else []
    return [fit({key: item[key] for key in _WHAT if key in item}, 2048) for item in items if isinstance(item, dict)]
