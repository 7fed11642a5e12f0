"""Attaching to sandboxes that already run, losing the trace to another consumer, and acting inside on the record."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandtrail.collector.session.inside import checkpoint, run_inside
from sandtrail.collector.session.options import RecordOptions
from sandtrail.errors import NotFoundError, RuntimeFailedError
from tests.collector.session.recorded import noticed, recorded, said
from tests.collector.session.recorder import Recorder, eventually, nothing_left

pytestmark = [pytest.mark.needs("root", "runsc", "ip", "nft"), pytest.mark.timeout(120)]

ATTACH = """
import json, sys
from pathlib import Path
from sandtrail.collector.session.attach import AttachOptions, attach
options = json.loads(sys.argv[1])
for name in ("home", "root"):
    options[name] = Path(options[name])
sys.exit(attach(AttachOptions(**options)).exit_status)
"""


class Foreign:
    """A sandbox that somebody started without us."""

    def __init__(self, folder: Path, runsc: str, platform: str, script: str) -> None:
        self.root = folder / "foreign"
        self.container = "theirs"
        bundle = folder / "bundle"
        (bundle / "root" / "usr").mkdir(parents=True)
        for name in ("bin", "lib", "lib64"):
            (bundle / "root" / name).symlink_to(f"usr/{name}")
        spec = {
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": ["sh", "-c", script],
                "env": ["PATH=/usr/bin:/bin"],
                "cwd": "/",
            },
            "root": {"path": "root", "readonly": True},
            "mounts": [{"destination": "/usr", "type": "bind", "source": "/usr", "options": ["ro", "rbind"]}],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "network")]},
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        self._flags = [runsc, f"--root={self.root}", "--ignore-cgroups"]
        self.process = subprocess.Popen(
            [*self._flags, f"--platform={platform}", "--network=none", "run", f"--bundle={bundle}", self.container],
            stdin=subprocess.DEVNULL,
        )
        assert eventually(self.running)

    def running(self) -> bool:
        done = subprocess.run([*self._flags, "state", self.container], capture_output=True, text=True, check=False)
        return '"running"' in done.stdout

    def end(self) -> None:
        # Older versions of runsc wait for five seconds when they are to delete what still runs.
        for act in (["kill", "--all", self.container, "KILL"], ["delete", "--force", self.container]):
            subprocess.run([*self._flags, *act], capture_output=True, check=False)
            self.process.wait(20)
        subprocess.run(["umount", str(self.root / "null-netns")], capture_output=True, check=False)


@pytest.fixture
def foreign(tmp_path: Path, each_recorder: Recorder) -> Iterator[Foreign]:
    runsc = each_recorder.runsc
    script = "sleep 90 & while :; do cat /usr/lib/os-release > /dev/null; sleep 0.3; done"
    sandbox = Foreign(tmp_path, str(runsc.path), runsc.platform, script)
    yield sandbox
    sandbox.end()


def attaching(recorder: Recorder, root: Path, container: str, **options: Any) -> subprocess.Popen[str]:
    document = {"home": str(recorder.home), "root": str(root), "container": container, **options}
    document |= {"runsc": str(recorder.runsc.path)}
    return subprocess.Popen(
        [sys.executable, "-c", ATTACH, json.dumps(document)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_running_sandbox_is_recorded_from_now_on_and_left_running(each_recorder: Recorder, foreign: Foreign) -> None:
    name = each_recorder.name()
    process = attaching(each_recorder, foreign.root, foreign.container, name=name)
    noticed(each_recorder.home, name, "processes")
    said(each_recorder.home, name, "gvisor", b"os-release")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert foreign.running()
    found = recorded(each_recorder.home, name)
    assert found.of("gvisor").descriptor["attached"] is True
    blind = found.of("gvisor").descriptor["blind"]
    assert "everything before the attachment" in blind
    assert any("(claims)" in words for words in blind)
    assert 1 not in found.message_types(), "its start was before us"
    assert any(b"os-release" in packet for packet in found.of("gvisor").data)
    table = found.act("processes", "attach")["words"]
    assert table.startswith("PROCFS DUMP")
    assert '"sleep","90"' in table
    found.act("detach", "attach")
    assert found.gaps("attach") == []
    assert nothing_left(each_recorder.home, name)


def test_when_the_sandbox_ends_so_does_its_recording(each_recorder: Recorder, foreign: Foreign) -> None:
    name = each_recorder.name()
    process = attaching(each_recorder, foreign.root, foreign.container, name=name)
    noticed(each_recorder.home, name, "processes")
    foreign.end()
    process.communicate(timeout=60)
    assert process.returncode == 0
    found = recorded(each_recorder.home, name)
    assert found.act("runtime", "attach", event="ended")
    assert any("could not be asked" in cause for cause in found.gaps("attach"))


def test_a_sandbox_that_is_not_there_is_refused_with_the_runtimes_words(recorder: Recorder, tmp_path: Path) -> None:
    process = attaching(recorder, tmp_path, "nobody")
    _, words = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "RuntimeFailedError" in words
    assert "nobody" in words


def shake_hands(listener: socket.socket) -> None:
    """Another consumer, which takes whoever comes and never reads."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.recv(64)
            connection.send(b"\x08\x01")
            taken.append(connection)
    for connection in taken:
        connection.close()


