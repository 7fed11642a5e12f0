"""The log's page: its signed head, its key, and how to check it without this page."""

from __future__ import annotations

from sandtrail.ui.markup import Markup, block, join, tag
from sandtrail.ui.shapes import Log
from sandtrail.ui.text import as_text

__all__ = ["log_page"]

_COMMANDS = {
    "sandtrail verify": "Recomputes every hash from the stored bytes and checks every signature. Exit status 0: "
    "verified. 1: evidence is damaged, missing or unsigned, and where. 2: it could not be checked.",
    "sandtrail verify --json": "The same for a program: each finding with its type, its place and its consequence.",
}
_BEFORE = "This page only repeats what the server says. On the machine that holds the evidence, or on a copy of it:"
_AFTER = (
    "The log is a C2SP tlog-tiles log with a signed-note checkpoint: verifiers that nobody here wrote read it too, "
    "given the key above. Keep a checkpoint elsewhere: only a remembered head shows that a log was cut back. No log "
    "proves an event that was never captured."
)


def log_page(log: Log) -> Markup:
    """Returns the head as signed last, the key as other verifiers take it, and the commands that check it."""
    rows = [
        ("origin", log.get("origin")),
        ("size", f"{log.get('size', 0):,} entries"),
        ("root", log.get("root")),
        ("signed at", log.get("signed_at")),
        ("key", log.get("vkey")),
    ]
    facts = tag("table", [tag("tr", tag("th", name), tag("td", as_text(value))) for name, value in rows], cls="facts")
    checkpoint = log.get("checkpoint")
    commands = [tag("div", tag("pre", command, cls="command"), tag("p", said)) for command, said in _COMMANDS.items()]
    return join(
        tag("section", tag("h3", "The log's head"), facts),
        tag("section", tag("h3", "Checkpoint"), block(checkpoint, "say")) if checkpoint else None,
        tag("section", tag("h3", "Check it yourself"), tag("p", _BEFORE), commands, tag("p", _AFTER), cls="howto"),
    )
