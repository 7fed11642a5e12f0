"""Somebody with the signing keys of every epoch forges times and tokens of time (RFC 3161).

The authority is another machine, with a key of its own: what it has stamped can be left out, moved or exchanged, and a
lie can be given to it to stamp, but it says when that was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from sandtrail.store.merkle import leaf_hash, tree_root
from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy, dump, load, recertify, sign
from tests.store.mutants.mutant import Expect, Mutant

__all__ = ["Tokens", "timed"]

HOUR = 3600 * 10**9


@dataclass(frozen=True)
class Tokens:
    """Who stamps: the real authority, and one that nobody knows."""

    real: Callable[[bytes], bytes]
    stranger: Callable[[bytes], bytes]


def timed(base: Base, tokens: Tokens, rng: Random) -> Iterator[Mutant]:
    """Every case, for each of the log's tokens."""
    places = [index for index, fields in enumerate(base.maps) if fields["kind"] == "time"]
    for index in places:
        for name, new in _exchanged(base, index, places, tokens, rng):
            change = partial(_tell, {index: {**base.maps[index], **new}})
            finding = Expect("time-token-invalid", f"log entry {index}")
            yield Mutant("tokens", f"{name} in {index}", "token", change, (finding,))
        covered = [at for at in range(3, index) if "at" in base.maps[at] and base.maps[at]["kind"] != "epoch"]
        for at in rng.sample(covered, min(12, len(covered))):
            change = partial(_tell, {at: _dated(base.maps[at], rng.choice([-HOUR, HOUR]))})
            finding = Expect("time-token-invalid", f"log entry {index}")
            yield Mutant("dated entries", f"{at} under the token in {index}", "token", change, (finding,))
    for at in (at for at in range(places[0]) if base.maps[at]["kind"] in ("start", "hold")):
        change = partial(_lie, at, tokens.real)
        finding = Expect("time-too-late", f"log entry {at}")
        yield Mutant("dated entries", f"{at} forward, and stamped so", "forward", change, (finding,))
    late = [at for at in range(places[0] + 1, len(base.maps)) if "at" in base.maps[at] and at not in places]
    for at in rng.sample([at for at in late if base.maps[at]["kind"] == "heartbeat"], 20):
        change = partial(_date_back, at, tokens.real)
        yield Mutant("dated entries", f"{at} back", "back", change, (Expect("time-too-early", f"log entry {at}"),))


def _exchanged(
    base: Base, index: int, places: Sequence[int], tokens: Tokens, rng: Random
) -> Iterator[tuple[str, dict[str, Any]]]:
    entry = base.maps[index]
    real, note, size = entry["token"], entry["checkpoint"], entry["size"]
    other = next(at for at in places if at != index)
    older = rng.choice([one for one in base.heads if one < size])
    yield "a stranger's token", {"token": tokens.stranger(note)}
    yield "a token over something else", {"token": tokens.real(b"something else")}
    yield "the token of another entry", {"token": base.maps[other]["token"]}
    yield "a token over an older head", {"token": tokens.real(base.heads[older])}
    yield "no token", {"token": b""}
    yield "half a token", {"token": real[: len(real) // 2]}
    yield "a longer token", {"token": real + b"\0"}
    yield "noise", {"token": rng.randbytes(len(real))}
    yield "another size", {"size": size - 1}
    yield "another head", {"checkpoint": base.heads[older]}
    yield "no head", {"checkpoint": b""}
    forged = sign(base.pins[0].name, size, rng.randbytes(32), base.identity, None)
    yield "a head that never was", {"checkpoint": forged, "token": tokens.real(forged)}


def _dated(fields: dict[str, Any], by: int) -> dict[str, Any]:
    return {**fields, "at": [fields["at"][0] + by, *fields["at"][1:]]}


def _tell(new: dict[int, dict[str, Any]], copy: Copy) -> None:
    entries = copy.entries
    for index, fields in new.items():
        entries[index] = dump(fields)
    copy.reseal(entries, copy.base.epochs, copy.base.identity)


def _lie(at: int, stamp: Callable[[bytes], bytes], copy: Copy) -> None:
    """The entry says a time an hour ahead, on a machine that did so from the start: all tokens are over that log."""
    _stamped_anew({at: _dated(copy.base.maps[at], HOUR)}, stamp, copy)


def _date_back(at: int, stamp: Callable[[bytes], bytes], copy: Copy) -> None:
    _stamped_anew({at: _dated(copy.base.maps[at], -HOUR)}, stamp, copy)


def _stamped_anew(new: dict[int, dict[str, Any]], stamp: Callable[[bytes], bytes], copy: Copy) -> None:
    base, entries = copy.base, copy.entries
    for index, fields in new.items():
        entries[index] = dump(fields)
    for index, fields in enumerate(base.maps):
        if fields["kind"] == "time" and fields["size"] > min(new):
            made = recertify(copy.origin, entries, base.epochs, base.identity)
            root = tree_root(list(map(leaf_hash, made[: fields["size"]])))
            note = sign(copy.origin, fields["size"], root, base.identity, None)
            entries = [
                *made[:index],
                dump({**load(made[index]), "checkpoint": note, "token": stamp(note)}),
                *made[index + 1 :],
            ]
    copy.reseal(entries, base.epochs, base.identity)
