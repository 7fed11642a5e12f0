"""Clients that know nothing of the gateway, on a real link: what is turned to it, and what it makes of it.

A gateway of its own runs in a network of its own, where a far server has the address 203.0.113.7 and two names.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from sandtrail.collector.network import namespaces, wire
from sandtrail.collector.network.rules import EgressMode
from sandtrail.replay.decode.netfilter import nflog_events
from tests.collector.gateway.harness import Gateway, Recorded, body, wait_for
from tests.collector.gateway.upstream import Server, Trust, serving
from tests.conftest import require

pytestmark = pytest.mark.needs("root", "ip", "nft")

FAR = "203.0.113.7"
_NUMBERS = count()


@dataclass
class Net:
    """The gateway's network and what is far away in it."""

    gateway: Gateway
    space: str
    plain: Server
    secure: Server


@pytest.fixture(scope="module")
def net(trust: Trust) -> Iterator[Net]:
    require("root", "ip", "nft")
    home = Path(tempfile.mkdtemp(prefix="st-tr-", dir="/tmp"))
    space, far = f"st-tr{os.getpid()}-gw", f"st-tr{os.getpid()}-far"
    try:
        for name in (space, far):
            namespaces.create(name)
        namespaces.tool("ip", "link", "add", "up0", "netns", space, "type", "veth", "peer", "up0", "netns", far)
        for name, address in ((space, "203.0.113.1/24"), (far, f"{FAR}/24"), (far, "203.0.113.8/24")):
            namespaces.tool("ip", "-n", name, "addr", "add", address, "dev", "up0")
            namespaces.tool("ip", "-n", name, "link", "set", "up0", "up")
        hosts = home / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{FAR} api.test\n203.0.113.8 other.test\n127.0.0.1 inner.test\n")
        switch = f'mount --bind {hosts} /etc/hosts && exec nsenter --net=/run/netns/{space} "$@"'
        running = Gateway(home, {"SSL_CERT_FILE": str(trust.ca)}, ("unshare", "--mount", "sh", "-c", switch, "sh"))
        plain = namespaces.inside(far, lambda: Server(address="0.0.0.0", port=80))
        secure = namespaces.inside(far, lambda: Server(trust.context, "0.0.0.0", 443))
        for server in (plain, secure):
            server.routes["/"] = lambda handler: handler.answer(b"far away")
        with serving(plain), serving(secure):
            yield Net(running, far, plain, secure)
        running.close()
    finally:
        for name in (space, far):
            namespaces.delete(name)
        shutil.rmtree(home, ignore_errors=True)


class Sandbox:
    """A link in a transparent mode, served by the gateway; acts inside of it."""

    def __init__(self, net: Net, mode: EgressMode, descriptor: dict[str, Any]) -> None:
        self.net = net
        self.name = f"tr{os.getpid()}x{next(_NUMBERS)}"
        self.link = wire.Wire.create(self.name, mode)
        assert self.link.names is not None
        message = {"op": "listen", "session": self.name, "descriptor": {"egress": mode, **descriptor}}
        answer = net.gateway.ask(message, (self.link.listener.fileno(), self.link.names.fileno()))
        assert answer["ok"], answer

    def run[T](self, act: Callable[[], T]) -> T:
        return namespaces.inside(self.link.sandbox, act)

    def ask(
        self, name: str, kind: str = "A", *, tcp: bool = False, server: str = wire.WIRE_ADDRESS
    ) -> dns.message.Message:
        question = dns.message.make_query(name, kind)
        send = dns.query.tcp if tcp else dns.query.udp
        return self.run(lambda: send(question, server, timeout=10))

    def get(
        self, address: str, host: str, *, tls: bool = False, port: int = 0, verify: bool = True
    ) -> tuple[int, bytes]:
        """GET / of an address, with this name in the request (and the handshake)."""

        def act() -> tuple[int, bytes]:
            sock: socket.socket = socket.create_connection((address, port or (443 if tls else 80)), 10)
            if tls:
                ca = self.net.gateway.home / "gateway" / "mitmproxy-ca-cert.pem"
                context = ssl.create_default_context(cafile=str(ca) if verify else None)
                sock = context.wrap_socket(sock, server_hostname=host)
            connection = http.client.HTTPConnection(host)
            connection.sock = sock
            with contextlib.closing(connection):
                connection.request("GET", "/")
                answer = connection.getresponse()
                return answer.status, answer.read()

        return self.run(act)

    def ended(self) -> Recorded:
        return self.net.gateway.ended(self.name)


