"""Protocols that the gateway reads, in places where it would take them for bytes.

What a connection carries is decided by its client's first bytes. A client that sends them one by one, or puts others
before them, could have TLS or HTTP passed on as bytes that nobody reads: from end to end with the server's own
certificate, past what the record is for. So a beginning that may yet become either is waited with (`Undecided`), and a
tunnel of bytes ends where the server's first answer shows that it is one of them after all (`answer_of`). Protocols
that begin their encryption later (STARTTLS), or that are nothing else (SSH), are bytes.
"""

from __future__ import annotations

import re
from typing import Any, Final

from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import events, layer

from sandtrail.collector.gateway.bounds import MAX_HEAD

__all__ = ["ANSWER", "Undecided", "answer_of", "no_request", "undecided", "without_empty_lines"]

ANSWER: Final = 9
"""So many bytes of a server's answer say what it speaks."""
_METHODS: Final = (
    *(b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH", b"PRI", b"QUERY"),
    *(b"PROPFIND", b"PROPPATCH", b"MKCOL", b"COPY", b"MOVE", b"LOCK", b"UNLOCK", b"REPORT", b"SEARCH"),
)
_HALF_A_LINE: Final = re.compile(rb"[!#-'*+.^_`|~0-9A-Za-z-]{1,64} (?:[/*hH][^\0-\x1f\x7f]*)?\r?")
_COMMAND: Final = re.compile(rb"([A-Za-z]{3,64}) (?:[^/*hH\s][^\r\n]*(?:\r?\n)?|[/*hH][^\r\n]*\r?\n)")
_VERSION: Final = re.compile(rb" HTTP/[0-9](?:\.[0-9])?[ \t]*\r?\n\Z")
_REQUEST: Final = re.compile(rb"[A-Za-z]{3,32} [^\r\n]*\r?\n")


def undecided(data: bytes) -> bool:
    """Whether a client's first bytes may yet become TLS, or a request of HTTP."""
    if b"\x16\x03".startswith(data[:2]) and len(data) < 3:
        return True
    text = data.lstrip(b"\r\n")
    if len(data) > MAX_HEAD:
        return False
    return any(method.startswith(text) for method in _METHODS) or _HALF_A_LINE.fullmatch(text) is not None


def no_request(data: bytes) -> bool:
    """Whether a client's first bytes are words, but no request's: `EHLO host`, `NICK name`, `set key 0`.
    mitmproxy takes them for HTTP, and waits for the rest. RFC 9112 section 3: a target begins with `/` or `*` or as a
    URL, and the version ends the line. `GET /` alone is HTTP/0.9, and for others to judge."""
    found = _COMMAND.match(data)
    return found is not None and found[1].upper() not in _METHODS and not _VERSION.search(found[0])


def without_empty_lines(next_layer: layer.NextLayer) -> None:
    """Take the empty lines away that servers pass over before a request: nothing else begins with them."""
    data = next_layer.data_client()  # type: ignore[no-untyped-call]
    if data[:1] not in (b"\r", b"\n") or starts_like_tls_record(data):
        return
    if not _REQUEST.match(data.lstrip(b"\r\n")):
        return
    for event in next_layer.events:
        if isinstance(event, events.DataReceived) and event.connection is next_layer.context.client:
            event.data = event.data.lstrip(b"\r\n")
            if event.data:
                break


class Undecided(layer.NextLayer):
    """Asks what comes next when the client's first bytes can say it."""

    def _ask(self) -> Any:
        if not undecided(self.data_client()):  # type: ignore[no-untyped-call]
            yield from super()._ask()  # type: ignore[no-untyped-call]


def answer_of(begun: bytes) -> str:
    """Which of the protocols a server's first bytes are an answer of; empty for none. RFC 8446 4.1.3 and 5.1, RFC 9112
    4, RFC 9113 3.4."""
    if begun[:2] == b"\x16\x03" and begun[5:6] == b"\x02":
        return "TLS"
    if begun.startswith(b"HTTP/"):
        return "HTTP"
    if begun[3:9] == b"\x04\0\0\0\0\0" and not int.from_bytes(begun[:3]) % 6:
        return "HTTP/2"
    return ""
