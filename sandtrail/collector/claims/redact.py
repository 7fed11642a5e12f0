"""Keeps credentials out of claims: by the place where they stand in OTLP, and by their form anywhere in the text.

An attribute is found by its name, which stands right before its value in both encodings of OTLP, if the sender writes
the fields in the order of their numbers, as all do. In protobuf a length stands before every text, so what replaces a
secret there has the secret's length; the whole marks go into the frame.

Not found: a secret that is compressed inside of a value, or base64 there and nowhere else, and an attribute in JSON
whose value is written before its key; of both, what has the form of a credential and is not encoded is still found.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from sandtrail.collector.claims.limits import MAX_BODY
from sandtrail.collector.claims.wire import SOME, field_at, texts
from sandtrail.collector.gateway.coding import UndecodableError, decoder_for
from sandtrail.collector.gateway.redact import Redactor, printable

__all__ = ["Clean", "Rules", "clean", "readable"]

STEP: Final = 64 << 10
"""Bytes that are worked on before others have their turn."""
MAX_MARKS: Final = 100
MAX_CODINGS: Final = 3
"""One upon another, as `decoder_for` undoes them."""
_LONGEST = 256
# No credential is shorter that can be told by its form.
_SHORTEST = 8
# A text costs something even if it is short.
_EACH = 200
_NAME = r"authorization|cookie2?|token|secret|passw(?:or)?d|api[-_]?key|credentials?|[-_]key|x-auth"
_BEHIND = r'(?=\x12|"\s{0,80},\s{0,80}"value")'
_JSON_KEY = re.compile(rb'"key"\s{0,80}:\s{0,80}"([^"\\]{1,200})$')
_TEXT = rb'\{\s{0,80}"stringValue"\s{0,80}:\s{0,80}"((?:\\.|[^"\\]){0,65536})"\s{0,80}\}'
_JSON_TEXT = re.compile(rb'"\s{0,80},\s{0,80}"value"\s{0,80}:\s{0,80}' + _TEXT, re.DOTALL)
_JSON_ARRAY = re.compile(
    rb'"\s{0,80},\s{0,80}"value"\s{0,80}:\s{0,80}\{\s{0,80}"arrayValue"\s{0,80}:\s{0,80}\{\s{0,80}"values"\s{0,80}:\s{0,80}\['
)
_JSON_ITEM = re.compile(rb"\s{0,80}" + _TEXT + rb"\s{0,80},?", re.DOTALL)
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9_\-]{0,30}\s+(?=\S)")
_STRING, _BYTES, _ARRAY, _VALUE = 0x0A, 0x3A, 0x2A, 0x12
_TAG = bytes((_STRING,))


@dataclass(slots=True)
class Clean:
    """A body that may be written. `decoded`: its compression is undone, since it held a credential or is cut."""

    body: bytes
    decoded: bool = False
    redacted: int = 0
    marks: list[str] = field(default_factory=list)
    """What stands for the secrets of a protobuf body, in their order; the first of them."""
    cut: bool = False
    """Its compression undone, it is longer than what is kept."""
    broken: bool = False
    """It is not compressed as its head says."""
    withheld: int = 0
    """Bytes of it that nobody can read here, and that are not kept for that: they may hold credentials."""
    size: int = 0
    """What was looked at, its compression undone."""


def readable(coding: str) -> bool:
    """Whether a body under this content coding can be searched for credentials."""
    names = [name for part in coding.split(",") if (name := part.strip()) not in ("", "identity")]
    return not names or (len(names) <= MAX_CODINGS and decoder_for(coding) is not None)


class Rules:
    """What counts as a credential: the redactor's rules, and names of the operator's own."""

    def __init__(self, redactor: Redactor, extra: object = None) -> None:
        """`extra` is what the redactor was made with; it has seen to its shape."""
        self.redactor = redactor
        told = extra if isinstance(extra, Mapping) else {}
        self.own = frozenset(name.lower() for kind in ("headers", "query", "fields") for name in told.get(kind, ()))
        names = "|".join([_NAME, *map(re.escape, sorted(self.own))])
        self.names = re.compile(f"(?:{names}){_BEHIND}".encode(), re.IGNORECASE)

    def secret(self, attribute: str) -> str:
        """The part of an attribute's name that says that its value is a secret; empty where none does."""
        name = attribute.lower()
        last = name.rpartition(".")[2]
        return last if last in self.own or name in self.own or self.redactor.names_secret(last) else ""


async def clean(rules: Rules, body: bytes, coding: str, *, as_json: bool) -> Clean:
    """A body without its credentials. Gives way to others every now and then; never raises on content."""
    found, redactor = Clean(body), rules.redactor
    text = body
    if not readable(coding):
        return Clean(b"", withheld=len(body), size=len(body))
    if decoder_for(coding) is not None:
        text = await _undone(body, coding, found)
    found.size = max(len(body), len(text))
    spot = _Spot(redactor, found, keep_length=not as_json)
    places = await _places(rules, text)
    if places:
        text = await _replaced(text, places, spot)
    out = await (_scanned(redactor, text, spot, found.cut) if as_json else _scanned_texts(redactor, text, spot))
    if found.redacted or found.cut or found.withheld:
        found.decoded = decoder_for(coding) is not None
        found.body = out
    return found


