"""Words that come back: the same text in what a server answered, in what the model was told, and in what then left.

Texts are compared by digest, whole and but for white space at their ends: a body, a string in JSON or a form, a tool's
result, what such a result holds below its first line. What was changed, cut or put into a longer text is not found.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from urllib.parse import parse_qsl, urlsplit

from sandtrail.replay.models import Exchange, ModelCall
from sandtrail.replay.models.body import Headers, content_type, decode_body
from sandtrail.replay.models.call import Message
from sandtrail.replay.turns.history import leaves

__all__ = ["Came", "Passages", "Told"]

LEAST = 40
"""Characters; a shorter text may be the same by chance."""
MAX_TEXT = 1 << 20
MAX_BODY = 4 << 20
MAX_KNOWN = 100_000
MAX_RESULTS = 200
"""Results of tools of one model call that are looked at."""
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Came:
    """An answer that brought a text."""

    ref: str
    object: str


@dataclass(frozen=True, slots=True)
class Told:
    """A tool's result that the model was shown, by the number of its turn."""

    turn: int
    tool_call_id: str


@dataclass(slots=True)
class Passages:
    """Takes exchanges and results in the order of time."""

    _came: dict[bytes, Came] = field(default_factory=dict)
    _told: dict[bytes, Told] = field(default_factory=dict)

    def told(self, turn: int, call: ModelCall, start: int) -> None:
        """Take the results that a model call brings, those from message `start` on."""
        results = [m for m in call.messages[start:] if m.role == "tool"][:MAX_RESULTS]
        for message in results:
            for key in _digests(_of_result(message)):
                _put(self._told, key, Told(turn, message.tool_call_id or ""))

    def origin(self, message: Message) -> Came | None:
        """The answer that holds these words, where one came before."""
        return next((found for key in _digests(_of_result(message)) if (found := self._came.get(key))), None)

    def exchanged(self, exchange: Exchange) -> Told | None:
        """Take an exchange that is no model call; the result that its request passes on word for word."""
        said = [*_of_query(exchange.url), *_of_body(exchange.asked, exchange.request_headers, exchange.request_decoded)]
        found = next((told for key in _digests(said) if (told := self._told.get(key))), None)
        came = Came(exchange.response_ref or exchange.request_ref, f"{exchange.method} {exchange.url}")
        for key in _digests(_of_body(exchange.body, exchange.response_headers, exchange.response_decoded)):
            _put(self._came, key, came)
        return found


def _put[V](known: dict[bytes, V], key: bytes, value: V) -> None:
    """The first that brought a text counts; the oldest texts are let go."""
    if key in known:
        return
    if len(known) >= MAX_KNOWN:
        known.pop(next(iter(known)))
    known[key] = value


def _digests(texts: Iterator[str] | list[str]) -> Iterator[bytes]:
    for text in texts:
        plain = text.strip()
        if LEAST <= len(plain) <= MAX_TEXT:
            yield blake2b(plain.encode("utf-8", "replace"), digest_size=16).digest()


def _of_result(message: Message) -> Iterator[str]:
    text = message.text[:MAX_TEXT]
    yield text
    _, _, below = text.partition("\n")  # what stands below "exit code: 0" and the like
    yield below
    yield from _in_json(text)


def _of_body(data: bytes, headers: Headers, decoded: bool) -> Iterator[str]:
    if not data or len(data) > MAX_BODY:
        return
    plain = data if decoded else decode_body(data, headers, MAX_BODY)[0]
    try:
        text = plain.decode()
    except UnicodeDecodeError:
        return
    yield text
    if content_type(headers) == _FORM and len(text) <= MAX_TEXT:
        yield from (value for _, value in _pairs(text))
    else:
        yield from _in_json(text)


def _of_query(url: str) -> Iterator[str]:
    try:
        query = urlsplit(url).query
    except ValueError:
        return
    yield from (value for _, value in _pairs(query[:MAX_TEXT]))


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, max_num_fields=200)
    except ValueError:
        return []


def _in_json(text: str) -> Iterator[str]:
    if text.lstrip()[:1] not in ("{", "[") or len(text) > MAX_TEXT:
        return
    try:
        yield from leaves(json.loads(text), 1000)
    except (ValueError, RecursionError):
        return
