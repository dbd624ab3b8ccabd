"""policy sets, orders, tallies, and an index to count an app's running jobs"""

import sqlalchemy as sa
from alembic import op

revision = "0002.policies"
down_revision = "0001.epochs"


def upgrade() -> None:
    op.create_table(
        "policy_set",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("files", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_policy_set")),
        sa.UniqueConstraint("shadow", name=op.f("uq_policy_set_shadow")),
    )
    op.create_table(
        "order_signature",
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("statement", "public_key", name=op.f("pk_order_signature")),
    )
    op.create_table(
        "shadow_count",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("policy_id", sa.String(length=96), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "outcome", "policy_id", name=op.f("pk_shadow_count")),
    )
    op.create_table(
        "tally",
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tally")),
    )
    op.create_index(op.f("ix_tally_expires_at"), "tally", ["expires_at"], unique=False)
    op.create_index(op.f("ix_video_app_id_status"), "video", ["app_id", "status"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_video_app_id_status"), table_name="video")
    op.drop_index(op.f("ix_tally_expires_at"), table_name="tally")
    op.drop_table("tally")
    op.drop_table("shadow_count")
    op.drop_table("order_signature")
    op.drop_table("policy_set")
