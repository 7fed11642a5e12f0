"""Our log, read by Go programs that we did not write: golang.org/x/mod/sumdb, tessera's fsck."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sandtrail.store.keys import load_verifier
from tests.store.foreign_go import check_log, fsck, logcheck
from tests.store.test_foreign import SIZES, grow
from tests.witness.serving import files_of, serving

pytestmark = pytest.mark.needs("foreign-go")

GOOD = {"tlog": "", "fsck": ""}


def identity(store: Path) -> Path:
    """The identity's key in a file of its own: what one gives to others."""
    path = store / "identity.vkey"
    path.write_text(load_verifier(store).vkey)
    return path


@pytest.mark.parametrize("size", SIZES)
def test_go_finds_signature_root_tiles_and_entries_good(store: Path, size: int) -> None:
    grow(store, [size])
    assert check_log(store / "log", load_verifier(store).vkey) == {**GOOD, "size": size}
    assert fsck(store / "log", identity(store)) == ""


def test_go_finds_it_good_over_http(store: Path) -> None:
    heads = grow(store, [3, 700])
    with serving(files_of(store / "log")) as url:
        old = [(head.size, head.root) for head in heads]
        assert check_log(url, load_verifier(store).vkey, old) == {**GOOD, "size": 700}
        assert fsck(url, identity(store)) == ""


def test_go_proves_every_head_consistent_with_the_last_one_and_no_made_up_one(store: Path) -> None:
    heads = grow(store, SIZES)
    vkey = load_verifier(store).vkey
    assert check_log(store / "log", vkey, [(head.size, head.root) for head in heads])["tlog"] == ""
    for head in heads[:-1]:
        assert f"head at {head.size}" in check_log(store / "log", vkey, [(head.size, bytes(32))])["tlog"]
    assert "once had 701" in check_log(store / "log", vkey, [(701, bytes(32))])["tlog"]


def test_go_wants_the_key_that_signed(store: Path, tmp_path: Path) -> None:
    grow(store, [2])
    grow(tmp_path / "other", [2])
    said = check_log(store / "log", load_verifier(tmp_path / "other").vkey)
    assert said["tlog"]
    assert said["fsck"]
    assert fsck(store / "log", identity(tmp_path / "other")) != ""


def test_go_finds_a_flipped_bit_in_any_file(store: Path) -> None:
    grow(store, [300])
    vkey, key = load_verifier(store).vkey, identity(store)
    rng = random.Random(5)
    files = sorted(path for path in (store / "log").rglob("*") if path.is_file() and path.name != "lock")
    assert len(files) > 4
    for path in files:
        data = path.read_bytes()
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        said = logcheck([{"log": str(store / "log"), "vkey": vkey}])[0]
        path.write_bytes(data)
        # A checkpoint's second signature is not of this key, and what a note's reader must ignore.
        if path.name != "checkpoint":
            assert said["tlog"], path
            assert said["fsck"], path
    path = store / "log" / "tile" / "0" / "000"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert fsck(store / "log", key) != ""
