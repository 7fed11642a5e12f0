"""Somebody hands out a proof for another entry, another place or another frame than it says."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import cbor2

from sandtrail.errors import DamagedError
from sandtrail.store.frame_proof import check_proof_file, make_proof
from sandtrail.store.frames import Ref
from sandtrail.store.leaves import frame_leaf
from sandtrail.store.merkle import inclusion_path, leaf_hash, tree_root
from sandtrail.store.policy import parse_policy
from sandtrail.store.tlog_proof import TlogProof, encode_proof, parse_proof
from tests.store.mutants.attacks_blobs import manifest, readable
from tests.store.mutants.base import NOW, Base
from tests.store.mutants.edit import dump, sign

__all__ = ["ProofMutant", "draw_proofs", "judge_proof", "real_proofs"]

_INNER = "the root in its segment's manifest"
_OUTER = "does not lead from entry"
_SIGNED = "carries no good signature|is of the log|the policy"
_EPOCH = "certificate|has not signed the checkpoint"
_ANY = ""


@dataclass(frozen=True)
class ProofMutant:
    """A proof that proves nothing. `says`: what the refusal must speak of (a|b). `foreign`: whether torchwood, which
    knows nothing of frames, must refuse it too. `witnesses`: whether its reader asks for cosignatures."""

    name: str
    data: bytes
    says: str
    foreign: bool
    attack: str = "proof"
    witnesses: bool = True


def judge_proof(base: Base, data: bytes, *, witnesses: bool = True) -> str:
    """Why the proof does not hold for a reader who has pinned the keys and may ask for witnesses; "" where it does."""
    policy = parse_policy(base.policy.encode()) if witnesses else None
    try:
        check_proof_file(data, *base.pins, policy, now=NOW, max_age=3600.0)
    except DamagedError as error:
        return str(error)
    return ""


def real_proofs(base: Base) -> list[bytes]:
    """The proofs of all frames that can be read."""
    return [
        make_proof(base.home, Ref(number, place))
        for number in readable(base)
        for place in range(manifest(base, number)[1]["frames"])
    ]


def entry_of(proof: bytes) -> bytes:
    """The log entry that a proof speaks of, b"" where it does not say so."""
    try:
        entry: object = cbor2.loads(parse_proof(proof).extra or b"")["entry"]
    except (DamagedError, cbor2.CBORDecodeError, LookupError, TypeError):
        return b""
    return entry if isinstance(entry, bytes) else b""


def draw_proofs(base: Base, other: Base, amount: int, seed: int) -> list[ProofMutant]:
    """As many different mutants, each case with its share."""
    rng = Random(f"{seed}/proofs")
    proofs, others = real_proofs(base), real_proofs(other)
    cases = [
        _indices(base, proofs, rng),
        _paths(proofs, rng),
        _fields(proofs, rng),
        _frames(proofs, rng),
        _entries(proofs, rng),
        _heads(base, proofs, others, rng),
        _certificates(proofs, rng),
        _flips(proofs, rng),
        _late(base, proofs, rng),
    ]
    drawn: dict[str, ProofMutant] = {}
    for case in count():
        mutant = next(cases[case % len(cases)])
        drawn[mutant.name] = mutant
        if len(drawn) == amount:
            break
    return list(drawn.values())


def _parse(proof: bytes) -> tuple[TlogProof, dict[str, Any]]:
    parsed = parse_proof(proof)
    return parsed, cbor2.loads(parsed.extra or b"")


def _encode(parsed: TlogProof, frame: dict[str, Any] | None = None, **new: Any) -> bytes:
    extra = parsed.extra if frame is None else cbor2.dumps(frame, canonical=True)
    facts = {"index": parsed.index, "path": parsed.path, "checkpoint": parsed.checkpoint, "extra": extra, **new}
    return encode_proof(**facts)


def _flip(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _indices(base: Base, proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    while True:
        at = rng.randrange(len(proofs))
        parsed, _ = _parse(proofs[at])
        index = rng.choice([one for one in (*range(len(base.entries)), 10**9) if one != parsed.index])
        yield ProofMutant(f"{at}: index {index}", _encode(parsed, index=index), _OUTER, True)


def _paths(proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    while True:
        at, which, how = (
            rng.randrange(len(proofs)),
            rng.choice(["outer", "inner"]),
            rng.choice(["flip", "less", "more", "turn"]),
        )
        parsed, frame = _parse(proofs[at])
        path = list(parsed.path if which == "outer" else frame["inner"])
        place = rng.randrange(len(path)) if path else 0
        if how == "more" or not path:
            path.insert(place, rng.randbytes(32))
        elif how == "less":
            path.pop(place)
        elif how == "flip" or len(path) == 1:
            path[place] = _flip(path[place], rng)
        else:
            path.append(path.pop(0))
        new = _encode(parsed, path=path) if which == "outer" else _encode(parsed, {**frame, "inner": path})
        name = f"{at}: {which} path, {how} {rng.randrange(10**6)}"
        yield ProofMutant(name, new, _OUTER if which == "outer" else _INNER, which == "outer")


def _fields(proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    while True:
        at = rng.randrange(len(proofs))
        parsed, frame = _parse(proofs[at])
        name = rng.choice(sorted(frame))
        how = rng.choice(["other", "other", "gone"])
        value = frame[name]
        if how == "gone":
            changed = {field: one for field, one in frame.items() if field != name}
        elif isinstance(value, bytes):
            changed = {**frame, name: _flip(value, rng) if value else b"x"}
        elif isinstance(value, int):
            changed = {**frame, name: value + rng.choice([1, 2, 250])}
        elif name == "when":
            changed = {**frame, name: [value[0] + rng.choice([-1, 1, 10**9]), *value[1:]]}
        else:
            changed = {**frame, name: value[:-1] if value else ["x"]}
        foreign = name == "entry" and how == "other"
        yield ProofMutant(f"{at}: {name} {how} {rng.randrange(10**6)}", _encode(parsed, changed), _ANY, foreign)


def _frames(proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    """What one frame says, in the place of another one of the same log."""
    told = ("stream", "seq", "kind", "when", "payload", "salt")
    while True:
        one, other = rng.sample(range(len(proofs)), 2)
        parsed, frame = _parse(proofs[one])
        _, foreign = _parse(proofs[other])
        fields = told if rng.random() < 0.5 else (rng.choice(["payload", "salt", "place", "inner"]),)
        if any(frame[name] != foreign[name] for name in fields):
            changed = {**frame, **{name: foreign[name] for name in fields}}
            name = f"{one}: {' '.join(fields)} of {other}"
            yield ProofMutant(name, _encode(parsed, changed), f"{_INNER}|counts no such frame", False)


def _entries(proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    """The manifest of another segment, or the whole frame under the place of another entry."""
    while True:
        one, other = rng.sample(range(len(proofs)), 2)
        parsed, frame = _parse(proofs[one])
        away, foreign = _parse(proofs[other])
        if parsed.index == away.index:
            continue
        if rng.random() < 0.5:
            says = f"{_INNER}|counts no such frame"
            yield ProofMutant(
                f"{one}: entry of {other}", _encode(parsed, {**frame, "entry": foreign["entry"]}), says, True
            )
        else:
            data = _encode(parsed, index=away.index, path=away.path)
            yield ProofMutant(f"{one}: under the entry of {other}", data, _OUTER, True)


def _heads(base: Base, proofs: list[bytes], others: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    """Another checkpoint: an older one, another log's, or one that lacks a signature."""
    newest = max(base.heads)
    while True:
        at = rng.randrange(len(proofs))
        parsed, _ = _parse(proofs[at])
        text, _, lines = parsed.checkpoint.partition(b"\n\n")
        signatures = lines.splitlines(keepends=True)
        how = rng.choice(["older", "other log", "stripped", "stripped", "size", "root"])
        foreign, says = True, f"{_SIGNED}|{_OUTER}"
        if how == "older":
            size = rng.choice([one for one in base.heads if one != newest])
            note, name = base.heads[size], f"{how} {size}"
        elif how == "other log":
            number = rng.randrange(len(others))
            note, name = _parse(others[number])[0].checkpoint, f"{how} {number}"
        elif how == "stripped":
            gone = rng.randrange(len(signatures))
            note = text + b"\n\n" + b"".join(signatures[:gone] + signatures[gone + 1 :])
            foreign, says, name = gone != 1, f"{_SIGNED}|{_EPOCH}", f"{how} {gone}"
        else:
            origin, size_text, root = text.split(b"\n")
            changed = rng.randrange(1, 10**6)
            size_text = b"%d" % (int(size_text) + changed) if how == "size" else size_text
            root = base64.b64encode(changed.to_bytes(32, "big")) if how == "root" else root
            note = b"\n".join([origin, size_text, root]) + b"\n\n" + lines
            name = f"{how} {changed}"
        yield ProofMutant(f"{at}: head {name}", _encode(parsed, checkpoint=note), says, foreign)


