"""One order, nothing lost, nothing signed that is not durable: threads, processes, faults, kills and tampering."""

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

import pytest
from sqlalchemy import event

from ledger.errors import Inconsistent, LedgerError, LogError, NotFound, Unavailable
from ledger.ids import AppId, LeafIndex, new_id
from ledger.keys import Keyring, Rotated, tag_of
from ledger.log import publisher
from ledger.log.merkle import consistency_proof, leaf_hash, verify_consistency
from ledger.log.note import SignerKey, open_checkpoint
from ledger.log.public import EPOCH_TAGS, public_bytes
from ledger.log.sequencer import Ledger
from ledger.store.database import Database
from ledger.store.journal import About, Draft
from ledger.store.records import App
from ledger.store.transaction import Transaction
from safety.chain import Allowed
from world import (
    ORIGIN,
    START,
    Someone,
    World,
    check_log,
    open_ledger,
    signed_head,
    statement,
    stored_leaves,
)

pytestmark = pytest.mark.slow

KIND = "approval"
ROLES: tuple[Rotated, ...] = ("service", "log", "receipt")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that was started once; tests take a copy."""
    home = tmp_path_factory.mktemp("empty") / "home"
    open_ledger(home)[0].close()
    return home


@pytest.fixture
def home(empty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty, tmp_path / "home"))


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    opened, _ = open_ledger(home)
    yield opened
    opened.close()


def new_app(ledger: Ledger) -> AppId:
    app = App(AppId(new_id("app")), "Film Club", created_at=0)
    ledger.transact(lambda tx: tx.add_app(app))
    return app.id


def draft(app: AppId, ref: str, at: datetime = START) -> Draft:
    return Draft(KIND, ref, [About(app, "requester", {"video_id": ref, "approved": True})], at)


def append(app: AppId, ref: str, at: datetime = START) -> Callable[[Transaction], LeafIndex]:
    return lambda tx: tx.append_all([draft(app, ref, at)])[0]


def write(ledger: Ledger, app: AppId, *refs: str) -> list[LeafIndex]:
    return [ledger.transact(append(app, ref)) for ref in refs]


def refs(ledger: Ledger, app: AppId) -> list[str]:
    """What is recorded about the app, in log order, each numbered without a gap, at its own place."""
    with ledger.reading() as tx:
        opened = tx.entries(app)
    assert [entry.opening.n for entry in opened] == list(range(len(opened)))
    assert [entry.index for entry in opened] == places(ledger)
    return [entry.body["video_id"] for entry in opened]


def places(ledger: Ledger) -> list[int]:
    """Where the log holds entries about people; between them stand the service's own statements."""
    return [at for at, leaf in enumerate(stored_leaves(ledger)) if statement(leaf, ORIGIN)[0] == "entry"]


def signed_size(ledger: Ledger) -> int:
    return signed_head(ledger.checkpoint(), str(ledger.verifier))[0]


def check_whole(ledger: Ledger, *earlier: bytes) -> int:
    """The outsider's check, when everything that is stored should be signed. Returns how many entries there are."""
    assert check_log(ledger, *earlier) == len(stored_leaves(ledger))
    return len(places(ledger))


def refused_start(home: Path) -> LedgerError:
    with pytest.raises(LogError) as error:
        open_ledger(home)
    return error.value


# ── one order ─────────────────────────────────────────────────────────────────────────────────────────────


