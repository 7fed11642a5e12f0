"""gRPC's framing of one message (grpc.io, "gRPC over HTTP2"): a flag, a length of four bytes, the message."""

from __future__ import annotations

from base64 import b64encode
from struct import unpack_from
from typing import Final
from urllib.parse import quote

from sandtrail.collector.claims.answers import AGAIN, Answer, status
from sandtrail.collector.claims.export import Export

__all__ = ["CONTENT_TYPE", "EMPTY", "trailers", "unframe"]

CONTENT_TYPE: Final = "application/grpc"
EMPTY: Final = bytes(5)
"""An empty message: an Export…ServiceResponse without partial success."""
_HEAD: Final = 5


def unframe(export: Export) -> None:
    """Take the framing off an export's body and say in the export what is wrong with it; never raises."""
    body = export.body
    flag, size = unpack_from(">BI", body) if len(body) >= _HEAD else (0, -1)
    if size < 0 or flag > 1:
        export.problem, export.framed = export.problem or Answer.MALFORMED, True
        return
    rest = len(body) - _HEAD - size
    if rest and not export.cut:
        # A message that is not whole, or several where there is to be one.
        export.problem, export.cut = Answer.MALFORMED, rest < 0
    if flag:
        # A message that says that it is compressed is not taken for a plain one.
        coding = export.header(b"grpc-encoding")
        export.compressed = "gzip" if coding in ("", "identity") else coding
    if rest > 0:
        export.framed = True
    else:
        del body[:_HEAD]


def trailers(answer: Answer) -> list[tuple[str, str]]:
    """The trailers that end a call."""
    told = [("grpc-status", str(answer.grpc))]
    if answer.words:
        told.append(("grpc-message", quote(answer.words, safe=" ,;:/!'()")))
    if answer in AGAIN:
        told.append(("grpc-status-details-bin", b64encode(status(answer)).decode().rstrip("=")))
    return told
