"""Nodes for the tests of a cluster: real logs with real signatures, but entries of no meaning."""

from __future__ import annotations

import os
from pathlib import Path

from sandtrail.store.layout import Layout
from sandtrail.store.log import Log, read_checkpoint
from sandtrail.store.note import Signer, open_checkpoint
from sandtrail.store.tiles import TileReader
from sandtrail.witness.protocol import encode_request


class Node:
    """A node's log that grows when it is told to. Two with one `key` and name are a fork of each other."""

    def __init__(self, home: Path, name: str = "example.org/c/node", key: bytes = b"\1" * 32) -> None:
        self.home = home
        self.signer = Signer(name, key)
        self.vkey = self.signer.verifier.vkey
        self.origin = name
        self.grow(0)
        Layout(home).keys.mkdir(parents=True, exist_ok=True)
        Layout(home).vkey.write_text(f"{self.vkey}\n")

    def grow(self, entries: int, what: bytes = b"entry ") -> bytes:
        """Append so many entries; returns the new checkpoint."""
        log = Log(self.home, self.signer)
        for _ in range(entries):
            log.append(what + os.urandom(4))
        log.publish()
        log.close()
        return self.note

    @property
    def note(self) -> bytes:
        note = read_checkpoint(Layout(self.home).log)
        assert note is not None
        return note

    @property
    def size(self) -> int:
        return open_checkpoint(self.note, self.signer.verifier).size

    def request(self, old: int = 0) -> bytes:
        """An add-checkpoint request of the current head."""
        proof = TileReader(Layout(self.home).log, self.size).consistency(old)
        return encode_request(old, proof, self.note)
