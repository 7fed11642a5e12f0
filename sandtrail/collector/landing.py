"""Where datagrams land: memory that outlives the process that reads them.

The receiver calls recvmmsg(2) with its header and payload buffers inside a memfd that the keeper owns. Between the
moment at which the kernel hands a batch over and the moment at which it is in the spool, the batch lies here, lengths
included: a receiver that is killed loses nothing, its successor finds the batch and finishes the work.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from struct import Struct
from typing import NamedTuple

__all__ = ["BATCH", "COUNTERS", "SLOT", "Landing", "Unfinished", "create_landing"]

BATCH = 32
SLOT = 1 << 20
_PAGE = 4096
_VECTOR = _PAGE  # struct mmsghdr[BATCH]
_IOVEC = 2 * _PAGE  # struct iovec[BATCH]
_COUNTERS = 3 * _PAGE  # u32[COUNTERS]
COUNTERS = 1024
_SLOTS = 4 * _PAGE
_SIZE = _SLOTS + BATCH * SLOT
_STATE = Struct("<4sIQQQI")
_MAGIC = b"STl1"
_NOTHING = 0xFFFFFFFF
_MMSGHDR = 64
_LENGTH_AT = 56
_MSGHDR = Struct("<QI4xQQQQi4xI4x")
_FILL = _NOTHING.to_bytes(4, "little")

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
MSG_DONTWAIT = 0x40
MSG_TRUNC = 0x20


class Unfinished(NamedTuple):
    """A batch that a receiver had received and not yet acknowledged as written."""

    stream: int
    seq: int
    spool: Path
    offset: int
    payloads: list[bytes]
    lengths: list[int]


def create_landing() -> int:
    """A new landing; the file descriptor is the caller's to keep and to hand out."""
    fd = os.memfd_create("sandtrail-landing", os.MFD_CLOEXEC)
    os.ftruncate(fd, _SIZE)
    return fd


class Landing:
    """One receiver's view of the landing."""

    def __init__(self, fd: int) -> None:
        # Populated, so that no page has to be found while a dying process copies a batch.
        self._map = mmap.mmap(fd, _SIZE, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self.view = memoryview(self._map)
        self._vector = ctypes.addressof(ctypes.c_char.from_buffer(self._map, _VECTOR))

    def unfinished(self) -> Unfinished | None:
        """What the receiver before us had in hand when it died, if anything."""
        magic, path_length, stream, seq, offset, _ = _STATE.unpack_from(self._map)
        if magic != _MAGIC or path_length > 1024:
            return None
        path = bytes(self.view[_STATE.size : _STATE.size + path_length])
        payloads, lengths = [], []
        for slot in range(BATCH):
            length = int.from_bytes(self._length(slot), "little")
            if length == _NOTHING:
                break
            lengths.append(length)
            payloads.append(bytes(self.payload(slot, length)))
        return Unfinished(stream, seq, Path(os.fsdecode(path)), offset, payloads, lengths) if payloads else None

    def counter(self, ident: int) -> int:
        """A source's drop counter as our predecessor last recorded it."""
        at = _COUNTERS + ident % COUNTERS * 4
        return int.from_bytes(self.view[at : at + 4], "little")

    def set_counter(self, ident: int, value: int) -> None:
        """Remember a source's drop counter for our successor; call it when the gap is in the spool."""
        at = _COUNTERS + ident % COUNTERS * 4
        self._map[at : at + 4] = value.to_bytes(4, "little")

    def _length(self, slot: int) -> memoryview:
        at = _VECTOR + slot * _MMSGHDR + _LENGTH_AT
        return self.view[at : at + 4]

    def prepare(self) -> None:
        """Lay out the kernel's structures for this process's addresses and forget every batch."""
        base = self._vector - _VECTOR
        for slot in range(BATCH):
            iovec = _IOVEC + slot * 16
            self._map[iovec : iovec + 16] = Struct("<QQ").pack(base + _SLOTS + slot * SLOT, SLOT)
            at = _VECTOR + slot * _MMSGHDR
            self._map[at : at + _MMSGHDR] = _MSGHDR.pack(0, 0, base + iovec, 1, 0, 0, 0, _NOTHING)
        self._map[:4] = b"\0" * 4

    def aim(self, stream: int, seq: int, spool: Path, offset: int) -> None:
        """Say whose batch comes next and where in which spool file its record will begin."""
        path = os.fsencode(spool)
        self._map[_STATE.size : _STATE.size + len(path)] = path
        _STATE.pack_into(self._map, 0, _MAGIC, len(path), stream, seq, offset, 0)

    def receive(self, fd: int) -> list[int]:
        """Receive what is there, at most BATCH datagrams, without waiting; their true lengths.

        An empty list means that there was nothing. Raises OSError as recv(2) does; whatever came before an error has
        been returned by an earlier call.
        """
        while True:
            count = _recvmmsg(fd, self._vector, BATCH, MSG_DONTWAIT | MSG_TRUNC, None)
            if count >= 0:
                break
            error = ctypes.get_errno()
            if error == 11:
                return []
            if error != 4:
                raise OSError(error, os.strerror(error))
        first = _VECTOR + _LENGTH_AT
        return [
            int.from_bytes(self._map[at : at + 4], "little") for at in range(first, first + count * _MMSGHDR, _MMSGHDR)
        ]

    def payload(self, slot: int, length: int) -> memoryview:
        """The bytes of one datagram of the batch, as far as the slot holds them."""
        start = _SLOTS + slot * SLOT
        return self.view[start : start + min(length, SLOT)]

    def column(self, offset: int, count: int) -> bytes:
        """Byte `offset` of each of the first `count` datagrams."""
        start = _SLOTS + offset
        return self._map[start : start + (count - 1) * SLOT + 1 : SLOT]

    def done(self, count: int) -> None:
        """The batch is in the spool: forget it."""
        for at in range(_VECTOR + _LENGTH_AT, _VECTOR + _LENGTH_AT + count * _MMSGHDR, _MMSGHDR):
            self._map[at : at + 4] = _FILL
