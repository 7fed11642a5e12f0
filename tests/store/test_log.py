"""The log's writer: right at every size where a tile begins or ends, and after a crash at every step."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandtrail.errors import DamagedError, StoreError, UsageError
from sandtrail.store import layout
from sandtrail.store import log as module
from sandtrail.store.layout import Layout
from sandtrail.store.log import Log, read_checkpoint
from sandtrail.store.merkle import leaf_hash, root_from_path
from sandtrail.store.note import Signer, open_checkpoint
from sandtrail.store.tiles import MAX_ENTRY, TileReader, bundle_path, partial_widths, tile_path
from tests.store import naive

SIGNER = Signer("test.example/log", bytes(range(32)))
SIZES = [0, 1, 2, 255, 256, 257, 511, 512, 513, 4095, 65_535, 65_536, 65_537]


def entry(index: int) -> bytes:
    return b"entry %d" % index


def entries(size: int) -> list[bytes]:
    return [entry(index) for index in range(size)]


def grow(log: Log, size: int) -> None:
    while log.size < size:
        log.append(entry(log.size))


def files_of(home: Path) -> set[Path]:
    return {path for path in Layout(home).log.rglob("*") if path.is_file()}


def expected_files(home: Path, size: int) -> set[Path]:
    """Every file that a log of this size has, by the specification and nothing more."""
    log = Layout(home).log
    found = {log / "checkpoint", log / "lock"}
    level, tiles = 0, size
    while tiles:
        found |= {tile_path(log, level, number) for number in range(tiles // 256)}
        tiles //= 256
        level += 1
    found |= {tile_path(log, *tile) for tile in partial_widths(size)}
    found |= {bundle_path(log, number) for number in range(size // 256)}
    if size % 256:
        found.add(bundle_path(log, size // 256, size % 256))
    return found


def check(home: Path, size: int) -> None:
    """The log on disk is exactly the log of the first `size` entries."""
    note = read_checkpoint(Layout(home).log)
    assert note is not None
    checkpoint = open_checkpoint(note, SIGNER.verifier)
    assert (checkpoint.size, checkpoint.root) == (size, naive.root(entries(size)))
    assert files_of(home) == expected_files(home, size)
    reader = TileReader(Layout(home).log, size)
    assert reader.root() == checkpoint.root
    for index in {0, 1, 255, 256, 511, 512, size // 2, size - 2, size - 1} & set(range(size)):
        assert reader.entry(index) == entry(index)
        path = reader.inclusion(index)
        assert root_from_path(leaf_hash(entry(index)), index, size, path) == checkpoint.root


def test_a_log_that_grows_in_one_life_is_right_at_every_boundary(store: Path) -> None:
    log = Log(store, SIGNER)
    for size in SIZES:
        grow(log, size)
        assert log.publish().size == size
        check(store, size)
    log.close()


def test_a_log_that_is_opened_again_at_every_boundary_is_the_same(store: Path) -> None:
    for size in SIZES:
        log = Log(store, SIGNER)
        grow(log, size)
        log.publish()
        log.close()
        check(store, size)


def test_an_inclusion_path_is_the_one_that_the_rfc_defines(store: Path) -> None:
    log = Log(store, SIGNER)
    grow(log, 600)
    log.publish()
    reader = TileReader(Layout(store).log, 600)
    for index in (0, 255, 256, 300, 511, 512, 599):
        assert reader.inclusion(index) == naive.path(index, entries(600))
    older = TileReader(Layout(store).log, 512)
    assert older.root() == naive.root(entries(512))


def test_a_log_is_shown_as_it_was(store: Path) -> None:
    log = Log(store, SIGNER)
    grow(log, 600)
    log.publish()
    log.close()
    for old in (1, 2, 255, 256, 257, 511, 512, 599, 600):
        past = TileReader(Layout(store).log, 600).past(old)
        assert (past.size, past.root(), past.entry(old - 1)) == (old, naive.root(entries(old)), entry(old - 1))
        assert past.inclusion(old // 2) == naive.path(old // 2, entries(old))
        assert len(past.entries((old - 1) // 256)) == (old - 1) % 256 + 1
        assert past.past(1).root() == leaf_hash(entry(0))


@pytest.mark.parametrize("old", [0, 1, 2, 255, 256, 257, 400, 511, 512, 599, 600])
def test_a_consistency_proof_is_the_one_that_the_rfc_defines(store: Path, old: int) -> None:
    log = Log(store, SIGNER)
    grow(log, 600)
    log.publish()
    log.close()
    expected = naive.proof(old, entries(600)) if old else []
    assert TileReader(Layout(store).log, 600).consistency(old) == expected


def test_nothing_is_signed_before_publish(store: Path) -> None:
    log = Log(store, SIGNER)
    grow(log, 3)
    check(store, 0)
    log.publish()
    grow(log, 300)
    check(store, 3)


def test_an_entry_that_no_bundle_can_hold_is_refused(store: Path) -> None:
    log = Log(store, SIGNER)
    log.append(bytes(MAX_ENTRY))
    with pytest.raises(UsageError):
        log.append(bytes(MAX_ENTRY + 1))
    assert log.publish().size == 1


def test_a_second_writer_is_refused(store: Path) -> None:
    first = Log(store, SIGNER)
    with pytest.raises(StoreError, match="another process"):
        Log(store, SIGNER)
    first.close()
    Log(store, SIGNER).close()


def test_a_log_whose_checkpoint_is_gone_is_not_begun_anew(store: Path) -> None:
    log = Log(store, SIGNER)
    grow(log, 3)
    log.publish()
    log.close()
    before = files_of(store) - {Layout(store).checkpoint}
    Layout(store).checkpoint.unlink()
    with pytest.raises(DamagedError, match="restore it"):
        Log(store, SIGNER)
    assert files_of(store) == before


@pytest.mark.parametrize("at", range(32))
def test_a_damaged_right_edge_is_not_appended_to(store: Path, at: int) -> None:
    log = Log(store, SIGNER)
    grow(log, 1)
    log.publish()
    log.close()
    tile = tile_path(Layout(store).log, 0, 0, 1)
    data = bytearray(tile.read_bytes())
    data[at] ^= 1
    tile.write_bytes(data)
    with pytest.raises(DamagedError, match="verify"):
        Log(store, SIGNER)


def test_the_log_of_another_key_is_not_appended_to(store: Path) -> None:
    Log(store, SIGNER).close()
    with pytest.raises(DamagedError):
        Log(store, Signer(SIGNER.verifier.name, bytes(32)))


class Crash(Exception):
    """The process dies here."""


def dies_at(step: int, *, stored: bool) -> Callable[[Path, bytes], None]:
    """`publish` as it is, but in its call number `step` the process dies, before or after the file is stored."""
    real, calls = layout.publish, iter(range(1000))

    def publish(path: Path, data: bytes, *, mode: int = 0o600) -> None:
        if next(calls) == step:
            if stored:
                real(path, data, mode=mode)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                (path.parent / f".{path.name}.{os.getpid()}.tmp").write_bytes(data[: len(data) // 2])
            raise Crash
        real(path, data, mode=mode)

    return publish


# From 250 entries to 260, 520 and 250: across a boundary, across two, and none; each publish writes at most ten files.
@pytest.mark.parametrize("stored", [False, True], ids=["not-stored", "stored"])
@pytest.mark.parametrize(("before", "after"), [(250, 253), (250, 260), (250, 520), (0, 3)])
def test_after_a_crash_at_any_step_of_a_publish_the_log_is_the_old_one_or_the_new_one(
    store: Path, monkeypatch: pytest.MonkeyPatch, before: int, after: int, stored: bool
) -> None:
    for step in range(12):
        home = store / str(step)
        log = Log(home, SIGNER)
        grow(log, before)
        log.publish()
        grow(log, after)
        with monkeypatch.context() as patched:
            patched.setattr(module, "publish", dies_at(step, stored=stored))
            try:
                log.publish()
            except Crash:
                survived = False
            else:
                survived = True
        log.close()
        log = Log(home, SIGNER)
        size = log.size
        assert size in (before, after)
        check(home, size)
        grow(log, after + 7)
        log.publish()
        log.close()
        check(home, after + 7)
        if survived:
            assert step > 2
            return
    pytest.fail("a publish takes more steps than this test has tried")


def test_partial_tiles_that_a_crash_has_kept_are_removed_later(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(store, SIGNER)
    grow(log, 250)
    log.publish()
    grow(log, 300)
    monkeypatch.setattr(Log, "_drop_partials", lambda _self, _size: None)
    log.publish()
    log.close()
    assert files_of(store) > expected_files(store, 300)
    monkeypatch.undo()
    Log(store, SIGNER).close()
    check(store, 300)
