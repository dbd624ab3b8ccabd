"""Everything that follows from the leaves of a log: tree, map, keys, epochs; and the rules leaves must keep.

The service rebuilds this from its rows at every start and signs nothing that contradicts it; a monitor builds
the same from what it downloads. So the two can not understand the log differently.

Rules, each checked by :meth:`Replica.extend` for every leaf:

1. A leaf is an entry (:mod:`ledger.log.leaf`) or a public statement (:mod:`ledger.log.public`), in its one encoding.
2. It is signed by the service key in force at its place. (Of entries only the key's id is checked here: an
   entry's signature is checked by whoever is shown the entry, and by a monitor that is asked to.)
3. A key changes by a statement that the key in force and the new one sign.
4. Epochs are numbered without a gap, and each covers exactly the leaves since the one before it.
5. An epoch gives every entry it covers at least one tag, and nothing else any.
6. No tag is ever assigned twice.
7. The map root in an epoch is the root over all tags assigned so far; the key digest is that of the key table.
8. An epoch's time is not before that of the one before it.
9. The policy set changes by a statement that operators sign (but for the first), numbered without a gap, which names
   the set in force at its place. A roll-out that is dropped is the one under way.
10. A certificate is announced once, and taken back only afterwards; a second time only from an earlier moment.

Rules 6 and 7 need the map, and :func:`assigned` checks them. A monitor, who needs no map to prove from, gives its
own way to check them.

A :class:`Growth` is what one database transaction adds, before it is durable: dropped, it leaves no trace.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.errors import LogError, Violation
from ledger.ids import LeafIndex
from ledger.log.leaf import key_id, kid_of
from ledger.log.merkle import Tree, leaf_hash
from ledger.log.prefixmap import PrefixMap, value_of
from ledger.log.public import (
    EPOCH_LEAVES,
    EPOCH_TAGS,
    Assignment,
    Epoch,
    InForce,
    KeyChange,
    KeyTable,
    Public,
    make_public,
    open_public,
    parse_public,
    policies_after,
)
from ledger.log.signing import SigningTable

_AFTER_HEAD = 32 + 2 + 64
"""Bytes of an entry's leaf after its headers: the payload, what stands between, the signature."""


@dataclass(frozen=True, slots=True)
class Covered:
    """What the newest epoch vouches for. Immutable, so readers keep one while the log goes on."""

    size: int = 0
    """Leaves up to and including the epoch leaf itself."""
    map: PrefixMap = field(default_factory=PrefixMap)
    epoch: Epoch | None = None
    epoch_leaf: bytes = b""
    keys: KeyTable = field(default_factory=KeyTable)
    policies: InForce | None = None
    signing: SigningTable = field(default_factory=SigningTable)

    @property
    def time(self) -> int:
        return self.epoch.time if self.epoch else 0


KEPT = 64
"""Epochs whose state is at hand: a proof may be asked for just after the log has grown."""
NodeAt = Callable[[int], bytes]
"""The hash of leaf `i`."""
Assign = Callable[[PrefixMap, Epoch, LeafIndex, bytes, NodeAt], PrefixMap]
"""(map before the epoch, epoch, its index, its leaf, leaf hashes) → map after it, once rules 6 and 7 hold."""


def assigned(before: PrefixMap, epoch: Epoch, index: LeafIndex, leaf: bytes, hash_at: NodeAt) -> PrefixMap:
    """Rules 6 and 7 by the map itself, which refuses a tag it already holds. Raises LogError."""
    grown = before.insert((tag, value_of(entry, hash_at(entry))) for tag, entry in epoch.assignments)
    if grown.root != epoch.map_root:
        raise wrong_root(epoch, index, leaf)
    return grown


class AssignedAt:
    """Rules 6 and 7 at some epochs only: the map root there covers all that was assigned in between.

    For a log of one's own, whose every epoch was checked when it was written. A map that grows at once by all its
    tags takes a tenth of the time of one that grows by epochs.
    """

    def __init__(self, stops: Collection[int]) -> None:
        """`stops`: sizes of the tree at which an epoch ends."""
        self._stops = stops
        self._waiting: list[tuple[bytes, bytes]] = []

    def __call__(
        self, before: PrefixMap, epoch: Epoch, index: LeafIndex, leaf: bytes, hash_at: NodeAt
    ) -> PrefixMap:
        self._waiting += [(tag, value_of(entry, hash_at(entry))) for tag, entry in epoch.assignments]
        if index + 1 not in self._stops:
            return before
        grown = before.insert(self._waiting)
        self._waiting = []
        if grown.root != epoch.map_root:
            raise wrong_root(epoch, index, leaf)
        return grown


def wrong_root(epoch: Epoch, index: LeafIndex, leaf: bytes) -> Violation:
    return _broken("map", epoch, index, leaf, "does not carry the root of the map of all tags")


def _broken(rule: str, epoch: Epoch, index: LeafIndex, leaf: bytes, sentence: str) -> Violation:
    return Violation(f"log.epoch_{rule}", f"epoch `{epoch.number}` at leaf `{index}` {sentence}", index, leaf)