@pytest.fixture
def sandbox(net: Net) -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    def make(mode: EgressMode = "transparent", **descriptor: Any) -> Sandbox:
        made.append(Sandbox(net, mode, descriptor))
        return made[-1]

    yield make
    for one in made:
        if one.name in one.net.gateway.log.read_text():
            with contextlib.suppress(AssertionError):
                one.ended()
        one.link.close()
        wire.remove(one.name)


@pytest.mark.parametrize("tls", [False, True])
def test_a_request_to_an_address_reaches_it_and_is_recorded_under_its_name(
    sandbox: Callable[..., Sandbox], net: Net, tls: bool
) -> None:
    box = sandbox()
    assert box.get(FAR, "api.test", tls=tls) == (200, b"far away")
    found = box.ended()
    assert found.one("request")["url"] == f"http{'s' if tls else ''}://api.test/"
    assert body(found.one("response")) == b"far away"
    connect = found.one("connect")
    assert (connect["host"], connect["port"], connect["turned"]) == (FAR, 443 if tls else 80, True)
    assert connect["client"][0] == wire.SANDBOX_ADDRESS
    close = found.one("close")
    assert close["up_bytes"] > 0
    assert close["down_bytes"] > 0


@pytest.mark.parametrize("tls", [False, True])
def test_a_name_that_is_not_at_the_address_is_refused_and_recorded(
    sandbox: Callable[..., Sandbox], net: Net, tls: bool
) -> None:
    box = sandbox(rules={"allow": ["other.test"]})
    asked = len(net.plain.asked) + len(net.secure.asked)
    assert box.get(FAR, "other.test", tls=tls)[0] == 403
    error = box.ended().one("error", reason="mismatch")
    assert "other.test is not at 203.0.113.7" in error["message"]
    assert error["address"] == FAR
    assert len(net.plain.asked) + len(net.secure.asked) == asked


