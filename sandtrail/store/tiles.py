"""tlog-tiles v0.1.0 (C2SP): where tiles and entry bundles are, what is in them, how proofs are read from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import pack, unpack_from

from sandtrail.errors import DamagedError, StoreError
from sandtrail.store.merkle import EMPTY, node_hash, tree_root

__all__ = [
    "MAX_ENTRY",
    "WIDTH",
    "TileReader",
    "bundle_path",
    "decode_bundle",
    "edge_root",
    "encode_bundle",
    "parse_tile_index",
    "partial_widths",
    "tile_index",
    "tile_path",
]

WIDTH = 256
MAX_ENTRY = 0xFFFF


def tile_index(number: int, width: int = WIDTH) -> str:
    """`<N>[.p/<W>]`, the number in groups of three digits."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    name = "/".join(reversed(groups))
    return name if width == WIDTH else f"{name}.p/{width}"


def parse_tile_index(text: str) -> tuple[int, int] | None:
    """(number, width) of what `tile_index` has written, or None for any other text."""
    name, partial, width = text.partition(".p/")
    digits = name.replace("/", "").replace("x", "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 21:
        return None
    if partial and not (width.isascii() and width.isdigit() and len(width) <= 3):
        return None
    tile = int(digits), int(width) if partial else WIDTH
    return tile if tile_index(*tile) == text and 0 < tile[1] <= WIDTH else None


def tile_path(log: Path, level: int, number: int, width: int = WIDTH) -> Path:
    """`tile/<L>/<N>[.p/<W>]`."""
    return log / "tile" / str(level) / tile_index(number, width)


def bundle_path(log: Path, number: int, width: int = WIDTH) -> Path:
    """`tile/entries/<N>[.p/<W>]`."""
    return log / "tile" / "entries" / tile_index(number, width)


def encode_bundle(entries: list[bytes]) -> bytes:
    """Each entry behind its length as big-endian u16."""
    return b"".join(pack(">H", len(entry)) + entry for entry in entries)


def decode_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises DamagedError when lengths and bytes do not fit."""
    entries, at = [], 0
    while at < len(data):
        if len(data) - at < 2:
            raise DamagedError("an entry bundle ends inside a length")
        (length,) = unpack_from(">H", data, at)
        at += 2
        if len(data) - at < length:
            raise DamagedError("an entry bundle ends inside an entry")
        entries.append(data[at : at + length])
        at += length
    return entries


def partial_widths(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, number, width) of every tile that is partial in a log of `size`: floor(size / 256^level) mod 256."""
    level = 0
    while size:
        size, width = divmod(size, WIDTH)
        if width:
            yield level, size, width
        level += 1


def edge_root(tiles: Iterable[list[bytes]]) -> bytes:
    """The root over the partial tiles of a log, the lowest level first."""
    root: bytes | None = None
    for tile in tiles:
        # Each level's partial tile lies to the left of everything below it; its full subtrees are its set bits.
        at = len(tile)
        for bit in range(8):
            if len(tile) >> bit & 1:
                part = tree_root(tile[at - (1 << bit) : at])
                at -= 1 << bit
                root = part if root is None else node_hash(part, root)
    return EMPTY if root is None else root


class TileReader:
    """Reads a log of a given size from its tiles. Every read may raise StoreError (missing) or DamagedError."""

    def __init__(self, log: Path, size: int) -> None:
        self.log = log
        self.size = size

    def _width(self, level: int, number: int) -> int:
        here = self.size >> (8 * level)
        return min(WIDTH, here - number * WIDTH)

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"the log lacks {path.relative_to(self.log)}: {error.strerror}") from error

    def hashes(self, level: int, number: int) -> list[bytes]:
        """The hashes of one tile, as far as they lie under this size."""
        width = self._width(level, number)
        path = tile_path(self.log, level, number, width)
        if width < WIDTH and not path.exists() and tile_path(self.log, level, number).exists():
            path = tile_path(self.log, level, number)
        data = self._read(path)
        if len(data) % 32 or len(data) < 32 * width:
            raise DamagedError(f"{path.relative_to(self.log)} holds {len(data)} bytes, not {32 * width}")
        return [data[i : i + 32] for i in range(0, 32 * width, 32)]

    def entries(self, number: int) -> list[bytes]:
        """The entries of one bundle, as far as they lie under this size."""
        width = self._width(0, number)
        path = bundle_path(self.log, number, width)
        if width < WIDTH and not path.exists() and bundle_path(self.log, number).exists():
            path = bundle_path(self.log, number)
        entries = decode_bundle(self._read(path))
        if len(entries) < width:
            raise DamagedError(f"{path.relative_to(self.log)} holds {len(entries)} entries, not {width}")
        return entries[:width]

    def entry(self, index: int) -> bytes:
        """One entry."""
        return self.entries(index // WIDTH)[index % WIDTH]

    def past(self, size: int) -> TileReader:
        """This log as it was when it had `size` entries, read from the tiles of now."""
        return _Past(self, size)

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of the full subtree of 2^level leaves that starts at leaf index * 2^level."""
        tile_level, inside = divmod(level, 8)
        span = 1 << inside
        number, first = divmod(index * span, WIDTH)
        return tree_root(self.hashes(tile_level, number)[first : first + span])

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` entries."""
        size = self.size if size is None else size
        return self._range(0, size) if size else EMPTY

    def _range(self, start: int, stop: int) -> bytes:
        count = stop - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self.subtree(level, start >> level)
        split = 1 << ((count - 1).bit_length() - 1)
        return node_hash(self._range(start, start + split), self._range(start + split, stop))

    def inclusion(self, index: int) -> list[bytes]:
        """The audit path of entry `index`, bottom up (RFC 6962 section 2.1.1)."""
        path: list[bytes] = []
        start, stop = 0, self.size
        while stop - start > 1:
            split = start + (1 << ((stop - start - 1).bit_length() - 1))
            if index < split:
                path.append(self._range(split, stop))
                stop = split
            else:
                path.append(self._range(start, split))
                start = split
        path.reverse()
        return path

    def consistency(self, old: int) -> list[bytes]:
        """The proof that this log begins with its first `old` entries, bottom up (RFC 6962 section 2.1.2)."""
        if not 0 < old < self.size:
            return []
        path: list[bytes] = []
        start, stop = 0, self.size
        while stop != old:
            split = start + (1 << ((stop - start - 1).bit_length() - 1))
            if old <= split:
                path.append(self._range(split, stop))
                stop = split
            else:
                path.append(self._range(start, split))
                start = split
        if start:
            path.append(self._range(start, stop))
        path.reverse()
        return path


class _Past(TileReader):
    def __init__(self, now: TileReader, size: int) -> None:
        super().__init__(now.log, size)
        self._now = now

    def hashes(self, level: int, number: int) -> list[bytes]:
        return self._now.hashes(level, number)[: self._width(level, number)]

    def entries(self, number: int) -> list[bytes]:
        return self._now.entries(number)[: self._width(0, number)]
