"""Logs of the gateway: structured, on stderr, and without a byte of the traffic.

mitmproxy's own messages quote requests, responses and exceptions made from them. Of those only the place they came from
is told.
"""

from __future__ import annotations

import logging
import sys

import structlog

__all__ = ["configure"]


class _PlaceOnly(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        place = f"{record.module}:{record.lineno}"
        structlog.get_logger(record.name).warning(
            "message of a library", level_name=record.levelname, place=place, error=error
        )


def configure() -> None:
    """Set up this process's logging."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = _PlaceOnly(logging.WARNING)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
