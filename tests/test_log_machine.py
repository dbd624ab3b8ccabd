"""The log's whole life at random: written, witnessed, read by someone who remembers; crashed, rotated, rolled back.

After every step three outsiders look: two of three witnesses must have cosigned what is published, every witness
must have seen a beginning of this very log, and everyone enrolled must be shown a list that holds with their memory.
"""

import shutil
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger.consent.registry import erase
from ledger.errors import Inconsistent, LogError, NotFound, Unavailable
from ledger.ids import GrantId, LeafIndex, new_id
from ledger.keys import Keyring, Rotated
from ledger.log import publisher, sequencer
from ledger.log.completeness import Seen, Verified, prove, verify
from ledger.log.note import SignatureType, SignerKey, VerifierKey
from ledger.log.policy import Group, ListedLog, ListedWitness, Policy
from ledger.log.sequencer import Ledger
from ledger.log.witness import Cosigned, Refused, Witness
from ledger.store.database import Database
from ledger.store.journal import About
from safety.chain import Allowed, Permit
from world import ORIGIN, START, Someone, World, check_log

pytestmark = pytest.mark.slow

WITNESSES, QUORUM = 3, 2
WHICH = st.integers(0, 11)
"""Which of those there are by then."""


@dataclass
class Reader:
    """Someone enrolled, and what they remember."""

    someone: Someone
    grants: list[GrantId] = field(default_factory=list)
    seen: Seen | None = None
    released: int = 0
    erased: bool = False


@dataclass(frozen=True)
class Backup:
    """The database and the signed files as they were at that size."""

    folder: Path
    size: int
    published: int


