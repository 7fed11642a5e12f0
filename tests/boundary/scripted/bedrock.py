"""A scripted server of Bedrock Runtime: Converse, ConverseStream, and InvokeModel with and without a stream.

Invoked models speak Anthropic's Messages. Streams are written in AWS's event stream encoding.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

from tests.boundary.scripted import anthropic, story
from tests.boundary.scripted.server import Reply

MODEL = "scripted.bedrock-v1:0"
MEDIA = "application/vnd.amazon.eventstream"


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of an event stream; headers are strings."""
    head = b"".join(
        struct.pack(">B", len(name.encode()))
        + name.encode()
        + struct.pack(">BH", 7, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + head + payload
    return body + struct.pack(">I", zlib.crc32(body))


def event(kind: str, fields: dict[str, Any]) -> bytes:
    """One event of an answer."""
    heads = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return message(heads, json.dumps(fields).encode())


def exception(kind: str, said: str) -> bytes:
    """An error in the middle of a stream."""
    heads = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(heads, json.dumps({"message": said}).encode())


def chunk(inner: dict[str, Any]) -> bytes:
    """A chunk of InvokeModelWithResponseStream."""
    return event("chunk", {"bytes": base64.b64encode(json.dumps(inner).encode()).decode(), "p": "abcd"})


def reply(path: str, request: Any) -> Reply:
    """The next turn of the story."""
    operation = path.rpartition("/")[2]
    if operation == "converse":
        return Reply("application/json", json.dumps(converse(request)).encode())
    if operation == "converse-stream":
        return Reply(MEDIA, stream(converse(request)))
    if operation == "invoke":
        return Reply("application/json", json.dumps(anthropic.next_message(request)).encode())
    if operation == "invoke-with-response-stream":
        return Reply(MEDIA, [chunk(e) for e in anthropic.events(anthropic.next_message(request))])
    return Reply("application/json", b'{"message":"no such path"}', 404)


def converse(request: dict[str, Any]) -> dict[str, Any]:
    """Converse's answer to this conversation."""
    blocks = [block for m in request["messages"] for block in m["content"]]
    done = any("toolResult" in block for block in blocks)
    thought = {"reasoningContent": {"reasoningText": {"text": "".join(story.THOUGHT), "signature": "c2NyaXB0ZWQ="}}}
    use = {"toolUse": {"toolUseId": story.CALL_ID, "name": story.TOOL, "input": story.ARGUMENTS}}
    content = [{"text": "".join(story.LAST)}] if done else [thought, {"text": "".join(story.FIRST)}, use]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "end_turn" if done else "tool_use",
        "usage": {"inputTokens": 11, "outputTokens": 22, "totalTokens": 33},
        "metrics": {"latencyMs": 5},
    }


def stream(answer: dict[str, Any]) -> list[bytes]:
    """Converse's answer as the messages of an event stream."""
    out = [event("messageStart", {"role": "assistant", "p": "abc"})]
    for index, block in enumerate(answer["output"]["message"]["content"]):
        place = {"contentBlockIndex": index}
        deltas: list[dict[str, Any]]
        if "text" in block:
            deltas = [{"text": text} for text in story.pieces(block["text"])]
        elif "toolUse" in block:
            begun = {k: v for k, v in block["toolUse"].items() if k != "input"}
            out.append(event("contentBlockStart", {"start": {"toolUse": begun}, **place}))
            deltas = [{"toolUse": {"input": text}} for text in story.arguments()]
        else:
            told = block["reasoningContent"]["reasoningText"]
            deltas = [{"reasoningContent": {"text": text}} for text in story.pieces(told["text"])]
            deltas.append({"reasoningContent": {"signature": told["signature"]}})
        out += [event("contentBlockDelta", {"delta": delta, **place}) for delta in deltas]
        out.append(event("contentBlockStop", place))
    out.append(event("messageStop", {"stopReason": answer["stopReason"]}))
    return [*out, event("metadata", {"usage": answer["usage"], "metrics": answer["metrics"]})]
