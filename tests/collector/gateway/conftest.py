"""One gateway process for all tests that do not need their own: as on a real machine, it serves many sandboxes."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.collector.gateway.harness import Gateway
from tests.collector.gateway.upstream import Server, Trust, serving
from tests.conftest import require

_NUMBERS = count()


@pytest.fixture(scope="session")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """What the far side's certificates are signed with; the gateways under test trust it."""
    return Trust(tmp_path_factory.mktemp("trust"))


@pytest.fixture(scope="session")
def gateway(trust: Trust) -> Iterator[Gateway]:
    """The shared gateway."""
    home = Path(tempfile.mkdtemp(prefix="st-gw-", dir="/tmp"))
    running = Gateway(home, env={"SSL_CERT_FILE": str(trust.ca)})
    yield running
    running.close()
    shutil.rmtree(home)


@pytest.fixture
def session() -> str:
    """A name that no other test uses."""
    return f"session-{next(_NUMBERS)}"


@pytest.fixture
def server() -> Iterator[Server]:
    """A plain HTTP server on loopback."""
    with serving(Server()) as running:
        yield running


@pytest.fixture
def secure_server(trust: Trust) -> Iterator[Server]:
    """An HTTPS server on loopback, for the names of `upstream.NAMES`."""
    with serving(Server(trust.context)) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Callable[..., httpx.Client]]:
    """Makes clients that go through a proxy and trust the gateway's certificate."""
    made: list[httpx.Client] = []

    def make(proxy: str, **options: object) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem"))
        made.append(httpx.Client(proxy=proxy, verify=context, timeout=15, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


_NEIGHBOUR = """
import http.server, socket, threading

class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "9")
        self.end_headers()
        self.wfile.write(b"neighbour")
    def log_message(self, *args): pass

def greet(listener):
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"SSH-2.0-test\\r\\n")
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.close()

def answer(listener):
    while True:
        connection, _ = listener.accept()
        connection.sendall(connection.recv(65536)[5:])
        connection.recv(65536)
        connection.close()

for port, act in ((2222, greet), (2223, answer)):
    listener = socket.create_server(("0.0.0.0", port))
    threading.Thread(target=act, args=(listener,), daemon=True).start()
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Echo)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="session")
def neighbour() -> Iterator[str]:
    """A machine beside the gateway's, in namespaces of the test's own: the address at which it serves.

    HTTP on port 8080, on port 2222 something that speaks first and is no HTTP, and on port 2223 something that answers
    with what it is sent, from the sixth byte on.
    """
    require("root", "ip")
    there = f"stgw{os.getpid()}"
    here = f"{there}h"
    address = "198.51.100.2"
    commands = [
        f"ip netns add {there}",
        f"ip netns add {here}",
        f"ip -n {here} link add far type veth peer name near netns {there}",
        f"ip -n {here} addr add 198.51.100.1/24 dev far",
        f"ip -n {there} addr add {address}/24 dev near",
        *(f"ip -n {place} link set {link} up" for place, link in ((here, "far"), (there, "near"), (here, "lo"))),
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        serve = ["ip", "netns", "exec", there, sys.executable, "-c", _NEIGHBOUR]
        with subprocess.Popen(serve, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield address
            process.terminate()
    finally:
        for place in (here, there):
            subprocess.run(["ip", "netns", "delete", place], check=False, capture_output=True)


@pytest.fixture(scope="session")
def neighbourly(neighbour: str, trust: Trust) -> Iterator[Gateway]:
    """A gateway on a machine that has a neighbour. Its listeners stay in the test's own namespace: as with a sandbox,
    where connections come from and where they go to are two networks."""
    home = Path(tempfile.mkdtemp(prefix="st-gw-", dir="/tmp"))
    prefix = ("ip", "netns", "exec", f"stgw{os.getpid()}h")
    running = Gateway(home, env={"SSL_CERT_FILE": str(trust.ca)}, prefix=prefix)
    yield running
    running.close()
    shutil.rmtree(home)
