"""Keeps credentials out of the record: headers, URLs, bodies and messages of one session.

What stands in a place where only a credential stands (an Authorization header, a key in a query) is replaced whatever
it looks like, and from then on wherever else it turns up in the session, if it is long and mixed enough to be a secret
and not a word: an agent could otherwise blot out any word of the record by naming it its password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from sandtrail.collector.gateway.encoded import base64_forms
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.patterns import BUILT_IN, MARK, field_rule, prefix_rule, query_rule
from sandtrail.collector.gateway.scan import Literals, Patterns, Scan
from sandtrail.errors import UsageError

__all__ = ["Redactor", "printable"]

MAX_LEARNED = 256
_REMEMBERED = 512
"""Of headers and of URLs: how many, and how long (a header together with its name)."""
_SECRET_HEADER = re.compile(
    r"authorization|.*[-_]authorization|cookie2?|.*(?:token|secret|passw(?:or)?d|api[-_]?key|credentials?)|.*[-_]key|x-auth"
)
# They end like a secret's name and are none.
_PLAIN_HEADERS = frozenset({"sec-websocket-key", "idempotency-key", "x-idempotency-key", "surrogate-key"})
_COOKIE_HEADERS = frozenset({"cookie", "set-cookie"})
_SECRET_PARAMETER = re.compile(
    r"(?:.*[-_.])?(?:key|api_?key|token|secret|passw(?:or)?d|sig|signature|auth|credential)|.*(?:secret|token|signature)"
)
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9_\-]{0,30})(\s+)(\S.*)", re.DOTALL)
_LEARNABLE = re.compile(rb"(?=.*[0-9])(?=.*[A-Za-z])[!-~]{12,4096}", re.DOTALL)
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_MARK = re.compile(MARK)
_QUOTED = re.compile(r"""[: ]*\bb(?:'|")""")


def printable(data: bytes | str) -> str:
    """Text as it was where it is UTF-8, `\\xNN` where it is not: never a lone surrogate."""
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    return raw.decode("utf-8", "backslashreplace")


class Redactor:
    """One session's rules and what it has learned. Every method returns how many credentials it replaced."""

    def __init__(self, fingerprints: Fingerprinter, extra: Mapping[str, Any] | None = None) -> None:
        """`extra` adds to the built-in rules: `{"headers": [name], "query": [name], "fields": [name],
        "prefixes": [{"name", "prefix", "least"?}]}`. Raises UsageError for anything else."""
        if extra is not None and not isinstance(extra, Mapping):
            raise UsageError('redaction rules are {"headers": […], "query": […], "fields": […], "prefixes": […]}')
        extra = dict(extra or {})
        self._headers = frozenset(name.lower() for name in _names(extra, "headers"))
        self._parameters = frozenset(name.lower() for name in _names(extra, "query"))
        self._fields = self._parameters | {name.lower() for name in _names(dict(extra), "fields")}
        rules = list(BUILT_IN)
        if self._parameters:
            rules.append(query_rule("query-key", *self._parameters))
        if fields := _names(extra, "fields"):
            rules.append(field_rule("field", *fields))
        prefixes = extra.pop("prefixes", ())
        rules += map(_prefix, prefixes if isinstance(prefixes, list | tuple) else [prefixes])
        if extra:
            raise UsageError(f"the gateway's redaction rules have no {', '.join(map(repr, extra))}")
        self._patterns = Patterns(rules)
        self._literals = Literals()
        self._known: dict[bytes, tuple[str, bytes]] = {}
        self._learned = 0
        self._covers: dict[bytes, bytes] = {}
        """What stands in place of secrets that are base64 inside of something else."""
        # An agent sends the same ones again and again. Forgotten when a secret is learned: it may be in them.
        self._header_shown = lru_cache(_REMEMBERED)(self._show_header)
        self._url_shown = lru_cache(_REMEMBERED)(self._show_url)
        self._fingerprints = fingerprints

    def mark(self, name: str, secret: bytes) -> bytes:
        """What stands in place of `secret`."""
        if (cover := self._covers.get(secret)) is not None:
            return cover
        name, secret = self._known.get(secret, (name, secret))
        return self._fingerprints.mark(name, secret).encode()

    def scan(self, mark: Callable[[str, bytes], bytes] | None = None) -> Scan:
        """A text that will come in pieces; `mark` says what stands for a secret where the usual mark does not fit."""
        return Scan(self._patterns, self._literals, mark or self.mark)

    def suspects(self, data: bytes) -> bool:
        """Whether a text that is all there may hold a credential: it has a word with which one begins, or one that is
        known. Much cheaper than a scan, for many short texts."""
        found = chain(self._literals.find(data), self._patterns.anchors.find(data))
        return next(found, None) is not None

    def names_secret(self, name: str) -> bool:
        """Whether the value under a header's or an attribute's name is a secret."""
        return name in self._headers or (_SECRET_HEADER.fullmatch(name) is not None and name not in _PLAIN_HEADERS)

    def text(self, data: bytes) -> tuple[bytes, int]:
        """A text that is all there."""
        scan = self.scan()
        return scan.finish(data), scan.count

    def name(self, host: str) -> str:
        """The name of a host, as somebody wrote it."""
        return printable(self.text(host.encode("utf-8", "surrogateescape"))[0])[:255]

    def message(self, text: str, limit: int = 500) -> str:
        """A message of the engine's: without the traffic that it may quote (`b'…'`), redacted, capped."""
        said = _QUOTED.split(text, maxsplit=1)[0]
        return printable(self.text(said.encode("utf-8", "surrogateescape"))[0])[:limit]

    # -- headers -------------------------------------------------------------------------------------------------------

    def headers(self, fields: Iterable[tuple[bytes, bytes]]) -> tuple[list[list[str]], int]:
        """Headers as [[name, value], …]."""
        out, count = [], 0
        for name, value in fields:
            show = self._header_shown if len(name) + len(value) <= _REMEMBERED else self._show_header
            shown, clean, found = show(name, value)
            out.append([shown, clean])
            count += found
        return out, count

    def _show_header(self, name: bytes, value: bytes) -> tuple[str, str, int]:
        clean, found = self._header(printable(name).lower(), value)
        shown, more = self.text(name)
        return printable(shown), printable(clean), found + more

    def _header(self, name: str, value: bytes) -> tuple[bytes, int]:
        if name in _COOKIE_HEADERS:
            return self._cookies(name, value)
        if not self.names_secret(name) or not value.strip():
            return self.text(value)
        scheme = _SCHEME.fullmatch(value.strip()) if name.endswith("authorization") else None
        if scheme is None:
            return self._secret(_slug(name), value), 1
        return scheme[1] + scheme[2] + self._secret(_slug(name), scheme[3]), 1

    def _cookies(self, name: str, value: bytes) -> tuple[bytes, int]:
        """Names and attributes are kept, values are not."""
        parts = value.split(b";")
        secrets = len(parts) if name == "cookie" else 1
        out, count = [], 0
        for part in parts[:secrets]:
            key, equals, secret = part.partition(b"=")
            if not equals:
                key, equals, secret = b"", b"", part
            if secret.strip():
                secret, count = self._secret("cookie", secret.strip()), count + 1
            out.append(key + equals + secret)
        rest, found = self.text(b";".join(parts[secrets:]))
        return b";".join([*out, rest] if parts[secrets:] else out), count + found

    # -- URLs ----------------------------------------------------------------------------------------------------------

    def url(self, url: bytes) -> tuple[str, int]:
        """A URL: the values of parameters that name a secret, then whatever looks like one."""
        return self._url_shown(url) if len(url) <= _REMEMBERED else self._show_url(url)

    def _show_url(self, url: bytes) -> tuple[str, int]:
        head, mark, query = url.partition(b"?")
        count = 0
        if mark:
            pairs = []
            for pair in re.split(rb"([&;])", query):
                key, equals, value = pair.partition(b"=")
                if equals and value and self._is_secret_parameter(key):
                    value, count = self._secret("query-key", value), count + 1
                pairs.append(key + equals + value)
            query = b"".join(pairs)
        clean, found = self.text(head + mark + query)
        return printable(clean), count + found

    def names_field(self, name: bytes) -> bool:
        """Whether a parameter or a body's field of this name holds a secret."""
        text = printable(name).lower()[:128]
        return text in self._fields or self._is_secret_parameter(name)

    def _is_secret_parameter(self, key: bytes) -> bool:
        name = printable(unquote_to_bytes(key)).lower()[:128]
        return name in self._parameters or _SECRET_PARAMETER.fullmatch(name) is not None

    # -- learning ------------------------------------------------------------------------------------------------------

    def _secret(self, name: str, secret: bytes) -> bytes:
        if _MARK.fullmatch(secret):
            return secret
        self.learn(name, secret)
        return self.mark(name, secret)

    def know(self, name: str, secret: bytes, forms: Iterable[bytes]) -> str:
        """Replace a secret by its operator's word in all these forms, each by the mark of the secret itself; its
        fingerprint."""
        for form in {secret, *forms}:
            self._known[form] = _slug(name.lower()), secret
            self._literals.add(form, _slug(name.lower()))
        self._cover(_slug(name.lower()), secret)
        return self._fingerprints.fingerprint(secret)

    def _cover(self, name: str, secret: bytes) -> None:
        if len(secret) >= Literals.LEAST:
            for form, cover in base64_forms(secret, self._fingerprints.mark(name, secret).encode()):
                self._covers[form] = cover
                self._literals.add(form, name)

    def learn(self, name: str, secret: bytes) -> None:
        """Replace `secret` from now on wherever it stands, if it can't be a word."""
        if secret in self._literals.names:
            return
        if self._learned < MAX_LEARNED and _LEARNABLE.fullmatch(secret):
            self._learned += 1
            self._header_shown.cache_clear()
            self._url_shown.cache_clear()
            self._literals.add(secret, name)
            self._cover(name, secret)
            encoded = quote(secret, safe="").encode()
            if encoded != secret:
                self._literals.add(encoded, name)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:64] or "header"


def _names(extra: dict[str, Any], key: str) -> list[str]:
    names = extra.pop(key, ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and 0 < len(name) <= 128 for name in names):
        raise UsageError(f"the gateway's redaction rule {key!r} is a list of names")
    return list(names)


def _prefix(item: Any) -> Any:
    if isinstance(item, dict) and set(item) <= {"name", "prefix", "least"}:
        name, prefix, least = item.get("name"), item.get("prefix"), item.get("least", 16)
        named = isinstance(name, str) and _NAME.fullmatch(name)
        if named and isinstance(prefix, str) and 2 <= len(prefix) <= 64 and isinstance(least, int) and least > 0:
            return prefix_rule(str(name), prefix, min(least, 1024))
    raise UsageError('a redaction prefix is {"name": "acme-key", "prefix": "acme_", "least": 16}')
