"""Proofs that travel alone: written, read back, checked, and refused in every other form."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError
from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.merkle import inclusion_path, leaf_hash, tree_root
from sandtrail.store.note import Checkpoint, Signer
from sandtrail.store.policy import parse_policy
from sandtrail.store.tlog_proof import TlogProof, check_proof, encode_proof, parse_proof

LOG = Signer("log.example/1", bytes(range(32)))
WITNESS = Ed25519Cosigner("w.example", bytes(32))
LEAVES = [leaf_hash(b"%d" % n) for n in range(7)]
HEAD = Checkpoint("log.example/1", 7, tree_root(LEAVES))
NOTE = LOG.sign(HEAD.body)
NOW = 1_700_000_000
PROOF = encode_proof(3, inclusion_path(LEAVES, 3), NOTE, b"\0extra")
POLICY = parse_policy(f"log {LOG.verifier.vkey}\nwitness w {WITNESS.verifier.vkey}\nquorum w\n".encode())


def test_the_text_is_as_specified() -> None:
    path = [base64.b64encode(node).decode() for node in inclusion_path(LEAVES, 3)]
    expected = ["c2sp.org/tlog-proof@v1", "extra AGV4dHJh", "index 3", *path, "", NOTE.decode()]
    assert "\n".join(expected).encode() == PROOF
    assert encode_proof(0, [], NOTE) == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + NOTE


def test_a_proof_of_every_entry_holds_for_that_entry_alone() -> None:
    for index, leaf in enumerate(LEAVES):
        proof = parse_proof(encode_proof(index, inclusion_path(LEAVES, index), NOTE))
        assert check_proof(proof, leaf, LOG.verifier) == HEAD
        for other in range(7):
            if other != index:
                with pytest.raises(DamagedError, match="does not lead"):
                    check_proof(proof, LEAVES[other], LOG.verifier)
                with pytest.raises(DamagedError, match="does not lead"):
                    check_proof(TlogProof(other, proof.path, NOTE, None), leaf, LOG.verifier)


def test_a_path_too_long_or_too_short_does_not_lead_to_the_root() -> None:
    proof = parse_proof(PROOF)
    for path in (proof.path[:-1], (*proof.path, bytes(32)), ()):
        with pytest.raises(DamagedError, match="does not lead"):
            check_proof(TlogProof(3, path, NOTE, None), LEAVES[3], LOG.verifier)


def test_the_log_has_to_have_signed() -> None:
    proof = parse_proof(encode_proof(3, inclusion_path(LEAVES, 3), Signer("log.example/1", bytes(32)).sign(HEAD.body)))
    with pytest.raises(DamagedError, match="no good signature"):
        check_proof(proof, LEAVES[3], LOG.verifier)
    with pytest.raises(DamagedError, match="without the key"):
        check_proof(proof, LEAVES[3], None)


def test_the_policys_witnesses_have_to_have_cosigned_and_not_too_long_ago() -> None:
    bare = parse_proof(PROOF)
    with pytest.raises(DamagedError, match="quorum"):
        check_proof(bare, LEAVES[3], LOG.verifier, POLICY, now=NOW)
    note = NOTE + WITNESS.line(HEAD.body.encode(), NOW - 100)
    proof = parse_proof(encode_proof(3, inclusion_path(LEAVES, 3), note))
    assert check_proof(proof, LEAVES[3], LOG.verifier, POLICY, now=NOW, max_age=100) == HEAD
    assert check_proof(proof, LEAVES[3], None, POLICY, now=NOW) == HEAD
    with pytest.raises(DamagedError, match="too old"):
        check_proof(proof, LEAVES[3], LOG.verifier, POLICY, now=NOW, max_age=99)
    with pytest.raises(DamagedError, match="does not lead"):
        check_proof(proof, LEAVES[2], LOG.verifier, POLICY, now=NOW)


HEADER = b"c2sp.org/tlog-proof@v1\n"
HASH = base64.b64encode(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        HEADER,
        b"\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v2\nindex 0\n\n" + NOTE,
        b"c2sp.org/tlog-proof@v1 \nindex 0\n\n" + NOTE,
        HEADER + b"\n" + NOTE,
        HEADER + b"index 0\n" + NOTE.partition(b"\n\n")[0],
        HEADER + b"index 00\n\n" + NOTE,
        HEADER + b"index +1\n\n" + NOTE,
        HEADER + b"index  1\n\n" + NOTE,
        HEADER + b"index\n\n" + NOTE,
        HEADER + b"index 9223372036854775808\n\n" + NOTE,
        HEADER + b"index \xd9\xa3\n\n" + NOTE,
        HEADER + b"extra\nindex 0\n\n" + NOTE,
        HEADER + b"extra AGV4dHJ\nindex 0\n\n" + NOTE,
        HEADER + b"extra AGV4dHJh \nindex 0\n\n" + NOTE,
        HEADER + b"extra AGV4dHJh\nextra AGV4dHJh\nindex 0\n\n" + NOTE,
        HEADER + b"index 0\nextra AGV4dHJh\n\n" + NOTE,
        HEADER + b"index 0\n" + HASH[:-4] + b"\n\n" + NOTE,
        HEADER + b"index 0\n" + HASH + b"\r\n\n" + NOTE,
        HEADER + b"index 0\n" + (HASH + b"\n") * 64 + b"\n" + NOTE,
    ],
)
def test_anything_else_is_no_proof(text: bytes) -> None:
    with pytest.raises(DamagedError):
        parse_proof(text)


def test_sixty_three_hashes_are_read() -> None:
    assert len(parse_proof(HEADER + b"index 0\n" + (HASH + b"\n") * 63 + b"\n" + NOTE).path) == 63


@given(
    st.integers(0, (1 << 63) - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.none() | st.binary(max_size=200),
    st.binary(max_size=200),
)
def test_what_is_written_is_read_back(index: int, path: list[bytes], extra: bytes | None, checkpoint: bytes) -> None:
    assert parse_proof(encode_proof(index, path, checkpoint, extra)) == TlogProof(index, tuple(path), checkpoint, extra)


@given(st.binary(max_size=300))
def test_garbage_is_damaged_and_nothing_else(data: bytes) -> None:
    with pytest.raises(DamagedError):
        parse_proof(data)


@given(st.integers(0, len(PROOF) - 1), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_read_as_what_it_says(at: int, value: int) -> None:
    changed = PROOF[:at] + bytes([value]) + PROOF[at + 1 :]
    try:
        proof = parse_proof(changed)
    except DamagedError:
        return
    assert encode_proof(proof.index, proof.path, proof.checkpoint, proof.extra) == changed
    if changed != PROOF and proof.extra == b"\0extra":
        with pytest.raises(DamagedError):
            check_proof(proof, LEAVES[3], LOG.verifier)
