"""A scripted model behind the real OpenAI Chat Completions API. It is no model: it plays the turns of a story.

`POST /v1/chat/completions` (streamed or not, with tools) and `GET /v1/models`, as in OpenAI's API reference. The server
keeps no state: how many answers the conversation already holds says which one is next, so the same conversation always
gets the same answer, and any number of agents can be served at once. What does not fit the script is refused with the
API's own error object. The model is called `scripted-demo-model` and every answer carries `x-scripted-model: true`, so
that nobody takes it for a real one.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deploy.demo import story

MAX_BODY = 4 << 20
CREATED = 1_735_689_600


class Refused(Exception):
    """A request that the script has no answer for; becomes the API's error object."""

    def __init__(self, status: HTTPStatus, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def next_turn(request: dict[str, Any]) -> int:
    """Which turn of the story answers this conversation; raises `Refused` where it is not one of ours."""
    if request.get("model") != story.MODEL:
        raise Refused(
            HTTPStatus.NOT_FOUND,
            f"The model {request.get('model')!r} does not exist; this server only plays {story.MODEL!r}.",
            "model_not_found",
            "model",
        )
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Refused(HTTPStatus.BAD_REQUEST, "'messages' must be a non-empty array of objects.", param="messages")
    if "bash" not in _tool_names(request.get("tools")):
        raise Refused(HTTPStatus.BAD_REQUEST, "The script needs a tool named 'bash'.", param="tools")
    turn = len([m for m in messages if m.get("role") == "assistant"])
    if turn >= len(story.TURNS):
        raise Refused(HTTPStatus.BAD_REQUEST, "The story is over: it has no answer to this.", "script_ended")
    _expect_results(messages, turn)
    return turn


def _tool_names(tools: object) -> list[object]:
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [function.get("name") for function in functions if isinstance(function, dict)]


def _expect_results(messages: list[dict[str, Any]], turn: int) -> None:
    """Every call of the previous turn must have its result, as the real API demands."""
    if not turn:
        return
    last = max(n for n, m in enumerate(messages) if m.get("role") == "assistant")
    answered = [m.get("tool_call_id") for m in messages[last:] if m.get("role") == "tool"]
    missing = [call["id"] for call in story.tool_calls(turn - 1) if call["id"] not in answered]
    if missing:
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(missing)}",
            param="messages",
        )


def _usage(request: dict[str, Any], turn: int) -> dict[str, int]:
    """Token counts, at a token for four bytes: a made-up model has no tokenizer."""
    asked = len(json.dumps(request["messages"])) // 4
    answered = (len(story.TURNS[turn].text) + len(json.dumps(story.tool_calls(turn)))) // 4
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def _envelope(turn: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-scripted{turn:04d}",
        "object": kind,
        "created": CREATED + turn,
        "model": story.MODEL,
        "system_fingerprint": "fp_scripted",
    }


def completion(request: dict[str, Any], turn: int) -> dict[str, Any]:
    """The whole answer in one object."""
    message = {
        "role": "assistant",
        "content": story.TURNS[turn].text,
        "refusal": None,
        "annotations": [],
        "tool_calls": story.tool_calls(turn),
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    return _envelope(turn, "chat.completion") | {"choices": [choice], "usage": _usage(request, turn)}


def chunks(request: dict[str, Any], turn: int) -> Iterator[dict[str, Any]]:
    """The same answer as the chunks of a stream: text word by word, then each call's arguments in pieces."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _envelope(turn, "chat.completion.chunk") | {"choices": [choice]}

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    for word in re.findall(r"\s*\S+", story.TURNS[turn].text):
        yield chunk({"content": word})
    for index, call in enumerate(story.tool_calls(turn)):
        arguments = call["function"]["arguments"]
        yield chunk({"tool_calls": [call | {"index": index, "function": {"name": "bash", "arguments": ""}}]})
        for at in range(0, len(arguments), 24):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + 24]}}]})
    yield chunk({}, "tool_calls")
    options = request.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        yield _envelope(turn, "chat.completion.chunk") | {"choices": [], "usage": _usage(request, turn)}


class Handler(BaseHTTPRequestHandler):
    """HTTP around the functions above."""

    protocol_version = "HTTP/1.1"
    server_version = "scripted-model"
    sys_version = ""
    server: ScriptedModel

    def do_GET(self) -> None:
        """`/v1/models`."""
        if self.path != "/v1/models":
            self._refuse(Refused(HTTPStatus.NOT_FOUND, f"Invalid URL (GET {self.path})"))
            return
        model = {"id": story.MODEL, "object": "model", "created": CREATED, "owned_by": "sandtrail-demo-script"}
        self._send(HTTPStatus.OK, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        """`/v1/chat/completions`."""
        try:
            request = self._request()
            turn = next_turn(request)
        except Refused as refused:
            self._refuse(refused)
            return
        time.sleep(self.server.pace_s)
        if request.get("stream"):
            self._stream(chunks(request, turn))
        else:
            self._send(HTTPStatus.OK, completion(request, turn))

    def _request(self) -> dict[str, Any]:
        size = self.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > MAX_BODY:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body of up to {MAX_BODY} bytes is needed.")
        body = self.rfile.read(int(size))
        if self.path != "/v1/chat/completions":
            raise Refused(HTTPStatus.NOT_FOUND, f"Invalid URL (POST {self.path})")
        if not self.headers.get("authorization", "").removeprefix("Bearer ").strip():
            raise Refused(HTTPStatus.UNAUTHORIZED, "You didn't provide an API key.", "invalid_api_key")
        try:
            request = json.loads(body)
        except ValueError as error:
            raise Refused(
                HTTPStatus.BAD_REQUEST, f"We could not parse the JSON body of your request: {error}"
            ) from None
        if not isinstance(request, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "The body of a request is a JSON object.")
        return request

    def _refuse(self, refused: Refused) -> None:
        self._send(refused.status, refused.body)

    def _head(self, status: HTTPStatus, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("x-scripted-model", "true")

    def _send(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self._head(status, "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, parts: Iterator[dict[str, Any]]) -> None:
        self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for text in [*map(json.dumps, parts), "[DONE]"]:
            event = f"data: {text}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the recording is the log."""


class ScriptedModel(ThreadingHTTPServer):
    """The server, on a loopback port of the system's choice unless one is given. `pace_s` is what an answer takes."""

    daemon_threads = True

    def __init__(self, port: int = 0, pace_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.pace_s = pace_s

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"


def main() -> None:
    """Serve until interrupted: `python -m deploy.demo.scripted_model`."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=8089)
    arguments.add_argument("--pace", type=float, default=0.0, help="seconds that every answer takes")
    given = arguments.parse_args()
    server = ScriptedModel(given.port, given.pace)
    print(f"{story.MODEL} (scripted, not a model) at {server.url}/v1")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