def test_threads_lose_nothing_and_agree_on_one_order(ledger: Ledger) -> None:
    app, threads, each = new_app(ledger), 8, 12
    together = threading.Barrier(threads)

    def work(thread: int) -> list[LeafIndex]:
        together.wait()
        indices = []
        for n in range(each):
            index = ledger.transact(append(app, f"{thread}.{n}"))
            # An answer is given only under a checkpoint that covers it.
            assert open_checkpoint(ledger.checkpoint(), ledger.verifier).checkpoint.size > index
            indices.append(index)
        return indices

    with ThreadPoolExecutor(threads) as pool:
        told = list(pool.map(work, range(threads)))
    assert sorted(index for indices in told for index in indices) == places(ledger)
    for thread, indices in enumerate(told):
        assert indices == sorted(indices)
        with ledger.reading() as tx:
            for n, index in enumerate(indices):
                place = tx.find(KIND, f"{thread}.{n}")
                assert place is not None
                assert place.index == index
    assert len(refs(ledger, app)) == check_whole(ledger) == threads * each
    leaves = stored_leaves(ledger)
    for at in (0, 1, 5, len(leaves) // 2, len(leaves) - 1):
        ledger.proof(LeafIndex(at)).verify(leaf_hash(leaves[at]), ledger.verifier)


class Group:
    """Hold the sequencer in one operation while others queue up behind it, so that they commit together."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.commits = -1  # the one it is held in is not counted
        event.listen(ledger.database.engine, "commit", self._count)
        self._pool = ThreadPoolExecutor(32)
        self._go, begun = threading.Event(), threading.Event()

        def hold(tx: Transaction) -> None:
            begun.set()
            self._go.wait(30)

        self._holding = self._pool.submit(ledger.transact, hold)
        assert begun.wait(30)

    def _count(self, _connection: object) -> None:
        self.commits += 1

    def run(self, *works: Callable[[Transaction], Any] | Draft) -> list[Any]:
        """What each answered, or the exception it was answered with."""
        waiting = []
        for queued, work in enumerate(works, 1):
            waiting.append(self._pool.submit(self.ledger._submit, work))
            while self.ledger._queue.qsize() < queued:  # in this order
                time.sleep(0.001)
        self._go.set()
        self._holding.exception(30)
        answers = [future.exception(30) or future.result() for future in waiting]
        self._pool.shutdown()
        return answers


def test_an_operation_that_fails_in_a_group_undoes_only_itself(ledger: Ledger) -> None:
    app, bystander = new_app(ledger), AppId(new_id("app"))

    def fails(ref: str) -> Callable[[Transaction], NoReturn]:
        def operation(tx: Transaction) -> NoReturn:
            append(app, ref)(tx)
            tx.add_app(App(bystander, "never", created_at=0))
            raise ValueError(ref)

        return operation

    group = Group(ledger)
    answers = group.run(
        append(app, "a"), fails("b"), append(app, "c"), fails("d"), append(app, "a"), append(app, "e")
    )
    assert group.commits == 1, "the operations were not committed together"
    kinds = [type(answer) if isinstance(answer, Exception) else int for answer in answers]
    # The fifth asks for a place that is taken: the database refuses, and only that operation.
    assert kinds == [int, ValueError, int, ValueError, Unavailable, int]
    assert refs(ledger, app) == ["a", "c", "e"]
    with ledger.reading() as tx:
        assert tx.app(bystander) is None
    assert check_whole(ledger) == 3


def test_drafts_that_wait_together_are_written_together_and_a_refused_one_alone_is_not(
    ledger: Ledger,
) -> None:
    app = new_app(ledger)
    group = Group(ledger)
    answers = group.run(
        draft(app, "a"),
        draft(app, "b"),
        draft(app, "a"),
        Draft("a kind nobody defined", "c", [About(app, "requester", {})], START),
        Draft(KIND, "d", [About(app, "owner", {"video_id": "d", "approved": True})], START),
        draft(AppId(new_id("app")), "e"),
        append(app, "f"),
        draft(app, "g"),
    )
    assert group.commits == 1
    kinds = [type(answer) if isinstance(answer, Exception) else int for answer in answers]
    assert kinds == [int, int, Unavailable, LogError, LogError, NotFound, int, int]
    first = answers[0]
    assert [answer for answer in answers if isinstance(answer, int)] == [
        first,
        first + 1,
        first + 2,
        first + 3,
    ]
    assert refs(ledger, app) == ["a", "b", "f", "g"]
    assert check_whole(ledger) == 4


def test_an_epoch_that_is_full_ends_in_the_middle_of_a_group(ledger: Ledger) -> None:
    app, most = new_app(ledger), EPOCH_TAGS // 2

    def many(name: str, number: int) -> Callable[[Transaction], list[LeafIndex]]:
        return lambda tx: tx.append_all([draft(app, f"{name}.{n}") for n in range(number)])

    group = Group(ledger)
    a, b, too_many, c, after = group.run(
        many("a", most), many("b", most), many("x", EPOCH_TAGS + 1), many("c", 3), append(app, "after")
    )
    assert group.commits == 1
    # Whoever asks for more than fits in one epoch is refused, and nobody beside them.
    assert isinstance(too_many, LogError)
    assert too_many.reason.id == "log.epoch"
    assert (len(a), len(b), len(c)) == (most, most, 3)
    leaves = stored_leaves(ledger)
    epochs = [at for at, leaf in enumerate(leaves) if statement(leaf, ORIGIN)[0] == "epoch"]
    assert sum(a[0] <= at <= after for at in epochs) == 1
    assert max(map(len, leaves)) <= 65_535
    assert check_whole(ledger) == 2 * most + 4
    assert len(refs(ledger, app)) == 2 * most + 4


def test_drafts_that_are_too_many_for_one_epoch_are_spread_over_several(ledger: Ledger) -> None:
    apps = [new_app(ledger) for _ in range(9)]

    def about_all(ref: str) -> Draft:
        body = {"video_id": ref, "approved": True}
        return Draft(KIND, ref, [About(app, "requester", body) for app in apps], START)

    number = EPOCH_TAGS // len(apps) + 1
    with ThreadPoolExecutor(number + 1) as pool:
        holding, go = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            holding.set()
            assert go.wait(30)

        held = pool.submit(ledger.transact, hold)
        assert holding.wait(30)
        waiting = [pool.submit(ledger.append, about_all(str(n))) for n in range(number)]
        while ledger._queue.qsize() < number:
            time.sleep(0.001)
        go.set()
        held.result(30)
        indices = [future.result(30) for future in waiting]
    assert sorted(indices) == places(ledger)
    assert check_whole(ledger) == number


def test_a_lingering_sequencer_waits_for_company(home: Path) -> None:
    keyring, database = Keyring.open(home / "keys"), Database(f"sqlite:///{home / 'ledger.db'}")
    ledger = Ledger(database, keyring, ORIGIN, home / "log", linger_s=0.4)
    app = new_app(ledger)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ledger.transact, append(app, "a"))
        time.sleep(0.05)
        second = pool.submit(ledger.append, draft(app, "b"))
        # One after the other, and one epoch over both.
        assert second.result(30) == first.result(30) + 1
    began = time.monotonic()
    write(ledger, app, "c")
    assert time.monotonic() - began >= 0.4, "nobody came, and it did not wait"
    assert check_whole(ledger) == 3
    ledger.close()


def test_time_in_the_log_never_runs_backwards(home: Path) -> None:
    """A clock that jumps moves entries and epochs forward only, and over a restart as well."""
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    jumps = (0, 5, -900, 86_400 * 365 * 9, -86_400 * 365 * 30, 7)
    clocks = [START + timedelta(seconds=seconds) for seconds in jumps]
    for n, at in enumerate(clocks):
        ledger.transact(append(app, f"a{n}", at))
    group = Group(ledger)
    group.run(*(draft(app, f"b{n}", at) for n, at in enumerate(clocks)), append(app, "c", clocks[4]))
    ledger.close()
    ledger, _ = open_ledger(home)
    ledger.transact(append(app, "d", START))
    epochs = [said[5] for kind, _, said, _, _ in _statements(ledger) if kind == "epoch"]
    with ledger.reading() as tx:
        opened = tx.entries(app)
        told = [tx.find(KIND, ref) for ref in refs(ledger, app)]
    times = [place.at for place in told if place is not None]
    assert len(times) == len(told) == 2 * len(jumps) + 2
    for sequence in (epochs, times, [entry.body["at"] for entry in opened]):
        assert sequence == sorted(sequence)
    assert times[:2] == [int(START.timestamp()), int(START.timestamp()) + 5]
    assert times[-1] == max(int(clock.timestamp()) for clock in clocks)
    check_whole(ledger)
    ledger.close()


def _statements(ledger: Ledger) -> list[Any]:
    return [statement(leaf, ORIGIN) for leaf in stored_leaves(ledger)]


def test_an_operation_sees_what_the_ones_before_it_in_its_group_wrote(ledger: Ledger) -> None:
    app = new_app(ledger)

    def once(tx: Transaction) -> LeafIndex:
        found = tx.find(KIND, "once")
        return append(app, "once")(tx) if found is None else found.index

    answers = Group(ledger).run(*[once] * 12)
    assert check_whole(ledger) == 1
    assert answers == places(ledger) * 12


def test_a_group_that_cannot_be_committed_is_answered_with_one_refusal_each(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(ledger)
    group = Group(ledger)

    def broken(connection: Any) -> NoReturn:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(ledger.database.engine.dialect, "do_commit", broken)
    answers = group.run(*(append(app, str(n)) for n in range(5)))
    assert {type(answer) for answer in answers} == {Unavailable}
    monkeypatch.undo()
    assert check_whole(ledger) == 0
    assert write(ledger, app, "after") == places(ledger)
    assert check_whole(ledger) == 1


def test_an_answer_waits_until_the_entry_is_signed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    app, reached, go = new_app(ledger), threading.Event(), threading.Event()
    before = signed_size(ledger)

    def slow(path: Path, content: bytes) -> None:
        reached.set()
        assert go.wait(30)
        publisher.replace(path, content)

    monkeypatch.setattr("ledger.log.sequencer.replace", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ledger.transact, append(app, "a"))
        assert reached.wait(30)
        # Durable already, and nobody was told.
        (index,) = places(ledger)
        assert index == before == signed_size(ledger)
        with pytest.raises(LogError) as error:
            ledger.proof(LeafIndex(index))
        assert error.value.reason.id == "log.not_yet"
        assert not answer.done()
        go.set()
        assert answer.result(30) == index
    assert check_whole(ledger) == 1


def test_a_closed_ledger_refuses_instead_of_keeping_its_caller_waiting(home: Path) -> None:
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ledger.transact, append(app, str(n))) for n in range(40)]
        ledger.close()
        failed = [future.exception(30) for future in asked]
    assert all(error is None or isinstance(error, Unavailable) for error in failed)
    reopened, _ = open_ledger(home)
    assert check_whole(reopened) == failed.count(None) == len(refs(reopened, app))
    reopened.close()


# ── starting again ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def stopped(home: Path) -> Path:
    """A home whose ledger of seven entries has been closed."""
    ledger, _ = open_ledger(home)
    write(ledger, new_app(ledger), *"abcdefg")
    ledger.close()
    return home


def change(home: Path, *statements: str) -> None:
    """Someone with access to the file, who knows nothing of our code."""
    with closing(sqlite3.connect(home / "ledger.db")) as database, database:
        for statement in statements:
            database.execute(statement)


def query(home: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / "ledger.db")) as database:
        return database.execute(statement).fetchall()


def test_a_restart_signs_what_a_crash_left_unsigned(home: Path) -> None:
    ledger, _ = open_ledger(home)
    app, seen = new_app(ledger), []
    for ref in "abcde":
        seen.append(ledger.checkpoint())
        write(ledger, app, ref)
    ledger.close()
    for older in seen:
        (home / "log" / "checkpoint").write_bytes(older)
        reopened, _ = open_ledger(home)
        assert check_whole(reopened, *seen) == 5
        reopened.close()


def test_a_restart_with_nothing_new_signs_nothing_new(stopped: Path) -> None:
    before = (stopped / "log" / "checkpoint").read_bytes()
    open_ledger(stopped)[0].close()
    assert (stopped / "log" / "checkpoint").read_bytes() == before


def test_an_empty_log_has_a_signed_checkpoint(ledger: Ledger) -> None:
    assert check_log(ledger) == 0


def test_a_database_restored_from_a_backup_is_not_signed_again(home: Path) -> None:
    """Its next entries would fork what readers already hold a checkpoint of."""
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    write(ledger, app, "a", "b")
    ledger.close()
    shutil.copy(home / "ledger.db", home / "backup.db")
    ledger, _ = open_ledger(home)
    write(ledger, app, "c")
    ledger.close()
    signed = (home / "log" / "checkpoint").read_bytes()
    for _ in range(2):
        shutil.copy(home / "backup.db", home / "ledger.db")
        error = refused_start(home)
        assert isinstance(error, Inconsistent)
        assert error.reason.id == "log.rolled_back"
        assert (home / "log" / "checkpoint").read_bytes() == signed


def test_a_database_rolled_back_under_a_running_service_is_not_signed(home: Path) -> None:
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    write(ledger, app, "a", "b", "c")
    signed = ledger.checkpoint()
    last = places(ledger)[-1]
    change(
        home,
        f'DELETE FROM log_entry WHERE "index" >= {last}',
        f"UPDATE head SET size = {last}",
        "UPDATE subject_key SET next_n = 2",
    )
    for ref in "de":
        with pytest.raises(Inconsistent):
            write(ledger, app, ref)
    assert ledger.checkpoint() == signed
    ledger.close()
    refused_start(home)


def test_another_history_of_the_same_length_is_not_signed(home: Path) -> None:
    """A copy of the database that went its own way, put in place of the one that was signed."""
    other = home.with_name("other")
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    write(ledger, app, "a")
    ledger.close()
    shutil.copytree(home, other)
    for path, ref in ((home, "mine"), (other, "theirs")):
        ledger, _ = open_ledger(path)
        write(ledger, app, ref, "c")
        ledger.close()
    shutil.copy(other / "ledger.db", home / "ledger.db")
    assert refused_start(home).reason.id == "log.forked"


def test_a_lost_checkpoint_is_not_made_up(stopped: Path) -> None:
    (stopped / "log" / "checkpoint").unlink()
    assert refused_start(stopped).reason.id == "log.checkpoint_lost"
    assert not (stopped / "log" / "checkpoint").exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 200, b"test.example/log\n18\n"])
def test_a_damaged_checkpoint_is_not_signed_over(stopped: Path, content: bytes) -> None:
    (stopped / "log" / "checkpoint").write_bytes(content)
    refused_start(stopped)
    assert (stopped / "log" / "checkpoint").read_bytes() == content


def test_a_checkpoint_for_more_than_we_hold_cannot_be_forged_by_editing_it(stopped: Path) -> None:
    path = stopped / "log" / "checkpoint"
    assert b"\n18\n" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"\n18\n", b"\n16\n"))
    refused_start(stopped)


def test_another_logs_name_does_not_continue_this_log(stopped: Path) -> None:
    signed = (stopped / "log" / "checkpoint").read_bytes()
    database = Database(f"sqlite:///{stopped / 'ledger.db'}")
    with pytest.raises(LogError):
        Ledger(database, Keyring.open(stopped / "keys"), "other.example/log", stopped / "log")
    database.close()
    assert (stopped / "log" / "checkpoint").read_bytes() == signed


def test_every_altered_leaf_is_noticed_at_start(stopped: Path) -> None:
    for index, leaf in query(stopped, 'SELECT "index", leaf FROM log_entry'):
        altered = bytes([*leaf[:-1], leaf[-1] ^ 1])
        change(stopped, f"UPDATE log_entry SET leaf = x'{altered.hex()}' WHERE \"index\" = {index}")
        assert refused_start(stopped).reason.id == "log.damaged"
        change(stopped, f"UPDATE log_entry SET leaf = x'{leaf.hex()}' WHERE \"index\" = {index}")
    open_ledger(stopped)[0].close()


def test_every_missing_leaf_is_noticed_at_start(stopped: Path) -> None:
    for row in query(stopped, 'SELECT "index", kind, ref, at, hex(leaf), hex(commitments) FROM log_entry'):
        index, kind, ref, at, leaf, commitments = row
        change(stopped, f'DELETE FROM log_entry WHERE "index" = {index}')
        assert refused_start(stopped).reason.id == "log.damaged"
        values = f"{index}, '{kind}', '{ref}', {at}, x'{leaf}', x'{commitments}'"
        change(
            stopped, f'INSERT INTO log_entry ("index", kind, ref, at, leaf, commitments) VALUES ({values})'
        )
    open_ledger(stopped)[0].close()


def test_any_two_neighbours_that_changed_places_are_noticed_at_start(stopped: Path) -> None:
    leaves = [leaf for (leaf,) in query(stopped, 'SELECT leaf FROM log_entry ORDER BY "index"')]

    def put(index: int, leaf: bytes) -> None:
        change(stopped, f"UPDATE log_entry SET leaf = x'{leaf.hex()}' WHERE \"index\" = {index}")

    for index, (left, right) in enumerate(pairwise(leaves)):
        put(index, right)
        put(index + 1, left)
        assert refused_start(stopped).reason.id == "log.damaged"
        put(index, left)
        put(index + 1, right)
    open_ledger(stopped)[0].close()


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["UPDATE head SET size = 17"], "log.damaged"),
        (["UPDATE head SET size = 16"], "log.damaged"),
        (["UPDATE head SET size = 19"], "log.damaged"),
        (["UPDATE head SET size = 0"], "log.rolled_back"),
        (['DELETE FROM log_entry WHERE "index" > 15', "UPDATE head SET size = 16"], "log.rolled_back"),
        (['DELETE FROM log_entry WHERE "index" > 16', "UPDATE head SET size = 17"], "log.damaged"),
        (["DELETE FROM log_entry", "UPDATE head SET size = 0"], "log.rolled_back"),
        (['UPDATE log_entry SET "index" = 99 WHERE "index" = 16'], "log.damaged"),
        (['UPDATE log_entry SET "index" = -1 WHERE "index" = 0'], "log.damaged"),
    ],
)
def test_rows_that_contradict_each_other_or_the_checkpoint_are_noticed_at_start(
    stopped: Path, statements: list[str], reason: str
) -> None:
    signed = (stopped / "log" / "checkpoint").read_bytes()
    change(stopped, *statements)
    assert refused_start(stopped).reason.id == reason
    assert (stopped / "log" / "checkpoint").read_bytes() == signed


@pytest.mark.parametrize("size", [0, 1, 5, 17, 19, 10**6])
def test_a_head_that_lies_under_a_running_service_stops_it(stopped: Path, size: int) -> None:
    ledger, _ = open_ledger(stopped)
    app = AppId(query(stopped, "SELECT id FROM app")[0][0])
    signed = ledger.checkpoint()
    change(stopped, f"UPDATE head SET size = {size}")
    for _ in range(2):
        with pytest.raises(Inconsistent):
            write(ledger, app, "x")
    assert ledger.checkpoint() == signed
    ledger.close()
    change(stopped, "UPDATE head SET size = 18")
    ledger, _ = open_ledger(stopped)
    assert check_whole(ledger, signed) == 7
    ledger.close()


def test_a_history_rewritten_without_contradiction_is_noticed_by_the_checkpoint(stopped: Path) -> None:
    """Whoever has the database and the keys, and rewrites everything alike, can not rewrite what was given out."""
    other = stopped.with_name("other")
    shutil.copytree(stopped / "keys", other / "keys")
    ledger, _ = open_ledger(other)
    write(ledger, new_app(ledger), *"abcdefg")
    assert check_whole(ledger) == 7
    ledger.close()
    shutil.copy(other / "ledger.db", stopped / "ledger.db")
    assert refused_start(stopped).reason.id == "log.forked"


# ── one person's list, cut ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Revoked:
    """Someone whose grant, once used, has been taken back."""

    world: World
    owner: Someone
    app: AppId

    def reopened(self) -> "Revoked":
        self.world.ledger.close()
        ledger, keyring = open_ledger(self.world.home)
        return replace(self, world=World(ledger, keyring, self.world.home))

    def ask(self) -> Any:
        return self.world.gate.decide(self.world.request(self.app, self.owner), at=self.world.at)

    def refused(self) -> str:
        """Why nothing is decided, in a service that runs and in one that starts."""
        with pytest.raises(Inconsistent) as running:
            self.ask()
        again = self.reopened()
        with pytest.raises(Inconsistent) as started:
            again.ask()
        with pytest.raises(Inconsistent):
            again.world.entries(self.owner.person_id)
        assert running.value.reason.id == started.value.reason.id
        # Nobody else is kept waiting.
        bob = again.world.enrol()
        again.world.grant(bob, self.app)
        again.world.allow(self.app, bob)
        check_whole(again.world.ledger)
        again.world.ledger.close()
        return started.value.reason.id


@pytest.fixture
def revoked(home: Path) -> Iterator[Revoked]:
    ledger, keyring = open_ledger(home)
    world = World(ledger, keyring, home)
    owner, app = world.enrol(), world.app()
    grant = world.grant(owner, app)
    world.allow(app, owner)
    world.revoke(owner, grant)
    made = Revoked(world, owner, app)
    assert not isinstance(made.ask(), Allowed)
    yield made
    ledger.close()


def rows_of(revoked: Revoked) -> list[str]:
    """The tags of one person's records, first to last, in hex."""
    with revoked.world.ledger.reading() as tx:
        held = tx.held(revoked.owner.person_id)
    return [tag_of(held.list_key, n).hex() for n in range(held.count)]


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("rows_too", [False, True])
def test_a_count_turned_back_brings_no_revoked_grant_back(revoked: Revoked, cut: int, rows_too: bool) -> None:
    tags = rows_of(revoked)
    assert len(tags) == 6  # enrolment, grant, decision, revocation, what the job gave back, refusal
    if rows_too:
        change(revoked.world.home, *(f"DELETE FROM record WHERE tag = x'{tag}'" for tag in tags[-cut:]))
    change(
        revoked.world.home,
        f"UPDATE subject_key SET next_n = {6 - cut} WHERE subject_id = '{revoked.owner.person_id}'",
    )
    assert revoked.refused() == "log.hidden"


def test_a_count_turned_forward_is_noticed(revoked: Revoked) -> None:
    who = f"WHERE subject_id = '{revoked.owner.person_id}'"
    change(revoked.world.home, f"UPDATE subject_key SET next_n = next_n + 1 {who}")
    assert revoked.refused() == "log.hidden"


@pytest.mark.parametrize("n", range(6))
def test_a_record_cut_out_of_the_list_is_noticed(revoked: Revoked, n: int) -> None:
    change(revoked.world.home, f"DELETE FROM record WHERE tag = x'{rows_of(revoked)[n]}'")
    again = revoked.reopened()
    with pytest.raises(Inconsistent) as error:
        again.ask()
    assert error.value.reason.id == "log.hidden"
    again.world.ledger.close()


def test_a_record_put_in_the_place_of_another_does_not_open(revoked: Revoked) -> None:
    """The revocation overwritten with the grant, which is sealed under the same key."""
    tags = rows_of(revoked)
    change(
        revoked.world.home,
        f"UPDATE record SET sealed = (SELECT sealed FROM record WHERE tag = x'{tags[1]}')"
        f" WHERE tag = x'{tags[3]}'",
    )
    again = revoked.reopened()
    with pytest.raises(Unavailable):
        again.ask()
    again.world.ledger.close()


def test_someone_whose_key_row_is_gone_gets_no_yes(revoked: Revoked) -> None:
    for statement_ in ("UPDATE subject_key SET wrapped = NULL", "DELETE FROM subject_key"):
        change(revoked.world.home, f"{statement_} WHERE subject_id = '{revoked.owner.person_id}'")
        try:
            answer = revoked.ask()
        except LedgerError:
            continue
        assert not isinstance(answer, Allowed)


def test_a_reader_of_an_earlier_state_is_not_told_that_something_is_hidden(revoked: Revoked) -> None:
    ledger, owner = revoked.world.ledger, revoked.owner
    with ledger.reading() as early:
        before = early.entries(owner.person_id)
        grant = revoked.world.grant(owner, revoked.app)
        with ledger.reading() as late:
            assert late.standing(owner.person_id).grants[grant].live(START)
        assert early.entries(owner.person_id) == before
        assert grant not in early.standing(owner.person_id).grants
    with ledger.reading() as tx:
        assert grant in tx.standing(owner.person_id).grants


# ── the fault table: every durable step, failed and not kept, failed but kept ─────────────────────────────


class Fault:
    """Fails once, at one step of one append. `kept`: the step had its effect all the same."""

    def __init__(
        self, patch: pytest.MonkeyPatch, ledger: Ledger, step: str, *, kept: bool, code: int = errno.EIO
    ) -> None:
        self._patch, self._ledger, self._kept, self._code = patch, ledger, kept, code
        self.struck = False
        getattr(self, step)()

    def _strike(self, error: Exception | None = None) -> NoReturn:
        self.struck = True
        raise error or OSError(self._code, "injected")

    def commit(self) -> None:
        dialect = self._ledger.database.engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> Any:
            if self.struck:
                return commit(connection)
            if self._kept:
                commit(connection)
            return self._strike(sqlite3.OperationalError("injected"))

        self._patch.setattr(dialect, "do_commit", do_commit)

    def sign(self) -> None:
        """The key lives elsewhere and does not answer, or answers and the answer is lost."""
        (signer,) = self._ledger._signers

        def away(text: bytes) -> bytes:
            if self._kept:
                signer.sign(text)
            return self._strike()

        self._patch.setattr(self._ledger, "_signers", [SignerKey(signer.verifier, away)])

    def write(self) -> None:
        open_path = Path.open

        def broken(path: Path, *args: Any, **options: Any) -> Any:
            if path.name != ".checkpoint.new" or self.struck:
                return open_path(path, *args, **options)
            self.struck = True
            path.write_bytes(b"all of something else\n" * 40 if self._kept else b"half a checkp")
            return self._strike()

        self._patch.setattr(Path, "open", broken)

    def fsync(self) -> None:
        fsync = os.fsync

        def broken(descriptor: int) -> Any:
            if self.struck:
                return fsync(descriptor)
            if not self._kept:
                os.ftruncate(descriptor, 5)  # what had been written is gone
            return self._strike()

        self._patch.setattr(os, "fsync", broken)

    def rename(self) -> None:
        replace = Path.replace

        def broken(path: Path, target: Path) -> Any:
            if self.struck:
                return replace(path, target)
            if self._kept:
                replace(path, target)
            return self._strike()

        self._patch.setattr(Path, "replace", broken)

    def fsync_directory(self) -> None:
        fsync, checkpoint, calls = os.fsync, self._ledger._directory / "checkpoint", 0
        before = checkpoint.read_bytes()

        def broken(descriptor: int) -> Any:
            nonlocal calls
            calls += 1
            if calls != 2:
                return fsync(descriptor)
            if not self._kept:
                checkpoint.write_bytes(before)  # the rename is forgotten
            return self._strike()

        self._patch.setattr(os, "fsync", broken)


STEPS = ["commit", "sign", "write", "fsync", "rename", "fsync_directory"]


@pytest.mark.parametrize("next_step", ["goes on", "power cut"])
@pytest.mark.parametrize("kept", [False, True], ids=["not kept", "kept"])
@pytest.mark.parametrize("step", STEPS)
def test_a_failing_disk_loses_nothing_that_was_answered_and_forks_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, step: str, kept: bool, next_step: str
) -> None:
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    write(ledger, app, "a", "b")
    seen = [ledger.checkpoint()]
    with monkeypatch.context() as patch:
        fault = Fault(patch, ledger, step, kept=kept, code=errno.EIO if kept else errno.ENOSPC)
        with pytest.raises(Unavailable):
            write(ledger, app, "c")
        assert fault.struck
        # Readers go on; what they are shown is signed and true.
        seen.append(ledger.checkpoint())
        assert check_log(ledger, *seen) in {8, 10}
    if next_step == "power cut":
        # What lies on the disk at this moment is all there is.
        after = shutil.copytree(home, home.with_name("after"))
        ledger.close()
        ledger, _ = open_ledger(after)
        check_whole(ledger, *seen)
    # Everything after COMMIT has happened, even when the caller was told that it had not.
    survives = step != "commit" or kept
    assert refs(ledger, app) == ["a", "b", *("c" if survives else "")]

    def again(tx: Transaction) -> LeafIndex:
        found = tx.find(KIND, "c")
        return found.index if found else append(app, "c")(tx)

    assert [ledger.transact(again), *write(ledger, app, "d")] == places(ledger)[2:]
    assert check_whole(ledger, *seen) == 4
    assert refs(ledger, app) == ["a", "b", "c", "d"]
    ledger.close()