class Replica:
    """A log rebuilt from its leaves. One thread extends it while others read."""

    def __init__(self, origin: str, *, assign: Assign = assigned) -> None:
        self.origin = origin
        self.tree = Tree()
        self.keys = KeyTable()
        self.policies: InForce | None = None
        self.signing = SigningTable()
        self._covered = [Covered()]
        self.needed: frozenset[int] = frozenset()
        """Sizes that :meth:`covered` will be asked for, beside the newest ones."""
        self._entries: list[LeafIndex] = []  # since the newest epoch
        self._assign = assign
        self._form: tuple[int, bytes, bytes] | None = None

    @property
    def size(self) -> int:
        return self.tree.size

    @property
    def head(self) -> Covered:
        return self._covered[-1]

    @property
    def map(self) -> PrefixMap:
        return self.head.map

    def covered(self, size: int) -> Covered:
        """What the epoch that ends the tree of `size` leaves vouches for. Raises LogError for any other size."""
        at = bisect_right(self._covered, size, key=lambda covered: covered.size) - 1
        if at < 0 or self._covered[at].size != size:
            raise LogError("log.epoch", f"no epoch ends at `{size}` leaves", "ask for the newest checkpoint")
        return self._covered[at]

    def extend(self, leaves: Sequence[bytes], hashes: Sequence[bytes] | None = None) -> None:
        """Add the next leaves. Raises Violation at the first that breaks a rule; then none of them is added.

        `hashes`: theirs, of a caller who has computed them.
        """
        known = [leaf_hash(leaf) for leaf in leaves] if hashes is None else hashes
        before = self.keys, self.policies, self.signing, list(self._covered), list(self._entries), self._form
        start = self.size

        def hash_at(index: int) -> bytes:
            return known[index - start] if index >= start else self.tree.node(0, index)

        try:
            self._read(start, leaves, hash_at)
        except BaseException:
            self.keys, self.policies, self.signing, self._covered, self._entries, self._form = before
            raise
        self.tree.extend(known)

    def replay(self, batches: Iterable[Sequence[bytes]], stops: Collection[int]) -> None:
        """Extend by a log of one's own, and be able to prove under `stops` alone. Raises Violation."""
        self._assign = AssignedAt(stops)
        for leaves in batches:
            self.extend(leaves)
        self._assign = assigned
        self._covered = [one for one in self._covered if one.size in {0, *stops}]

    def grow(self, growth: "Growth") -> None:
        """Take over what has become durable, and was made by :class:`Growth` to keep the rules."""
        self.tree.extend([leaf_hash(leaf) for leaf in growth.leaves])
        self.keys, self.policies, self.signing = growth.keys, growth.policies, growth.signing
        self._remember(growth.covered)
        self._entries, self._form = [], None

    # -- one leaf -------------------------------------------------------------------------------------------

    def _read(self, start: int, leaves: Sequence[bytes], hash_at: NodeAt) -> None:
        form, add = self._form, self._entries.append
        for index, leaf in enumerate(leaves, start):
            # The entries under one key differ in payload and signature only: the first shows the form of the rest.
            if (
                form is not None
                and len(leaf) == form[0]
                and leaf.startswith(form[1])
                and leaf[-66:-64] == form[2]
            ):
                add(LeafIndex(index))
            else:
                self._step(LeafIndex(index), leaf, hash_at)
                form, add = self._form, self._entries.append

    def _step(self, index: LeafIndex, leaf: bytes, hash_at: NodeAt) -> None:
        try:
            if parse_public(leaf, self.origin) is None:
                self._entry(index, leaf)
                return
            public = self._open(leaf, index)
            match public.kind:
                case "epoch":
                    self._epoch(index, leaf, Epoch.parse(public.payload), hash_at)
                case "keys":
                    self.keys = self.keys.changed(KeyChange.parse(public.payload, self.origin), index)
                    self._form = None
                case "policies":
                    # 9.
                    self.policies = policies_after(self.policies, public.payload, self.origin)
                case "signing":
                    # 10.
                    self.signing = self.signing.after(public.payload)
        except Violation:
            raise
        except LogError as error:
            raise Violation(error.reason.id, str(error), index, leaf) from error

    def _entry(self, index: LeafIndex, leaf: bytes) -> None:
        # 1., 2.
        service = self.keys.at("service", index)
        if service is None or kid_of(leaf, self.origin) != key_id(service):
            raise Violation(
                "log.retired_key", f"leaf `{index}` is not by the service key in force", index, leaf
            )
        self._entries.append(index)
        self._form = len(leaf), leaf[:-_AFTER_HEAD], leaf[-66:-64]

    def _open(self, leaf: bytes, index: LeafIndex) -> Public:
        parsed = parse_public(leaf, self.origin)
        service = self.keys.at("service", index)
        if service is None and parsed is not None and parsed[0].kind == "keys":
            # The very first key of a service signs for itself; its checkpoint is what binds it to the log's key.
            change = KeyChange.parse(parsed[0].payload, self.origin)
            service = change.public if change.role == "service" else None
        # 2.
        return open_public(leaf, self.origin, [service] if service else [])

    def _epoch(self, index: LeafIndex, leaf: bytes, epoch: Epoch, hash_at: NodeAt) -> None:
        head = self.head

        def broken(rule: str, sentence: str) -> Violation:
            return _broken(rule, epoch, index, leaf, sentence)

        # 4.
        if (epoch.number, epoch.first) != (head.epoch.number + 1 if head.epoch else 0, head.size):
            raise broken("order", "does not follow the epoch before it")
        # 5.
        if {entry for _, entry in epoch.assignments} != set(self._entries):
            raise broken("coverage", "does not give tags to exactly the entries it covers")
        # 6., as far as it can be seen here.
        tags = [tag for tag, _ in epoch.assignments]
        if any(left >= right for left, right in pairwise(tags)):
            raise broken("order", "lists a tag twice, or out of order")
        # 7.
        if self.keys.digest() != epoch.keys_digest:
            raise broken("keys", "does not carry the digest of the key table")
        # 8.
        if epoch.time < head.time:
            raise broken("time", "lies before the one before it")
        # 6., 7.
        grown = self._assign(head.map, epoch, index, leaf, hash_at)
        self._remember(Covered(index + 1, grown, epoch, leaf, self.keys, self.policies, self.signing))
        self._entries = []

    def _remember(self, covered: Covered) -> None:
        self._covered.append(covered)
        if len(self._covered) > 2 * KEPT:
            # Each holds a state of the map; all of them would hold the map once for every epoch.
            older, newest = self._covered[:-KEPT], self._covered[-KEPT:]
            self._covered = [one for one in older if one.size in self.needed] + newest


