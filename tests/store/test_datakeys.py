from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, ErasedError
from sandtrail.store.cipher import DAMAGED, SEGMENT, new_nonce, salts, seal, unseal
from sandtrail.store.datakeys import DataKey, DataKeys

KEY = DataKey(bytes(range(32)), "one-pod", "one", 1)


def test_a_sandbox_keeps_its_key(store: Path) -> None:
    first = DataKeys(store).for_sandbox("one-pod", "one")
    again = DataKeys(store)
    assert again.for_sandbox("one-pod", "one") == again.get(first.id) == first
    assert again.for_sandbox("two-pod", "two") != first
    assert [key.session for key in again.all()] == ["one", "two"]
    assert again.of_session("two") == [again.for_sandbox("two-pod", "two")]


def test_a_destroyed_key_is_gone_for_every_reader_and_its_bytes_too(store: Path) -> None:
    keys = DataKeys(store)
    key = keys.for_sandbox("one-pod", "one")
    reader = DataKeys(store)
    assert reader.get(key.id) == key
    keys.destroy(key.id)
    keys.destroy(key.id)
    with pytest.raises(ErasedError, match=key.name):
        reader.get(key.id)
    assert not any(key.key in path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert keys.for_sandbox("one-pod", "one").id != key.id


def test_others_can_not_read_it(store: Path) -> None:
    DataKeys(store).for_sandbox("one-pod", "one")
    (path,) = (store / "keys" / "data").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_byte_of_a_key_file_can_be_changed(store: Path) -> None:
    key = DataKeys(store).for_sandbox("one-pod", "one")
    (path,) = (store / "keys" / "data").iterdir()
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(DamagedError):
            DataKeys(store).get(key.id)
    for data in (good[:-1], good + b"\0", b"x" * 70_000):
        path.write_bytes(data)
        with pytest.raises(DamagedError):
            DataKeys(store).get(key.id)
    for data in (b"", bytes(len(good))):  # what a power cut leaves of a key that was being destroyed
        path.write_bytes(data)
        with pytest.raises(ErasedError):
            DataKeys(store).get(key.id)


@given(st.binary(max_size=300))
def test_a_blob_opens_under_its_key_at_its_place_only(plain: bytes) -> None:
    nonce = new_nonce()
    blob = seal(KEY, SEGMENT, nonce, 7, plain)
    assert unseal(KEY, SEGMENT, 7, blob) == (nonce, plain)
    another = DataKey(bytes(32), "one-pod", "one", 1)
    for key, magic, number, data in (
        (another, SEGMENT, 7, blob),
        (KEY, DAMAGED, 7, blob),
        (KEY, SEGMENT, 8, blob),
        (KEY, SEGMENT, 7, blob[:-1]),
        (KEY, SEGMENT, 7, blob[:20]),
        (KEY, SEGMENT, 7, b""),
    ):
        with pytest.raises(DamagedError):
            unseal(key, magic, number, data)


def test_a_blob_and_its_salts_are_as_the_format_says() -> None:
    # Computed from docs/log-format.md with hmac and the `openssl enc` command, not with the code under test.
    nonce = bytes(range(100, 132))
    first = "24423cf6cb1b42856e25a1fa5a05b74d0683a43cb5e1883dcd13e7bc6960e5d6"
    assert salts(KEY, nonce, 2).hex()[:80] == f"{first}fb1a01e41d9ecbde"
    assert (salts(KEY, nonce, 1).hex(), salts(KEY, nonce, 0)) == (first, b"")
    assert seal(KEY, SEGMENT, nonce, 7, b"plain")[8:45].hex() == f"{nonce.hex()}7d4852bd07"