def test_a_full_disk_inside_an_operation_refuses_that_operation(ledger: Ledger) -> None:
    app = new_app(ledger)
    with ledger.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    # The limit belongs to a connection; the writer takes the one this leaves in the pool.
    with ledger.database.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def big(tx: Transaction) -> LeafIndex:
        body = {"video_id": "x" * 200_000, "approved": True}
        return tx.append(KIND, "big", [About(app, "requester", body)], at=START)

    with pytest.raises(Unavailable):
        ledger.transact(big)
    with ledger.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert write(ledger, app, "small") == places(ledger)
    assert refs(ledger, app) == ["small"]
    assert check_whole(ledger) == 1


# ── the service's own keys, changed ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("loss", ["another key", "gone"])
@pytest.mark.parametrize("role", ROLES)
def test_without_the_key_that_is_in_force_nothing_is_signed(stopped: Path, role: Rotated, loss: str) -> None:
    signed, path = (stopped / "log" / "checkpoint").read_bytes(), stopped / "keys" / f"{role}.key"
    kept = path.read_bytes()
    path.unlink()
    if loss == "another key":
        path.write_bytes(bytes(32))
    for _ in range(2):
        assert refused_start(stopped).reason.id == "log.keys"
        assert (stopped / "log" / "checkpoint").read_bytes() == signed
    path.write_bytes(kept)
    ledger, _ = open_ledger(stopped)
    write(ledger, new_app(ledger), "again")
    assert check_log(ledger, signed) == len(stored_leaves(ledger))
    ledger.close()


