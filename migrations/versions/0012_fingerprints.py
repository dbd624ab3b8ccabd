"""what the pictures of each released clip look like"""

import sqlalchemy as sa
from alembic import op

revision = "0012.fingerprints"
down_revision = "0011.names"


def upgrade() -> None:
    op.create_table(
        "fingerprint",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("video_id", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_fingerprint_video_id_video")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_fingerprint")),
        sa.UniqueConstraint("video_id", name=op.f("uq_fingerprint_video_id")),
    )


def downgrade() -> None:
    op.drop_table("fingerprint")
