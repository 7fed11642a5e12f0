"""Sessions, streams, parts of the event index, and how far the log has been read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("sandbox", sa.Text(), nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_ns", sa.BigInteger(), nullable=False),
        sa.Column("ended_ns", sa.BigInteger()),
        sa.Column("exit_status", sa.Integer()),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.BigInteger(), nullable=False),
        sa.Column("first_entry", sa.BigInteger(), nullable=False, comment="index of the log entry in which it begins"),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_started_ns", "sessions", ["started_ns"])
    op.create_table(
        "streams",
        sa.Column("id", sa.String(16), nullable=False, comment="the stream's number as 16 hex digits"),
        sa.Column("session", sa.String(128), nullable=False),
        sa.Column("source", sa.String(32), nullable=False),
        sa.Column("descriptor", sa.JSON(), nullable=False),
        sa.Column("opened_ref", sa.String(32), nullable=False),
        sa.Column("opened_ns", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_streams"),
    )
    op.create_index("ix_streams_session", "streams", ["session"])
    op.create_table(
        "event_parts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("session", sa.String(128), nullable=False),
        sa.Column("path", sa.Text(), nullable=False, comment="relative to the home"),
        sa.Column(
            "first_row", sa.BigInteger(), nullable=False, comment="how many rows of the session lie in earlier parts"
        ),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("retired_ns", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_event_parts"),
        sa.ForeignKeyConstraint(["session"], ["sessions.id"], name="fk_event_parts_session"),
    )
    op.create_index("ix_event_parts_session", "event_parts", ["session"])
    op.create_table(
        "cursor",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False, comment="entries before this one are in the index"),
        sa.Column(
            "decoder", sa.Integer(), nullable=False, comment="version of the decoders that the index was made by"
        ),
        sa.PrimaryKeyConstraint("name", name="pk_cursor"),
    )


def downgrade() -> None:
    """Drop all of it: the index is derived."""
    for table in ("cursor", "event_parts", "streams", "sessions"):
        op.drop_table(table)
