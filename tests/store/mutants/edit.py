"""What attackers do to a copy of the store: files, entries, signatures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.store.epochs import Certificate, epoch_name
from sandtrail.store.layout import Layout
from sandtrail.store.merkle import leaf_hash, tree_root
from sandtrail.store.note import Checkpoint, Signer, Verifier
from sandtrail.store.tiles import WIDTH, bundle_path, decode_bundle, encode_bundle, tile_path
from tests.store.mutants.base import Base

__all__ = ["Copy", "dump", "load", "read_entries"]


def load(entry: bytes) -> dict[str, Any]:
    """What an entry says."""
    value: dict[str, Any] = cbor2.loads(entry)
    return value


def dump(fields: Mapping[str, Any]) -> bytes:
    """The entry that says so."""
    return cbor2.dumps(dict(fields), canonical=True)


def read_entries(log: Path) -> list[bytes]:
    """Every entry on disk, as far as the checkpoint counts them; nothing is checked."""
    size = int((log / "checkpoint").read_bytes().split(b"\n")[1])
    entries: list[bytes] = []
    while len(entries) < size:
        width = min(WIDTH, size - len(entries))
        entries += decode_bundle(bundle_path(log, len(entries) // WIDTH, width).read_bytes())
    return entries


class Copy:
    """A copy of the base store that may be damaged. Files are hard links, so they are replaced and never written to."""

    def __init__(self, base: Base, home: Path) -> None:
        self.base = base
        self.home = home
        self.log = Layout(home).log
        shutil.copytree(base.home, home, copy_function=os.link)

    # -- files ---------------------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        return self.home / name

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def swap(self, one: str, other: str) -> None:
        first, second = self.read(one), self.read(other)
        self.write(one, second)
        self.write(other, first)

    # -- the log -------------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> list[bytes]:
        return read_entries(self.log)

    def bundles(self, entries: Sequence[bytes]) -> None:
        """Replace the entry bundles, and nothing else."""
        shutil.rmtree(self.log / "tile" / "entries")
        for first in range(0, len(entries), WIDTH):
            part = list(entries[first : first + WIDTH])
            path = bundle_path(self.log, first // WIDTH, len(part))
            self.write(str(path.relative_to(self.home)), encode_bundle(part))

    def lay(self, entries: Sequence[bytes]) -> None:
        """Replace entry bundles and tiles by those of other entries; the checkpoint stays."""
        shutil.rmtree(self.log / "tile", ignore_errors=True)
        (self.log / "tile" / "entries").mkdir(parents=True)
        self.bundles(entries)
        level, hashes = 0, list(map(leaf_hash, entries))
        while hashes:
            for first in range(0, len(hashes), WIDTH):
                part = hashes[first : first + WIDTH]
                path = tile_path(self.log, level, first // WIDTH, len(part))
                self.write(str(path.relative_to(self.home)), b"".join(part))
            full = range(0, len(hashes) // WIDTH * WIDTH, WIDTH)
            level, hashes = level + 1, [tree_root(hashes[first : first + WIDTH]) for first in full]

    def sign(self, entries: Sequence[bytes], identity: bytes | None, epoch: bytes | None) -> None:
        """Write a checkpoint over these entries, signed by whichever keys are at hand."""
        root = tree_root(list(map(leaf_hash, entries)))
        self.write("log/checkpoint", sign(self.origin, len(entries), root, identity, epoch))

    @property
    def origin(self) -> str:
        return self.base.pins[0].name

    def reseal(self, entries: Sequence[bytes], keys: Mapping[int, bytes], identity: bytes) -> None:
        """Pass other entries off as this log: tiles, certificates and checkpoint anew, with the epochs' keys at hand.

        Where a certificate would have to be signed by a key that is not at hand, the old one stays.
        """
        made = recertify(self.origin, entries, keys, identity)
        self.lay(made)
        self.sign(made, identity, keys[max(keys)])


def sign(origin: str, size: int, root: bytes, identity: bytes | None, epoch: bytes | None) -> bytes:
    """A checkpoint with the lines of those keys that are given."""
    text = Checkpoint(origin, size, root).body
    note = text.encode() + b"\n"
    for name, key in ((origin, identity), (epoch_name(origin), epoch)):
        if key is not None:
            note += Signer(name, key).sign(text)[len(text.encode()) + 1 :]
    return note


def recertify(origin: str, entries: Sequence[bytes], keys: Mapping[int, bytes], identity: bytes) -> list[bytes]:
    """These entries with every certificate made anew for which there is the key."""
    made: list[bytes] = []
    leaves: list[bytes] = []
    for entry in entries:
        fields = _map(entry)
        if fields.get("kind") == "epoch" and {"epoch", "certificate"} <= fields.keys():
            epoch = fields["epoch"]
            signer = Signer(origin, identity) if not epoch else None
            if epoch - 1 in keys:
                signer = Signer(epoch_name(origin), keys[epoch - 1])
            if signer is not None:
                vkey = next((line for line in fields["certificate"].split("\n") if f"{origin}/epoch+" in line), None)
                if vkey is not None:
                    text = Certificate(origin, epoch, len(made), tree_root(leaves), Verifier.parse(vkey)).text
                    entry = dump({**fields, "certificate": signer.sign(text).decode()})
        made.append(entry)
        leaves.append(leaf_hash(entry))
    return made


def _map(entry: bytes) -> dict[str, Any]:
    try:
        fields: object = cbor2.loads(entry)
    except (cbor2.CBORDecodeError, ValueError):
        return {}
    return fields if isinstance(fields, dict) else {}
