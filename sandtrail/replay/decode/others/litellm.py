"""LiteLLM's records -> one http.exchange a call; messages and answer stay in the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sandtrail.replay.decode.others.drafted import Drafted, number
from sandtrail.replay.decode.text import as_text, fit
from sandtrail.replay.models.litellm import FLOW, exchange_frames, is_call

__all__ = ["call_id", "litellm_events"]

_TOLD: Final = (
    *("call_type", "status", "model", "model_group", "custom_llm_provider", "api_base", "cache_hit", "stream"),
    *("trace_id", "session_id", "end_user", "requester_ip_address", "user_agent", "total_tokens", "response_cost"),
)


def call_id(record: Mapping[str, Any]) -> str:
    """LiteLLM's own id of a call; of versions that give none, the answer's."""
    return as_text(record.get("litellm_call_id") or record.get("id"), 200)


def litellm_events(record: dict[str, Any]) -> list[Drafted]:
    """The event of one record."""
    if not is_call(record):
        told = fit({key: record.get(key) for key in ("message", "level", "timestamp")}, 2000)
        return [("unknown", 0, "a line of LiteLLM's log that tells of no call", None, {"type": FLOW, **told})]
    asked, answered = exchange_frames(record, call_id(record))
    told = {key: record[key] for key in _TOLD if record.get(key) not in (None, "", [], {})}
    response = record.get("response")
    detail = {
        "flow": FLOW,
        "id": asked["id"],
        "via": FLOW,
        "method": asked["method"],
        "url": as_text(asked["url"], 2000),
        "status": number(answered["status"]),
        "start_ns": asked["start_ns"],
        "first_ns": answered["start_ns"],
        "end_ns": answered["end_ns"],
        "response_id": as_text(response.get("id"), 2000) if isinstance(response, Mapping) else "",
        "told": fit(told, 4000),
    }
    return [("http.exchange", asked["start_ns"], f"POST {detail['url']}", detail["status"], detail)]
