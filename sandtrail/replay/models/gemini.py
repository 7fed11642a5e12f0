"""Gemini's generateContent and streamGenerateContent: on the Gemini API, on Vertex AI, and inside of Code Assist.

Spec: the discovery documents of generativelanguage and aiplatform, GenerateContentRequest and GenerateContentResponse.
A streamed answer is server-sent events (`alt=sse`) or one JSON array of chunks. The path names the model; Code Assist
(`v1internal:…`) wraps request and answer into an object. Works on dicts, so that fields of later versions are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from sandtrail.replay.models.answer import (
    DONE,
    as_json,
    as_objects,
    as_text,
    events_of,
    is_event_stream,
    name_odd_bytes,
    request_of,
    settle,
)
from sandtrail.replay.models.body import load_json, opening
from sandtrail.replay.models.call import Message, ModelCall, scrub
from sandtrail.replay.models.exchange import Exchange
from sandtrail.replay.models.gemini_parts import answer, get, messages, system_text
from sandtrail.replay.models.gemini_stream import Candidate

__all__ = ["decode", "matches"]

MAX_CANDIDATES = 128
MAX_CONTENTS = 20_000
MAX_TOOLS = 1000
_VERBS = (":generateContent", ":streamGenerateContent")
_KEPT = ("cachedContent", "labels")


def matches(path: str, request: Any, response: bytes) -> bool:
    """Whether the path says so or, on another path, request and response both have the shape."""
    if unquote(path).rstrip("/").endswith(_VERBS):
        return True
    return isinstance(request, dict) and isinstance(request.get("contents"), list) and b'"candidates"' in response


def decode(exchange: Exchange, request: Any, response: bytes) -> ModelCall:
    """Read the call, however much of it is there. Never raises."""
    call = ModelCall(api="gemini.generateContent")
    head, _, verb = unquote(exchange.url.partition("?")[0]).rstrip("/").rpartition(":")
    if "/" in verb:
        head, verb = "", ""
    call.streamed = verb == "streamGenerateContent"
    _read_request(call, request)
    if "/models/" in head or "/tunedModels/" in head or "/endpoints/" in head:
        call.model = scrub(head.rpartition("/")[2])
    done = _read_answer(call, exchange, response)
    feedback = call.extra.get("promptFeedback")
    if isinstance(feedback, dict) and (blocked := get(feedback, "blockReason")) and not call.choices:
        said = as_text(get(feedback, "blockReasonMessage"))
        call.error = call.error or f"the prompt was blocked: {as_text(blocked)}{f': {said}' if said else ''}"
    whole = done or call.finished or (not call.streamed and opening(response)[:1] != b"{")
    call.cut = call.cut or (bool(response) and call.error is None and not whole)
    return settle(call, exchange, response)


def _read_request(call: ModelCall, request: Any) -> None:
    if isinstance(request, dict) and isinstance(inner := request.get("request"), dict):
        call.model = as_text(request.get("model"))
        request = inner
    if (request := request_of(call, request)) is None:
        return
    call.model = call.model or as_text(request.get("model"))
    system = get(request, "systemInstruction")
    if system:
        raw = system if isinstance(system, dict) else {"parts": system}
        call.messages.append(Message("system", system_text(system, call), raw=raw))
    contents = request.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    for raw in as_objects(contents, MAX_CONTENTS, call, "contents"):
        call.messages += messages(raw, call)
    if not isinstance(contents, list):
        call.problem("the request has no list of contents")
    tools = request.get("tools")
    for tool in as_objects([tools] if isinstance(tools, dict) else tools, MAX_TOOLS, call, "tools"):
        for name, value in tool.items():
            if name in ("functionDeclarations", "function_declarations"):
                call.tools += [as_text(one.get("name")) for one in as_objects(value, MAX_TOOLS, call, "tools")]
            else:
                call.tools.append(scrub(name))
    call.extra |= {name: get(request, name) for name in _KEPT if get(request, name) is not None}


def _read_answer(call: ModelCall, exchange: Exchange, response: bytes) -> bool:
    """Read the chunks, or the one that is the whole answer; whether its end was seen."""
    candidates: dict[int, Candidate] = {}
    name_odd_bytes(call, response)
    if is_event_stream(call, exchange, response):
        call.streamed, done = True, False
        for event in events_of(call, response):
            if event.data.strip() != DONE:
                chunk, trouble = load_json(event.data)
                if trouble and event.event == "error":
                    call.error = scrub(event.data)[:2000]
                _read_chunk(call, candidates, chunk, trouble)
    elif opening(response)[:1] == b"[":
        call.streamed, done = True, False
        for chunk, trouble in _elements(response.decode("utf-8-sig", "replace").strip()):
            done = chunk is None and not trouble
            if not done:
                _read_chunk(call, candidates, chunk, trouble)
    elif response:
        call.streamed = False
        chunk, trouble = load_json(response)
        _read_chunk(call, candidates, chunk, trouble)
        done = not trouble
    else:
        return False
    for index in sorted(candidates):
        candidate = candidates[index]
        call.choices.append(answer(index, candidate.content(), candidate.fields, call))
    return done


def _elements(text: str) -> Iterator[tuple[Any, str]]:
    """The elements of a JSON array as far as it goes, (value, "") each; then (None, "") at its end or (None, why)."""
    decoder, place = json.JSONDecoder(), 1
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        if text[place : place + 1] == "]":
            yield None, ""
            return
        if place >= len(text):
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except RecursionError:
            yield None, "nested too deeply"
            return
        except ValueError as error:
            yield None, str(error)[:120]
            return
        yield value, "" if value is not None else "null"


def _read_chunk(call: ModelCall, candidates: dict[int, Candidate], chunk: Any, trouble: str) -> None:
    if isinstance(chunk, list) and len(chunk) == 1:  # how an error may be written in a stream
        chunk = chunk[0]
    if not isinstance(chunk, dict):
        call.problem(f"a chunk that is not a JSON object{f': {trouble}' if trouble else ''}")
        return
    if isinstance(inner := chunk.get("response"), dict) and "candidates" not in chunk:
        chunk = {**{k: v for k, v in chunk.items() if k != "response"}, **inner}
    _read_top(call, chunk)
    raws = chunk.get("candidates")
    for place, raw in enumerate(raws if isinstance(raws, list) else []):
        index = raw.get("index", place) if isinstance(raw, dict) else -1
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            call.problem("a candidate that is no object, or whose index is no number")
        elif index not in candidates and len(candidates) >= MAX_CANDIDATES:
            call.problem("a candidate too many")
        else:
            candidates.setdefault(index, Candidate()).feed(raw, call)


def _read_top(call: ModelCall, chunk: dict[str, Any]) -> None:
    """Fields beside the candidates; of those that come again the last stands."""
    call.response_id = as_text(get(chunk, "responseId")) or call.response_id
    call.response_model = as_text(get(chunk, "modelVersion")) or call.response_model
    if isinstance(usage := get(chunk, "usageMetadata"), dict):
        call.usage = usage
    if (error := chunk.get("error")) is not None:
        said = as_text(error.get("message")) or as_json(error) if isinstance(error, dict) else as_text(error)
        call.error = said[:2000]
    feedback = get(chunk, "promptFeedback")
    if feedback is not None:
        call.extra["promptFeedback"] = feedback
    known = {"candidates", "responseId", "modelVersion", "usageMetadata", "error", "promptFeedback"}
    known |= {"response_id", "model_version", "usage_metadata", "prompt_feedback"}
    for key, value in chunk.items():
        if key not in known and value is not None and len(call.extra) < 100:
            call.extra[scrub(key)] = value
