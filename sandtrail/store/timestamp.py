"""Tokens of time (RFC 3161): an authority elsewhere signs that some bytes existed at a moment.

`witness/authority.py` asks for one over HTTP; `check_token` judges one offline, years later. Steps of `check_token`; a
token that fails any of them is worth nothing:

1. it is DER, of a size that a token has, with nothing behind it
2. its message imprint is SHA-256 of the data
3. it has one signer, whose one certificate is in it
4. that certificate is for time stamping and nothing else (extended key usage, critical; RFC 3161 section 2.3)
5. the certificate was valid at the time that the token says
6. signature and chain lead to one of the given roots, at that time

What it doesn't do: ask whether a certificate has been revoked since. Whoever gets an authority's key can date tokens
back as long as its certificate lasts; two authorities are better than one. Needs no network, and no clock of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import cast

import rfc3161_client as tsp
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sandtrail.errors import DamagedError, EnvironmentRefusedError, UsageError

__all__ = ["MAX_TOKEN", "Stamped", "check_token", "load_roots", "read_answer", "request_token"]

_SHA256 = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
# A TimeStampResp (RFC 3161 section 2.4.2) is a SEQUENCE of its status and the token; this one says "granted".
_GRANTED = bytes.fromhex("3003020100")
MAX_TOKEN = 32 * 1024
_MAX_ROOTS = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stamped:
    """What a good token proves: the data existed at `time` (ns, whole seconds rounded down), give or take `accuracy`
    (ns; None where the authority does not say).

    `authority` is the subject of the signer's certificate (RFC 4514); text by others, so escape it when it is shown.
    """

    time: int
    accuracy: int | None
    authority: str

    @property
    def earliest(self) -> int:
        """The token was not made before this (ns): what comes after it in a log is younger."""
        return self.time - (self.accuracy or 0)

    @property
    def latest(self) -> int:
        """The token was not made after this (ns): what comes before it in a log is older."""
        return self.time + 10**9 + (self.accuracy or 0)


def load_roots(path: Path) -> list[x509.Certificate]:
    """The roots to trust, from a PEM file of one or more certificates. Raises UsageError when it holds none."""
    try:
        with path.open("rb") as file:
            found = x509.load_pem_x509_certificates(file.read(_MAX_ROOTS))
    except OSError as error:
        raise UsageError(f"the authorities' roots can't be read from {path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} holds no certificates in PEM form") from None
    return found


def request_token(data: bytes) -> tsp.TimeStampRequest:
    """What to send to an authority for a token over `data`: its digest, and a nonce."""
    return tsp.TimestampRequestBuilder().data(data).hash_algorithm(tsp.HashAlgorithm.SHA256).build()


def read_answer(
    answer: bytes, request: tsp.TimeStampRequest, data: bytes, roots: Sequence[x509.Certificate], authority: str
) -> bytes:
    """The token (DER) in an authority's answer; `authority` is what the errors call it.

    Status, nonce and imprint are checked, and the rest as well where `roots` are given. Raises EnvironmentRefusedError
    when there is no token in it, DamagedError when it is not the one that was asked for.
    """
    parts = _children(_content(_children(answer, 1)[0]))
    response = _parse(_element(0x30, b"".join(parts[:1])))
    if response.status not in (tsp.PKIStatus.GRANTED, tsp.PKIStatus.GRANTED_WITH_MODS) or len(parts) != 2:
        words = " ".join(response.status_string)
        raise EnvironmentRefusedError(
            f"the time authority {authority} refused: status {response.status} {words!r:.200}"
        )
    token = parts[1]
    if _guarded(lambda: _read(token).tst_info.nonce) != request.nonce:
        raise DamagedError(f"the time authority {authority} answered another request: the nonce is not ours")
    if roots:
        check_token(token, data, roots)
    else:
        _check_imprint(_read(token), data)
    return token


def check_token(token: bytes, data: bytes, roots: Sequence[x509.Certificate]) -> Stamped:
    """Judge a token over `data`. Raises DamagedError with the step's number when it does not hold, UsageError without
    roots."""
    if not roots:
        raise UsageError("a token of time is checked against the roots of its authority: name a PEM file of them")
    response = _read(token)
    _check_imprint(response, data)
    signer = _signer(response)
    _check_purpose(signer)
    info = response.tst_info
    at = info.gen_time
    if not signer.not_valid_before_utc <= at <= signer.not_valid_after_utc:
        raise DamagedError(f"step 5: the authority's certificate was not valid when the token was made, {at}")
    # The token's own certificates are no anchors: the library finds intermediate ones in it by itself.
    verifier = tsp.VerifierBuilder(roots=list(dict.fromkeys(roots))).build()
    try:
        _guarded(lambda: verifier.verify_message(response, data))
    except tsp.VerificationError as error:
        chain = "certificate verify error" in str(error)
        why = "its chain leads to no root that is trusted here" if chain else "the signature is not the authority's"
        raise DamagedError(f"step 6: the token does not hold: {why}") from None
    accuracy = cast("tsp.tsp.Accuracy | None", info.accuracy)  # the library's stub forgets the None
    micros = None
    if accuracy is not None:
        micros = (accuracy.seconds or 0) * 10**6 + (accuracy.millis or 0) * 1000 + (accuracy.micros or 0)
    return Stamped(
        time=(at - _EPOCH) // timedelta(microseconds=1) * 1000,
        accuracy=None if micros is None else micros * 1000,
        authority=signer.subject.rfc4514_string(),
    )


def _read(token: bytes) -> tsp.TimeStampResponse:
    """Step 1. The library reads whole responses, so one is put around the token."""
    if not 0 < len(token) <= MAX_TOKEN:
        raise DamagedError(f"step 1: a token of time is not {len(token)} bytes long")
    ordered = _with_ordered_certificates(token)
    response = _parse(_element(0x30, _GRANTED + ordered))
    if _guarded(response.time_stamp_token) != ordered:
        raise DamagedError("step 1: the token of time is not as an authority writes it (DER)")
    return response


def _with_ordered_certificates(token: bytes) -> bytes:
    """The same token with its certificates in DER's order, which the library insists on and few authorities keep to.

    No signature covers their order. ContentInfo and SignedData are those of RFC 5652, sections 3 and 5.1.
    """
    [outer] = _children(token, 1)
    kind, explicit = _children(_content(outer), 2)
    [signed] = _children(_content(explicit), 1)
    parts = _children(_content(signed))

    def rebuilt() -> bytes:
        return _element(outer[0], kind + _element(explicit[0], _element(signed[0], b"".join(parts))))

    if rebuilt() != token:
        raise DamagedError("step 1: the token of time is not DER: a length is longer than it has to be")
    for number, part in enumerate(parts):
        if part[0] == 0xA0:
            parts[number] = _element(0xA0, b"".join(sorted(_children(_content(part)))))
    return rebuilt()


def _children(data: bytes, count: int | None = None) -> list[bytes]:
    """The DER elements that stand in `data` one after the other, `count` of them where it is given."""
    found = []
    at = 0
    while at < len(data):
        head, size = _head(data[at : at + 6])
        found.append(data[at : at + head + size])
        at += head + size
    if at != len(data) or (count is not None and len(found) != count):
        raise DamagedError("step 1: the token of time is malformed, or something stands behind it")
    return found


def _content(element: bytes) -> bytes:
    return element[_head(element)[0] :]


def _head(data: bytes) -> tuple[int, int]:
    """Sizes of an element's head and content."""
    first = data[1] if len(data) > 1 else 0x80
    if first < 0x80:
        return 2, first
    octets = first - 0x80
    if not 1 <= octets <= 3:
        raise DamagedError("step 1: the token of time is not DER: a length is missing or absurd")
    return 2 + octets, int.from_bytes(data[2 : 2 + octets], "big")


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(length)]) + length + content


