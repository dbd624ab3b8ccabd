"""what a finished clip waits for: those it shows, or reviewers"""

import sqlalchemy as sa
from alembic import op

revision = "0007.held_clips"
down_revision = "0006.identities"


def upgrade() -> None:
    op.add_column(
        "draft",
        sa.Column("waits_for", sa.String(length=16), server_default="approval", nullable=False),
    )


def downgrade() -> None:
    op.drop_column("draft", "waits_for")
