"""Somebody changes, moves, removes or adds entries of the log.

Each such attack comes in four ways: only the entries are changed; their tiles too; the checkpoint is signed again by a
key of the attacker's own; or by a thief who has all keys of today (the identity's and the current epoch's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy, dump, load
from tests.store.mutants.mutant import HEADS, LOG, Expect, Mutant

Change = Callable[[list[bytes]], list[bytes]]
WAYS = ("entries", "tiles", "own key", "thief")
HEAD = frozenset({"head"})
UNSIGNED = Expect("checkpoint-unsigned", "~/log/checkpoint")


def apply(change: Change, way: str, copy: Copy) -> None:
    """Carry it out."""
    entries = change(copy.entries)
    if way == "entries":
        copy.bundles(entries)
        return
    if way == "thief":
        newest = max(copy.base.epochs)
        copy.reseal(entries, {newest: copy.base.epochs[newest]}, copy.base.identity)
        return
    copy.lay(entries)
    if way == "own key":
        copy.sign(entries, bytes(32), bytes(32))


def rewritten(
    base: Base, family: str, name: str, attack: str, change: Change, way: str, touched: range, gone: range | None = None
) -> Mutant:
    """The mutant. `touched`: the entries that are not what they were. `gone`: those that are not there any more, where
    the others have only another index; by default each of them may be."""
    knows, foreign = HEAD, LOG
    if way == "entries":
        findings = tuple(Expect("entry-changed|bundle-damaged|bundle-missing", "") for _ in touched[:1])
        if len(change(base.entries)) == len(base.entries) and touched:
            ends = {touched[0], touched[-1]}
            findings = tuple(Expect("entry-changed", f"log entry {index}") for index in sorted(ends))
    elif way == "tiles":
        findings = (Expect("root-mismatch|bundle-missing", ""),)
    elif way == "own key":
        findings = (UNSIGNED,)
    else:
        findings, foreign = (closed(base, touched[0], len(change(base.entries)) - len(base.entries)),), HEADS
        if any(index in (touched if gone is None else gone) for index in base.epochs_at) and family != "fields":
            # The certificate itself is gone, or has come to another place.
            findings = (Expect("epoch-wrong|epoch-forged", "log entry "),)
    return Mutant(family, f"{name} ({way})", attack, partial(apply, change, way), findings, knows, foreign)


def closed(base: Base, first: int, shift: int = 0) -> Expect:
    """What a thief of today's keys can't make good again when the entry `first` is not what it was.

    It is the certificate of the first epoch that began behind it; in the current epoch only a reader who remembers a
    head, or asks witnesses, sees it.
    """
    behind = next((index for index in base.epochs_at if index >= first), None)
    if behind is None:
        return Expect("history-rewritten|rolled-back", "log entr")
    if behind == first:
        return Expect("epoch-wrong|epoch-forged|entry-malformed|epoch-missing", "")
    return Expect("epoch-wrong|epoch-forged", f"log entry {behind + shift}")


def _as(way: str, attack: str) -> str:
    """The row of the threat model: with keys it is another one."""
    return "both" if way == "thief" else attack


# -- fields ------------------------------------------------------------------------------------------------------------


def _other(value: Any, rng: Random) -> Any:
    """A value like this one, and not this one."""
    match value:
        case bool():
            return not value
        case int():
            return value + rng.choice([-1, 1, 1000, 10**12]) if value else value + rng.choice([1, 7, 10**12])
        case bytes():
            at = rng.randrange(len(value)) if value else 0
            return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :] if value else b"x"
        case str():
            at = rng.randrange(len(value)) if value else 0
            return value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :] if value else "x"
        case list():
            if not value:
                return [0]
            at = rng.randrange(len(value))
            return [*value[:at], _other(value[at], rng), *value[at + 1 :]]
        case dict():
            if not value:
                return {"x": 1}
            key = rng.choice(sorted(value))
            return {**value, key: _other(value[key], rng)}
        case _:
            return 0


def fields(base: Base, rng: Random) -> Iterator[Mutant]:
    """One field of one entry says something else, is gone, or is new."""
    kinds = sorted({entry["kind"] for entry in base.maps})
    while True:
        for kind in kinds:
            index = rng.choice([at for at, entry in enumerate(base.maps) if entry["kind"] == kind])
            entry = base.maps[index]
            field = rng.choice(sorted(entry))
            how = rng.choice(["other", "other", "other", "gone", "new"])
            if how == "other":
                changed = {**entry, field: _other(entry[field], rng)}
            elif how == "gone":
                changed = {name: value for name, value in entry.items() if name != field}
            else:
                field, changed = "extra", {**entry, "extra": 1}
            change = partial(_put, index, dump(changed))
            name = f"{kind} {index}: {field} {how} {rng.randrange(10**6)}"
            way = rng.choice(WAYS)
            touched = range(index, index + 1)
            if field == "certificate" and way == "thief":
                way = "tiles"  # what is wrong in it is made good where a thief can sign it
            if kind == "epoch" and field in ("at", "boot", "run") and how == "other" and way == "thief":
                # The certificate is over what is before it; the rest of its entry is the new epoch's.
                touched = range(index + 1, index + 2)
            yield rewritten(base, "fields", name, _as(way, "bytes"), change, way, touched)


def _put(index: int, entry: bytes, entries: list[bytes]) -> list[bytes]:
    return [*entries[:index], entry, *entries[index + 1 :]]


# -- order, deletion, addition -----------------------------------------------------------------------------------------


def reordered(base: Base, rng: Random) -> Iterator[Mutant]:
    """Entries trade places."""
    size = len(base.entries)
    while True:
        span = rng.choice([2, 2, 2, 3, 5, 20])
        first = rng.randrange(size - span)
        how = rng.choice(["swapped", "reversed", "rotated"])
        order = list(range(first, first + span))
        if how == "swapped":
            order[0], order[-1] = order[-1], order[0]
        elif how == "reversed":
            order.reverse()
        else:
            order.append(order.pop(0))
        change = partial(_permute, first, tuple(order))
        moved = [at for at, source in enumerate(order, first) if at != source]
        touched = range(moved[0], moved[-1] + 1)
        name, way = f"{how} {first}..{first + span - 1}", rng.choice(WAYS)
        yield rewritten(base, "reordered", name, _as(way, "entries"), change, way, touched)


def _permute(first: int, order: tuple[int, ...], entries: list[bytes]) -> list[bytes]:
    return [*entries[:first], *(entries[index] for index in order), *entries[first + len(order) :]]


def deleted(base: Base, rng: Random) -> Iterator[Mutant]:
    """Entries are gone from the middle of the log."""
    size = len(base.entries)
    while True:
        span = rng.choice([1, 1, 2, 4, 30])
        first = rng.randrange(size - span)
        change = partial(_cut, first, span)
        touched = range(first, size)
        way = rng.choice(WAYS)
        name, gone = f"{first}..{first + span - 1}", range(first, first + span)
        yield rewritten(base, "deleted", name, _as(way, "entries"), change, way, touched, gone)


def _cut(first: int, span: int, entries: list[bytes]) -> list[bytes]:
    return entries[:first] + entries[first + span :]


def inserted(base: Base, rng: Random) -> Iterator[Mutant]:
    """An entry is there twice, or one that nobody logged."""
    size = len(base.entries)
    while True:
        source, at = rng.randrange(size), rng.randrange(size)
        what, entry = f"copy of {source}", base.entries[source]
        if rng.random() < 0.5:
            what = "a heartbeat"
            entry = dump(
                {**next(one for one in base.maps if one["kind"] == "heartbeat"), "at": [1, rng.randrange(99), 1]}
            )
        change = partial(_insert, at, entry)
        name, way = f"{what} at {at}", rng.choice(WAYS)
        yield rewritten(base, "inserted", name, _as(way, "entries"), change, way, range(at, size), range(0))


def _insert(at: int, entry: bytes, entries: list[bytes]) -> list[bytes]:
    return [*entries[:at], entry, *entries[at:]]


def dropped_segments(base: Base, rng: Random) -> Iterator[Mutant]:
    """Segments are dropped together with their blobs, those behind them take their numbers, and all is signed again."""
    numbers = [fields["segment"] for fields in base.maps if fields["kind"] == "segment"]
    cases = [(first, count) for count in (1, 2, 3, 5) for first in range(len(numbers) - count)]
    rng.shuffle(cases)
    for first, count in cases:
        gone = set(range(first, first + count))
        index = next(at for at, fields in enumerate(base.maps) if fields.get("segment") == first)
        change = partial(_renumber, gone)
        # What is behind them was sealed under its old number, and the blobs say so.
        behind = next((at for at in base.epochs_at if at >= index), len(base.maps))
        before = sum(at < behind for at, number in _places(base) if number in gone)
        findings = [closed(base, index, -before)]
        stored = sorted(int(path.stem) for path in base.home.glob("segments/*/*.seg"))
        moved = [number - count for number in stored if number >= first + count]
        kept = {number: base.maps[at]["key"] for at, number in _places(base) if number in stored}
        alive = {path.stem for path in base.home.glob("keys/data/*.key")}
        findings += [
            Expect("frames-differ|data-key-damaged|data-key-missing|blob-damaged", f"segment {number}")
            for number in moved
            if kept[number + count].hex() in alive
        ]
        yield Mutant(
            "dropped segments",
            f"{first}..{first + count - 1}",
            "earlier" if index < base.epochs_at[-1] else "both",
            partial(_drop, gone, change),
            tuple(findings),
            HEAD,
            HEADS,
        )


def _places(base: Base) -> list[tuple[int, int]]:
    return [(at, fields["segment"]) for at, fields in enumerate(base.maps) if fields["kind"] == "segment"]


def _renumber(gone: set[int], entries: list[bytes]) -> list[bytes]:
    made = []
    for entry in entries:
        fields = load(entry)
        if fields["kind"] == "segment":
            if fields["segment"] in gone:
                continue
            fields["segment"] -= sum(number < fields["segment"] for number in gone)
        if fields["kind"] == "retain" and max(last for _, last in fields["segments"]) >= min(gone):
            kept = [n for first, last in fields["segments"] for n in range(first, last + 1) if n not in gone]
            fields["segments"] = [[n - sum(one < n for one in gone)] * 2 for n in kept]
        made.append(dump(fields))
    return made


def _drop(gone: set[int], change: Change, copy: Copy) -> None:
    blobs = {int(path.stem): path.read_bytes() for path in sorted(copy.home.glob("segments/*/*.seg"))}
    for number in blobs:
        copy.remove(f"segments/000000/{number:09d}.seg")
    for number, blob in blobs.items():
        if number not in gone:
            copy.write(f"segments/000000/{number - sum(one < number for one in gone):09d}.seg", blob)
    apply(change, "thief", copy)