def test_keys_that_changed_places_are_refused(stopped: Path) -> None:
    log, service = stopped / "keys" / "log.key", stopped / "keys" / "service.key"
    kept = log.read_bytes()
    log.write_bytes(service.read_bytes())
    service.write_bytes(kept)
    assert refused_start(stopped).reason.id == "log.keys"


def test_a_rotated_key_lost_is_not_replaced_by_the_one_before_it(home: Path) -> None:
    for role in ROLES:
        ledger, _ = open_ledger(home)
        ledger.rotate(role, at=START)
        ledger.close()
        newest = home / "keys" / f"{role}-2.key"
        kept = newest.read_bytes()
        newest.unlink()
        assert refused_start(home).reason.id == "log.keys"
        newest.write_bytes(kept)
    ledger, _ = open_ledger(home)
    check_whole(ledger)
    ledger.close()


@pytest.mark.parametrize("role", ROLES)
def test_every_key_can_be_changed_again_and_again(home: Path, role: Rotated) -> None:
    ledger, _ = open_ledger(home)
    app, seen, used = new_app(ledger), [], []
    for n in range(3):
        used.append(public_bytes(getattr(ledger.keyring, role)))
        ledger.rotate(role, at=START)
        write(ledger, app, f"a{n}")
        seen.append(ledger.checkpoint())
        ledger.close()
        ledger, _ = open_ledger(home)
        write(ledger, app, f"b{n}")
    used.append(public_bytes(getattr(ledger.keyring, role)))
    assert len(refs(ledger, app)) == check_whole(ledger, *seen) == 6
    assert [public for named, public, _ in ledger.replica.keys.rows if named == role] == used
    # Readers who know the log's first key only can go on for as long as its file is kept.
    assert open_checkpoint(seen[-1], SignerKey.from_seed(ORIGIN, _seed(home, "log")).verifier)
    ledger.close()


