"""Somebody exchanges what is stored: blobs, data keys, kept bytes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from itertools import combinations
from random import Random
from typing import Any

import cbor2
import zstandard

from sandtrail.store.cipher import SEGMENT, seal, unseal
from sandtrail.store.datakeys import DataKey
from sandtrail.store.spool import encode_record, parse_records
from tests.store.mutants.attacks_entries import closed
from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy, dump, load
from tests.store.mutants.mutant import HEADS, NONE, Expect, Mutant

HEAD = frozenset({"head"})


def stored(base: Base) -> list[int]:
    """The segments whose blobs are there."""
    return sorted(int(path.stem) for path in base.home.glob("segments/*/*.seg"))


def readable(base: Base) -> list[int]:
    """Those of them whose data keys are there."""
    alive = {path.stem for path in base.home.glob("keys/data/*.key")}
    return [number for number in stored(base) if manifest(base, number)[1]["key"].hex() in alive]


def manifest(base: Base, number: int) -> tuple[int, dict[str, Any]]:
    """(index, entry) of a segment."""
    return next((at, fields) for at, fields in enumerate(base.maps) if fields.get("segment") == number)


def name_of(number: int) -> str:
    return f"segments/000000/{number:09d}.seg"


def data_key(copy: Copy, ident: bytes) -> DataKey:
    value = cbor2.loads(copy.read(f"keys/data/{ident.hex()}.key"))
    return DataKey(value["key"], value["sandbox"], value["session"], value["created"])


def swapped(base: Base, rng: Random) -> Iterator[Mutant]:
    """Two blobs trade places."""
    pairs = list(combinations(stored(base), 2))
    rng.shuffle(pairs)
    for one, other in pairs:
        findings = tuple(Expect("blob-damaged", f"segment {number}") for number in (one, other))
        yield Mutant("swapped blobs", f"{one} {other}", "blobs", partial(_swap, one, other), findings, alone=True)


def _swap(one: int, other: int, copy: Copy) -> None:
    copy.swap(name_of(one), name_of(other))


def retold(base: Base, rng: Random) -> Iterator[Mutant]:
    """Other frames under the real data key: alone, with a manifest that names the new blob, and with its new root.

    (Whoever can read the disk has the data keys that are there; the thief has the signing keys of today as well.)
    """
    while True:
        for number in readable(base):
            how = rng.choice(["blob", "digest", "digest"])
            salt = rng.randrange(1, 256)
            index, _ = manifest(base, number)
            if how == "blob":
                findings: tuple[Expect, ...] = (Expect("blob-damaged", f"segment {number}"),)
            else:
                findings = (closed(base, index), Expect("frames-differ", f"segment {number}"))
            foreign = HEADS if how == "digest" else NONE
            change = partial(_retell, number, how, salt)
            name = f"segment {number}, {how}, {salt}, {rng.randrange(10**6)}"
            yield Mutant("retold frames", name, "data keys", change, findings, HEAD, foreign)


def _retell(number: int, how: str, salt: int, copy: Copy) -> None:
    index, fields = manifest(copy.base, number)
    key = data_key(copy, fields["key"])
    nonce, plain = unseal(key, SEGMENT, number, copy.read(name_of(number)))
    changed = plain[:-1] + bytes([plain[-1] ^ salt])
    blob = seal(key, SEGMENT, nonce, number, changed)
    copy.write(name_of(number), blob)
    if how == "digest":
        entries = copy.entries
        entries[index] = dump({**load(entries[index]), "blob": sha256(blob).digest(), "size": len(blob)})
        newest = max(copy.base.epochs)
        copy.reseal(entries, {newest: copy.base.epochs[newest]}, copy.base.identity)


def shuffled(base: Base, rng: Random) -> Iterator[Mutant]:
    """The frames of a segment in another order, one of them twice, or one less; the manifest has the new blob's digest.

    The manifest's root is still the real one. (Signed with the keys of all epochs: nothing but the frames shows it.)
    """
    while True:
        number = rng.choice([one for one in readable(base) if manifest(base, one)[1]["frames"] > 1])
        how = rng.choice(["swapped", "reversed", "repeated", "dropped", "renumbered"])
        change = partial(_shuffle, number, how, rng.randrange(10**6))
        name = f"segment {number}, {how} {rng.randrange(10**6)}"
        finding = Expect("frames-differ", f"segment {number}")
        yield Mutant("shuffled frames", name, "frames", change, (finding,), NONE, HEADS)


def _shuffle(number: int, how: str, salt: int, copy: Copy) -> None:
    index, fields = manifest(copy.base, number)
    key = data_key(copy, fields["key"])
    nonce, plain = unseal(key, SEGMENT, number, copy.read(name_of(number)))
    raw = zstandard.ZstdDecompressor().decompress(plain)
    frames = [
        (record.kind, record.stream, seq, record.when, payload)
        for _, record in parse_records(raw)
        for seq, payload in record.frames()
    ]
    at = salt % (len(frames) - 1)
    match how:
        case "swapped":
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
        case "reversed":
            frames.reverse()
        case "repeated":
            frames.insert(at, frames[at])
        case "dropped":
            frames.pop(at)
        case _:
            kind, stream, seq, when, payload = frames[at]
            frames[at] = (kind, stream, seq + 1 + salt, when, payload)
    records = b"".join(encode_record(kind, stream, seq, when, [payload]) for kind, stream, seq, when, payload in frames)
    blob = seal(key, SEGMENT, nonce, number, zstandard.ZstdCompressor().compress(records))
    copy.write(name_of(number), blob)
    entries = copy.entries
    told = {"blob": sha256(blob).digest(), "size": len(blob), "raw": len(records), "frames": len(frames)}
    entries[index] = dump({**load(entries[index]), **told})
    copy.reseal(entries, copy.base.epochs, copy.base.identity)


def data_keys(base: Base, rng: Random) -> Iterator[Mutant]:
    """Data keys trade places, are others, or are gone without an entry that says so."""
    keys = {fields["key"].hex(): number for number in readable(base) for fields in [manifest(base, number)[1]]}
    segments: dict[str, list[int]] = {key: [] for key in keys}
    for number in readable(base):
        segments[manifest(base, number)[1]["key"].hex()].append(number)
    for one, other in combinations(sorted(keys), 2):
        findings = tuple(Expect("data-key-damaged", f"segment {n}") for n in segments[one] + segments[other])
        yield Mutant("data keys", f"{one} for {other}", "blobs", partial(_swap_keys, one, other), findings, alone=True)
    for key, numbers in segments.items():
        gone = tuple(Expect("data-key-missing", f"segment {number}") for number in numbers)
        yield Mutant("data keys", f"{key} gone", "by hand", partial(_lose_key, key), gone, alone=True)
        damaged = tuple(Expect("data-key-damaged", f"segment {number}") for number in numbers)
        for what in ("key", "sandbox", "session", "created"):
            change = partial(_relabel, key, what)
            yield Mutant("data keys", f"{key}: other {what}", "blobs", change, damaged, alone=True)


def _swap_keys(one: str, other: str, copy: Copy) -> None:
    copy.swap(f"keys/data/{one}.key", f"keys/data/{other}.key")


def _lose_key(key: str, copy: Copy) -> None:
    copy.remove(f"keys/data/{key}.key")


def _relabel(key: str, what: str, copy: Copy) -> None:
    name = f"keys/data/{key}.key"
    value = cbor2.loads(copy.read(name))
    new = {"key": bytes(32), "sandbox": "somebody else", "session": "another", "created": 1}[what]
    copy.write(name, cbor2.dumps({**value, what: new}, canonical=True))
