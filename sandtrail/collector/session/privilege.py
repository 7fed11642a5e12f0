"""Who may record."""

from __future__ import annotations

import os

from sandtrail.errors import MissingPartError

__all__ = ["require_root"]


def require_root(what: str) -> None:
    """Raises MissingPartError for an ordinary user, saying what needs root and why."""
    if os.geteuid() != 0:
        raise MissingPartError(
            f"`sandtrail {what}` needs root: it makes network namespaces and packet filter rules around the sandbox and"
            " drives gVisor's runtime from outside of it. Run it with sudo. Without root: verify, timeline, serve, ui."
        )
