"""The anthropic package, Messages, streamed."""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic
from common import DESCRIPTION, PARAMETERS, SYSTEM, TASK, TOOL_NAME, run

TOOL: Any = {"name": TOOL_NAME, "description": DESCRIPTION, "input_schema": PARAMETERS}

client = Anthropic()
messages: list[Any] = [{"role": "user", "content": TASK}]
while True:
    with client.messages.stream(
        model="claude-test", max_tokens=1000, system=SYSTEM, messages=messages, tools=[TOOL]
    ) as stream:
        message = stream.get_final_message()
    calls = [block for block in message.content if block.type == "tool_use"]
    if not calls:
        break
    messages.append(
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]}
    )
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": run(dict(call.input)["command"])} for call in calls
    ]
    messages.append({"role": "user", "content": results})
print("".join(block.text for block in message.content if block.type == "text"))
