"""`sandtrail verify`: a store, or one proof file that came from somewhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sandtrail.commands.judgement import print_report
from sandtrail.commands.options import Home, Json, home_folder, parse_duration
from sandtrail.errors import UsageError

if TYPE_CHECKING:
    from sandtrail.store.policy import Policy
    from sandtrail.store.verify.report import Report

__all__ = ["Keys", "MaxAge", "PolicyFile", "parse_max_age", "read_keys", "read_policy", "register"]

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", help="A verifier key (vkey) to trust, or a file of them, from a copy kept elsewhere. May be repeated."
    ),
]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="A tlog-policy: which witnesses must have cosigned.")]
MaxAge = Annotated[str, typer.Option("--max-age", help="How old cosignatures may be: 90s, 90m, 24h, 7d.")]

_MAX_KEYS = 64 * 1024


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    file: Annotated[Path | None, typer.Argument(help="A proof that `sandtrail prove` has written; no store.")] = None,
    home: Home = None,
    key: Keys = None,
    head: Annotated[Path | None, typer.Option(help="A remembered head to compare with.")] = None,
    policy: PolicyFile = None,
    max_age: MaxAge = "",
    roots: Annotated[Path | None, typer.Option(help="PEM file: the roots of the authorities of time.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The log alone: steps 1 to 7.")] = False,
    stored: Annotated[bool, typer.Option("--stored", help="The log and the stored bytes: steps 1 to 8.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="How many segments at once; 0: one for each core.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run with this ended.")] = False,
    as_json: Json = False,
) -> None:
    """Check the whole store, or a FILE. Exit status: 0 verified, 1 damaged, missing or unsigned, 2 could not check."""
    if max_age and policy is None:
        raise UsageError("--max-age is about cosignatures: name the witnesses with --policy FILE")
    if file is not None:
        from sandtrail.commands.prove import verify_file

        if home or head or quick or stored or resume or roots:
            raise UsageError("a proof is checked by itself: with --key, --policy and --max-age only")
        raise typer.Exit(verify_file(file, key or [], policy, max_age, as_json))
    if quick and stored:
        raise UsageError("--quick leaves out more than --stored: give one of them")
    raise typer.Exit(
        _verify_store(
            home_folder(home),
            read_keys(key or []),
            head,
            read_policy(policy),
            parse_max_age(max_age),
            roots,
            "quick" if quick else "stored" if stored else "full",
            jobs,
            resume,
            as_json,
        )
    )


def _verify_store(
    home: Path,
    keys: list[str],
    head: Path | None,
    policy: Policy | None,
    max_age: float | None,
    roots: Path | None,
    mode: str,
    jobs: int,
    resume: bool,
    as_json: bool,
) -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sandtrail.store.timestamp import load_roots
    from sandtrail.store.verify import remember_head
    from sandtrail.store.verify import verify as run

    errors = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=as_json or not errors.is_terminal) as bar:
        task = bar.add_task("log entries", total=None)
        report = run(
            home,
            keys=keys,
            head=head,
            policy=policy,
            max_age=max_age,
            roots=load_roots(roots) if roots else (),
            mode="quick" if mode == "quick" else "stored" if mode == "stored" else "full",
            jobs=jobs,
            resume=resume,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    if report.ok:
        remember_head(home, report.note)
    return print_report(report, _facts(report), as_json=as_json)


def _facts(report: Report) -> Iterator[str]:
    yield f"evidence  {report.frames} frames in {report.segments} segments, {report.gaps} recorded gaps"
    for count, what in (
        (report.erased, "segments are erased: a signed entry says so, their digests were checked"),
        (report.retained, "segments are past their retention: a signed entry says so"),
        (report.spared, f"segments were found good by a run begun {report.spared_since}, and not read again"),
        (report.clock_steps, "recorded clock steps or suspends"),
        (report.unsealed_bytes, "bytes received but not signed yet: nothing is said about them"),
        (report.unsigned_files, "files that a recorder had not signed for yet"),
    ):
        if count:
            yield f"          {count} {what}"


def read_keys(given: list[str]) -> list[str]:
    """The vkeys among what was given, files of them read. Raises UsageError when a file holds none."""
    keys: list[str] = []
    for item in given:
        if "+" in item and not Path(item).is_file():
            keys.append(item)
            continue
        try:
            with Path(item).open("rb") as file:
                lines = file.read(_MAX_KEYS).decode(errors="replace").split()
        except OSError as error:
            raise UsageError(
                f"--key {item}: neither a verifier key (NAME+1a2b3c4d+AQ…) nor a file: {error.strerror}"
            ) from None
        if not lines:
            raise UsageError(f"--key {item}: the file holds no verifier key")
        keys += lines
    return keys


def read_policy(path: Path | None) -> Policy | None:
    """The policy in a file. Raises as `load_policy`."""
    from sandtrail.store.policy import load_policy

    return load_policy(path) if path else None


def parse_max_age(text: str) -> float | None:
    """What `--max-age` says, in seconds; None where it was not given. Raises UsageError."""
    return parse_duration(text, "--max-age") if text else None
