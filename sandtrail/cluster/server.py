"""A cluster's log over HTTP: nodes submit their checkpoints as to any witness (C2SP tlog-witness), everyone reads the
log itself as tiles (C2SP tlog-tiles), and beside that the log looks after itself: it tells who is silent.

    POST /add-checkpoint                 a node's checkpoint and its consistency proof
    GET  /<origin hash>/checkpoint       the newest checkpoint of a node, cosigned
    GET  /checkpoint, /tile/…            the cluster's own log
    GET  /witnessed/checkpoint           the newest checkpoint of it that its own witnesses have cosigned
"""

from __future__ import annotations

import re
import threading

import structlog

from sandtrail.cluster.log import ClusterLog
from sandtrail.errors import SandtrailError, StoreError
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import parse_checkpoint, parse_note
from sandtrail.store.tiles import WIDTH, TileReader, encode_bundle, parse_tile_index
from sandtrail.witness.protocol import Refused, Reply

__all__ = ["ClusterServer"]

_log = structlog.get_logger(__name__)
_HEAD = re.compile("/([0-9a-f]{64})/checkpoint")
_TILE = re.compile(r"/tile/(entries|0|[1-9][0-9]?)/([0-9x/.p]{3,40})")
_BINARY = "application/octet-stream"
_NOTHING = Reply(404, b"there is nothing here\n")


class ClusterServer:
    """Answers requests; `handle` may be called from several threads at once."""

    def __init__(self, log: ClusterLog) -> None:
        self._cluster = log
        self._log = Layout(log.home).log

    def handle(self, method: str, path: str, body: bytes) -> Reply:
        """Answer one HTTP request."""
        try:
            if path == "/add-checkpoint":
                return self._add(body) if method == "POST" else Reply(405, b"POST only\n")
            if method not in ("GET", "HEAD"):
                return Reply(405, b"GET only\n")
            return self._get(path)
        except (SandtrailError, OSError) as error:
            _log.critical("the cluster's log is out of order", path=path, error=str(error))
            return Reply(500, b"the cluster's log is out of order\n")

    def _add(self, body: bytes) -> Reply:
        try:
            return Reply(200, self._cluster.submit(body))
        except Refused as refused:
            if refused.misconduct is not None:
                _log.critical("a node has signed what it should not have", kind=refused.misconduct.value)
            return refused.reply

    def _get(self, path: str) -> Reply:
        if path == "/checkpoint":
            note = read_checkpoint(self._log)
        elif path == "/witnessed/checkpoint":
            note = _read(self._cluster)
        elif head := _HEAD.fullmatch(path):
            self._cluster.refresh()
            note = self._cluster.head_of(head[1])
        elif (tile := _TILE.fullmatch(path)) and (place := parse_tile_index(tile[2])):
            data = self._tile(tile[1], *place)
            return Reply(200, data, _BINARY) if data is not None else _NOTHING
        else:
            return _NOTHING
        return Reply(200, note) if note is not None else _NOTHING

    def _tile(self, folder: str, number: int, width: int) -> bytes | None:
        """A tile or bundle that is signed for; a narrower one than there is now, as it was: tiles only grow."""
        level = 0 if folder == "entries" else int(folder)
        while (note := read_checkpoint(self._log)) is not None:
            size = parse_checkpoint(parse_note(note).text).size
            if min(WIDTH, (size >> 8 * level) - number * WIDTH) < width:
                return None
            reader = TileReader(self._log, size)
            try:
                if folder == "entries":
                    return encode_bundle(reader.entries(number)[:width])
                return b"".join(reader.hashes(level, number)[:width])
            except StoreError:
                if read_checkpoint(self._log) == note:
                    raise
        return None

    def watch(self, stopped: threading.Event) -> None:
        """Look after the silent until told to stop; for a thread of its own."""
        while not stopped.wait(min(5.0, max(0.05, self._cluster.silence / 4))):
            try:
                for origin in self._cluster.watch():
                    _log.warning("a node is silent", node=origin, seconds=self._cluster.silence)
            except (SandtrailError, OSError) as error:
                _log.critical("the cluster's log is out of order", error=str(error))


def _read(cluster: ClusterLog) -> bytes | None:
    try:
        return (Layout(cluster.home).witnessed / "checkpoint").read_bytes()
    except FileNotFoundError:
        return None
