"""Sandtrail: records what an AI agent does in its sandbox, from outside of it."""

__version__ = "0.4.0"
