"""Conversations that the packages anthropic, google-genai and boto3 lead with a scripted server, whole and streamed.

A story asks, hands the result of the tool back, and ends with the second answer. It returns what the client itself made
of each answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3  # type: ignore[import-untyped]
from anthropic import Anthropic, AnthropicBedrock, DefaultHttpxClient
from botocore.config import Config  # type: ignore[import-untyped]
from google import genai
from google.genai import types

from tests.boundary.scripted import anthropic, bedrock, gemini, story

__all__ = ["RESULT", "STORIES", "Seen"]

RESULT = "exit code: 0\na.txt b.txt\n"
PARAMETERS = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
KEY = "sk-test-0123456789abcdefghijABCDEFGHIJ"


@dataclass
class Seen:
    """An answer as the client has it."""

    text: str
    reasoning: str
    tools: list[tuple[str | None, str, Any]]
    reason: str
    usage: dict[str, Any]
    id: str = ""
    model: str = ""
    streamed: bool = False


def _messages(client: Any, *, streamed: bool) -> list[Seen]:
    tool = {"name": story.TOOL, "description": "Runs a command.", "input_schema": PARAMETERS}
    asked: list[Any] = [{"role": "user", "content": story.QUESTION}]
    seen = []
    for _ in range(2):
        options = {
            "model": anthropic.MODEL, "max_tokens": 100, "system": story.SYSTEM, "messages": asked, "tools": [tool],
        }  # fmt: skip
        if streamed:
            with client.messages.stream(**options) as stream:
                message = stream.get_final_message()
        else:
            message = client.messages.create(**options)
        blocks = message.content
        seen.append(
            Seen(
                "".join(b.text for b in blocks if b.type == "text"),
                "".join(b.thinking for b in blocks if b.type == "thinking"),
                [(b.id, b.name, b.input) for b in blocks if b.type == "tool_use"],
                message.stop_reason,
                message.usage.model_dump(exclude_none=True),
                message.id,
                message.model,
                streamed,
            )
        )
        asked.append({"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in blocks]})
        results = [
            {"type": "tool_result", "tool_use_id": b.id, "content": RESULT} for b in blocks if b.type == "tool_use"
        ]
        asked.append({"role": "user", "content": results})
    return seen


def _anthropic(proxy: str, *, streamed: bool, beta: bool = False) -> list[Seen]:
    with Anthropic(base_url="http://model.test", api_key=KEY, http_client=DefaultHttpxClient(proxy=proxy)) as client:
        return _messages(client.beta if beta else client, streamed=streamed)


def _anthropic_on_bedrock(proxy: str, *, streamed: bool) -> list[Seen]:
    keys: dict[str, Any] = {"aws_access_key": "AKIDTEST", "aws_secret_key": "test", "aws_region": "us-east-1"}
    with AnthropicBedrock(base_url="http://model.test", http_client=DefaultHttpxClient(proxy=proxy), **keys) as client:
        return _messages(client, streamed=streamed)


def _gemini(proxy: str, *, streamed: bool, vertex: bool = False) -> list[Seen]:
    options = types.HttpOptions(base_url="http://model.test", client_args={"proxy": proxy})
    declared = types.FunctionDeclaration(name=story.TOOL, parameters_json_schema=PARAMETERS)
    config = types.GenerateContentConfig(
        system_instruction=story.SYSTEM,
        tools=[types.Tool(function_declarations=[declared])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    asked: list[Any] = [types.Content(role="user", parts=[types.Part(text=story.QUESTION)])]
    seen = []
    for _ in range(2):
        ask: dict[str, Any] = {"model": gemini.MODEL, "contents": asked, "config": config}
        with genai.Client(api_key=KEY, vertexai=vertex, http_options=options) as client:
            found = (
                list(client.models.generate_content_stream(**ask))
                if streamed
                else [client.models.generate_content(**ask)]
            )
        parts = [part for answer in found for part in answer.parts or []]
        calls = [part.function_call for part in parts if part.function_call]
        (reason,) = [c.finish_reason for a in found for c in a.candidates or [] if c.finish_reason]
        usage = found[-1].usage_metadata
        assert usage is not None
        seen.append(
            Seen(
                "".join(part.text for part in parts if part.text and not part.thought),
                "".join(part.text for part in parts if part.text and part.thought),
                [(call.id, call.name or "", call.args) for call in calls],
                reason.value,
                usage.model_dump(exclude_none=True, by_alias=True),
                found[-1].response_id or "",
                found[-1].model_version or "",
                streamed,
            )
        )
        asked.append(types.Content(role="model", parts=parts))
        results = [types.FunctionResponse(id=c.id, name=c.name, response={"output": RESULT}) for c in calls]
        asked.append(types.Content(role="user", parts=[types.Part(function_response=result) for result in results]))
    return seen


def _runtime(proxy: str) -> Any:
    config = Config(proxies={"http": proxy}, retries={"total_max_attempts": 1})
    keys = {"aws_access_key_id": "AKIDTEST", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    return boto3.client("bedrock-runtime", endpoint_url="http://model.test", config=config, **keys)


def _converse(proxy: str, *, streamed: bool) -> list[Seen]:
    client = _runtime(proxy)
    spec = {"toolSpec": {"name": story.TOOL, "inputSchema": {"json": PARAMETERS}}}
    asked: list[Any] = [{"role": "user", "content": [{"text": story.QUESTION}]}]
    seen = []
    for _ in range(2):
        options = {
            "modelId": bedrock.MODEL, "system": [{"text": story.SYSTEM}], "messages": asked,
            "toolConfig": {"tools": [spec]}, "requestMetadata": {"run": "7"},
        }  # fmt: skip
        if streamed:
            content, reason, usage = _gathered(client.converse_stream(**options)["stream"])
        else:
            answer = client.converse(**options)
            content, reason, usage = answer["output"]["message"]["content"], answer["stopReason"], answer["usage"]
        uses = [block["toolUse"] for block in content if "toolUse" in block]
        thoughts = [b["reasoningContent"]["reasoningText"]["text"] for b in content if "reasoningContent" in b]
        seen.append(
            Seen(
                "".join(block.get("text", "") for block in content),
                "".join(thoughts),
                [(use["toolUseId"], use["name"], use["input"]) for use in uses],
                reason,
                usage,
                streamed=streamed,
            )
        )
        asked.append({"role": "assistant", "content": content})
        results = [{"toolResult": {"toolUseId": u["toolUseId"], "content": [{"text": RESULT}]}} for u in uses]
        asked.append({"role": "user", "content": results})
    return seen


def _gathered(stream: Any) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """The content of a stream of Converse as its client hands it over, why it ended, and its usage."""
    blocks: dict[int, dict[str, Any]] = {}
    reason, usage = "", {}
    for event in stream:
        ((kind, fields),) = event.items()
        if kind == "contentBlockStart":
            blocks[fields["contentBlockIndex"]] = {"toolUse": {**fields["start"]["toolUse"], "input": ""}}
        elif kind == "contentBlockDelta":
            delta, place = fields["delta"], fields["contentBlockIndex"]
            if "text" in delta:
                blocks.setdefault(place, {"text": ""})["text"] += delta["text"]
            elif "toolUse" in delta:
                blocks[place]["toolUse"]["input"] += delta["toolUse"]["input"]
            else:
                held = blocks.setdefault(place, {"reasoningContent": {"reasoningText": {"text": ""}}})
                told = held["reasoningContent"]["reasoningText"]
                told["text"] += delta["reasoningContent"].get("text", "")
                told |= {k: v for k, v in delta["reasoningContent"].items() if k == "signature"}
        elif kind == "messageStop":
            reason = fields["stopReason"]
        elif kind == "metadata":
            usage = fields["usage"]
    content = [blocks[place] for place in sorted(blocks)]
    for block in content:
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return content, reason, usage


_MESSAGES = (anthropic.reply, "anthropic.messages")
_GENERATE = (gemini.reply, "gemini.generateContent")
_CONVERSE = (bedrock.reply, "bedrock.converse")
_INVOKE = (bedrock.reply, "bedrock.invoke")
STORIES: dict[str, tuple[Callable[..., Any], str, Callable[[str], list[Seen]]]] = {
    "anthropic": (*_MESSAGES, partial(_anthropic, streamed=False)),
    "anthropic_streamed": (*_MESSAGES, partial(_anthropic, streamed=True)),
    "anthropic_beta": (*_MESSAGES, partial(_anthropic, streamed=True, beta=True)),
    "anthropic_on_bedrock": (*_INVOKE, partial(_anthropic_on_bedrock, streamed=False)),
    "anthropic_on_bedrock_streamed": (*_INVOKE, partial(_anthropic_on_bedrock, streamed=True)),
    "gemini": (*_GENERATE, partial(_gemini, streamed=False)),
    "gemini_streamed": (*_GENERATE, partial(_gemini, streamed=True)),
    "gemini_on_vertex": (*_GENERATE, partial(_gemini, streamed=True, vertex=True)),
    "converse": (*_CONVERSE, partial(_converse, streamed=False)),
    "converse_streamed": (*_CONVERSE, partial(_converse, streamed=True)),
}
"""Of each: what the server answers, the API as we name it, and the client's part, which takes a proxy's address."""
