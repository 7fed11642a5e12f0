"""A witness: cosigns heads of the logs that it knows, each only when it grew out of the one before it.

State comes first: a head is on the disk before anyone hears of its cosignature, and between the check of what was
held and that moment nobody else of the same log gets in. What a known log has signed and should not have is kept as
evidence.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from sandtrail.errors import DamagedError, StoreError, UsageError
from sandtrail.store.cosignature import MLDSACosigner
from sandtrail.store.note import VerifierKey, signature_line
from sandtrail.witness.folder import WitnessFolder
from sandtrail.witness.protocol import Refused, Reply, Request, authenticate, judge, parse_request

__all__ = ["WitnessServer"]

_log = structlog.get_logger(__name__)
_ORIGIN_HASH = re.compile("[0-9a-f]{64}")


class WitnessServer:
    """Answers requests; the methods may be called from several threads at once.

    `logs` are known beside those of the folder's file, which is read again when it has changed. Raises StoreError when
    the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "",
        types: Sequence[str] = (),
        logs: Sequence[VerifierKey] = (),
        submit: str = "",
        monitor: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = WitnessFolder(folder)
        self._given = tuple(logs)
        self._prefixes = submit, monitor
        self._now = now
        self._known: tuple[tuple[int, int, int] | None, tuple[VerifierKey, ...]] = (None, ())
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        try:
            with ExitStack() as undo:
                undo.callback(os.close, self._folder.lock())
                self._cosigners = self._folder.cosigners(name, types)
                self._logs()
                # From here on the folder is ours until `close`, or the end of the process.
                self._release = undo.pop_all()
        except OSError as error:
            raise StoreError(f"the witness's folder {folder} cannot be used: {error}") from None

    def close(self) -> None:
        """Let another server have the folder. Not while requests are being answered."""
        self._release.close()

    @property
    def vkeys(self) -> list[str]:
        """The witness's public keys."""
        return [cosigner.verifier.vkey for cosigner in self._cosigners]

    def _logs(self) -> tuple[VerifierKey, ...]:
        try:
            found = (self._folder.folder / "logs").stat()
            changed = found.st_mtime_ns, found.st_ino, found.st_size
        except FileNotFoundError:
            changed = 0, 0, 0
        with self._guard:
            if changed != self._known[0]:
                try:
                    self._known = changed, tuple(map(self._fit, (*self._given, *self._folder.logs())))
                except UsageError as error:
                    if self._known[0] is None:
                        raise
                    # A mistake in the file must not make the witness forget the logs that it serves.
                    _log.error("the list of logs cannot be read; the one before stays", error=str(error))
                    self._known = changed, self._known[1]
            return self._known[1]

    def _fit(self, key: VerifierKey) -> VerifierKey:
        if len(key.name.encode()) > 255 and any(isinstance(one, MLDSACosigner) for one in self._cosigners):
            raise UsageError(f"the name of the log {key.name[:40]}… is too long for ML-DSA-44: at most 255 bytes")
        return key

    def handle(self, method: str, path: str, body: bytes) -> Reply:
        """Answer one HTTP request."""
        submit, monitor = self._prefixes
        if path == f"{submit}/add-checkpoint":
            return self.add_checkpoint(body) if method == "POST" else Reply(405, b"POST only\n")
        head, _, tail = path.removeprefix(monitor).removeprefix("/").partition("/")
        if path.startswith(f"{monitor}/") and tail == "checkpoint" and _ORIGIN_HASH.fullmatch(head):
            return self.checkpoint(head) if method in ("GET", "HEAD") else Reply(405, b"GET only\n")
        return Reply(404, b"there is nothing here\n")

    def checkpoint(self, hashed: str) -> Reply:
        """The newest cosigned checkpoint of the log with this origin hash."""
        note = self._folder.head_note(hashed)
        return Reply(404, b"no checkpoint of this log was cosigned here\n") if note is None else Reply(200, note)

    def add_checkpoint(self, body: bytes) -> Reply:
        """Cosign a checkpoint, or say why not. The new head is durable when this returns a cosignature."""
        try:
            request = parse_request(body)
            # Before any lock: strangers must not be able to make a log wait.
            authenticate(request, self._logs())
        except Refused as refused:
            return refused.reply
        origin = request.checkpoint.origin
        with self._guard:
            lock = self._locks[origin]
        with lock:
            try:
                return self._advance(request)
            except DamagedError as error:
                _log.critical("the witness's record is damaged", origin=origin, error=str(error))
            except OSError as error:
                _log.critical("the witness's record cannot be written", origin=origin, error=str(error))
        return Reply(500, b"the witness's record is out of order\n")

    def _advance(self, request: Request) -> Reply:
        origin = request.checkpoint.origin
        held, note = self._folder.head(origin, self._cosigners)
        keys = self._logs()
        try:
            judge(request, keys, held)
        except Refused as refused:
            self._remember(refused, request, note)
            return refused.reply
        text = request.note.text
        signed = b"".join(signature_line(*line) for line in authenticate(request, keys))
        at = int(self._now())
        lines = b"".join(cosigner.line(text, at) for cosigner in self._cosigners)
        self._folder.keep_head(origin, text + b"\n" + signed + lines)
        return Reply(200, lines)

    def _remember(self, refused: Refused, request: Request, held: bytes) -> None:
        if refused.misconduct is None:
            return
        what = {"origin": request.checkpoint.origin, "size": request.checkpoint.size, "kind": refused.misconduct.value}
        try:
            path = self._folder.keep_evidence(refused.misconduct, request, held)
        except OSError as error:
            _log.critical("evidence against a log could not be kept", **what, error=str(error))
            return
        if path:
            _log.critical("a log has signed what it should not have", **what, evidence=str(path))
