"""Opening the catalog: SQLite beside the evidence, or any database that SQLAlchemy reaches."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from sandtrail.errors import StoreError
from sandtrail.replay.index.tables import REVISION, metadata

__all__ = ["alembic_config", "open_catalog", "scrub", "upgrade"]

_PATIENCE = 60.0
_BUSY_MS = 10_000
# SQLite's words for what is not the database's fault; the lower byte says which, whatever the circumstances.
_DISK = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
_MIGRATIONS = Path(__file__).parents[2] / "migrations"


def open_catalog(home: Path, url: str = "") -> Engine:
    """Open the catalog of `home`, its schema brought up to date. Raises StoreError when the database refuses."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = url or os.environ.get("SANDTRAIL_CATALOG", "") or f"sqlite:///{home / 'catalog.db'}"
    if url.startswith("sqlite:"):
        # To open the file costs less than to keep track of who has it open.
        engine = create_engine(url, poolclass=NullPool)
        event.listen(engine, "connect", _sqlite_settings)
    else:
        engine = create_engine(url, pool_pre_ping=True)
    try:
        upgrade(home, engine)
    except DatabaseError as error:
        remedy = f"it is derived: move {home / 'catalog.db'} away and run again"
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _DISK:
            remedy = f"the disk refuses {home} to be written: `sandtrail doctor` says whether it is full or read-only"
        raise StoreError(f"the catalog cannot be used ({error.orig}); {remedy}") from error
    return engine


def _sqlite_settings(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # What is deleted is overwritten, and nothing of it passes through files elsewhere: see `scrub`.
    safety = ("secure_delete=ON", "temp_store=MEMORY")
    waiting = f"busy_timeout={_BUSY_MS}"
    for setting in ("journal_mode=WAL", "synchronous=NORMAL", waiting, "foreign_keys=ON", *safety):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _revision(engine: Engine) -> str | None:
    """The step that the catalog is at; None where there is no catalog yet."""
    with engine.connect() as db:
        if not inspect(db).has_table("alembic_version"):
            return None
        found = db.scalar(text("SELECT version_num FROM alembic_version"))
        return str(found) if found else None


def alembic_config(engine: Engine) -> Config:
    """The configuration under which migrations run on `engine`."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["engine"] = engine
    return config


def upgrade(home: Path, engine: Engine) -> None:
    """Bring the schema up to date; one process at a time."""
    if _revision(engine) == REVISION:
        return
    with (home / "catalog.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command.upgrade(alembic_config(engine), "head")


def scrub(engine: Engine) -> None:
    """Leave nothing of deleted rows in the catalog's files: free pages, indexes, the write-ahead log, statistics.

    SQLite: the file is written anew and its write-ahead log emptied. PostgreSQL: the same for our tables; its server's
    own log, replicas and backups are the server's affair. Raises StoreError when somebody reads for over a minute.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        if db.dialect.name == "postgresql":
            db.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {', '.join(metadata.tables)}")
        if db.dialect.name != "sqlite":
            return
        db.exec_driver_sql("VACUUM")
        deadline = time.monotonic() + _PATIENCE
        while db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
            if time.monotonic() > deadline:
                raise StoreError("somebody has been reading the catalog for too long; what was erased is still in it")
            time.sleep(0.1)
