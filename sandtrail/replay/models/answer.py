"""What the decoders share: values that are never trusted, and how an answer's state follows from its exchange."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sandtrail.replay.models import sse
from sandtrail.replay.models.body import content_type, load_json, opening
from sandtrail.replay.models.call import ModelCall, ToolCall, scrub
from sandtrail.replay.models.exchange import Exchange

__all__ = [
    "DONE",
    "as_json",
    "as_objects",
    "as_text",
    "event_of",
    "events_of",
    "flowing",
    "is_event_stream",
    "name_odd_bytes",
    "object_of",
    "once",
    "read_answer",
    "request_of",
    "runs",
    "settle",
    "tool_call",
    "whole_answer",
]

MAX_TEXT = 10_000
DONE = "[DONE]"
"""With this many a stream ends."""


def as_text(value: Any) -> str:
    """A string as it is, anything else as Python shows it, capped; nothing as an empty string."""
    if isinstance(value, str):
        return scrub(value)
    try:
        return "" if value is None else scrub(str(value)[:MAX_TEXT])
    except RecursionError:
        return "[nested too deeply to show]"


def as_json(value: Any) -> str:
    """A value that came as JSON, as JSON again; a string as it is, nothing as an empty string."""
    if isinstance(value, str):
        return scrub(value)
    try:
        return "" if value is None else scrub(json.dumps(value, ensure_ascii=False))
    except (RecursionError, TypeError, ValueError):
        return as_text(value)


def tool_call(ident: str, name: str, arguments: Any, server: bool = False, free: bool = False) -> ToolCall:
    """A tool call whose arguments are text as the model wrote it or, where the API reads it, a value of JSON."""
    text = as_json(arguments)
    parsed = arguments if not isinstance(arguments, str) else load_json(text)[0] if text else None
    return ToolCall(ident, name, text, parsed, server, free)


def flowing(pieces: Iterable[str | None]) -> str:
    """The words of an answer's blocks: those that follow each other run on, what stands between (None) parts them."""
    out: list[str] = []
    parted = False
    for piece in pieces:
        if piece is None:
            parted = bool(out)
        elif piece:
            out.append(f"\n{piece}" if parted else piece)
            parted = False
    return scrub("".join(out))


def runs[T](blocks: Iterable[T], alone: Callable[[T], bool]) -> Iterator[list[T]]:
    """Blocks of a message that belong together, in order: each that `alone` picks by itself, those between together."""
    run: list[T] = []
    for block in blocks:
        if not alone(block):
            run.append(block)
            continue
        if run:
            yield run
        yield [block]
        run = []
    if run:
        yield run


def once(call: ModelCall, text: str) -> None:
    """Name a problem that may come again many times."""
    if scrub(text)[:300] not in call.problems:
        call.problem(text)


def request_of(call: ModelCall, request: Any) -> dict[str, Any] | None:
    """The JSON object that a request is; None where it is none, which is told."""
    if request is not None and not isinstance(request, dict):
        call.problem("the request is not a JSON object")
    return request if isinstance(request, dict) else None


def object_of(call: ModelCall, data: bytes | str, what: str) -> dict[str, Any] | None:
    """The JSON object that an answer or a part of it is; None where it is none, which is told."""
    found, trouble = load_json(data)
    if isinstance(found, dict):
        return found
    call.problem(f"{what} is not a JSON object{f': {trouble}' if trouble else ''}")
    return None


def events_of(call: ModelCall, response: bytes) -> Iterator[sse.ServerEvent]:
    """The events of a streamed answer, to the one that says that no more will come; what is no event is told."""
    stray: list[str] = []
    done = False
    for event in sse.parse(response, stray):
        if done:
            once(call, "events after the stream's end, which no client reads")
            break
        done = event.data.strip() == DONE
        if not (event.ended or done):
            once(call, "the last event has no end: it is shown, and clients drop it")
        yield event
    if stray:
        call.problem(f"{len(stray)} lines of the stream are of no event: {stray[0][:80]}")
        found = load_json("\n".join(stray))[0]
        error = found.get("error") if isinstance(found, dict) else None
        if error is not None and call.error is None:
            said = error.get("message", error) if isinstance(error, dict) else error
            call.error = as_text(said)[:2000]


