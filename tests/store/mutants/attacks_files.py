"""Somebody who can write to the disk changes, cuts, empties, removes or adds single files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

from tests.store.mutants.base import Base
from tests.store.mutants.edit import Copy
from tests.store.mutants.mutant import LOG, NONE, Expect, Mutant

ATTACK = "bytes"
_PRIVATE = ("log.key", "lock")


def evidence(base: Base) -> list[str]:
    """Every file that a verification vouches for."""
    files = sorted(path.relative_to(base.home) for path in base.home.rglob("*") if path.is_file())
    return [
        str(path)
        for path in files
        if path.name not in _PRIVATE and path.parts[0] != "spool" and path.parts[:2] != ("keys", "epochs")
    ]


def _segments_of(base: Base, key: str) -> list[int]:
    """The stored segments that one data key keeps."""
    stored = {int(path.stem) for path in base.home.glob("segments/*/*.seg")}
    manifests = [fields for fields in base.maps if fields["kind"] == "segment" and fields["key"].hex() == key]
    return [fields["segment"] for fields in manifests if fields["segment"] in stored]


def _alone(name: str) -> bool:
    """Whether nothing else is touched when this file is."""
    return name.startswith(("segments", "damaged", "witnessed", "log/tile", "keys/data")) and "/entries/" not in name


def expect(base: Base, name: str) -> tuple[tuple[Expect, ...], frozenset[str], frozenset[str]]:
    """(findings, what the reader must know, which foreign verifiers see it) when this file is not what it was."""
    parts = Path(name).parts
    if parts[0] == "segments":
        return (Expect("blob-damaged|blob-missing", f"segment {int(Path(name).stem)}"),), NONE, NONE
    if parts[0] == "damaged":
        return (Expect("kept-damaged|kept-missing", f"~/{name}"),), NONE, NONE
    if parts[:2] == ("keys", "data"):
        segments = _segments_of(base, Path(name).stem)
        if not segments:  # the key of kept bytes
            kept = next(str(path.relative_to(base.home)) for path in base.home.glob("damaged/*"))
            return (Expect("kept-damaged|data-key-damaged|data-key-missing", f"~/{kept}"),), NONE, NONE
        return tuple(Expect("data-key-damaged|data-key-missing", f"segment {n}") for n in segments), NONE, NONE
    if parts[0] == "keys":
        return (Expect("key-damaged|key-replaced", f"~/{name}"),), NONE, NONE
    if parts[0] == "witnessed":
        return (Expect("not-witnessed|witness-conflict", f"~/{name}"),), frozenset({"policy"}), frozenset({"policy"})
    if parts[-1] == "checkpoint":
        types = "checkpoint-unsigned|checkpoint-missing|epoch-unsigned"
        return (Expect(types, f"~/{name}"),), NONE, NONE
    if parts[2] == "entries":
        return (Expect("entry-changed", "log entry "),), NONE, LOG
    return (Expect("tile-damaged|tile-missing|tile-mismatch", f"~/{name}"),), NONE, LOG


def flipped(base: Base, rng: Random) -> Iterator[Mutant]:
    """One bit of one file."""
    while True:
        for name in evidence(base):
            size = (base.home / name).stat().st_size
            at, bit = rng.randrange(size), rng.randrange(8)
            if name == "witnessed/checkpoint" and _epoch_line(base, at):
                continue  # witnesses and their readers pass over it
            findings, knows, foreign = expect(base, name)
            if "/entries/" in name:
                # The length of an entry may be hit: then the bundle as a whole can't be read.
                findings = (Expect("entry-changed|bundle-damaged", ""),)
            if name == "log/checkpoint" and not _epoch_line(base, at):
                foreign = LOG
            yield Mutant(
                "flipped", f"{name}@{at}.{bit}", ATTACK, partial(_flip, name, at, bit), findings, knows, foreign
            )


def _epoch_line(base: Base, at: int) -> bool:
    """Whether this byte of the checkpoint is in the line of the epoch's key, which others pass over."""
    note = (base.home / "log" / "checkpoint").read_bytes()
    # The newline before a line is the end of the line before it, and its loss is the loss of both.
    return note.index(b"\n\xe2", note.index(b"\n\xe2") + 1) < at < len(note)


def _flip(name: str, at: int, bit: int, copy: Copy) -> None:
    data = bytearray(copy.read(name))
    data[at] ^= 1 << bit
    copy.write(name, bytes(data))


_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-1],
    "halved": lambda data: data[: len(data) // 2],
    "emptied": lambda _data: b"",
    "zeroed": lambda data: bytes(len(data)),
    "longer": lambda data: data + b"\0",
    "doubled": lambda data: data + data,
    "reversed": lambda data: data[::-1],
}


