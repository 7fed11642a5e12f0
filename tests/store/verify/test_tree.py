"""What the signed root vouches for is found whatever single thing is damaged, and no more is lost than must be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sandtrail.store.log import Log, read_checkpoint
from sandtrail.store.merkle import leaf_hash
from sandtrail.store.note import Signer, open_checkpoint
from sandtrail.store.tiles import WIDTH, bundle_path, tile_path
from sandtrail.store.verify.report import Report
from sandtrail.store.verify.tree import SignedTree, cut_entries, reconcile
from tests.store import naive

SIGNER = Signer("test/log", bytes(32))


def make(home: Path, size: int) -> Path:
    log = Log(home, SIGNER)
    for index in range(size):
        log.append(b"entry %d" % index)
    log.publish()
    log.close()
    return home / "log"


def tree_of(log: Path) -> SignedTree:
    return SignedTree(log, open_checkpoint(read_checkpoint(log) or b"", SIGNER.verifier))


def walk(tree: SignedTree) -> tuple[dict[int, bytes], list[tuple[int, int]], Report]:
    """Every leaf that is vouched for, the entries (first, how many) that are not, and the report."""
    report = Report("home")
    found: dict[int, bytes] = {}
    lost: list[tuple[int, int]] = []
    for first, count, leaves in tree.leaves(report):
        if leaves is None:
            lost.append((first, count))
        else:
            assert len(leaves) == count
            found.update(enumerate(leaves, first))
    return found, lost, report


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three levels of tiles: 65,536 entries and 700 more."""
    return make(tmp_path_factory.mktemp("large"), WIDTH * WIDTH + 700)


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700])
def test_every_leaf_of_a_good_log_is_vouched_for(tmp_path: Path, size: int) -> None:
    tree = tree_of(make(tmp_path, size))
    found, lost, report = walk(tree)
    assert found == {index: leaf_hash(b"entry %d" % index) for index in range(size)}
    assert (tree.intact, lost, report.findings) == (True, [], [])
    for part in {0, 1, size // 2, size}:
        if part <= size:
            assert tree.root_at(part) == naive.root([b"entry %d" % index for index in range(part)])


def test_any_one_tile_or_bundle_may_be_gone_or_damaged(large: Path) -> None:
    rng = random.Random(4)
    expected = {index: leaf_hash(b"entry %d" % index) for index in range(WIDTH * WIDTH + 700)}
    paths = [
        tile_path(large, 0, 0),
        tile_path(large, 0, 200),
        tile_path(large, 0, 258, 188),
        tile_path(large, 1, 0),
        tile_path(large, 1, 1, 2),
        tile_path(large, 2, 0, 1),
        bundle_path(large, 100),
        bundle_path(large, 258, 188),
    ]
    for path in paths:
        data = path.read_bytes()
        at = rng.randrange(len(data))
        for damaged in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:-1], b"", None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            found, lost, report = walk(tree_of(large))
            path.write_bytes(data)
            assert (found == expected, lost) == (True, []), path
            if "entries" not in str(path):
                (finding,) = report.findings
                assert finding.type == ("tile-missing" if damaged is None else "tile-damaged")
                assert finding.place.startswith(str(path))
                assert not finding.affected.as_dict()


def test_a_tile_and_its_bundle_that_are_damaged_in_different_places_vouch_for_each_other(large: Path) -> None:
    for number, width in ((7, WIDTH), (258, 188)):
        tile, bundle = tile_path(large, 0, number, width), bundle_path(large, number, width)
        kept = tile.read_bytes(), bundle.read_bytes()
        tile.write_bytes(bytes(32) + kept[0][32:])
        bundle.write_bytes(kept[1][:-1] + b"?")
        found, lost, report = walk(tree_of(large))
        tile.write_bytes(kept[0])
        bundle.write_bytes(kept[1])
        assert (len(found), lost) == (WIDTH * WIDTH + 700, [])
        assert [finding.type for finding in report.findings] == ["tile-damaged"]


def test_what_nothing_vouches_for_is_lost_and_nothing_else(large: Path) -> None:
    tile, bundle = tile_path(large, 0, 7), bundle_path(large, 7)
    kept = tile.read_bytes(), bundle.read_bytes()
    tile.unlink()
    bundle.write_bytes(b"")
    found, lost, report = walk(tree_of(large))
    tile.write_bytes(kept[0])
    bundle.write_bytes(kept[1])
    assert lost == [(7 * WIDTH, WIDTH)]
    assert len(found) == WIDTH * WIDTH + 700 - WIDTH
    (finding,) = report.findings
    assert (finding.type, finding.place) == ("tile-mismatch", str(tile))
    assert finding.affected.entries == (7 * WIDTH, 8 * WIDTH - 1)


def test_where_nothing_leads_to_the_root_all_is_lost_and_the_gap_is_named(tmp_path: Path) -> None:
    log = make(tmp_path, 600)
    for path in (tile_path(log, 0, 2, 88), bundle_path(log, 2, 88)):
        path.unlink()
    found, lost, report = walk(tree_of(log))
    assert (found, lost) == ({}, [(0, 600)])
    assert [(f.type, f.place) for f in report.findings] == [
        ("root-mismatch", str(log)),
        ("bundle-missing", str(bundle_path(log, 2, 88))),
        ("tile-missing", str(tile_path(log, 0, 2, 88))),
    ]


def test_a_signed_size_that_nothing_is_there_for_is_looked_at_in_no_time(tmp_path: Path) -> None:
    log = make(tmp_path, 3)
    note = SIGNER.sign(f"test/log\n{(1 << 62) + 5}\n{'A' * 43}=\n")
    tree = SignedTree(log, open_checkpoint(note, SIGNER.verifier))
    found, lost, _ = walk(tree)
    assert (found, lost) == ({}, [(0, (1 << 62) + 5)])


def test_a_bundle_is_cut_as_far_as_its_lengths_lead() -> None:
    assert cut_entries(b"") == ([], True)
    assert cut_entries(b"\0\1a\0\0\0\2bc") == ([b"a", b"", b"bc"], True)
    assert cut_entries(b"\0\1a\0\2b") == ([b"a"], False)
    assert cut_entries(b"\0\1a\0") == ([b"a"], False)


def test_of_two_lists_the_one_that_fits_or_a_mix_is_taken() -> None:
    right = [b"a", b"b", b"c"]

    def fits(found: list[bytes]) -> bool:
        return found == right

    def never() -> list[bytes] | None:
        raise AssertionError

    assert reconcile(right, never, fits) == right
    assert reconcile([b"x"], lambda: right, fits) == right
    assert reconcile(None, lambda: right, fits) == right
    assert reconcile([b"a", b"x", b"c"], lambda: [b"x", b"b", b"c"], fits) == right
    assert reconcile([b"a", b"x", b"c"], lambda: [b"a", b"x", b"c"], fits) is None
    assert reconcile([b"x"] * 3, lambda: [b"y"] * 3, fits) is None
    assert reconcile([b"x"], lambda: None, fits) is None
    assert reconcile([b"x"] * 9, lambda: [b"y"] * 9, fits) is None