def _certificates(proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    while True:
        at = rng.randrange(len(proofs))
        parsed, frame = _parse(proofs[at])
        epochs = list(frame["epochs"])
        how = rng.choice(["without", "turned", "twice", "bent", "none"])
        place = rng.randrange(len(epochs))
        if how == "without":
            epochs.pop(place)
        elif how == "turned":
            epochs.append(epochs.pop(0))
        elif how == "twice":
            epochs.insert(place, epochs[place])
        elif how == "bent":
            cut = rng.randrange(len(epochs[place]) - 2)
            epochs[place] = epochs[place][:cut] + chr(ord(epochs[place][cut]) ^ 1) + epochs[place][cut + 1 :]
        else:
            epochs = []
        name = f"{at}: certificates {how} {place} {rng.randrange(10**6)}"
        yield ProofMutant(name, _encode(parsed, {**frame, "epochs": epochs}), _EPOCH, False)


def _flips(proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    """One bit, anywhere."""
    while True:
        at = rng.randrange(len(proofs))
        place, bit = rng.randrange(len(proofs[at])), rng.randrange(8)
        data = bytearray(proofs[at])
        data[place] ^= 1 << bit
        yield ProofMutant(f"{at}: bit {place}.{bit}", bytes(data), _ANY, False)


def _late(base: Base, proofs: list[bytes], rng: Random) -> Iterator[ProofMutant]:
    """A frame that was never there, in a tree of the thief's own under the signatures of today: of an earlier epoch.

    The certificates are the real ones. (Of the current epoch, only witnesses can tell.)
    """
    newest = max(base.epochs)
    old = [proof for proof in proofs if _parse(proof)[0].index < base.epochs_at[-1]]
    while True:
        at = rng.randrange(len(old))
        parsed, frame = _parse(old[at])
        payload = b"never said %d" % rng.randrange(10**9)
        facts = (frame["stream"], frame["seq"], frame["kind"], tuple(frame["when"]), payload, frame["salt"])
        leaf = frame_leaf(*facts)
        fields = {**base.maps[parsed.index], "frames": 1, "root": leaf}
        entries = [*base.entries[: parsed.index], dump(fields), *base.entries[parsed.index + 1 :]]
        leaves = list(map(leaf_hash, entries))
        head = sign(base.pins[0].name, len(leaves), tree_root(leaves), base.identity, base.epochs[newest])
        told = {**frame, "payload": payload, "place": 0, "inner": [], "entry": entries[parsed.index]}
        path = inclusion_path(leaves, parsed.index)
        data = _encode(parsed, told, path=path, checkpoint=head)
        name = f"{at}: {payload.decode()}"
        yield ProofMutant(name, data, _EPOCH + "|epoch", False, "late proof", witnesses=False)
