"""Real clients reach scripted servers through a real gateway: the one that the gateway's own tests use."""

from __future__ import annotations

from tests.collector.gateway.conftest import gateway, session, trust

__all__ = ["gateway", "session", "trust"]
