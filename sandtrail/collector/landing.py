"""Where datagrams land: memory that outlives the process that reads them.

The receiver calls recvmmsg(2) with its header and payload buffers inside a mapping of a file that the keeper owns.
Between the moment at which the kernel hands a batch over and the moment at which it is in the spool, the batch lies
here, lengths included: a receiver that is killed loses nothing, its successor finds the batch and finishes the work.

The file is in the run folder where that is a tmpfs (as /run is): then a batch survives the death of the keeper as well.
Elsewhere it has no name and ends with the keeper: a disk's file system may have to refuse or to delay the very write
with which the kernel hands over a datagram, and a datagram whose copy fails is lost. Of each slot only the beginning,
which all but the rarest datagrams fit into, is in memory from the start; the rest is taken when one needs it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from sandtrail.errors import UsageError
from sandtrail.store.frames import Stamp

__all__ = ["BATCH", "PLACES", "SLOT", "Landing", "Unfinished", "create_landing"]

BATCH = 256
SLOT = 1 << 20
PLACES = 1024
_READY = 1 << 17
_PAGE = 4096
_VECTOR = _PAGE  # struct mmsghdr[BATCH]
_IOVEC = 5 * _PAGE  # struct iovec[BATCH]
_PLACES = 6 * _PAGE  # (stream u64, lost u64)[PLACES]
_SLOTS = 10 * _PAGE
_SIZE = _SLOTS + BATCH * SLOT
# (offset, length) of what is in memory from the start.
_RESIDENT = [(0, _SLOTS), *((_SLOTS + slot * SLOT, _READY) for slot in range(BATCH))]
# magic, place, gvisor, length of the path that follows, stream, seq, lost, offset, three clocks
_STATE = Struct("<4sIIIQQQQQQQ")
_MAGIC = b"STl4"
_NOTHING = 0xFFFFFFFF
_FILL = _NOTHING.to_bytes(4, "little")
_MMSGHDR = 64
_MSGHDR = Struct("<QI4xQQQQi4xI4x")
_FLAGS_AT = 48
_LENGTH_AT = 56
_TMPFS = 0x01021994

_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
MSG_CTRUNC = 0x08
MSG_TRUNC = 0x20
MSG_DONTWAIT = 0x40


class Unfinished(NamedTuple):
    """A batch that a receiver had received and not yet acknowledged as written."""

    place: int
    gvisor: bool
    stream: int
    seq: int
    lost: int
    spool: Path
    offset: int
    when: Stamp
    payloads: list[memoryview]
    lengths: list[int]


def create_landing(folder: Path) -> int:
    """The landing of the recorder that runs in `folder`, with what an earlier one has left in it.

    The file descriptor is the caller's to keep and to hand out. Raises OSError where there is no memory for it.
    """
    if _is_tmpfs(folder):
        fd = os.open(folder / "landing", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    else:
        fd = os.memfd_create("sandtrail-landing", os.MFD_CLOEXEC)
    try:
        if os.fstat(fd).st_size != _SIZE:
            os.ftruncate(fd, 0)
            os.ftruncate(fd, _SIZE)
        # Now, and not when the kernel has a datagram in its hands.
        for offset, length in _RESIDENT:
            os.posix_fallocate(fd, offset, length)
    except OSError:
        os.close(fd)
        raise
    return fd


def _is_tmpfs(folder: Path) -> bool:
    buffer = ctypes.create_string_buffer(256)  # struct statfs has 120 bytes and begins with the type
    if _libc.statfs(os.fsencode(folder), buffer):
        return False
    return ctypes.c_long.from_buffer(buffer).value == _TMPFS


class Landing:
    """One receiver's view of the landing. Its sockets must have SO_PASSCRED set, see `receive`."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE, mmap.MAP_SHARED)
        self.view = memoryview(self._map)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        # Touched and locked, so that no page has to be found while a dying process copies a batch. Without root locking
        # is refused; then without.
        for offset, length in _RESIDENT:
            bytes(self.view[offset : offset + length : _PAGE])
            _libc.mlock(ctypes.c_void_p(self._base + offset), ctypes.c_size_t(length))

    # -- what a batch is, for a successor ------------------------------------------------------------------------------

    def unfinished(self) -> Unfinished | None:
        """What the receiver before us had in hand when it died, if anything."""
        magic, place, gvisor, path_length, stream, seq, lost, offset, *when = _STATE.unpack_from(self._map)
        if magic != _MAGIC or path_length > _PAGE - _STATE.size:
            return None
        path = Path(os.fsdecode(bytes(self.view[_STATE.size : _STATE.size + path_length])))
        lengths = []
        for slot in range(BATCH):
            length = self._length(slot)
            if length == _NOTHING or self._hung_up(slot):
                break
            lengths.append(length)
        if not lengths:
            return None
        payloads = [self.payload(slot, length) for slot, length in enumerate(lengths)]
        return Unfinished(place, bool(gvisor), stream, seq, lost, path, offset, Stamp(*when), payloads, lengths)

    def prepare(self) -> None:
        """Forget every batch and lay out the kernel's structures for this process's addresses."""
        self._map[:4] = b"\0" * 4
        for slot in range(BATCH):
            iovec = _IOVEC + slot * 16
            self._map[iovec : iovec + 16] = Struct("<QQ").pack(self._base + _SLOTS + slot * SLOT, SLOT)
            at = _VECTOR + slot * _MMSGHDR
            self._map[at : at + _MMSGHDR] = _MSGHDR.pack(0, 0, self._base + iovec, 1, 0, 0, 0, _NOTHING)

    def aim(
        self,
        place: int,
        gvisor: bool,
        stream: int,
        seq: int,
        lost: int,
        spool: Path,
        offset: int,
        when: tuple[int, int, int],
    ) -> None:
        """Say whose batch comes next, how much of it was known to be lost before, when, and where in which spool file
        its record will begin."""
        path = os.fsencode(spool)
        if _STATE.size + len(path) > _PAGE:
            raise UsageError(f"the path {spool} is too long for a spool; choose a shorter home")
        self._map[_STATE.size : _STATE.size + len(path)] = path
        _STATE.pack_into(self._map, 0, _MAGIC, place, gvisor, len(path), stream, seq, lost, offset, *when)

    def done(self) -> None:
        """The batch is in the spool: forget it."""
        here = self._map
        for at in range(_VECTOR + _LENGTH_AT, _VECTOR + BATCH * _MMSGHDR, _MMSGHDR):
            if here[at : at + 4] == _FILL:
                break
            here[at : at + 4] = _FILL

    # -- what is known of each place's source, for a successor ---------------------------------------------------------

    def stream(self, place: int) -> int:
        """The stream that was opened last at this place."""
        return self._number(_PLACES + place % PLACES * 16)

    def set_stream(self, place: int, stream: int) -> None:
        """Remember a place's stream; call it when it is open."""
        self._set_number(_PLACES + place % PLACES * 16, stream)

    def lost(self, place: int) -> int:
        """How many messages of this place's source are recorded as lost."""
        return self._number(_PLACES + place % PLACES * 16 + 8)

    def set_lost(self, place: int, count: int) -> None:
        """Remember what a source has lost; call it when the gaps are in the spool, and before `done`."""
        self._set_number(_PLACES + place % PLACES * 16 + 8, count)

    def _number(self, at: int) -> int:
        return int.from_bytes(self.view[at : at + 8], "little")

    def _set_number(self, at: int, value: int) -> None:
        self._map[at : at + 8] = value.to_bytes(8, "little")

    # -- receiving -----------------------------------------------------------------------------------------------------

    def receive(self, fd: int) -> tuple[list[int], bool]:
        """Receive what is there, at most BATCH datagrams, without waiting; their true lengths, and whether the other
        side has hung up behind them.

        At the end of a SOCK_SEQPACKET connection recvmmsg returns messages of length 0, as it does for empty packets.
        But a packet has credentials, and as SO_PASSCRED asks for them and there is no room for them, MSG_CTRUNC is set.
        Raises OSError as recv(2) does, except EAGAIN and EINTR; whatever came before an error was returned earlier.
        """
        while (count := _recvmmsg(fd, self._base + _VECTOR, BATCH, MSG_DONTWAIT | MSG_TRUNC, None)) < 0:
            error = ctypes.get_errno()
            if error == errno.EAGAIN:
                return [], False
            if error != errno.EINTR:
                raise OSError(error, os.strerror(error))
        first = _VECTOR + _LENGTH_AT
        ends = range(first, first + count * _MMSGHDR, _MMSGHDR)
        lengths = [int.from_bytes(self._map[at : at + 4], "little") for at in ends]
        ended = False
        while lengths and not lengths[-1] and self._hung_up(len(lengths) - 1):
            lengths.pop()
            ended = True
        return lengths, ended

    def _length(self, slot: int) -> int:
        at = _VECTOR + slot * _MMSGHDR + _LENGTH_AT
        return int.from_bytes(self._map[at : at + 4], "little")

    def _hung_up(self, slot: int) -> bool:
        at = _VECTOR + slot * _MMSGHDR + _FLAGS_AT
        return not self._length(slot) and not self._map[at] & MSG_CTRUNC

    def payload(self, slot: int, length: int) -> memoryview:
        """The bytes of one datagram of the batch, as far as the slot holds them."""
        start = _SLOTS + slot * SLOT
        return self.view[start : start + min(length, SLOT)]

    def column(self, offset: int, count: int) -> bytes:
        """Byte `offset` of each of the first `count` datagrams."""
        start = _SLOTS + offset
        return self._map[start : start + (count - 1) * SLOT + 1 : SLOT]