async def _scanned(redactor: Redactor, text: bytes, spot: _Spot, cut: bool) -> bytes:
    scan = redactor.scan(spot.mark)
    out = []
    for start in range(0, len(text), STEP):
        out.append(scan.feed(text[start : start + STEP]))
        await asyncio.sleep(0)
    return b"".join([*out, scan.finish(cut=cut)])


async def _scanned_texts(redactor: Redactor, message: bytes, spot: _Spot) -> bytes:
    """Each text of a protobuf message by itself; what is not text stays as it is."""
    out = bytearray(message)
    worked = 0
    for begin, end in texts(message):
        text = message[begin:end]
        # The last may have been cut off in a credential; a long one is worked on in pieces.
        scan = end == len(message) or len(text) > STEP or redactor.suspects(text)
        if scan and len(text) >= _SHORTEST:
            before = spot.count
            clean = await _scanned(redactor, text, spot, end == len(message))
            if spot.count != before:
                out[begin:end] = clean
        worked += end - begin + _EACH
        if worked > STEP:
            worked = 0
            await asyncio.sleep(0)
    return bytes(out)


async def _undone(body: bytes, coding: str, found: Clean) -> bytes:
    decoder = decoder_for(coding)
    assert decoder is not None
    out = bytearray()
    try:
        for piece in decoder.feed(body):
            out += piece[: MAX_BODY - len(out)]
            if len(out) >= MAX_BODY:
                found.cut = True
                break
            await asyncio.sleep(0)
    except UndecodableError as error:
        found.broken, found.withheld = True, len(error.rest)
    return bytes(out)


class _Spot:
    """Makes what stands for a secret, and counts."""

    def __init__(self, redactor: Redactor, found: Clean, *, keep_length: bool) -> None:
        self._redactor = redactor
        self._found = found
        self._keep_length = keep_length

    @property
    def count(self) -> int:
        return self._found.redacted

    def mark(self, name: str, secret: bytes) -> bytes:
        mark = self._redactor.mark(name, secret)
        self._found.redacted += 1
        if not self._keep_length:
            return mark
        if len(self._found.marks) < MAX_MARKS:
            self._found.marks.append(mark.decode())
        return mark[: len(secret)].ljust(len(secret), b"*")


Place = tuple[int, int, str]
"""Begin and end of a secret, and the name that it stands under."""


async def _places(rules: Rules, text: bytes) -> list[Place]:
    found: list[Place] = []
    taken = 0
    for start in range(0, len(text), STEP):
        for match in rules.names.finditer(text, start, start + STEP + 64):
            if match.start() >= start + STEP:
                break
            for begin, end, name in _secrets(rules, text, match.end()):
                if begin >= taken:  # what stands inside of another secret goes with it
                    found.append((begin, end, name))
                    taken = end
                    if not len(found) % SOME:
                        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return found


def _secrets(rules: Rules, text: bytes, at: int) -> Iterator[Place]:
    """The secrets of the attribute whose name ends at `at`, where there is one."""
    in_json = text[at : at + 1] == b'"'
    key = _json_key(text, at) if in_json else _key(text, at)
    name = rules.secret(printable(key))
    if not name:
        return
    slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:64] or "attribute"
    for begin, end in _json_values(text, at) if in_json else _attribute(text, at):
        scheme = _SCHEME.match(text, begin, end) if name.endswith("authorization") else None
        begin = scheme.end() if scheme else begin
        if end > begin:
            rules.redactor.learn(slug, text[begin:end])
            yield begin, end, slug


def _json_key(text: bytes, at: int) -> bytes:
    match = _JSON_KEY.search(text, max(0, at - _LONGEST), at)
    return match[1] if match else b""


def _json_values(text: bytes, at: int) -> Iterator[tuple[int, int]]:
    if match := _JSON_TEXT.match(text, at):
        yield match.span(1)
    elif array := _JSON_ARRAY.match(text, at):
        place = array.end()
        while item := _JSON_ITEM.match(text, place):
            yield item.span(1)
            place = item.end()


def _key(text: bytes, at: int) -> bytes:
    """The field `key` of a KeyValue that ends at `at`: a tag, a length below 128, so many bytes."""
    tag = text.rfind(_TAG, max(0, at - 129), at - 2)
    while tag >= 0:
        if text[tag + 1] == at - tag - 2:
            return text[tag + 2 : at]
        tag = text.rfind(_TAG, max(0, at - 129), tag)
    return b""


def _attribute(text: bytes, at: int) -> Iterator[tuple[int, int]]:
    """The texts of the AnyValue that follows a key: itself, or those of an array."""
    tag, begin, end = field_at(text, at, len(text))
    if tag == _VALUE:
        yield from _any(text, begin, end, 0)


def _any(text: bytes, at: int, stop: int, depth: int) -> Iterator[tuple[int, int]]:
    tag, begin, end = field_at(text, at, stop)
    if tag in (_STRING, _BYTES):
        yield begin, end
    elif tag == _ARRAY and depth < 3:
        while True:
            tag, inner, after = field_at(text, begin, end)
            if tag != _STRING:
                return
            yield from _any(text, inner, after, depth + 1)
            begin = after


async def _replaced(text: bytes, places: list[Place], spot: _Spot) -> bytes:
    out, at = [], 0
    for number, (begin, end, name) in enumerate(places):
        if not number % SOME:
            await asyncio.sleep(0)
        out += [text[at:begin], spot.mark(name, text[begin:end])]
        at = end
    return b"".join([*out, text[at:]])
