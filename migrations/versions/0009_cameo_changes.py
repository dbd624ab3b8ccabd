"""what came and went among likenesses, for those who hold them all in memory"""

import sqlalchemy as sa
from alembic import op

revision = "0009.cameo_changes"
down_revision = "0008.held_clips"


def upgrade() -> None:
    op.create_table(
        "cameo_change",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cameo_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_cameo_change")),
    )


def downgrade() -> None:
    op.drop_table("cameo_change")
