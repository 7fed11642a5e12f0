"""A log to show to witnesses: real tiles of any size, and heads of histories that it should not have."""

from __future__ import annotations

from pathlib import Path

from sandtrail.store.merkle import leaf_hash, tree_root
from sandtrail.store.note import Checkpoint, Signer
from sandtrail.store.tiles import WIDTH, TileReader, tile_path
from sandtrail.witness.protocol import encode_request

ORIGIN = "log.example/1"


class ALog:
    """600 entries of one history; another `word` is another history."""

    def __init__(
        self, folder: Path, *, word: str = "entry", private: bytes = bytes(range(32)), origin: str = ORIGIN
    ) -> None:
        self.folder, self.origin = folder, origin
        self.signer = Signer(origin, private)
        self.vkey = self.signer.verifier.vkey
        self.leaves = [leaf_hash(f"{word} {n}".encode()) for n in range(600)]
        folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, tree_root(self.leaves[:size]))

    def head(self, size: int) -> bytes:
        """The signed checkpoint."""
        return self.signer.sign(self.checkpoint(size).body)

    def reader(self, size: int) -> TileReader:
        """The log at this size, from tiles on disk."""
        level, hashes = 0, self.leaves[:size]
        while hashes:
            for number in range(0, len(hashes), WIDTH):
                tile = hashes[number : number + WIDTH]
                path = tile_path(self.folder, level, number // WIDTH, len(tile))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"".join(tile))
            full = len(hashes) // WIDTH
            hashes = [tree_root(hashes[n * WIDTH : (n + 1) * WIDTH]) for n in range(full)]
            level += 1
        return TileReader(self.folder, size)

    def body(self, old: int, size: int) -> bytes:
        """A good add-checkpoint request from one size to the other."""
        return encode_request(old, self.reader(size).consistency(old), self.head(size))
