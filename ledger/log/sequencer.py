"""One order for everything: the sequencer that commits groups of operations and signs the head.

Life of an entry:

1. A caller submits an operation. It waits in a queue; nothing is durable.
2. The writer takes what is queued, opens one transaction and runs each operation under its own savepoint, so
   one that fails undoes only itself. What an operation reads, no other can change before the commit.
3. COMMIT. The entries are durable. Nothing was signed before this line.
4. The checkpoint over the new size is signed and replaces `checkpoint` atomically (write, fsync, rename).
   It lives outside the database: a restored backup cannot quietly fork what was already signed.
5. The callers get their results.

A crash between 3 and 4 leaves entries without a checkpoint; the next start signs it, after proving that the
rows extend what was last signed. If they do not, the service refuses to start (:class:`Inconsistent`).
Several processes may share one ledger: the database orders them, a file lock orders their signatures.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlmodel import Session

from ledger.errors import Inconsistent, LogError, Unavailable
from ledger.ids import LeafIndex
from ledger.log.disclosure import disclose
from ledger.log.merkle import Frontier, inclusion_proof, leaf_hash
from ledger.log.note import Checkpoint, SignerKey, TlogProof, VerifierKey, open_checkpoint, sign_note
from ledger.store.database import Database, translated
from ledger.store.transaction import LogKeys, Transaction

T = TypeVar("T")
_RUNBOOK = (
    "put the newest `checkpoint` file back, and the database that was running; or start a new log under a new "
    "origin and announce it"
)
GROUP = 256
"""Operations committed together at most. A group forms by itself while the previous commit is in flight."""


class Ledger:
    """The log and everything recorded beside it. Thread-safe; start once per process, close at the end."""

    def __init__(self, database: Database, keys: LogKeys, signer: SignerKey, directory: Path) -> None:
        self.database = database
        self.keys = keys
        self._signer = signer
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._queue: SimpleQueue[tuple[Callable[[Transaction], Any], Future[Any]] | None] = SimpleQueue()
        self._door, self._closed = threading.Lock(), False
        self._broken: Inconsistent | None = None
        self._recover()
        self._writer = threading.Thread(target=self._run, name="sequencer", daemon=True)
        self._writer.start()

    @property
    def verifier(self) -> VerifierKey:
        return self._signer.verifier

    @property
    def origin(self) -> str:
        return self.keys.origin

    def transact(self, operation: Callable[[Transaction], T]) -> T:
        """Run `operation` at its place in the one order. Returns after its entries are durable and signed.

        Raises what the operation raised (then nothing of it is kept), or Unavailable: then its entries may have
        become durable all the same, as after a lost connection, and the next checkpoint covers them.
        """
        result: Future[T] = Future()
        with self._door:
            # Nobody would answer: the caller is refused instead of waiting for ever.
            if self._closed:
                raise Unavailable("log.closed", "the ledger is closed", "start the service again")
            self._queue.put((operation, result))
        return result.result()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self.database.reading() as session:
            yield Transaction(session, self.keys)

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint, as a C2SP signed note."""
        return (self._directory / "checkpoint").read_bytes()

    def proof(self, index: LeafIndex) -> TlogProof:
        """That entry `index` is in the log, under the newest checkpoint. Raises LogError before it is signed."""
        note = self.checkpoint()
        size = open_checkpoint(note, self.verifier).checkpoint.size
        if index >= size:
            raise LogError(
                "log.not_yet", f"entry `{index}` is not under a signed checkpoint yet", "ask again"
            )
        with self.reading() as tx:
            return TlogProof(index, tuple(inclusion_proof(index, size, tx.node)), note)

    def disclosures(self, subject_id: str, kinds: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """What is recorded about one subject, up to the newest checkpoint, each entry with its proof under it."""
        note = self.checkpoint()
        size = open_checkpoint(note, self.verifier).checkpoint.size
        with self.reading() as tx:
            return [
                disclose(
                    entry, TlogProof(entry.index, tuple(inclusion_proof(entry.index, size, tx.node)), note)
                )
                for entry in tx.entries(subject_id, kinds)
                if entry.index < size
            ]

    def close(self) -> None:
        with self._door:
            self._closed = True
            self._queue.put(None)
        self._writer.join()
        self.database.close()

    # -- the writer thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            stop = False
            while len(group) < GROUP:
                try:
                    more = self._queue.get_nowait()
                except Empty:
                    break
                if more is None:
                    stop = True
                    break
                group.append(more)
            self._commit(group)
            if stop:
                return

    def _commit(self, group: list[tuple[Callable[[Transaction], Any], Future[Any]]]) -> None:
        if self._broken is not None:
            # What is written on a log that can no longer be signed would be lost, or fork it.
            for _, future in group:
                future.set_exception(self._broken)
            return
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self.database.writing() as session:
                for operation, future in group:
                    outcomes.append((future, *_run_one(session, self.keys, operation)))
            # Durable from here on.
            self._sign()
        except BaseException as error:  # noqa: BLE001 — the caller's thread gets it; this one must live on
            self._broken = error if isinstance(error, Inconsistent) else None
            for _, future in group:
                future.set_exception(error)
            return
        for future, value, failure in outcomes:
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(value)

    # -- the signed head --------------------------------------------------------------------------------

    def _sign(self) -> None:
        with self._signing_lock(), self.reading() as tx:
            size = tx.size()
            last = self._last_signed()
            # A log without entries is always signed first, so entries without a checkpoint mean that it was lost.
            if last is None and size:
                raise Inconsistent(
                    "log.checkpoint_lost", "there are entries but no signed checkpoint", _RUNBOOK
                )
            if last is not None:
                self._refuse_fork(tx, last, size)
                if last.size == size:
                    return
            root = tx.frontier(size).root()
            note = sign_note(Checkpoint(self.origin, size, root).text(), [self._signer])
            _replace(self._directory / "checkpoint", note)

    def _refuse_fork(self, tx: Transaction, last: Checkpoint, size: int) -> None:
        """INVARIANT: what is signed next extends what was signed last."""
        if size < last.size:
            sentence = (
                f"the database holds `{size}` entries but `{last.size}` were signed: it is an older copy"
            )
            raise Inconsistent("log.rolled_back", sentence, _RUNBOOK)
        if tx.frontier(last.size).root() != last.root:
            raise Inconsistent(
                "log.forked", f"the first `{last.size}` entries are not the signed ones", _RUNBOOK
            )

    def _last_signed(self) -> Checkpoint | None:
        path = self._directory / "checkpoint"
        return open_checkpoint(path.read_bytes(), self.verifier).checkpoint if path.exists() else None

    def _recover(self) -> None:
        """Sign what an earlier process committed and could not sign; refuse rows that contradict each other."""
        damaged = Inconsistent(
            "log.damaged", "the stored tree is not that of the stored entries", "restore a backup"
        )
        with self.reading() as tx:
            size = tx.size()
            rebuilt, stored = Frontier(), tx.nodes()
            for index, leaf in tx.leaves():
                # Nodes derive from leaves; one that does not is damage, and would make us sign a false root
                # or hand out proofs that nobody can verify.
                if index != rebuilt.size or any(
                    n != next(stored, None) for n in rebuilt.append(leaf_hash(leaf))
                ):
                    raise damaged
            if rebuilt.size != size or next(stored, None) is not None:
                raise damaged
        self._sign()

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


def _run_one(
    session: Session, keys: LogKeys, operation: Callable[[Transaction], Any]
) -> tuple[Any, BaseException | None]:
    savepoint = session.begin_nested()
    try:
        with translated():
            value = operation(Transaction(session, keys))
            session.flush()
            savepoint.commit()
    except Exception as error:  # noqa: BLE001 — handed to the caller whose operation it was
        savepoint.rollback()
        session.expire_all()
        return None, error
    return value, None


def _replace(path: Path, content: bytes) -> None:
    """Atomic and durable: a reader sees the old checkpoint or the new one, also after a power cut."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
