"""Opening the database: SQLite (WAL, synchronous=FULL) or PostgreSQL, one Alembic history for both.

Writers and readers use separate sessions. A writer's transaction takes the one write lock before it reads
anything, so what it reads cannot change before it commits: BEGIN IMMEDIATE on SQLite, an advisory lock on
PostgreSQL. A reader sees one state of the database throughout.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import OperationalError
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from ledger.errors import Unavailable

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


class Database:
    """Sessions over one engine. Foreign exceptions become `Unavailable` at this edge; callers deny."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._writing = self.engine.execution_options(**_WRITING[self.engine.dialect.name])
        self._altering = self._writing.execution_options(altering=True)

    def migrate(self) -> None:
        """Bring the schema to the newest revision. Safe to run from several processes at once.

        Raises Unavailable for a database that a newer version of the service has written.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            with self.altering() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise Unavailable(
                "store.schema",
                "the database has a schema that this version of the service does not know",
                "run the version that wrote it, or a newer one",
            ) from error

    @contextmanager
    def altering(self) -> Iterator[Connection]:
        """One transaction in which tables may be made anew: what refers to what is checked at its end.

        SQLite changes a column by copying its table, and while foreign keys are enforced no table with rows that
        others refer to can be dropped for its copy.
        """
        with translated(), self._altering.connect() as connection:
            try:
                with connection.begin():
                    yield connection
                    _check_references(connection)
            finally:
                # It enforces no foreign keys: nobody may have it after this.
                connection.invalidate()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Commits at the end of the block, or rolls everything back."""
        with translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


def _check_references(connection: Connection) -> None:
    """Where they were not enforced. Raises Unavailable."""
    if connection.dialect.name != "sqlite":
        return
    if dangling := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
        raise Unavailable(
            "store.dangling",
            f"`{len(dangling)}` rows would refer to rows that are not there",
            "restore a backup; nothing was changed",
        )


@contextmanager
def translated() -> Iterator[None]:
    """What the database could not do leaves as `Unavailable`, with the driver's exception as its cause."""
    try:
        yield
    except SQLAlchemyError as error:
        raise Unavailable(
            "store.unavailable",
            f"the database could not do its work ({type(error).__name__})",
            "try again; if it persists, see the service's log",
        ) from error


# READ COMMITTED: a writer that waited for its turn must see what the one before it committed; under stricter
# levels it would keep seeing the state from before the wait.
_WRITING: dict[str, dict[str, Any]] = {
    "sqlite": {"writing": True},
    "postgresql": {"writing": True, "isolation_level": "READ COMMITTED"},
}
_WRITE_LOCK = int.from_bytes(b"csign", "big")
"""Names the writers' lock among a PostgreSQL database's advisory locks."""


def _engine(url: str) -> Engine:
    return _sqlite(url) if url.startswith("sqlite") else _postgresql(url)


def _postgresql(url: str) -> Engine:
    # REPEATABLE READ: size, entries and nodes that are read together belong together.
    engine = create_engine(url, pool_pre_ping=True, isolation_level="REPEATABLE READ")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Released by the database itself after the commit is visible, or when the connection is lost.
        if connection.get_execution_options().get("writing"):
            connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")

    return engine


def _sqlite(url: str) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver must not open transactions on its own: _begin decides which lock they take.
        connection.isolation_level = None
        _use_wal(connection)
        # secure_delete: what an erasure deletes is overwritten; many builds of SQLite leave it in the file.
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("altering"):
            # Now or never: inside a transaction this pragma does nothing.
            connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
        # IMMEDIATE: two writers never both read the head and then fight over it.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writing") else "BEGIN")

    return engine


def _use_wal(connection: Any) -> None:
    """Switch a new file to write-ahead logging. It stays so; only processes that start together race for it.

    The switch needs the file alone, and SQLite refuses at once instead of waiting for its busy timeout.
    """
    for _ in range(200):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except OperationalError:
            time.sleep(0.05)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")
