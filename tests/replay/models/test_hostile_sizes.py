"""Megabytes that were made to be slow to read: the time grows with their size, and not with its square.

Each of these took from eight seconds to minutes while something was looked through again for every piece; the limit is
far above what it takes now on a slow machine.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from sandtrail.replay.models import Exchange, decode_exchange
from sandtrail.replay.models.mcp import decode_mcp
from tests.replay.models.talk import exchange

MB = 1 << 20
SECONDS = 5
EVENTS = "text/event-stream"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def many(piece: Callable[[int], bytes], size: int, between: bytes = b"") -> bytes:
    return between.join(piece(n) for n in range(size // (len(piece(10_000)) + len(between))))


def chat(delta: Callable[[int], dict[str, Any]], size: int) -> Exchange:
    body = many(lambda n: event({"choices": [{"index": 0, "delta": delta(n)}]}), size)
    return exchange(body, ASK, "http://m/v1/chat/completions", EVENTS)


def anthropic(told: Callable[[int], dict[str, Any]], size: int) -> Exchange:
    return exchange(many(lambda n: event(told(n)), size), ASK, "http://m/v1/messages", EVENTS)


def converse(told: Callable[[int], dict[str, Any]], size: int) -> Exchange:
    def message(n: int) -> bytes:
        headers = b"".join(
            bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
            for name, value in ((b":message-type", b"event"), (b":event-type", b"contentBlockDelta"))
        )
        payload = json.dumps(told(n)).encode()
        head = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
        whole = head + struct.pack(">I", zlib.crc32(head)) + headers + payload
        return whole + struct.pack(">I", zlib.crc32(whole))

    return exchange(many(message, size), {}, "http://m/model/x/converse-stream", "application/vnd.amazon.eventstream")


def asked(url: str, blocks: Callable[[int], bytes], content: str) -> Exchange:
    """A message of many other fields, and of blocks that make many messages of it."""
    fields = many(lambda n: b'"k%d":1' % n, MB // 2, b",")
    parts = many(blocks, MB // 2, b",")
    ask = b'{"%s":[{"role":"user",%s,"%s":[%s]}]}' % (
        b"contents" if content == "parts" else b"messages", fields, content.encode(), parts
    )  # fmt: skip
    return exchange({}, ask, url)


HOSTILE: dict[str, Callable[[], Exchange]] = {
    "tool calls of ever other indexes": lambda: chat(
        lambda n: {"tool_calls": [{"index": n + k} for k in range(9000)]}, 2 * MB
    ),
    "a name in ever other pieces": lambda: chat(lambda n: {"id": f"x{n}", "name": f"n{n}"}, 6 * MB),
    "entries of ever other indexes": lambda: chat(lambda n: {"a": {"b": [1, {"index": n}]}}, 8 * MB),
    "a message that begins again": lambda: anthropic(
        lambda n: {"type": "message_start", "message": {f"k{n}": n}}, 3 * MB
    ),
    "ever other counts": lambda: anthropic(
        lambda n: {"type": "message_delta", "delta": {}, "usage": {f"k{n}": n}}, 8 * MB
    ),
    "an unknown delta's id": lambda: anthropic(
        lambda n: {"type": "content_block_delta", "index": 0, "delta": {"type": "new", "id": f"a{n}"}}, 8 * MB
    ),
    "an unknown delta's name": lambda: converse(
        lambda n: {"contentBlockIndex": 0, "delta": {"new": {"id": f"a{n}"}}}, 8 * MB
    ),
    "results between words, anthropic": lambda: asked(
        "http://m/v1/messages", lambda n: b'{"type":"tool_result"},{"type":"text","text":"%d"}' % n, "content"
    ),
    "results between words, bedrock": lambda: asked(
        "http://m/model/x/converse", lambda n: b'{"toolResult":{"content":[]}},{"text":"%d"}' % n, "content"
    ),
    "results between words, gemini": lambda: asked(
        "http://m/v1beta/models/g:generateContent", lambda n: b'{"functionResponse":{}},{"text":"%d"}' % n, "parts"
    ),
    "a path of models": lambda: exchange({}, ASK, "http://m" + "/model/" * 30_000),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_calls_are_read_in_time(what: str) -> None:
    hostile = HOSTILE[what]()
    begun = time.process_time()
    decode_exchange(hostile)
    assert time.process_time() - begun < SECONDS


def test_an_answer_of_mcp_is_brought_to_the_last_of_many_questions_as_fast_as_to_the_first() -> None:
    def message(n: int, **more: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": n, **more}

    asks = [message(n, method="tools/call", params={"name": "t"}) for n in range(1000)]

    def seconds(answered: int) -> float:
        body = event(message(answered, result={})) * 10_000
        told = exchange(body, asks, "http://m/mcp", EVENTS)
        begun = time.process_time()
        assert decode_mcp(told) is not None
        return time.process_time() - begun

    assert min(seconds(999) for _ in range(3)) < 3 * min(seconds(0) for _ in range(3))
