"""lists of known prohibited pictures"""

import sqlalchemy as sa
from alembic import op

revision = "0007.hash_lists"
down_revision = "0006.identities"


def upgrade() -> None:
    op.create_table(
        "hash_list",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("bits", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("imported_by", sa.String(length=80), nullable=False),
        sa.Column("imported_at", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hash_list")),
        sa.UniqueConstraint("place", name=op.f("uq_hash_list_place")),
    )


def downgrade() -> None:
    op.drop_table("hash_list")
