"""The catalog's tables. Their history is in sandtrail/migrations; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = ["REVISION", "cursor", "keys", "metadata", "owners", "parts", "removals", "sessions", "states", "streams"]

REVISION = "0003"
"""The newest step of sandtrail/migrations."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("sandbox", Text, nullable=False),
    Column("command", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("started_ns", BigInteger, nullable=False),
    Column("ended_ns", BigInteger),
    Column("exit_status", Integer),
    Column("events", BigInteger, nullable=False),
    Column("gaps", BigInteger, nullable=False),
    Column("first_entry", BigInteger, nullable=False, comment="index of the log entry in which it begins"),
    Column("facts", JSON, nullable=False),
)
Index("ix_sessions_started_ns", sessions.c.started_ns)

streams = Table(
    "streams",
    metadata,
    Column("id", String(16), primary_key=True, comment="the stream's number as 16 hex digits"),
    Column("session", String(128), nullable=False, index=True),
    Column("source", String(32), nullable=False),
    Column("descriptor", JSON, nullable=False),
    Column("opened_ref", String(32), nullable=False),
    Column("opened_ns", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
)

parts = Table(
    "event_parts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("session", String(128), ForeignKey("sessions.id"), nullable=False, index=True),
    Column("path", Text, nullable=False, comment="relative to the home"),
    Column("first_row", BigInteger, nullable=False, comment="how many rows of the session lie in earlier parts"),
    Column("rows", BigInteger, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("retired_ns", BigInteger),
)

cursor = Table(
    "cursor",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("log_index", BigInteger, nullable=False, comment="entries before this one are in the index"),
    Column("decoder", Integer, nullable=False, comment="version of the decoders that the index was made by"),
)

states = Table(
    "decoder_state",
    metadata,
    Column("id", String(16), primary_key=True, comment="the stream's number as 16 hex digits"),
    Column("state", LargeBinary, nullable=False, comment="CBOR; its shape is the decoder's own affair"),
)

keys = Table(
    "data_keys",
    metadata,
    Column("id", String(32), primary_key=True, comment="the data key's id as 32 hex digits"),
    Column("segments", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("first_entry", BigInteger, nullable=False, comment="index of the log entry of its first segment"),
    Column("last_entry", BigInteger, nullable=False),
    Column("first_ns", BigInteger, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    Column("held", Text, comment="the case for which it must not be erased"),
    Column("erased", BigInteger, comment="index of the log entry that says so"),
)

owners = Table(
    "data_key_sessions",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("session", String(128), primary_key=True, index=True),
)

removals = Table(
    "removals",
    metadata,
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(8), nullable=False, comment="erase or retain"),
    Column("at_ns", BigInteger, nullable=False),
    Column("keys", JSON, nullable=False, comment="ids of the data keys; they name nobody"),
    Column("segments", BigInteger, nullable=False),
    Column("frames", BigInteger, nullable=False),
    Column("from_ns", BigInteger),
    Column("to_ns", BigInteger),
    Column("reason", Text, nullable=False),
    Column("by", Text, nullable=False),
)
