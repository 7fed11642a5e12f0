"""An MCP server for tests: the mcp package's own, with tools that succeed, fail, report, ask the model and the user.

Run as a program: `mcp_server.py http|sse|json PORT`, or `mcp_server.py stdio`.
"""

from __future__ import annotations

import sys
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import SamplingMessage, TextContent, ToolAnnotations
from pydantic import BaseModel

server = MCPServer("weather-of-tests", version="1.2.3")


class Weather(BaseModel):
    """A structured result."""

    city: str
    degrees: int


class Confirmed(BaseModel):
    """What the user is asked for."""

    sure: bool


@server.tool(annotations=ToolAnnotations(title="Weather"))
def weather(city: str, days: int = 1) -> Weather:
    """The weather of a city."""
    return Weather(city=city, degrees=20 + days)


@server.tool()
def broken(reason: str) -> str:
    """Always fails."""
    raise RuntimeError(f"broken because of {reason}")


@server.tool()
async def slow(steps: int, ctx: Context) -> str:
    """Tells how far it is."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps)
    return f"{steps} steps done"


@server.tool()
async def ponder(question: str, ctx: Context) -> str:
    """Has the client's model think."""
    told = SamplingMessage(role="user", content=TextContent(type="text", text=f"Ponder this: {question}"))
    answer = await ctx.session.create_message(messages=[told], max_tokens=50)
    words = answer.content.text if isinstance(answer.content, TextContent) else "?"
    return f"the model says: {words}"


@server.resource("note://{name}")
def note(name: Annotated[str, "which"]) -> str:
    """A resource."""
    return f"the note {name}"


if __name__ == "__main__":
    how = sys.argv[1]
    if how == "stdio":
        server.run("stdio")
    else:
        port = int(sys.argv[2])
        open_to_all = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        if how == "sse":
            server.run("sse", port=port, transport_security=open_to_all)
        else:
            server.run("streamable-http", port=port, json_response=how == "json", transport_security=open_to_all)
