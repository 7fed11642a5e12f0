from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, StoreError
from sandtrail.store.acts import order
from sandtrail.store.epochs import parse_certificate
from sandtrail.store.keys import load_pins, load_signer
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.merkle import leaf_hash, tree_root
from sandtrail.store.note import Signer, Verifier, signed_by
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.tiles import TileReader
from sandtrail.store.verify import verify
from tests.store.recording import entries, killed, payloads


def keys(home: Path) -> list[str]:
    return sorted(path.name for path in Layout(home).epochs.iterdir())


def chain(home: Path) -> list[Verifier]:
    """The keys of all epochs, each certificate checked against the log as it was at that moment."""
    identity, first = load_pins(home)
    signer = identity
    found: list[Verifier] = []
    log = TileReader(Layout(home).log, open_log(home).size())
    for entry in open_log(home).entries():
        if entry.kind != "epoch":
            continue
        certificate = parse_certificate(entry.map["certificate"], signer)
        assert (certificate.epoch, certificate.size) == (len(found), entry.index)
        assert certificate.root == tree_root([leaf_hash(log.entry(index)) for index in range(entry.index)])
        signer = certificate.verifier
        found.append(signer)
    assert found[0] == first
    return found


def test_a_log_begins_with_its_first_epoch_and_both_keys_sign(store: Path) -> None:
    Sealer(store).stop()
    identity, first = load_pins(store)
    note = read_checkpoint(Layout(store).log)
    assert first is not None
    assert note is not None
    assert signed_by(note, identity)
    assert signed_by(note, first)
    assert chain(store) == [first]
    assert [fields["epoch"] for _, fields in entries(store)] == [0, 0, 0]


def test_a_new_epoch_is_certified_by_the_one_before_whose_key_is_gone(store: Path) -> None:
    sealer = Sealer(store)
    old = (Layout(store).epochs / "0.key").read_bytes()
    assert sealer.begin_epoch() == 1
    sealer.stop()
    assert keys(store) == ["1.key"]
    assert not any(old in path.read_bytes() for path in store.rglob("*") if path.is_file())
    first, second = chain(store)
    note = read_checkpoint(Layout(store).log)
    assert note is not None
    assert signed_by(note, second)
    assert not signed_by(note, first)
    assert verify(store).ok


def test_an_epoch_ends_when_its_key_is_old(store: Path) -> None:
    sealer = Sealer(store, epoch_age=3600)
    path = Layout(store).epochs / "0.key"
    os.utime(path, (path.stat().st_mtime - 3601,) * 2)
    sealer.step()
    sealer.stop()
    assert keys(store) == ["1.key"]
    assert len(chain(store)) == 2


def test_a_new_epoch_can_be_ordered_where_no_recorder_runs(store: Path) -> None:
    Sealer(store).stop()
    assert order(store, {"act": "epoch"}) == {"epoch": 1}
    assert len(chain(store)) == 2
    assert list(Layout(store).acts.iterdir()) == []


@pytest.mark.parametrize("moment", ["next", "begin", "erase_old"])
def test_killed_in_the_middle_of_a_change_it_goes_on_with_a_key_that_is_certified(
    store: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    Sealer(store).stop()

    def die() -> None:
        from sandtrail.store.epochs import NodeSigner

        real = getattr(NodeSigner, moment)

        def killing(*given: object) -> object:
            result = real(*given)
            os.kill(os.getpid(), 9)
            return result

        setattr(NodeSigner, moment, killing)
        Sealer(store).begin_epoch()

    killed(die)
    writer = SpoolWriter(store, "source")
    writer.open({"source": "test"}).write(b"afterwards")
    writer.close()
    sealer = Sealer(store)
    sealer.begin_epoch()
    sealer.stop()
    assert payloads(store) == [b"afterwards"]
    assert len(keys(store)) == 1
    assert keys(store) == [f"{len(chain(store)) - 1}.key"]
    assert verify(store).ok


def test_a_current_key_that_is_missing_is_not_replaced(store: Path) -> None:
    Sealer(store).stop()
    (Layout(store).epochs / "0.key").unlink()
    with pytest.raises(StoreError, match=r"0\.key; restore it"):
        Sealer(store)


def test_a_log_without_epochs_goes_on_with_them(store: Path) -> None:
    signer = load_signer(store)
    assert load_pins(store) == (signer.verifier, None)
    Sealer(store).stop()
    assert len(chain(store)) == 1


@given(st.text(max_size=400))
def test_no_text_is_taken_for_a_certificate(text: str) -> None:
    signer = Signer("one.example/epoch", bytes(32))
    with pytest.raises(DamagedError):
        parse_certificate(text, signer.verifier)
    signed = signer.sign(text.replace("\n\n", "\n").encode("utf-8", "replace").decode() + "\n").decode()
    with pytest.raises(DamagedError):
        parse_certificate(signed, signer.verifier)
