"""Answers of the Responses API as hypothesis makes them: any items, any end, any way to cut texts into deltas."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.boundary.scripted.openai import Map, Split, response

__all__ = ["answers", "splits"]

texts = st.text(max_size=12)
names = texts.filter(bool)
idents = st.text("abcdef0123456789", min_size=4, max_size=8)
json_texts = st.dictionaries(texts, texts, max_size=2).map(json.dumps) | texts


def _item(kind: str, **fields: Any) -> st.SearchStrategy[Map]:
    wanted = {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in fields.items()}
    return st.fixed_dictionaries({"type": st.just(kind), "status": st.just("completed"), **wanted})


_words = texts.map(lambda text: {"type": "output_text", "text": text, "annotations": []})
_refusals = texts.map(lambda text: {"type": "refusal", "refusal": text})
_summaries = texts.map(lambda text: {"type": "summary_text", "text": text})
_items = st.one_of(
    _item("message", role="assistant", content=st.lists(_words | _refusals, max_size=3)),
    _item("reasoning", summary=st.lists(_summaries, max_size=2), encrypted_content=st.none() | texts),
    _item("function_call", call_id=idents, name=names, arguments=json_texts),
    _item("custom_tool_call", call_id=idents, name=names, input=texts),
    _item("mcp_call", name=texts, server_label=texts, arguments=json_texts, output=st.none() | texts, error=None),
    _item("web_search_call", action=texts.map(lambda query: {"type": "search", "query": query})),
    _item("code_interpreter_call", code=texts, container_id="c", outputs=None),
    _item("file_search_call", queries=st.lists(texts, max_size=2), results=None),
    _item("image_generation_call", result=None),
    _item(
        "shell_call",
        call_id=idents,
        environment=None,
        action=st.lists(texts, max_size=2).map(lambda c: {"commands": c}),
    ),
    _item("local_shell_call", call_id=idents, action={"type": "exec", "command": ["ls"], "env": {}}),
    _item("apply_patch_call", call_id=idents, operation={"type": "create_file", "path": "a", "diff": "+"}),
    _item("computer_call", call_id=idents, action={"type": "screenshot"}, pending_safety_checks=[]),
)


@st.composite
def answers(draw: st.DrawFn) -> Map:
    """Whole answers; their events are those of tests/boundary/scripted/openai.py."""
    output = draw(st.lists(_items, max_size=5))
    for number, item in enumerate(output):
        item["id"] = f"item_{number}"
        if "call_id" in item:
            item["call_id"] += str(number)
    status = draw(st.sampled_from(["completed", "completed", "completed", "incomplete", "failed"]))
    more: Map = {}
    if status == "incomplete":
        more["incomplete_details"] = {"reason": draw(st.sampled_from(["max_output_tokens", "content_filter"]))}
    if status == "failed":
        more["error"] = {"code": "server_error", "message": draw(names)}
    if draw(st.booleans()):
        more["conversation"] = {"id": draw(idents)}
    else:
        more["previous_response_id"] = draw(st.none() | idents)
    return response(f"resp_{draw(idents)}", draw(st.sampled_from(["m-1", "m-2"])), output, status, **more)


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """Ways to cut a text: pieces of these sizes, over and over."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))

    def split(text: str) -> list[str]:
        out: list[str] = []
        while text:
            size = sizes[len(out) % len(sizes)]
            out.append(text[:size])
            text = text[size:]
        return out

    return split
