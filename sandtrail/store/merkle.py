"""RFC 6962 Merkle trees over SHA-256: roots, inclusion proofs and how proofs are checked (sections 2.1 to 2.1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from sandtrail.store import native

__all__ = [
    "EMPTY",
    "Hashes",
    "hash_at",
    "inclusion_path",
    "inclusion_paths",
    "is_consistent",
    "leaf_hash",
    "node_hash",
    "root_from_path",
    "tree_root",
]

_SIZE = 32
type Hashes = bytes | bytearray | Sequence[bytes]
"""Hashes in one piece, one after the other, or in a list."""

EMPTY = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(00 || data)."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 || left || right)."""
    return sha256(b"\1" + left + right).digest()


def hash_at(hashes: bytes | bytearray, index: int) -> bytes:
    """The hash number `index` of hashes in one piece; empty when there are not so many."""
    return bytes(hashes[_SIZE * index : _SIZE * (index + 1)])


def _packed(hashes: Hashes) -> bytes | bytearray:
    packed = hashes if isinstance(hashes, bytes | bytearray) else b"".join(hashes)
    if len(packed) % _SIZE:
        raise ValueError(f"{len(packed)} bytes are no hashes of {_SIZE} bytes each")
    return packed


def _above(level: bytes | bytearray) -> bytes:
    """The level above one of several nodes; a lone last node moves up unchanged, which gives RFC 6962's shape."""
    if native.hashing is not None:
        return native.hashing.nodes(level)
    alone = len(level) // _SIZE % 2 * _SIZE
    pairs = range(0, len(level) - alone, 2 * _SIZE)
    nodes = [sha256(b"\1" + level[at : at + 2 * _SIZE]).digest() for at in pairs]
    return b"".join([*nodes, level[len(level) - alone :]])


def tree_root(leaves: Hashes) -> bytes:
    """The Merkle tree hash of leaf hashes; of none, SHA-256 of nothing."""
    level = _packed(leaves)
    while len(level) > _SIZE:
        level = _above(level)
    return bytes(level) or EMPTY


def inclusion_path(leaves: Hashes, index: int) -> list[bytes]:
    """The audit path of leaf `index`, from the bottom up. Raises IndexError when there is no such leaf."""
    return inclusion_paths(leaves, [index])[0]


def inclusion_paths(leaves: Hashes, indexes: Iterable[int]) -> list[list[bytes]]:
    """The audit paths of several leaves of one tree. Raises IndexError when there is no such leaf."""
    wanted, level, depth = list(indexes), _packed(leaves), 0
    for index in wanted:
        if not 0 <= index < len(level) // _SIZE:
            raise IndexError(index)
    paths: list[list[bytes]] = [[] for _ in wanted]
    while len(level) > _SIZE:
        for path, index in zip(paths, wanted, strict=True):
            # A lone last node has no sibling at this level.
            path += filter(None, [hash_at(level, index >> depth ^ 1)])
        level, depth = _above(level), depth + 1
    return paths


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that `path` leads to from `leaf` at `index` of `size`, or None when the path has the wrong length.

    RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        return None
    node, last, current = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        node >>= 1
        last >>= 1
    return current if last == 0 else None


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree of `new` leaves begins with that of `old` leaves (RFC 9162 section 2.1.4.2).

    From the empty tree, and from a tree to itself, the proof has to be empty.
    """
    if not 0 < old < new:
        return not proof and ((old == new and old_root == new_root) or (old == 0 < new and old_root == EMPTY))
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            after = node_hash(after, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and before == old_root and after == new_root
