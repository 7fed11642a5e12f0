"""One sandbox's secrets in the gateway, and what one exchange may do with them.

A placeholder becomes the value on its way out to a host that the secret is for, over TLS or to an upstream that the
operator has named, when the rules have allowed the request. Seen on its way anywhere else it is attempted exfiltration:
refused, and recorded by the secret's name and fingerprint. What comes back from a host that gets the value is searched
for it (`returns`). The record holds neither value nor placeholder.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Any

from mitmproxy import http

from sandtrail.collector.gateway.lookout import Lookout, spellings
from sandtrail.collector.gateway.redact import Redactor, printable
from sandtrail.collector.gateway.refusal import Refusal
from sandtrail.collector.gateway.returns import Returns, written_forms
from sandtrail.collector.gateway.rules import canonical
from sandtrail.collector.gateway.swap import NOT_PASSED_ON, Swap
from sandtrail.collector.secrets import Secret
from sandtrail.errors import UsageError

__all__ = ["Access", "Vault"]


_SLICE = 16 * 1024
"""What is looked at before others have their turn: it may become a thousand times as much."""


class Vault:
    """Made from what came with the listener; the redactor learns values and placeholders. Raises UsageError when the
    descriptor speaks of others."""

    def __init__(self, secrets: Iterable[Secret], described: Any, redactor: Redactor) -> None:
        self.secrets = tuple(secrets)
        named = [{"name": secret.name, "hosts": list(secret.hosts)} for secret in self.secrets]
        if (described or []) != named:
            raise UsageError("the descriptor's secrets are not those that came with the listener")
        self._redactor = redactor
        self._hosts = {
            secret.name: re.compile("|".join(translate(canonical(glob)) for glob in secret.hosts))
            for secret in self.secrets
        }
        self.fingerprints = {secret.name: self._teach(secret) for secret in self.secrets}
        self._all = Lookout(self.secrets)
        self._returns: dict[tuple[Secret, ...], Returns] = {}

    def _teach(self, secret: Secret) -> str:
        value = secret.value.encode()
        placeholder = secret.placeholder.encode()
        forms = [*written_forms(value), *written_forms(placeholder), placeholder.lower()]
        forms += spellings(secret.core.encode()) | {secret.core.upper().encode()}
        return self._redactor.know(secret.name, value, forms)

    def described(self) -> list[dict[str, Any]]:
        """For the stream's first frame: by name, hosts and fingerprint."""
        return [
            {"name": secret.name, "hosts": list(secret.hosts), "fingerprint": self.fingerprints[secret.name]}
            for secret in self.secrets
        ]

    def __bool__(self) -> bool:
        return bool(self.secrets)

    def access(self, names: Iterable[str], *, private: bool) -> Access:
        """What a request may have that goes by these names of hosts, every one of which has to be entitled; `private`
        says that nobody on the way can read it."""
        hosts = [canonical(name) for name in names if name]
        entitled = tuple(
            secret
            for secret in self.secrets
            if private and hosts and all(self._hosts[secret.name].fullmatch(host) for host in hosts)
        )
        return Access(self, entitled, hosts[0] if hosts else "")

    def tunnel(self, host: str) -> Access:
        """What bytes that are no HTTP may have: nothing."""
        return Access(self, (), canonical(host))

    def in_names(self, *names: str) -> Secret | None:
        """The secret whose placeholder is in the name of a host, which whoever resolves it gets to know."""
        return next(
            (found for name in names if (found := self._all.seen_in(name.encode("utf-8", "surrogateescape")))), None
        )

    def returns(self, secrets: tuple[Secret, ...]) -> Returns | None:
        """For values that come back from a host that these secrets are for."""
        if secrets and secrets not in self._returns:
            self._returns[secrets] = Returns(secrets)
        return self._returns.get(secrets)

    def names_field(self, name: bytes) -> bool:
        """Whether a parameter or a body's field of this name holds a secret."""
        return self._redactor.names_field(name)

    def facts(self, secret: Secret, host: str, where: str, at: str = "") -> dict[str, Any]:
        """What is recorded of a placeholder's sighting, and of a swap."""
        facts = {
            "secret": secret.name,
            "fingerprint": self.fingerprints[secret.name],
            "host": self._redactor.name(host),
        }
        return {**facts, "in": where, **({"at": self._redactor.name(at)} if at else {})}

    def refusal(self, secret: Secret, host: str, where: str, at: str = "") -> Refusal:
        """The answer to a request that holds a placeholder where it does not belong."""
        message = f"the secret {secret.name} is not for this host, or not to be sent in this way"
        return Refusal(403, "exfiltration", message, self.facts(secret, host, where, at))


class Access:
    """One exchange's, WebSocket's or tunnel's part of it."""

    def __init__(self, vault: Vault, entitled: tuple[Secret, ...], host: str) -> None:
        self._vault = vault
        self._entitled = entitled
        self._foreign = tuple(secret for secret in vault.secrets if secret not in entitled)
        self._host = host

    def refuse(self, secret: Secret, where: str, at: str = "") -> Refusal:
        """The refusal of a placeholder that was seen there."""
        return self._vault.refusal(secret, self._host, where, at)

    def judge_head(self, request: http.Request, names: Iterable[str]) -> Refusal | None:
        """Why the request's head may not go where it goes."""
        if not self._vault:
            return None
        if found := self._vault.in_names(*names):
            return self.refuse(found, "host")
        for text in (request.data.method, request.data.path):
            if found := self.lookout().seen_in(text):
                return self.refuse(found, "url")
        return self._judge_fields(request.headers, "header")

    def _judge_fields(self, fields: http.Headers, where: str) -> Refusal | None:
        look = self.lookout()
        for name, value in fields.fields:
            if name.lower() not in NOT_PASSED_ON and (found := look.seen_in(name) or look.seen_in(value)):
                return self.refuse(found, where, printable(name).lower())
        return None

    async def judge_body(self, request: http.Request) -> Refusal | None:
        """Why a body that is all there, or trailers, may not go there."""
        if not self._foreign:
            return None
        look, body = self.lookout(request.headers.get("content-encoding", "")), request.raw_content or b""
        for start in range(0, len(body), _SLICE):
            if found := look.feed(body[start : start + _SLICE]):
                return self.refuse(found, "body")
            await asyncio.sleep(0)  # others have their turn
        return self.judge_trailers(request)

    def judge_trailers(self, request: http.Request) -> Refusal | None:
        """Why the trailers may not go there."""
        return self._judge_fields(request.trailers, "trailer") if self._foreign and request.trailers else None

    @property
    def watches(self) -> bool:
        """Whether there are placeholders that may not go there."""
        return bool(self._foreign)

    def lookout(self, coding: str = "") -> Lookout:
        """For the placeholders that may not go there."""
        return Lookout(self._foreign, coding)

    def swap(self, request: http.Request, *, body: bool) -> Swap | None:
        """What becomes of the placeholders that may; None where there can be none."""
        if not self._entitled:
            return None
        swap = Swap(request, self._entitled, self._vault.names_field, body=body)
        swap.records = [self._vault.facts(secret, self._host, where, at) for secret, where, at in swap.made]
        return swap

    def returns(self) -> Returns | None:
        """Replaces values that come back; None where none can."""
        return self._vault.returns(self._entitled)
