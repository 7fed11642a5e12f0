"""What an operator may say about a sandbox's way out: options, a policy file, secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.gateway.policy import Policy
from sandtrail.collector.session.boundary import Boundary, SecretSource, load_secrets, parse_secret, read_policy
from sandtrail.errors import UsageError

VALUE = "correct-horse-9-battery"
NOTHING: dict[str, Any] = {"upstream": {}, "allow": [], "deny": [], "secrets": [], "on_failure": ""}
FILE = """
on_record_failure = "pass"
allow = ["api.test", "GET *.docs.test/a/*"]
deny = ["bad.test"]
[secrets.API_KEY]
from = "env:MY_KEY"
hosts = ["api.test"]
[upstream]
"api.test" = "http://127.0.0.1:1"
[redact]
headers = ["x-tenant"]
[limits]
request_body = 1000
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K=env:V@a.test", SecretSource("K", "env", "V", ("a.test",))),
        ("K@a.test,*.b.test", SecretSource("K", "env", "K", ("a.test", "*.b.test"))),
        ("K=file:/run/keys/me@home/k@a.test", SecretSource("K", "file", "/run/keys/me@home/k", ("a.test",))),
    ],
)
def test_a_secret_is_named_with_its_source_and_its_hosts(text: str, expected: SecretSource) -> None:
    assert parse_secret(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "K",
        "K=env:V",
        "K=env:V@",
        "K=env:V@a.test,",
        f"K={VALUE}@a.test",
        "=env:V@a.test",
        f"{VALUE}@a.test",
        "K=env:@a",
    ],
)
def test_a_value_on_the_command_line_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_secret(text)
    assert VALUE not in str(refused.value)


def test_options_add_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(FILE)
    alone = read_policy(path).with_options(**NOTHING)
    assert alone.described() == {
        "on_failure": "pass",
        "rules": {"allow": ["api.test", "GET *.docs.test/a/*"], "deny": ["bad.test"]},
        "upstream": {"api.test": "http://127.0.0.1:1"},
        "redact": {"headers": ["x-tenant"]},
        "limits": {"request_body": 1000},
    }
    assert Policy.parse(alone.described()).on_failure == "pass"
    more = read_policy(path).with_options(
        upstream={"api.test": "http://127.0.0.1:2", "b.test": "http://127.0.0.1:3"},
        allow=["c.test"],
        deny=["d.test"],
        secrets=[parse_secret("API_KEY=file:/k@api.test"), parse_secret("B@b.test")],
        on_failure="stop",
    )
    said = more.described()
    assert (said["on_failure"], said["upstream"]["api.test"]) == ("stop", "http://127.0.0.1:2")
    assert said["rules"] == {"allow": ["api.test", "GET *.docs.test/a/*", "c.test"], "deny": ["bad.test", "d.test"]}
    assert [(source.name, source.kind) for source in more.secrets] == [("API_KEY", "file"), ("B", "env")]


def test_without_a_word_everything_may_leave_and_nothing_unrecorded() -> None:
    assert Boundary().with_options(**NOTHING).described() == {"on_failure": "stop"}
    assert Boundary(allow=()).described()["rules"] == {"allow": [], "deny": []}, "an empty list allows nothing"


@pytest.mark.parametrize(
    "text",
    [
        "alow = []",
        "allow = 'a.test'",
        "allow = ['a.test:443']",
        "[secrets.K]\nfrom = 'env:V'",
        "[secrets.K]\nfrom = 'V'\nhosts = ['a']",
        "[secrets]\nK = 'env:V'",
        "upstream = 1",
        "[upstream]\n'a.test' = 1",
        "on_record_failure = 'maybe'",
        "[limits]\nrequest_body = 'x'",
        "= nonsense",
        "[secrets.K]\nfrom = 'env:V'\nhosts = 'a.test'",
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_policy(path).with_options(**NOTHING)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_policy(tmp_path / "policy.toml")


@given(st.text(max_size=60))
def test_any_word_is_a_secret_or_refused(text: str) -> None:
    try:
        source = parse_secret(text)
    except UsageError:
        return
    assert source.kind in ("env", "file")
    assert source.hosts


def test_values_are_read_and_leave_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_KEY", VALUE)
    path = tmp_path / "key"
    path.write_text(f"{VALUE[::-1]}\n")
    sources = [
        parse_secret("A=env:MY_KEY@a.test"),
        parse_secret("B=env:MY_KEY@b.test"),
        parse_secret(f"C=file:{path}@c.test"),
    ]
    loaded = load_secrets(sources, {}, ["true"])
    assert [secret.value for secret in loaded] == [VALUE, VALUE, VALUE[::-1]]
    assert len({secret.core for secret in loaded}) == 3
    assert "MY_KEY" not in os.environ


@pytest.mark.parametrize(
    ("environment", "command"),
    [({"K": "x"}, ["true"]), ({"OTHER": VALUE}, ["true"]), ({}, ["curl", "-H", f"Authorization: Bearer {VALUE}"])],
)
def test_a_value_may_not_enter_the_sandbox_by_another_way(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], command: list[str]
) -> None:
    monkeypatch.setenv("K", VALUE)
    with pytest.raises(UsageError) as refused:
        load_secrets([parse_secret("K@a.test")], environment, command)
    assert VALUE not in str(refused.value)


@pytest.mark.parametrize("text", ["K=env:NOT_SET@a.test", "K=file:/nowhere/k@a.test", "K=file:/usr/bin/env@a.test"])
def test_a_source_without_a_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        load_secrets([parse_secret(text)], {}, ["true"])
