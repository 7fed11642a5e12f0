"""The openai package, Responses, streamed over HTTP."""

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
items: list[Any] = [{"role": "user", "content": TASK}]
while True:
    with client.responses.stream(model="gpt-test", instructions=SYSTEM, input=items, tools=[TOOL]) as stream:
        response = stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    if not calls:
        break
    for call in calls:
        items.append({"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments})
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": run_json(call.arguments)})
print(response.output_text)
