"""A monitor: reads a whole log as a stranger, checks every rule, and says which was broken first.

A visit, by its steps (`Monitor.visit`):

1. The checkpoint is signed as the policy asks, witnesses included.
2. It does not contradict the one verified last: not smaller, and at the same size the same root.
3. All leaves up to its size are there, each bundle in its one form. Where leaves were read before, they are the same.
4. They lead to the root that was signed. What was verified last is a part of them.
5. They keep the rules of :mod:`ledger.log.replica`, in every epoch. No epoch lies in the future.
6. The last leaf is an epoch, and a log key in force in that epoch signed the checkpoint.
7. Every hash tile holds the hashes that follow from the leaves.

A rule counts as broken only if the signed root covers the leaf that breaks it; so after the first broken rule a visit
still reads to the end. Then the leaf and the checkpoint are evidence against the log. If the root does not cover what
was read, only somebody between may have changed it: that is said instead, whatever the leaves say.

Without a policy there is no key to begin with: then the checkpoint's signature is checked last, by the key that the
log itself announced, and a fault found before that may be another's.

What stays unknown: whether the service records all it does, and, without witnesses, whether others are shown the
same log. An entry's signature is checked if asked for; rule 2 of the replica checks only whose it claims to be.
"""

import multiprocessing
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.errors import LogError, NotFound, Violation
from ledger.log.maproots import LocalHalf, RemoteHalf
from ledger.log.merkle import (
    TILE_WIDTH,
    Tree,
    leaf_hash,
    parse_entry_bundle,
    tile_path,
)
from ledger.log.note import Checkpoint, Signature, VerifierKey, open_checkpoint
from ledger.log.policy import Policy
from ledger.log.public import KeyTable
from ledger.log.reading import Reading, Roots
from ledger.log.replica import Replica

Fetch = Callable[[str], bytes]
"""A resource of the log by its path. Raises NotFound, or another LedgerError when the log can not be reached."""

NOWHERE = -1
"""The index of a violation that no single leaf shows."""
SKEW_S = 300
"""How far ahead of ours the service's clock may be."""
BATCH = 16
"""Bundles taken in together."""
AHEAD = 16
"""Resources asked for before they are needed. Each may have 16 MB, if the log is malicious."""
EXPECTED = 1 << 22
"""Tags for which room is made at once."""
ALONE = 50_000
"""Up to this many leaves, worker processes cost more than they save."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visit verified."""

    checkpoint: Checkpoint
    witnesses: tuple[Signature, ...]
    epochs: int
    time: int
    """Of the newest epoch, in Unix seconds."""
    keys: KeyTable
    extends: int | None
    """The size verified at an earlier visit, all of which this one contains. None at a first visit."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A checkpoint verified before."""

    note: bytes
    checkpoint: Checkpoint


