from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandtrail import ui
from sandtrail.errors import MissingPartError

# Asks Streamlit itself, with the flags that it would be started with, what it makes of them.
ASK = """
import json, sys
from streamlit import config
from streamlit.web import cli, bootstrap
def told(*args, **kwargs):
    bootstrap.load_config_options(kwargs.get("flag_options") or args[3])
    print(json.dumps({name: config.get_option(name) for name in json.loads(sys.stdin.readline())}))
bootstrap.run = told
cli.main(sys.argv[1:], standalone_mode=False)
"""


def options(names: list[str], *where: object) -> dict[str, object]:
    command = ui.argv(*where)  # type: ignore[arg-type]
    assert command[:3] == [sys.executable, "-m", "streamlit"]
    done = subprocess.run(
        [sys.executable, "-c", ASK, *command[3:]], input=json.dumps(names), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_the_server_keeps_to_itself() -> None:
    wanted: dict[str, object] = {
        "server.address": "127.0.0.1",
        "server.port": 8701,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.enableStaticServing": False,
        "server.fileWatcherType": "none",
        "server.allowedHosts": ["127.0.0.1", "localhost", "::1"],
        "browser.gatherUsageStats": False,
        "client.toolbarMode": "minimal",
    }
    assert options(list(wanted)) == wanted


def test_an_operator_may_serve_it_elsewhere_under_any_name() -> None:
    told = options(["server.address", "server.port", "server.allowedHosts"], "0.0.0.0", 9000)
    assert told == {"server.address": "0.0.0.0", "server.port": 9000, "server.allowedHosts": []}


def test_the_api_is_named_by_the_environment() -> None:
    assert ui.environment("http://127.0.0.1:1")["SANDTRAIL_API_URL"] == "http://127.0.0.1:1"


def test_without_streamlit_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "find_spec", lambda _: None)
    with pytest.raises(MissingPartError, match=r"sandtrail\[ui\]"):
        ui.launch("http://127.0.0.1:1")


def test_importing_the_room_does_not_import_streamlit() -> None:
    code = "import sys, sandtrail.ui; sys.exit('streamlit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_becomes_the_server_and_ends_when_it_is_told_to() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sandtrail", "ui", "--api-url", "http://127.0.0.1:9", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 60
        while not answers(port, "127.0.0.1"):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert b"app.py" in Path(f"/proc/{server.pid}/cmdline").read_bytes(), "it was replaced, not kept beside"
        assert not answers(port, "rebound.example"), "a foreign name was answered"
        server.terminate()
        assert server.wait(20) == 0


def answers(port: int, name: str) -> bool:
    """Whether a browser that believes the server to be called `name` gets a socket to it."""
    key = base64.b64encode(b"0123456789abcdef").decode()
    headers = {"Host": f"{name}:{port}", "Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
    with socket.socket() as connection:
        if connection.connect_ex(("127.0.0.1", port)):
            return False
        said = "".join(f"{field}: {value}\r\n" for field, value in headers.items())
        connection.sendall(f"GET /_stcore/stream HTTP/1.1\r\n{said}\r\n".encode())
        return connection.recv(4096).startswith(b"HTTP/1.1 101")
