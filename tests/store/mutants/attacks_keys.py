"""Somebody has stolen signing keys and rewrites what earlier epochs have closed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from random import Random

from tests.store.mutants.attacks_entries import closed
from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy, dump, load, recertify
from tests.store.mutants.mutant import HEADS, LOG, Expect, Mutant

HEAD = frozenset({"head"})
ATTACK = "earlier"


def resealed(base: Base, rng: Random) -> Iterator[Mutant]:
    """A whole earlier epoch is told anew, with every certificate, and signed with what was stolen.

    Stolen are the keys of some epochs, at least the current one, and always the identity's; not the key that certified
    the epoch behind the change, which was erased when that epoch began.
    """
    newest = max(base.epochs)
    ends = [*base.epochs_at[1:], len(base.entries)]
    while True:
        epoch = rng.randrange(newest)
        first, end = base.epochs_at[epoch] + 1, ends[epoch]
        stolen = {number: key for number, key in base.epochs.items() if number == newest or rng.random() < 0.5}
        stolen.pop(epoch, None)
        # With the key of each later epoch what follows can be certified anew, but not the end of this one.
        touched = sorted(rng.sample(range(first, end), min(end - first, rng.choice([1, 2, 5]))))
        change = partial(_reseal, tuple(touched), rng.randrange(10**9), stolen)
        finding = (closed(base, touched[0]),)
        name = f"epoch {epoch}, entries {touched}, keys {sorted(stolen)}, {rng.randrange(10**6)}"
        yield Mutant("re-sealed", name, ATTACK, change, finding, frozenset(), HEADS)


def resealed_and_remembered(base: Base, rng: Random) -> Iterator[Mutant]:
    """With the keys of every epoch the past can be told anew; whoever remembers a head still sees it."""
    for number in range(12):
        at = rng.randrange(1, len(base.entries))
        while at in base.epochs_at:
            at = rng.randrange(1, len(base.entries))
        change = partial(_reseal, (at,), number, dict(base.epochs))
        yield Mutant(
            "all keys stolen",
            f"entry {at}, {number}",
            "history",
            change,
            (Expect("history-rewritten", "log entr"),),
            HEAD,
            HEADS,
        )


def _reseal(touched: tuple[int, ...], salt: int, stolen: dict[int, bytes], copy: Copy) -> None:
    entries = copy.entries
    for index in touched:
        fields = load(entries[index])
        fields["run"] = f"{(int(fields['run'], 16) ^ (salt + 1)):016x}"
        entries[index] = dump(fields)
    copy.reseal(entries, stolen, copy.base.identity)


def stolen_alone(base: Base, rng: Random) -> Iterator[Mutant]:
    """One of the two keys alone signs nothing that passes."""
    text_of = {"identity": "epoch-unsigned", "epoch": "checkpoint-unsigned"}
    for _ in range(10):
        for which, kind in text_of.items():
            at = rng.randrange(base.epochs_at[-1] + 1, len(base.entries))
            change = partial(_sign_alone, which, at, rng.randrange(10**9))
            foreign = LOG if which == "epoch" else HEADS
            finding = (Expect(kind, "~/log/checkpoint"),)
            yield Mutant(
                "stolen alone", f"{which} {at} {rng.randrange(10**6)}", which, change, finding, frozenset(), foreign
            )


def _sign_alone(which: str, at: int, salt: int, copy: Copy) -> None:
    entries = copy.entries
    fields = load(entries[at])
    fields["run"] = f"{salt:016x}"
    entries[at] = dump(fields)
    newest = max(copy.base.epochs)
    made = recertify(copy.origin, entries, {newest: copy.base.epochs[newest]}, copy.base.identity)
    copy.lay(made)
    identity = copy.base.identity if which == "identity" else None
    copy.sign(made, identity, copy.base.epochs[newest] if which == "epoch" else None)


def invented_epochs(base: Base, rng: Random) -> Iterator[Mutant]:
    """An epoch of the thief's own: with a certificate that no epoch before it signed, or one epoch left out."""
    newest = max(base.epochs)
    for number in range(20):
        at = base.epochs_at[rng.randrange(1, len(base.epochs_at))]
        how = ("own certificate", "left out", "another number", "moved")[number % 4]
        kind = "epoch-wrong|epoch-forged|epoch-unsigned|epoch-missing"
        change = partial(_invent, at, how, rng.randbytes(32), newest)
        yield Mutant(
            "invented epochs", f"{how} at {at} {number}", ATTACK, change, (Expect(kind, ""),), frozenset(), HEADS
        )


def _invent(at: int, how: str, key: bytes, newest: int, copy: Copy) -> None:
    entries = copy.entries
    fields = load(entries[at])
    if how == "own certificate":
        made = recertify(copy.origin, entries, {fields["epoch"] - 1: key}, copy.base.identity)
        copy.lay(made)
        copy.sign(made, copy.base.identity, copy.base.epochs[newest])
        return
    if how == "left out":
        entries.pop(at)
    elif how == "another number":
        entries[at] = dump({**fields, "epoch": fields["epoch"] + 1})
    else:
        entries.insert(at - 1, entries.pop(at))
    copy.reseal(entries, {newest: copy.base.epochs[newest]}, copy.base.identity)
