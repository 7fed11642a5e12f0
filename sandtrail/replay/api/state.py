"""What the API keeps between requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from fastapi import Response
from pydantic import BaseModel, TypeAdapter

from sandtrail.errors import SandtrailError
from sandtrail.replay.api.follower import FollowerProcess
from sandtrail.replay.index import Index
from sandtrail.replay.index.catalog import open_catalog
from sandtrail.replay.timeline import Timelines
from sandtrail.store.reader import LogReader, open_log

__all__ = ["State"]

_log = structlog.get_logger()


class State:
    """One home, its timelines and a reader of its log."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._engine = open_catalog(home)
        self.timelines = Timelines(home, Index(home, self._engine))
        self.follower: FollowerProcess | None = None
        self._reader: LogReader | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._prepare, name="summaries", daemon=True)

    def start(self) -> None:
        """Begin to summarise sessions as they end."""
        self._thread.start()

    def close(self) -> None:
        """End what `start` began and let go of the catalog."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(30)
        self._engine.dispose()

    def _prepare(self) -> None:
        while not self._closing.wait(2):
            try:
                self.timelines.summarise()
            except SandtrailError as error:
                _log.warning("a session cannot be summarised", error=str(error))

    @contextmanager
    def reading(self) -> Iterator[LogReader]:
        """The reader, for one thread at a time. Raises NotFoundError where nothing has been recorded yet."""
        with self._lock:
            if self._reader is None:
                self._reader = open_log(self.home)
            yield self._reader

    def encode(self, shape: type[BaseModel], value: Any) -> Response:
        """A large answer as JSON: checked against its shape and written in one go."""
        adapter = _adapter(shape)
        return Response(adapter.dump_json(adapter.validate_python(value)), media_type="application/json")


@cache
def _adapter(shape: type[BaseModel]) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