def _check_imprint(response: tsp.TimeStampResponse, data: bytes) -> None:
    """Step 2."""
    imprint = _guarded(lambda: response.tst_info.message_imprint)
    if imprint.hash_algorithm != _SHA256 or imprint.message != sha256(data).digest():
        raise DamagedError("step 2: the token of time is over other data: its digest differs")


def _signer(response: tsp.TimeStampResponse) -> x509.Certificate:
    """Step 3: the certificate of the one who signed. A second one of the same name and number could be looked at here
    while OpenSSL checks the signature with the first."""
    signed = _guarded(lambda: response.signed_data)
    signers = _guarded(lambda: [(one.issuer, one.serial_number) for one in signed.signer_infos])
    certificates = _guarded(lambda: [x509.load_der_x509_certificate(one) for one in signed.certificates])
    found = _guarded(lambda: [one for one in certificates if (one.issuer, one.serial_number) in signers])
    if len(signers) != 1 or len(found) != 1:
        raise DamagedError(
            f"step 3: the token has {len(signers)} signers, and {len(found)} certificates in it are theirs; "
            "there must be one of each"
        )
    return found[0]


def _check_purpose(signer: x509.Certificate) -> None:
    """Step 4."""
    try:
        usage = _guarded(lambda: signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage))
    except x509.ExtensionNotFound:
        usage = None
    if usage is None or not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise DamagedError("step 4: the token is signed with a certificate that is not for time stamping alone")


def _parse(answer: bytes) -> tsp.TimeStampResponse:
    return _guarded(lambda: tsp.decode_timestamp_response(answer))


def _guarded[T](work: Callable[[], T]) -> T:
    """Run the library over bytes of others: whatever it stumbles over, they are malformed."""
    try:
        return work()
    except (DamagedError, tsp.VerificationError, x509.ExtensionNotFound):
        raise
    except Exception as error:  # noqa: BLE001  # ValueError, TypeError, OverflowError, …: the library does not say which
        raise DamagedError(f"step 1: the token of time is malformed: {str(error)[:200]}") from None
    except BaseException as error:
        # A panic of the Rust below; pyo3 keeps the class to itself and puts it beside KeyboardInterrupt.
        if type(error).__name__ != "PanicException":
            raise
        raise DamagedError("step 1: the token of time is malformed: its reader gave up") from None
