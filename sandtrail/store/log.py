"""The node's append-only log: entries in, tiles and a signed checkpoint out.

One writer at a time (a lock on `log/lock`). `append` only queues; `publish` makes everything queued durable and then
signs for it, in this order: entry bundles and tiles, then the checkpoint. After a crash the checkpoint is the truth:
what lies in tiles beyond it was never signed, is removed and written anew. A log has a checkpoint from its first moment
on (of size 0), so that one without a checkpoint is always a damaged one. A checkpoint is durable before anybody can see
it: a power cut that took one back would have us sign for another past, a fork to whoever has seen the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol

from sandtrail.errors import DamagedError, StoreError, UsageError
from sandtrail.store.layout import Layout, listed, present, publish, sweep, sync_folder
from sandtrail.store.merkle import EMPTY, leaf_hash, tree_root
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.tiles import (
    MAX_ENTRY,
    WIDTH,
    TileReader,
    bundle_path,
    edge_root,
    encode_bundle,
    partial_widths,
    tile_index,
    tile_path,
)

__all__ = ["Log", "LogSigner", "read_checkpoint"]


def read_checkpoint(log: Path) -> bytes | None:
    """The current checkpoint's bytes, unchecked, or None in a log that has none yet."""
    try:
        return (log / "checkpoint").read_bytes()
    except FileNotFoundError:
        return None


class LogSigner(Protocol):
    """What signs for a log: one key, or several that belong together."""

    @property
    def verifier(self) -> Verifier:
        """The key under the log's own name."""

    def sign(self, text: str) -> bytes:
        """The signed note over a checkpoint's body."""


