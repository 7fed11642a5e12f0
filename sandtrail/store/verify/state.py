"""Where an interrupted verification goes on: which segments it had found good.

The state lies outside of the store, beside the heads that this user remembers. What it is trusted for: that this user's
earlier run, with the same key and in the same mode, has checked the segments of an entry bundle while the bundle's
entries were exactly those (by their Merkle root, which the new run has held against the signature before it asks). It
says nothing about what has become of the blobs since; the report names the time. It is removed when a run has come to
its end, so that it never spares the next one anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from sandtrail.store.heads import heads_folder
from sandtrail.store.merkle import tree_root
from sandtrail.store.verify.report import Report
from sandtrail.store.verify.segment import Outcome

__all__ = ["State"]

_MAX = 64 << 20


class _Bundle:
    """A bundle whose segments are being checked."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.segments = self.good = self.frames = 0
        self.closed = False


class State:
    """The state of one verification; with `keep` it is in a file while the verification lasts."""

    def __init__(self, home: Path, key: str, mode: str, *, keep: bool) -> None:
        name = sha256(os.fsencode(home.resolve())).hexdigest()[:32]
        self.keep = keep
        self.path = heads_folder().parent / "verify" / f"{name}.state"
        self._header = {"v": 1, "key": key, "mode": mode}
        self._begun = datetime.now(UTC).isoformat(timespec="seconds")
        self._known: dict[int, tuple[str, int, int]] = {}
        self._open: dict[int, _Bundle] = {}
        if keep:
            self._read()

    def _read(self) -> None:
        try:
            lines = self.path.read_bytes()[:_MAX].decode(errors="replace").split("\n")
            header = json.loads(lines[0])
            begun = str(header.pop("begun"))
            if header == self._header:
                for line in lines[1:-1]:  # the last one may have been cut short
                    first, root, segments, frames = line.split(" ")
                    self._known[int(first)] = root, int(segments), int(frames)
                self._begun = begun
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            self._known.clear()

    def __enter__(self) -> Self:
        if self.keep:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(fd, "w", encoding="utf-8")
            self._file.write(json.dumps({**self._header, "begun": self._begun}) + "\n")
            for first, known in self._known.items():
                self._write(first, *known)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.keep:
            self._file.close()
            if kind is None:
                self.path.unlink(missing_ok=True)

    def _write(self, first: int, root: str, segments: int, frames: int) -> None:
        self._file.write(f"{first} {root} {segments} {frames}\n")
        self._file.flush()

    def spares(self, report: Report, first: int, leaves: list[bytes]) -> bool:
        """Whether the segments of the bundle that begins with entry `first` were found good; says so in the report."""
        if not self.keep:
            return False
        root = tree_root(leaves).hex()
        known = self._known.get(first)
        if known is None or known[0] != root:
            self._open[first] = _Bundle(root)
            return False
        report.frames += known[2]
        report.spared += known[1]
        report.spared_since = self._begun
        return True

    def expect(self, first: int) -> None:
        """One more segment of this bundle is to be checked."""
        if first in self._open:
            self._open[first].segments += 1

    def close(self, first: int) -> None:
        """No more segments of this bundle come."""
        if first in self._open:
            self._open[first].closed = True
            self._settle(first)

    def done(self, first: int, outcomes: Iterable[Outcome]) -> None:
        """Segments of this bundle have been checked."""
        bundle = self._open.get(first)
        if bundle is None:
            return
        for outcome in outcomes:
            bundle.good += not outcome.kind
            bundle.frames += outcome.frames
        self._settle(first)

    def _settle(self, first: int) -> None:
        bundle = self._open[first]
        if bundle.closed and bundle.good == bundle.segments:
            del self._open[first]
            self._write(first, bundle.root, bundle.segments, bundle.frames)