def reshaped(base: Base, rng: Random) -> Iterator[Mutant]:
    """A file that is cut, emptied, longer, or gone."""
    names = evidence(base)
    cases = [(name, how) for name in names for how in (*_CHANGES, "removed")]
    rng.shuffle(cases)
    for name, how in cases:
        findings, knows, foreign = expect(base, name)
        if "/entries/" in name:
            findings = (Expect("bundle-damaged|bundle-missing|entry-changed", ""),)
        if name == "log/checkpoint":
            foreign = LOG
        change = partial(_remove, name) if how == "removed" else partial(_change, name, how)
        # What a bundle or a tile has too much is nothing to a verifier that takes what it needs from it.
        if how in ("longer", "doubled") and "log/tile" in name:
            foreign = frozenset({"tlog"})
        if name == "log/checkpoint" and how in ("cut", "longer", "doubled"):
            foreign = NONE
        yield Mutant("reshaped", f"{name}.{how}", ATTACK, change, findings, knows, foreign, _alone(name))


def _change(name: str, how: str, copy: Copy) -> None:
    copy.write(name, _CHANGES[how](copy.read(name)))


def _remove(name: str, copy: Copy) -> None:
    copy.remove(name)


_EXTRA = (
    "segments/000000/000000000.seg",
    "log/extra",
    "log/tile/0/007",
    "log/tile/0/000.p/300",
    "log/tile/entries/000.p/1",
    "log/tile/9/000",
    "log/tile/x/000",
    "log/.hidden",
    "segments/000000/readme",
    "segments/000001/000000001.seg",
    "segments/000000/000000001.seg.old",
)


def added(base: Base, rng: Random) -> Iterator[Mutant]:
    """A file that nobody signed for. The first has the name of a blob that was removed by a signed act."""
    for name in _EXTRA:
        change = partial(_add, name, rng.randbytes(64))
        if name == _EXTRA[0]:
            yield Mutant("added", name, "return", change, (Expect("blob-damaged", "segment 0"),))
        else:
            yield Mutant("added", name, "files", change, (Expect("file-unaccounted", f"~/{name}"),))


def _add(name: str, data: bytes, copy: Copy) -> None:
    copy.write(name, data)


def several(base: Base, rng: Random) -> Iterator[Mutant]:
    """Two to five files at once, each of which is found, and nothing else."""
    names = [name for name in evidence(base) if _alone(name) and not name.startswith("log")]
    while True:
        chosen = rng.sample(names, rng.randrange(2, 6))
        findings: list[Expect] = []
        knows, flips = NONE, []
        for name in chosen:
            more, known, _ = expect(base, name)
            findings, knows = findings + list(more), knows | known
            at = rng.randrange((base.home / name).stat().st_size)
            if name == "witnessed/checkpoint":
                at = rng.randrange(20)
            flips.append((name, at, rng.randrange(8)))
        told = _merged(findings)
        name = ", ".join(f"{name}@{at}.{bit}" for name, at, bit in flips)
        yield Mutant("several", name, ATTACK, partial(_flip_all, tuple(flips)), told, knows, NONE, alone=True)


def _merged(findings: list[Expect]) -> tuple[Expect, ...]:
    """One for each place: a blob that is damaged is not opened, whatever its key is."""
    types: dict[str, set[str]] = {}
    for one in findings:
        types.setdefault(one.place, set()).update(one.types.split("|"))
    return tuple(Expect("|".join(sorted(names)), place) for place, names in types.items())


def _flip_all(flips: tuple[tuple[str, int, int], ...], copy: Copy) -> None:
    for name, at, bit in flips:
        _flip(name, at, bit, copy)


def unvouched(base: Base, rng: Random) -> Iterator[Mutant]:
    """An entry and its tile, each changed in a way of its own: what was signed there is not known any more."""
    for number, width in ((0, 256), (1, len(base.entries) - 256)):
        tile = f"log/tile/0/{number:03d}" + ("" if width == 256 else f".p/{width}")
        for index in rng.sample(range(256 * number, 256 * number + width), 12):
            change = partial(_both, tile, index, rng.randrange(32))
            finding = Expect("tile-mismatch|root-mismatch", "~/log")
            yield Mutant("unvouched", f"entry {index} and {tile}", ATTACK, change, (finding,), NONE, LOG)


def _both(tile: str, index: int, at: int, copy: Copy) -> None:
    _flip(tile, 32 * (index % 256) + at, 3, copy)
    entries = copy.entries
    entries[index] = entries[index][:-1] + bytes([entries[index][-1] ^ 1])
    copy.bundles(entries)