class Log(RuleBasedStateMachine):
    running: "Log"
    """The one whose witnesses answer."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.home = Path(self.folder.name)
        Log.running = self
        self.world: World
        self.up = [True] * WITNESSES
        self.readers: list[Reader] = []
        self.open: list[tuple[Reader, Permit]] = []
        self.backups: list[Backup] = []
        self.notes: list[bytes] = []

    def teardown(self) -> None:
        try:
            self.up = [True] * WITNESSES
            self.settle()
            check_log(self.world.ledger, *self.notes[-3:])
        finally:
            self.world.ledger.close()
            self.folder.cleanup()

    # -- starting and stopping ----------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        key = Keyring.open(self.home / "keys").log.public_key().public_bytes_raw()
        log = VerifierKey(ORIGIN, key)
        signers = [
            SignerKey.from_seed(f"w{n}.example", bytes([n + 1]) * 32, SignatureType.COSIGNATURE)
            for n in range(WITNESSES)
        ]
        self.witnesses = [Witness(self.home / f"w{n}", signer, [log]) for n, signer in enumerate(signers)]
        listed = tuple(
            ListedWitness(f"w{n}", signer.verifier, f"http://w{n}") for n, signer in enumerate(signers)
        )
        most = Group("most", QUORUM, tuple(one.name for one in listed))
        self.policy = Policy((ListedLog(log),), listed, (most,), "most")
        """The reader's, for ever: a log that rotates its key signs with the old one too, while it is kept."""
        self.start()
        self.app = self.world.app()
        self.enrol()
        self.grant(0)

    def start(self) -> None:
        keyring = Keyring.open(self.home / "keys")
        database = Database(f"sqlite:///{self.home / 'ledger.db'}")
        try:
            database.migrate()
            ledger = Ledger(database, keyring, ORIGIN, self.home / "log", policy=self.policy)
        except BaseException:
            database.close()
            raise
        if hasattr(self, "world"):
            self.world.ledger = self.world.gate.ledger = ledger
        else:
            self.world = World(ledger, keyring, self.home)

    def answer(self, url: str, body: bytes) -> tuple[int, str, bytes]:
        which = int(url.removeprefix("http://w")[0])
        if not self.up[which]:
            raise Unavailable("witness.unanswered", "nobody answers")
        match self.witnesses[which].add_checkpoint(body, self.world.at if hasattr(self, "world") else START):
            case Cosigned(line):
                return 200, "text/plain", line
            case Refused(status, text, media_type):
                return status, media_type, text

    @property
    def quorum(self) -> bool:
        return sum(self.up) >= QUORUM

    def settle(self) -> None:
        """Until everything written is published."""
        ledger = self.world.ledger
        with ledger.reading() as tx:
            last = LeafIndex(tx.size() - 1)
        ledger.published(last, within_s=10)

    # -- what the service does ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.readers) < 3)
    @rule()
    def enrol(self) -> None:
        self.readers.append(Reader(self.world.enrol()))

    def reader(self, which: int) -> Reader:
        return self.readers[which % len(self.readers)]

    @rule(which=WHICH)
    def grant(self, which: int) -> None:
        reader = self.reader(which)
        if not reader.erased:
            reader.grants.append(self.world.grant(reader.someone, self.app))

    @rule(which=WHICH, of=WHICH)
    def revoke(self, which: int, of: int) -> None:
        reader = self.reader(which)
        if reader.grants and not reader.erased:
            self.world.revoke(reader.someone, reader.grants[of % len(reader.grants)])

    @rule(which=WHICH)
    def decide(self, which: int) -> None:
        reader = self.reader(which)
        answer = self.world.gate.decide(self.world.request(self.app, reader.someone), at=self.world.at)
        if isinstance(answer, Allowed):
            self.open.append((reader, answer.permit))

    @precondition(lambda self: self.open)
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        reader, permit = self.open.pop(which % len(self.open))
        with suppress(NotFound):
            reader.released += self.world.release(permit) is None

    @rule(which=WHICH)
    def ask(self, which: int) -> None:
        owner = self.reader(which).someone.person_id
        about = [About(owner, "depicted", {"auditor": "a newspaper", "asked": "uses"})]
        with suppress(NotFound):
            self.world.ledger.transact(
                lambda tx: tx.append("audit", new_id("decision"), about, at=self.world.at)
            )

    @rule(hours=st.integers(1, 24 * 20))
    def wait(self, hours: int) -> None:
        self.world.at += timedelta(hours=hours)

    @rule(role=st.sampled_from(["service", "log", "receipt"]))
    def rotate(self, role: Rotated) -> None:
        self.world.ledger.rotate(role, at=self.world.at)

    @rule()
    def rotate_wrapping(self) -> None:
        self.world.ledger.rotate_wrapping()

    @precondition(lambda self: len(self.readers) > 1)
    @rule(which=WHICH)
    def erase(self, which: int) -> None:
        reader = self.reader(which)
        if not reader.erased:
            erase(self.world.ledger, reader.someone.person_id, reader.someone.cameo_id, at=self.world.at)
            reader.erased = True

    # -- what happens to it -------------------------------------------------------------------------------

    @rule(which=st.integers(0, WITNESSES - 1))
    def witness_goes_or_comes(self, which: int) -> None:
        self.up[which] = not self.up[which]

    @precondition(lambda self: self.quorum)
    @rule()
    def restart(self) -> None:
        self.world.ledger.close()
        self.start()

    @precondition(lambda self: not self.quorum)
    @rule()
    def restart_without_a_quorum(self) -> None:
        """Nobody can say that this is not an older copy: it must not write."""
        self.world.ledger.close()
        with pytest.raises((Unavailable, Inconsistent)):
            self.start()
        self.up = [True] * WITNESSES
        self.start()

    @precondition(lambda self: self.quorum)
    @rule(which=WHICH, published=st.booleans())
    def crash_before_the_checkpoint_is_signed(self, which: int, published: bool) -> None:
        """What is durable without a signature is signed at the next start."""
        size = self.world.ledger.replica.size
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequencer, "replace", full)
            with suppress(Unavailable):
                self.ask(which)
        self.world.ledger.close()
        if published:
            (self.home / "log" / "published").unlink()
        self.start()
        assert self.world.ledger.replica.size == size + 2 * (not self.reader(which).erased)

    @rule()
    def back_up(self) -> None:
        self.settle_if_possible()
        size, published = self.world.ledger.replica.size, self.size(self.world.ledger.checkpoint())
        folder = self.home / f"backup-{len(self.backups)}"
        folder.mkdir()
        copy(self.home / "ledger.db", folder / "ledger.db")
        for name in ("checkpoint", "published"):
            shutil.copy(self.home / "log" / name, folder)
        self.backups.append(Backup(folder, size, published))

    @precondition(lambda self: self.backups)
    @rule(which=WHICH, everything=st.booleans(), heard=st.booleans())
    def an_older_copy_is_restored(self, which: int, everything: bool, heard: bool) -> None:
        """With its files or without: it signs nothing, whoever answers."""
        self.settle_if_possible()
        backup = self.backups[which % len(self.backups)]
        published = self.size(self.world.ledger.checkpoint())
        self.world.ledger.close()
        truth = self.home / "truth"
        self.take(self.home, truth)
        copy(backup.folder / "ledger.db", self.home / "ledger.db")
        if everything:
            for name in ("checkpoint", "published"):
                shutil.copy(backup.folder / name, self.home / "log")
        self.up = [True] * WITNESSES if heard else self.up
        if published > backup.size:
            # A witness that lagged behind may cosign what it had missed: that much is still a beginning.
            with pytest.raises((Inconsistent, Unavailable)):
                self.start()
        self.up = [True] * WITNESSES
        self.give(truth)
        self.start()

    def take(self, home: Path, to: Path) -> None:
        to.mkdir()
        copy(home / "ledger.db", to / "ledger.db")
        for name in ("checkpoint", "published"):
            shutil.copy(home / "log" / name, to)

    def give(self, truth: Path) -> None:
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (self.home / name).unlink(missing_ok=True)
        copy(truth / "ledger.db", self.home / "ledger.db")
        for name in ("checkpoint", "published"):
            shutil.copy(truth / name, self.home / "log")
        shutil.rmtree(truth)

    # -- what outsiders see -------------------------------------------------------------------------------

    def settle_if_possible(self) -> None:
        if self.quorum:
            self.settle()

    def size(self, note: bytes) -> int:
        return self.policy.open(note).checkpoint.size

    def latest(self, which: int) -> Any:
        return self.witnesses[which].latest(ORIGIN)

    @invariant()
    def outsiders_agree(self) -> None:
        self.settle_if_possible()
        self.what_is_published_has_a_quorum_and_only_grows()
        self.every_witness_saw_a_beginning_of_this_log()
        self.everyone_is_shown_everything()

    def what_is_published_has_a_quorum_and_only_grows(self) -> None:
        note = self.world.ledger.checkpoint()
        if not self.notes or self.notes[-1] != note:
            assert not self.notes or self.size(self.notes[-1]) <= self.size(note)
            self.notes.append(note)

    def every_witness_saw_a_beginning_of_this_log(self) -> None:
        for which in range(WITNESSES):
            latest = self.latest(which)
            if latest is not None:
                assert self.world.ledger.replica.tree.root(latest.size) == latest.root

    def everyone_is_shown_everything(self) -> None:
        for reader in self.readers:
            if reader.erased:
                with pytest.raises(NotFound):
                    self.visit(reader, 0)
                continue
            if reader.seen is None and not self.quorum:
                continue  # enrolled while too few witnesses answered: there is nothing to show them under yet
            verified = self.visit(reader, reader.seen.size if reader.seen else 0)
            if self.quorum:
                assert verified.story.released == reader.released
            if reader.seen is not None and reader.seen.size < verified.seen.size:
                with pytest.raises(LogError):
                    self.visit(reader, 0)
            reader.seen = verified.seen

    def visit(self, reader: Reader, since: int) -> Verified:
        ledger, someone = self.world.ledger, reader.someone
        with ledger.reading() as tx:
            note = ledger.checkpoint()
            bundle = prove(tx, ledger.replica, someone.person_id, someone.cameo_id, note, since=since)
        return verify(bundle, self.policy, reader.seen)


def full(path: Path, content: bytes) -> None:
    raise OSError("the disk is full")


def copy(source: Path, target: Path) -> None:
    """A database as SQLite sees it, write-ahead log and all."""
    old, new = sqlite3.connect(source), sqlite3.connect(target)
    with old, new:
        old.backup(new)
    old.close()
    new.close()


def test_no_life_of_a_log_shows_an_outsider_less_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str, body: bytes) -> tuple[int, str, bytes]:
        return Log.running.answer(url, body)

    monkeypatch.setattr(publisher, "post", answer)
    monkeypatch.setattr(publisher, "RETRY_S", (0.02,))
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    modest = settings(max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(Log, settings=modest)
