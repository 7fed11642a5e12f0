"""A real HTTP server for the far side: what it answers is the test's choice, what it was asked is kept."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = ("api.test", "other.test", "localhost")


@dataclass
class Asked:
    """A request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    """Routes by path; the answers are written by the route."""

    protocol_version = "HTTP/1.1"
    server: Server
    asked: Asked
    raw_requestline: bytes

    def read_body(self) -> bytes:
        """The whole request body, of known length or in chunks."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        """One whole answer."""
        self.head(status, **{"content-length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)

    def head(self, status: int = 200, /, **headers: str) -> None:
        """The head of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """One chunk of a chunked answer; an empty one ends it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def handle_one_request(self) -> None:
        """As the base does, but a peer that goes away is nobody's error."""
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    def _do(self) -> None:
        path = self.path.partition("?")[0]
        route = self.server.routes.get(path, self.server.fallback)
        body = self.read_body() if path not in self.server.unread else b""
        self.asked = Asked(self.command, self.path, dict(self.headers.items()), body)
        self.server.asked.append(self.asked)
        if route is None:
            self.answer(b"nothing here", 404)
        else:
            route(self)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = _do

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class Server(ThreadingHTTPServer):
    """On a loopback port of the system's choice, if nothing else is said."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((address, port), Handler)
        self.routes: dict[str, Callable[[Handler], None]] = {}
        self.fallback: Callable[[Handler], None] | None = None
        self.unread: set[str] = set()
        self.asked: list[Asked] = []
        self.tls = tls

    def get_request(self) -> tuple[Any, Any]:
        """Accept; the handshake is left to the connection's own thread."""
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever went away in mid-answer was meant to."""

    @property
    def url(self) -> str:
        """Its base address; with a name where the certificate needs one."""
        return f"http://127.0.0.1:{self.server_address[1]}" if self.tls is None else self.secure_url

    @property
    def secure_url(self) -> str:
        """With the name that its certificate has."""
        return f"https://localhost:{self.server_address[1]}"


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve for as long as the block lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Trust:
    """A certificate authority of the tests' own, and a server certificate by it."""

    folder: Path
    ca: Path = field(init=False)
    context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' own")])
        ca = _certificate(ca_name, ca_name, ca_key, ca_key, is_ca=True)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(x509.Name([]), ca_name, key, ca_key, is_ca=False)
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        pair = self.folder / "server.pem"
        pair.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + leaf.public_bytes(serialization.Encoding.PEM)
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    names = [*map(x509.DNSName, NAMES), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(signer, hashes.SHA256())
