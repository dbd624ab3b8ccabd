"""which account an issuer's identity was used for"""

import sqlalchemy as sa
from alembic import op

revision = "0006.identities"
down_revision = "0005.notices"


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_identity_person_id_person")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_identity")),
    )
    op.create_index(op.f("ix_identity_person_id"), "identity", ["person_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_identity_person_id"), table_name="identity")
    op.drop_table("identity")
