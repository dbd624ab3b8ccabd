"""the voices of those who are enrolled"""

import sqlalchemy as sa
from alembic import op

revision = "0010.voices"
down_revision = "0009.cameo_changes"


def upgrade() -> None:
    op.add_column("cameo", sa.Column("voice", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("cameo", "voice")