def test_the_rules_judge_the_name_and_not_the_address(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(rules={"allow": ["api.test"]})
    assert box.get(FAR, "api.test")[0] == 200
    assert box.get("203.0.113.8", "other.test")[0] == 403
    assert box.get("203.0.113.8", "203.0.113.8")[0] == 403
    found = box.ended()
    assert [error["reason"] for error in found.of("error")] == ["denied", "denied"]


def test_a_name_with_an_upstream_needs_no_address_of_its_own(sandbox: Callable[..., Sandbox], server: Server) -> None:
    box = sandbox(upstream={"model.test": f"http://{FAR}"})
    (answer,) = box.ask("model.test").answer
    assert answer[0].to_text() == wire.WIRE_ADDRESS
    assert box.get(wire.WIRE_ADDRESS, "model.test", tls=True) == (200, b"far away")
    assert box.ended().one("request")["upstream"] == f"http://{FAR}:80"


def test_the_gateways_own_address_is_no_way_out(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox("transparent-all")
    assert box.get(wire.WIRE_ADDRESS, wire.WIRE_ADDRESS)[0] == 403
    assert "the gateway itself" in box.ended().one("error", reason="mismatch")["message"]


def test_names_are_answered_as_the_host_knows_them_and_as_the_rules_allow(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox(rules={"deny": ["other.test"]})
    for tcp in (False, True):
        for server in (wire.WIRE_ADDRESS, "192.0.2.53"):  # whomever the client asks
            answer = box.ask("Api.Test", tcp=tcp, server=server).answer
            assert [item.to_text() for item in answer[0]] == [FAR]
    assert box.ask("api.test", "AAAA").answer == []
    codes = {name: dns.rcode.to_text(box.ask(name).rcode()) for name in ("other.test", "inner.test", "nowhere.invalid")}
    assert codes.pop("nowhere.invalid") in ("NXDOMAIN", "SERVFAIL")  # where the host has no resolver at all
    assert codes == {"other.test": "REFUSED", "inner.test": "REFUSED"}
    assert dns.rcode.to_text(box.ask("api.test", "TXT").rcode()) == "NOTIMP"
    found = box.ended().of("dns")
    assert [(frame["name"], frame["reason"]) for frame in found] == [
        ("other.test", "denied"),
        ("inner.test", "refused"),
    ]
    assert found[0]["rules"]


def test_what_is_no_question_is_not_answered_and_harms_nobody(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()

    def act() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for data in (b"", b"\0" * 11, b"\xff" * 512, b"\0\1\1\0\xff\xff" + b"\0" * 6, b"\xc0\x0c" * 200):
                udp.sendto(data, (wire.WIRE_ADDRESS, 53))
        with socket.create_connection((wire.WIRE_ADDRESS, 53), 10) as tcp:
            tcp.sendall(struct.pack(">H", 4) + b"\xff" * 4)
            assert tcp.recv(10) == b""

    box.run(act)
    assert box.ask("api.test").answer


def test_a_client_that_pins_is_recorded_by_its_name_and_its_bytes(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    with pytest.raises(ssl.SSLError):
        box.get(FAR, "api.test", tls=True, verify=False)
    found = box.ended()
    told = found.one("tls")
    assert (told["sni"], told["established"]) == ("api.test", False)
    assert found.one("close")["up_bytes"] > 100


def test_other_protocols_pass_as_bytes_where_all_of_tcp_is_turned(sandbox: Callable[..., Sandbox], net: Net) -> None:
    with namespaces.inside(net.space, lambda: socket.create_server((FAR, 22))) as far:
        box = sandbox("transparent-all", rules={"allow": [FAR]})
        with box.run(lambda: socket.create_connection((FAR, 22), 10)) as near:
            far.settimeout(10)
            reached, _ = far.accept()
            with reached:
                reached.sendall(b"SSH-2.0-far\r\n")  # the server speaks first
                assert near.recv(100) == b"SSH-2.0-far\r\n"
                near.sendall(b"SSH-2.0-near\r\n")
                assert reached.recv(100) == b"SSH-2.0-near\r\n"
        with box.run(lambda: socket.create_connection(("203.0.113.8", 22), 10)) as denied:
            assert denied.recv(100) == b""
        wait_for(lambda: len(net.gateway.recorded(box.name).of("tcp", end=True)) == 2)
        found = box.ended()
    assert {(f["from"], body(f, "data")) for f in found.of("tcp") if "data" in f} == {
        ("server", b"SSH-2.0-far\r\n"),
        ("client", b"SSH-2.0-near\r\n"),
    }
    assert "203.0.113.8" in found.one("error", reason="denied")["message"]


def test_the_explicit_proxy_still_works_beside(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()

    def act() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(wire.WIRE_ADDRESS, wire.GATEWAY_PORT, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "http://api.test/")
            answer = connection.getresponse()
            return answer.status, answer.read()

    assert box.run(act) == (200, b"far away")
    assert "turned" not in box.ended().one("connect")


def test_everything_of_it_is_accounted_for(sandbox: Callable[..., Sandbox]) -> None:
    box = sandbox()
    box.get(FAR, "api.test", tls=True)
    box.ask("api.test", tcp=True)
    box.ask("api.test")

    def quic() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(5)
            udp.connect((FAR, 443))
            udp.send(b"\xc0quic" + b"\0" * 1195)
            with pytest.raises(ConnectionRefusedError):
                udp.recv(100)
        return "refused"

    assert box.run(quic) == "refused"
    account = wire.finish(box.name)
    assert account.steady
    assert not any(number for total in account.difference.values() for number in total), account.described()
    assert account.logged["flow:quic"].packets == 1
    assert account.logged["flow:redirect"].packets == 1
    assert account.logged["dns:pass"].packets >= 6
    box.link.nflog.settimeout(1)
    events = [event for _, event in nflog_events(box.link.nflog.recv(1 << 17))]
    with contextlib.suppress(TimeoutError):
        while True:
            events += [event for _, event in nflog_events(box.link.nflog.recv(1 << 17))]
    names = [(e[4]["proto"], e[4]["answer"], e[4]["answers"], e[4]["peer"]) for e in events if e[0] == "net.dns"]
    assert sorted(names) == [
        (proto, answer, [f"A {FAR}"] if answer else [], f"{wire.WIRE_ADDRESS}:53")
        for proto in ("tcp", "udp")
        for answer in (False, True)
    ]
    turned = [e[2] for e in events if e[4]["verdict"] == "redirect"]
    assert turned == [f"{FAR}:443"], "told with where it was meant to go"
