"""Witnesses that are not ours, as processes: aics-witness (Python) and torchwood's litewitness (Go)."""

from __future__ import annotations

import base64
import re
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from hashlib import sha256
from pathlib import Path

from tests.parts import foreign_go

NAME = "witness.example/foreign"
PATIENCE_S = 60


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block; what it says goes to a file."""
    with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield process
        finally:
            process.terminate()


def _await_port(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"no answer on port {port}: {output.read_text()[-2000:]}")


@contextmanager
def aics_witness(python: Path, folder: Path, log_vkey: str) -> Iterator[tuple[str, str]]:
    """(verifier key, address) of a running aics-witness that knows one log."""
    folder.mkdir()
    port = _free_port()
    command = [str(python.parent / "aics-witness")]
    config = ["--config", str(folder / "witness.json")]

    def setup(*arguments: str) -> str:
        done = subprocess.run([*command, *arguments, *config], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    vkey = setup("init", "--name", NAME, "--listen", f"127.0.0.1:{port}")
    setup("add-log", "--origin", log_vkey.split("+")[0], "--vkey", log_vkey)
    output = folder / "output"
    with _running([*command, "serve", *config], output) as process:
        _await_port(port, process, output)
        yield vkey, f"http://127.0.0.1:{port}"


@contextmanager
def litewitness(folder: Path, log_vkey: str) -> Iterator[tuple[str, str]]:
    """(verifier key, address) of a running litewitness, which has its key from an ssh-agent, and knows one log."""
    folder.mkdir()
    port, output, agent = _free_port(), folder / "output", folder / "agent"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")]
    subprocess.run(make, check=True)
    public = base64.b64decode((folder / "key.pub").read_text().split()[1])
    fingerprint = "SHA256:" + base64.b64encode(sha256(public).digest()).decode().rstrip("=")
    _add_log(folder / "db", log_vkey)
    with ExitStack() as stack:
        stack.enter_context(_running(["ssh-agent", "-D", "-a", str(agent)], folder / "agent.output"))
        _add_key(agent, folder / "key")
        serve = [str(foreign_go("litewitness")), "-name", NAME, "-db", str(folder / "db"), "-ssh-agent", str(agent)]
        serve += ["-key", fingerprint, "-listen", f"127.0.0.1:{port}"]
        process = stack.enter_context(_running(serve, output))
        _await_port(port, process, output)
        found = re.search(r"vkey=(\S+)", output.read_text())
        assert found, output.read_text()
        yield found[1], f"http://127.0.0.1:{port}"


def _add_key(agent: Path, key: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not agent.exists():
        assert time.monotonic() < deadline, "ssh-agent does not start"
        time.sleep(0.02)
    subprocess.run(["ssh-add", "-q", str(key)], env={"SSH_AUTH_SOCK": str(agent)}, check=True)


def _add_log(database: Path, vkey: str) -> None:
    """What torchwood's own witnessctl does, which needs a module that the proxy does not serve."""
    origin, empty = vkey.split("+")[0], base64.b64encode(sha256().digest()).decode()
    with closing(sqlite3.connect(database)) as rows, rows:
        rows.execute("CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL)")
        rows.execute(
            "CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin))"
        )
        rows.execute("INSERT INTO log VALUES (?, 0, ?)", (origin, empty))
        rows.execute("INSERT INTO key VALUES (?, ?)", (origin, vkey))
