"""A time stamping authority on this machine, in place of a public one: OpenSSL's, behind HTTP, by the real protocol.

Its certificates are made here, because OpenSSL's commands can't date one into the past; every token is OpenSSL's own.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from sandtrail.witness.protocol import Reply
from tests.witness.serving import serving

DAY = timedelta(days=1)
REPLY = "application/timestamp-reply"
_CONFIGURATION = """
[tsa]
serial = {folder}/serial
default_policy = 1.3.6.1.4.1.32473.1
digests = sha256, sha512
signer_digest = sha256
accuracy = secs:1, millisecs:500, microsecs:100
clock_precision_digits = {digits}
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Issuer:
    """A certificate and its key, which can certify others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    def write(self, folder: Path, name: str) -> None:
        (folder / f"{name}.pem").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        secret = self.key.private_bytes(pem, pkcs8, serialization.NoEncryption())
        (folder / f"{name}.key").write_bytes(secret)


def certify(
    name: str,
    by: Issuer | None,
    *,
    ca: bool = False,
    usage: tuple[ObjectIdentifier, ...] = (ExtendedKeyUsageOID.TIME_STAMPING,),
    critical: bool = True,
    begin: timedelta = -DAY,
    end: timedelta = DAY,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> Issuer:
    """A certificate for `name`, valid from `begin` to `end` as seen from now; without `by`, a root."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(by.certificate.subject if by else subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usage and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=critical)
    return Issuer(builder.sign(by.key if by else key, hashes.SHA256()), key)


class Authority:
    """A root, an intermediate, a signer, and the OpenSSL that signs with it. `signer` can be replaced."""

    def __init__(self, folder: Path, *, digits: int = 0) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.root = certify("Local Root", None, ca=True, begin=-4000 * DAY, end=4000 * DAY)
        self.middle = certify("Local Intermediate", self.root, ca=True, begin=-4000 * DAY, end=4000 * DAY)
        self.use(certify("Local Time Authority", self.middle))
        (folder / "serial").write_text("01\n")
        (folder / "ts.cnf").write_text(_CONFIGURATION.format(folder=folder, digits=digits))
        self._counter = 0

    @property
    def roots(self) -> list[x509.Certificate]:
        return [self.root.certificate]

    def use(self, signer: Issuer) -> None:
        self.signer = signer
        signer.write(self.folder, "signer")
        self.middle.write(self.folder, "middle")

    def reply(self, request: bytes) -> bytes:
        """OpenSSL's TimeStampResp to a TimeStampReq."""
        (self.folder / "request").write_bytes(request)
        self._openssl(
            "ts", "-reply", "-config", "ts.cnf", "-section", "tsa", "-queryfile", "request", "-out", "reply",
            "-signer", "signer.pem", "-inkey", "signer.key", "-chain", "middle.pem",
        )  # fmt: skip
        return (self.folder / "reply").read_bytes()

    def token(self, data: bytes, *options: str, certificate: bool = True) -> bytes:
        """A token over `data` by hand: OpenSSL makes the request too. `options` of `openssl ts -query`."""
        (self.folder / "data").write_bytes(data)
        asked = [*(options or ("-sha256",)), *(["-cert"] if certificate else [])]
        self._openssl("ts", "-query", "-data", "data", *asked, "-out", "query")
        (self.folder / "response").write_bytes(self.reply((self.folder / "query").read_bytes()))
        self._openssl("ts", "-reply", "-in", "response", "-token_out", "-out", "token")
        return (self.folder / "token").read_bytes()

    def resign(self, token: bytes, *signers: Issuer, extra: tuple[Issuer, ...] = ()) -> bytes:
        """The token's content, signed by somebody else with OpenSSL's CMS command, which asks for no purpose."""
        (self.folder / "old").write_bytes(token)
        self._openssl("cms", "-verify", "-noverify", "-in", "old", "-inform", "DER", "-binary", "-out", "content")
        names = []
        for number, signer in enumerate(signers):
            signer.write(self.folder, f"other{number}")
            names += ["-signer", f"other{number}.pem", "-inkey", f"other{number}.key"]
        more = b"".join(one.certificate.public_bytes(serialization.Encoding.PEM) for one in (self.middle, *extra))
        (self.folder / "more.pem").write_bytes(more)
        self._openssl(
            "cms", "-sign", "-in", "content", "-binary", "-nodetach", "-outform", "DER", "-out", "new", "-cades",
            "-nosmimecap", "-md", "sha256", "-econtent_type", "1.2.840.113549.1.9.16.1.4", "-certfile", "more.pem",
            *names,
        )  # fmt: skip
        return (self.folder / "new").read_bytes()

    def agrees(self, token: bytes, data: bytes) -> bool:
        """Whether `openssl ts -verify`, which is not ours, takes the token for good."""
        self.root.write(self.folder, "root")
        (self.folder / "data").write_bytes(data)
        (self.folder / "judged").write_bytes(token)
        command = ["openssl", "ts", "-verify", "-data", "data", "-in", "judged", "-token_in", "-CAfile", "root.pem"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, check=False).returncode == 0

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The authority's address while it answers there, one request at a time."""
        lock = threading.Lock()

        def answer(request: bytes) -> Reply:
            with lock:
                return Reply(200, self.reply(request), REPLY)

        with responder(answer) as url:
            yield url


@contextmanager
def responder(answer: Callable[[bytes], Reply]) -> Iterator[str]:
    """The address of an authority that answers a request's bytes as it is told."""
    with serving(lambda _method, _path, body: answer(body)) as url:
        yield f"{url}/tsa"
