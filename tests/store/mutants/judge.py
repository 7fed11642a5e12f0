"""Lets our verifier and those of others look at damaged stores."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography.x509 import Certificate

from sandtrail.store.policy import parse_policy
from sandtrail.store.verify import verify
from sandtrail.store.verify.report import Report
from tests.store.foreign_go import logcheck
from tests.store.mutants.base import NOW, Base
from tests.store.mutants.mutant import Mutant

__all__ = ["judge", "judged_by_others", "too_much", "unmet"]

_AUDIT = Path(__file__).parent.parent / "foreign_audit.py"
MAX_AGE = 3600.0


def judge(base: Base, home: Path, knows: frozenset[str], head: Path, roots: Sequence[Certificate] = ()) -> Report:
    """What `verify` says to a reader who has pinned the keys and knows this much more."""
    return verify(
        home,
        keys=[pin.vkey for pin in base.pins],
        head=head if "head" in knows else None,
        policy=parse_policy(base.policy.encode()) if "policy" in knows else None,
        max_age=MAX_AGE,
        now=NOW,
        roots=roots,
        jobs=1,
    )


def unmet(mutant: Mutant, home: Path, report: Report) -> list[str]:
    """What should have been found and was not."""
    return [
        f"{expect.types} at {expect.place!r}"
        for expect in mutant.expect
        if not any(expect.met_by(finding, home) for finding in report.findings)
    ]


def too_much(mutant: Mutant, home: Path, report: Report) -> list[str]:
    """What was found and should not have been: evidence that nobody has touched is to be trusted as before."""
    if not mutant.alone:
        return []
    return [
        f"{finding.type} at {finding.place!r}"
        for finding in report.findings
        if not any(expect.met_by(finding, home) for expect in mutant.expect)
    ]


def judged_by_others(base: Base, homes: Sequence[Path], python: Path) -> list[dict[str, str]]:
    """For each store what every foreign verifier has against it; "" where nothing. They know the newest head.

    tlog: golang.org/x/mod/sumdb. fsck: tessera's. aics: aics-tlog. policy: torchwood's, of the cosigned checkpoint.
    """
    head = {"size": base.newest.size, "root": base.newest.root.hex()}
    logs = [{"log": str(home / "log"), "vkey": base.pins[0].vkey, "old": [head]} for home in homes]
    notes = [{"note": str(home / "witnessed" / "checkpoint"), "policy": base.policy} for home in homes]
    lines = "".join(json.dumps(log) + "\n" for log in logs)
    done = subprocess.run([str(python), str(_AUDIT)], input=lines, capture_output=True, text=True, check=True)
    audits = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        {"tlog": go["tlog"], "fsck": go["fsck"], "aics": audit["aics"], "policy": note["note"]}
        for go, audit, note in zip(logcheck(logs), audits, logcheck(notes), strict=True)
    ]
