"""Whether a store still is what was signed.

The procedure, by its numbers (code, documentation and report share them):

 1. Find the key: given, remembered, or beside the log (then the report says that it was not pinned).
 2. The checkpoint is well-formed and signed by that key.
 3. Against a remembered head: the log has not shrunk, and its first entries still lead to the remembered root.
 4. Every tile and entry bundle is exactly what the entries make it, and they lead to the signed root.
 5. Nothing lies in the log's folders that the log does not account for.
 6. Every entry is a well-formed entry, and segments are numbered without holes.
 7. Every segment's blob exists and is the one in its manifest; its frames lead to the inner root and the counts.
 8. Every stream's frames are numbered without holes from its first to its last.
 9. What is not sealed yet (spool, a blob ahead of the log) is counted.

A finding says what, where, and which evidence can't be trusted because of it; all other evidence still can.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from sandtrail.errors import DamagedError, NotFoundError, SandtrailError, StoreError, UsageError
from sandtrail.store.heads import head_file, heads_folder, read_head, remember_head
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout, is_temporary
from sandtrail.store.log import read_checkpoint
from sandtrail.store.manifest import Entry, decode_entry
from sandtrail.store.merkle import tree_root
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.position import spools
from sandtrail.store.report import Finding, Report
from sandtrail.store.segments import open_segment
from sandtrail.store.verify_log import LogFiles

__all__ = ["Finding", "Report", "heads_folder", "remember_head", "verify"]

_LIVE_TRIES = 50


def verify(
    home: Path, *, key: str | None = None, head: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Run the whole procedure over the store under `home` and report; changes nothing.

    `key`: the vkey to trust. `head`: a remembered head; by default the one that the last good run of this user kept, if
    any. `progress` is called with (segments done, segments). Raises NotFoundError or UsageError when it cannot even
    begin (no store, no such head, malformed key).
    """
    layout = Layout(home)
    if not layout.log.is_dir():
        raise NotFoundError(f"there is no store under {home}; name another with --home")
    remembered = read_head(head or head_file(home))
    if head is not None and remembered is None:
        raise UsageError(f"there is no remembered head at {head}")
    if remembered is None and key is None and not (layout.vkey.exists() or any(layout.log.glob("[!l]*"))):
        raise NotFoundError(f"nothing has been signed under {home} yet")
    for _ in range(_LIVE_TRIES):
        before = read_checkpoint(layout.log)
        report, files = _log(home, layout, key, remembered, before)
        # A recorder that is running replaces partial tiles as it signs: look again at one and the same state.
        if not report.findings or read_checkpoint(layout.log) == before:
            break
    if files is not None:
        entries = _entries(report, files.entries)
        _segments(report, home, entries, progress)
        _kept(report, layout, entries)
        if None not in files.entries:
            _others(report, layout, entries)
        _unsealed(report, home, entries)
    return report


def _log(
    home: Path, layout: Layout, key: str | None, remembered: tuple[Verifier, Checkpoint] | None, note: bytes | None
) -> tuple[Report, LogFiles | None]:
    """Steps 1 to 4, and 5 for the log's own folder."""
    report = Report(str(home), note=note or b"")
    verifier = _key(report, home, key, remembered)
    checkpoint = _checkpoint(report, layout, note, verifier) if verifier else None
    if checkpoint is None:
        return report, None
    files = LogFiles(layout.log, checkpoint)
    if remembered is not None:
        _against_head(report, remembered[1], checkpoint, files.leaves)
    files.check(report)
    return report, files


def _key(
    report: Report, home: Path, key: str | None, remembered: tuple[Verifier, Checkpoint] | None
) -> Verifier | None:
    """Step 1."""
    beside: Verifier | None = None
    try:
        beside = load_verifier(home)
    except SandtrailError as error:
        report.find(1, "key damaged", Layout(home).vkey, f"the log's own public key cannot be read: {error}")
    if key is not None:
        report.key_from, trusted = "given", Verifier.parse(key)
    elif remembered is not None:
        report.key_from, trusted = "remembered", remembered[0]
    elif beside is not None:
        report.key_from, trusted = "beside the log, not pinned", beside
    else:
        return None
    if beside is not None and beside != trusted:
        report.find(1, "key replaced", Layout(home).vkey, "the key beside the log is not the trusted one")
    report.key = trusted.vkey
    return trusted


def _checkpoint(report: Report, layout: Layout, note: bytes | None, verifier: Verifier) -> Checkpoint | None:
    """Step 2."""
    try:
        if note is None:
            raise DamagedError("it is missing")
        checkpoint = open_checkpoint(note, verifier)
    except DamagedError as error:
        report.find(2, "checkpoint not signed", layout.checkpoint, f"nothing in this log can be trusted: {error}")
        return None
    report.origin, report.size, report.root = checkpoint.origin, checkpoint.size, checkpoint.root.hex()
    return checkpoint


def _against_head(report: Report, old: Checkpoint, new: Checkpoint, leaves: list[bytes] | None) -> None:
    """Step 3."""
    report.head = f"{old.size} entries"
    if old.origin != new.origin:
        report.find(3, "another log", old.origin, f"the remembered head is of {old.origin}, this log is {new.origin}")
    elif old.size > new.size:
        lost = f"entries {new.size} to {old.size - 1} were signed once and are gone"
        report.find(3, "rolled back", f"log entry {new.size}", lost)
    elif leaves is not None and tree_root(leaves[: old.size]) != old.root:
        report.find(3, "history rewritten", f"the first {old.size} entries", "they are not the ones signed earlier")


