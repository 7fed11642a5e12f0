"""A real MCP server, by the mcp package, with one tool; over streamable HTTP. `python mcp_server.py PORT`."""

from __future__ import annotations

import sys

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

server = MCPServer("weather")


@server.tool()
def greet(name: str) -> str:
    """Greets somebody."""
    return f"Hello {name}."


if __name__ == "__main__":
    # It answers to the name by which the sandbox knows it, and to no other.
    names = TransportSecuritySettings(allowed_hosts=["mcp.test"])
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]), transport_security=names)
