"""The agent of the demonstration: mini-swe-agent, from its public package, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

from deploy.demo import environment
from deploy.demo.environment import Environment

LOCK = Path(__file__).with_name("agent.lock")
COMMAND = "mini"
"""The program to start."""


def install() -> Environment:
    """The agent, installed now if it is not yet. Raises `MissingPartError` where the packages cannot be had."""
    return environment.install("mini-swe-agent", LOCK)