class Monitor:
    """Follows one log. What it verified last outlives it in `memory`: by origin, the signed checkpoint."""

    def __init__(
        self,
        policy: Policy | None,
        fetch: Fetch,
        memory: MutableMapping[str, bytes],
        *,
        signatures: bool = False,
        workers: int = 0,
    ) -> None:
        """`policy`: None takes the log key the log itself announces. `workers`: processes to share the work."""
        self._policy, self._fetch, self._memory = policy, fetch, memory
        self._signatures, self._workers = signatures, workers
        self._pool: ProcessPoolExecutor | None = None
        self._begun: tuple[Replica, Roots] | None = None
        self._seen: _Seen | None = None
        self._note = b""
        self._resource: tuple[str, bytes] | None = None

    def close(self) -> None:
        self._begin_anew()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def visit(self, at: datetime) -> Visit:
        """Read what is new since the last visit and verify it. Raises Violation; then this monitor is done.

        Another LedgerError means that the log could not be read: visit it again.
        """
        try:
            return self._visit(at)
        except Violation:
            raise
        except BaseException:
            # What was read of it is not verified, and what was found in it would be forgotten.
            self._begin_anew()
            raise

    def _visit(self, at: datetime) -> Visit:
        # 1.
        self._note = self._get("checkpoint")
        checkpoint, witnesses = self._open(self._note)
        replica, roots = self._begin(checkpoint)
        seen, known = self._seen, replica.size
        # 2.
        if seen is not None:
            _check_against(checkpoint, seen.checkpoint)
        # 3., 5.
        reading = Reading(replica, int(at.timestamp()) + SKEW_S, self._verifying())
        for leaves, hashes in self._leaves(replica.tree, checkpoint.size, reading):
            reading.take(leaves, hashes)
        # 4.
        tree = reading.tree
        if tree.root(checkpoint.size) != checkpoint.root:
            raise self._unsigned(tree, known, reading)
        if seen is not None and tree.root(seen.checkpoint.size) != seen.checkpoint.root:
            raise _forked(seen.checkpoint)
        # 5.
        faults = reading.faults(roots)
        if faults:
            raise min(faults, key=lambda fault: fault.index)
        # 6.
        if replica.head.size != checkpoint.size:
            raise Violation(
                "log.epoch_open", "the checkpoint does not end with an epoch", checkpoint.size - 1
            )
        self._check_signer(replica)
        # 7.
        if reading.tile_fault is not None:
            raise reading.tile_fault
        self._check_tiles(tree, known, checkpoint.size)
        if checkpoint.size:
            self._seen = _Seen(self._note, checkpoint)
            self._memory[checkpoint.origin] = self._note
        head = replica.head
        epochs = head.epoch.number + 1 if head.epoch else 0
        extends = seen.checkpoint.size if seen else None
        return Visit(checkpoint, witnesses, epochs, head.time, replica.keys, extends)

    def evidence(self, violation: Violation) -> dict[str, Any]:
        """Everything somebody else needs to see the same: what was signed, and the leaf, verbatim."""
        path, content = self._resource or (None, b"")
        return {
            "rule": violation.reason.id,
            "sentence": violation.reason.sentence,
            "index": None if violation.index == NOWHERE else violation.index,
            "leaf": b64encode(violation.evidence).decode(),
            "checkpoint": self._note.decode(errors="backslashreplace"),
            "checkpoint_before": self._seen.note.decode() if self._seen else None,
            "resource": {"path": path, "content": b64encode(content).decode()} if path else None,
        }

    # -- the checkpoint -------------------------------------------------------------------------------------

    def _open(self, note: bytes) -> tuple[Checkpoint, tuple[Signature, ...]]:
        try:
            if self._policy is None:
                # Nothing is believed yet: step 6. finds the key, in leaves under the root that it must have signed.
                return _unverified(note), ()
            opened = self._policy.open(note)
        except LogError as error:
            raise Violation(error.reason.id, error.reason.sentence, NOWHERE) from error
        return opened.checkpoint, opened.witnesses

    def _begin(self, checkpoint: Checkpoint) -> tuple[Replica, Roots]:
        if self._begun is None:
            origin = checkpoint.origin
            remembered = self._memory.get(origin)
            self._seen = _Seen(remembered, _unverified(remembered)) if remembered else None
            half = RemoteHalf if self._workers and checkpoint.size > ALONE else LocalHalf
            # What a checkpoint claims is no reason to set aside memory for.
            roots = Roots(half, min(checkpoint.size, EXPECTED) // 2)
            self._begun = Replica(origin, assign=roots.assign), roots
        replica, _ = self._begun
        if checkpoint.origin != replica.origin:
            sentence = f"the checkpoint is of the log `{checkpoint.origin}`, not of `{replica.origin}`"
            raise Violation("log.origin", sentence, NOWHERE)
        return self._begun

    def _begin_anew(self) -> None:
        if self._begun is not None:
            self._begun[1].close()
        self._begun = None

    def _check_signer(self, replica: Replica) -> None:
        epoch, keys = replica.head.epoch, replica.keys
        if epoch is None:
            return
        # The epoch that announces a key may still be signed by the one before: signing waits for the commit.
        for key in {keys.current("log"), keys.at("log", epoch.first)} - {None}:
            try:
                open_checkpoint(self._note, VerifierKey(replica.origin, key or b""))
            except LogError:
                continue
            return
        raise Violation("log.checkpoint_key", "the checkpoint is not signed by the log key in force", NOWHERE)

    # -- leaves and tiles -----------------------------------------------------------------------------------

    def _get(self, path: str) -> bytes:
        try:
            return self._fetch(path)
        except NotFound as error:
            raise Violation("log.withheld", f"the log does not give out `{path}`", NOWHERE) from error

    def _ahead(self, paths: Iterator[str]) -> Iterator[tuple[str, bytes]]:
        with ThreadPoolExecutor(8, thread_name_prefix="fetch") as threads:
            coming: deque[tuple[str, Future[bytes]]] = deque()
            try:
                for path in paths:
                    coming.append((path, threads.submit(self._get, path)))
                    if len(coming) > AHEAD:
                        first, content = coming.popleft()
                        yield first, content.result()
                for path, content in coming:
                    yield path, content.result()
            finally:
                threads.shutdown(cancel_futures=True)

    def _leaves(self, known: Tree, size: int, reading: Reading) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """The leaves from `known.size` to `size` and their hashes, in batches."""
        start = known.size
        bundles = _widths(start, size) if start < size else []
        resources = self._ahead(tile_path(kind, i, w) for i, w in bundles for kind in ("entries", 0))
        leaves: list[bytes] = []
        hashes: list[bytes] = []
        for at, (number, width) in enumerate(bundles, 1):
            first = number * TILE_WIDTH
            (path, content), (tile, content_of_tile) = next(resources), next(resources)
            found = self._parse(path, content, first, width)
            theirs: list[bytes] = [leaf_hash(leaf) for leaf in found]
            reading.compare(tile, content_of_tile, found, theirs, first)
            skip = max(start - first, 0)
            if any(known.node(0, first + at) != theirs[at] for at in range(skip)):
                raise self._rewritten(known, start, size)
            leaves += found[skip:]
            hashes += theirs[skip:]
            if at % BATCH == 0 or at == len(bundles):
                yield leaves, hashes
                leaves, hashes = [], []

    def _parse(self, path: str, content: bytes, first: int, width: int) -> list[bytes]:
        try:
            found = parse_entry_bundle(content)
        except LogError as error:
            self._resource = path, content
            raise Violation(error.reason.id, f"`{path}`: {error.reason.sentence}", first) from error
        if len(found) != width:
            self._resource = path, content
            raise Violation("log.bundle", f"`{path}` holds `{len(found)}` leaves, not `{width}`", first)
        return found

    def _rewritten(self, known: Tree, count: int, size: int) -> Violation:
        """The first of `count` leaves that the log, now of `size`, tells differently. If it is none, no index."""
        for number, width in _widths(0, size)[: -(-count // TILE_WIDTH)]:
            path = tile_path("entries", number, width)
            content, first = self._get(path), number * TILE_WIDTH
            leaves = self._parse(path, content, first, width)
            for index, leaf in enumerate(leaves[: count - first], first):
                if leaf_hash(leaf) != known.node(0, index):
                    self._resource = path, content
                    sentence = f"leaf `{index}` is another one than at the last visit"
                    return Violation("log.rewritten", sentence, index, leaf)
        return Violation("log.root", "the leaves do not lead to the signed root", NOWHERE)

    def _unsigned(self, tree: Tree, known: int, reading: Reading) -> Violation:
        """What was read is not what was signed. If the log now tells its past differently, that is why."""
        violation, fault = self._rewritten(tree, known, tree.size), reading.tile_fault
        if violation.index != NOWHERE or fault is None:
            return violation
        sentence = f"{violation.reason.sentence}; {fault.reason.sentence}"
        return Violation("log.root", sentence, fault.index, fault.evidence)

    def _check_tiles(self, tree: Tree, known: int, size: int) -> None:
        """Those above the leaves' own, as far as `known` leaves did not settle them."""
        level = 1
        while size >> 8 * level:
            below = _widths(known >> 8 * level, size >> 8 * level)
            paths = (tile_path(level, number, width) for number, width in below)
            for (number, width), (path, content) in zip(below, self._ahead(paths), strict=True):
                first = number * TILE_WIDTH
                nodes = [tree.node(8 * level, at) for at in range(first, first + width)]
                if content != b"".join(nodes):
                    self._resource = path, content
                    raise Violation("log.tile", f"`{path}` does not hold the hashes of the leaves", NOWHERE)
            level += 1

    # -- rules ----------------------------------------------------------------------------------------------

    def _verifying(self) -> ProcessPoolExecutor | None:
        if self._signatures and self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(max(self._workers, 1), mp_context=context)
        return self._pool


def _check_against(now: Checkpoint, before: Checkpoint) -> None:
    if now.size < before.size:
        sentence = f"the log has `{now.size}` leaves, and had `{before.size}` at the last visit"
        raise Violation("log.shrunk", sentence, NOWHERE)
    if now.size == before.size and now.root != before.root:
        raise _forked(before)


def _forked(before: Checkpoint) -> Violation:
    sentence = f"the first `{before.size}` leaves are not those of the last visit"
    return Violation("log.forked", sentence, NOWHERE)


def _unverified(note: bytes) -> Checkpoint:
    """The checkpoint in a note whose signatures are checked elsewhere. Raises LogError."""
    try:
        return Checkpoint.parse(note.decode().rpartition("\n\n")[0] + "\n")
    except UnicodeDecodeError as error:
        raise LogError("log.note", "the checkpoint is not text") from error


def _widths(start: int, size: int) -> list[tuple[int, int]]:
    """Number and width of the tiles over `start…size - 1`, at any level."""
    numbers = range(start // TILE_WIDTH, -(-size // TILE_WIDTH))
    return [(number, min(TILE_WIDTH, size - number * TILE_WIDTH)) for number in numbers]
