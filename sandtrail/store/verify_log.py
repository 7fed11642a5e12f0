"""Steps 4 and 5 of `verify` as far as the log's own files go: every tile and entry bundle is what the entries make it,
they lead to the signed root, and nothing else lies among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sandtrail.errors import DamagedError
from sandtrail.store.layout import is_temporary
from sandtrail.store.merkle import leaf_hash, tree_root
from sandtrail.store.note import Checkpoint
from sandtrail.store.report import Report
from sandtrail.store.tiles import WIDTH, bundle_path, decode_bundle, parse_tile_index, tile_path

__all__ = ["LogFiles"]

_OTHERS = ("checkpoint", "lock")


@dataclass
class LogFiles:
    """The files of one log as they are on disk, looked at under one checkpoint."""

    log: Path
    checkpoint: Checkpoint

    def _width(self, number: int) -> int:
        return min(WIDTH, self.checkpoint.size - number * WIDTH)

    @cached_property
    def _read(self) -> list[list[bytes] | str]:
        """Per bundle its entries, or why it can't be read."""
        return [self._bundle(number) for number in range(-(-self.checkpoint.size // WIDTH))]

    def _bundle(self, number: int) -> list[bytes] | str:
        width = self._width(number)
        try:
            entries = decode_bundle(bundle_path(self.log, number, width).read_bytes())
        except OSError as error:
            return error.strerror or str(error)
        except DamagedError as error:
            return str(error)
        return entries if len(entries) == width else f"it holds {len(entries)} entries, not {width}"

    @cached_property
    def entries(self) -> list[bytes | None]:
        """Every entry that the checkpoint counts; None for one whose bundle can't be read."""
        found: list[bytes | None] = []
        for number, bundle in enumerate(self._read):
            found += [None] * self._width(number) if isinstance(bundle, str) else bundle
        return found

    @cached_property
    def leaves(self) -> list[bytes] | None:
        """Every entry's leaf hash as it was signed, if that can be told from the entries or from their tiles.

        None where neither leads to the signed root.
        """
        for prefer_tiles in (False, True):
            leaves: list[bytes] = []
            for number, bundle in enumerate(self._read):
                if prefer_tiles or isinstance(bundle, str):
                    leaves += self._tile(number)
                else:
                    leaves += map(leaf_hash, bundle)
            if len(leaves) == self.checkpoint.size and tree_root(leaves) == self.checkpoint.root:
                return leaves
        return None

    def _tile(self, number: int) -> list[bytes]:
        try:
            return _cut(tile_path(self.log, 0, number, self._width(number)).read_bytes())
        except (OSError, DamagedError):
            return []

    def check(self, report: Report) -> None:
        """Add what does not hold to the report."""
        for number, bundle in enumerate(self._read):
            if isinstance(bundle, str):
                first, width = number * WIDTH, self._width(number)
                what = f"log entries {first} to {first + width - 1} cannot be read: {bundle}"
                report.find(4, "entry bundle damaged", bundle_path(self.log, number, width), what)
        self._changed(report)
        if self.leaves is None:
            what = "neither the entries nor their hashes lead to what was signed, so none of them can be trusted"
            report.find(4, "root mismatch", self.log, what)
            return
        levels = _levels(self.leaves)
        known = {self.log / name for name in _OTHERS}
        known |= {bundle_path(self.log, number, self._width(number)) for number in range(len(self._read))}
        for level, hashes in enumerate(levels):
            for number in range(-(-len(hashes) // WIDTH)):
                tile = hashes[number * WIDTH : (number + 1) * WIDTH]
                path = tile_path(self.log, level, number, len(tile))
                known.add(path)
                _compare(report, path, b"".join(tile))
        self._others(report, levels, known)

    def _changed(self, report: Report) -> None:
        """Name the entries that are not the ones that were signed; where that can't be told, that differ from their
        tile."""
        for number, bundle in enumerate(self._read):
            if isinstance(bundle, str):
                continue
            first = number * WIDTH
            signed = self._tile(number) if self.leaves is None else self.leaves[first : first + WIDTH]
            for index, (entry, leaf) in enumerate(zip(bundle, signed, strict=False), first):
                if leaf_hash(entry) != leaf:
                    report.find(4, "entry changed", f"log entry {index}", "what it says was not signed like this")

    def _others(self, report: Report, levels: list[list[bytes]], known: set[Path]) -> None:
        """Step 5. A recorder that is killed while it signs leaves tiles of an older or a newer size: these are no
        evidence, and harmless as long as they agree with what was signed."""
        files = {path for path in self.log.rglob("*") if not path.is_dir()}
        for path in sorted(files - known):
            if is_temporary(path) or self._harmless(path, levels, files):
                report.unsigned_files += 1
            else:
                report.find(5, "file not accounted for", path, "it is no part of the signed log")

    def _harmless(self, path: Path, levels: list[list[bytes]], files: set[Path]) -> bool:
        top, _, rest = path.relative_to(self.log).as_posix().partition("/")
        folder, _, index = rest.partition("/")
        place = parse_tile_index(index)
        level = 0 if folder == "entries" else int(folder) if folder.isdecimal() and len(folder) <= 2 else -1
        if top != "tile" or place is None or level < 0:
            return False
        number, width = place
        hashes = levels[level] if level < len(levels) else []
        if number > len(hashes) // WIDTH:
            # A publish goes from left to right: the tile before this one is there as well.
            left = bundle_path(self.log, number - 1) if folder == "entries" else tile_path(self.log, level, number - 1)
            return left in files
        signed = hashes[number * WIDTH : number * WIDTH + width]
        try:
            data = path.read_bytes()
            found = list(map(leaf_hash, decode_bundle(data))) if folder == "entries" else _cut(data)
        except (OSError, DamagedError):
            return False
        return len(found) == width and found[: len(signed)] == signed


def _cut(tile: bytes) -> list[bytes]:
    if len(tile) % 32:
        raise DamagedError("a tile ends inside a hash")
    return [tile[at : at + 32] for at in range(0, len(tile), 32)]


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    """The hashes of every level of tiles."""
    levels = []
    while leaves:
        levels.append(leaves)
        leaves = [tree_root(leaves[at : at + WIDTH]) for at in range(0, len(leaves) // WIDTH * WIDTH, WIDTH)]
    return levels


def _compare(report: Report, path: Path, expected: bytes) -> None:
    try:
        actual = path.read_bytes()
    except OSError as error:
        report.find(4, "tile missing", path, f"proofs that need it cannot be made: {error.strerror}")
        return
    if actual != expected:
        pairs = zip(actual, expected, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(actual), len(expected)))
        what = "proofs made from it do not hold; the entries themselves do"
        report.find(4, "tile damaged", f"{path}, byte {at}", what)
