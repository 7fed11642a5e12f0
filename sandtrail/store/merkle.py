"""RFC 6962 Merkle trees over SHA-256: roots, inclusion proofs and how proofs are checked (sections 2.1 to 2.1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

__all__ = [
    "EMPTY",
    "inclusion_path",
    "inclusion_paths",
    "is_consistent",
    "leaf_hash",
    "node_hash",
    "root_from_path",
    "tree_root",
]

EMPTY = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(00 || data)."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 || left || right)."""
    return sha256(b"\1" + left + right).digest()


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All levels from the leaves up; a lone last node moves up unchanged, which gives RFC 6962's shape."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = zip(below[0::2], below[1::2], strict=False)
        level = [sha256(b"\1" + left + right).digest() for left, right in pairs]
        if len(below) % 2:
            level.append(below[-1])
        levels.append(level)
    return levels


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of a list of leaf hashes; of none, SHA-256 of nothing."""
    return _levels(leaves)[-1][0] if leaves else EMPTY


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf `index`, from the bottom up. Raises IndexError when there is no such leaf."""
    return inclusion_paths(leaves, [index])[0]


def inclusion_paths(leaves: Sequence[bytes], indexes: Iterable[int]) -> list[list[bytes]]:
    """The audit paths of several leaves of one tree. Raises IndexError when there is no such leaf."""
    levels = _levels(leaves)[:-1]
    paths = []
    for index in indexes:
        if not 0 <= index < len(leaves):
            raise IndexError(index)
        paths.append([level[at ^ 1] for depth, level in enumerate(levels) if (at := index >> depth) ^ 1 < len(level)])
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
