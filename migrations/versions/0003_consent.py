"""accounts with passkeys, recovery codes, tokens, captures, reviews, drafts, lineage"""

import sqlalchemy as sa
from alembic import op

revision = "0003.consent"
down_revision = "0002.policies"

_FILLED = {
    "person": ["language"],
    "person_session": ["key_id", "agent", "created_at"],
    "login_nonce": ["purpose", "detail"],
    "app": ["public_key"],
    "video": ["action", "downloads"],
}


def _person(*more: sa.Constraint, table: str) -> list[sa.Column | sa.Constraint]:
    return [
        sa.Column("person_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f(f"fk_{table}_person_id_person")),
        *more,
    ]


def upgrade() -> None:
    op.create_table(
        "credential",
        sa.Column("id", sa.String(length=1400), nullable=False),
        *_person(table="credential"),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("rp_id", sa.String(length=255), nullable=False),
        sa.Column("origin", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credential")),
    )
    op.create_index(op.f("ix_credential_person_id"), "credential", ["person_id"], unique=False)
    # The one key that a person had is the first of their credentials.
    op.execute(
        "INSERT INTO credential (id, person_id, kind, public_key, rp_id, origin, name, sign_count, created_at)"
        " SELECT device_key, id, 'device', device_key, '', '', '', 0, created_at FROM person"
    )
    with op.batch_alter_table("person") as batch:
        batch.drop_constraint(op.f("uq_person_device_key"), type_="unique")
        batch.drop_column("device_key")
        batch.add_column(sa.Column("language", sa.String(length=5), nullable=False, server_default="en"))
        batch.add_column(sa.Column("handle", sa.LargeBinary(), nullable=True))
        batch.create_unique_constraint(op.f("uq_person_handle"), ["handle"])
    op.create_table(
        "recovery_code",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        *_person(table="recovery_code"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_recovery_code")),
    )
    op.create_index(op.f("ix_recovery_code_person_id"), "recovery_code", ["person_id"], unique=False)
    op.create_table(
        "token",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        *_person(table="token"),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_person_id"), "token", ["person_id"], unique=False)
    op.create_table(
        "capture",
        sa.Column("id", sa.String(length=64), nullable=False),
        *_person(table="capture"),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("object_key", sa.String(length=128), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_capture")),
    )
    op.create_index(op.f("ix_capture_person_id"), "capture", ["person_id"], unique=False)
    op.create_table(
        "review",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        *_person(table="review"),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review")),
    )
    op.create_index(op.f("ix_review_person_id"), "review", ["person_id"], unique=False)
    op.create_table(
        "draft",
        sa.Column("video_id", sa.String(length=64), nullable=False),
        sa.Column("stamped", sa.Text(), nullable=False),
        sa.Column("object_key", sa.String(length=128), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_draft_video_id_video")),
        sa.PrimaryKeyConstraint("video_id", name=op.f("pk_draft")),
    )
    with op.batch_alter_table("person_session") as batch:
        batch.add_column(sa.Column("key_id", sa.String(length=1400), nullable=False, server_default=""))
        batch.add_column(sa.Column("agent", sa.String(length=120), nullable=False, server_default=""))
        batch.add_column(sa.Column("created_at", sa.BigInteger(), nullable=False, server_default="0"))
        batch.create_index(op.f("ix_person_session_person_id"), ["person_id"], unique=False)
    with op.batch_alter_table("login_nonce") as batch:
        batch.add_column(sa.Column("purpose", sa.String(length=32), nullable=False, server_default="session"))
        batch.add_column(sa.Column("detail", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("app") as batch:
        batch.add_column(sa.Column("public_key", sa.String(length=64), nullable=False, server_default=""))
    with op.batch_alter_table("video") as batch:
        batch.add_column(sa.Column("action", sa.String(length=16), nullable=False, server_default="generate"))
        batch.add_column(sa.Column("parent_id", sa.String(length=64), nullable=True))
        batch.add_column(sa.Column("requested_by", sa.String(length=64), nullable=True))
        batch.add_column(sa.Column("downloads", sa.BigInteger(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("taken_down_at", sa.BigInteger(), nullable=True))
        batch.create_index(op.f("ix_video_parent_id"), ["parent_id"], unique=False)
    # The defaults were for the rows that were there.
    for table, columns in _FILLED.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.alter_column(column, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("video") as batch:
        batch.drop_index(op.f("ix_video_parent_id"))
        for column in ("action", "parent_id", "requested_by", "downloads", "taken_down_at"):
            batch.drop_column(column)
    with op.batch_alter_table("app") as batch:
        batch.drop_column("public_key")
    with op.batch_alter_table("login_nonce") as batch:
        batch.drop_column("purpose")
        batch.drop_column("detail")
    with op.batch_alter_table("person_session") as batch:
        batch.drop_index(op.f("ix_person_session_person_id"))
        batch.drop_column("key_id")
        batch.drop_column("agent")
        batch.drop_column("created_at")
    op.drop_table("draft")
    for table in ("review", "capture", "token", "recovery_code"):
        op.drop_index(op.f(f"ix_{table}_person_id"), table_name=table)
        op.drop_table(table)
    with op.batch_alter_table("person") as batch:
        batch.add_column(sa.Column("device_key", sa.String(length=64), nullable=True))
    # Of several keys one is kept, and a passkey is none that this older form could hold.
    op.execute(
        "UPDATE person SET device_key = (SELECT min(public_key) FROM credential"
        " WHERE credential.person_id = person.id AND kind = 'device')"
    )
    op.execute("UPDATE person SET device_key = id WHERE device_key IS NULL")
    with op.batch_alter_table("person") as batch:
        batch.alter_column("device_key", existing_type=sa.String(length=64), nullable=False)
        batch.create_unique_constraint(op.f("uq_person_device_key"), ["device_key"])
        batch.drop_constraint(op.f("uq_person_handle"), type_="unique")
        batch.drop_column("handle")
        batch.drop_column("language")
    op.drop_index(op.f("ix_credential_person_id"), table_name="credential")
    op.drop_table("credential")
