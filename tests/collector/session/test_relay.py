"""The command's stdin and stdout by way of the recorder: what goes through is on the record, and nothing is held up."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cbor2
import pytest
from mcp import Client, StdioServerParameters

from sandtrail.replay.timeline import read_timeline
from sandtrail.store.frames import Kind
from sandtrail.store.spool import parse_records
from tests.collector.session.recorded import recorded
from tests.collector.session.recorder import RECORD, Recorder

PROGRAM = """
import subprocess, sys
from pathlib import Path
from sandtrail.collector.session.relay import Record
from sandtrail.collector.session.stdio import Stdio
redact = {"prefixes": [{"name": "acme-key", "prefix": "acme_"}]}
with Stdio(Record(Path(sys.argv[1]), "s", "s-pod", redact)) as stdio:
    command = subprocess.Popen(sys.argv[2:], stdin=stdio.fds[0], stdout=stdio.fds[1], stderr=stdio.fds[2])
    stdio.handed_over()
    command.wait()
"""


SERVER = """
import json, sys
# A stand-in for an MCP server, of the standard library: the real one takes a quarter of a minute to import in gVisor.
TOOL = {"name": "weather", "inputSchema": {"type": "object"}}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {
        "initialize": {
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}
        },
        "tools/list": {"tools": [TOOL]},
        "tools/call": {"content": [{"type": "text", "text": "22 degrees"}]},
    }.get(asked["method"], {})
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


def relayed(
    home: Path, *command: str, given: bytes = b""
) -> tuple[subprocess.CompletedProcess[bytes], list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home), *command], input=given, capture_output=True, check=True, timeout=60
    )
    frames, closed = [], False
    for path in sorted((home / "spool").glob("stdio-*.spool")):
        for _, record in parse_records(path.read_bytes()):
            for _, payload in record.frames():
                if record.kind == Kind.DATA:
                    frames.append(json.loads(payload))
                closed = closed or record.kind == Kind.CLOSE
                if record.kind == Kind.OPEN:
                    assert cbor2.loads(payload)["source"] == "stdio"
    assert closed
    return done, frames


def text(frames: list[dict[str, Any]], name: str) -> bytes:
    return b"".join(base64.b64decode(frame["data"]) for frame in frames if frame["t"] == name)


def test_all_three_go_through_whole_and_are_recorded(tmp_path: Path) -> None:
    given = os.urandom(300_000)
    done, frames = relayed(tmp_path / "home", "sh", "-c", "cat; echo words >&2", given=given)
    assert done.stdout == given
    assert done.stderr == b"words\n"
    for name, data in (("stdin", given), ("stdout", given), ("stderr", b"words\n")):
        assert text(frames, name) == data
        (end,) = [frame for frame in frames if frame["t"] == name and frame.get("end")]
        assert (end["bytes"], end["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_a_command_that_reads_nothing_is_not_waited_for(tmp_path: Path) -> None:
    done, frames = relayed(tmp_path / "home", "true", given=b"x" * 500_000)
    assert done.stdout == b""
    assert {frame["t"] for frame in frames if frame.get("end")} == {"stdin", "stdout", "stderr"}


@pytest.mark.parametrize("prefix", [b"ghp_", b"acme_"], ids=["known to all", "of the policy"])
def test_credentials_are_taken_out_of_the_record_and_out_of_nothing_else(tmp_path: Path, prefix: bytes) -> None:
    secret = prefix + b"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    line = b'{"token": "' + secret + b'"}\n'
    done, frames = relayed(tmp_path / "home", "cat", given=line)
    assert done.stdout == line
    assert secret not in text(frames, "stdout") + text(frames, "stdin")
    assert b"{{credential:" in text(frames, "stdout")
    assert not any(secret in path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())


@pytest.mark.needs("root", "runsc", "ip", "nft")
@pytest.mark.timeout(180)
def test_an_mcp_server_in_a_sandbox_and_its_client_outside_are_in_the_timeline(recorder: Recorder) -> None:
    name = recorder.name()
    document = {
        "home": str(recorder.home),
        "command": ["python3", "-c", SERVER],
        "runsc": str(recorder.runsc.path),
        "name": name,
        "record_stdio": True,
        "quiet": True,
    }

    async def run() -> None:
        program = StdioServerParameters(
            # The client kills what is still there two seconds after it has closed stdin; a recording ends in its time.
            command="setsid",
            args=[sys.executable, "-c", RECORD, json.dumps(document)],
            env={**os.environ},
        )
        async with Client(program, mode="legacy", read_timeout_seconds=60) as client:
            told = await client.call_tool("weather", {"city": "Basel", "days": 2})
            assert "22 degrees" in str(told.content)

    asyncio.run(asyncio.wait_for(run(), 120))
    stream = recorded(recorder.home, name).of("stdio")
    assert stream.closed is not None
    timeline = read_timeline(recorder.home, name)
    rows = [row for row in timeline["turns"][0]["outputs"] if row["kind"] == "mcp.call"]
    (call,) = [row for row in rows if row["object"] == "tools/call weather"]
    assert call["summary"] == 'stdin: {"city": "Basel", "days": 2} → 22 degrees'
    assert call["edge"]["confidence"] == 1
    assert "initialize" in {row["object"] for row in rows}
    (source,) = [source for source in timeline["session"]["sources"] if source["source"] == "stdio"]
    assert "pipes between processes inside the sandbox" in source["blind"]
