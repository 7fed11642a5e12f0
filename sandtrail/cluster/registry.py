"""The nodes of a cluster as the entries of its log tell of them, and what an entry may say after those before it.

The one who writes the log and the one who verifies it ask the same rules:

- A node is registered under an origin once; its keys may change only after it has been retired. Its log may not: an
  origin stands for one log for ever, and a rebuilt node gets another name.
- A checkpoint is signed by the registered identity, is larger than the last one, and its proof shows that the log of
  the last one is the beginning of it. A head that is sent again is no sign of life, since whoever has seen it can send
  it, so it is not an entry.
- A silence is that of a registered node, counted from its last sign of life, and told once.
- An equivocation holds two notes of one size with two roots, both signed by the node: nobody else can have made it.
- What was refused was signed by the node too, but that it contradicts anything is not proven: the proof that came with
  it did not hold, which can be the sender's fault.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field

from sandtrail.cluster.entries import ClusterEntry
from sandtrail.errors import DamagedError, UsageError
from sandtrail.store.epochs import epoch_name
from sandtrail.store.frames import Stamp
from sandtrail.store.merkle import EMPTY, is_consistent
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint, parse_checkpoint, parse_note

__all__ = ["Node", "Registry"]


@dataclass(slots=True)
class Node:
    """What a cluster's log says about one node."""

    identity: Verifier
    first_epoch: Verifier | None
    # When it last gave a sign of life (its newest logged checkpoint, or its registration), and in which boot of ours.
    heard: Stamp
    boot: str
    retired: bool = False
    head: Checkpoint | None = None
    silent: bool = False
    # Entries of the log by their indexes; an equivocation by its size.
    silences: list[int] = field(default_factory=list)
    equivocations: dict[int, int] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    # A refusal since the newest checkpoint.
    in_doubt: bool = False
    # Every logged checkpoint: its size (rising), and the index of its entry.
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    entries: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def origin(self) -> str:
        """The name of its log."""
        return self.identity.name

    @property
    def size(self) -> int:
        """The size of its log by the newest logged checkpoint."""
        return self.head.size if self.head else 0

    @property
    def root(self) -> bytes:
        """The root by the newest logged checkpoint."""
        return self.head.root if self.head else EMPTY

    def entry_of(self, size: int) -> int | None:
        """The index of the entry with the checkpoint of this size, if one was logged."""
        at = bisect_left(self.sizes, size)
        return self.entries[at] if at < len(self.sizes) and self.sizes[at] == size else None


class Registry:
    """The state of a cluster after some entries of its log. Nothing here is checked twice: `apply` trusts."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def why_not(self, entry: ClusterEntry) -> str:
        """Why the log may not have this entry next, or "" if it may."""
        try:
            if entry.kind == "node":
                return self._why_no_node(entry)
            node = self.nodes.get(entry.map["origin"])
            if node is None or node.retired:
                return f"{entry.map['origin']} is not registered"
            rules = {
                "checkpoint": self._why_no_checkpoint,
                "silence": self._why_no_silence,
                "equivocation": self._why_no_equivocation,
                "refused": self._why_no_refusal,
            }
            return rules[entry.kind](entry, node)
        except (DamagedError, UsageError) as error:
            return str(error)

    def _why_no_node(self, entry: ClusterEntry) -> str:
        origin, identity, first_epoch = _keys(entry)
        if identity.name != origin or (first_epoch is not None and first_epoch.name != epoch_name(origin)):
            return f"the keys of {origin} carry another name"
        node = self.nodes.get(origin)
        if entry.map["retired"]:
            if node is None or node.retired:
                return f"{origin} is not registered"
            return "" if (node.identity, node.first_epoch) == (identity, first_epoch) else "it has other keys"
        return "" if node is None or node.retired else f"{origin} is registered already; retire it first"

    @staticmethod
    def _why_no_checkpoint(entry: ClusterEntry, node: Node) -> str:
        new = open_checkpoint(entry.map["note"], node.identity)
        if entry.map["old"] != node.size:
            return f"it goes on from {entry.map['old']} entries, the last one had {node.size}"
        if new.size <= node.size:
            return f"it has {new.size} entries, the last one had {node.size}"
        if not is_consistent(node.size, node.root, new.size, new.root, entry.map["proof"]):
            return "its proof does not show that the log before it is the beginning of it"
        return ""

    @staticmethod
    def _why_no_silence(entry: ClusterEntry, node: Node) -> str:
        if node.silent:
            return f"the silence of {node.origin} was told already"
        if entry.map["since"] != list(node.heard) or entry.map["size"] != node.size:
            return f"it is not counted from the last sign of life of {node.origin}"
        return ""

    @staticmethod
    def _why_no_equivocation(entry: ClusterEntry, node: Node) -> str:
        held, sent = (open_checkpoint(entry.map[key], node.identity) for key in ("held", "note"))
        if sent.size in node.equivocations:
            return f"an equivocation of {node.origin} at {sent.size} entries was told already"
        return "" if held.size == sent.size and held.root != sent.root else "its notes do not contradict each other"

    @staticmethod
    def _why_no_refusal(entry: ClusterEntry, node: Node) -> str:
        sent = open_checkpoint(entry.map["note"], node.identity)
        if node.in_doubt:
            return f"a refusal of {node.origin} was told already"
        good = is_consistent(node.size, node.root, sent.size, sent.root, entry.map["proof"])
        if good or entry.map["old"] != node.size or not 0 < node.size < sent.size:
            return "there was no reason to refuse it"
        return ""

    def apply(self, entry: ClusterEntry) -> None:
        """Take in an entry that the log may have next."""
        fields = entry.map
        if entry.kind == "node":
            origin, identity, first_epoch = _keys(entry)
            node = self.nodes.get(origin)
            if node is None:
                self.nodes[origin] = Node(identity, first_epoch, entry.at, fields["boot"])
            else:
                node.identity, node.first_epoch, node.retired = identity, first_epoch, fields["retired"]
                node.heard, node.boot, node.silent = entry.at, fields["boot"], False
            return
        node = self.nodes[fields["origin"]]
        if entry.kind == "checkpoint":
            node.head = _head(fields["note"])
            node.heard, node.boot = entry.at, fields["boot"]
            node.silent = node.in_doubt = False
            node.sizes.append(node.head.size)
            node.entries.append(entry.index)
        elif entry.kind == "silence":
            node.silent = True
            node.silences.append(entry.index)
        elif entry.kind == "equivocation":
            node.equivocations[_head(fields["note"]).size] = entry.index
        else:
            node.in_doubt = True
            node.refused.append(entry.index)


def _head(note: bytes) -> Checkpoint:
    return parse_checkpoint(parse_note(note).text)


def _keys(entry: ClusterEntry) -> tuple[str, Verifier, Verifier | None]:
    first_epoch = entry.map["first_epoch"]
    identity = Verifier.parse(entry.map["identity"])
    return entry.map["origin"], identity, Verifier.parse(first_epoch) if first_epoch is not None else None
