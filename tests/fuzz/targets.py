"""What a fuzzer calls: `TARGETS`, name -> function. Each takes any bytes; none may raise, hang or grow without bound.

A target for a decoder of model calls takes bytes as `exchange_of` reads them. To add one: write a function of bytes,
put it into `TARGETS`, and give it a line in `SEEDS` from which a fuzzer finds its way into the format.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import cbor2

from sandtrail.collector.others.pieces import Lines, Piece
from sandtrail.replay.decode.gateway import Exchanges
from sandtrail.replay.decode.others import other_events, other_tree
from sandtrail.replay.decode.otlp import claim_events
from sandtrail.replay.decode.stdio import StdioStream
from sandtrail.replay.decode.text import fit, to_json
from sandtrail.replay.events import Event
from sandtrail.replay.models import Exchange, ModelCall, decode_exchange
from sandtrail.replay.models.contents import contents_of, of_query
from sandtrail.replay.models.mcp import decode_mcp
from sandtrail.replay.turns.exchanges import ExchangeReader
from sandtrail.replay.turns.mcp_rows import mcp_rows
from tests.boundary.scripted import bedrock
from tests.fuzz.seeds import OTHERS, VENDORS

__all__ = ["SEEDS", "TARGETS", "decoded", "exchange_of"]

_CODINGS = ("", "gzip", "br", "zstd", "deflate", "identity, gzip", "gzip, gzip", "x-unknown")
_MEDIA = ("application/json", "text/event-stream", "", "text/html", "application/vnd.amazon.eventstream")


def exchange_of(data: bytes, url: str, method: str = "POST") -> Exchange:
    """Bytes -> an exchange: one byte each for coding, media type, and flags; then request NUL response.

    Without the NUL all of it is the request. Flags: 1 the response was cut, 2 the request was, 4 it broke off, 8 its
    status is an error's, 16 the bodies came as chunks.
    """
    head, rest = data[:3].ljust(3, b"\0"), data[3:]
    asked, _, answered = rest.partition(b"\0")
    flags = head[2]
    media = _MEDIA[head[1] % len(_MEDIA)]
    headers = [("Content-Type", media), ("Content-Encoding", _CODINGS[head[0] % len(_CODINGS)])]
    exchange = Exchange("f", "1", method=method, url=url, response_headers=headers, status=500 if flags & 8 else 200)
    exchange.response_cut, exchange.request_cut = bool(flags & 1), bool(flags & 2)
    exchange.error = "broke off" if flags & 4 else None
    if flags & 16:
        exchange.request_chunks, exchange.chunks = bytearray(asked), bytearray(answered)
    else:
        exchange.request_body, exchange.response_body = asked, answered
    return exchange


def decoded(url: str, data: bytes, method: str = "POST") -> None:
    """Decode an exchange at this URL, and see that what comes out can be written down."""
    call = decode_exchange(exchange_of(data, url, method))
    if call is not None:
        json.dumps([*_words(call), call.problems], ensure_ascii=False).encode()
        assert len(call.problems) <= 50
        assert call.problems_total >= len(call.problems)


def _words(call: ModelCall) -> Iterator[Any]:
    """All of a call that a timeline may show."""
    yield from (call.model, call.conversation, call.previous, call.response_id, call.response_model, call.error)
    yield from call.tools
    for message in call.messages:
        yield from (message.role, message.text, message.tool_call_id)
        yield from ((tool.id, tool.name, tool.arguments) for tool in message.tool_calls)
    for choice in call.choices:
        yield from (choice.text, choice.reasoning, choice.refusal, choice.finish_reason)
        yield from ((result.text, result.tool_call_id, result.is_error) for result in choice.results)
        yield from ((tool.id, tool.name, tool.arguments) for tool in choice.tool_calls)


def framed(url: str, data: bytes) -> None:
    """Decode a binary event stream: after the request, NUL before each event; its first byte tells the kind.

    The payload of a chunk is what an invoked model sent; of other kinds it is the event.
    """
    head, *events = data.split(b"\0")
    body = b""
    for event in events[:100]:
        kind, payload = _KINDS[event[0] % len(_KINDS) if event else 0], event[1:]
        if kind == "chunk":
            payload = json.dumps({"bytes": base64.b64encode(payload).decode()}).encode()
        way = ":exception-type" if kind == "exception" else ":event-type"
        body += bedrock.message({way: kind, ":message-type": "exception" if kind == "exception" else "event"}, payload)
    decoded(url, b"\0\4\0" + head + b"\0" + body)


_KINDS = ("messageStart", "contentBlockStart", "contentBlockDelta", "messageStop", "metadata", "chunk", "exception")


def protocol(method: str, data: bytes) -> None:
    """Decode an exchange of the Model Context Protocol, and write its rows."""
    exchange = exchange_of(data, "https://h/mcp?session_id=s", method)
    exchange.request_headers = [("Mcp-Method", "tools/call"), ("Mcp-Name", "f"), ("Mcp-Param-A", "1")]
    said = decode_mcp(exchange)
    if said is not None:
        rows = list(mcp_rows({"flags": []}, said))
        json.dumps([rows, said.problems, said.link, said.version, said.peer], ensure_ascii=False).encode()
        assert len(said.problems) <= 50
        assert len(said.calls) <= 1000


def other(source: str, data: bytes) -> None:
    """A record of somebody else's gateway; of Envoy's as a message where its first byte is odd. What becomes of it is
    written down, and read as a call."""
    grpc = source == "envoy" and data[:1] in (b"1", b"\1")
    told = {"t": "record", "via": "grpc" if grpc else "file", "data": base64.b64encode(data[1:]).decode()}
    frames = Memory()
    frames.held["1.0"] = payload = json.dumps(told).encode()
    for kind, time_ns, thing, result, detail in other_events(source, payload):
        json.dumps([kind, thing], ensure_ascii=False).encode()
        assert abs(time_ns) < 1 << 63
        assert result is None or isinstance(result, int)
        text = to_json(detail)
        if kind == "http.exchange":
            event = Event("1.0", "s", "c", source, kind, time_ns, time_ns, 0, object=thing, detail=text)
            call = decode_exchange(ExchangeReader(frames).read(event))
            json.dumps([*_words(call)] if call else [], ensure_ascii=False).encode()
    json.dumps(fit(other_tree(payload)), ensure_ascii=False).encode()


_BLANK = b" \t\r\n\v\f[],"


def lines(data: bytes) -> None:
    """A log, cut anywhere: every byte of it that is no white space is in some record, or counted as cut."""
    whole, pieces = Lines(spread=True), list[Piece]()
    for part in (data[: len(data) // 2], data[len(data) // 2 :]):
        pieces += whole.feed(part)
    pieces += whole.finish()
    kept = sum(len(piece.data.translate(None, _BLANK)) for piece in pieces)
    assert kept == len(data.translate(None, _BLANK))


def websocket(data: bytes) -> None:
    """Messages of a WebSocket, NUL between them, the first byte odd where the client sent it: told, then read."""
    decoder, frames = Exchanges(), Memory()
    events: list[Any] = []
    opening = ({"t": "request", "method": "GET", "url": "https://h/v1/responses"}, {"t": "response", "status": 101})
    told = [{"flow": "f", "id": "a", **frame} for frame in opening]
    for message in data.split(b"\0")[:200]:
        way, text = ("client" if message[:1] and message[0] & 1 else "server"), base64.b64encode(message[1:]).decode()
        told.append({"t": "websocket", "flow": "f", "id": "a", "from": way, "kind": "text", "data": text})
    for number, frame in enumerate(told):
        frames.held[f"1.{number}"] = payload = json.dumps(frame).encode()
        events += decoder.feed(f"1.{number}", number, payload)
        if number == len(told) // 2:
            state, decoder = cbor2.dumps(decoder.dump()), Exchanges()
            decoder.load(cbor2.loads(state))
    events += decoder.finish()
    reader = ExchangeReader(frames)
    for kind, time_ns, thing, result, detail in events:
        if kind in ("http.request", "http.exchange"):
            event = Event(ref="1.0", kind=kind, time_ns=time_ns, object=thing, result=result, detail=to_json(detail))
            call = decode_exchange(reader.read(event))
            json.dumps(list(_words(call)) if call else None, ensure_ascii=False).encode()


class Memory:
    """Frames that are at hand."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def frame(self, ref: str) -> bytes:
        """A frame's payload."""
        return self.held[ref]

    def between(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        """From the first to the last named."""
        begin, end = int(first.split(".")[1]), int(last.split(".")[1])
        return ((f"1.{n}", self.held[f"1.{n}"]) for n in range(begin, end + 1))


def contents(media: str, data: bytes) -> None:
    """Name what a body carries; the first byte chooses a content coding."""
    coding = _CODINGS[(data[:1] or b"\0")[0] % len(_CODINGS)]
    disposition = data[1:200].decode("latin-1")
    headers = [("Content-Type", media), ("Content-Encoding", coding), ("Content-Disposition", disposition)]
    found = contents_of(data[1:], headers, decoded=False, cut=False, redacted=False)
    queried = of_query("https://h/?" + data[1:].decode("latin-1"))
    text = json.dumps([found, queried], ensure_ascii=False).encode()
    assert len(text) < 64 << 10


def claims(data: bytes) -> None:
    """An export as the receiver of claims frames it: its first byte says signal and protocol, the rest is the body."""
    first = data[0] if data else 0
    signal, protocol = ("traces", "logs", "metrics")[first % 3], ("grpc", "http/json")[first // 3 % 2]
    frame = {"t": "export", "signal": signal, "protocol": protocol, "body": base64.b64encode(data[1:]).decode()}
    for kind, _, thing, _, detail in claim_events(json.dumps(frame).encode()):
        assert kind.startswith("claim.")
        f"{thing}{to_json(detail)}".encode()


def stdio(data: bytes) -> None:
    """Decode what went through a command's stdout, cut into pieces where a NUL stands."""
    stream = StdioStream()
    for piece in data.split(b"\0"):
        told = {"t": "stdout", "bytes": len(piece), "data": base64.b64encode(piece).decode()}
        for event in stream.feed(json.dumps(told).encode()) + stream.feed(piece):
            assert len(to_json(event[4])) < 256 << 10


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "openai_chat": partial(decoded, "https://h/v1/chat/completions"),
    "openai_responses": partial(decoded, "https://h/v1/responses"),
    "websocket": websocket,
    "anthropic_messages": partial(decoded, "https://h/v1/messages"),
    "anthropic_vertex": partial(decoded, "https://h/v1/publishers/anthropic/models/m:streamRawPredict"),
    "gemini": partial(decoded, "https://h/v1beta/models/m:streamGenerateContent"),
    "bedrock_converse": partial(decoded, "https://h/model/m/converse-stream"),
    "bedrock_invoke": partial(decoded, "https://h/model/m/invoke-with-response-stream"),
    "bedrock_converse_events": partial(framed, "https://h/model/m/converse-stream"),
    "bedrock_invoke_chunks": partial(framed, "https://h/model/m/invoke-with-response-stream"),
    "any_path": partial(decoded, "https://h/"),
    "mcp_post": partial(protocol, "POST"),
    "mcp_stream": partial(protocol, "GET"),
    "multipart": partial(contents, "multipart/form-data; boundary=b"),
    "carried": partial(contents, "application/json"),
    "stdio": stdio,
    "claims": claims,
    "litellm": partial(other, "litellm"),
    "envoy": partial(other, "envoy"),
    "hubble": partial(other, "hubble"),
    "lines": lines,
}

SEEDS: Final[Mapping[str, tuple[bytes, ...]]] = {
    "openai_chat": (
        b'\0\0\0{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}\0'
        b'{"choices":[{"index":0,"message":{"content":"x","tool_calls":[{"id":"1","function":{"name":"f",'
        b'"arguments":"{}"}}]},"finish_reason":"stop"}],"usage":{}}',
        b'\0\1\0{"messages":[]}\0data: {"choices":[{"index":0,"delta":{"content":"x","tool_calls":[{"index":0,'
        b'"function":{"arguments":"{"}}]}}]}\n\ndata: [DONE]\n\n',
    ),
    "mcp_post": (
        b'\0\0\0{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"f","arguments":{"a":1},"_meta":'
        b'{"progressToken":1}}}\0{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"x"}],"isError":true,'
        b'"inputRequests":{"a":{"method":"sampling/createMessage","params":{"messages":[]}}}}}',
        b'\0\1\0[{"jsonrpc":"2.0","id":"1","method":"tools/list"},{"id":2,"result":{}}]\0data: {"id":"1","result":'
        b'{"tools":[{"name":"f"}]}}\n\ndata: {"method":"notifications/progress","params":{"progressToken":1}}\n\n',
    ),
    "multipart": (
        b"\0--b\r\nContent-Disposition: form-data; name=\"a\"; filename*=UTF-8''a%20b\r\nContent-Type: text/plain\r\n"
        b"\r\nx\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b--\r\n",
    ),
    "stdio": (b'{"jsonrpc":"2.0","id":1,\0"method":"tools/call"}\n\0{"t":"stdin","data":"e30K","end":true}',),
    "carried": (b'\0{"a":[{"b":"data:image/png;base64,' + b"QUJD" * 40 + b'"}]}', b"\0a=1&b=" + b"QUJD" * 40),
    "claims": (
        b'\0\n8\x126\x124*\x01aJ/\n\x15gen_ai.input.messages\x12\x16\n\x14[{"role":"user","parts"',
        b'\3{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a","events":[{"name":"gen_ai.choice","attributes":[]}],'
        b'"attributes":[{"key":"gen_ai.input.messages","value":{"stringValue":"[{\\"role\\":\\"user\\",\\"parts\\":'
        b'[{\\"type\\":\\"tool_call\\",\\"id\\":\\"1\\"}]}]"}},{"key":"gen_ai.prompt.0.tool_calls.0.id","value":'
        b'{"stringValue":"1"}},{"key":"openinference.span.kind","value":{"stringValue":"TOOL"}}]}]}]}]}',
        b'\4{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"gen_ai.tool.message","body":{"kvlistValue":'
        b'{"values":[{"key":"content","value":{"arrayValue":{"values":[{"intValue":"1"}]}}}]}}}]}]}]}',
    ),
    "mcp_stream": (
        b'\0\1\0\0event: endpoint\ndata: /m?session_id=1\n\ndata: {"jsonrpc":"2.0","id":1,"error":{"code":-32020,'
        b'"message":"x"}}\n\ndata: {"id":2,"method":"elicitation/create","params":{"message":"x"}}\n\n',
    ),
    "websocket": (
        b'1{"type":"response.create","model":"m","input":"x","stream_id":"a"}\0'
        b'0{"type":"response.created","stream_id":"a","response":{"id":"r"}}\0'
        b'1{"type":"response.steer","previous_response_id":"r","input":"y"}\0'
        b'0{"type":"response.output_text.delta","stream_id":"a","output_index":0,"content_index":0,"delta":"x"}\0'
        b'0{"type":"response.completed","stream_id":"a","response":{"id":"r","status":"completed"}}\0'
        b'0{"type":"response.created","response":{"id":"s","previous_response_id":"r"}}\0'
        b'0{"type":"error","error":{"message":"x"}}',
    ),
    "openai_responses": (
        b'\0\0\0{"model":"m","instructions":"i","previous_response_id":"r","tools":[{"type":"custom","name":"t"}],"input":['
        b'{"role":"user","content":[{"type":"input_text","text":"x"}]},{"type":"reasoning","summary":[]},'
        b'{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output",'
        b'"call_id":"c","output":"x"},{"type":"shell_call_output","call_id":"c","output":[{"stdout":"x","outcome":'
        b'{"type":"exit","exit_code":0}}]}]}\0{"id":"r","object":"response","status":"completed","output":[{"type":'
        b'"message","role":"assistant","content":[{"type":"output_text","text":"x"}]},{"type":"mcp_call","id":"m",'
        b'"name":"n","arguments":"{}","output":"x"}],"usage":{}}',
        b'\0\1\0{"input":"x"}\0data: {"type":"response.created","sequence_number":0,"response":{"id":"r"}}\n\n'
        b'data: {"type":"response.output_item.added","output_index":0,"item":{"type":"function_call"}}\n\n'
        b'data: {"type":"response.function_call_arguments.delta","output_index":0,"delta":"{"}\n\n'
        b'data: {"type":"response.content_part.added","output_index":1,"content_index":0,"part":{}}\n\n'
        b'data: {"type":"response.output_text.delta","output_index":1,"content_index":0,"delta":"x"}\n\n'
        b'data: {"type":"response.shell_call_command.delta","output_index":2,"command_index":0,"delta":"x"}\n\n'
        b'data: {"type":"response.completed","response":{"status":"completed","output":[]}}\n\n',
    ),
    **VENDORS,
    **OTHERS,
    "any_path": (
        b'\0\0\0{"messages":[]}\0{"type":"message","stop_reason":"x"}',
        b'\0\0\0{"contents":[]}\0{"candidates":[]}',
        b'\0\0\0{"messages":[]}\0{"object":"chat.completion","choices":[]}',
    ),
}
"""Where to begin: inputs of the shape that a target reads."""
