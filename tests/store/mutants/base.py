"""The store that all mutants are made of, recorded by the real sealer, and what its attackers may have kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.store import sealer as sealer_module
from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.custody import carry_out
from sandtrail.store.epochs import NodeSigner
from sandtrail.store.keys import load_pins, load_signer
from sandtrail.store.layout import Layout, publish
from sandtrail.store.note import Checkpoint, Verifier, parse_checkpoint, parse_note
from sandtrail.store.reader import LogReader
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.store.mutants.world import repeatable
from tests.store.recording import step_until_idle

ORIGIN = "sandtrail.example/fleet/node-1"
WITNESSES = ("north", "south", "east")
HEARTBEATS = 260
# When the witnesses cosigned, in POSIX seconds; the mutants' reader looks a minute later.
WITNESSED = 1_767_603_700
NOW = WITNESSED + 60


@dataclass
class Base:
    """A finished store, and its past.

    `heads`: every checkpoint that was ever signed, by its size. `epochs`: the private keys of all epochs, of which an
    honest node keeps the last one only. `data_keys`: the files of all data keys, erased ones too.
    """

    home: Path
    heads: dict[int, bytes] = field(default_factory=dict)
    epochs: dict[int, bytes] = field(default_factory=dict)
    data_keys: dict[str, bytes] = field(default_factory=dict)
    witnesses: dict[str, Ed25519Cosigner] = field(default_factory=dict)

    @property
    def pins(self) -> tuple[Verifier, Verifier]:
        """The identity and the first epoch's key, as a reader has pinned them."""
        identity, first = load_pins(self.home)
        assert first is not None
        return identity, first

    @property
    def identity(self) -> bytes:
        """The identity's private key."""
        return (Layout(self.home).keys / "log.key").read_bytes()

    @property
    def policy(self) -> str:
        """Every witness must have cosigned, so that each of them counts."""
        lines = [f"log {self.pins[0].vkey}"]
        lines += [f"witness {name} {cosigner.verifier.vkey}" for name, cosigner in self.witnesses.items()]
        lines += [f"group quorum all {' '.join(self.witnesses)}", "quorum quorum"]
        return "\n".join(lines) + "\n"

    @cached_property
    def entries(self) -> list[bytes]:
        """Every entry of the log."""
        return [cbor2.dumps(entry.map, canonical=True) for entry in LogReader(self.home, self.pins[0]).entries()]

    @cached_property
    def maps(self) -> list[dict[str, Any]]:
        """What every entry says."""
        return [entry.map for entry in LogReader(self.home, self.pins[0]).entries()]

    @cached_property
    def epochs_at(self) -> list[int]:
        """The index of every epoch's first entry."""
        return [index for index, fields in enumerate(self.maps) if fields["kind"] == "epoch"]

    @property
    def newest(self) -> Checkpoint:
        """The last head."""
        return parse_checkpoint(parse_note(self.heads[max(self.heads)]).text)

    @property
    def head_file(self) -> bytes:
        """The last head as `verify` remembers heads."""
        return self.pins[0].vkey.encode() + b"\n\n" + self.heads[max(self.heads)]

    def keep(self) -> None:
        """Remember what can be had at this moment."""
        note = Layout(self.home).checkpoint.read_bytes()
        self.heads[int(note.split(b"\n")[1])] = note
        for path in Layout(self.home).epochs.glob("*.key"):
            self.epochs[int(path.stem)] = path.read_bytes()
        for path in Layout(self.home).data_keys.glob("*.key"):
            self.data_keys[path.name] = path.read_bytes()


def record(home: Path, seed: int, origin: str = ORIGIN) -> Base:
    """A store with all that a log can hold but tokens of time; the same bytes for the same seed."""
    with repeatable(seed):
        return _Recording(Base(home), origin, seed).run()


def record_timed(home: Path, seed: int, stamp: Callable[[bytes], bytes]) -> Base:
    """A store with tokens of time by an authority, who has a clock of its own: so this one is recorded now."""
    with repeatable(seed, time.time_ns()):
        return _Recording(Base(home), ORIGIN, seed, stamp).run()


