"""Exchanges as decoders get them, made of Python values."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from sandtrail.replay.models import Exchange, ModelCall, decode_exchange


def _json(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=10,
    )


json_values = _json(st.floats())
finite_values = _json(st.floats(allow_nan=False, allow_infinity=False))
"""What JSON itself can say: Python's also writes NaN and Infinity."""


def shaped(*fields: str) -> st.SearchStrategy[Any]:
    """Values whose objects often have these fields, with anything in them."""
    return st.recursive(
        json_values | st.sampled_from(fields),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(fields), inner, max_size=6),
        max_leaves=20,
    )


def exchange(answer: Any, ask: Any, url: str, media: str = "application/json", status: int = 200) -> Exchange:
    """An exchange; what is not bytes already becomes JSON."""
    return Exchange(
        "f",
        "1",
        method="POST",
        url=url,
        request_body=ask if isinstance(ask, bytes) else json.dumps(ask).encode(),
        status=status,
        response_headers=[("Content-Type", media)] if media else [],
        response_body=answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
        response_done=True,
    )


def read(answer: Any, ask: Any, url: str, media: str = "application/json", status: int = 200) -> ModelCall:
    """The call that an exchange is."""
    call = decode_exchange(exchange(answer, ask, url, media, status))
    assert call is not None
    return call


def odd(call: ModelCall) -> list[str]:
    """The problems of a call, those aside that generated arguments of tools have: they need not be JSON."""
    return [problem for problem in call.problems if not problem.endswith("are not JSON")]


def without_none(value: Any) -> Any:
    """The value without fields that are null: vendors' types write those that are absent so."""
    if isinstance(value, dict):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    return [without_none(v) for v in value] if isinstance(value, list) else value


def showable(call: ModelCall) -> None:
    """Fail where something of the call is not text that UTF-8 can carry."""
    said = [[c.text, c.reasoning, c.refusal, c.finish_reason] for c in call.choices]
    tools = [[t.id, t.name, t.arguments] for c in call.choices for t in c.tool_calls]
    heard = [[m.role, m.text, m.tool_call_id] for m in call.messages]
    parts = [call.model, call.error, call.problems, call.response_id, call.response_model, call.tools]
    json.dumps([said, tools, heard, parts], ensure_ascii=False).encode()
