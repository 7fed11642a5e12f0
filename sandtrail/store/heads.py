"""Remembered heads: the keys and the checkpoint that a user last found good, kept outside of the store.

Whoever cuts a log back to an older state that it had itself signed leaves no trace in it; only a head that is kept
elsewhere shows it.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from sandtrail.errors import DamagedError, NotFoundError, UsageError
from sandtrail.store.keys import load_pins
from sandtrail.store.layout import Layout, publish
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint

__all__ = ["Head", "head_file", "heads_folder", "read_head", "remember_head"]


class Head(NamedTuple):
    """What is remembered of a log, and where: its identity, its first epoch's key if one had begun, its signed head."""

    identity: Verifier
    epoch: Verifier | None
    checkpoint: Checkpoint
    path: Path


def heads_folder() -> Path:
    """Where this user's remembered heads are: outside of any store, so that whoever rolls a store back misses them."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "sandtrail" / "heads"


def head_file(home: Path) -> Path:
    """Where the head of the store under `home` is kept."""
    return heads_folder() / f"{sha256(os.fsencode(home.resolve())).hexdigest()[:32]}.head"


def remember_head(home: Path, note: bytes | None = None) -> Path:
    """Keep the store's keys and its checkpoint for the next `verify` to compare with; returns where.

    `note`: the checkpoint that was found good (`Report.note`); by default the current one, which a recorder may have
    replaced since. Raises as `load_pins` and `open_checkpoint`. Durable when it returns.
    """
    identity, epoch = load_pins(home)
    note = read_checkpoint(Layout(home).log) if note is None else note
    if note is None:
        raise NotFoundError(f"the log under {home} has no checkpoint yet")
    checkpoint = open_checkpoint(note, identity)
    path = head_file(home)
    old = read_head(path)
    if old is None or old.checkpoint.size <= checkpoint.size:
        # A recorder that is killed may leave the key of an epoch that no entry has begun yet.
        pins = [identity, epoch] if epoch and checkpoint.size else [identity]
        publish(path, "\n".join(key.vkey for key in pins).encode() + b"\n\n" + note)
    return path


def read_head(path: Path) -> Head | None:
    """A remembered head. Raises UsageError when the file is there but is not one."""
    try:
        keys, _, note = path.read_bytes().partition(b"\n\n")
    except FileNotFoundError:
        return None
    try:
        identity, *epochs = map(Verifier.parse, keys.decode().split("\n")[:2])
        return Head(identity, epochs[0] if epochs else None, open_checkpoint(note, identity), path)
    except (DamagedError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a remembered head: {error}") from None
