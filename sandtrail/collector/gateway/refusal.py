"""What the gateway answers instead of passing a request on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Refusal"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """`facts` are the error frame's, beside `reason` and `status`."""

    status: int
    reason: str
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The body of the answer."""
        return f"Sandtrail's gateway: {self.message}\n"

    def frame(self) -> dict[str, Any]:
        """What the error frame says of it."""
        return {"by": "gateway", "reason": self.reason, "status": self.status, **self.facts}
