"""The spool: where a source's frames land first, one append-only file a writer.

A record holds a run of frames of one stream that were received together:

    magic "STr1" | kind u8 | flags u8 | 0 u16 | count u32 | body length u32 |
    stream u64 | seq of the first frame u64 | realtime_ns u64 | monotonic_ns u64 | boottime_ns u64 | crc32 u32
    body = count * length u32, then the payloads

all little-endian; the checksum covers header (less itself) and body. A record is in the page cache when the writing
call returns: it survives the death of the process, not that of the machine, until the sealer has put it in a segment.
The writer holds a lock on its file; a file without one has no writer any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from struct import Struct, pack, unpack_from
from typing import Any, NamedTuple, Self

import cbor2

from sandtrail.errors import StoreError, UsageError
from sandtrail.store.frames import Kind, Stamp, stamp
from sandtrail.store.layout import Layout, listed

__all__ = ["MAX_PAYLOAD", "Record", "SpoolWriter", "Stream", "encode_record", "parse_records"]

MAGIC = b"STr1"
URGENT = 1
MAX_PAYLOAD = 32 << 20
MAX_BODY = 64 << 20
ROTATE_AT = 64 << 20
_HEAD = Struct("<4sBBHIIQQQQQ")
HEADER_SIZE = _HEAD.size + 4
_MAX_SEQ = 1 << 64


class Record(NamedTuple):
    """One record, its payloads not yet cut apart."""

    kind: int
    urgent: bool
    stream: int
    seq: int
    when: Stamp
    lengths: tuple[int, ...]
    payloads: memoryview

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(seq, payload) of each frame."""
        ends = accumulate(self.lengths)
        for seq, (end, length) in enumerate(zip(ends, self.lengths, strict=True), self.seq):
            yield seq, bytes(self.payloads[end - length : end])


def encode_record(
    kind: int,
    stream: int,
    seq: int,
    when: tuple[int, int, int],
    payloads: Sequence[bytes | memoryview],
    *,
    urgent: bool = False,
) -> bytes:
    """The bytes of a record. Raises UsageError when the payloads are more than MAX_PAYLOAD together."""
    joined = b"".join(payloads)
    if len(joined) > MAX_PAYLOAD:
        raise UsageError(f"a record holds at most {MAX_PAYLOAD} bytes; cut the payload and note the cut")
    lengths = pack(f"<{len(payloads)}I", *map(len, payloads))
    size = len(lengths) + len(joined)
    head = _HEAD.pack(MAGIC, kind, URGENT if urgent else 0, 0, len(payloads), size, stream, seq, *when)
    crc = zlib.crc32(joined, zlib.crc32(lengths, zlib.crc32(head)))
    return b"".join([head, pack("<I", crc), lengths, joined])


def parse_records(data: bytes | memoryview, *, checked: bool = False) -> Iterator[tuple[int, Record]]:
    """Yield (end offset, record) for every whole, undamaged record from the start of `data`; stop at the first other.

    The caller compares the last end offset with `len(data)`. `checked` leaves the checksum out, where a digest over all
    of `data` has already been compared.
    """
    view = memoryview(data)
    at = 0
    while len(view) - at >= HEADER_SIZE:
        magic, kind, flags, zero, count, length, stream, seq, *when = _HEAD.unpack_from(view, at)
        start = at + HEADER_SIZE
        end = start + length
        if magic != MAGIC or zero or not count or end > len(view) or count * 4 > length or length > MAX_BODY:
            return
        if not checked:
            crc = zlib.crc32(view[start:end], zlib.crc32(view[at : at + _HEAD.size]))
            if crc != unpack_from("<I", view, at + _HEAD.size)[0]:
                return
        lengths = unpack_from(f"<{count}I", view, start)
        payloads = view[start + 4 * count : end]
        if sum(lengths) != len(payloads) or seq + count > _MAX_SEQ:
            return
        at = end
        yield end, Record(kind, bool(flags & URGENT), stream, seq, Stamp(*when), lengths, payloads)


def _number(path: Path) -> int:
    digits = path.name.split(".")[1]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


