"""Runs migrations on the connection the service hands over: one history for SQLite and PostgreSQL."""

from typing import Any

from alembic import context
from sqlmodel import AutoString, SQLModel

import ledger.store.tables  # noqa: F401 — registers the tables


def _plain_strings(kind: str, item: Any, _context: Any) -> str | bool:
    """Write sqlmodel's string type as SQLAlchemy's own, so that a revision needs no import of ours."""
    return f"sa.String(length={item.length})" if kind == "type" and isinstance(item, AutoString) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    render_item=_plain_strings,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
