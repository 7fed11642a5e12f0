"""Our log, read by a program that we did not write: `aics-tlog` (PyPI), which implements the same specifications."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sandtrail.store.keys import load_signer, load_verifier
from sandtrail.store.log import Log
from sandtrail.store.note import Checkpoint, open_checkpoint

aics_tlog = pytest.importorskip("aics_tlog", reason="aics-tlog is missing: make setup")

SIZES = [1, 2, 255, 256, 257, 700]


def entry(index: int) -> bytes:
    return b"entry %d" % index


@pytest.fixture
def heads(store: Path) -> list[Checkpoint]:
    """A log that was signed at each of the sizes; its heads."""
    log = Log(store, load_signer(store))
    heads = []
    for size in SIZES:
        while log.size < size:
            log.append(entry(log.size))
        heads.append(log.publish())
    log.close()
    return heads


@pytest.mark.parametrize("size", SIZES)
def test_a_foreign_verifier_accepts_the_signature_and_every_tile_and_entry(store: Path, size: int) -> None:
    log = Log(store, load_signer(store))
    for index in range(size):
        log.append(entry(index))
    log.publish()
    log.close()
    note = aics_tlog.parse_note((store / "log" / "checkpoint").read_bytes())
    result = aics_tlog.verify_checkpoint(note, aics_tlog.parse_vkey(load_verifier(store).vkey))
    assert result.ok, result.error
    head, _ = aics_tlog.checkpoint.checkpoint_from_note(note)
    reader = aics_tlog.FileSystemTileReader(store / "log")
    report = aics_tlog.audit_tiles(reader, size, head.root)
    assert (report.size, report.bundles) == (size, -(-size // 256))
    for index in {0, size // 2, size - 1}:
        proof = aics_tlog.inclusion_proof_from_tiles(reader, index, size)
        assert aics_tlog.verify_leaf_inclusion(entry(index), index, size, proof, head.root)


def test_a_foreign_verifier_finds_every_head_consistent_with_every_later_one(
    store: Path, heads: list[Checkpoint]
) -> None:
    reader = aics_tlog.FileSystemTileReader(store / "log")
    for number, old in enumerate(heads):
        for new in heads[number:]:
            proof = aics_tlog.consistency_proof_from_tiles(reader, old.size, new.size, tile_size=heads[-1].size)
            assert aics_tlog.verify_consistency(old.size, new.size, old.root, new.root, proof)
            assert new.size == old.size or not aics_tlog.verify_consistency(
                old.size, new.size, new.root, new.root, proof
            )


def test_a_foreign_verifier_finds_a_flipped_bit_as_we_do(store: Path, heads: list[Checkpoint]) -> None:
    rng = random.Random(4)
    reader = aics_tlog.FileSystemTileReader(store / "log")
    for path in sorted(path for path in (store / "log" / "tile").rglob("*") if path.is_file()):
        data = path.read_bytes()
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises((aics_tlog.TileVerificationError, aics_tlog.TileMissingError)):
            aics_tlog.audit_tiles(reader, heads[-1].size, heads[-1].root)
        path.write_bytes(data)
    assert aics_tlog.audit_tiles(reader, heads[-1].size, heads[-1].root).size == heads[-1].size


def test_we_accept_a_checkpoint_that_a_foreign_program_signed(store: Path) -> None:

    signer = load_signer(store)
    key = Ed25519PrivateKey.from_private_bytes((store / "keys" / "log.key").read_bytes())
    name = signer.verifier.name
    head = aics_tlog.Checkpoint(name, 5, bytes(32))
    note = aics_tlog.sign_checkpoint(head, key, name).to_bytes()
    assert open_checkpoint(note, signer.verifier) == Checkpoint(name, 5, bytes(32))
    assert note == signer.sign(Checkpoint(name, 5, bytes(32)).body)
