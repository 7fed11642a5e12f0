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

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandtrail.errors import DamagedError, NotFoundError, SandtrailError, StoreError, UsageError
from sandtrail.store.frames import frame_leaf
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.manifest import Entry, decode_entry
from sandtrail.store.merkle import leaf_hash, tree_root
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.position import spools
from sandtrail.store.segments import read_records, stored_segments
from sandtrail.store.tiles import WIDTH, bundle_path, decode_bundle, partial_widths, tile_path

__all__ = ["Finding", "Report", "heads_folder", "remember_head", "verify"]

_EXPECTED = {"checkpoint", "lock"}
_LIVE_TRIES = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold."""

    step: int
    type: str
    place: str
    consequence: str


@dataclass(slots=True)
class Report:
    """What `verify` found. `ok` is the verdict over everything that was checked."""

    home: str
    origin: str = ""
    size: int = 0
    root: str = ""
    key: str = ""
    key_from: str = ""
    head: str = ""
    segments: int = 0
    frames: int = 0
    gaps: int = 0
    unsealed_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for `--json`."""
        return {"ok": self.ok, **asdict(self)}


def heads_folder() -> Path:
    """Where this user's remembered heads are: outside of any store, so that whoever rolls a store back misses them."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "sandtrail" / "heads"


def _head_file(home: Path) -> Path:
    return heads_folder() / f"{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:32]}.head"


def remember_head(home: Path) -> Path:
    """Keep the store's current key and checkpoint for the next `verify` to compare with. Raises as `load_verifier`."""
    verifier = load_verifier(home)
    note = read_checkpoint(Layout(home).log)
    if note is None:
        raise NotFoundError(f"the log under {home} has no checkpoint yet")
    checkpoint = open_checkpoint(note, verifier)
    path = _head_file(home)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    old = _read_head(path)
    if old is None or old[1].size <= checkpoint.size:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(verifier.vkey.encode() + b"\n\n" + note)
        temporary.replace(path)
    return path


