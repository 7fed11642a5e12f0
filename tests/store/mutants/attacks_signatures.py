"""Somebody strips, forges or moves signatures: the identity's, the epoch's, the witnesses'."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from random import Random

from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.epochs import epoch_name
from sandtrail.store.note import Signer, parse_note
from tests.store.mutants.base import NOW, WITNESSED, Base
from tests.store.mutants.edit import Copy
from tests.store.mutants.mutant import LOG, NONE, Expect, Mutant

CHECKPOINT = "log/checkpoint"
COSIGNED = "witnessed/checkpoint"
POLICY = frozenset({"policy"})


def _parts(note: bytes) -> tuple[bytes, list[bytes]]:
    """(text, signature lines) of a note."""
    text, _, lines = note.partition(b"\n\n")
    return text + b"\n", lines.splitlines(keepends=True)


def _joined(text: bytes, lines: list[bytes]) -> bytes:
    return text + b"\n" + b"".join(lines)


def signatures(base: Base, rng: Random) -> Iterator[Mutant]:
    """The checkpoint's two lines, in every way that is not theirs."""
    text, (identity, epoch) = _parts((base.home / CHECKPOINT).read_bytes())
    older = base.heads[sorted(base.heads)[-2]]
    old_identity, old_epoch = _parts(older)[1]
    origin = base.pins[0].name
    thief = Signer(origin, rng.randbytes(32)).sign(text.decode()).splitlines(keepends=True)[-1]
    epoch_thief = Signer(epoch_name(origin), rng.randbytes(32)).sign(text.decode()).splitlines(keepends=True)[-1]
    by_identity = Signer(epoch_name(origin), base.identity).sign(text.decode()).splitlines(keepends=True)[-1]
    past = [Signer(epoch_name(origin), key).sign(text.decode()) for _, key in sorted(base.epochs.items())[:-1]]
    unsigned, no_epoch = "checkpoint-unsigned", "epoch-unsigned"
    cases: list[tuple[str, list[bytes], str]] = [
        ("none", [], unsigned),
        ("identity stripped", [epoch], unsigned),
        ("identity of another key", [thief, epoch], unsigned),
        ("identity of an older checkpoint", [old_identity, epoch], unsigned),
        ("identity renamed", [identity.replace(b"node-1", b"node-2"), epoch], unsigned),
        ("identity malformed", [identity.replace(b" ", b"  ", 1), epoch], unsigned),
        ("identity twice, one wrong", [identity, _bent(identity), epoch], unsigned),
        ("epoch stripped", [identity], no_epoch),
        ("epoch of another key", [identity, epoch_thief], no_epoch),
        ("epoch of an older checkpoint", [identity, old_epoch], no_epoch),
        ("epoch by the identity's key", [identity, by_identity], no_epoch),
        ("epoch bent", [identity, _bent(epoch)], no_epoch),
        ("epoch malformed", [identity, epoch.replace("—".encode(), b"-")], f"{unsigned}|{no_epoch}"),
    ]
    cases += [
        (f"epoch {number} signs", [identity, note.splitlines(keepends=True)[-1]], no_epoch)
        for number, note in enumerate(past)
    ]
    for name, lines, kind in cases:
        foreign = LOG if kind == unsigned else NONE
        if "twice" in name:  # Go's notes take the first line of a key and pass over the others
            foreign = frozenset({"aics"})
        change = partial(_write, CHECKPOINT, _joined(text, lines))
        finding = (Expect(kind, f"~/{CHECKPOINT}"),)
        yield Mutant("signatures", name, "signatures", change, finding, NONE, foreign)


def _bent(line: bytes) -> bytes:
    """The line with one bit of its signature changed."""
    head, _, encoded = line.rstrip(b"\n").rpartition(b" ")
    blob = bytearray(base64.b64decode(encoded))
    blob[-1] ^= 1
    return head + b" " + base64.b64encode(blob) + b"\n"


