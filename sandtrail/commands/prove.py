"""`sandtrail prove REF`: a small file that proves a frame, or some; and what `sandtrail verify FILE` says about it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sandtrail.commands.options import Home, home_folder, print_json, safe
from sandtrail.commands.verify import parse_max_age, read_keys, read_policy
from sandtrail.errors import DamagedError, NotFoundError, UsageError

if TYPE_CHECKING:
    from sandtrail.store.frame_proof import FrameProof
    from sandtrail.store.proof_bundle import Judged

__all__ = ["register", "verify_file"]

_KINDS = {1: "OPEN", 2: "DATA", 3: "NOTE", 4: "CLOSE"}
_NOT_PROVEN: tuple[str, ...] = (
    "that nothing else happened, before, after or beside it",
    "that the message is true: it is what its source said, as it was received",
    "that the clocks were right: the times are this node's, unless a witness or a token of time bounds them",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prove)


def prove(
    refs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[REF]...", help="Frames: SEGMENT.INDEX, as timelines name their evidence."),
    ] = None,
    session: Annotated[str, typer.Option(help="Every sealed frame of a session.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to; default: REF.tlog-proof, or proofs.zip for several."),
    ] = None,
    home: Home = None,
) -> None:
    """Write a file that proves frames to anybody who knows the log's keys: sandtrail verify FILE --key VKEY."""
    from sandtrail.store.frame_proof import make_proof
    from sandtrail.store.frames import Ref
    from sandtrail.store.proof_bundle import frames_of_session, write_bundle

    frames = [Ref.parse(ref) for ref in refs or []]
    where = home_folder(home)
    if bool(frames) == bool(session):
        raise UsageError("name the frames that are to be proven, or a session with --session")
    out = Console(soft_wrap=True, highlight=False)
    if session or len(frames) > 1:
        path = output or Path(f"{session or 'proofs'}.zip")
        with _writing(path):
            count = write_bundle(where, frames or frames_of_session(where, session), path)
        out.print(f"{safe(str(path))}: {count} frames, {path.stat().st_size} bytes")
        return
    data = make_proof(where, frames[0])
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(data)
        return
    path = output or Path(f"{frames[0]}.tlog-proof")
    with _writing(path):
        path.write_bytes(data)
    out.print(f"{safe(str(path))}: {len(data)} bytes")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def verify_file(path: Path, keys: list[str], policy: Path | None, max_age: str, as_json: bool) -> int:
    """Check a proof, or a bundle of them, and say what it proves; returns the exit status."""
    from sandtrail.store.frame_proof import check_proof_file
    from sandtrail.store.proof_bundle import check_bundle, is_bundle
    from sandtrail.store.tlog_proof import MAX_PROOF
    from sandtrail.store.verify.keys import parse_keys

    trusted, rules = parse_keys(read_keys(keys)), read_policy(policy)
    if trusted is None and (rules is None or not rules.logs):
        raise UsageError("a proof is worth as much as the key that it is checked with: give the log's with --key VKEY")
    identity, epoch = trusted or (None, None)
    age = parse_max_age(max_age)
    try:
        if is_bundle(path):
            return _say_bundle(path, check_bundle(path, identity, epoch, rules, max_age=age), as_json)
        with path.open("rb") as file:
            proof = check_proof_file(file.read(MAX_PROOF + 1), identity, epoch, rules, max_age=age)
    except OSError as error:
        raise NotFoundError(f"{path} cannot be read: {error.strerror}") from None
    except DamagedError as error:
        if as_json:
            print_json({"ok": False, "file": str(path), "error": str(error)})
        else:
            Console(soft_wrap=True, highlight=False).print(f"[bold red]NOT verified[/]: {safe(str(error))}")
        return 1
    facts = {**_facts(proof), "not_proven": _not_proven(proof)}
    if as_json:
        print_json({"ok": True, "file": str(path), **facts})
    else:
        _print(facts)
    return 0


