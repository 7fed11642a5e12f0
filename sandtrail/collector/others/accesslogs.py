"""Envoy's access log service: `envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs`.

A call lasts as long as Envoy likes, and every message in it holds records. Each message is recorded when it is whole;
the call is answered at its end, since the protocol has nothing to acknowledge a message with. The first message of a
call says who speaks (node and name of the log), so whose a call's records are may be told by that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from struct import unpack_from
from typing import Any, Final

import h2.exceptions

from sandtrail.collector.claims.answers import Answer
from sandtrail.collector.claims.export import Export
from sandtrail.collector.claims.http2 import Http2
from sandtrail.collector.claims.link import BrokenError, Link
from sandtrail.collector.claims.redact import Rules, clean
from sandtrail.collector.claims.wire import varint
from sandtrail.collector.others.intake import Intake
from sandtrail.collector.others.pieces import MAX_RECORD
from sandtrail.errors import StoreError

__all__ = ["AccessLogs", "identity"]

METHOD: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
_HEAD: Final = 5
WEIGHT: Final = 4096
"""What a message that waits to be written takes of the memory beside its bytes, however few they are."""
_IDENTIFIER, _NODE, _LOG_NAME, _ID, _CLUSTER = 1, 1, 2, 1, 2


class AccessLogs(Http2):
    """One connection."""

    def __init__(self, link: Link, intake: Intake) -> None:
        super().__init__(link)
        self._intake = intake
        self._rules = Rules(intake.redactor)
        self._bound: dict[int, str] = {}
        # Messages are recorded in their order, and a call is answered after them.
        self._turn = asyncio.Lock()

    def _clock(self) -> None:
        self._link.since = None  # a call may be silent for as long as a connection may

    def _begin(self, stream: int, fields: list[tuple[bytes, bytes]]) -> None:
        super()._begin(stream, fields)
        export = self._open[stream]
        if export.path != METHOD or not export.grpc:
            export.problem = export.problem or Answer.UNKNOWN

    def _grow(self, stream: int, data: bytes) -> None:
        export = self._open.get(stream)
        if export is None:
            return
        if export.problem is not None or not self._link.session.reserve(len(data)):
            self._refuse(stream, export, "there is no room for its records now")
            return
        export.held += len(data)
        export.taken += len(data)
        export.body += data
        try:
            for message in _messages(export.body):
                export.held -= len(message) + _HEAD
                if not self._link.session.reserve(WEIGHT):
                    self._link.session.release(len(message) + _HEAD)
                    self._refuse(stream, export, "there is no room for its records now")
                    return
                self._run(self._keep(stream, export.client, message))
        except ValueError as error:
            export.problem = Answer.MALFORMED
            self._refuse(stream, export, str(error))

    def _take(self, stream: int, *, ended: bool = True) -> None:
        export = self._open.pop(stream, None)
        if export is None:
            return
        answer = export.problem or Answer.RECORDED
        self._leave(stream, export)
        self._run(self._ended(stream, export, answer, ended))

    def _drop(self, stream: int) -> None:
        export = self._open.pop(stream, None)
        if export is not None:
            self._leave(stream, export)

    def _refuse(self, stream: int, export: Export, why: str) -> None:
        """Let a call go; Envoy opens another one."""
        if export.path == METHOD:
            self._lost(f"a call of the access log service was ended: {why}")
        export.problem = export.problem or Answer.BUSY
        self._take(stream, ended=False)

    def _leave(self, stream: int, export: Export) -> None:
        if export.body and export.path == METHOD:
            self._lost("a call ended in the middle of a message")
        self._link.session.release(export.held)
        export.held, export.body = 0, bytearray()

    def _lost(self, cause: str) -> None:
        with contextlib.suppress(StoreError):  # there is nobody to be told
            self._intake.lost(cause)

    async def _ended(self, stream: int, export: Export, answer: Answer, ended: bool) -> None:
        async with self._turn:
            self._bound.pop(stream, None)
        try:
            self._answer(stream, export, answer, ended)
            await self._flush()
        except h2.exceptions.ProtocolError:
            return  # the client has taken it back
        except BrokenError:
            self._link.abort()

    async def _keep(self, stream: int, client: tuple[str, int], message: bytes) -> None:
        try:
            async with self._turn:
                await self._written(stream, client, message)
        except StoreError:
            return  # counted, and a gap as soon as one can be written
        finally:
            self._link.session.release(len(message) + _HEAD + WEIGHT)

    async def _written(self, stream: int, client: tuple[str, int], message: bytes) -> None:
        if told := identity(message):
            self._bound.setdefault(stream, self._intake.binding.of({"identifier": told}))
        session = self._bound.get(stream, self._intake.binding.session)
        found = await clean(self._rules, message, "", as_json=False)
        facts: dict[str, Any] = {"peer": list(client), "call": stream}
        facts |= {"marks": found.marks} if found.marks else {}
        self._intake.write(session, "grpc", found.body, len(message), cut=False, redacted=found.redacted, **facts)


def _messages(body: bytearray) -> Iterator[bytes]:
    """Take the whole messages off the front of a call's bytes. Raises ValueError for what can't be one."""
    while len(body) >= _HEAD:
        flag, size = unpack_from(">BI", body)
        if flag:
            raise ValueError("its messages are compressed, which was not offered")
        if size > MAX_RECORD:
            raise ValueError(f"a message of {size} bytes is more than is kept")
        if len(body) < _HEAD + size:
            return
        message = bytes(body[_HEAD : _HEAD + size])
        del body[: _HEAD + size]
        yield message


def identity(message: bytes) -> dict[str, object]:
    """What the first message of a call says of its sender: `{"log_name", "node": {"id", "cluster"}}`; empty for others.

    Specification: envoy/service/accesslog/v3/als.proto.
    """
    found = _texts(message, _IDENTIFIER)
    if not found:
        return {}
    node = (_texts(found[0], _NODE) or [b""])[0]
    told = {"id": _texts(node, _ID), "cluster": _texts(node, _CLUSTER)}
    named = {name: values[-1].decode("utf-8", "replace") for name, values in told.items() if values}
    log = _texts(found[0], _LOG_NAME)
    return {"log_name": log[-1].decode("utf-8", "replace") if log else "", "node": named}


def _texts(message: bytes, field: int) -> list[bytes]:
    """The values of a field with a length, as far as the message can be read."""
    found, at, end = [], 0, len(message)
    while at < end:
        tag, at = varint(message, at, end)
        kind = tag & 7
        if tag < 8 or kind not in (0, 1, 2, 5):
            break
        if kind in (0, 2):
            size, at = varint(message, at, end)
            if size < 0:
                break
            size = size if kind == 2 else 0
        else:
            size = 8 if kind == 1 else 4
        if size > end - at:
            break
        if tag == field << 3 | 2:
            found.append(message[at : at + size])
        at += size
    return found