def _seed(home: Path, name: str) -> bytes:
    return (home / "keys" / f"{name}.key").read_bytes()


def test_a_retired_log_key_may_be_removed(home: Path) -> None:
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    ledger.rotate("log", at=START)
    assert ledger.checkpoint().count("— ".encode()) == 2
    ledger.close()
    (home / "keys" / "log.key").unlink()
    ledger, _ = open_ledger(home)
    write(ledger, app, "a")
    assert ledger.checkpoint().count("— ".encode()) == 1
    assert check_whole(ledger) == 1
    ledger.close()


CRASHES = ["candidate written", "not committed", "committed", "announced", "before the rename", "renamed"]


@pytest.mark.parametrize("crash", CRASHES)
@pytest.mark.parametrize("role", ROLES)
def test_a_crash_in_the_middle_of_a_key_change_leaves_one_key_in_force(
    home: Path, monkeypatch: pytest.MonkeyPatch, role: Rotated, crash: str
) -> None:
    """The disk as it is at that moment is all that the next start finds."""
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    write(ledger, app, "a")
    seen, after = [ledger.checkpoint()], home.with_name("after")
    old = public_bytes(getattr(ledger.keyring, role))

    def die(when: bool = True) -> None:
        if when and not after.exists():
            shutil.copytree(home, after)

    with monkeypatch.context() as patch:
        dialect = ledger.database.engine.dialect
        commit, sign, rename, candidate = dialect.do_commit, ledger._sign, Path.rename, Keyring.candidate

        def committed(connection: Any) -> None:
            die(crash == "not committed")
            commit(connection)
            die(crash == "committed")

        def renamed(path: Path, target: Path) -> Any:
            die(crash == "before the rename")
            done = rename(path, target)
            die(crash == "renamed")
            return done

        def signed() -> None:
            sign()
            die(crash == "announced")

        def written(keyring: Keyring, role: Rotated) -> Any:
            made = candidate(keyring, role)
            die(crash == "candidate written")
            return made

        patch.setattr(dialect, "do_commit", committed)
        patch.setattr(Path, "rename", renamed)
        patch.setattr(ledger, "_sign", signed)
        patch.setattr(Keyring, "candidate", written)
        ledger.rotate(role, at=START)
    new = public_bytes(getattr(ledger.keyring, role))
    ledger.close()

    announced = crash not in CRASHES[:2]
    ledger, _ = open_ledger(after)
    assert public_bytes(getattr(ledger.keyring, role)) == (new if announced else old)
    write(ledger, app, "b")
    assert check_whole(ledger, *seen) == 2
    if not announced:
        # The key that was waiting is the one it is tried with again.
        ledger.rotate(role, at=START)
        assert public_bytes(getattr(ledger.keyring, role)) == new
    assert not (after / "keys" / f".next-{role}.key").exists()
    write(ledger, app, "c")
    assert check_whole(ledger, *seen) == 3
    assert refs(ledger, app) == ["a", "b", "c"]
    ledger.close()


