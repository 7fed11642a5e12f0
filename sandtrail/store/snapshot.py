"""A log as it was, beside a writer who goes on: for whoever compares it with others, or proves what it grew out of."""

from __future__ import annotations

from pathlib import Path

from sandtrail.errors import NotFoundError, StoreError
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.tiles import TileReader, partial_widths

__all__ = ["Snapshot"]

_TRIES = 100


class Snapshot(TileReader):
    """A log as it was at one checkpoint, for as long as one likes: partial tiles, which a writer removes, are kept."""

    def __init__(self, log: Path, checkpoint: Checkpoint, note: bytes) -> None:
        """Raises StoreError when the log has moved on in between; the next checkpoint is there then."""
        super().__init__(log, checkpoint.size)
        self.checkpoint = checkpoint
        self.note = note
        self._kept: dict[tuple[int, int], list[bytes]] = {}
        for level, number, _ in partial_widths(checkpoint.size):
            self._kept[level, number] = self.hashes(level, number)

    @classmethod
    def take(cls, home: Path, verifier: Verifier) -> Snapshot:
        """The log under `home` as it is now. Raises NotFoundError where none has begun, DamagedError or StoreError when
        it is not readable or not signed by `verifier`."""
        log = Layout(home).log
        for _ in range(_TRIES):
            note = read_checkpoint(log)
            if note is None:
                raise NotFoundError(f"nothing has been signed under {home} yet")
            try:
                return cls(log, open_checkpoint(note, verifier), note)
            except StoreError:
                if read_checkpoint(log) == note:
                    raise
        raise StoreError(f"the log under {home} changes faster than it can be read")

    def hashes(self, level: int, number: int) -> list[bytes]:
        """As in every TileReader."""
        return self._kept.get((level, number)) or super().hashes(level, number)
