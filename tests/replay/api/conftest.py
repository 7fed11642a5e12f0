from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from starlette.testclient import TestClient

from sandtrail.replay.api import create_app
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter

PACKETS = Path(__file__).parents[2] / "fixtures" / "gvisor" / "20260905.bin.zst"
EVIL = "\x1b[31m<script>alert(1)</script>\u202e=1+1\n"


def packets() -> list[bytes]:
    data = zstandard.ZstdDecompressor().stream_reader(PACKETS.read_bytes()).read()
    out, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        out.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return out


def exchange(flow: str, port: int, ask: Any, answer: Any) -> list[bytes]:
    b64 = base64.b64encode
    head = {"flow": flow, "id": "1"}
    request = {"t": "request", **head, "method": "POST", "url": "http://model.test/v1/chat/completions", "headers": []}
    response = {"t": "response", **head, "status": 200, "headers": [["content-type", "application/json"]]}
    frames = [
        {"t": "connect", "flow": flow, "client": ["10.219.0.2", port], "host": "model.test", "port": 80},
        {**request, "body": b64(json.dumps(ask).encode()).decode()},
        {**response, "body": b64(json.dumps(answer).encode()).decode()},
        {"t": "close", "flow": flow},
    ]
    return [json.dumps(frame).encode() for frame in frames]


def streamed(flow: str, ask: Any, words: list[str]) -> list[bytes]:
    """The frames of a streamed answer, its parts named as the gateway names them."""
    head = {"flow": flow, "id": "1"}
    request, answer = (json.loads(frame) for frame in exchange(flow, 40002, {**ask, "stream": True}, {})[1:3])
    begin = answer | {"headers": [["content-type", "text/event-stream"]], "body": "", "stream": True}
    chunks = []
    for n, word in enumerate(words):
        data = json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode()
        chunks.append({"t": "chunk", **head, "n": n, "data": base64.b64encode(b"data: " + data + b"\n\n").decode()})
    done = {"t": "chunk", **head, "n": len(words), "data": base64.b64encode(b"data: [DONE]\n\n").decode()}
    end = begin | {"chunks": len(words) + 1, "end_ns": time.time_ns()}
    return [json.dumps(frame).encode() for frame in [request, begin, *chunks, done, end]]


def write_story(home: Path, session: str = "s1") -> None:
    spool = SpoolWriter(home, "test")
    about = {"session": session, "sandbox": f"{session}-pod"}
    life = spool.open({"source": "lifecycle", **about, "command": ["sh", "-c", EVIL], "sees": ["start"], "blind": []})
    life.write(json.dumps({"act": "start", **about, "container": "c", "words": EVIL}).encode())
    trace = spool.open({"source": "gvisor", **about, "sees": [EVIL], "blind": ["contents"]})
    trace.write_many(packets())
    gateway = spool.open({"source": "gateway", **about})
    ask = {"model": "m", "messages": [{"role": "user", "content": EVIL}]}
    # Half of a surrogate pair is valid JSON and no valid text.
    call = {"name": "bash", "arguments": '{"command": "\\ud800 ls"}'}
    message = {
        "role": "assistant",
        "content": f"All tests pass. {EVIL}",
        "tool_calls": [{"id": "\ud800", "type": "function", "function": call}],
    }
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    for frame in exchange("f1", 40001, ask, answer):
        gateway.write(frame)
    for frame in streamed("f3", ask, ["It ", "comes ", "in pieces."]):
        gateway.write(frame)
        trace.write(b"in between")
    gateway.write(b"\xff garbage")
    gateway.write(b'{"t":"request","flow":"f2","id":1,"headers":[["a",NaN]],"url":1e400}')
    gateway.write(b'{"t":"request","flow":"f4","id":"1","method":"GET","url":"http://x/\\ud800","headers":[]}')
    trace.note({"note": "gap", "cause": EVIL, "count": 3, "after_seq": 1, "before_seq": 2, "from_ns": 1, "to_ns": 2})
    for stream in (trace, gateway):
        stream.close("ended", dropped=0)
    life.write(json.dumps({"act": "exit", **about, "exit_status": 3}).encode())
    life.close("ended")
    spool.close()


def seal(home: Path) -> None:
    sealer = Sealer(home)
    while sealer.step():
        pass
    sealer.stop()


def index(home: Path) -> None:
    """As a user would: in a process of its own."""
    command = [sys.executable, "-m", "sandtrail", "timeline", "--home", str(home), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one session was recorded and sealed: gVisor's packets, a model call, garbage, a gap."""
    home = tmp_path_factory.mktemp("home")
    write_story(home)
    seal(home)
    index(home)
    return home


@pytest.fixture(scope="module")
def api(recorded: Path) -> Iterator[TestClient]:
    with TestClient(create_app(recorded, follower=False), base_url="http://127.0.0.1:8700") as client:
        yield client