@pytest.mark.parametrize("role", ROLES)
def test_a_key_file_that_cannot_be_renamed_holds_up_the_log_and_damages_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, role: Rotated
) -> None:
    ledger, _ = open_ledger(home)
    app = new_app(ledger)

    def broken(path: Path, target: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", broken)
        for attempt in (lambda: ledger.rotate(role, at=START), lambda: write(ledger, app, "a")):
            with pytest.raises(Unavailable):
                attempt()
    write(ledger, app, "b")
    assert (home / "keys" / f"{role}-2.key").exists()
    assert check_whole(ledger) == 1
    ledger.close()


@pytest.mark.parametrize("role", ROLES)
def test_a_process_goes_on_with_the_key_another_one_rotated_to(home: Path, role: Rotated) -> None:
    first, second = open_ledger(home)[0], open_ledger(home)[0]
    app = new_app(first)
    write(second, app, "a")
    first.rotate(role, at=START)
    write(second, app, "b")
    second.rotate(role, at=START)
    write(first, app, "c")
    write(second, app, "d")
    for ledger in (first, second):
        assert refs(ledger, app) == ["a", "b", "c", "d"]
        assert check_whole(ledger) == 4
        assert public_bytes(getattr(ledger.keyring, role)) == ledger.replica.keys.current(role)
    assert len(first.replica.keys.rows) == 5
    first.close()
    second.close()


def test_processes_that_change_a_key_at_once_agree_on_one(home: Path) -> None:
    ledgers = [open_ledger(home)[0] for _ in range(3)]
    app, together = new_app(ledgers[0]), threading.Barrier(3)

    def rotate(at: int) -> str | None:
        together.wait()
        try:
            ledgers[at].rotate("service", at=START)
        except LogError as error:
            return error.reason.id
        return None

    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(rotate, range(3)))
    # Whoever comes with the key that is in force by then is refused.
    assert None in told
    assert set(told) <= {None, "log.keys"}
    for at, ledger in enumerate(ledgers):
        write(ledger, app, str(at))
    assert check_whole(ledgers[0]) == 3
    assert len(ledgers[0].replica.keys.rows) == 3 + told.count(None)
    for ledger in ledgers:
        ledger.close()


