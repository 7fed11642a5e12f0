"""Values of secrets that a server sends back become placeholders again before the sandbox gets them.

In headers, messages and bodies, in the forms in which a server writes down what it was sent: as it is, percent encoded
(also twice), in a JSON string, in HTML, in base64. A body is passed on as it comes; held back is only what may be the
beginning of a value. Not found: a value that the server has changed in another way, or hands out in parts.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from html import escape
from urllib.parse import quote, quote_plus

from mitmproxy import http

from sandtrail.collector.gateway.coding import Decoder, UndecodableError, decoder_for
from sandtrail.collector.gateway.scan import Beginnings
from sandtrail.collector.secrets import Secret

__all__ = ["Returns", "written_forms"]

_MOST_AT_ONCE = 32 << 20
"""What one piece of a coded body may become."""


def written_forms(value: bytes) -> list[bytes]:
    """How a text may write a value down; all of 12 bytes or more."""
    text = value.decode()
    forms = {value, quote(text, safe="").encode(), quote(text).encode(), quote_plus(text).encode()}
    forms |= {quote(text, safe="").lower().encode(), quote(quote(text, safe=""), safe="").encode()}
    in_json = json.dumps(text)[1:-1]
    # PHP has a "\\/" there, Go "\\u003c" and its like.
    in_script = in_json.translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"})
    forms |= {form.encode() for form in (in_json, in_json.replace("/", "\\/"), in_script, escape(text))}
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + value)
        whole = (shift + len(value)) % 3 == 0
        # At both ends some characters also hold bits of what stands beside.
        plain = coded[(0, 2, 3)[shift] : len(coded) if whole else -4]
        forms |= {plain, plain.replace(b"+", b"-").replace(b"/", b"_")}
    return [form for form in forms if len(form) >= 12]


class TooLargeError(Exception):
    """A coded body that becomes too much to look through."""


class Returns:
    """For the secrets that the other side may have got."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._by_form = {
            form: secret.placeholder.encode() for secret in secrets for form in written_forms(secret.value.encode())
        }
        longest_first = sorted(self._by_form, key=len, reverse=True)
        self._find = re.compile(b"|".join(map(re.escape, longest_first)))
        self._beginnings = Beginnings(self._by_form)

    def text(self, data: bytes) -> bytes:
        """A text that is all there."""
        return self._find.sub(lambda match: self._by_form[match[0]], data)

    def head(self, response: http.Response) -> None:
        """What comes before a response's body."""
        response.data.reason = self.text(response.data.reason)
        self.headers(response.headers)

    def headers(self, fields: http.Headers) -> None:
        """The fields of a response, or its trailers."""
        fields.fields = tuple((self.text(name), self.text(value)) for name, value in fields.fields)

    def body(
        self, request: http.Request, response: http.Response, inner: Callable[[bytes], bytes]
    ) -> Callable[[bytes], Iterator[bytes]]:
        """mitmproxy's callable for the response's body, around one that records it. The body may get another length
        and loses its content coding, so the headers are told."""
        decoder = decoder_for(response.headers.get("content-encoding", ""))
        if decoder is not None:
            del response.headers["content-encoding"]
        known = response.headers.pop("content-length", None) is not None
        if known and request.http_version == "HTTP/1.1" and not response.is_http10:
            response.headers["transfer-encoding"] = "chunked"
        return _Body(self, decoder, inner)

    def settled(self, text: bytes) -> int:
        """How much of a text can be passed on, whatever comes next."""
        return self._beginnings.find(text, 0)


class _Body:
    def __init__(self, returns: Returns, decoder: Decoder | None, inner: Callable[[bytes], bytes]) -> None:
        self._returns = returns
        self._decoder = decoder
        self._inner = inner
        self._held = b""

    def __call__(self, data: bytes) -> Iterator[bytes]:
        """The pieces to pass on: never an empty one, which would end a chunked body."""
        self._inner(data)
        text = self._held + (self._decoded(data) if data else b"")
        text = self._returns.text(text)
        end = self._returns.settled(text) if data else len(text)
        self._held = text[end:]
        if end:
            yield text[:end]

    def _decoded(self, data: bytes) -> bytes:
        if self._decoder is None:
            return data
        pieces, size = [], 0
        try:
            for piece in self._decoder.feed(data):
                pieces.append(piece)
                size += len(piece)
                if size > _MOST_AT_ONCE:
                    raise TooLargeError
        except UndecodableError as error:
            self._decoder = None
            pieces.append(error.rest)
        return b"".join(pieces)
