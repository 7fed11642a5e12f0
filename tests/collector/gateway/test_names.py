"""The resolver on a sandbox's link, without the link: what it makes of whatever comes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.names import Names
from sandtrail.collector.gateway.session import Session
from sandtrail.collector.gateway.turned import Told, Turned, mismatch
from sandtrail.store.spool import SpoolWriter

HERE = "10.219.0.1"
ASKER = ("10.219.0.2", 40_000)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    home = Path(tempfile.mkdtemp(prefix="st-names-", dir="/tmp"))
    spool = SpoolWriter(home, "gateway")
    upstream = {f"name{n}.test": "http://192.0.2.1" for n in range(10)}
    descriptor = {"egress": "transparent", "upstream": upstream, "rules": {"deny": ["denied.*"]}}
    yield Session("s", descriptor, spool, Fingerprinter.load(home))
    spool.close()
    shutil.rmtree(home)


def ask(session: Session, data: bytes) -> bytes | None:
    return asyncio.run(Names(session, HERE).answer(data, ASKER, "udp"))


def answered(session: Session, name: str, kind: str = "A") -> dns.message.Message:
    question = dns.message.make_query(name, kind)
    answer = ask(session, question.to_wire())
    assert answer is not None
    found = dns.message.from_wire(answer)
    assert question.is_response(found)
    return found


def test_a_name_with_an_upstream_is_at_the_gateway(session: Session) -> None:
    assert [item.to_text() for item in answered(session, "Name1.TEST").answer[0]] == [HERE]
    assert ("name1.test", HERE) in session.told


@pytest.mark.parametrize("kind", ["AAAA", "HTTPS"])
def test_what_the_link_does_not_carry_has_no_answer_and_no_error(session: Session, kind: str) -> None:
    found = answered(session, "name1.test", kind)
    assert (found.rcode(), found.answer) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize("kind", ["TXT", "MX", "ANY", "AXFR", "NULL"])
def test_other_types_are_not_for_us(session: Session, kind: str) -> None:
    assert answered(session, "name1.test", kind).rcode() == dns.rcode.NOTIMP


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT"])
def test_a_name_that_the_rules_deny_is_not_looked_up(session: Session, kind: str) -> None:
    assert answered(session, "denied.example", kind).rcode() == dns.rcode.REFUSED


def test_what_no_resolver_could_look_up_is_answered_all_the_same(session: Session) -> None:
    """Where there are rules, what is no name of a host is refused before that."""
    told = (dns.rcode.SERVFAIL, dns.rcode.NXDOMAIN, dns.rcode.REFUSED)
    for label in (b"a\0b", b"\xff\xfe", b"a b", b"a" * 63, b"\0nxxb-.", b".", b"a..b"):
        name = bytes([len(label)]) + label + b"\4test\0"
        answer = ask(session, b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1")
        assert answer is None or dns.message.from_wire(answer).rcode() in told


def test_an_answer_is_no_question(session: Session) -> None:
    answer = dns.message.make_response(dns.message.make_query("name1.test", "A"))
    assert ask(session, answer.to_wire()) is None


@given(st.binary(max_size=600))
def test_whatever_comes_is_answered_or_not(session: Session, data: bytes) -> None:
    ask(session, data)


@given(
    name=st.integers(0, 9),
    cut=st.integers(0, 40),
    extra=st.binary(max_size=20),
    at=st.integers(0, 30),
    byte=st.integers(0, 255),
)
def test_what_is_almost_a_question_is_answered_or_not(
    session: Session, name: int, cut: int, extra: bytes, at: int, byte: int
) -> None:
    data = bytearray(dns.message.make_query(f"name{name}.test", "A").to_wire())
    data[at % len(data)] = byte if at >= 12 else data[at]  # the question, not the header
    if b"name" not in data or b"test" not in data:
        return  # any other name would be looked up for real
    answer = ask(session, bytes(data[: len(data) - cut] + extra))
    assert answer is None or len(answer) <= 512


def test_what_was_told_is_remembered_within_bounds() -> None:
    told = Told()
    for number in range(10_000):
        told.add(f"n{number}", "192.0.2.1")
    assert ("n9999", "192.0.2.1") in told
    assert ("n0", "192.0.2.1") not in told


@pytest.mark.parametrize(
    ("names", "ip", "fits"),
    [
        (["name1.test"], "198.51.100.1", True),  # goes to its upstream, wherever the client meant to go
        (["name1.test"], HERE, True),
        ([], HERE, False),
        ([HERE], HERE, False),
        (["203.0.113.7"], "203.0.113.7", True),
        (["203.0.113.7"], "203.0.113.8", False),
        (["name1.test", "203.0.113.8"], "203.0.113.7", False),
        (["localhost"], "203.0.113.7", False),
        (["told.example"], "203.0.113.7", True),
        (["Told.Example."], "203.0.113.7", True),
        (["told.example"], "203.0.113.8", False),
        (["a\0b"], "203.0.113.7", False),
    ],
)
def test_a_name_has_to_stand_for_the_address(session: Session, names: list[str], ip: str, fits: bool) -> None:
    session.told.add("told.example", "203.0.113.7")
    reason = asyncio.run(mismatch(session, Turned(ip, 443, HERE), names))
    assert (reason is None) is fits, reason
