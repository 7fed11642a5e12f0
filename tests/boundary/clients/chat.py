"""The openai package, Chat Completions, streamed."""

from __future__ import annotations

from typing import Any

from common import DESCRIPTION, PARAMETERS, SYSTEM, TASK, TOOL_NAME, run_json
from openai import OpenAI

TOOL: Any = {"type": "function", "function": {"name": TOOL_NAME, "description": DESCRIPTION, "parameters": PARAMETERS}}

client = OpenAI()
messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": TASK}]
while True:
    with client.chat.completions.stream(model="gpt-test", messages=messages, tools=[TOOL]) as stream:
        message = stream.get_final_completion().choices[0].message
    if not message.tool_calls:
        break
    messages.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
    for call in message.tool_calls:
        result = run_json(call.function.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
print(message.content)
