"""Step 4 of `verify`, the tree: which hashes the signed root vouches for, told from the top of the tree down.

The tiles at the log's right edge lead to the root; each hash in them is the root of a full tile below, and so on down
to the entries' leaves. A tile that is not what its parent says is made again from what lies below it, so that one
damaged file costs no more than what nothing else vouches for. Memory: the tiles on one way from the root to a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from sandtrail.errors import DamagedError
from sandtrail.store.merkle import leaf_hash, tree_root
from sandtrail.store.note import Checkpoint
from sandtrail.store.tiles import WIDTH, bundle_path, edge_root, partial_widths, tile_path
from sandtrail.store.verify.report import Affected, Report

__all__ = ["SignedTree", "cut_entries", "cut_hashes"]

_MAX_DOUBTS = 6
_ENTRIES = -1


def cut_hashes(tile: bytes) -> list[bytes]:
    """The hashes of a tile. Raises DamagedError when it ends inside one."""
    if len(tile) % 32:
        raise DamagedError("a tile ends inside a hash")
    return [tile[at : at + 32] for at in range(0, len(tile), 32)]


def cut_entries(bundle: bytes) -> tuple[list[bytes], bool]:
    """The entries of a bundle as far as its lengths lead, and whether they lead to its end."""
    entries, at = [], 0
    while at + 2 <= len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2])
        if end > len(bundle):
            break
        entries.append(bundle[at + 2 : end])
        at = end
    return entries, at == len(bundle)


@dataclass
class SignedTree:
    """The hashes under one checkpoint. `edge` is read at once, because a recorder replaces these files as it signs;
    the full tiles to its left never change."""

    log: Path
    checkpoint: Checkpoint
    edge: dict[int, tuple[int, list[bytes]]] = field(default_factory=dict)
    holds: bool = False
    _files: dict[Path, bytes | None] = field(default_factory=dict)
    _mended: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.checkpoint.size
        self.partials = list(partial_widths(size))
        for level, number, width in self.partials:
            self._keep(tile_path(self.log, level, number, width))
            if level == 0:
                self._keep(bundle_path(self.log, number, width))
        self._settle()

    def _keep(self, path: Path) -> None:
        self._files[path] = _read(path)

    def read(self, path: Path) -> bytes | None:
        """A file of the log, or None when it is missing; those of the edge as they were when the check began."""
        return self._files[path] if path in self._files else _read(path)

    def width(self, level: int, number: int) -> int:
        """How many hashes (of a bundle, level 0: entries) a tile has in this log."""
        return min(WIDTH, (self.checkpoint.size >> 8 * level) - number * WIDTH)

    def path(self, level: int, number: int) -> Path:
        """A tile's file; level -1: an entry bundle's."""
        if level == _ENTRIES:
            return bundle_path(self.log, number, self.width(0, number))
        return tile_path(self.log, level, number, self.width(level, number))

    def _file(self, level: int, number: int) -> list[bytes] | None:
        """A tile as its file has it, None when that is missing or of another length."""
        data = self.read(self.path(level, number))
        return cut_hashes(data) if data is not None and len(data) == 32 * self.width(level, number) else None

    def _made(self, level: int, number: int) -> list[bytes] | None:
        """A tile as what lies below makes it."""
        if level == 0:
            data = self.read(self.path(_ENTRIES, number))
            entries, whole = cut_entries(data or b"")
            return list(map(leaf_hash, entries)) if whole and len(entries) == self.width(0, number) else None
        made = []
        for child in range(number * WIDTH, number * WIDTH + self.width(level, number)):
            below = self._file(level - 1, child) or self._made(level - 1, child)
            if below is None:
                return None
            made.append(tree_root(below))
        return made

    # -- the right edge ------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Find the hashes of the edge that lead to the root: as the files have them, or as what lies below has them."""
        widths = [width for _, _, width in self.partials]

        def fits(flat: list[bytes]) -> bool:
            return edge_root(_split(flat, widths)) == self.checkpoint.root

        files = [self._file(level, number) for level, number, _ in self.partials]
        found = reconcile(_flat(files), lambda: _flat(self._edge_made(files)), fits)
        if found is None:
            made = [self._made(level, number) for level, number, _ in self.partials]
            found = reconcile(_flat(_first(files, made)), lambda: _flat(_first(made, files)), fits)
        self.holds = found is not None
        if found is not None:
            for (level, number, _), tile in zip(self.partials, _split(found, widths), strict=True):
                self.edge[level] = number, tile

    def _edge_made(self, files: list[list[bytes] | None]) -> list[list[bytes] | None]:
        """The cheap second opinion first: only the lowest tile made from its bundle."""
        if not self.partials:
            return []
        level, number, _ = self.partials[0]
        return [self._made(level, number) if level == 0 else files[0], *files[1:]]

    @property
    def intact(self) -> bool:
        """Whether the edge's files are all there and as they should be."""
        if not self.holds or any(self._file(level, number) != tile for level, (number, tile) in self.edge.items()):
            return False
        return 0 not in self.edge or self._made(0, self.edge[0][0]) == self.edge[0][1]

    # -- from the top down ---------------------------------------------------------------------------------------------

    def leaves(self, report: Report) -> Iterator[tuple[int, int, list[bytes] | None]]:
        """(first entry, how many, their signed leaves) of every entry bundle from left to right.

        None stands for the leaves of entries that nothing vouches for, however many bundles these are. Adds what does
        not hold about the tiles to the report.
        """
        if not self.holds:
            what = "neither the entries nor their hashes lead to what was signed, so none of them can be trusted"
            report.find(4, "root-mismatch", self.log, what, Affected(everything=True))
            self._missing(report)
            yield 0, self.checkpoint.size, None
            return
        for level, number, width in reversed(self.partials):
            tile = self.edge[level][1]
            self._compare(report, level, number, tile)
            if level == 0:
                yield number * WIDTH, width, tile
            for at in range(width if level else 0):
                yield from self._below(report, level - 1, number * WIDTH + at, tile[at])

    def _missing(self, report: Report) -> None:
        """Where nothing leads to the root: name what is gone, from the first bundle on, and of the edge."""
        edge = [(level, number) for level, number, _ in self.partials]
        first = next((n for n in range(-(-self.checkpoint.size // WIDTH)) if self.read(self.path(-1, n)) is None), None)
        if first is not None:
            what = f"log entries from {first * WIDTH} on are gone, and with them what led to the root"
            lost = Affected(entries=(first * WIDTH, self.checkpoint.size - 1))
            report.find(4, "bundle-missing", self.path(_ENTRIES, first), what, lost)
        for level, number in edge:
            if self.read(self.path(level, number)) is None:
                report.find(4, "tile-missing", self.path(level, number), "it would lead to the signed root")

    def _below(
        self, report: Report, level: int, number: int, signed: bytes
    ) -> Iterator[tuple[int, int, list[bytes] | None]]:
        tile = self._signed(report, level, number, signed)
        if level == 0 or tile is None:
            yield number << 8 * (level + 1), 1 << 8 * (level + 1), tile
            return
        for at in range(WIDTH):
            yield from self._below(report, level - 1, number * WIDTH + at, tile[at])

    def _signed(self, report: Report, level: int, number: int, signed: bytes) -> list[bytes] | None:
        """The hashes of a full tile that its parent vouches for."""
        found = reconcile(
            self._file(level, number), lambda: self._made(level, number), lambda tile: tree_root(tile) == signed
        )
        if found is None:
            first = number << 8 * (level + 1)
            last = ((number + 1) << 8 * (level + 1)) - 1
            what = f"log entries {first} to {last} cannot be trusted: neither they nor their hashes lead to the root"
            report.find(4, "tile-mismatch", self.path(level, number), what, Affected(entries=(first, last)))
        else:
            self._compare(report, level, number, found)
        return found

    def _compare(self, report: Report, level: int, number: int, tile: list[bytes]) -> None:
        path, expected = self.path(level, number), b"".join(tile)
        actual = self.read(path)
        if actual == expected:
            return
        self._mended[level, number] = tile
        if actual is None:
            report.find(4, "tile-missing", path, "proofs that need it cannot be made; the entries themselves hold")
            return
        pairs = zip(actual, expected, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(actual), len(expected)))
        what = "proofs made from it do not hold; the entries themselves do"
        report.find(4, "tile-damaged", f"{path}, byte {at}", what)

    # -- after the leaves have been gone through -----------------------------------------------------------------------

    def hashes(self, level: int, number: int) -> list[bytes] | None:
        """The signed hashes of one tile, of the edge or of those that `leaves` has gone through; None if unknown."""
        if level in self.edge and self.edge[level][0] == number:
            return self.edge[level][1]
        return self._mended.get((level, number)) or self._file(level, number)

    def root_at(self, size: int) -> bytes | None:
        """The root of the first `size` entries; None where the tiles for it cannot be told."""
        parts = []
        for level, number, width in partial_widths(size):
            tile = self.hashes(level, number)
            if tile is None or len(tile) < width:
                return None
            parts.append(tile[:width])
        return edge_root(parts)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _flat(tiles: list[list[bytes] | None]) -> list[bytes] | None:
    return None if None in tiles else [value for tile in tiles for value in tile or ()]


def _first(ones: list[list[bytes] | None], others: list[list[bytes] | None]) -> list[list[bytes] | None]:
    return [one if one is not None else other for one, other in zip(ones, others, strict=True)]


def _split(flat: list[bytes], widths: list[int]) -> Iterator[list[bytes]]:
    at = 0
    for width in widths:
        yield flat[at : at + width]
        at += width


def reconcile(
    one: list[bytes] | None, other: Callable[[], list[bytes] | None], fits: Callable[[list[bytes]], bool]
) -> list[bytes] | None:
    """The list that fits: the one, else the other, else one that has some hashes of each; None when none does."""
    if one is not None and fits(one):
        return one
    second = other()
    if second is None or one == second:
        return None
    if fits(second):
        return second
    if one is None or len(one) != len(second):
        return None
    doubts = [at for at, (a, b) in enumerate(zip(one, second, strict=True)) if a != b]
    if len(doubts) > _MAX_DOUBTS:
        return None
    for picks in product((one, second), repeat=len(doubts)):
        mixed = list(one)
        for at, pick in zip(doubts, picks, strict=True):
            mixed[at] = pick[at]
        if fits(mixed):
            return mixed
    return None
