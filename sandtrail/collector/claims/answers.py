"""What an exporter is told, in its own protocol: OTLP specification, "OTLP/gRPC Response", "OTLP/HTTP Response"."""

from __future__ import annotations

import json
from enum import Enum
from typing import Final

__all__ = ["JSON", "PROTOBUF", "RETRY_S", "Answer", "http_body"]

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
RETRY_S: Final = 5
_MESSAGE_FIELD: Final = b"\x12"


class Answer(Enum):
    """(HTTP status, gRPC status, words). An exporter tries again after 503 and UNAVAILABLE (14), and only then."""

    RECORDED = 200, 0, ""
    MALFORMED = 400, 3, "the export could not be read"
    UNKNOWN = 404, 12, "no such signal: /v1/traces, /v1/logs and /v1/metrics are taken"
    METHOD = 405, 12, "exports are sent with POST"
    TOO_LARGE = 413, 8, "the export is larger than what is kept; send smaller batches"
    UNSUPPORTED = 415, 12, "exports are protobuf or JSON, plain or gzip"
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


def http_body(answer: Answer, as_json: bool) -> tuple[str, bytes]:
    """(content type, body): an empty Export…ServiceResponse, or a google.rpc.Status."""
    if as_json:
        told = {} if answer is Answer.RECORDED else {"code": answer.grpc, "message": answer.words}
        return JSON, json.dumps(told).encode()
    if answer is Answer.RECORDED:
        return PROTOBUF, b""
    words = answer.words.encode()
    return PROTOBUF, bytes((0x08, answer.grpc)) + _MESSAGE_FIELD + bytes((len(words),)) + words
