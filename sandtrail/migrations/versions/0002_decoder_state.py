"""What decoders know of the streams that are open, so that a follower goes on where the last one stopped."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "decoder_state",
        sa.Column("id", sa.String(16), nullable=False, comment="the stream's number as 16 hex digits"),
        sa.Column("state", sa.LargeBinary(), nullable=False, comment="CBOR; its shape is the decoder's own affair"),
        sa.PrimaryKeyConstraint("id", name="pk_decoder_state"),
    )


def downgrade() -> None:
    """Drop the table; the next follower finds an index without it and begins again."""
    op.drop_table("decoder_state")
    # Without the state nobody could go on from the cursor.
    op.execute(sa.text("UPDATE cursor SET decoder = -1"))
