"""boto3, Bedrock's ConverseStream."""

from __future__ import annotations

import json
from typing import Any

import boto3
from common import DESCRIPTION, PARAMETERS, SYSTEM, TASK, TOOL_NAME, run

client = boto3.client("bedrock-runtime", region_name="us-east-1")
tools: Any = {
    "tools": [{"toolSpec": {"name": TOOL_NAME, "description": DESCRIPTION, "inputSchema": {"json": PARAMETERS}}}]
}
messages: list[Any] = [{"role": "user", "content": [{"text": TASK}]}]
while True:
    answer = client.converse_stream(
        modelId="anthropic.claude-test-v1:0", system=[{"text": SYSTEM}], messages=messages, toolConfig=tools
    )
    blocks: dict[int, dict[str, Any]] = {}
    for event in answer["stream"]:
        if start := event.get("contentBlockStart"):
            blocks[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"], "input": ""}}
        elif delta := event.get("contentBlockDelta"):
            index, piece = delta["contentBlockIndex"], delta["delta"]
            if "text" in piece:
                blocks.setdefault(index, {"text": ""})["text"] += piece["text"]
            elif "toolUse" in piece:
                blocks[index]["toolUse"]["input"] += piece["toolUse"]["input"]
    content = [blocks[index] for index in sorted(blocks)]
    calls = [block["toolUse"] for block in content if "toolUse" in block]
    for call in calls:
        call["input"] = json.loads(call["input"])
    if not calls:
        break
    messages.append({"role": "assistant", "content": content})
    results = [
        {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": run(call["input"]["command"])}]}}
        for call in calls
    ]
    messages.append({"role": "user", "content": results})
print("".join(block.get("text", "") for block in content))