class SpoolWriter:
    """The one writer of a spool. Not for use from several threads at once; a process may own several.

    Raises StoreError when the disk refuses: what was asked is then not in the spool, and everything before it is.
    """

    def __init__(self, home: Path, name: str) -> None:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"{name!r} cannot name a spool; use letters, digits, '-' and '_'")
        try:
            self._folder = Layout(home).make().spool
        except OSError as error:
            raise StoreError(f"cannot create the store {home}: {error.strerror}") from error
        self._name = name
        self._fd = -1
        self._torn = False
        self.size = ROTATE_AT
        self.make_room()

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Go on with the file of a writer that has died. Its lock must still be held by somebody for us.

        Raises FileNotFoundError when the file is gone: then it was sealed to its end.
        """
        spool = cls.__new__(cls)
        spool._folder, spool._name, spool.path = path.parent, path.name.split(".", 1)[0], path
        spool._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        spool._torn = False
        spool.size = os.fstat(spool._fd).st_size
        return spool

    def rest(self, offset: int) -> bytes:
        """What the current file holds from `offset` on."""
        return os.pread(self._fd, max(0, self.size - offset), offset)

    def truncate(self, offset: int) -> None:
        """Forget what the current file holds from `offset` on."""
        os.ftruncate(self._fd, offset)
        self.size = offset

    def _next_file(self) -> None:
        """Begin a file that is locked before anybody can see it: one without a lock is the sealer's to remove."""
        temporary = self._folder / f".{self._name}.{os.getpid()}.new"
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            path = self._link(temporary)
        except OSError:
            os.close(fd)
            raise
        finally:
            # Should the name stay, the file is there all the same; the sealer removes both.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        old, self._fd, self.path, self.size, self._torn = self._fd, fd, path, 0, False
        if old >= 0:
            os.close(old)

    def _link(self, temporary: Path) -> Path:
        # Names grow even when the clock is set back: the sealer takes a writer's files in the order of their names,
        # and manifests remember by name how far a file was sealed.
        mine = (path for path in listed(self._folder, ".spool") if path.name.startswith(f"{self._name}."))
        newest = max(map(_number, mine), default=0)
        number = max(newest + 1, time.time_ns())
        while True:
            path = self._folder / f"{self._name}.{number:020d}.spool"
            try:
                os.link(temporary, path)
            except FileExistsError:
                number += 1
            else:
                return path

    def make_room(self) -> None:
        """Begin a new file if the current one is full; the next record then goes to `path` at offset `size`."""
        if self.size >= ROTATE_AT:
            try:
                self._next_file()
            except OSError as error:
                raise StoreError(f"cannot create a spool in {self._folder}: {error.strerror}") from error

    def fileno(self) -> int:
        """The descriptor of the current file; whoever holds a copy keeps the file's lock."""
        return self._fd

    def append(self, record: bytes) -> None:
        """Append one encoded record, whole or not at all."""
        if self.removed():
            self._leave_removed()
        self.make_room()
        self.append_here(record)

    def removed(self) -> bool:
        """Whether the current file has lost its name: what is written to it then, nobody will ever read."""
        return self._fd >= 0 and not os.fstat(self._fd).st_nlink

    def _leave_removed(self) -> None:
        """Somebody has removed the file: what is written to it would vanish without a word. The next record goes to a
        new one; this one is refused, so that the loss is noticed where losses are counted."""
        gone = self.path
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._next_file()
        except OSError as error:
            raise StoreError(f"the spool {gone} was removed, and no other can be made: {error.strerror}") from error
        raise StoreError(f"the spool {gone} was removed while it was written to")

    def append_here(self, record: bytes) -> None:
        """As `append`, but to the current file however large it is."""
        try:
            if self._torn:
                self._cut()
            self._torn = True
            written = os.write(self._fd, record)
            while written < len(record):
                written += os.write(self._fd, memoryview(record)[written:])
        except OSError as error:
            # Until this has succeeded nothing more is written: it would come behind a part of this record.
            with contextlib.suppress(OSError):
                self._cut()
            raise StoreError(f"cannot write to the spool {self.path}: {error.strerror}") from error
        self._torn = False
        self.size += len(record)

    def _cut(self) -> None:
        os.ftruncate(self._fd, self.size)
        self._torn = False

    def open(self, descriptor: Mapping[str, Any], *, stream: int | None = None) -> Stream:
        """Begin a new stream, by default under a random number; its first frame describes it."""
        opened = Stream(self, int.from_bytes(os.urandom(8), "little") if stream is None else stream)
        opened.put(Kind.OPEN, descriptor)
        return opened

    def close(self) -> None:
        """Let go of the file; the sealer may take what is left of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Stream:
    """An ordered run of frames of one source, written to one spool."""

    def __init__(self, spool: SpoolWriter, ident: int, seq: int = 0) -> None:
        """`seq`: the number of the next frame, where another process has written those before it."""
        self.id = ident
        self.seq = seq
        self._spool = spool

    def put(self, kind: Kind, fact: Mapping[str, Any], *, urgent: bool = True) -> None:
        """Record one frame that is a CBOR map."""
        self._append(kind, [cbor2.dumps(dict(fact), canonical=True)], urgent=urgent)

    def _append(
        self, kind: Kind, payloads: Sequence[bytes | memoryview], *, urgent: bool, when: Stamp | None = None
    ) -> None:
        self._spool.append(encode_record(kind, self.id, self.seq, when or stamp(), payloads, urgent=urgent))
        self.seq += len(payloads)

    def write(self, payload: bytes, *, urgent: bool = False, when: Stamp | None = None) -> int:
        """Record one frame and return its seq. Raises UsageError for a payload over MAX_PAYLOAD: cut it and note so."""
        return self.write_many([payload], urgent=urgent, when=when)

    def write_many(
        self, payloads: Sequence[bytes | memoryview], *, urgent: bool = False, when: Stamp | None = None
    ) -> int:
        """Record frames that were received together; returns the seq of the first. Raises UsageError as `write`."""
        first = self.seq
        if payloads:
            self._append(Kind.DATA, payloads, urgent=urgent, when=when)
        return first

    def note(self, note: Mapping[str, Any], *, urgent: bool = True) -> None:
        """Record an act of the collector that concerns this stream: a gap, a cut, an error."""
        self.put(Kind.NOTE, note, urgent=urgent)

    def close(self, reason: str, **facts: Any) -> None:
        """Record the stream's end."""
        self.put(Kind.CLOSE, {"reason": reason, "frames": self.seq, **facts})
