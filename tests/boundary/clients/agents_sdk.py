"""The openai-agents package: its own loop around a function tool, streamed."""

from __future__ import annotations

import asyncio

from agents import Agent, Runner, function_tool, set_tracing_disabled
from common import SYSTEM, TASK, TOOL_NAME
from common import run as run_command

set_tracing_disabled(True)


@function_tool(name_override=TOOL_NAME)
def run(command: str) -> str:
    """Runs a shell command."""
    return run_command(command)


async def main() -> None:
    result = Runner.run_streamed(Agent(name="tester", model="gpt-test", instructions=SYSTEM, tools=[run]), TASK)
    async for _ in result.stream_events():
        pass
    print(result.final_output)


asyncio.run(main())
