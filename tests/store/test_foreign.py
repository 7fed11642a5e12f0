"""Our log, read by a program that we did not write: `aics-tlog`, which implements the same specifications."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandtrail.store.keys import load_signer, load_verifier
from sandtrail.store.log import Log
from sandtrail.store.note import Checkpoint

SCRIPT = Path(__file__).with_name("foreign_audit.py")
SIZES = [1, 2, 255, 256, 257, 700]


def grow(store: Path, sizes: list[int]) -> list[Checkpoint]:
    """A log that was signed at each of these sizes; its heads."""
    log = Log(store, load_signer(store))
    heads = []
    for size in sizes:
        while log.size < size:
            log.append(b"entry %d" % log.size)
        heads.append(log.publish())
    log.close()
    return heads


def read(foreign_python: Path, store: Path, earlier: list[tuple[int, bytes]]) -> dict[str, Any]:
    heads = [f"{size}:{root.hex()}" for size, root in earlier]
    command = [str(foreign_python), str(SCRIPT), str(store / "log"), load_verifier(store).vkey, *heads]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("size", SIZES)
def test_signature_tiles_and_entries_hold_for_a_foreign_verifier(foreign_python: Path, store: Path, size: int) -> None:
    grow(store, [size])
    said = read(foreign_python, store, [])
    assert said == {"signature": True, "size": size, "bundles": -(-size // 256), "audit": "ok", "consistent": []}


def test_every_head_is_consistent_with_the_last_one_and_a_made_up_one_is_not(foreign_python: Path, store: Path) -> None:
    heads = [(head.size, head.root) for head in grow(store, SIZES)]
    made_up = [(size, bytes(32)) for size, _ in heads[:-1]]
    said = read(foreign_python, store, heads + made_up)
    assert said["consistent"] == [True] * len(heads) + [False] * len(made_up)


def test_a_foreign_verifier_finds_a_flipped_bit(foreign_python: Path, store: Path) -> None:
    grow(store, [300])
    rng = random.Random(4)
    tiles = [path for path in (store / "log" / "tile").rglob("*") if path.is_file()]
    assert len(tiles) > 3
    for path in sorted(tiles):
        data = path.read_bytes()
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        assert read(foreign_python, store, [])["audit"].startswith("Tile"), path
        path.write_bytes(data)
    assert read(foreign_python, store, [])["audit"] == "ok"
