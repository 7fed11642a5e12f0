"""What the HTTP API answers. The OpenAPI document is made from these shapes, so each field says what it is."""

from __future__ import annotations

from sandtrail.replay.api.shapes.base import Problem
from sandtrail.replay.api.shapes.events import Events
from sandtrail.replay.api.shapes.evidence import Evidence, Gone
from sandtrail.replay.api.shapes.log import Health, Log, Removal, Removals
from sandtrail.replay.api.shapes.session import Session, SessionDetail, Sessions
from sandtrail.replay.api.shapes.timeline import Findings, SessionFinding, Timeline
from sandtrail.replay.api.shapes.turn import Outputs

__all__ = [
    "Events",
    "Evidence",
    "Findings",
    "Gone",
    "Health",
    "Log",
    "Outputs",
    "Problem",
    "Removal",
    "Removals",
    "Session",
    "SessionDetail",
    "SessionFinding",
    "Sessions",
    "Timeline",
]
