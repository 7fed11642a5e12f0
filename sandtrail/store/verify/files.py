"""Step 5 of `verify`: nothing lies among the evidence that the log does not account for.

A recorder that is killed leaves files that it had not signed for yet: temporary ones, tiles of an older or a newer
size, blobs that come next. These are no evidence, and harmless as long as they agree with what was signed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sandtrail.errors import DamagedError
from sandtrail.store.layout import Layout, is_temporary, present
from sandtrail.store.merkle import leaf_hash
from sandtrail.store.tiles import WIDTH, bundle_path, decode_bundle, parse_tile_index, tile_path
from sandtrail.store.verify.report import Report
from sandtrail.store.verify.tree import SignedTree, cut_hashes

__all__ = ["check_files"]

_OTHERS = ("checkpoint", "lock")


def check_files(report: Report, layout: Layout, tree: SignedTree, segments: int, kept: set[str]) -> None:
    """Account for every file of the log, of the segments (there are `segments` of them) and of the kept bytes."""
    _log(report, tree)
    for path in _files(layout.segments):
        number = int(path.stem) if path.suffix == ".seg" and path.stem.isdecimal() and len(path.stem) < 18 else -1
        if number >= 0 and layout.segment(number) == path and number < segments:
            continue
        # A blob is written before its entry is signed.
        if is_temporary(path) or (number >= segments and layout.segment(number) == path):
            report.unsigned_files += 1
        else:
            report.find(5, "file-unaccounted", path, "no signed entry names this segment; it is no evidence")
    for path in _files(layout.damaged):
        if path.name in kept and path.parent == layout.damaged:
            continue
        if is_temporary(path) or present(_spool_of(layout, path)):
            report.unsigned_files += 1
        else:
            report.find(5, "file-unaccounted", path, "no signed entry names these bytes; they are no evidence")


def _spool_of(layout: Layout, path: Path) -> Path:
    """The spool file that kept bytes, which nobody has signed for yet, are of."""
    return layout.spool / path.name.rpartition(".")[0]


def _files(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is no folder, in order; one folder's names at a time."""
    try:
        with os.scandir(folder) as found:
            items = sorted((item.name, item.is_dir(follow_symlinks=False)) for item in found)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, is_folder in items:
        if is_folder:
            yield from _files(folder / name)
        else:
            yield folder / name


def _log(report: Report, tree: SignedTree) -> None:
    for path in _files(tree.log):
        name = path.relative_to(tree.log).as_posix()
        if name in _OTHERS:
            continue
        place = _place(name)
        if place is not None and _belongs(tree, *place):
            continue
        if is_temporary(path) or (place is not None and _harmless(tree, path, *place)):
            report.unsigned_files += 1
        else:
            report.find(5, "file-unaccounted", path, "it is no part of the signed log")


def _place(name: str) -> tuple[int, int, int] | None:
    """(level, number, width) of a tile by its name, level -1 for entries."""
    top, _, rest = name.partition("/")
    folder, _, index = rest.partition("/")
    found = parse_tile_index(index)
    decimal = folder.isascii() and folder.isdecimal() and len(folder) <= 2 and str(int(folder)) == folder
    if top != "tile" or found is None or not (folder == "entries" or decimal):
        return None
    return (-1 if folder == "entries" else int(folder), *found)


def _belongs(tree: SignedTree, level: int, number: int, width: int) -> bool:
    return tree.width(max(level, 0), number) == width


def _harmless(tree: SignedTree, path: Path, level: int, number: int, width: int) -> bool:
    """Whether a recorder that was killed, or is at work, may have left this file."""
    under = max(level, 0)
    signed_width = tree.width(under, number)
    if signed_width <= 0 and number > tree.checkpoint.size >> 8 * (under + 1):
        # A publish goes from left to right: the tile before this one is there as well.
        left = bundle_path(tree.log, number - 1) if level < 0 else tile_path(tree.log, level, number - 1)
        return present(left)
    signed = tree.hashes(under, number) or [] if signed_width > 0 else []
    signed = signed[:width]
    try:
        data = path.read_bytes()
        found = list(map(leaf_hash, decode_bundle(data))) if level < 0 else cut_hashes(data)
    except (OSError, DamagedError):
        # Gone in the meantime is as good as never there.
        return not present(path)
    return len(found) == width <= WIDTH and found[: len(signed)] == signed
