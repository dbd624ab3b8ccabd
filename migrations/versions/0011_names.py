"""what the names of people enrolled here are looked up by"""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0011.names"
down_revision = "0010.voices"

MOST_WORDS = 4
FEWEST_LETTERS = 8


def upgrade() -> None:
    op.add_column("cameo", sa.Column("name_key", sa.String(length=320), nullable=True))
    op.create_index(op.f("ix_cameo_name_key"), "cameo", ["name_key"], unique=False)
    rows = op.get_bind()
    cameo = sa.table("cameo", sa.column("person_id"), sa.column("name_key"))
    named = rows.execute(
        sa.text("SELECT c.person_id, p.display_name FROM cameo c JOIN person p ON p.id = c.person_id")
    ).all()
    for person_id, name in named:
        rows.execute(sa.update(cameo).where(cameo.c.person_id == person_id).values(name_key=_key(name)))


def downgrade() -> None:
    op.drop_index(op.f("ix_cameo_name_key"), table_name="cameo")
    op.drop_column("cameo", "name_key")


def _key(name: str) -> str | None:
    """Of somebody enrolled before names were looked for. A later change of name is looked at more closely."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(" " if not (c.isalnum() or unicodedata.combining(c)) else c for c in plain)
    words = "".join(c for c in letters if not unicodedata.combining(c)).split()
    joined = "".join(words)
    return joined if 1 < len(words) <= MOST_WORDS and len(joined) >= FEWEST_LETTERS else None
