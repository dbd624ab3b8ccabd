"""the voices of those who are enrolled"""

import sqlalchemy as sa
from alembic import op

revision = "0009.voices"
down_revision = "0008.held_clips"


def upgrade() -> None:
    op.add_column("cameo", sa.Column("voice", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("cameo", "voice")
