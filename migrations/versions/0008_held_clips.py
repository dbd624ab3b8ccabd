"""what a finished clip waits for: those it shows, or reviewers"""

import sqlalchemy as sa
from alembic import op

revision = "0008.held_clips"
down_revision = "0007.hash_lists"


def upgrade() -> None:
    op.add_column(
        "draft",
        sa.Column("waits_for", sa.String(length=16), server_default="approval", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("draft", "waits_for")
