"""What the operator lets out of a sandbox, and how: options of `sandtrail record`, and a policy file beside them.

on_record_failure = "stop"
allow = ["api.openai.com", "GET *.example.org/docs/*"]     # see collector/gateway/rules.py
deny = ["*.example.org/docs/internal/*"]

[secrets.OPENAI_API_KEY]                                   # the sandbox's variable
from = "env:OPENAI_API_KEY"                                # or file:/path
hosts = ["api.openai.com"]

[upstream]
"api.openai.com" = "http://127.0.0.1:8080"

[redact]                                                   # names of headers, parameters, fields; prefixes
headers = ["x-tenant"]

[limits]
request_body = 1048576
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandtrail.collector.gateway.policy import Policy
from sandtrail.collector.secrets import Secret, make_secret
from sandtrail.errors import UsageError

__all__ = ["Boundary", "SecretSource", "load_secrets", "parse_secret", "read_policy"]

_MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class SecretSource:
    """Where a secret's value is: `kind` "env" with a variable's name, or "file" with a path."""

    name: str
    kind: str
    place: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Boundary:
    """The gateway's policy for one sandbox, as in a listener's descriptor (docs/architecture.md), and its secrets."""

    upstream: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    redact: Any = None
    limits: Any = None
    on_failure: str = "stop"
    secrets: tuple[SecretSource, ...] = ()

    def with_options(
        self,
        *,
        upstream: Mapping[str, str],
        allow: Iterable[str],
        deny: Iterable[str],
        secrets: Iterable[SecretSource],
        on_failure: str,
    ) -> Boundary:
        """With what the command line adds: it wins where there can be only one. Raises UsageError for a policy that
        the gateway would refuse."""
        mine = {source.name: source for source in (*self.secrets, *secrets)}
        allowed = (*(self.allow or ()), *allow)
        made = Boundary(
            {**self.upstream, **upstream},
            allowed if allowed or self.allow is not None else None,
            (*self.deny, *deny),
            self.redact,
            self.limits,
            on_failure or self.on_failure,
            tuple(mine.values()),
        )
        if made.on_failure not in ("stop", "pass"):
            raise UsageError(f"--on-record-failure {made.on_failure}: write stop or pass")
        Policy.parse(made.described())
        return made

    def described(self) -> dict[str, Any]:
        """For the descriptor, without the secrets."""
        rules = {"allow": None if self.allow is None else list(self.allow), "deny": list(self.deny)}
        given = {"upstream": dict(self.upstream), "redact": self.redact, "limits": self.limits}
        ruled = {"rules": rules} if self.deny or self.allow is not None else {}
        return {"on_failure": self.on_failure, **ruled, **{key: value for key, value in given.items() if value}}


def parse_secret(text: str) -> SecretSource:
    """`NAME=env:VARIABLE@HOST[,HOST…]` or `NAME=file:/PATH@HOST[,HOST…]`; `NAME@HOST` takes the variable of that name.
    Raises UsageError."""
    head, at, hosts = text.rpartition("@")
    name, equals, source = head.partition("=")
    globs = [glob.strip() for glob in hosts.split(",")]
    if not at or not (name.isidentifier() and name.isascii()) or not all(globs):
        # Whoever wrote the value itself here should not find it in an error message as well.
        raise UsageError(
            "--secret: write NAME=env:VARIABLE@HOST[,HOST] or NAME=file:/PATH@HOST[,HOST]; the value itself is never "
            "on the command line, where every process of the machine can read it"
        )
    return _source(name, source if equals else f"env:{name}", globs)


def _source(name: str, source: Any, hosts: Any) -> SecretSource:
    kind, colon, place = source.partition(":") if isinstance(source, str) else ("", "", "")
    if kind not in ("env", "file") or not colon or not place:
        raise UsageError(f"secret {name:.64}: its source is env:VARIABLE or file:/PATH, never the value itself")
    if not isinstance(hosts, list) or not hosts or not all(isinstance(host, str) for host in hosts):
        raise UsageError(f"secret {name:.64}: hosts is a list of names such as api.example.org")
    return SecretSource(name, kind, place, tuple(hosts))


def read_policy(path: Path) -> Boundary:
    """A policy file. Raises UsageError."""
    try:
        with path.open("rb") as file:
            document = tomllib.loads(file.read(_MAX_FILE).decode())
    except OSError as error:
        raise UsageError(f"cannot read the policy {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"the policy {path} is no TOML: {error}") from None
    known = {"allow", "deny", "upstream", "redact", "limits", "on_record_failure", "secrets"}
    if extra := sorted(set(document) - known):
        raise UsageError(f"the policy {path} has {', '.join(extra)}; it can have {', '.join(sorted(known))}")
    secrets = document.get("secrets", {})
    if not isinstance(secrets, dict) or not all(
        isinstance(item, dict) and set(item) == {"from", "hosts"} for item in secrets.values()
    ):
        raise UsageError(f'the policy {path}: a secret is [secrets.NAME] with from = "env:…" and hosts = […]')
    if not isinstance(document.get("upstream", {}), dict):
        raise UsageError(f'the policy {path}: [upstream] has lines such as "api.example.org" = "http://127.0.0.1:8080"')
    allow, deny = (_rules(path, document, key) for key in ("allow", "deny"))
    return Boundary(
        document.get("upstream", {}),
        allow,
        deny or (),
        document.get("redact"),
        document.get("limits"),
        str(document.get("on_record_failure", "stop")),
        tuple(_source(name, item["from"], item["hosts"]) for name, item in secrets.items()),
    )


def _rules(path: Path, document: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    rules = document.get(key)
    if rules is not None and not isinstance(rules, list):
        raise UsageError(f"the policy {path}: {key} is a list of rules")
    return None if rules is None else tuple(rules)


def load_secrets(
    sources: Iterable[SecretSource], environment: Mapping[str, str], command: Sequence[str]
) -> list[Secret]:
    """Read the values. Variables that hold one leave this process's environment: what it starts has no use for them.
    Raises UsageError, also where a value is about to enter the sandbox in another way."""
    sources = list(sources)
    loaded = [make_secret(source.name, _value(source), source.hosts) for source in sources]
    for source in sources:
        if source.kind == "env":
            os.environ.pop(source.place, None)
    for secret in loaded:
        if secret.name in environment:
            raise UsageError(f"--env {secret.name}: the sandbox's variable of that name holds a secret's placeholder")
        if any(secret.value in text for text in environment.values()):
            raise UsageError(
                f"--env: a variable holds the value of the secret {secret.name}, and would be in the record"
            )
        if any(secret.value in word for word in command):
            raise UsageError(f"the command holds the value of the secret {secret.name}, and would be in the record")
    return loaded


def _value(source: SecretSource) -> str:
    if source.kind == "env":
        if source.place not in os.environ:
            raise UsageError(f"secret {source.name}: the variable {source.place:.64} is not set here")
        return os.environ[source.place]
    try:
        with Path(source.place).expanduser().open("rb") as file:
            return file.read(_MAX_FILE).decode().rstrip("\r\n")
    except OSError as error:
        raise UsageError(f"secret {source.name}: cannot read {source.place}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"secret {source.name}: {source.place} is no text") from None
