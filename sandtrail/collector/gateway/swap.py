"""Placeholders in a request become the values that they stand for.

In any header, in the user:password of a Basic Authorization too; in parameters of the query, and in fields of a JSON or
form body, whose names are those of credentials. Not in other fields: what a model is told, or a search is for, may be
turned round by the server and come back in a form that nobody recognizes. A placeholder there goes out as it is.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, quote_plus, unquote_to_bytes

from mitmproxy import http

from sandtrail.collector.gateway.redact import printable
from sandtrail.collector.secrets import Secret

__all__ = ["NOT_PASSED_ON", "Swap"]

NOT_PASSED_ON = frozenset({b"proxy-authorization", b"proxy-connection"})
"""Headers that are for the gateway, and go nowhere."""
_ROUTING = NOT_PASSED_ON | {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"trailer"}
_BASIC = re.compile(rb"(\s*basic\s+)([A-Za-z0-9+/_-]{4,16384}={0,2})\s*", re.IGNORECASE)
# One that does not end is taken to the text's end: looked for again from each quotation mark in it, it would cost the
# square of its length.
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)(?:"(\s*+:)?|(\\?\Z))', re.DOTALL)
_GAP = re.compile(rb"\s*+")

Made = tuple[Secret, str, str]
"""Which secret, in what ("header", "query", "body"), the header's or field's name."""


class Swap:
    """Worked out when it is made, so that it can be recorded first; `apply` carries it out. `names_field` says which
    names of parameters and fields are a credential's."""

    def __init__(
        self, request: http.Request, secrets: Iterable[Secret], names_field: Callable[[bytes], bool], *, body: bool
    ) -> None:
        self._secrets = [(secret.placeholder.encode(), secret) for secret in secrets]
        self._names_field = names_field
        self.made: list[Made] = []
        self.records: list[dict[str, Any]] = []
        """Of what was made, as it is recorded."""
        self._headers = tuple((name, self._header(name, value)) for name, value in request.headers.fields)
        path, mark, query = request.data.path.partition(b"?")
        self._path = path + mark + self._pairs(query, "query", _percent) if mark else path
        self._body = self._in_body(request) if body else None

    def apply(self, request: http.Request) -> None:
        """Send the values."""
        request.data.headers.fields = self._headers
        request.data.path = self._path
        if self._body is not None:
            request.raw_content = self._body
            if "content-length" in request.headers:
                request.headers["content-length"] = str(len(self._body))
        # What comes back is searched for the values, so it has to be readable on its way.
        if "accept-encoding" in request.headers:
            request.headers["accept-encoding"] = "identity"

    def _put(self, text: bytes, where: str, at: str, spell: Callable[[bytes], bytes] = bytes) -> bytes:
        for placeholder, secret in self._secrets:
            if placeholder in text:
                text = text.replace(placeholder, spell(secret.value.encode()))
                self.made.append((secret, where, at))
        return text

    def _header(self, name: bytes, value: bytes) -> bytes:
        if name.lower() in _ROUTING:
            return value
        at = printable(name).lower()
        if name.lower().endswith(b"authorization") and (basic := _BASIC.fullmatch(value)):
            try:
                pair = base64.b64decode(basic[2] + b"==", altchars=b"-_" if set(basic[2]) & {45, 95} else None)
            except (binascii.Error, ValueError):
                return value
            put = self._put(pair, "header", at)
            return value if put == pair else basic[1] + base64.b64encode(put)
        return self._put(value, "header", at)

    def _pairs(self, text: bytes, where: str, spell: Callable[[bytes], bytes]) -> bytes:
        out = []
        for pair in re.split(rb"([&;])", text):
            key, equals, value = pair.partition(b"=")
            if equals and self._names_field(unquote_to_bytes(key)):
                value = self._put(value, where, printable(unquote_to_bytes(key)), spell)
            out.append(key + equals + value)
        return b"".join(out)

    def _in_body(self, request: http.Request) -> bytes | None:
        body = request.raw_content
        if not body or not any(placeholder in body for placeholder, _ in self._secrets):
            return None
        if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            return None
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/x-www-form-urlencoded":
            return self._pairs(body, "body", _plus)
        if kind == "application/json" or kind.endswith("+json"):
            return self._json(body)
        return None

    def _json(self, body: bytes) -> bytes:
        """Text of JSON is left as it is, but for the strings that are swapped: it may be signed, or hold numbers that
        do not survive a parser. Outside of strings it has no quotation marks, so each one here is a string's."""
        out, done, key = [], 0, b""
        for match in _STRING.finditer(body):
            if match[3] is not None:
                break
            if match[2]:
                key, after = match[1], match.end()
            elif key and _GAP.fullmatch(body, after, match.start()):
                if self._names_field(key):
                    value = self._put(match[1], "body", printable(key), _json_text)
                    out += [body[done : match.start(1)], value]
                    done = match.end(1)
                key = b""
        return b"".join([*out, body[done:]])


def _percent(value: bytes) -> bytes:
    return quote(value, safe="").encode()


def _plus(value: bytes) -> bytes:
    return quote_plus(value).encode()


def _json_text(value: bytes) -> bytes:
    return json.dumps(value.decode())[1:-1].encode()
