"""Tokens of time, judged offline: each way to be worthless, with the step that says so."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, UsageError
from sandtrail.store.timestamp import Stamped, check_token, load_roots
from tests.store.authority import DAY, Authority, certify

pytestmark = pytest.mark.needs("openssl")
DATA = b"example.org/log\n7\nAAAA\n"
SECOND = 10**9


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Authority(tmp_path / "authority")


def test_the_time_is_that_of_the_authority(authority: Authority) -> None:
    first = check_token(authority.token(DATA), DATA, authority.roots)
    signed = authority.signer.certificate.not_valid_before_utc
    assert first.time % SECOND == 0
    assert first.time > signed.timestamp() * SECOND
    assert first.earliest < first.time < first.latest
    assert first.latest - first.earliest == 2 * 1_500_100_000 + SECOND


def test_where_the_authority_does_not_say_how_exact_it_is_a_second_is_left_for_what_it_rounds() -> None:
    assert (Stamped(5 * SECOND, None, "").earliest, Stamped(5 * SECOND, None, "").latest) == (5 * SECOND, 6 * SECOND)


def test_fractions_of_seconds_are_read(tmp_path: Path) -> None:
    exact = Authority(tmp_path / "exact", digits=3)
    assert check_token(exact.token(DATA), DATA, exact.roots).time % SECOND == 0


def test_a_token_outlives_the_certificate_of_its_signer(authority: Authority) -> None:
    """Valid when it signed is what counts: a signer that was valid for the moment only is good for ever."""
    authority.use(certify("Short", authority.middle, begin=-DAY, end=timedelta(seconds=30)))
    token = authority.token(DATA)
    assert check_token(token, DATA, authority.roots).authority == "CN=Short"


def test_an_authority_may_sign_with_rsa_and_be_certified_by_the_root_itself(authority: Authority) -> None:
    authority.use(certify("RSA", authority.root, key=rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    token = authority.token(DATA)
    assert check_token(token, DATA, authority.roots).authority == "CN=RSA"
    assert authority.agrees(token, DATA)


def test_over_other_data_it_is_nothing(authority: Authority) -> None:
    with pytest.raises(DamagedError, match="step 2"):
        check_token(authority.token(DATA), DATA + b" ", authority.roots)


def test_another_digest_than_sha_256_is_not_what_was_asked_for(authority: Authority) -> None:
    with pytest.raises(DamagedError, match="step 2"):
        check_token(authority.token(DATA, "-sha512"), DATA, authority.roots)


def test_two_signers_are_one_too_many(authority: Authority) -> None:
    token = authority.resign(authority.token(DATA), authority.signer, certify("Second", authority.middle))
    with pytest.raises(DamagedError, match="step 3: the token has 2 signers"):
        check_token(token, DATA, authority.roots)


def test_a_token_without_its_certificate_cannot_be_checked_later(authority: Authority) -> None:
    with pytest.raises(DamagedError, match=r"step 3: .* 0 certificates"):
        check_token(authority.token(DATA, "-sha256", certificate=False), DATA, authority.roots)


@pytest.mark.parametrize(
    ("usage", "critical"),
    [
        ((), True),
        ((ExtendedKeyUsageOID.SERVER_AUTH,), True),
        ((ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH), True),
        ((ExtendedKeyUsageOID.TIME_STAMPING,), False),
    ],
    ids=["none", "server", "both", "not-critical"],
)
def test_a_certificate_for_something_else_makes_no_time(
    authority: Authority, usage: tuple[object, ...], critical: bool
) -> None:
    web = certify("Web", authority.middle, usage=usage, critical=critical)  # type: ignore[arg-type]
    token = authority.resign(authority.token(DATA), web)
    with pytest.raises(DamagedError, match="step 4"):
        check_token(token, DATA, authority.roots)
    assert not authority.agrees(token, DATA)


@pytest.mark.parametrize(("begin", "end"), [(-3 * DAY, -2 * DAY), (2 * DAY, 3 * DAY)], ids=["expired", "not-yet"])
def test_a_signer_that_was_not_valid_then_makes_no_time(authority: Authority, begin: timedelta, end: timedelta) -> None:
    token = authority.resign(authority.token(DATA), certify("Late", authority.middle, begin=begin, end=end))
    with pytest.raises(DamagedError, match="step 5"):
        check_token(token, DATA, authority.roots)


def test_an_intermediate_that_was_not_valid_then_makes_no_time(authority: Authority) -> None:
    authority.middle = certify("Old", authority.root, ca=True, begin=-3 * DAY, end=-2 * DAY)
    authority.use(certify("New Authority", authority.middle))
    with pytest.raises(DamagedError, match="step 6.*chain"):
        check_token(authority.token(DATA), DATA, authority.roots)


def test_another_root_is_not_trusted_even_under_the_same_name(authority: Authority) -> None:
    token = authority.token(DATA)
    for name in ("Somebody", "Local Root"):
        with pytest.raises(DamagedError, match="step 6.*chain"):
            check_token(token, DATA, [certify(name, None, ca=True).certificate])


def test_a_root_that_the_token_brings_along_is_not_trusted(authority: Authority) -> None:
    forged = certify("Forged Root", None, ca=True)
    token = authority.resign(authority.token(DATA), certify("Forged", forged), extra=(forged,))
    with pytest.raises(DamagedError, match="step 6.*chain"):
        check_token(token, DATA, authority.roots)
    assert check_token(token, DATA, [forged.certificate]).authority == "CN=Forged"


def test_a_server_cannot_act_as_authority_with_the_certificate_of_a_signer(authority: Authority) -> None:
    """The true signer's certificate beside another's signature: whose key signed is what counts."""
    other = certify("Local Time Authority", authority.middle)
    token = authority.resign(authority.token(DATA), other)
    swapped = token.replace(
        other.certificate.public_bytes(serialization.Encoding.DER),
        authority.signer.certificate.public_bytes(serialization.Encoding.DER),
    )
    with pytest.raises(DamagedError):
        check_token(swapped, DATA, authority.roots)


def test_of_all_flipped_bits_none_makes_another_time(authority: Authority) -> None:
    """Bits that no signature covers (versions, names of algorithms) may differ; what is said never does."""
    token = authority.token(DATA)
    good = check_token(token, DATA, authority.roots)
    chosen = random.Random(7).sample(range(len(token) * 8), 1200)
    refused = 0
    for bit in chosen:
        changed = bytearray(token)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert check_token(bytes(changed), DATA, authority.roots) == good
        except DamagedError:
            refused += 1
    assert refused > 0.95 * len(chosen)


@pytest.mark.parametrize("change", ["empty", "cut", "longer", "huge"])
def test_a_token_that_is_cut_or_carries_more_is_refused(authority: Authority, change: str) -> None:
    token = authority.token(DATA)
    changed = {"empty": b"", "cut": token[:-1], "longer": token + b"\x05\x00", "huge": token + bytes(1 << 20)}[change]
    with pytest.raises(DamagedError, match="step 1"):
        check_token(changed, DATA, authority.roots)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x30\x20\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x13\x30\x11"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_bytes_come_they_are_no_token(data: bytes, before: bytes) -> None:
    with pytest.raises(DamagedError):
        check_token(before + data, DATA, ROOTS)


ROOTS = [certify("Root", None, ca=True).certificate]


def test_without_roots_nothing_is_checked(authority: Authority) -> None:
    with pytest.raises(UsageError, match="roots"):
        check_token(authority.token(DATA), DATA, [])


def test_roots_come_from_a_pem_file(authority: Authority, tmp_path: Path) -> None:
    pem = b"".join(
        one.certificate.public_bytes(serialization.Encoding.PEM) for one in (authority.root, authority.middle)
    )
    (tmp_path / "roots.pem").write_bytes(pem)
    assert check_token(authority.token(DATA), DATA, load_roots(tmp_path / "roots.pem")).authority
    (tmp_path / "none.pem").write_bytes(b"nothing")
    for name in ("none.pem", "missing.pem"):
        with pytest.raises(UsageError):
            load_roots(tmp_path / name)


# -- asking ------------------------------------------------------------------------------------------------------------
