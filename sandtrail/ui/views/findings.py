"""What needs a person's eyes, in plain words, each with the way to its turn and its evidence."""

from __future__ import annotations

from collections.abc import Sequence

from sandtrail.ui.address import Address
from sandtrail.ui.choose import grave
from sandtrail.ui.markup import Markup, disclosure, join, link, tag
from sandtrail.ui.shapes import Finding
from sandtrail.ui.views.lines import verdicts

__all__ = ["findings_panel", "prose"]

_REFS_SHOWN = 12


def findings_panel(findings: Sequence[Finding], address: Address) -> Markup | None:
    """Returns every finding; grave ones are open, the others open at a click."""
    if not findings:
        return None
    plural = "s" if len(findings) > 1 else ""
    title = tag("h3", f"{len(findings)} finding{plural} to look at")
    return tag("section", title, [_finding(finding, address) for finding in findings], cls="findings")


def _finding(finding: Finding, address: Address) -> Markup:
    refs = [link(address.to_evidence(ref), ref, cls="ref") for ref in finding["refs"][:_REFS_SHOWN]]
    rest = len(finding["refs"]) - len(refs)
    turn = finding["turn"]
    where = link(address.to_turn(turn), f"turn {turn}", cls="ref") if turn is not None else "in no turn"
    severity = tag("span", finding["severity"], cls="dim")
    title = join(verdicts([finding]), tag("b", prose(finding["title"])), severity, where)
    more = f"and {rest:,} more" if rest > 0 else None
    said = join(tag("p", prose(finding["explanation"])), tag("div", tag("span", "evidence"), refs, more, cls="links"))
    return disclosure(title, said, cls="finding" if grave(finding) else "finding low", opened=grave(finding))


def prose(said: str) -> Markup:
    """Returns replay's own words with what it quotes between backticks set as code; the quotes are a sandbox's."""
    return join([tag("code", piece) if n % 2 else piece for n, piece in enumerate(said.split("`"))])
