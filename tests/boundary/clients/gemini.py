"""The google-genai package, generateContent, streamed."""

from __future__ import annotations

from typing import Any

from common import DESCRIPTION, PARAMETERS, SYSTEM, TASK, TOOL_NAME, run
from google import genai
from google.genai import types

client = genai.Client()
tool = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name=TOOL_NAME, description=DESCRIPTION, parameters_json_schema=PARAMETERS)
    ]
)
config = types.GenerateContentConfig(
    system_instruction=SYSTEM,
    tools=[tool],
    automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
)
contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=TASK)])]
while True:
    parts: list[types.Part] = []
    for chunk in client.models.generate_content_stream(model="gemini-test", contents=contents, config=config):
        for candidate in chunk.candidates or []:
            parts += (candidate.content.parts or []) if candidate.content else []
    calls = [part.function_call for part in parts if part.function_call]
    if not calls:
        break
    contents.append(types.Content(role="model", parts=parts))
    answers = [
        types.Part(
            function_response=types.FunctionResponse(
                id=call.id, name=call.name, response={"output": run((call.args or {})["command"])}
            )
        )
        for call in calls
    ]
    contents.append(types.Content(role="user", parts=answers))
print("".join(part.text or "" for part in parts))
