"""One order for everything: the sequencer that commits groups of operations and signs the head.

Life of an entry:

1. A caller submits an operation. It waits in a queue; nothing is durable.
2. The writer takes what is queued (waiting `linger_s` for more), opens one transaction and runs each operation
   under its own savepoint, so one that fails undoes only itself. What an operation reads, no other can change
   before the commit. The group ends with an epoch leaf, which assigns the tags of its entries.
3. COMMIT. The entries are durable. Nothing was signed before this line.
4. The checkpoint over the new size is signed and replaces `checkpoint` atomically (write, fsync, rename).
   It lives outside the database: a restored backup cannot quietly fork what was already signed.
5. The callers get their results.
6. Witnesses are asked to cosign. When a quorum of them has, the checkpoint replaces `published`: only that one is
   shown to anyone and proven under. Without witnesses, what is signed is published.

A crash between 3 and 4 leaves entries without a checkpoint; the next start signs it, after proving that the
rows extend what was last signed, and that no witness has seen more. If not, the service refuses to start
(:class:`Inconsistent`). Several processes may share one ledger: the database orders them, a file lock orders
their signatures, and each catches up with the rows of the others before it adds its own.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, get_args

from ledger.errors import Inconsistent, LogError, Unavailable, Violation
from ledger.ids import LeafIndex
from ledger.keys import Keyring, Rotated
from ledger.log.merkle import inclusion_proof
from ledger.log.note import (
    Checkpoint,
    SignerKey,
    TlogProof,
    VerifierKey,
    open_checkpoint,
    open_note,
    sign_note,
)
from ledger.log.policy import Policy
from ledger.log.public import public_bytes
from ledger.log.publisher import RUNBOOK, Publisher, replace, size_of
from ledger.log.replica import Growth, Replica
from ledger.store.database import Database, translated
from ledger.store.journal import Draft, LogKeys
from ledger.store.transaction import Transaction

T = TypeVar("T")
Work = Callable[[Transaction], Any] | Draft
Waiting = tuple[Work, Future[Any]]
Outcome = tuple[Future[Any], Any, BaseException | None]
GROUP = 256
"""Operations committed together at most. A group forms by itself while the previous commit is in flight."""
REPLAY = 4096
"""Leaves taken from the rows at a time."""


class Ledger:
    """The log and everything recorded beside it. Thread-safe; start once per process, close at the end."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        origin: str,
        directory: Path,
        *,
        policy: Policy | None = None,
        linger_s: float = 0.0,
        workers: Executor | None = None,
    ) -> None:
        """Recover, and start writing. Raises Inconsistent rather than sign what contradicts the past.

        `policy`: the witnesses a checkpoint needs before it is published; none by default. `linger_s`: how long
        a commit waits for company. `workers`: processes that share the work of large batches.
        """
        self.database = database
        self.origin = origin
        self._directory, self._linger_s, self._workers = directory, linger_s, workers
        directory.mkdir(parents=True, exist_ok=True)
        self.replica = Replica(origin)
        self._publisher = Publisher(directory, policy or Policy(()), self.replica)
        self._use(keyring)
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self._door, self._closed = threading.Lock(), False
        self._broken: Inconsistent | None = None
        self._recover()
        self._publisher.start(self._break, self._follow)
        self._writer = threading.Thread(target=self._run, name="sequencer", daemon=True)
        self._writer.start()

    def _use(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self.keys = LogKeys(self.origin, keyring.service, keyring.wrapping, self._workers)
        # A retired key signs beside its successor for as long as its file exists, for readers who know only it.
        held = (keyring.log, *keyring.log_retired)
        self._signers = [SignerKey.from_seed(self.origin, key.private_bytes_raw()) for key in held]
        self._publisher.use([signer.verifier for signer in self._signers])

    @property
    def verifier(self) -> VerifierKey:
        return self._signers[0].verifier

    def append(self, draft: Draft) -> LeafIndex:
        """Add one entry that needs to read nothing first. Those that wait together are written together.

        Raises LedgerError, like :meth:`transact`; `(kind, ref)` must be new.
        """
        index: LeafIndex = self._submit(draft)
        return index

    def transact(self, operation: Callable[[Transaction], T]) -> T:
        """Run `operation` at its place in the one order. Returns after its entries are durable and signed.

        Raises what the operation raised (then nothing of it is kept), or Unavailable: then its entries may have
        become durable all the same, as after a lost connection, and the next checkpoint covers them.
        """
        value: T = self._submit(operation)
        return value

    def _submit(self, work: Work) -> Any:
        result: Future[Any] = Future()
        with self._door:
            # Nobody would answer: the caller is refused instead of waiting for ever.
            if self._closed:
                raise Unavailable("log.closed", "the ledger is closed", "start the service again")
            self._queue.put((work, result))
        return result.result()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self.database.reading() as session:
            yield Transaction(session, self.keys, self.replica)

    def checkpoint(self) -> bytes:
        """The newest published checkpoint, as a C2SP signed note: signed, and cosigned by a quorum if one is set."""
        return self._held(self._publisher.published())

    def published(self, index: LeafIndex, *, within_s: float = 10.0) -> bytes:
        """The newest published checkpoint, once it covers the entry at `index`. Raises LogError after `within_s`."""
        note = self._publisher.covering(index + 1, within_s)
        if note is None:
            raise LogError(
                "log.not_yet",
                f"entry `{index}` is not under a published checkpoint yet",
                "ask again in a minute; if it persists, too few witnesses answer",
            )
        return self._held(note)

    def _held(self, note: bytes) -> bytes:
        """A published checkpoint, once everything under it can be shown: another process may have written it."""
        self._follow(size_of(note))
        return note

    def _follow(self, size: int) -> None:
        """Take in what another process has committed and signed."""
        if size > self.replica.size:
            self.transact(lambda _: None)

    def proof(self, index: LeafIndex) -> TlogProof:
        """That entry `index` is in the log, under the newest checkpoint. Raises LogError before it is published."""
        note = self.published(index, within_s=0)
        size = open_checkpoint(note, self.verifier).checkpoint.size
        return TlogProof(index, tuple(inclusion_proof(index, size, self.replica.tree.node)), note)

    def close(self) -> None:
        with self._door:
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self._publisher.close()
        self.database.close()

    # -- the service's own keys -------------------------------------------------------------------------

    def rotate(self, role: Rotated, *, at: datetime) -> LeafIndex:
        """Put a new key of `role` in force, from the leaf after the announcement on. Both keys sign it.

        The new key is durable before it is announced, and a start loads it only once it was.
        """
        new = self.keyring.candidate(role)
        return self.transact(lambda tx: tx.announce_key(role, new, getattr(self.keyring, role), at=at))

    def rotate_wrapping(self) -> int:
        """Wrap every person's key anew and destroy the old wrapping keys. Returns how many were destroyed.

        From then on no earlier backup of the database opens anything of those who were erased before.
        """
        wrapping = self.keyring.wrapping
        self.transact(lambda _: wrapping.renew())
        self.transact(lambda tx: tx.rewrap())
        # Durable: no row needs an older key any more.
        return self.transact(lambda _: wrapping.destroy_old())

    # -- the writer thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group, stop = [first], False
            until = time.monotonic() + self._linger_s
            while len(group) < GROUP:
                wait = until - time.monotonic()
                try:
                    more = self._queue.get(timeout=wait) if wait > 0 else self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    stop = True
                    break
                group.append(more)
            self._commit(group)
            if stop:
                return

    def _commit(self, group: list[Waiting]) -> None:
        if self._broken is not None:
            # What is written on a log that can no longer be signed would be lost, or fork it.
            for _, future in group:
                future.set_exception(self._broken)
            return
        outcomes: list[Outcome] = []
        try:
            with self.database.writing() as session:
                self._catch_up(Transaction(session, self.keys, self.replica))
                self._agree_on_keys()
                growth = Growth(self.replica, self.keys.service)
                tx = Transaction(session, self.keys, growth)
                if growth.size == 0:
                    self._open_log(tx)
                for together in _runs(group):
                    outcomes += _run(tx, growth, together)
                tx.end_epoch()
            # Durable from here on.
            self.replica.grow(growth)
            # A checkpoint over the leaf that announces a key is signed by that key already.
            self._agree_on_keys()
            self._sign()
        except BaseException as error:  # noqa: BLE001 — the caller's thread gets it; this one must live on
            self._broken = self._broken or (error if isinstance(error, Inconsistent) else None)
            for _, future in group:
                future.set_exception(error)
            return
        for future, value, failure in outcomes:
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(value)

    def _break(self, fault: Inconsistent) -> None:
        """Somebody holds a checkpoint that ours contradicts: nothing more is written."""
        self._broken = fault

    # -- the signed head --------------------------------------------------------------------------------

    def _sign(self) -> None:
        """Sign the head of the replica, which holds only what is durable."""
        with self._signing_lock():
            last, by_all = self._last_signed() or (None, False)
            if last is not None and last.size > self.replica.size:
                # Another process signed what it committed after us; or the database was rolled back under us.
                with self.reading() as tx:
                    self._catch_up(tx)
            size = self.replica.size
            # A log without entries is always signed first, so entries without a checkpoint mean that it was lost.
            if last is None and size:
                raise Inconsistent(
                    "log.checkpoint_lost", "there are entries but no signed checkpoint", RUNBOOK
                )
            if last is not None:
                self._refuse_fork(last)
                if last.size == size and by_all:
                    return
            checkpoint = Checkpoint(self.origin, size, self.replica.tree.root())
            replace(self._directory / "checkpoint", sign_note(checkpoint.text(), self._signers))
        self._publisher.nudge()

    def _refuse_fork(self, last: Checkpoint) -> None:
        """INVARIANT: what is signed next extends what was signed last."""
        size = self.replica.size
        if size < last.size:
            sentence = (
                f"the database holds `{size}` entries but `{last.size}` were signed: it is an older copy"
            )
            raise Inconsistent("log.rolled_back", sentence, RUNBOOK)
        if self.replica.tree.root(last.size) != last.root:
            raise Inconsistent(
                "log.forked", f"the first `{last.size}` entries are not the signed ones", RUNBOOK
            )

    def _last_signed(self) -> tuple[Checkpoint, bool] | None:
        """What was signed last, and whether every key that signs now has signed it."""
        path = self._directory / "checkpoint"
        if not path.exists():
            return None
        keys = [signer.verifier for signer in self._signers]
        note = open_note(path.read_bytes(), keys)
        checkpoint = Checkpoint.parse(note.text)
        if checkpoint.origin != self.origin:
            raise Inconsistent("log.origin", f"the checkpoint here is of `{checkpoint.origin}`", RUNBOOK)
        return checkpoint, len(note.signatures) == len(keys)

    # -- starting ---------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Derive everything from the rows; refuse rows that break a rule or contradict what was signed."""
        self._publisher.recall()
        with self.reading() as tx:
            self._catch_up(tx)
        self._agree_on_keys()
        first = self._last_signed() is None
        if not first:
            # Before anything new is signed: a witness has seen at most what was signed last.
            self._publisher.confirm()
        self._sign()
        if first:
            self._publisher.confirm()

    def _catch_up(self, tx: Transaction) -> None:
        """Take in the rows this process has not seen: all of them at a start, later those of other processes."""
        size = tx.size()
        if size == self.replica.size:
            return
        try:
            batches = _batches(self.replica.size, tx.leaves(self.replica.size))
            if self.replica.size == 0:
                self.replica.replay(batches, {size, *self.replica.needed})
            else:
                for leaves in batches:
                    self.replica.extend(leaves)
        except Violation as error:
            sentence = f"the stored entries break a rule of the log at `{error.index}`: {error}"
            raise Inconsistent("log.damaged", sentence, RUNBOOK) from error
        if self.replica.size != size or self.replica.head.size != size:
            sentence = f"`{self.replica.size}` entries are stored where there should be `{size}`"
            raise Inconsistent("log.damaged", sentence, RUNBOOK)

    def _agree_on_keys(self) -> None:
        """The keys here are those the log says are in force, also after a crash in the middle of a rotation."""
        for role in get_args(Rotated):
            in_force = self.replica.keys.current(role)
            if in_force is None or in_force == public_bytes(getattr(self.keyring, role)):
                continue
            # Locked: of several that come here at once, one adopts the key and the others find it adopted.
            with self._signing_lock():
                self._use(self._holding(role, in_force))

    def _holding(self, role: Rotated, in_force: bytes) -> Keyring:
        """The keys on disk, once the one in force is among them."""
        keyring = Keyring.open(self.keyring.directory)
        if in_force == public_bytes(getattr(keyring, role)):
            # Another process has rotated it.
            return keyring
        if in_force == public_bytes(keyring.candidate(role)):
            # Whoever rotated it died after announcing the key that is waiting.
            return keyring.adopt(role)
        sentence = f"the `{role}` key here is not the one the log says is in force"
        raise Inconsistent("log.keys", sentence, "restore the key file; nothing is signed without it")

    def _open_log(self, tx: Transaction) -> None:
        """The first leaves of a log: the keys everything after them is signed with."""
        at = datetime.fromtimestamp(0, UTC)
        for role in get_args(Rotated):
            tx.announce_key(role, getattr(self.keyring, role), None, at=at)

    @contextmanager
    def _signing_lock(self) -> Iterator[None]:
        try:
            with (self._directory / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise Unavailable(
                "log.unsigned",
                "what was written could not be put under a signed checkpoint yet",
                "try again; if it persists, see whether the disk is full",
            ) from error


def _runs(group: list[Waiting]) -> Iterator[list[Waiting]]:
    """The group in order, with drafts that stand next to each other taken together."""
    for drafts, run in groupby(group, key=lambda waiting: isinstance(waiting[0], Draft)):
        together = list(run)
        yield from [together] if drafts else [[one] for one in together]


def _run(tx: Transaction, growth: Growth, together: list[Waiting]) -> list[Outcome]:
    """What became of each. Drafts that can not be written together are tried one by one."""
    work, _ = together[0]
    if not isinstance(work, Draft):
        value, failure = _attempt(tx, growth, work)
        return [(together[0][1], value, failure)]
    drafts = [draft for draft, _ in together if isinstance(draft, Draft)]
    indices, failure = _attempt(tx, growth, lambda tx: tx.append_all(drafts))
    if failure is not None and len(together) > 1:
        return [outcome for one in together for outcome in _run(tx, growth, [one])]
    answers = indices if failure is None else [None]
    return [(future, answer, failure) for (_, future), answer in zip(together, answers, strict=True)]


def _attempt(
    tx: Transaction, growth: Growth, operation: Callable[[Transaction], Any]
) -> tuple[Any, BaseException | None]:
    savepoint, mark = tx.session.begin_nested(), growth.mark()
    try:
        with translated():
            value = operation(tx)
            tx.session.flush()
            savepoint.commit()
    except Exception as error:  # noqa: BLE001 — handed to the caller whose operation it was
        savepoint.rollback()
        tx.session.expire_all()
        growth.reset(mark)
        return None, error
    if growth.full:
        tx.end_epoch()
    return value, None


def _batches(start: int, rows: Iterator[tuple[int, bytes]]) -> Iterator[list[bytes]]:
    """Leaves from `start` on, some at a time. Raises Violation where one is missing."""
    expected = start
    while batch := list(islice(rows, REPLAY)):
        for index, leaf in batch:
            if index != expected:
                raise Violation("log.gap", f"entry `{expected}` is missing", expected, leaf)
            expected += 1
        yield [leaf for _, leaf in batch]
