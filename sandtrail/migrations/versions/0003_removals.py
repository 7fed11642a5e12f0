"""Which data keys keep what is indexed, and what was erased or removed: the index must not outlive the evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; whose keys the rows of an older index come under nobody knows, so it is made anew."""
    op.create_table(
        "data_keys",
        sa.Column("id", sa.String(32), nullable=False, comment="the data key's id as 32 hex digits"),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column(
            "first_entry", sa.BigInteger(), nullable=False, comment="index of the log entry of its first segment"
        ),
        sa.Column("last_entry", sa.BigInteger(), nullable=False),
        sa.Column("first_ns", sa.BigInteger(), nullable=False),
        sa.Column("last_ns", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.Text(), comment="the case for which it must not be erased"),
        sa.Column("erased", sa.BigInteger(), comment="index of the log entry that says so"),
        sa.PrimaryKeyConstraint("id", name="pk_data_keys"),
    )
    op.create_table(
        "data_key_sessions",
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("session", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("key", "session", name="pk_data_key_sessions"),
    )
    op.create_index("ix_data_key_sessions_session", "data_key_sessions", ["session"])
    op.create_table(
        "removals",
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False, comment="erase or retain"),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False, comment="ids of the data keys; they name nobody"),
        sa.Column("segments", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("from_ns", sa.BigInteger()),
        sa.Column("to_ns", sa.BigInteger()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("log_index", name="pk_removals"),
    )
    op.execute(sa.text("UPDATE cursor SET decoder = -1"))


def downgrade() -> None:
    """Drop the tables."""
    for table in ("removals", "data_key_sessions", "data_keys"):
        op.drop_table(table)
