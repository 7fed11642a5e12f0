"""gVisor's remote-sink handshake: a bare protobuf message with one varint field (pkg/sentry/seccheck/sinks/remote)."""

from __future__ import annotations

__all__ = ["REPLY", "handshake_version"]

# Handshake{version: 1}
REPLY = b"\x08\x01"
_MAX = 512


def handshake_version(packet: bytes) -> int | None:
    """The protocol version that a sandbox offers, or None when the packet is no handshake.

    Later versions may add fields: any well-formed fields after the version are skipped.
    """
    if len(packet) > _MAX:
        return None
    version: int | None = None
    at = 0
    while at < len(packet):
        key, at = _varint(packet, at)
        if key is None or key >> 3 == 0:
            return None
        if key & 7 == 0:
            value, at = _varint(packet, at)
            if value is None:
                return None
            if key >> 3 == 1:
                version = value
        elif key & 7 == 2:
            length, at = _varint(packet, at)
            if length is None or at + length > len(packet):
                return None
            at += length
        else:
            return None
    return version if version else None


def _varint(packet: bytes, at: int) -> tuple[int | None, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(packet):
            return None, at
        byte = packet[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return None, at