@dataclass(slots=True)
class Growth:
    """What one database transaction adds: leaves, and the tags their epoch will assign. Not durable yet."""

    base: Replica
    service: Ed25519PrivateKey = field(repr=False)
    """Signs the leaves; the one in force, or a rotation's new one after the statement that announces it."""
    leaves: list[bytes] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    """Of entries that no epoch covers yet."""
    keys: KeyTable = field(init=False)
    policies: InForce | None = field(init=False)
    signing: SigningTable = field(init=False)
    covered: Covered = field(init=False)
    time: int = field(init=False)

    def __post_init__(self) -> None:
        self.keys, self.policies, self.signing = self.base.keys, self.base.policies, self.base.signing
        self.covered, self.time = self.base.head, self.base.head.time

    @property
    def size(self) -> int:
        return self.base.size + len(self.leaves)

    @property
    def map(self) -> PrefixMap:
        return self.covered.map

    def mark(self) -> "Mark":
        """Where an operation begins, so that one that fails can be taken back. No epoch ends inside an operation."""
        state = self.keys, self.policies, self.signing, self.time, self.service
        return len(self.leaves), len(self.assignments), state

    def reset(self, mark: "Mark") -> None:
        leaves, assignments, state = mark
        self.keys, self.policies, self.signing, self.time, self.service = state
        del self.leaves[leaves:], self.assignments[assignments:]

    def add(self, leaf: bytes, tags: Sequence[bytes], time: int) -> LeafIndex:
        index = LeafIndex(self.size)
        self.leaves.append(leaf)
        self.assignments.extend(Assignment(tag, index) for tag in tags)
        self.time = max(self.time, time)
        return index

    def check_room(self, tags: int) -> None:
        """That the epoch leaf has room for so many more. Raises LogError."""
        if len(self.assignments) + tags > EPOCH_TAGS:
            raise LogError(
                "log.epoch",
                f"one operation may add at most `{EPOCH_TAGS // 2}` entries about people",
                "do it in several operations",
            )

    @property
    def full(self) -> bool:
        """Whether an epoch leaf must end here, before another operation adds as much as one may."""
        return 2 * len(self.assignments) > EPOCH_TAGS or 2 * (self.size - self.covered.size) > EPOCH_LEAVES

    @property
    def open(self) -> bool:
        """Whether there are leaves that no epoch covers."""
        return self.size > self.covered.size

    def end_epoch(self) -> tuple[LeafIndex, Epoch, bytes]:
        """The epoch leaf over everything since the one before it. Raises LogError when it would not fit in a leaf."""
        before = self.covered
        self.check_room(0)
        first = self.base.size
        grown = before.map.insert(
            (tag, value_of(entry, leaf_hash(self.leaves[entry - first]))) for tag, entry in self.assignments
        )
        epoch = Epoch(
            number=before.epoch.number + 1 if before.epoch else 0,
            first=LeafIndex(before.size),
            map_root=grown.root,
            keys_digest=self.keys.digest(),
            time=self.time,
            assignments=tuple(sorted(self.assignments)),
        )
        leaf = make_public("epoch", epoch.payload(), self.base.origin, self.service)
        index = LeafIndex(self.size)
        self.leaves.append(leaf)
        self.assignments.clear()
        self.covered = Covered(index + 1, grown, epoch, leaf, self.keys, self.policies, self.signing)
        return index, epoch, leaf


Mark = tuple[int, int, tuple[KeyTable, InForce | None, SigningTable, int, Ed25519PrivateKey]]
