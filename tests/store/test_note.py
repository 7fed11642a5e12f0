"""Signed notes and checkpoints: a foreign vector, every way to be malformed, every byte that can be changed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, UsageError
from sandtrail.store.note import (
    Checkpoint,
    Note,
    Signer,
    Verifier,
    open_checkpoint,
    parse_checkpoint,
    parse_note,
    parse_number,
    signature_line,
    signed_by,
)

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
# The example of the signed-note specification.
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
FOO_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
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


def test_the_specifications_example_is_good() -> None:
    assert signed_by(FOO_NOTE.encode(), Verifier.parse(FOO))
    assert not signed_by(FOO_NOTE.replace("message", "massage").encode(), Verifier.parse(FOO))
    assert not signed_by(FOO_NOTE.encode(), Verifier.parse(NEUMANN))


def test_a_key_may_be_anywhere_that_signs() -> None:
    class Elsewhere:
        public = SIGNER.verifier.public

        def sign(self, data: bytes) -> bytes:
            return parse_note(SIGNER.sign(data.decode())).signatures[0].signature

    assert Signer(NAME, Elsewhere()).sign(CHECKPOINT.body) == NOTE


def test_several_keys_sign_one_text() -> None:
    epoch = Signer(f"{NAME}/epoch", bytes(range(2, 34)))
    note = NOTE + epoch.line(CHECKPOINT.body.encode())
    for signer in (SIGNER, epoch):
        assert signed_by(note, signer.verifier)
        assert not signed_by(note, Verifier(signer.verifier.name, OTHER.verifier.public))
    assert open_checkpoint(note, SIGNER.verifier) == CHECKPOINT
    with pytest.raises(DamagedError, match="of the log"):
        open_checkpoint(note, epoch.verifier)


def test_a_bad_line_in_a_known_name_spoils_the_note() -> None:
    good = parse_note(NOTE)
    bad = good.signatures[0]._replace(signature=bytes(64))
    assert not signed_by(Note(good.text, (*good.signatures, bad)), SIGNER.verifier)
    assert not signed_by(Note(good.text, (bad, *good.signatures)), SIGNER.verifier)
    assert signed_by(Note(good.text, (*good.signatures, bad._replace(key_id=bytes(4)))), SIGNER.verifier)
    assert not signed_by(Note(good.text, ()), SIGNER.verifier)


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace(b"70000", b"7000\x00"),
        NOTE.replace(b"70000\n", b"70000\r\n"),
        NOTE.replace(b"70000", b"7\t000"),
        NOTE.replace(b"70000", b"7\xff000"),
        NOTE.replace("\N{EM DASH}".encode(), b"-"),
        NOTE.replace("\N{EM DASH} ".encode(), "\N{EM DASH}  ".encode()),
        NOTE[:-1] + b" \n",
        NOTE + b"\n",
        NOTE + b"more\n",
        NOTE + "\N{EM DASH} a+b AAAAAAA=\n".encode(),
        NOTE + "\N{EM DASH} a\N{NO-BREAK SPACE}b AAAAAAA=\n".encode(),
        NOTE + "\N{EM DASH} a AAAAAA==\n".encode(),
        NOTE + "\N{EM DASH} a AAAAAAB=\n".encode(),
        NOTE + "\N{EM DASH} a\n".encode(),
        NOTE + "\N{EM DASH} a AAAAAAA=\n".encode() * 64,
    ],
)
def test_one_unfit_byte_or_line_makes_it_no_note(note: bytes) -> None:
    with pytest.raises(DamagedError):
        parse_note(note)
    assert not signed_by(note, SIGNER.verifier)


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"])), min_size=1).map("\n".join)
NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters="+"), min_size=1)
LINES = st.lists(st.tuples(NAMES, st.binary(min_size=4, max_size=4), st.binary(min_size=1, max_size=80)), min_size=1)


@given(TEXTS, LINES)
def test_what_is_written_is_read_back(text: str, lines: list[tuple[str, bytes, bytes]]) -> None:
    raw = f"{text}\n".encode()
    note = parse_note(raw + b"\n" + b"".join(signature_line(*line) for line in lines[:64]))
    assert note.text == raw
    assert [tuple(one) for one in note.signatures] == lines[:64]


def test_extension_lines_are_allowed_and_empty_ones_are_not() -> None:
    assert parse_checkpoint(f"{CHECKPOINT.body}extension\n".encode()) == CHECKPOINT
    for body in (f"{CHECKPOINT.body}\n", f"{CHECKPOINT.body}\nx\n", f"\n{CHECKPOINT.body}", CHECKPOINT.body[:-1]):
        with pytest.raises(DamagedError):
            parse_checkpoint(body.encode())


@given(st.text(max_size=25))
def test_a_number_has_one_spelling(text: str) -> None:
    number = parse_number(text)
    assert number is None or (str(number) == text and 0 <= number < 1 << 63)


@given(st.integers(0, (1 << 63) - 1))
def test_every_size_is_read(number: int) -> None:
    assert parse_number(str(number)) == number
    assert parse_number(f"0{number}") is None
    assert parse_number(str(number + (1 << 63))) is None
