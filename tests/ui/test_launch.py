from __future__ import annotations

import json
import subprocess
import sys

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
