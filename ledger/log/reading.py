"""One visit's way through the leaves of a log: the rules, in order, with the work shared among processes.

What is slow goes elsewhere if there are worker processes: the two halves of the map, and the signatures of entries.
Their answers come later, but the fault at the lowest leaf is the one that counts (:meth:`Reading.faults`).
"""

import sys
from array import array
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import LogError, Violation
from ledger.ids import LeafIndex
from ledger.log.leaf import open_leaf
from ledger.log.maproots import Assigned, Half, LocalHalf, Part, joined, worker_gone
from ledger.log.merkle import HASH_BYTES, Tree
from ledger.log.prefixmap import PrefixMap
from ledger.log.public import Epoch, parse_public
from ledger.log.replica import NodeAt, Replica, wrong_root
from ledger.reasons import Reason

LAG = 64
"""Epochs whose map root may be outstanding, with worker processes."""


class Reading:
    """One visit's way through the leaves. After a broken rule only their hashes matter."""

    def __init__(self, replica: Replica, latest: int, pool: ProcessPoolExecutor | None) -> None:
        self.tree = replica.tree
        self.tile_fault: Violation | None = None
        self._replica, self._latest, self._pool = replica, latest, pool
        self._fault: Violation | None = None
        self._checked: list[Future[tuple[int, bytes] | None]] = []

    def take(self, leaves: list[bytes], hashes: list[bytes]) -> None:
        if self._fault is None:
            start = self._replica.size
            try:
                self._replica.extend(leaves, hashes)
            except Violation as fault:
                self._stop(fault)
            else:
                self._look_closer(start, leaves)
                return
        self.tree.extend(hashes)

    def _look_closer(self, start: int, leaves: list[bytes]) -> None:
        replica = self._replica
        if self._pool is not None:
            keys = [public for role, public, _ in replica.keys.rows if role == "service"]
            self._checked.append(self._pool.submit(_first_unsigned, replica.origin, keys, start, leaves))
        if replica.head.time > self._latest:
            self._fault = self._future(start, leaves)

    def _future(self, start: int, leaves: list[bytes]) -> Violation:
        """The first epoch of this batch that lies in the future; its newest one does."""

        def lies_ahead(leaf: bytes) -> bool:
            parsed = parse_public(leaf, self._replica.origin)
            return bool(
                parsed and parsed[0].kind == "epoch" and Epoch.parse(parsed[0].payload).time > self._latest
            )

        index, leaf = next((at, leaf) for at, leaf in enumerate(leaves, start) if lies_ahead(leaf))
        return Violation("log.epoch_future", f"the epoch at leaf `{index}` lies in the future", index, leaf)

    def _stop(self, fault: Violation) -> None:
        self._fault = fault
        tree = self._replica.tree
        self.tree = Tree()
        self.tree.extend(tree.node(0, index) for index in range(tree.size))

    def compare(self, path: str, tile: bytes, leaves: list[bytes], hashes: list[bytes], first: int) -> None:
        """The tile above a bundle. Only the root will tell which of the two is wrong."""
        if self.tile_fault is not None or tile == b"".join(hashes):
            return
        at = next(
            (at for at, one in enumerate(hashes) if tile[HASH_BYTES * at : HASH_BYTES * (at + 1)] != one), 0
        )
        sentence = f"`{path}` does not hold the hash of leaf `{first + at}`"
        self.tile_fault = Violation("log.tile", sentence, first + at, leaves[at])

    def faults(self, roots: "Roots") -> list[Violation]:
        """Broken rules, the first of each kind of check, also of those that take longer to find."""
        found = [self._fault] if self._fault is not None else []
        for future in self._checked:
            try:
                unsigned = future.result()
            except BrokenExecutor as error:
                raise worker_gone() from error
            if unsigned is not None:
                index, leaf = unsigned
                sentence = f"the signature of leaf `{index}` does not verify"
                found.append(Violation("log.leaf_signature", sentence, index, leaf))
        try:
            roots.settle()
        except Violation as fault:
            found.append(fault)
        return found


def _first_unsigned(
    origin: str, keys: list[bytes], start: int, leaves: list[bytes]
) -> tuple[int, bytes] | None:
    """Runs in a worker process. Whose signature an entry must bear was checked before, by its key's id."""
    known = [Ed25519PublicKey.from_public_bytes(key) for key in keys]
    for index, leaf in enumerate(leaves, start):
        try:
            if parse_public(leaf, origin) is None:
                open_leaf(leaf, origin, known)
        except LogError:
            return index, leaf
    return None


class Roots:
    """Rules 6 and 7 of the replica. With worker processes the answers come later, and still in order."""

    def __init__(self, half: Callable[[int], Half], expected: int) -> None:
        self._halves = half(expected), half(expected)
        self._lag = 0 if half is LocalHalf else LAG
        self._pending: deque[tuple[Epoch, LeafIndex, bytes]] = deque()

    def assign(
        self, before: PrefixMap, epoch: Epoch, index: LeafIndex, leaf: bytes, hash_at: NodeAt
    ) -> PrefixMap:
        tags, entries = zip(*epoch.assignments, strict=True) if epoch.assignments else ((), ())
        indices = array("Q", entries)
        if sys.byteorder == "little":
            indices.byteswap()
        assigned = Assigned(b"".join(tags), indices.tobytes(), b"".join(map(hash_at, entries)))
        for half, part in zip(self._halves, assigned.split(), strict=True):
            half.put(part)
        self._pending.append((epoch, index, leaf))
        if len(self._pending) > self._lag:
            self._check_next()
        return before

    def settle(self) -> None:
        while self._pending:
            self._check_next()

    def close(self) -> None:
        for half in self._halves:
            half.close()

    def _check_next(self) -> None:
        epoch, index, leaf = self._pending.popleft()
        parts: list[Part] = []
        for answer in [half.get() for half in self._halves]:
            if isinstance(answer, Reason):
                raise Violation(answer.id, answer.sentence, index, leaf)
            parts.append(answer)
        if joined(*parts).hash != epoch.map_root:
            raise wrong_root(epoch, index, leaf)
