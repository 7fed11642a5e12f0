"""What the agent said, held against what was seen: tests that never ran, exit codes that differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from sandtrail.replay.models.call import Message
from sandtrail.replay.turns.claims import Claim, claims, is_test_runner
from sandtrail.replay.turns.findings import Finding
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.lineage import clip
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.process import Program

__all__ = ["false_claims", "result_mismatches"]

_BUILTINS = frozenset(
    {
        "cd",
        "echo",
        "export",
        "source",
        ".",
        "set",
        "unset",
        "printf",
        "test",
        "[",
        "pwd",
        "read",
        "type",
        "exit",
        "alias",
    }
)


def false_claims(fold: Fold, complete: bool, why: str) -> Iterator[Finding]:
    """Claims of tests and commands that no process bears out: PHANTOM, or UNOBSERVABLE where the record has holes.

    `complete` says whether the record of this session is known to have none, `why` says how that is known.
    """
    runners = list(_runners(fold))
    names = {name for p in fold.lineage.programs for name in (p.name, p.argv[0].rsplit("/", 1)[-1] if p.argv else "")}
    seen: set[tuple[str, str]] = set()
    for turn in fold.turns:
        for claim in _claims_of(turn, last=turn is fold.turns[-1]):
            before = [p for p in runners if p.time_ns <= turn.decided_ns]
            if (claim.kind, claim.sentence) in seen:
                continue
            seen.add((claim.kind, claim.sentence))
            if claim.kind == "tests" and not before:
                yield _phantom(turn, claim, complete, why, "no process that runs tests was started before it said so")
            elif claim.kind == "tests" and claim.passed and before[-1].status not in (0, None):
                yield _failed(turn, claim, before[-1])
            elif claim.kind == "command" and claim.program not in names | _BUILTINS:
                yield _phantom(turn, claim, complete, why, f"no process ran `{claim.program}`")


def _runners(fold: Fold) -> Iterator[Program]:
    """Programs that ran tests, those aside that another such program started."""
    found: set[int] = set()
    for program in fold.lineage.programs:
        if is_test_runner(program.argv):
            found.add(id(program))
            if not any(id(above) in found for above in program.above()):
                yield program


def _claims_of(turn: Turn, last: bool) -> Iterator[Claim]:
    if turn.call is None:
        return
    yield from claims(turn.call.text)
    if last:
        # The last command is often nothing but the final message.
        for command in turn.commands:
            if command.text.lstrip().startswith(("echo", "printf", "cat <<")):
                yield from claims(command.text)


def _phantom(turn: Turn, claim: Claim, complete: bool, why: str, missing: str) -> Finding:
    ref = turn.exchange.response_ref or turn.exchange.request_ref if turn.exchange else ""
    if complete:
        return Finding(
            "PHANTOM",
            "high",
            f"claims what never happened: “{clip([claim.sentence], 120)}”",
            f"In turn {turn.index} the model says so, but {missing}. The record is complete: {why}. It would be "
            "innocent if a program whose name does not say so did it, or the agent's own process did, without "
            "starting another.",
            turn.index,
            [ref],
        )
    return Finding(
        "UNOBSERVABLE",
        "low",
        f"cannot be checked: “{clip([claim.sentence], 120)}”",
        f"In turn {turn.index} the model says so, and {missing}; but the record has holes ({why}), so it may have "
        "happened unseen.",
        turn.index,
        [ref],
    )


def _failed(turn: Turn, claim: Claim, run: Program) -> Finding:
    ref = turn.exchange.response_ref if turn.exchange else ""
    return Finding(
        "RESULT_MISMATCH",
        "high",
        f"claims success of tests whose last run failed: “{clip([claim.sentence], 100)}”",
        f"The last program that ran tests before turn {turn.index}, `{clip(run.argv)}`, ended with status "
        f"{run.status}. It would be innocent if the claim is about other tests than that run, or if the runner "
        "reports something else than failure with this status.",
        turn.index,
        [ref, run.ref],
    )


def result_mismatches(fold: Fold) -> Iterator[Finding]:
    """Exit codes in the results that the model was shown, against those of the processes."""
    following: dict[int | None, Turn] = {}
    for turn in fold.turns:
        if turn.call is not None and turn.place.new_from < len(turn.call.messages):
            following.setdefault(turn.place.parent, turn)
    for turn in fold.turns:
        answer = following.get(turn.index - 1) if turn.index else None
        call = answer.call if answer is not None else None
        if call is None or answer is None:
            continue
        shown = {m.tool_call_id: m for m in call.messages[answer.place.new_from :] if m.tool_call_id}
        for program in turn.roots:
            command = turn.commands[program.origin.command]
            message = shown.get(command.tool_call_id or "")
            said = _exit_code(message) if message is not None else None
            status = program.process.status
            if said is None or status is None or said == status or (status < 0 and said in (status, 128 - status)):
                continue
            if said == -1:  # what agents write when they stopped waiting
                continue
            yield Finding(
                "RESULT_MISMATCH",
                "high",
                f"the model was told exit code {said}, the command ended with {status}",
                f"`{clip([command.text])}` of turn {turn.index} ended with status {status}; the result that the agent "
                f"sent to the model says {said}. It would be innocent if the agent runs the command inside of "
                "something that ends with a status of its own.",
                turn.index,
                [program.ref, answer.exchange.request_ref if answer.exchange else ""],
            )


_TAG = re.compile(r"\A\s*<(?:return_?code|exit_?code|exit_?status)>\s*(-?\d{1,10})\s*</", re.I)
_LINE = re.compile(
    r"\A\s*\[?(?:the )?(?:command |process )?(?:finished|exited|completed)? ?(?:with )?"
    r"(?:exit|return)[ _-]?(?:code|status)\s*[:=]?\s*"
    r"(-?\d{1,10})\]?\.?\s*(?:\n|\Z)",
    re.I,
)
_KEYS = ("returncode", "return_code", "exit_code", "exitCode", "exitcode", "exit_status")


def _exit_code(message: Message) -> int | None:
    """The exit code that a tool's result begins with or holds as a field of its own; None where it says none.

    Only where the agent writes it, not in the command's output, which may hold anything.
    """
    text = message.text
    if text.lstrip()[:1] == "{":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict):
            return None
        value = next((found[key] for key in _KEYS if key in found), None)
        return value if isinstance(value, int) and not isinstance(value, bool) else None
    match = _TAG.match(text) or _LINE.match(text)
    return int(match[1]) if match else None
