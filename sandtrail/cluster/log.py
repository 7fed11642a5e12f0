"""The writer of a cluster's log: takes what nodes submit, answers as a witness does, notices who has fallen silent.

Any number of processes and threads may write to one log in turn: each takes a lock, reads what others have added since,
adds its own, and signs. What a call has answered is durable.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from sandtrail.cluster.entries import MAX_NOTE, decode_entry, encode_entry
from sandtrail.cluster.registry import Node, Registry
from sandtrail.errors import StoreError, UsageError
from sandtrail.store.cosignature import Cosigner
from sandtrail.store.frames import stamp
from sandtrail.store.keyfile import ensure_private
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout, present, publish
from sandtrail.store.log import Log, read_checkpoint
from sandtrail.store.manifest import boot_id
from sandtrail.store.note import Signer, Verifier, parse_checkpoint, parse_note, signed_by
from sandtrail.store.tiles import WIDTH, TileReader
from sandtrail.witness.folder import WitnessFolder
from sandtrail.witness.protocol import Misconduct, Refused, Request, authenticate, judge, parse_request

__all__ = ["DEFAULT_ORIGIN", "ClusterLog", "read_entries"]

DEFAULT_ORIGIN = "sandtrail.local/default"


def read_entries(log: Path, size: int, start: int = 0) -> Iterator[bytes]:
    """The raw entries of a log from `start` on. Raises StoreError or DamagedError where they can't be read."""
    reader = TileReader(log, size)
    for number in range(start // WIDTH, -(-size // WIDTH)):
        yield from reader.entries(number)[max(0, start - number * WIDTH) :]


class ClusterLog:
    """One cluster's log under a home of its own."""

    def __init__(self, home: Path, origin: str = "", silence: float = 300.0, pause: float = 0.0) -> None:
        """`origin` names a log that is new; `silence` is after how many seconds a node counts as silent, `pause` how
        many have to pass between two of its checkpoints, so that no node can fill our disk.

        Raises UsageError when the log has another name, StoreError or DamagedError as `Log` does.
        """
        self.home = home
        self.silence = silence
        self._pause = pause
        self.registry = Registry()
        self._seen = 0
        self._since = stamp()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            self._signer = Signer(*_load_key(home, origin))
            # Other keys than the log's own, since they make statements about other logs.
            self._cosigners = WitnessFolder(home / "witness").cosigners(f"{self.origin}/witness")
        with self._writing():
            pass

    @property
    def origin(self) -> str:
        """The log's name."""
        return self.verifier.name

    @property
    def verifier(self) -> Verifier:
        """The log's public key."""
        return self._signer.verifier

    @property
    def cosigners(self) -> list[Cosigner]:
        """What signs the answers to the nodes; name their public keys in the nodes' policies."""
        return self._cosigners

    def _cosign(self, text: bytes) -> bytes:
        return b"".join(cosigner.line(text) for cosigner in self._cosigners)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Log]:
        """Be the one writer, with everything taken in that the log says until now."""
        with self._locked():
            log = Log(self.home, self._signer)
            try:
                for data in read_entries(Layout(self.home).log, log.size, self._seen):
                    self.registry.apply(decode_entry(self._seen, data))
                    self._seen += 1
                yield log
            finally:
                log.close()

    def _append(self, log: Log, kind: str, **fields: Any) -> None:
        """Add an entry and sign for it. Raises UsageError when it may not come next."""
        data = encode_entry(kind, **fields)
        entry = decode_entry(log.size, data)
        reason = self.registry.why_not(entry)
        if reason:
            raise UsageError(reason)
        log.append(data)
        log.publish()
        self.registry.apply(entry)
        self._seen = log.size

    def refresh(self) -> None:
        """Take in what other processes have added."""
        note = read_checkpoint(Layout(self.home).log)
        if note is None or parse_checkpoint(parse_note(note).text).size != self._seen:
            with self._writing():
                pass

    def active(self) -> list[Node]:
        """The nodes that are registered and not retired."""
        return [node for node in list(self.registry.nodes.values()) if not node.retired]

    # -- the registry --------------------------------------------------------------------------------------------------

    def register(self, keys: Sequence[str]) -> Node:
        """Take in a node by its verifier keys: the log's identity and, if it has epochs, the first epoch's.

        These are the lines of the node's `keys/log.vkey`. Registering the same keys again changes nothing. Raises
        UsageError when the keys are none, or the origin is registered with others.
        """
        if not 1 <= len(keys) <= 2:
            raise UsageError("a node has one or two verifier keys: the lines of its keys/log.vkey")
        identity, *others = map(Verifier.parse, keys)
        first_epoch = others[0] if others else None
        with self._writing() as log:
            node = self.registry.nodes.get(identity.name)
            if node is None or node.retired or (node.identity, node.first_epoch) != (identity, first_epoch):
                self._append(log, "node", **_node(identity, first_epoch, retired=False))
            return self.registry.nodes[identity.name]

    def retire(self, origin: str) -> None:
        """Expect nothing more from a node; what it has signed stays. Raises UsageError when it is not registered."""
        with self._writing() as log:
            node = self.registry.nodes.get(origin)
            if node is None or node.retired:
                raise UsageError(f"{origin} is not registered")
            self._append(log, "node", **_node(node.identity, node.first_epoch, retired=True))

    # -- what nodes send -----------------------------------------------------------------------------------------------

    def submit(self, body: bytes) -> bytes:
        """Answer an `add-checkpoint` request (C2SP tlog-witness) with cosignature lines.

        The checkpoint is in the signed log when this returns. Raises Refused with what to answer instead; a note that
        contradicts an earlier one of the same node is in the log by then, as evidence.
        """
        request = parse_request(body)
        if len(request.raw) > MAX_NOTE:
            raise Refused(400, f"a checkpoint here has at most {MAX_NOTE} bytes")
        self.refresh()
        # Before the lock: strangers must not be able to make a node wait.
        authenticate(request, [node.identity for node in self.active()])
        with self._writing() as log:
            node = self.registry.nodes[request.checkpoint.origin]
            if node.retired:
                raise Refused(404, "this log is not known here")
            try:
                new = judge(request, [node.identity], node.head)
            except Refused as refused:
                self._keep_evidence(log, node, request, refused)
                raise
            if new.size > node.size:
                if node.head is not None and _since(node) < self._pause:
                    raise Refused(429, "this node was heard a moment ago; try again")
                self._append(log, "checkpoint", origin=node.origin, **_sent(request))
        return self._cosign(request.note.text)

    def _keep_evidence(self, log: Log, node: Node, request: Request, refused: Refused) -> None:
        if not signed_by(request.note, node.identity):
            return  # not the node's words, so they say nothing about it
        held = self._logged(node, request.checkpoint.size)
        with contextlib.suppress(UsageError):  # it was told already
            if held is not None and parse_checkpoint(parse_note(held).text).root != request.checkpoint.root:
                self._append(log, "equivocation", origin=node.origin, held=held, note=request.raw)
            elif refused.misconduct is Misconduct.UNPROVEN:
                self._append(log, "refused", origin=node.origin, **_sent(request))

    def _logged(self, node: Node, size: int) -> bytes | None:
        """The logged checkpoint of this size."""
        index = node.entry_of(size)
        if index is None:
            return None
        note: bytes = decode_entry(index, TileReader(Layout(self.home).log, self._seen).entry(index)).map["note"]
        return note

    def head_of(self, digest: str) -> bytes | None:
        """The newest checkpoint of the node whose origin has this SHA-256 (hex), with our cosignature on it."""
        for origin, node in list(self.registry.nodes.items()):
            if node.head is not None and sha256(origin.encode()).hexdigest() == digest:
                held = self._logged(node, node.size)
                return held + self._cosign(parse_note(held).text) if held else None
        return None

    # -- who sends nothing ---------------------------------------------------------------------------------------------

    def watch(self) -> list[str]:
        """Log the silence of every node that has sent nothing new for too long; returns their origins.

        Time before this object was made does not count: nobody could send anything then.
        """
        now = stamp()
        if now.boottime_ns - self._since.boottime_ns < self.silence * 1e9:
            return []
        self.refresh()
        if not any(self._is_silent(node) for node in self.active()):
            return []
        with self._writing() as log:
            found = [node for node in self.active() if self._is_silent(node)]
            for node in found:
                self._append(log, "silence", origin=node.origin, since=list(node.heard), size=node.size)
        return [node.origin for node in found]

    def _is_silent(self, node: Node) -> bool:
        return not node.silent and _since(node) >= self.silence