def _entries(report: Report, raw: list[bytes | None]) -> list[Entry]:
    """Step 6."""
    entries: list[Entry] = []
    expected: int | None = 0
    for index, data in enumerate(raw):
        if data is None:  # reported in step 4; what it was is not known
            expected = None
            continue
        try:
            entry = decode_entry(index, data)
        except DamagedError as error:
            report.find(6, "entry malformed", f"log entry {index}", str(error))
            expected = None
            continue
        entries.append(entry)
        report.gaps += entry.kind == "gap"
        if entry.kind == "segment":
            number = entry.map.get("segment")
            if not isinstance(number, int) or (expected is not None and number != expected):
                what = f"segment {number} where {'another' if expected is None else expected} belongs"
                report.find(6, "segments out of order", f"log entry {index}", what)
            expected = number + 1 if isinstance(number, int) else None
    return entries


def _segments(report: Report, home: Path, entries: list[Entry], progress: Callable[[int, int], None] | None) -> None:
    """Steps 7 and 8."""
    manifests = [entry.map for entry in entries if entry.kind == "segment"]
    next_seq: dict[str, int] = {}
    for done, manifest in enumerate(manifests):
        place = f"segment {manifest.get('segment')}"
        try:
            _holes(report, place, manifest["streams"], next_seq)
            _segment(report, home, manifest)
        except (StoreError, LookupError, AttributeError, TypeError, ValueError) as error:
            # A manifest of any shape can be signed by whoever replaces the key as well.
            frames = manifest.get("frames")
            report.find(7, "segment damaged", place, f"its {frames} frames cannot be trusted: {error}")
        report.segments += 1
        if progress is not None:
            progress(done + 1, len(manifests))


def _holes(report: Report, place: str, streams: dict[str, list[int]], next_seq: dict[str, int]) -> None:
    for stream, (first, count, _) in streams.items():
        if first != next_seq.get(stream, 0):
            hole = f"stream {stream} goes from frame {next_seq.get(stream, 0)} to {first}"
            report.find(8, "frames missing", place, hole)
        next_seq[stream] = first + count


def _segment(report: Report, home: Path, manifest: dict[str, Any]) -> None:
    streams: dict[str, list[int]] = {}
    segment = open_segment(home, manifest)
    leaves = segment.leaves()
    for record in segment.records:
        count = streams.setdefault(f"{record.stream:016x}", [record.seq, 0, 0])
        for seq, payload in record.frames():
            if seq != count[0] + count[1]:
                raise DamagedError(f"stream {record.stream:016x} jumps to frame {seq}")
            count[1] += 1
            count[2] += len(payload)
    if tree_root(leaves) != manifest["root"] or len(leaves) != manifest["frames"] or streams != manifest["streams"]:
        raise DamagedError("its frames are not those that the manifest commits to")
    report.frames += len(leaves)


def _kept(report: Report, layout: Layout, entries: list[Entry]) -> None:
    """Step 7 for the bytes of a spool that were no record and were kept as they were."""
    for entry in entries:
        if entry.kind != "gap" or "sha256" not in entry.map:
            continue
        name = f"{entry.map.get('file')}.{entry.map.get('offset')}"
        try:
            if "/" in name or "\0" in name:
                raise DamagedError("the entry names no such file")
            if sha256((layout.damaged / name).read_bytes()).digest() != entry.map["sha256"]:
                raise DamagedError("they are not the ones that were signed")
        except (OSError, DamagedError) as error:
            what = f"the bytes that log entry {entry.index} speaks of cannot be trusted: {error}"
            report.find(7, "kept bytes damaged", layout.damaged / name, what)


def _others(report: Report, layout: Layout, entries: list[Entry]) -> None:
    """Step 5 for the segments' folder; every entry could be read."""
    numbers = {entry.map.get("segment") for entry in entries if entry.kind == "segment"}
    known = {layout.segment(number) for number in numbers if isinstance(number, int)}
    files = {path for path in layout.segments.rglob("*") if not path.is_dir()} - known
    # A blob is written before its entry is signed: a recorder that is killed leaves those that come next.
    number = len(known)
    while (ahead := layout.segment(number)).exists():
        files.discard(ahead)
        report.unsigned_files += 1
        number += 1
    for path in sorted(files):
        if is_temporary(path):
            report.unsigned_files += 1
        else:
            report.find(5, "file not accounted for", path, "no signed entry names this segment")


def _unsealed(report: Report, home: Path, entries: list[Entry]) -> None:
    """Step 9."""
    done: dict[str, int] = next((entry.map["spool"] for entry in reversed(entries) if "spool" in entry.map), {})
    for path in spools(home):
        try:
            report.unsealed_bytes += max(0, path.stat().st_size - done.get(path.name, 0))
        except (FileNotFoundError, AttributeError, TypeError):
            # Retired while we looked, or a position that is none in an entry that step 1 or 2 has spoken about.
            continue