def resigned(base: Base, rng: Random) -> Iterator[Mutant]:
    """All of the log as it is, signed by another key, which takes the place of the pinned ones beside the log too."""
    text, _ = _parts((base.home / CHECKPOINT).read_bytes())
    origin = base.pins[0].name
    for number in range(30):
        identity = Signer(origin, rng.randbytes(32))
        epoch = Signer(epoch_name(origin), rng.randbytes(32))
        lines = [signer.sign(text.decode()).splitlines(keepends=True)[-1] for signer in (identity, epoch)]
        pins = f"{identity.verifier.vkey}\n{epoch.verifier.vkey}\n".encode()
        beside = number % 2 == 0
        change = partial(_resign, _joined(text, lines), pins if beside else b"")
        findings = [Expect("checkpoint-unsigned", f"~/{CHECKPOINT}")]
        findings += [Expect("key-replaced", "~/keys/log.vkey")] if beside else []
        yield Mutant("re-signed", f"{number}", "other keys", change, tuple(findings), NONE, LOG)


def _resign(note: bytes, pins: bytes, copy: Copy) -> None:
    copy.write(CHECKPOINT, note)
    if pins:
        copy.write("keys/log.vkey", pins)


def cosignatures(base: Base, rng: Random) -> Iterator[Mutant]:
    """All three witnesses are asked for: what is stripped, stale, early, forged or another log's does not count."""
    text, lines = _parts((base.home / COSIGNED).read_bytes())
    own, witnesses = lines[:2], lines[2:]
    size = len(base.entries)
    older = [note for head, note in base.heads.items() if head < size]
    for kept in range(3):
        for few in combinations(witnesses, kept):
            names = " ".join(line.split(b" ")[1].decode() for line in few)
            yield _unwitnessed(f"only {names or 'none'}", _joined(text, own + list(few)))
    makers: dict[str, Callable[[bytes, int, Ed25519Cosigner], bytes]] = {
        "too old": lambda body, at, by: by.line(body, NOW - 100_000 - at),
        "from the future": lambda body, at, by: by.line(body, NOW + 100_000 + at),
        "time changed": lambda body, at, by: _later(by.line(body, WITNESSED), at + 1),
        "bent": lambda body, at, by: _bent(by.line(body, WITNESSED)),
        "another key": lambda body, at, by: Ed25519Cosigner(by.verifier.name, bytes([90 + at]) * 32).line(
            body, WITNESSED
        ),
        "another head": lambda _body, at, by: by.line(parse_note(older[at % len(older)]).text, WITNESSED),
        "another name": lambda body, at, _by: Ed25519Cosigner(f"witness.example/{at}", bytes([at]) * 32).line(
            body, NOW
        ),
    }
    for name, make in makers.items():
        for wrong in ((0,), (1,), (2,), (0, 1), (0, 1, 2)):
            made = [
                make(text, at, cosigner) if at in wrong else cosigner.line(text, WITNESSED)
                for at, cosigner in enumerate(base.witnesses.values())
            ]
            timeless = name not in ("too old", "from the future")
            attack = "replay" if name == "too old" else "witness key" if len(wrong) == 1 else "withhold"
            yield _unwitnessed(f"{name} {wrong}", _joined(text, own + made), foreign=timeless, attack=attack)
    for note in older:
        made = [cosigner.line(parse_note(note).text, NOW - 100_000) for cosigner in base.witnesses.values()]
        head = parse_note(note).text.split(b"\n")[1].decode()
        # Genuine, and long ago: nobody has seen since what the log has become.
        yield _unwitnessed(f"long ago, the head at {head}", note + b"".join(made), foreign=False, attack="replay")


def _unwitnessed(name: str, note: bytes, *, foreign: bool = True, attack: str = "withhold") -> Mutant:
    scope = POLICY if foreign else NONE
    finding = (Expect("not-witnessed|witness-conflict", f"~/{COSIGNED}"),)
    return Mutant("cosignatures", name, attack, partial(_write, COSIGNED, note), finding, POLICY, scope)


def _later(line: bytes, by: int) -> bytes:
    head, _, encoded = line.rstrip(b"\n").rpartition(b" ")
    blob = base64.b64decode(encoded)
    at = int.from_bytes(blob[4:12], "big") + by
    return head + b" " + base64.b64encode(blob[:4] + at.to_bytes(8, "big") + blob[12:]) + b"\n"


def _write(name: str, data: bytes, copy: Copy) -> None:
    copy.write(name, data)
