"""How a verification's report is told: of a store and of a cluster's log alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console

from sandtrail.commands.options import print_json, safe

if TYPE_CHECKING:
    from sandtrail.store.verify.report import Report

__all__ = ["print_report"]


def print_report(report: Report, facts: Iterable[str], *, as_json: bool) -> int:
    """Tell the whole report: what was found, how much more of it there is, and what was not checked.

    `facts` are lines (rich markup; what others wrote in them made `safe`) on what this kind of log holds. Returns the
    exit status.
    """
    if as_json:
        print_json(report.as_dict())
        return 0 if report.ok else 1
    out = Console(soft_wrap=True, highlight=False)
    out.print(f"log       {safe(report.origin) or '-'}: {report.size} entries, root {report.root[:16] or '-'}…")
    out.print(f"key       {safe(report.key) or '-'} ({report.key_from or 'none'})")
    if report.epoch is not None:
        out.print(f"epoch     {report.epoch}, from {safe(report.epoch_key) or 'a first one that nobody knows'}")
    out.print(f"head      {'grew from the remembered ' + report.head if report.head else 'none remembered before'}")
    if report.witnessed:
        out.print(f"witnessed {report.witnessed}")
    for fact in facts:
        out.print(fact)
    for remark in report.remarks:
        out.print(f"note      {safe(remark)}")
    for finding in report.findings:
        out.print(f"[bold red]✗ step {finding.step}: {safe(finding.type)}[/] at {safe(finding.place)}")
        out.print(f"    {safe(finding.consequence)}")
    for kind, count in report.more.items():
        out.print(f"[bold red]✗ {safe(kind)}[/]: {count} more")
    for step in report.steps():
        if step["state"] == "not checked":
            out.print(f"[yellow]not checked[/]: step {step['step']}, {step['name']}: {safe(step['why'])}")
    if report.ok:
        out.print("[bold green]verified[/]")
        return 0
    count = len(report.findings) + report.more.total()
    out.print(f"[bold red]NOT verified[/]: {count} findings; {report.standing}")
    return 1
