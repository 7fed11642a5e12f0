"""What a listener's descriptor may say."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.gateway.addresses import why_not
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.policy import Policy, Upstream
from sandtrail.collector.gateway.redact import Redactor
from sandtrail.collector.gateway.rules import Decision
from sandtrail.collector.network import namespaces
from sandtrail.errors import UsageError


def test_without_a_word_everything_is_allowed() -> None:
    policy = Policy.parse({})
    assert policy.rules.judge(["anything.test"], ["GET"], "/") == Decision()
    assert policy.upstream("anything.test") is None
    assert policy.on_failure == "stop"


def test_names_are_compared_as_dns_does() -> None:
    policy = Policy.parse({"upstream": {"API.test.": "http://127.0.0.1:1"}, "rules": {"deny": ["BÜCHER.test"]}})
    assert policy.upstream("api.TEST") == Upstream("http", "127.0.0.1", 1, "", True)
    assert policy.rules.judge(["xn--bcher-kva.test."], ["GET"], "/").denial


@pytest.mark.parametrize(
    "descriptor",
    [
        {"upstream": {"a.test": "127.0.0.1:80"}},
        {"upstream": {"a.test": "ftp://127.0.0.1"}},
        {"upstream": {"a.test": "http://me:pw@127.0.0.1"}},
        {"upstream": {"a.test": "http://127.0.0.1:99999"}},
        {"upstream": ["a.test"]},
        {"rules": {"alow": []}},
        {"rules": {"allow": "a.test"}},
        {"rules": ["a.test"]},
        {"rules": {"allow": ["a.test:443"]}},
        {"rules": {"allow": ["GET"] * 2000}},
        {"rules": {"deny": ["GET POST a.test"]}},
        {"rules": {"deny": ["a.test/x?y=1"]}},
        {"rules": {"deny": ["/only/a/path"]}},
        {"rules": {"deny": [""]}},
        {"limits": {"request_body": 0}},
        {"limits": {"requestbody": 5}},
        {"limits": {"response_body": 1 << 30}},
        {"on_failure": "maybe"},
    ],
)
def test_what_makes_no_sense_is_refused(descriptor: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Policy.parse(descriptor)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMED = ["headers", "query", "fields", "prefixes"]


@given(
    upstream=JSON | st.dictionaries(st.text(max_size=8), st.text() | st.just("http://127.0.0.1:1"), max_size=2),
    rules=JSON | st.fixed_dictionaries({}, optional={"allow": JSON, "deny": JSON | st.lists(st.text())}),
    limits=JSON | st.dictionaries(st.sampled_from(["memory", "connections"]), JSON),
    redact=JSON | st.dictionaries(st.sampled_from(NAMED), JSON),
)
def test_any_descriptor_is_understood_or_refused(**descriptor: Any) -> None:
    with contextlib.suppress(UsageError):
        Policy.parse(descriptor).rules.judge(["some.test"], ["GET"], "/")
    with contextlib.suppress(UsageError):
        Redactor(Fingerprinter(b"k" * 32), descriptor["redact"])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.169.254", "fe80::1%eth0", "224.0.0.1",
        "255.255.255.255", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fd00:ec2::254",
        "100.100.100.200", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "no address",
    ],
)  # fmt: skip
def test_addresses_that_only_the_host_should_reach(address: str) -> None:
    assert why_not(address)


@pytest.mark.needs("root", "ip")
def test_whole_networks_that_the_host_answers_for_are_its_own() -> None:
    space = f"st-ours{os.getpid()}"
    namespaces.create(space)
    try:
        for six, network in ((), "198.51.100.0/24"), (("-6",), "2001:db8:77::/64"):
            namespaces.tool("ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0")
            namespaces.tool("ip", "-n", space, *six, "route", "add", "local", network, "dev", "lo")
        looked_at = ("198.51.100.9", "2001:db8:77::9", "198.51.101.9", "2001:db8:78::9")
        ask = f"from sandtrail.collector.gateway.addresses import why_not; print(*map(why_not, {looked_at}), sep='|')"
        told = namespaces.tool("ip", "netns", "exec", space, sys.executable, "-c", ask)
    finally:
        namespaces.delete(space)
    assert told.strip().split("|") == ["it is an address of the host"] * 2 + ["None"] * 2


@pytest.mark.parametrize("address", ["192.0.2.200", "10.200.200.200", "2001:db8::1", "::ffff:192.0.2.200"])
def test_addresses_that_anybody_may_reach(address: str) -> None:
    assert why_not(address) is None
