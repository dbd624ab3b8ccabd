"""the manifests of released clips, kept beside them"""

import sqlalchemy as sa
from alembic import op

revision = "0013.manifests"
down_revision = "0012.fingerprints"


def upgrade() -> None:
    op.create_table(
        "manifest",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("video_id", sa.String(length=64), nullable=False),
        sa.Column("store", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_manifest_video_id_video")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_manifest")),
        sa.UniqueConstraint("video_id", name=op.f("uq_manifest_video_id")),
    )


def downgrade() -> None:
    op.drop_table("manifest")
