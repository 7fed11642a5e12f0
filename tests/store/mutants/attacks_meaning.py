"""Somebody with the signing keys of every epoch, which no honest node keeps, signs entries that do not fit together.

Nothing in signatures and tree shows it: what shows it is what the entries say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from tests.store.mutants.attacks_blobs import manifest, name_of, readable, stored
from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy, dump, load
from tests.store.mutants.mutant import HEADS, NONE, Expect, Mutant

Fields = dict[str, Any]
Rewrite = Callable[[list[Fields]], list[Fields]]


def _told(rewrite: Rewrite, copy: Copy) -> None:
    entries = [dump(fields) for fields in rewrite([load(entry) for entry in copy.entries])]
    copy.reseal(entries, copy.base.epochs, copy.base.identity)


def _mutant(family: str, name: str, attack: str, rewrite: Rewrite, *findings: Expect) -> Mutant:
    return Mutant(family, name, attack, partial(_told, rewrite), findings, NONE, HEADS)


def _index(base: Base, kind: str) -> int:
    return next(at for at, fields in enumerate(base.maps) if fields["kind"] == kind)


# -- erasure, retention, hold ------------------------------------------------------------------------------------------


def erasure(base: Base, rng: Random) -> Iterator[Mutant]:
    """Acts that were carried out and are denied, and acts that a hold forbids."""
    erased, retained = _index(base, "erase"), _index(base, "retain")
    gone = set(base.maps[erased]["keys"])
    unreadable = [n for n in stored(base) if manifest(base, n)[1]["key"] in gone]
    missing = [n for first, last in base.maps[retained]["segments"] for n in range(first, last + 1)]
    no_key = [Expect("data-key-missing", f"segment {number}") for number in unreadable]
    no_blob = [Expect("blob-missing", f"segment {number}") for number in missing]
    yield _mutant("erasure", "the erase entry is dropped", "denial", partial(_without, erased), *no_key)
    yield _mutant("erasure", "the retain entry is dropped", "denial", partial(_without, retained), *no_blob)
    for number in missing:
        rewrite = partial(_spare, retained, number)
        yield _mutant(
            "erasure", f"{number} is not retained", "denial", rewrite, Expect("blob-missing", f"segment {number}")
        )
    others = sorted({manifest(base, n)[1]["key"] for n in readable(base)})
    for number, key in enumerate(others):
        rewrite = partial(_put, erased, {"keys": [key]})
        yield _mutant("erasure", f"another key is erased, {number}", "denial", rewrite, *no_key)
    for key in gone:
        name = f"keys/data/{key.hex()}.key"
        change = partial(_put_back, name)
        yield Mutant("erasure", f"{name} is put back", "return", change, (Expect("erasure-undone", f"~/{name}"),))
    for key in others:
        name = f"keys/data/{key.hex()}.key"
        rewrite = partial(_put, erased, {"keys": [*base.maps[erased]["keys"], key]})
        finding = Expect("erasure-undone|hold-broken", "")
        yield _mutant("erasure", f"{name} is said to be erased", "claim", rewrite, finding)
    held = base.maps[_index(base, "hold")]["keys"]
    rewrite = partial(_put, erased, {"keys": [*base.maps[erased]["keys"], *held]})
    yield _mutant("erasure", "erased under a hold", "lift", rewrite, Expect("hold-broken", f"log entry {erased}"))
    held_segments = [n for n in stored(base) if manifest(base, n)[1]["key"] in held and manifest(base, n)[0] < retained]
    for number in held_segments:
        rewrite = partial(_put, retained, {"segments": sorted([*base.maps[retained]["segments"], [number, number]])})
        name = f"segment {number} removed under a hold"
        yield _mutant("erasure", name, "lift", rewrite, Expect("hold-broken", f"log entry {retained}"))


def _put_back(name: str, copy: Copy) -> None:
    copy.write(name, copy.base.data_keys[Path(name).name])


def _without(index: int, entries: list[Fields]) -> list[Fields]:
    return entries[:index] + entries[index + 1 :]


def _put(index: int, new: Fields, entries: list[Fields]) -> list[Fields]:
    return [*entries[:index], {**entries[index], **new}, *entries[index + 1 :]]


def _spare(index: int, number: int, entries: list[Fields]) -> list[Fields]:
    kept = [n for first, last in entries[index]["segments"] for n in range(first, last + 1) if n != number]
    return _put(index, {"segments": [[n, n] for n in kept]}, entries)


# -- manifests ---------------------------------------------------------------------------------------------------------


def manifests(base: Base, rng: Random) -> Iterator[Mutant]:
    """Signed manifests that do not fit what is stored, or each other."""
    numbers = readable(base)
    while True:
        number = rng.choice(numbers)
        index, fields = manifest(base, number)
        case = rng.choice(["root", "frames", "raw", "blob", "size", "segment", "key", "streams", "seq"])
        place = f"segment {number}"
        new: Fields
        if case in ("root", "blob"):
            value = bytearray(fields[case])
            value[rng.randrange(32)] ^= 1 << rng.randrange(8)
            new = {case: bytes(value)}
            finding = Expect("blob-damaged" if case == "blob" else "frames-differ", place)
        elif case in ("frames", "raw", "size"):
            new = {case: fields[case] + rng.choice([-1, 1, 500])}
            finding = Expect("blob-damaged" if case == "size" else "frames-differ", place)
        elif case == "segment":
            new = {case: fields[case] + rng.choice([1, 2, 9])}
            finding = Expect("segments-out-of-order", f"log entry {index}")
        elif case == "key":
            other = rng.choice([n for n in numbers if manifest(base, n)[1]["key"] != fields["key"]])
            new = {case: manifest(base, other)[1]["key"]}
            finding = Expect("frames-differ|blob-damaged|data-key-damaged", place)
        else:
            stream = rng.choice(sorted(fields["streams"]))
            first, frames, size = fields["streams"][stream]
            wrong = [first + 1, frames, size] if case == "seq" else [first, frames, size + rng.choice([1, 50])]
            new = {"streams": {**fields["streams"], stream: wrong}}
            finding = Expect("frames-differ", place)
        rewrite = partial(_put, index, new)
        yield _mutant("manifests", f"{number}: {case} {rng.randrange(10**6)}", "history", rewrite, finding)


def dropped(base: Base, rng: Random) -> Iterator[Mutant]:
    """A segment is left out of the log: its number is missing, and so are its frames."""
    for number in stored(base)[:-1]:
        index, _ = manifest(base, number)
        finding = Expect("segments-out-of-order", f"log entry {_next_segment(base, index) - 1}")
        change = partial(_leave_out, index, number)
        yield Mutant("left out", f"segment {number}", "entries", change, (finding,), NONE, HEADS)


def _next_segment(base: Base, index: int) -> int:
    return next(at for at in range(index + 1, len(base.maps)) if base.maps[at]["kind"] == "segment")


def _leave_out(index: int, number: int, copy: Copy) -> None:
    copy.remove(name_of(number))
    _told(partial(_without, index), copy)


# -- time --------------------------------------------------------------------------------------------------------------


def times(base: Base, rng: Random) -> Iterator[Mutant]:
    """Times that run backwards within one boot of the machine."""
    with_at = [at for at, fields in enumerate(base.maps) if "at" in fields and at > 2]
    while True:
        index = rng.choice(with_at)
        real, mono, boot = base.maps[index]["at"]
        back = rng.choice([base.maps[index - 1].get("at") or base.maps[index - 1].get("last") or [0, 0, 0]])
        by = mono - back[1] + rng.randrange(1, 50) * 1_000_000
        rewrite = partial(_put, index, {"at": [real - by, max(mono - by, 0), max(boot - by, 0)]})
        name = f"entry {index} by {by} {rng.randrange(10**6)}"
        yield _mutant("times", name, "clocks", rewrite, Expect("clock-went-back", f"log entry {index}"))


# -- format ------------------------------------------------------------------------------------------------------------


def downgraded(base: Base, rng: Random) -> Iterator[Mutant]:
    """Entries of format 1, which has neither keys nor epochs, in a log of format 2."""
    whole = Expect("epoch-missing|epoch-unsigned", "~/log")
    for alone in (True, False):
        change = partial(_whole_format_1, alone)
        name = f"all of it, {'identity' if alone else 'both keys'}"
        yield Mutant("downgraded", name, "start again", change, (whole,), NONE, HEADS)
    simple = [at for at, fields in enumerate(base.maps) if fields["kind"] in ("heartbeat", "stop", "start") and at > 1]
    for index in rng.sample(simple, min(25, len(simple))):
        rewrite = partial(_as_format_1, index)
        yield _mutant(
            "downgraded", f"entry {index}", "downgrade", rewrite, Expect("format-went-back", f"log entry {index}")
        )


def _as_format_1(index: int, entries: list[Fields]) -> list[Fields]:
    old = {name: value for name, value in entries[index].items() if name != "epoch"}
    return [*entries[:index], {**old, "v": 1}, *entries[index + 1 :]]


def _whole_format_1(alone: bool, copy: Copy) -> None:
    entries = [load(entry) for entry in copy.entries]
    known = ("start", "stop", "heartbeat")
    made = [dump(_as_format_1(0, [fields])[0]) for fields in entries if fields["kind"] in known]
    copy.lay(made)
    copy.sign(made, copy.base.identity, None if alone else copy.base.epochs[max(copy.base.epochs)])
    copy.remove("segments")
    copy.remove("keys/data")