class _Recording:
    def __init__(self, base: Base, origin: str, seed: int, stamp: Callable[[bytes], bytes] | None = None) -> None:
        self.seed, self.stamp = seed, stamp
        self.base = base
        self.home = base.home
        self.signer: NodeSigner = load_signer(self.home, origin)
        self.writer = SpoolWriter(self.home, "source")
        self.sealer = Sealer(self.home, run=f"{seed:015x}1", signer=self.signer)
        self.base.keep()

    def run(self) -> Base:
        node = self.writer.open({"source": "host"})
        first = self.writer.open({"source": "sentry", "sandbox": "box-1", "session": "monday"})
        second = self.writer.open({"source": "sentry", "sandbox": "box-2", "session": "monday"})
        for number in range(3):
            for stream in (node, first, second):
                stream.write_many([b"%s frame %d.%d" % (b"x" * number, number, at) for at in range(4)])
            self._seal()
        self._act({"act": "hold", "keys": [self._key("box-2")], "on": True, "case": "case 7", "by": "counsel"})
        self._act({"act": "epoch"})
        third = self.writer.open({"source": "sentry", "sandbox": "box-3", "session": "tuesday"})
        for number in range(3):
            for stream in (first, second, third):
                stream.write_many([b"later frame %d.%d" % (number, at) for at in range(3)])
            self._seal()
        first.close("ended")
        self._seal()
        self._token()
        self._die_and_return()
        self._act({"act": "erase", "keys": [self._key("box-1")], "reason": "a request", "by": "officer"})
        self._act({"act": "retain", "before": self._begin_of(7), "reason": "thirty days", "by": "timer"})
        self._act({"act": "epoch"})
        self._heartbeats()
        third.write_many([b"in the last epoch %d" % at for at in range(5)])
        self._seal()
        self._act({"act": "hold", "keys": [self._key("box-2")], "on": False, "case": "case 7", "by": "counsel"})
        self._act({"act": "epoch"})
        self._token()
        for number in range(2):
            for stream in (node, second, third):
                stream.write_many([b"newest frame %d.%d" % (number, at) for at in range(2)])
            self._seal()
        self.writer.close()
        with self.writer.path.open("ab") as file:
            file.write(b"torn by a dying machine")
        self.sealer.stop()
        self.base.keep()
        self._cosign()
        return self.base

    def _cosign(self) -> None:
        """The newest checkpoint, cosigned by all witnesses, as `sandtrail notary` leaves it."""
        note = self.base.heads[max(self.base.heads)]
        for at, name in enumerate(WITNESSES):
            cosigner = Ed25519Cosigner(f"witness.example/{name}", bytes([at + 1]) * 32)
            self.base.witnesses[name] = cosigner
            note += cosigner.line(parse_note(note).text, WITNESSED + at)
        publish(Layout(self.home).witnessed / "checkpoint", note)

    def _seal(self) -> None:
        step_until_idle(self.sealer)
        self.sealer.step()
        self.base.keep()

    def _act(self, act: dict[str, object]) -> None:
        carry_out(self.sealer, act)
        self.base.keep()

    def _key(self, sandbox: str) -> bytes:
        return next(key.id for key in self.sealer.keys.all() if key.sandbox == sandbox)

    def _begin_of(self, segment: int) -> int:
        """When its first frame was received."""
        manifests = (entry.map for entry in self.sealer.reader.entries() if entry.kind == "segment")
        return next(int(fields["first"][0]) for fields in manifests if fields["segment"] == segment)

    def _token(self) -> None:
        if self.stamp is not None:
            note = Layout(self.home).checkpoint.read_bytes()
            token = {"size": max(self.base.heads), "checkpoint": note, "token": self.stamp(note)}
            self._act({"act": "time", "authority": "https://tsa.example", **token})

    def _die_and_return(self) -> None:
        """The recorder ends without a word; its successor signs the gap."""
        self.sealer.leave()
        self.sealer = Sealer(self.home, run=f"{self.seed:015x}2", signer=load_signer(self.home))
        self.base.keep()

    def _heartbeats(self) -> None:
        """So many that the log fills a tile."""
        sealer_module.HEARTBEAT_EVERY, usual = 0.0, sealer_module.HEARTBEAT_EVERY
        sealer_module.CHECKPOINT_EVERY = sealer_module.CHECKPOINT_URGENT = 3600.0
        for _ in range(HEARTBEATS):
            self.sealer.step()
        sealer_module.HEARTBEAT_EVERY = usual
        sealer_module.CHECKPOINT_EVERY = sealer_module.CHECKPOINT_URGENT = 0.0
