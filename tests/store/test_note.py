"""Signed notes and checkpoints: a foreign vector, every way to be malformed, every byte that can be changed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, UsageError
from sandtrail.store.note import Checkpoint, Signer, Verifier, open_checkpoint

NAME = "sandtrail.local/default/node"
SIGNER = Signer(NAME, bytes(range(32)))
OTHER = Signer(NAME, bytes(32))
WITNESS = Signer("witness.example", bytes(range(1, 33)))
CHECKPOINT = Checkpoint(NAME, 70_000, bytes(range(32)))
NOTE = SIGNER.sign(CHECKPOINT.body)
ROOT = base64.b64encode(CHECKPOINT.root).decode()

# The example of golang.org/x/mod/sumdb/note.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NEUMANN_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def test_a_note_that_another_program_signed_is_good() -> None:
    verifier = Verifier.parse(NEUMANN)
    assert verifier.vkey == NEUMANN
    assert verifier.check(NEUMANN_TEXT, base64.b64decode(NEUMANN_SIGNATURE))
    assert not verifier.check(NEUMANN_TEXT + b"\n", base64.b64decode(NEUMANN_SIGNATURE))


def test_a_checkpoint_is_read_back() -> None:
    assert NOTE.startswith(f"{NAME}\n70000\n{ROOT}\n\n\N{EM DASH} {NAME} ".encode())
    assert open_checkpoint(NOTE, SIGNER.verifier) == CHECKPOINT
    assert Verifier.parse(SIGNER.verifier.vkey) == SIGNER.verifier


def test_no_byte_of_a_checkpoint_can_be_changed() -> None:
    for at in range(len(NOTE)):
        for bit in range(8):
            changed = bytearray(NOTE)
            changed[at] ^= 1 << bit
            with pytest.raises(DamagedError):
                open_checkpoint(bytes(changed), SIGNER.verifier)


def test_no_byte_of_a_checkpoint_can_be_removed_or_added() -> None:
    for at in range(len(NOTE)):
        with pytest.raises(DamagedError):
            open_checkpoint(NOTE[:at] + NOTE[at + 1 :], SIGNER.verifier)
        with pytest.raises(DamagedError):
            open_checkpoint(NOTE[:at], SIGNER.verifier)
        for byte in (b"\n", b"A", b"0"):
            with pytest.raises(DamagedError):
                open_checkpoint(NOTE[:at] + byte + NOTE[at:], SIGNER.verifier)


def test_signatures_of_others_are_ignored_and_never_stand_in_for_ours() -> None:
    cosigned = NOTE + WITNESS.sign(CHECKPOINT.body).rpartition(b"\n\n")[2]
    assert open_checkpoint(cosigned, SIGNER.verifier) == CHECKPOINT
    assert len(cosigned.splitlines()) == len(NOTE.splitlines()) + 1
    with pytest.raises(DamagedError, match="no good signature"):
        open_checkpoint(WITNESS.sign(CHECKPOINT.body), SIGNER.verifier)
    with pytest.raises(DamagedError, match="no good signature"):
        open_checkpoint(OTHER.sign(CHECKPOINT.body), SIGNER.verifier)


def test_sixteen_foreign_lines_are_read() -> None:
    many = NOTE + WITNESS.sign(CHECKPOINT.body).rpartition(b"\n\n")[2] * 16
    assert open_checkpoint(many, SIGNER.verifier) == CHECKPOINT


@pytest.mark.parametrize(
    "body",
    [
        f"{NAME}\n70000\n",
        f"{NAME}\n",
        f"other\n70000\n{ROOT}\n",
        f"{NAME}\n070000\n{ROOT}\n",
        f"{NAME}\n-1\n{ROOT}\n",
        f"{NAME}\n+1\n{ROOT}\n",
        f"{NAME}\n\n{ROOT}\n",
        f"{NAME}\n٣\n{ROOT}\n",
        f"{NAME}\n{'9' * 5000}\n{ROOT}\n",
        f"{NAME}\n70000\n{ROOT[:-4]}\n",
        f"{NAME}\n70000\nnot base64\n",
        f"{NAME}\n70000\n{ROOT}{ROOT}\n",
    ],
    ids=[
        "no root",
        "no size",
        "another log",
        "leading zero",
        "negative",
        "plus",
        "empty size",
        "other digits",
        "huge",
        "short root",
        "root no base64",
        "long root",
    ],
)
def test_a_signature_does_not_make_a_checkpoint_of_what_is_none(body: str) -> None:
    with pytest.raises(DamagedError):
        open_checkpoint(SIGNER.sign(body), SIGNER.verifier)


@pytest.mark.parametrize(
    "note",
    [b"", b"\n\n", CHECKPOINT.body.encode(), NOTE.rstrip(b"\n"), NOTE + b"\0" * (1 << 20)],
    ids=["nothing", "empty", "unsigned", "cut", "huge"],
)
def test_what_is_no_signed_note_is_damaged(note: bytes) -> None:
    with pytest.raises(DamagedError):
        open_checkpoint(note, SIGNER.verifier)


@given(st.binary(max_size=300))
def test_garbage_is_damaged_and_nothing_else(note: bytes) -> None:
    with pytest.raises(DamagedError):
        open_checkpoint(note, SIGNER.verifier)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000",
        NEUMANN[:-1],
        NEUMANN.replace("c74f20a3", "c74f20a4"),
        NEUMANN.replace("+AR", "+BR"),
        f" +{NEUMANN.partition('+')[2]}",
        NEUMANN.replace("PeterNeumann", "Peter Neumann"),
    ],
)
def test_a_malformed_key_is_refused(vkey: str) -> None:
    with pytest.raises(UsageError):
        Verifier.parse(vkey)


@given(st.text(max_size=120))
def test_a_key_of_garbage_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Verifier.parse(text)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\nbreak"])
def test_a_log_cannot_have_a_name_that_a_note_cannot_carry(name: str) -> None:
    with pytest.raises(UsageError):
        Signer(name, bytes(32))