def event_of(call: ModelCall, event: sse.ServerEvent, what: str) -> dict[str, Any] | None:
    """The JSON object of a stream's event; one that says by its name that it is an error may be of another form."""
    found = object_of(call, event.data, what)
    if found is None and event.event == "error":
        call.error = scrub(event.data)[:2000]
    return found


def whole_answer(call: ModelCall, response: bytes) -> dict[str, Any] | None:
    """The JSON object that an answer is which came as a whole; one that only begins as such was cut."""
    found = object_of(call, response, "the answer")
    if found is None and opening(response)[:1] == b"{":
        # One that has a whole object and then more is not cut: it is something else.
        call.cut = call.cut or not load_json(response)[1].startswith("Extra data")
    return found


def as_objects(value: Any, limit: int, call: ModelCall, what: str) -> list[dict[str, Any]]:
    """The objects of a list, none where it is no list.

    Entries that are none, and those beyond `limit`, are told as problems of the call.
    """
    if not isinstance(value, list):
        if value is not None:
            call.problem(f"{what} is no list: {as_text(value)[:80]}")
        return []
    found = []
    for entry in value[:limit]:
        if isinstance(entry, dict):
            found.append(entry)
        else:
            call.problem(f"{what}: an entry that is no object: {as_text(entry)[:80]}")
    if len(value) > limit:
        call.problem(f"{what}: {len(value) - limit} entries left out")
    return found


_NO_EVENTS = (b"{", b"[", b"<")
"""How a body begins that is JSON or a page, whatever its header says."""


def is_event_stream(call: ModelCall, exchange: Exchange, response: bytes) -> bool:
    """Whether the answer is a stream of server-sent events. What it looks like wins over what its header says."""
    media, head = content_type(exchange.response_headers), opening(response)
    streamed = head.startswith(sse.BEGINNINGS) or (media == "text/event-stream" and not head.startswith(_NO_EVENTS))
    if streamed and response and media not in ("text/event-stream", ""):
        call.problem(f"a stream of events, sent as {media[:60]}")
    return streamed


def name_odd_bytes(call: ModelCall, response: bytes) -> None:
    """Clients refuse what is not UTF-8; here U+FFFD stands in its place. Half a character at the end is a cut alone."""
    try:
        response.decode()
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            call.problem(f"the answer is not UTF-8 at byte {error.start}")


Reader = Callable[[ModelCall, bytes], None]


def read_answer(call: ModelCall, exchange: Exchange, response: bytes, stream: Reader, whole: Reader) -> ModelCall:
    """Read an answer, which is a stream of events, a whole, or nothing; then it is settled."""
    name_odd_bytes(call, response)
    if is_event_stream(call, exchange, response):
        call.streamed = True
        stream(call, response)
    elif response:
        call.streamed = False  # whatever was asked for
        whole(call, response)
    return settle(call, exchange, response)


def settle(call: ModelCall, exchange: Exchange, response: bytes) -> ModelCall:
    """After all was read: errors of HTTP and of the connection, and whether the answer was cut off."""
    said = scrub(response[:2000].decode("utf-8", "replace")).strip()
    broken = bool(exchange.response_cut or exchange.error)
    if exchange.status is not None and exchange.status >= 400 and call.error is None:
        call.error = said or f"HTTP {exchange.status}"
    if exchange.error and call.error is None and not call.choices:
        call.error = exchange.error
    if not call.choices and call.error is None:
        if said and exchange.response_done and not (call.streamed or call.cut or broken):
            call.error = said  # it came whole, and is something else: a page of a proxy's, say
        else:
            call.cut = True
        if not response:
            call.problem("no answer was seen")
    call.cut = call.cut or (broken and not call.finished)
    for tool in (tool for choice in call.choices for tool in choice.tool_calls):
        if tool.parsed is None and not tool.free and tool.arguments.strip() not in ("", "null"):
            once(call, f"the arguments of the tool call {tool.id[:80]} {tool.name[:80]} are not JSON")
    return call
