"""Logs of the processes that stay: JSON lines on stderr."""

from __future__ import annotations

import sys

import structlog

__all__ = ["log_as_json"]


def log_as_json() -> None:
    """Log as JSON lines on stderr, as every process of ours that stays: stdout is for what was asked for."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