def test_processes_that_start_after_a_crash_both_find_the_announced_key(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One adopts the key that is waiting while the other is about to look for it."""
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_agree_on_keys", lambda: None)
        ledger.rotate("receipt", at=START)
        ledger.close()
    opening, here, calls, others = Keyring.open, threading.current_thread(), 0, []

    def slowly(directory: Path) -> Keyring:
        nonlocal calls
        keyring = opening(directory)
        if threading.current_thread() is here:
            calls += 1
            if calls == 2:  # after the one it starts with: it looks for the key that is in force
                others.append(pool.submit(open_ledger, home))
                with suppress(TimeoutError):
                    others[0].result(0.5)
        return keyring

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(Keyring, "open", slowly)
        one = open_ledger(home)[0]
        two = others[0].result(30)[0]
    write(one, app, "a")
    write(two, app, "b")
    assert check_whole(one) == check_whole(two) == 2
    one.close()
    two.close()


# ── the keys that wrap people's keys, changed ─────────────────────────────────────────────────────────────


def wrapping_files(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "keys" / "wrapping").iterdir())


WRAPPING_CRASHES = ["renewed", "not committed", "committed", "half destroyed", "unlinked", "done"]


@pytest.mark.parametrize("crash", WRAPPING_CRASHES)
def test_a_crash_in_the_middle_of_a_wrapping_key_change_locks_nobody_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    ledger, _ = open_ledger(home)
    apps = [new_app(ledger) for _ in range(3)]
    for app in apps:
        write(ledger, app, f"of {app}")
    before, after = wrapping_files(home), home.with_name("after")
    rewrap, unlink, dialect = Transaction.rewrap, Path.unlink, ledger.database.engine.dialect
    commit, rewrapping = dialect.do_commit, False

    def die(when: bool) -> None:
        if when and not after.exists():
            shutil.copytree(home, after)

    with monkeypatch.context() as patch:

        def rewrapped(tx: Transaction) -> int:
            nonlocal rewrapping
            die(crash == "renewed")
            rewrapping = True
            return rewrap(tx)

        def committed(connection: Any) -> None:
            die(rewrapping and crash == "not committed")
            commit(connection)
            die(rewrapping and crash == "committed")

        def unlinked(path: Path, **options: Any) -> None:
            ours = path.parent.name == "wrapping" and path.suffix == ".key"
            die(ours and crash == "half destroyed")
            unlink(path, **options)
            die(ours and crash == "unlinked")

        patch.setattr(Transaction, "rewrap", rewrapped)
        patch.setattr(dialect, "do_commit", committed)
        patch.setattr(Path, "unlink", unlinked)
        assert ledger.rotate_wrapping() == 1
        die(crash == "done")
    ledger.close()

    ledger, _ = open_ledger(after)
    assert not (crash in WRAPPING_CRASHES[:3] and len(wrapping_files(after)) != 2)
    for app in apps:
        with ledger.reading() as tx:
            assert [entry.body["video_id"] for entry in tx.entries(app)] == [f"of {app}"]
        write(ledger, app, f"more of {app}")
    new_app(ledger)
    # Done again, it ends what was left undone.
    ledger.rotate_wrapping()
    assert len(wrapping_files(after)) == 1
    assert not set(wrapping_files(after)) & set(before)
    for app in apps:
        with ledger.reading() as tx:
            assert len(tx.entries(app)) == 2
    check_whole(ledger)
    ledger.close()


def test_an_earlier_copy_of_the_database_opens_nothing_once_the_wrapping_key_is_gone(home: Path) -> None:
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    write(ledger, app, "a")
    ledger.close()
    copy = shutil.copytree(home, home.with_name("copy"))
    ledger, _ = open_ledger(home)
    ledger.rotate_wrapping()
    ledger.close()
    shutil.rmtree(copy / "keys")
    shutil.copytree(home / "keys", copy / "keys")
    ledger, _ = open_ledger(copy)
    with ledger.reading() as tx, pytest.raises(Unavailable) as error:
        tx.entries(app)
    assert error.value.reason.id == "keys.wrapping"
    ledger.close()


def test_a_process_goes_on_while_another_one_changes_the_wrapping_key(home: Path) -> None:
    first, second = open_ledger(home)[0], open_ledger(home)[0]
    apps, stop = [new_app(first)], threading.Event()

    def work() -> None:
        while not stop.is_set():
            apps.append(new_app(second))
            write(second, apps[-1], f"of {apps[-1]}")
            write(second, apps[0], f"{len(apps)}")

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            destroyed = [first.rotate_wrapping() for _ in range(5)]
        finally:
            stop.set()
        working.result(30)
    assert destroyed == [1] * 5
    assert len(wrapping_files(home)) == 1
    for ledger in (first, second):
        with ledger.reading() as tx:
            assert [len(tx.entries(app)) for app in apps[1:]] == [1] * (len(apps) - 1)
            assert len(tx.entries(apps[0])) == len(apps) - 1
    check_whole(first)
    first.close()
    second.close()


# ── several processes, and kill -9 ────────────────────────────────────────────────────────────────────────

# Imports once, then forks a writer for each line it reads: the line's words are the writer's name and threads.
NURSERY = """
import os, signal, sys, threading
from datetime import UTC, datetime
from pathlib import Path

from ledger.keys import Keyring
from ledger.log.sequencer import Ledger
from ledger.store.database import Database
from ledger.store.journal import About

home, app, origin = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
at = datetime(2026, 3, 1, 12, tzinfo=UTC)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


# The process kills itself before or after the `fatal`-th time that this step is taken, from now on.
def doomed(ledger, step, fatal):
    name, _, when = step.partition("-")
    owner, attribute = {
        "commit": (ledger.database.engine.dialect, "do_commit"),
        "write": (Path, "open"),
        "fsync": (os, "fsync"),
        "rename": (Path, "replace"),
    }[name]
    taken, calls = getattr(owner, attribute), 0

    def take(*args, **options):
        nonlocal calls
        counts = name != "write" or args[0].name == ".checkpoint.new"
        calls += counts
        if counts and calls == fatal and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = taken(*args, **options)
        if counts and calls == fatal and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, attribute, take)


