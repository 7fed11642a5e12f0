"""What an exporter is told, in its own protocol: OTLP specification, "OTLP/gRPC Response", "OTLP/HTTP Response"."""

from __future__ import annotations

import json
from enum import Enum
from typing import Final

__all__ = ["AGAIN", "JSON", "PROTOBUF", "RETRY_S", "Answer", "http_body", "status"]

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
RETRY_S: Final = 5
_MESSAGE_FIELD: Final = b"\x12"
_DETAILS_FIELD: Final = b"\x1a"


class Answer(Enum):
    """(HTTP status, gRPC status, words). An exporter tries again after 429, 503 and UNAVAILABLE (14); not after
    RESOURCE_EXHAUSTED (8), since we say no time after which it may."""

    RECORDED = 200, 0, ""
    MALFORMED = 400, 3, "the export could not be read"
    UNKNOWN = 404, 12, "no such signal: /v1/traces, /v1/logs and /v1/metrics are taken"
    METHOD = 405, 12, "exports are sent with POST"
    TOO_LARGE = 413, 8, "the export is larger than what is kept; send smaller batches"
    UNSUPPORTED = 415, 12, "exports are protobuf or JSON, plain or gzip"
    FULL = 413, 8, "no more telemetry of this session is kept"
    PACED = 429, 14, "more telemetry than is taken at a time; send it later"
    BUSY = 503, 14, "too many exports at once; try again"
    UNRECORDED = 503, 14, "the export could not be recorded; try again"

    @property
    def http(self) -> int:
        """The HTTP status."""
        return self.value[0]

    @property
    def grpc(self) -> int:
        """The gRPC status."""
        return self.value[1]

    @property
    def words(self) -> str:
        """What to say beside it."""
        return self.value[2]


AGAIN: Final = frozenset({Answer.PACED, Answer.BUSY, Answer.UNRECORDED})
"""After these an exporter may come again, in `RETRY_S` seconds."""
# google.rpc.RetryInfo in an Any, as the details of a status (error_details.proto): its retry_delay.
_RETRY_TYPE: Final = b"type.googleapis.com/google.rpc.RetryInfo"
_RETRY: Final = bytes((0x0A, 2, 0x08, RETRY_S))
_DETAILS: Final = bytes((0x0A, len(_RETRY_TYPE))) + _RETRY_TYPE + bytes((0x12, len(_RETRY))) + _RETRY


def http_body(answer: Answer, as_json: bool) -> tuple[str, bytes]:
    """(content type, body): an empty Export…ServiceResponse, or a google.rpc.Status."""
    if as_json:
        told = {} if answer is Answer.RECORDED else {"code": answer.grpc, "message": answer.words}
        return JSON, json.dumps(told).encode()
    return PROTOBUF, b"" if answer is Answer.RECORDED else status(answer)


def status(answer: Answer) -> bytes:
    """A google.rpc.Status in protobuf, with the time after which to come again where that may help."""
    words = answer.words.encode()
    told = bytes((0x08, answer.grpc)) + _MESSAGE_FIELD + bytes((len(words),)) + words
    return told + (_DETAILS_FIELD + bytes((len(_DETAILS),)) + _DETAILS if answer in AGAIN else b"")
