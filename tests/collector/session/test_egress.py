"""Recordings whose egress is transparent, or goes around the filter, as the timeline tells of them."""

from __future__ import annotations

import io
import socket
from typing import Any

import pytest
from rich.console import Console

from sandtrail.collector.network import namespaces
from sandtrail.collector.network.wire import namespace_names
from sandtrail.replay.timeline import read_timeline
from sandtrail.replay.timeline_text import render
from tests.collector.gateway.upstream import Server, serving
from tests.collector.network.frames import BROKEN
from tests.collector.session.recorded import recorded
from tests.collector.session.recorder import Recorder

pytestmark = pytest.mark.needs("root", "runsc", "ip", "nft")

_AROUND = """
import os, socket, ssl, urllib.request
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
print(urllib.request.urlopen("https://model.test/a", timeout=30).read().decode())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.settimeout(10)
    udp.connect(("192.0.2.7", 443))
    udp.send(b"\\xc0quic" + bytes(1195))
    try:
        udp.recv(10)
    except ConnectionRefusedError:
        print("no QUIC")
try:
    pinned = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pinned.wrap_socket(socket.create_connection(("model.test", 443), 30), server_hostname="model.test")
except ssl.SSLError:
    print("not trusted")
"""


def shown(timeline: dict[str, Any]) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    render(timeline, console)
    return console.export_text()


def outputs(timeline: dict[str, Any]) -> list[str]:
    return [row["summary"] for turn in timeline["turns"] for row in turn["outputs"]]


def test_a_client_that_ignores_the_proxy_is_seen_whole_and_to_the_byte(recorder: Recorder) -> None:
    with serving(Server()) as server:
        server.routes["/a"] = lambda handler: handler.answer(b"far away " * 100)
        name, done = recorder.run("python3", "-c", _AROUND, egress="transparent", upstream={"model.test": server.url})
    assert done.stdout.splitlines() == ["far away " * 100, "no QUIC", "not trusted"], done.stderr
    found = recorded(recorder.home, name)
    account = found.act("egress", at="end")
    nothing = {"packets": 0, "bytes": 0}
    assert account["difference"] == {"up": nothing, "down": nothing}
    assert found.of("netfilter").descriptor["egress"] == "transparent"
    timeline = read_timeline(recorder.home, name)
    told = "\n".join(outputs(timeline))
    assert "GET https://model.test/a" in {row["object"] for turn in timeline["turns"] for row in turn["outputs"]}
    assert "192.0.2.7:443, QUIC, refused so that its client falls back to TCP" in told
    assert "looked up model.test" in told
    assert "TLS for model.test was not opened, its client trusts other certificates; " in told
    assert " bytes out, " in told
    assert [(f["severity"], f["title"]) for f in timeline["findings"] if f["verdict"] == "BYPASS"] == [
        ("low", "tried QUIC to 192.0.2.7:443, which was refused")
    ]
    assert timeline["gaps"] == []
    assert timeline["session"]["completeness"]["egress"] is True


def test_what_leaves_around_the_filter_becomes_a_gap_of_its_size(recorder: Recorder) -> None:
    name, process = recorder.running("", 'read -r line; echo "$line"')

    def around() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            sock.send(BROKEN)

    namespaces.inside(namespace_names(name)[0], around)
    out, err = process.communicate("go on\n", timeout=90)
    assert (process.returncode, out) == (0, "go on\n"), err
    recorded(recorder.home, name)
    timeline = read_timeline(recorder.home, name)
    (gap,) = timeline["gaps"]
    assert (gap["cause"], gap["count"]) == ("egress not accounted for", 1)
    assert gap["bytes"] == {"up": {"packets": 1, "bytes": len(BROKEN)}, "down": {"packets": 0, "bytes": 0}}
    known = timeline["session"]["completeness"]
    assert known["egress"] is False
    assert known["from_first_instruction"] is True, "whoever is inside must not be able to have that doubted"
    assert f"+1 frames, +{len(BROKEN)} bytes up" in shown(timeline)