def live(name, threads, most, step="", fatal="0"):
    database = Database(f"sqlite:///{home / 'ledger.db'}")
    ledger = Ledger(database, Keyring.open(home / "keys"), origin, home / "log")
    if step:
        doomed(ledger, step, int(fatal))

    def work(thread):
        for n in range(int(most)):
            ref = f"{name}.{thread}.{n}"
            body = [About(app, "requester", {"video_id": ref, "approved": True})]
            say("done", ref, ledger.transact(lambda tx: tx.append("approval", ref, body, at=at)))

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ledger.close()


say("ready")
born = {}
for line in sys.stdin:
    for words in line.split(";"):
        name = words.split()[0]
        pid = os.fork()
        if pid == 0:
            live(*words.split())
            os._exit(0)
        born[pid] = name
        say("born", name, pid)
    while born:
        pid, status = os.wait()
        say("dead", born.pop(pid), os.waitstatus_to_exitcode(status))
"""


class Nursery:
    def __init__(self, home: Path, app: AppId) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(home), app, ORIGIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        self._said: SimpleQueue[list[str]] = SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.done: dict[str, int] = {}
        """Every append that was answered, and its place."""
        self.hear("ready")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line.split())

    def hear(self, word: str) -> list[str]:
        """The next line that begins with `word`."""
        while True:
            line = self._said.get(timeout=60)
            if line[0] == "done":
                self.done[line[1]] = int(line[2])
            if line[0] == word:
                return line[1:]

    def start(self, *lives: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(";".join(lives) + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._listener.join()
        self._process.stdout.close()


@pytest.fixture
def nursery(home: Path) -> Iterator[tuple[Path, AppId, Nursery]]:
    """A ledger that exists and is closed, and a process that forks writers on it."""
    ledger, _ = open_ledger(home)
    app = new_app(ledger)
    ledger.close()
    process = Nursery(home, app)
    yield home, app, process
    process.close()


def test_two_processes_share_one_log_and_one_order(nursery: tuple[Path, AppId, Nursery]) -> None:
    home, app, process = nursery
    process.start("left 2 12", "right 2 12")
    assert {tuple(process.hear("dead")) for _ in range(2)} == {("left", "0"), ("right", "0")}
    ledger, _ = open_ledger(home)
    assert sorted(process.done.values()) == places(ledger)
    assert check_whole(ledger) == 48
    assert [process.done[ref] for ref in refs(ledger, app)] == places(ledger)
    ledger.close()


STEPS_TO_DIE_AT = [
    f"{step}-{when} {fatal}"
    for step, fatal in (("commit", 1), ("write", 1), ("fsync", 1), ("rename", 1), ("fsync", 2), ("commit", 2))
    for when in ("before", "after")
]


@pytest.mark.slow
def test_a_process_killed_at_any_step_of_a_commit_forks_nothing(nursery: tuple[Path, AppId, Nursery]) -> None:
    """One life after the other on the same files: each finds what the one before it left."""
    home, app, process = nursery
    checkpoint = home / "log" / "checkpoint"
    seen = [checkpoint.read_bytes()]
    for life, step in enumerate(STEPS_TO_DIE_AT):
        process.start(f"life{life} 1 9 {step}")
        assert process.hear("dead") == [f"life{life}", "-9"], step
        seen.append(checkpoint.read_bytes())
    ledger, _ = open_ledger(home)
    check_whole(ledger, *seen)
    kept = dict(zip(refs(ledger, app), places(ledger), strict=True))
    assert process.done.items() <= kept.items()
    # Durable from the commit on, whoever was told; before it, never.
    for life, step in enumerate(STEPS_TO_DIE_AT):
        entry = 1 if step.endswith(" 2") and step.startswith("commit") else 0
        assert (f"life{life}.0.{entry}" in kept) == (not step.startswith("commit-before"))
    ledger.close()


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_answered(nursery: tuple[Path, AppId, Nursery]) -> None:
    home, app, process = nursery
    chance, checkpoint = random.Random(20260301), home / "log" / "checkpoint"
    log = SignerKey.from_seed(ORIGIN, Keyring.open(home / "keys").log.private_bytes_raw()).verifier
    seen = [checkpoint.read_bytes()]
    for life in range(8):
        process.start(f"life{life} 3 1000000")
        _, pid = process.hear("born")
        # Once right after its birth, while it recovers from the one before.
        for _ in range(0 if life == 4 else chance.randrange(1, 15)):
            process.hear("done")
        time.sleep(chance.random() * 0.05)
        os.kill(int(pid), signal.SIGKILL)
        assert process.hear("dead") == [f"life{life}", "-9"]
        seen.append(checkpoint.read_bytes())
        # What was answered is signed already, without a restart.
        assert open_checkpoint(seen[-1], log).checkpoint.size > max(process.done.values())
    ledger, _ = open_ledger(home)
    size, told = check_log(ledger, *seen), refs(ledger, app)
    assert size == len(stored_leaves(ledger))
    assert process.done.items() <= dict(zip(told, places(ledger), strict=True)).items()
    heads = [open_checkpoint(note, log).checkpoint for note in [*seen, ledger.checkpoint()]]
    for old, new in pairwise(heads):
        proof = consistency_proof(old.size, new.size, ledger.replica.tree.node)
        verify_consistency(old.size, new.size, proof, old.root, new.root)
    ledger.close()
