"""first tables"""

import sqlalchemy as sa
from alembic import op

revision = "0001.epochs"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("hint", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_api_key")),
    )
    op.create_table(
        "app",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_app")),
    )
    op.create_table(
        "head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_head")),
    )
    op.create_table(
        "log_entry",
        sa.Column("index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("ref", sa.String(length=96), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("commitments", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("index", name=op.f("pk_log_entry")),
        sa.UniqueConstraint("kind", "ref", name=op.f("uq_log_entry_kind_ref")),
    )
    op.create_table(
        "login_nonce",
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_login_nonce")),
    )
    op.create_table(
        "operator",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator")),
        sa.UniqueConstraint("public_key", name=op.f("uq_operator_public_key")),
    )
    op.create_table(
        "person",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("display_name", sa.String(length=80), nullable=False),
        sa.Column("device_key", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
        sa.UniqueConstraint("device_key", name=op.f("uq_person_device_key")),
    )
    op.create_table(
        "subject_key",
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("next_n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject_id", name=op.f("pk_subject_key")),
    )
    op.create_table(
        "cameo",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("likeness", sa.LargeBinary(), nullable=False),
        sa.Column("portrait", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_cameo_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cameo")),
        sa.UniqueConstraint("person_id", name=op.f("uq_cameo_person_id")),
    )
    op.create_table(
        "person_session",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.id"], name=op.f("fk_person_session_person_id_person")
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_person_session")),
    )
    op.create_table(
        "record",
        sa.Column("tag", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tag", name=op.f("pk_record")),
    )
    op.create_table(
        "video",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("size", sa.String(length=16), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("completed_at", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("permit", sa.Text(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("object_key", sa.String(length=128), nullable=True),
        sa.Column("manifest_id", sa.String(length=128), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["app_id"], ["app.id"], name=op.f("fk_video_app_id_app")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_video")),
        sa.UniqueConstraint("payload", name=op.f("uq_video_payload")),
    )
    with op.batch_alter_table("video", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_video_app_id_created_at_id"), ["app_id", "created_at", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_video_manifest_id"), ["manifest_id"], unique=False)

    op.create_table(
        "video_grant",
        sa.Column("video_id", sa.String(length=64), nullable=False),
        sa.Column("grant_id", sa.String(length=64), nullable=False),
        sa.Column("cameo_id", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_video_grant_video_id_video")),
        sa.PrimaryKeyConstraint("video_id", "grant_id", name=op.f("pk_video_grant")),
    )
    with op.batch_alter_table("video_grant", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_video_grant_cameo_id"), ["cameo_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_video_grant_grant_id"), ["grant_id"], unique=False)

    # The one row that says how long the log is.
    op.bulk_insert(sa.table("head", sa.column("id"), sa.column("size")), [{"id": 1, "size": 0}])


def downgrade() -> None:
    with op.batch_alter_table("video_grant", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_video_grant_grant_id"))
        batch_op.drop_index(batch_op.f("ix_video_grant_cameo_id"))

    op.drop_table("video_grant")
    with op.batch_alter_table("video", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_video_manifest_id"))
        batch_op.drop_index(batch_op.f("ix_video_app_id_created_at_id"))

    op.drop_table("video")
    op.drop_table("record")
    op.drop_table("person_session")
    op.drop_table("cameo")
    op.drop_table("subject_key")
    op.drop_table("person")
    op.drop_table("operator")
    op.drop_table("login_nonce")
    op.drop_table("log_entry")
    op.drop_table("head")
    op.drop_table("app")
    op.drop_table("api_key")
