"""Roots and inclusion paths against RFC 6962 written down word for word, and against Certificate Transparency's own
vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.store.merkle import (
    EMPTY,
    hash_at,
    inclusion_path,
    inclusion_paths,
    is_consistent,
    leaf_hash,
    node_hash,
    root_from_path,
    tree_root,
)
from tests.store import naive

pytestmark = pytest.mark.usefixtures("each_way_of_hashing")

ENTRIES = st.lists(st.binary(max_size=4), max_size=80)

# The reference inputs and roots of Certificate Transparency's Merkle tree tests.
CT_ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(len(CT_ROOTS)))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    assert tree_root([leaf_hash(entry) for entry in CT_ENTRIES[:size]]).hex() == CT_ROOTS[size]


def test_the_empty_tree_is_the_hash_of_nothing() -> None:
    assert tree_root([]) == EMPTY == naive.root([])


@given(ENTRIES)
def test_a_root_is_the_one_that_the_rfc_defines(entries: list[bytes]) -> None:
    assert tree_root([leaf_hash(entry) for entry in entries]) == naive.root(entries)


@given(ENTRIES)
def test_hashes_in_one_piece_are_those_of_a_list(entries: list[bytes]) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    packed = b"".join(leaves)
    assert tree_root(packed) == tree_root(bytearray(packed)) == tree_root(leaves)
    assert inclusion_paths(packed, range(len(leaves))) == [inclusion_path(leaves, at) for at in range(len(leaves))]
    assert [hash_at(packed, at) for at in range(len(leaves) + 1)] == [*leaves, b""]


@pytest.mark.parametrize("size", [1, 31, 33, 95])
def test_what_is_no_whole_number_of_hashes_has_no_tree(size: int) -> None:
    for hashes in (bytes(size), bytearray(size), [bytes(size)]):
        with pytest.raises(ValueError):
            tree_root(hashes)
        with pytest.raises(ValueError):
            inclusion_path(hashes, 0)


@given(ENTRIES.filter(bool), st.data())
def test_an_inclusion_path_is_the_one_that_the_rfc_defines_and_leads_to_the_root(
    entries: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(entries) - 1))
    leaves = [leaf_hash(entry) for entry in entries]
    path = inclusion_path(leaves, index)
    assert path == naive.path(index, entries)
    assert root_from_path(leaves[index], index, len(leaves), path) == tree_root(leaves)


@given(ENTRIES.filter(bool), st.data())
def test_nothing_but_the_right_path_leads_to_the_root(entries: list[bytes], data: st.DataObject) -> None:
    size = len(entries)
    index = data.draw(st.integers(0, size - 1))
    leaves = [leaf_hash(entry + bytes([number])) for number, entry in enumerate(entries)]
    path, root = inclusion_path(leaves, index), tree_root(leaves)
    longer = [*path, EMPTY]
    assert root_from_path(leaves[index], index, size, longer) is None
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        assert root_from_path(leaves[index], index, size, path[:at] + path[at + 1 :]) != root
        assert root_from_path(leaves[index], index, size, [*path[:at], EMPTY, *path[at + 1 :]]) != root
    for other in range(size):
        if other != index:
            assert root_from_path(leaves[index], other, size, path) != root


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (0, 0), (7, 7), (8, 7)])
def test_a_leaf_outside_of_the_tree_has_no_root_and_no_path(index: int, size: int) -> None:
    assert root_from_path(EMPTY, index, size, []) is None
    with pytest.raises(IndexError):
        inclusion_path([EMPTY] * size, index)


def test_a_leaf_can_never_be_taken_for_a_node() -> None:
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    assert node_hash(left, right) != leaf_hash(left + right)


@given(ENTRIES.filter(bool), st.data())
def test_the_proof_that_the_rfc_defines_shows_that_a_tree_grew_out_of_another(
    entries: list[bytes], data: st.DataObject
) -> None:
    new = len(entries)
    old = data.draw(st.integers(1, new))
    before, after = naive.root(entries[:old]), naive.root(entries)
    assert is_consistent(old, before, new, after, naive.proof(old, entries))


@given(ENTRIES.filter(lambda entries: len(entries) > 1), st.data())
def test_nothing_but_the_right_proof_shows_it(entries: list[bytes], data: st.DataObject) -> None:
    entries = [entry + bytes([number]) for number, entry in enumerate(entries)]
    new = len(entries)
    old = data.draw(st.integers(1, new - 1))
    before, after, proof = naive.root(entries[:old]), naive.root(entries), naive.proof(old, entries)
    at = data.draw(st.integers(0, len(proof) - 1))
    assert not is_consistent(old, before, new, after, [*proof, EMPTY])
    assert not is_consistent(old, before, new, after, proof[:at] + proof[at + 1 :])
    assert not is_consistent(old, before, new, after, [*proof[:at], EMPTY, *proof[at + 1 :]])
    assert not is_consistent(old, EMPTY, new, after, proof)
    assert not is_consistent(old, before, new, before, proof)
    for other in range(1, new):
        assert (other == old) == is_consistent(other, naive.root(entries[:other]), new, after, proof)


def test_every_tree_grew_out_of_the_empty_one_and_none_shrinks() -> None:
    root = leaf_hash(b"")
    assert is_consistent(0, EMPTY, 1, root, [])
    assert is_consistent(1, root, 1, root, [])
    assert is_consistent(0, EMPTY, 0, EMPTY, [])
    assert not is_consistent(0, EMPTY, 1, root, [EMPTY])
    assert not is_consistent(0, root, 1, root, [])
    assert not is_consistent(1, root, 1, EMPTY, [])
    assert not is_consistent(2, root, 1, root, [])
    assert not is_consistent(1, root, 2, root, [])
    assert not is_consistent(-1, EMPTY, 1, root, [])