class Log:
    """The writer of a log."""

    def __init__(self, home: Path, signer: LogSigner) -> None:
        """Take the writer's place and read the log's right edge; makes the log's folder if there is none.

        Raises StoreError when another writer has it, DamagedError when tiles and checkpoint do not agree: a damaged log
        is never appended to.
        """
        self._log = Layout(home).log
        self._log.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Ends like a temporary file, which it is to everybody else.
        self._next = self._log / ".checkpoint.next.tmp"
        self._signer = signer
        self._lock = os.open(self._log / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StoreError(f"another process writes to the log under {home}") from None
        except OSError:
            os.close(self._lock)
            raise
        try:
            Layout(home).settle()
            self._read(home)
        except BaseException:
            os.close(self._lock)
            raise

    def _read(self, home: Path) -> None:
        note = read_checkpoint(self._log)
        if note is None:
            self._refuse_what_was_signed(home)
            note = self._signer.sign(Checkpoint(self._signer.verifier.name, 0, EMPTY).body)
            self._show(note)
        self.published = open_checkpoint(note, self._signer.verifier)
        self._finish()
        self.size = self.published.size
        self._levels = self._right_edge(self.size)
        self._bundle = self._last_entries(self.size)
        self._full: dict[Path, bytes] = {}
        if self.root() != self.published.root:
            raise DamagedError(f"the tiles under {self._log} do not lead to the signed root; run: sandtrail verify")
        self._tidy()

    def _show(self, note: bytes) -> None:
        """Make a checkpoint durable, then visible."""
        publish(self._next, note, mode=0o644)
        self._next.rename(self._log / "checkpoint")
        sync_folder(self._log)

    def _finish(self) -> None:
        """Show the checkpoint that a predecessor had made durable and could not show any more."""
        try:
            note = self._next.read_bytes()
            checkpoint = open_checkpoint(note, self._signer.verifier)
        except (FileNotFoundError, DamagedError):
            return
        if checkpoint.size > self.published.size:
            self._show(note)
            self.published = checkpoint

    def _refuse_what_was_signed(self, home: Path) -> None:
        if present(self._log / "tile") or any(listed(folder, ".seg") for folder in listed(Layout(home).segments)):
            raise DamagedError(
                f"{self._log / 'checkpoint'} is missing, but entries were signed here: restore it from a copy, or "
                "start a new home; nothing is written over what may be evidence"
            )

    def _tidy(self) -> None:
        """Remove what a publish that was cut short has left: temporary files and tiles that nobody signed for."""
        sweep(self._log)
        for folder in listed(self._log / "tile"):
            level = int(folder.name) if folder.name.isdecimal() else 0
            full, width = divmod(self.size >> 8 * level, WIDTH)
            right = folder / tile_index(full)
            needed = right.with_name(f"{right.name}.p") / str(width)
            # Older partial tiles, which a full one has replaced, are left of the right edge and most often next to it.
            for partial in _partials(right.parent):
                if partial != needed:
                    _remove(partial)
            # A publish goes from left to right, so the first place where nothing lies is its end. Removal goes the
            # other way: should we be killed here, no hole is left that would hide the rest.
            first = number = full if not width or present(needed) else full + 1
            while present(folder / tile_index(number)):
                number += 1
            for ahead in range(number - 1, first - 1, -1):
                sweep((folder / tile_index(ahead)).parent)
                _remove(folder / tile_index(ahead))
            for partial in _partials((folder / tile_index(number)).parent):
                if partial != needed:
                    _remove(partial)
            sweep(right.parent)

    def _right_edge(self, size: int) -> list[list[bytes]]:
        """Per level the hashes of the tile that is not full yet."""
        reader = TileReader(self._log, size)
        levels: list[list[bytes]] = []
        for level, number, _ in partial_widths(size):
            levels.extend([] for _ in range(level - len(levels)))
            levels.append(reader.hashes(level, number))
        return levels

    def _last_entries(self, size: int) -> list[bytes]:
        return TileReader(self._log, size).entries(size // WIDTH) if size % WIDTH else []

    def append(self, entry: bytes) -> int:
        """Queue an entry and return its index. Nothing is durable before `publish`. Raises UsageError for one over
        MAX_ENTRY."""
        if len(entry) > MAX_ENTRY:
            raise UsageError(f"an entry holds at most {MAX_ENTRY} bytes, this one has {len(entry)}")
        index = self.size
        self._bundle.append(entry)
        if len(self._bundle) == WIDTH:
            self._full[bundle_path(self._log, index // WIDTH)] = encode_bundle(self._bundle)
            self._bundle = []
        self._push(0, leaf_hash(entry), index)
        self.size += 1
        return index

    def _push(self, level: int, value: bytes, index: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        tile = self._levels[level]
        tile.append(value)
        if len(tile) == WIDTH:
            self._full[tile_path(self._log, level, index // WIDTH)] = b"".join(tile)
            self._levels[level] = []
            self._push(level + 1, tree_root(tile), index // WIDTH)

    def root(self) -> bytes:
        """The root over everything appended so far."""
        return edge_root(self._levels)

    def publish(self) -> Checkpoint:
        """Make everything appended durable, then sign for it; returns the new checkpoint.

        After an error nothing was signed that is not on disk; the object must not be used any more.
        """
        if self.size == self.published.size:
            return self.published
        for path, data in self._full.items():
            publish(path, data)
        self._full.clear()
        for level, number, width in partial_widths(self.size):
            publish(tile_path(self._log, level, number, width), b"".join(self._levels[level]))
        if self._bundle:
            publish(bundle_path(self._log, self.size // WIDTH, len(self._bundle)), encode_bundle(self._bundle))
        checkpoint = Checkpoint(self._signer.verifier.name, self.size, self.root())
        self._show(self._signer.sign(checkpoint.body))
        old, self.published = self.published, checkpoint
        self._drop_partials(old.size)
        return checkpoint

    def _drop_partials(self, size: int) -> None:
        """Remove the partial tiles of an older size: the checkpoint that needed them has been replaced."""
        current = {tile_path(self._log, *tile) for tile in partial_widths(self.size)}
        old = [tile_path(self._log, *tile) for tile in partial_widths(size)]
        if size % WIDTH and self.size != size:
            old.append(bundle_path(self._log, size // WIDTH, size % WIDTH))
        for path in old:
            if path not in current:
                _remove(path)

    def close(self) -> None:
        """Give up the writer's place."""
        os.close(self._lock)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others are in it
        path.parent.rmdir()


def _partials(folder: Path) -> list[Path]:
    """The partial tiles of every number that has its place in `folder`, and what publishing them has left."""
    return [path for partial in listed(folder, ".p") for path in listed(partial, hidden=True)]
