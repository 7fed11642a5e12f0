"""Somebody cuts the log back, gives it another past, or mixes it with another log."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from tests.store.mutants.attacks_entries import HEAD, closed
from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy, dump, load
from tests.store.mutants.mutant import HEADS, LOG, NONE, Expect, Mutant

POLICY = frozenset({"policy"})
WITNESSED = "~/witnessed/checkpoint"


def truncated(base: Base, rng: Random) -> Iterator[Mutant]:
    """The tail of the log is gone from the disk; the checkpoint still counts it."""
    size = len(base.entries)
    while True:
        cut = rng.randrange(1, size)
        tiles = rng.random() < 0.5
        change = partial(_truncate, cut, tiles)
        name = f"to {cut}, tiles {'too' if tiles else 'stay'}"
        yield Mutant("truncated", name, "entries", change, (Expect("bundle-missing|bundle-damaged", ""),), NONE, LOG)


def _truncate(cut: int, tiles: bool, copy: Copy) -> None:
    entries = copy.entries[:cut]
    if tiles:
        copy.lay(entries)
    else:
        copy.bundles(entries)


def rolled_back(base: Base, rng: Random) -> Iterator[Mutant]:
    """The log as it was, with the checkpoint that it really had then: only a head that is kept elsewhere shows it."""
    older = [size for size in base.heads if size < len(base.entries)]
    cases = [(size, knows) for size in older for knows in ("head", "policy", "both")]
    rng.shuffle(cases)
    for size, knows in cases:
        findings = [Expect("rolled-back", f"log entry {size}")] if knows != "policy" else []
        findings += [Expect("not-witnessed|witness-conflict", "~/")] if knows != "head" else []
        both = frozenset({"head", "policy"} if knows == "both" else {knows})
        change = partial(_roll_back, size, "policy" in both)
        foreign = HEADS | POLICY if "policy" in both else HEADS
        yield Mutant(
            "rolled back",
            f"to {size}, {knows}",
            "snapshot" if knows == "policy" else "tail",
            change,
            tuple(findings),
            both,
            foreign,
        )


def _roll_back(size: int, witnessed: bool, copy: Copy) -> None:
    entries = copy.entries[:size]
    copy.lay(entries)
    copy.write("log/checkpoint", copy.base.heads[size])
    numbers = {load(entry).get("segment") for entry in entries}
    for path in copy.home.glob("segments/*/*.seg"):
        if int(path.stem) not in numbers:
            path.unlink()
    if witnessed:
        # The witnesses' cosignatures of the longer log stay, or are gone with it: either is found.
        copy.remove("witnessed")


def forked(base: Base, rng: Random) -> Iterator[Mutant]:
    """From some entry on the log tells another story, signed with all keys of today and shown to one reader only."""
    size = len(base.entries)
    while True:
        at = rng.randrange(base.epochs_at[-1] + 1, size - 1) if rng.random() < 0.5 else rng.randrange(1, size - 1)
        longer = rng.choice([0, 1, 10])
        knows = rng.choice([HEAD, POLICY])
        change = partial(_fork, at, size + longer, rng.randrange(10**9))
        behind = closed(base, at)
        if behind.types.startswith("epoch"):
            # Every certificate behind it is gone with the entries; what signs now is not what the last one certified.
            findings: tuple[Expect, ...] = (Expect("epoch-unsigned|epoch-missing|epoch-wrong", ""),)
        elif knows is HEAD:
            findings = (Expect("history-rewritten", "log entr"),)
        else:
            findings = (Expect("witness-conflict|not-witnessed", WITNESSED),)
        name = f"at {at}, {size + longer} long, {next(iter(knows))}, {rng.randrange(10**6)}"
        yield Mutant("forked", name, "fork" if at > base.epochs_at[-1] else "history", change, findings, knows, HEADS)


def _fork(at: int, size: int, salt: int, copy: Copy) -> None:
    entries = copy.entries[:at]
    beat = next(fields for fields in copy.base.maps if fields["kind"] == "heartbeat")
    epoch = load(entries[-1])["epoch"]
    entries += [dump({**beat, "epoch": epoch, "at": [salt, n, n]}) for n in range(at, size)]
    copy.lay(entries)
    copy.sign(entries, copy.base.identity, copy.base.epochs[max(copy.base.epochs)])
    numbers = {load(entry).get("segment") for entry in entries}
    for path in copy.home.glob("segments/*/*.seg"):
        if int(path.stem) not in numbers:
            path.unlink()


def spliced(base: Base, other: Base, rng: Random) -> Iterator[Mutant]:
    """Parts of another node's log in place of this one's."""
    size = min(len(base.entries), len(other.entries))
    pieces = ["checkpoint", "log", "bundle", "tile", "segments", "keys"]
    while True:
        piece = rng.choice([*pieces, "tail", "tail", "tail", "tail"])
        at = rng.randrange(1, size)
        if piece == "tail":
            change, name = partial(_splice, other, at), f"from {at} on"
            findings: tuple[Expect, ...] = (closed(base, at),)
            if findings[0].types.startswith("epoch"):
                findings = (Expect("epoch-wrong|epoch-forged|epoch-unsigned", ""),)
            yield Mutant("spliced", name, "both", change, findings, HEAD, HEADS)
            continue
        expected = {
            "checkpoint": (Expect("checkpoint-unsigned|other-log", "~/log/checkpoint"),),
            "log": (Expect("checkpoint-unsigned|other-log", "~/log/checkpoint"),),
            "bundle": (Expect("entry-changed", "log entry 0"),),
            "tile": (Expect("tile-damaged", "~/log/tile/0/000"),),
            "segments": tuple(
                Expect("blob-damaged", f"segment {int(path.stem)}") for path in _common(base, other, "segments/*/*.seg")
            ),
            "keys": (Expect("key-replaced", "~/keys/log.vkey"),),
        }[piece]
        files = {
            "checkpoint": "log/checkpoint",
            "log": "log/**/*",
            "bundle": "log/tile/entries/000",
            "tile": "log/tile/0/000",
            "segments": "segments/*/*.seg",
            "keys": "keys/log.vkey",
        }[piece]
        if piece in pieces:
            pieces.remove(piece)
            foreign = LOG if files.startswith("log") else NONE
            yield Mutant(
                "spliced",
                f"its {piece}",
                "other keys" if piece == "keys" else "entries",
                partial(_graft, other, files),
                expected,
                HEAD,
                foreign,
            )


def _common(base: Base, other: Base, pattern: str) -> list[Path]:
    """Files of both."""
    return [path for path in sorted(base.home.glob(pattern)) if (other.home / path.relative_to(base.home)).is_file()]


def _splice(other: Base, at: int, copy: Copy) -> None:
    entries = copy.entries[:at] + other.entries[at:]
    newest = max(copy.base.epochs)
    copy.reseal(entries, {newest: copy.base.epochs[newest]}, copy.base.identity)


def _graft(other: Base, files: str, copy: Copy) -> None:
    for path in _common(copy.base, other, files):
        if path.name != "lock":
            copy.write(
                str(path.relative_to(copy.base.home)), (other.home / path.relative_to(copy.base.home)).read_bytes()
            )


def wiped(base: Base, rng: Random) -> Iterator[Mutant]:
    """The whole log is gone, or a new and empty one is in its place."""
    empty = Expect("rolled-back", "log entry 0")
    yield Mutant("wiped", "log", "delete", partial(_wipe, "log"), (_GONE,), HEAD, LOG)
    yield Mutant("wiped", "segments", "delete", partial(_wipe, "segments"), (Expect("blob-missing", "segment 23"),))
    yield Mutant("wiped", "new", "delete", _begin_again, (empty,), HEAD, HEADS)
    yield Mutant(
        "wiped", "public keys", "delete", partial(_wipe, "keys/log.vkey"), (Expect("key-damaged", "~/keys/log.vkey"),)
    )


_GONE = Expect("checkpoint-missing|checkpoint-unsigned", "~/log/checkpoint")


def _wipe(name: str, copy: Copy) -> None:
    if name == "log":
        for path in sorted(copy.log.iterdir()):
            copy.remove(str(path.relative_to(copy.home)))
    else:
        copy.remove(name)


def _begin_again(copy: Copy) -> None:
    copy.lay([])
    copy.sign([], copy.base.identity, copy.base.epochs[max(copy.base.epochs)])
    copy.remove("segments")
    copy.remove("witnessed")