def test_a_trace_that_another_consumer_takes_away_is_noticed_while_the_sandbox_runs(
    recorder: Recorder, tmp_path: Path
) -> None:
    name, process = recorder.running("", "read line; exit 3")
    root = recorder.home / "run" / "runsc" / name
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as theirs:
        endpoint = recorder.home / "theirs.sock"
        theirs.bind(str(endpoint))
        theirs.listen()
        threading.Thread(target=shake_hands, args=(theirs,), daemon=True).start()
        config = tmp_path / "session.json"
        sink = {"name": "remote", "config": {"endpoint": str(endpoint)}}
        config.write_text(json.dumps({"name": "Default", "points": [], "sinks": [sink]}))
        command = [str(recorder.runsc.path), f"--root={root}", "trace", "create", f"--config={config}"]
        refused = subprocess.run([*command, f"{name}-pod"], capture_output=True, text=True, check=False)
        assert "already exists" in refused.stderr
        subprocess.run([*command, "--force", f"{name}-pod"], capture_output=True, check=True)
        noticed(recorder.home, name, "evicted")
        process.communicate("enough\n", timeout=60)
    assert process.returncode == 3
    found = recorded(recorder.home, name)
    evicted = found.act("evicted")
    assert "SESSIONS (1)" in evicted["words"]
    assert [note["note"] for note in found.of("lifecycle", "record").notes] == ["evicted", "gap"]
    assert found.gaps() == ["another consumer took the trace session"]
    assert found.act("runtime", event="trace-list")["dropped"] is None, "their count is not ours"


def test_a_command_beside_the_recorded_one_is_on_the_record(recorder: Recorder) -> None:
    name, process = recorder.running("", "read line")
    assert run_inside(recorder.home, name, ["sh", "-c", "cat /etc/hosts > /dev/null; exit 5"]) == 5
    process.communicate("enough\n", timeout=60)
    found = recorded(recorder.home, name)
    begun, ended = found.acts("exec")
    assert begun["command"] == ["sh", "-c", "cat /etc/hosts > /dev/null; exit 5"]
    assert (ended["event"], ended["exit_status"]) == ("exit", 5)
    assert any(b"/etc/hosts" in packet for packet in found.of("gvisor").data)
    with pytest.raises(NotFoundError, match=name):
        run_inside(recorder.home, name, ["true"])


def test_what_goes_through_a_command_beside_the_recorded_one_is_recorded_where_asked(recorder: Recorder) -> None:
    name, process = recorder.running("", "read line")
    words = ["exec", name, "--record-stdio", "--home", str(recorder.home), "--", "sh", "-c", "cat; echo no >&2; exit 3"]
    said = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n' + b"sk-ant-api03-0123456789abcdefghij\n"
    done = subprocess.run([sys.executable, "-m", "sandtrail", *words], input=said, capture_output=True, check=False)
    process.communicate("enough\n", timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, said, b"no\n")
    found = recorded(recorder.home, name)
    assert found.of("lifecycle", "exec").descriptor["stdio"] == "recorded"
    stream = found.of("stdio", "exec")
    ends = {frame["t"]: frame for frame in map(json.loads, stream.data) if frame.get("end")}
    assert {name: end["bytes"] for name, end in ends.items()} == {"stdin": len(said), "stdout": len(said), "stderr": 3}
    assert ends["stdout"]["sha256"] == hashlib.sha256(said).hexdigest()
    assert b"sk-ant-api03-0123456789abcdefghij" not in b"".join(
        base64.b64decode(json.loads(data)["data"]) for data in stream.data
    )
    assert stream.closed


def test_a_checkpoint_is_on_the_record_and_the_trace_goes_on_after_it(recorder: Recorder, tmp_path: Path) -> None:
    name, process = recorder.running("", "read line; cat /etc/hosts > /dev/null")
    checkpoint(recorder.home, name, tmp_path / "image")
    with pytest.raises(RuntimeFailedError):
        checkpoint(recorder.home, name, tmp_path / "image")
    process.communicate("go on\n", timeout=60)
    found = recorded(recorder.home, name)
    acts = [json.loads(p) for s in found.streams if s.descriptor.get("part", "").startswith("checkp") for p in s.data]
    assert [act["done"] for act in acts] == [True, False]
    assert any(b"/etc/hosts" in packet for packet in found.of("gvisor").data)
    assert found.gaps() == []


def test_an_ordinary_user_is_told_what_needs_root(home: Path) -> None:
    program = (
        "import os\n"
        "from pathlib import Path\n"
        "from sandtrail.collector.session.options import RecordOptions\n"
        "from sandtrail.collector.session.record import record\n"
        "os.setuid(65534)\n"
        "record(RecordOptions(Path('/nowhere'), ('true',)))\n"
    )
    assert RecordOptions(home, ("true",)).command == ("true",)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingPartError: `sandtrail record` needs root" in done.stderr