def _say_bundle(path: Path, judged: Iterable[Judged], as_json: bool) -> int:
    frames = []
    unproven = _NOT_PROVEN
    for one in judged:
        if one.proof is None:
            frames.append({"ok": False, "name": one.name, "error": one.error})
        else:
            frames.append({"ok": True, "name": one.name, **_facts(one.proof)})
            unproven = _not_proven(one.proof)
    good = sum(frame["ok"] is True for frame in frames)
    if as_json:
        print_json({"ok": good == len(frames), "file": str(path), "frames": frames, "not_proven": unproven})
        return int(good < len(frames))
    out = Console(soft_wrap=True, highlight=False)
    for frame in frames:
        if frame["ok"]:
            what = f"{frame['kind']}, {frame['payload_bytes']} bytes, SHA-256 {frame['payload_sha256']}"
            out.print(f"{frame['frame']}: received {frame['received']}, {what}")
        else:
            out.print(f"[bold red]✗ {safe(str(frame['name']))}[/]: {safe(str(frame['error']))}")
    for text in unproven:
        out.print(f"[yellow]not proven[/]: {safe(text)}")
    verdict = "[bold green]verified[/]" if good == len(frames) else "[bold red]NOT verified[/]"
    out.print(f"{verdict}: {good} of {len(frames)} frames are in the log, byte for byte")
    return int(good < len(frames))


def _not_proven(proof: FrameProof) -> tuple[str, ...]:
    unproven = _NOT_PROVEN
    if proof.epoch is None:
        unproven = ("that an earlier epoch's key signed it: the first epoch's key was not given (--key)", *unproven)
    if not proof.witnesses:
        unproven = ("that others see the same log: no witnesses were asked for (--policy)", *unproven)
    return unproven


def _facts(proof: FrameProof) -> dict[str, Any]:
    _, mono, boot = proof.when
    return {
        "frame": str(proof.ref),
        "stream": f"{proof.stream:016x}",
        "seq": proof.seq,
        "kind": _KINDS.get(proof.kind, str(proof.kind)),
        "received": _time(proof.when[0]),
        "monotonic_ns": mono,
        "boottime_ns": boot,
        "payload_bytes": len(proof.payload),
        "payload_sha256": sha256(proof.payload).hexdigest(),
        "run": proof.manifest["run"],
        "boot": proof.manifest["boot"],
        "log": proof.checkpoint.origin,
        "entry": proof.index,
        "entries": proof.checkpoint.size,
        "root": proof.checkpoint.root.hex(),
        "epoch": proof.epoch,
        "witnesses": [
            {"name": one.name, "state": str(one.state), "at": _time(one.at * 10**9) if one.at else None}
            for one in proof.witnesses
        ],
    }


def _time(ns: int) -> str:
    try:
        return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ns % 10**9:09d}Z"
    except (ValueError, OverflowError):
        return f"{ns} ns"


def _print(facts: dict[str, Any]) -> None:
    out = Console(soft_wrap=True, highlight=False)
    out.print("[bold green]verified[/]: this frame is in the log, byte for byte")
    out.print(f"frame     {facts['frame']}: {facts['kind']}, number {facts['seq']} of stream {facts['stream']}")
    out.print(f"payload   {facts['payload_bytes']} bytes, SHA-256 {facts['payload_sha256']}")
    out.print(f"received  {facts['received']}, boot {safe(facts['boot'])}")
    out.print(
        f"log       {safe(facts['log'])}: entry {facts['entry']} of {facts['entries']}, root {facts['root'][:16]}…"
    )
    if facts["epoch"] is not None:
        out.print(f"epoch     signed in epoch {facts['epoch']}, which the first one leads to")
    for one in facts["witnesses"]:
        out.print(f"witness   {safe(one['name'])}: {one['state']}{', ' + one['at'] if one['at'] else ''}")
    for what in facts["not_proven"]:
        out.print(f"[yellow]not proven[/]: {safe(what)}")
