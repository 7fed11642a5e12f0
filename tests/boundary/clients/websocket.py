"""The openai package, Responses over a WebSocket: one connection, one call after the other."""

from __future__ import annotations

from typing import Any

from common import DESCRIPTION, PARAMETERS, SYSTEM, TASK, TOOL_NAME, run_json
from openai import OpenAI

TOOL: Any = {
    "type": "function",
    "name": TOOL_NAME,
    "description": DESCRIPTION,
    "parameters": PARAMETERS,
    "strict": False,
}

client = OpenAI()
with client.responses.connect() as connection:
    items: Any = [{"type": "message", "role": "user", "content": TASK}]
    previous: dict[str, Any] = {}
    while True:
        connection.response.create(model="gpt-test", instructions=SYSTEM, input=items, tools=[TOOL], **previous)
        for event in connection:
            if event.type == "response.completed":
                break
        response = event.response
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            break
        previous = {"previous_response_id": response.id}
        items = [
            {"type": "function_call_output", "call_id": call.call_id, "output": run_json(call.arguments)}
            for call in calls
        ]
print(response.output_text)
