"""What real recordings take on disk: against their raw bytes, and against the same events as JSON lines.

Two workloads inside gVisor, recorded by `sandtrail record`: the storm of the storm bench, and varied.sh, the ordinary
work of an agent's session. What proofs need is a signed entry for each segment, whatever it holds: beside these two,
whose execs close segments early, stands a store whose segments are full.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import stores
from bench.recorder import leave
from bench.report import Figures, Outcome, Target, number
from bench.sandbox import compile_c
from sandtrail.errors import RuntimeFailedError
from sandtrail.replay.decode.decoder import Decoder
from sandtrail.replay.events import COLUMNS
from sandtrail.store.layout import Layout
from sandtrail.store.reader import LogReader, open_log

__all__ = ["run"]

_HERE = Path(__file__).parent
# Of a blob: magic, nonce, tag. All else in it is the frames themselves.
_AROUND_A_BLOB = 8 + 32 + 16
_EVIDENCE = ("segments", "log", "keys", "damaged")


def run(options: argparse.Namespace, folder: Path) -> Outcome:
    """Record each workload once, count."""
    storm = compile_c("storm", folder)
    (folder / "data").write_text("a line to read\n")
    mounts = {storm: "/storm", folder / "data": "/data", _HERE / "varied.sh": "/varied.sh"}
    commands = {
        "storm": ["/storm", str(options.reads), str(options.execs)],
        "varied": ["/bin/sh", "/varied.sh", str(options.files)],
    }
    recordings = {name: _record(options, mounts, command) for name, command in commands.items()}
    recordings["full"] = measure(stores.store(folder, options.frames or 1 << 20), events=False)
    return Outcome(_table(recordings), {"recordings": recordings}, _targets(recordings))


def _record(options: argparse.Namespace, mounts: dict[Path, str], command: list[str]) -> Figures:
    # A Unix socket's path is short.
    home = Path(tempfile.mkdtemp(prefix="st-size-", dir="/tmp"))
    environment = {**os.environ, "SANDTRAIL_HOME": str(home), "SANDTRAIL_RUN": str(home / "run")}
    words = [f"--mount={source}:{target}:ro" for source, target in mounts.items()]
    words += [f"--runsc={options.runsc}"] if options.runsc else []
    words += [f"--platform={options.platform}"] if options.platform else []
    words += [f"--profile={options.profile}", "--no-timeline", "--quiet", "--", *command]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sandtrail", "record", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        leave(home)
        if done.returncode:
            raise RuntimeFailedError(f"{command[0]} ended with status {done.returncode}: {done.stderr[-1000:]}")
        return measure(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(home: Path, *, events: bool = True) -> Figures:
    """Bytes of a store whose recorder has ended: as received, as kept, as JSON lines."""
    log = open_log(home)
    segments = [entry.map for entry in log.entries() if entry.kind == "segment"]
    frames = sum(segment["frames"] for segment in segments)
    raw = sum(size for segment in segments for _, _, size in segment["streams"].values())
    parts = {name: _size(home / name) for name in _EVIDENCE}
    parts["log"] -= _size(Layout(home).log / "lock")
    rows, lines = _json_lines(log, [segment["segment"] for segment in segments]) if events else (None, None)
    disk = sum(parts.values())
    proof = parts["log"] + _AROUND_A_BLOB * len(segments)
    return {
        "frames": frames,
        "segments": len(segments),
        "entries": log.size(),
        "raw_bytes": raw,
        "disk_bytes": disk,
        "parts": parts,
        "events": rows,
        "json_bytes": lines,
        "proof_bytes": proof,
        "proof_bytes_per_frame": proof / frames,
        "disk_to_raw": disk / raw,
        "disk_to_json": disk / lines if lines else None,
    }


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _json_lines(log: LogReader, segments: list[int]) -> tuple[int, int]:
    """How many events there are, and the bytes of them as JSON lines: what is not known in a row left out, no space
    that need not be, text as UTF-8."""
    decoder = Decoder()
    events = size = 0
    for segment in segments:
        rows: list[Any] = []
        for frame in log.frames(segment):
            decoder.feed(
                segment, frame.place, frame.stream, frame.seq, frame.kind, frame.realtime_ns, frame.payload, rows
            )
        events += len(rows)
        size += sum(len(_line(row)) + 1 for row in rows)
    return events, size


def _line(row: Any) -> bytes:
    event = {name: value for name, value in zip(COLUMNS, row, strict=True) if value not in ("", None)}
    for name in ("pid", "pid_start_ns", "tid", "ppid", "n"):
        if not event.get(name):
            event.pop(name, None)
    if detail := event.get("detail"):
        event["detail"] = json.loads(detail) if isinstance(detail, str) else detail
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def _targets(recordings: dict[str, Figures]) -> list[Target]:
    targets = [
        Target(f"{name}: bytes of proof a frame", recordings[name]["proof_bytes_per_frame"], "<=", 0.2, ".3f")
        for name in ("full", "storm")
    ]
    for name in ("storm", "varied"):
        one = recordings[name]
        targets.append(Target(f"{name}: on disk, of its raw bytes", one["disk_to_raw"], "<=", 0.25, ".1%"))
        targets.append(Target(f"{name}: on disk, of its events as JSON lines", one["disk_to_json"], "<=", 0.10, ".1%"))
    return targets


_ROWS = (
    ("frames", "frames", ",d"),
    ("segments", "segments", ",d"),
    ("raw bytes", "raw_bytes", ",d"),
    ("bytes on disk", "disk_bytes", ",d"),
    ("  of raw", "disk_to_raw", ".1%"),
    ("events", "events", ",d"),
    ("bytes as JSON lines", "json_bytes", ",d"),
    ("  on disk, of these", "disk_to_json", ".1%"),
    ("bytes for proofs", "proof_bytes", ",d"),
    ("  a frame", "proof_bytes_per_frame", ".3f"),
)


def _table(recordings: dict[str, Figures]) -> Table:
    table = Table(title="recordings on disk", title_justify="left")
    table.add_column()
    for head in ("storm", "varied work", "full segments"):
        table.add_column(head, justify="right")
    for label, key, form in _ROWS:
        table.add_row(label, *(number(one[key], form) for one in recordings.values()))
    return table
