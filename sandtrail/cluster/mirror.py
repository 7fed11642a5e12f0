"""A copy of a log that is served over HTTP (C2SP tlog-tiles), to be verified here. What is fetched is not believed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from sandtrail.errors import DamagedError, NotFoundError, StoreError, UsageError
from sandtrail.store.layout import Layout, present, publish
from sandtrail.store.note import MAX_NOTE, Verifier, parse_checkpoint, parse_note
from sandtrail.store.tiles import MAX_ENTRY, WIDTH, bundle_path, tile_path

__all__ = ["mirror"]

_MAX_TILE = WIDTH * (MAX_ENTRY + 2)
# More entries than any cluster's log has: nobody shall keep us busy for ever.
_MAX_SIZE = 1 << 28
_MAX_SECONDS = 120.0


def mirror(url: str, home: Path, key: Verifier, *, timeout: float = 30.0) -> None:
    """Copy the log at `url`, and the key that it is to be verified by, to a home of its own.

    What is there already is not fetched again, so that a log that was written anew no longer fits together here.

    `timeout` is that of one file, in seconds. Raises NotFoundError when there is no log, StoreError when it can't be
    fetched whole.
    """
    log = Layout(home).log
    with httpx.Client(base_url=url.rstrip("/") + "/", timeout=timeout, headers={"Accept-Encoding": "identity"}) as http:
        witnessed = _get(http, "witnessed/checkpoint", MAX_NOTE)
        note = _get(http, "checkpoint", MAX_NOTE)
        if note is None:
            raise NotFoundError(f"there is no log at {url}")
        try:
            size = parse_checkpoint(parse_note(note).text).size
        except DamagedError as error:
            raise StoreError(f"what is served at {url} is no log: {error}") from None
        if size > _MAX_SIZE:
            raise StoreError(f"the log at {url} says that it has {size} entries; no cluster's log has")
        for path in _paths(log, size):
            if not _kept(path):
                data = _get(http, path.relative_to(log).as_posix(), _MAX_TILE)
                if data is None:
                    raise StoreError(f"the log at {url} lacks {path.relative_to(log)}")
                publish(path, data)
    publish(Layout(home).vkey, f"{key.vkey}\n".encode(), mode=0o644)
    publish(log / "checkpoint", note, mode=0o644)
    kept = Layout(home).witnessed / "checkpoint"
    if witnessed is not None:
        publish(kept, witnessed, mode=0o644)
    else:
        kept.unlink(missing_ok=True)


def _paths(log: Path, size: int) -> Iterator[Path]:
    """Every tile and bundle of a log of this size."""
    level, count = 0, size
    while count:
        for number in range(-(-count // WIDTH)):
            width = min(WIDTH, count - number * WIDTH)
            yield tile_path(log, level, number, width)
            if level == 0:
                yield bundle_path(log, number, width)
        level, count = level + 1, count // WIDTH


def _kept(path: Path) -> bool:
    try:
        return present(path)
    except OSError as error:  # fetched anew it would take the place of what we remember
        raise StoreError(f"the copy of the log cannot be read: {path}: {error.strerror}") from None


def _get(http: httpx.Client, path: str, most: int) -> bytes | None:
    """A file, or None where the server has none."""
    data = bytearray()
    until = time.monotonic() + _MAX_SECONDS
    try:
        with http.stream("GET", path) as answer:
            if answer.status_code == 404:
                return None
            if answer.status_code != 200:
                raise StoreError(f"{answer.url} answers {answer.status_code}")
            for piece in answer.iter_raw():
                data += piece
                if len(data) > most or time.monotonic() > until:
                    raise StoreError(f"{answer.url} is larger, or comes more slowly, than anything in a log should")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreError(f"{path} cannot be fetched: {error}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{http.base_url} is no address of a log: {error}") from None
    return bytes(data)
