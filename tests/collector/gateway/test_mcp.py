"""The mcp package's own client and server through the gateway; what replay makes of the frames."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CreateMessageResult, TextContent

from sandtrail.replay.models import Assembler
from sandtrail.replay.models.mcp import McpCall, McpExchange, decode_mcp
from tests.collector.gateway.harness import Gateway, Recorded, wait_for

URL = "http://mcp.test"


@contextmanager
def serving(how: str, log: Path) -> Iterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with log.open("wb") as output:
        program = str(Path(__file__).with_name("mcp_server.py"))
        process = subprocess.Popen([sys.executable, program, how, str(port)], stdout=output, stderr=output)
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(ready, "the MCP server")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def exchanges(recorded: Recorded) -> list[McpExchange]:
    assembler = Assembler()
    for frame in recorded.frames:
        assembler.feed(frame, f"1.{frame['seq']}", 1)
    found = [decode_mcp(exchange) for exchange in assembler.exchanges.values()]
    assert None not in found, [e.url for e in assembler.exchanges.values()]
    return [said for said in found if said is not None]


def calls(said: list[McpExchange], method: str = "tools/call") -> list[McpCall]:
    return [call for one in said for call in one.calls if call.method == method]


async def sample(context: Any, params: Any) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="forty-two"), model="m")


async def converse(client: Client) -> None:
    tools = await client.list_tools()
    assert {tool.name for tool in tools.tools} >= {"weather", "broken", "slow"}
    told = await client.call_tool("weather", {"city": "Zürich", "days": 3})
    assert told.structured_content == {"city": "Zürich", "degrees": 23}
    failed = await client.call_tool("broken", {"reason": "rain"})
    assert failed.is_error
    await client.call_tool("slow", {"steps": 3}, progress_callback=_ignore)
    await client.read_resource("note://one")


async def _ignore(progress: float, total: float | None, message: str | None) -> None:
    return None


def talk(proxy: str, mode: Any, *, ponder: bool = False) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(proxy=proxy, timeout=15, trust_env=False) as http:
            transport = streamable_http_client(f"{URL}/mcp", http_client=http)
            async with Client(transport, mode=mode, sampling_callback=sample) as client:
                await converse(client)
                if ponder:
                    answer = await client.call_tool("ponder", {"question": "why"})
                    assert "forty-two" in str(answer.content)

    asyncio.run(asyncio.wait_for(run(), 60))


def expect_the_conversation(said: list[McpExchange]) -> None:
    weather, broken, slow = calls(said)[:3]
    assert (weather.name, weather.arguments) == ("weather", {"city": "Zürich", "days": 3})
    assert (weather.structured, weather.is_error, weather.answered) == ({"city": "Zürich", "degrees": 23}, False, True)
    assert json.loads(weather.text) == {"city": "Zürich", "degrees": 23}
    assert broken.is_error
    assert "Error executing tool broken" in broken.text
    assert slow.text == "3 steps done"
    (resource,) = calls(said, "resources/read")
    assert (resource.name, resource.text) == ("note://one", "the note one")
    (listed,) = calls(said, "tools/list")
    assert {"weather", "slow"} <= {tool["name"] for tool in listed.result["tools"]}
    assert [one.problems for one in said if one.problems] == []
    assert [one.mismatches for one in said if one.mismatches] == []
    # The client leaves the stream for what the server asks by itself; whether it or the server ends it is a race.
    assert not any(one.cut for one in said if one.kind == "post")


@pytest.mark.parametrize("how", ["http", "json"])
def test_a_conversation_without_sessions_is_read_whole(
    gateway: Gateway, session: str, tmp_path: Path, how: str
) -> None:
    with serving(how, tmp_path / "log") as server:
        talk(gateway.listen(session, upstream={"mcp.test": server}), "2026-07-28")
    said = exchanges(gateway.ended(session))
    expect_the_conversation(said)
    assert {one.version for one in said} == {"2026-07-28"}
    assert {one.session for one in said} == {""}
    if how == "http":
        assert calls(said)[2].progress == 3


def test_a_conversation_with_a_session_is_read_whole_and_so_is_what_the_server_asks(
    gateway: Gateway, session: str, tmp_path: Path
) -> None:
    with serving("http", tmp_path / "log") as server:
        talk(gateway.listen(session, upstream={"mcp.test": server}), "legacy", ponder=True)
    said = exchanges(gateway.ended(session))
    expect_the_conversation(said)
    (begun,) = calls(said, "initialize")
    assert begun.result["serverInfo"]["name"] == "weather-of-tests"
    sessions = {one.session for one in said}
    assert len(sessions) == 1
    assert sessions != {""}
    assert calls(said)[2].progress == 3
    (asked,) = calls(said, "sampling/createMessage")
    assert asked.from_server
    (answer,) = [answer for one in said for answer in one.to_server]
    assert answer.id == asked.id
    assert answer.result["content"]["text"] == "forty-two"
    assert [one.kind for one in said if one.kind != "post"].count("end") == 1


def test_the_transport_of_2024_answers_on_another_exchange(gateway: Gateway, session: str, tmp_path: Path) -> None:
    with serving("sse", tmp_path / "log") as server:
        proxy = gateway.listen(session, upstream={"mcp.test": server})

        def through(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, proxy=proxy, trust_env=False)

        async def run() -> None:
            async with Client(sse_client(f"{URL}/sse", httpx_client_factory=through), mode="legacy") as client:
                await converse(client)

        asyncio.run(asyncio.wait_for(run(), 60))
    said = exchanges(gateway.ended(session))
    (stream,) = [one for one in said if one.kind == "stream"]
    assert {one.link for one in said} == {stream.link}
    assert len({answer.id for answer in stream.to_client}) >= 6
    assert [call.name for call in calls(said)] == ["weather", "broken", "slow"]
    assert not any(one.cut for one in said if one.kind == "post")


def test_headers_that_contradict_the_body_are_told(
    gateway: Gateway, session: str, tmp_path: Path, client: Callable[..., httpx.Client]
) -> None:
    meta = {f"io.modelcontextprotocol/{key}": value for key, value in (("protocolVersion", "2026-07-28"),)}
    meta["io.modelcontextprotocol/clientCapabilities"] = {}  # type: ignore[assignment]
    params = {"name": "weather", "arguments": {"city": "Bern"}, "_meta": meta}
    with serving("json", tmp_path / "log") as server:
        through = client(gateway.listen(session, upstream={"mcp.test": server}))
        answer = through.post(
            f"{URL}/mcp",
            json={"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params},
            headers={
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28",
                "Mcp-Method": "tools/call",
                "Mcp-Name": "harmless",
            },
        )
        assert answer.status_code == 400
    (said,) = exchanges(gateway.ended(session))
    assert said.mismatches == ["the header Mcp-Name says 'harmless', the body says 'weather'"]
    assert said.calls[0].error_code == -32020
