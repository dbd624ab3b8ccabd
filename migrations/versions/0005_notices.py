"""notices of people without an account, the faces nobody may generate, letters to be sent"""

import sqlalchemy as sa
from alembic import op

revision = "0005.notices"
down_revision = "0004.webhooks"


def _of_notice(table: str) -> list[sa.Column | sa.Constraint]:
    return [
        sa.Column("notice_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["notice_id"], ["notice.id"], name=op.f(f"fk_{table}_notice_id_notice")),
    ]


def upgrade() -> None:
    op.create_table(
        "notice",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("video_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("first_due_at", sa.BigInteger(), nullable=True),
        sa.Column("first_decided_at", sa.BigInteger(), nullable=True),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_notice_video_id_video")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
    )
    op.create_index(op.f("ix_notice_status_due_at"), "notice", ["status", "due_at"], unique=False)
    op.create_table(
        "notice_video",
        *_of_notice("notice_video"),
        sa.Column("video_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_notice_video_video_id_video")),
        sa.PrimaryKeyConstraint("notice_id", "video_id", name=op.f("pk_notice_video")),
    )
    op.create_index(op.f("ix_notice_video_video_id"), "notice_video", ["video_id"], unique=False)
    op.create_table(
        "do_not_generate",
        *_of_notice("do_not_generate"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("notice_id", name=op.f("pk_do_not_generate")),
        sa.UniqueConstraint("since", name=op.f("uq_do_not_generate_since")),
    )
    op.create_table(
        "mail",
        sa.Column("id", sa.String(length=64), nullable=False),
        *_of_notice("mail"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail")),
    )
    op.create_index(op.f("ix_mail_notice_id"), "mail", ["notice_id"], unique=False)
    op.create_index(op.f("ix_mail_next_at"), "mail", ["next_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_mail_next_at"), table_name="mail")
    op.drop_index(op.f("ix_mail_notice_id"), table_name="mail")
    op.drop_table("mail")
    op.drop_table("do_not_generate")
    op.drop_index(op.f("ix_notice_video_video_id"), table_name="notice_video")
    op.drop_table("notice_video")
    op.drop_index(op.f("ix_notice_status_due_at"), table_name="notice")
    op.drop_table("notice")
