"""The log's key: made once, kept from others, never silently replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.errors import DamagedError, NotFoundError, SandtrailError, StoreError
from sandtrail.store.keys import load_signer, load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.sealer import Sealer


def test_a_key_is_made_once_and_only_its_owner_can_read_it(store: Path) -> None:
    first = load_signer(store, "example.org/cluster/node")
    again = load_signer(store)
    assert first.verifier == again.verifier == load_verifier(store)
    assert first.verifier.name == "example.org/cluster/node"
    assert (store / "keys" / "log.key").stat().st_mode & 0o777 == 0o600
    assert store.stat().st_mode & 0o777 == 0o700


def test_the_public_key_is_made_again_from_the_private_one(store: Path) -> None:
    verifier = load_signer(store).verifier
    Layout(store).vkey.unlink()
    assert load_signer(store).verifier == verifier == load_verifier(store)


def test_a_key_that_others_can_read_is_refused_with_the_remedy(store: Path) -> None:
    load_signer(store)
    (store / "keys" / "log.key").chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        load_signer(store)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_damaged_key_is_refused(store: Path, size: int) -> None:
    load_signer(store)
    (store / "keys" / "log.key").write_bytes(bytes(size))
    with pytest.raises(DamagedError):
        load_signer(store)


def test_a_log_whose_key_has_vanished_is_not_given_a_new_one(store: Path) -> None:
    Sealer(store).stop()
    (store / "keys" / "log.key").unlink()
    with pytest.raises(StoreError, match="restore it"):
        Sealer(store)


def test_a_key_behind_a_symbolic_link_is_not_followed(store: Path) -> None:
    load_signer(store)
    key = store / "keys" / "log.key"
    key.rename(store / "elsewhere")
    key.symlink_to(store / "elsewhere")
    with pytest.raises((OSError, StoreError)):
        load_signer(store)


def test_without_a_public_key_there_is_no_log(store: Path) -> None:
    with pytest.raises(NotFoundError):
        load_verifier(store)


@pytest.mark.parametrize("text", ["", "x", "name+00000000+AQ==\n"])
def test_a_damaged_public_key_is_refused(store: Path, text: str) -> None:
    load_signer(store)
    Layout(store).vkey.write_text(text)
    with pytest.raises(SandtrailError):
        load_verifier(store)
