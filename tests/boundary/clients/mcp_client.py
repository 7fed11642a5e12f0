"""The mcp package: lists the tools of a server and calls one, over streamable HTTP."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main(url: str) -> None:
    async with streamable_http_client(url) as streams, ClientSession(streams[0], streams[1]) as session:
        await session.initialize()
        tools = await session.list_tools()
        result: Any = await session.call_tool(tools.tools[0].name, {"city": "Ghent"})
        print(result.content[0].text)


asyncio.run(main(sys.argv[1]))