def _since(node: Node) -> float:
    """Seconds since the node was heard; by a clock that nobody sets, as long as this is the same boot of ours."""
    now = stamp()
    if node.boot == boot_id():
        return (now.boottime_ns - node.heard.boottime_ns) / 1e9
    return (now.realtime_ns - node.heard.realtime_ns) / 1e9


def _node(identity: Verifier, first_epoch: Verifier | None, *, retired: bool) -> dict[str, Any]:
    epoch = first_epoch.vkey if first_epoch else None
    return {"origin": identity.name, "identity": identity.vkey, "first_epoch": epoch, "retired": retired}


def _sent(request: Request) -> dict[str, Any]:
    return {"old": request.old, "proof": list(request.proof), "note": request.raw}


def _load_key(home: Path, origin: str) -> tuple[str, bytes]:
    """(name, private key) of the log; made the first time."""
    layout = Layout(home)
    path = layout.keys / "log.key"
    if not present(path) and present(layout.log):
        raise StoreError(f"the log under {home} has no key at {path}; restore it, or start a new home")
    name = load_verifier(home).name if present(layout.vkey) else origin or DEFAULT_ORIGIN
    if origin and origin != name:
        raise UsageError(f"the log under {home} is {name}, not {origin}")
    signer = Signer(name, key := ensure_private(path))
    if not present(layout.vkey):
        publish(layout.vkey, f"{signer.verifier.vkey}\n".encode(), mode=0o644)
    elif load_verifier(home) != signer.verifier:
        raise StoreError(f"the log under {home} was begun with another key: {load_verifier(home).vkey}")
    return name, key