def _read_head(path: Path) -> tuple[Verifier, Checkpoint] | None:
    """A remembered head. Raises UsageError when the file is there but is not one."""
    try:
        key, _, note = path.read_bytes().partition(b"\n\n")
    except FileNotFoundError:
        return None
    try:
        verifier = Verifier.parse(key.decode())
        return verifier, open_checkpoint(note, verifier)
    except (DamagedError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a remembered head: {error}") from None


def verify(
    home: Path, *, key: str | None = None, head: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Run the whole procedure over the store under `home` and report; changes nothing.

    `key`: the vkey to trust. `head`: a remembered head; by default the one that the last good run of this user kept, if
    any. Raises NotFoundError or UsageError when it cannot even begin (no store, no such head, malformed key).
    """
    layout = Layout(home)
    if not layout.log.is_dir():
        raise NotFoundError(f"there is no store under {home}; name another with --home")
    remembered = _read_head(head or _head_file(home))
    if head is not None and remembered is None:
        raise UsageError(f"there is no remembered head at {head}")
    for _ in range(_LIVE_TRIES):
        before = read_checkpoint(layout.log)
        report, bundles = _log(home, layout, key, remembered, before)
        # A recorder that is running replaces partial tiles as it signs: look again at one and the same state.
        if not report.findings or read_checkpoint(layout.log) == before:
            break
    if bundles is None:
        return report
    entries = _entries(report, [entry for bundle in bundles for entry in bundle])
    _segments(report, home, entries, progress)
    _unsealed(report, home, entries)
    return report


def _log(
    home: Path, layout: Layout, key: str | None, remembered: tuple[Verifier, Checkpoint] | None, note: bytes | None
) -> tuple[Report, list[list[bytes]] | None]:
    """Steps 1 to 5."""
    report = Report(str(home))
    verifier = _key(report, home, key, remembered)
    checkpoint = _checkpoint(report, layout, note, verifier) if verifier else None
    if checkpoint is None:
        return report, None
    bundles = _bundles(report, layout, checkpoint)
    leaves = [leaf_hash(entry) for bundle in bundles for entry in bundle]
    if remembered is not None:
        _against_head(report, remembered[1], checkpoint, leaves)
    _tiles(report, layout, checkpoint, bundles, leaves)
    return report, bundles


def _find(report: Report, step: int, kind: str, place: object, consequence: str) -> None:
    report.findings.append(Finding(step, kind, str(place), consequence))


def _key(
    report: Report, home: Path, key: str | None, remembered: tuple[Verifier, Checkpoint] | None
) -> Verifier | None:
    """Step 1."""
    beside: Verifier | None = None
    try:
        beside = load_verifier(home)
    except SandtrailError as error:
        _find(report, 1, "key damaged", Layout(home).vkey, f"the log's own public key cannot be read: {error}")
    if key is not None:
        report.key_from, trusted = "given", Verifier.parse(key)
    elif remembered is not None:
        report.key_from, trusted = "remembered", remembered[0]
    elif beside is not None:
        report.key_from, trusted = "beside the log, not pinned", beside
    else:
        return None
    if beside is not None and beside != trusted:
        _find(report, 1, "key replaced", Layout(home).vkey, "the key beside the log is not the trusted one")
    report.key = trusted.vkey
    return trusted


def _checkpoint(report: Report, layout: Layout, note: bytes | None, verifier: Verifier) -> Checkpoint | None:
    """Step 2."""
    try:
        if note is None:
            raise DamagedError("it is missing")
        checkpoint = open_checkpoint(note, verifier)
    except DamagedError as error:
        _find(report, 2, "checkpoint not signed", layout.checkpoint, f"nothing in this log can be trusted: {error}")
        return None
    report.origin, report.size, report.root = checkpoint.origin, checkpoint.size, checkpoint.root.hex()
    return checkpoint


def _against_head(report: Report, old: Checkpoint, new: Checkpoint, leaves: list[bytes]) -> None:
    """Step 3."""
    report.head = f"{old.size} entries"
    if old.origin != new.origin:
        _find(report, 3, "another log", old.origin, f"the remembered head is of {old.origin}, this log is {new.origin}")
    elif old.size > new.size:
        lost = f"entries {new.size} to {old.size - 1} were signed once and are gone"
        _find(report, 3, "rolled back", f"log entry {new.size}", lost)
    elif len(leaves) >= old.size and tree_root(leaves[: old.size]) != old.root:
        _find(report, 3, "history rewritten", f"the first {old.size} entries", "they are not the ones signed earlier")


def _bundles(report: Report, layout: Layout, checkpoint: Checkpoint) -> list[list[bytes]]:
    """Read every entry bundle (part of step 4)."""
    bundles: list[list[bytes]] = []
    for number in range(-(-checkpoint.size // WIDTH)):
        width = min(WIDTH, checkpoint.size - number * WIDTH)
        path = bundle_path(layout.log, number, width)
        first = number * WIDTH
        try:
            entries = decode_bundle(path.read_bytes())
            if len(entries) != width:
                raise DamagedError(f"it holds {len(entries)} entries, not {width}")
        except (OSError, DamagedError) as error:
            what = f"log entries {first} to {first + width - 1} cannot be read: {error}"
            _find(report, 4, "entry bundle damaged", path, what)
            break
        bundles.append(entries)
    return bundles


def _tiles(
    report: Report, layout: Layout, checkpoint: Checkpoint, bundles: list[list[bytes]], leaves: list[bytes]
) -> None:
    """Steps 4 and 5."""
    known = {layout.log / name for name in _EXPECTED}
    known |= {
        bundle_path(layout.log, n, min(WIDTH, checkpoint.size - n * WIDTH)) for n in range(-(-checkpoint.size // WIDTH))
    }
    if len(leaves) == checkpoint.size:
        if tree_root(leaves) != checkpoint.root:
            _root_mismatch(report, layout, bundles)
        level, hashes = 0, leaves
        while hashes:
            for number in range(-(-len(hashes) // WIDTH)):
                tile = hashes[number * WIDTH : (number + 1) * WIDTH]
                path = tile_path(layout.log, level, number, len(tile))
                known.add(path)
                _tile(report, path, b"".join(tile))
            hashes = [tree_root(hashes[i : i + WIDTH]) for i in range(0, len(hashes) // WIDTH * WIDTH, WIDTH)]
            level += 1
    else:
        known |= {tile_path(layout.log, *tile) for tile in partial_widths(checkpoint.size)}
    for path in sorted(p for p in layout.log.rglob("*") if not p.is_dir()):
        if path not in known and len(leaves) == checkpoint.size and not path.name.endswith(".tmp"):
            _find(report, 5, "file not accounted for", path, "it is no part of the signed log")


def _tile(report: Report, path: Path, expected: bytes) -> None:
    try:
        actual = path.read_bytes()
    except OSError as error:
        _find(report, 4, "tile missing", path, f"proofs that need it cannot be made: {error.strerror}")
        return
    if actual != expected:
        at = next(
            (i for i, (a, b) in enumerate(zip(actual, expected, strict=False)) if a != b),
            min(len(actual), len(expected)),
        )
        _find(
            report,
            4,
            "tile damaged",
            f"{path}, byte {at}",
            "proofs made from it do not hold; the entries themselves do",
        )


def _root_mismatch(report: Report, layout: Layout, bundles: list[list[bytes]]) -> None:
    """The entries do not lead to the signed root: name those that the level-0 tiles do not know either."""
    named = False
    for number, entries in enumerate(bundles):
        path = tile_path(layout.log, 0, number, len(entries))
        try:
            tile = path.read_bytes()
        except OSError:
            continue
        for offset, entry in enumerate(entries):
            if leaf_hash(entry) != tile[32 * offset : 32 * offset + 32]:
                index = number * WIDTH + offset
                _find(report, 4, "entry changed", f"log entry {index}", "what it says was not signed like this")
                named = True
    if not named:
        _find(
            report,
            4,
            "root mismatch",
            layout.log,
            "entries and tiles agree with each other, but not with what was signed",
        )


def _entries(report: Report, raw: list[bytes]) -> list[Entry]:
    """Step 6."""
    entries: list[Entry] = []
    expected = 0
    for index, data in enumerate(raw):
        try:
            entry = decode_entry(index, data)
        except DamagedError as error:
            _find(report, 6, "entry malformed", f"log entry {index}", str(error))
            continue
        entries.append(entry)
        report.gaps += entry.kind == "gap"
        if entry.kind == "segment":
            number = entry.map.get("segment")
            if number != expected:
                _find(
                    report,
                    6,
                    "segments out of order",
                    f"log entry {index}",
                    f"segment {number} where {expected} belongs",
                )
            expected = number + 1 if isinstance(number, int) else expected + 1
    return entries


def _segments(report: Report, home: Path, entries: list[Entry], progress: Callable[[int, int], None] | None) -> None:
    """Steps 7 and 8."""
    manifests = [entry.map for entry in entries if entry.kind == "segment"]
    next_seq: dict[str, int] = {}
    for done, manifest in enumerate(manifests):
        place = f"segment {manifest.get('segment')}"
        try:
            _segment(report, home, manifest)
        except (StoreError, KeyError, TypeError, ValueError) as error:
            frames = manifest.get("frames")
            _find(report, 7, "segment damaged", place, f"its {frames} frames cannot be trusted: {error}")
        for stream, (first, count, _) in manifest.get("streams", {}).items():
            if first != next_seq.get(stream, 0):
                hole = f"stream {stream} goes from frame {next_seq.get(stream, 0)} to {first}"
                _find(report, 8, "frames missing", place, hole)
            next_seq[stream] = first + count
        report.segments += 1
        if progress is not None:
            progress(done + 1, len(manifests))


def _segment(report: Report, home: Path, manifest: dict[str, Any]) -> None:
    leaves: list[bytes] = []
    streams: dict[str, list[int]] = {}
    for record in read_records(home, manifest):
        count = streams.setdefault(f"{record.stream:016x}", [record.seq, 0, 0])
        for seq, payload in record.frames():
            if seq != count[0] + count[1]:
                raise DamagedError(f"stream {record.stream:016x} jumps to frame {seq}")
            count[1] += 1
            count[2] += len(payload)
            leaves.append(frame_leaf(record.stream, seq, record.kind, record.when, payload))
    if tree_root(leaves) != manifest["root"] or len(leaves) != manifest["frames"] or streams != manifest["streams"]:
        raise DamagedError("its frames are not those that the manifest commits to")
    report.frames += len(leaves)


def _unsealed(report: Report, home: Path, entries: list[Entry]) -> None:
    """Step 9, and blobs that no entry names."""
    segments = [entry.map for entry in entries if entry.kind == "segment"]
    named = {manifest.get("segment") for manifest in segments}
    for number, path in sorted(stored_segments(home).items()):
        # The blob of the next segment is written before its entry is signed.
        if number not in named and number != len(segments):
            _find(report, 5, "file not accounted for", path, "no signed entry names this segment")
    done: dict[str, int] = segments[-1].get("spool", {}) if segments else {}
    for path in spools(home):
        try:
            report.unsealed_bytes += max(0, path.stat().st_size - done.get(path.name, 0))
        except FileNotFoundError:
            continue
