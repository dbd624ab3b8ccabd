"""Known prohibited pictures and videos: everything sent and everything made is compared with the lists in force.

Guarantees

- Every hash of every list is compared with every view of every picture (:mod:`safety.pdq`), exactly: none within the
  list's distance is missed. A *video* is on a list of child abuse or intimate pictures as soon as one of its frames
  is; on any other once four fifths of its frames are of one listed video, or four fifths of that video are in it
  (as vPDQ does), so that a news channel's logo is no reason to refuse.
- Which lists are in force, the log says: each that operators import or take away is an entry, signed by one of them,
  with how many hashes it holds and their digest. Rows that are not exactly those lists raise, and the gate denies: so
  nobody drops a list, or a line of it, by deleting rows.
- A list is replaced whole, in one transaction, or not at all. Another process's changes count at the next look.
- What is on a list is sealed in the database, held in memory while it is in force, and told to nobody: neither in
  answers, errors, logs nor here. Whoever asks learns that a picture is on some list; an operator, on which.

Hashes are made in worker processes (:mod:`safety.workers`): the pictures are anybody's.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from ledger.canonical import canonical, challenge
from ledger.errors import NotFound
from ledger.provenance.pdq import MOST_BITS, Index, Picture
from ledger.store.hash_lists import SUBJECT, ListsState
from ledger.store.journal import About
from ledger.store.records import HashList
from ledger.store.transaction import Transaction
from safety import pdq, workers
from safety.errors import CheckUnavailable, InvalidInput, Refused
from safety.hash_lists import Hashed, Read, digest

ListCategory = Literal["csam", "ncii", "terror", "violence", "own"]
"""Child abuse, intimate pictures nobody agreed to, terrorism, other violence, the operator's own."""
CATEGORIES: Final[tuple[ListCategory, ...]] = get_args(ListCategory)
ONE_FRAME: Final = frozenset({"csam", "ncii"})
"""One frame that is on such a list is enough."""
SHARE: Final = 0.8
TAG: Final = "countersign/hash-list/v1"
PIECE: Final = 4
"""Pictures hashed by one worker at once."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Found:
    """Which of the pictures asked about are on a list, by their number, and on which lists."""

    pictures: frozenset[int] = frozenset()
    lists: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """The lists as they are in memory: all hashes, and of each its list, its video and its distance."""

    lists: tuple[HashList, ...]
    index: Index = field(repr=False)
    of_list: NDArray[np.int16] = field(repr=False)
    video: NDArray[np.uint32] = field(repr=False)
    bits: NDArray[np.int64] = field(repr=False)


class Lists:
    """The lists in force, as last read. Thread-safe; one per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: ListsState | None = None
        self._held: _Held | None = None

    def __repr__(self) -> str:
        return "Lists()"

    def found(self, tx: Transaction, hashed: pdq.Hashed) -> Found:
        """What of these is on a list, as of this transaction. Raises where the lists cannot be read."""
        held = self._read(tx)
        one, other, differ = held.index.within(hashed.hashes)
        near = differ <= held.bits[other]
        one, other = one[near], other[near]
        pictures, lists = set[int](), set[str]()
        for number, about in enumerate(held.lists):
            here = held.of_list[other] == number
            matched = _matched(hashed, held, about, number, one[here], other[here])
            if matched:
                pictures |= matched
                lists.add(about.name)
        return Found(frozenset(pictures), tuple(sorted(lists)))

    def any(self, tx: Transaction) -> bool:
        """Whether there is anything to compare with. Raises where the lists cannot be read."""
        return bool(self._read(tx).lists)

    def _read(self, tx: Transaction) -> _Held:
        with self._lock:
            state = tx.hash_lists_state()
            if self._held is None or state != self._state:
                # Before what may fail: what was read earlier must not answer for what cannot be read now.
                self._state, self._held = None, None
                self._held = _read(tx)
                self._state = state
            return self._held


def _read(tx: Transaction) -> _Held:
    lists = in_force(tx)
    parts = [_content(tx, one) for one in lists]
    sizes = [len(part) for part in parts]
    hashes = np.vstack([np.empty((0, 4), np.uint64), *(part.hashes for part in parts)])
    return _Held(
        lists,
        Index(hashes),
        np.repeat(np.arange(len(lists), dtype=np.int16), sizes),
        np.concatenate([np.empty(0, np.uint32), *(part.videos for part in parts)]),
        np.repeat(np.array([one.bits for one in lists], np.int64), sizes),
    )


def _matched(
    hashed: pdq.Hashed,
    held: _Held,
    about: HashList,
    number: int,
    one: NDArray[np.int64],
    other: NDArray[np.int64],
) -> set[int]:
    """The pictures that count as on a list, of the pairs that are within reach of it."""
    picture, video = hashed.picture[one], held.video[other]
    alone = np.ones_like(video, dtype=bool) if about.category in ONE_FRAME else video == 0
    found = set(map(int, picture[alone]))
    for each in map(int, np.unique(video[~alone])):
        theirs = video == each
        seen = set(map(int, picture[theirs]))
        whole = int(((held.of_list == number) & (held.video == each)).sum())
        if len(seen) >= SHARE * hashed.seen or len(np.unique(other[theirs])) >= SHARE * whole:
            found |= seen
    return found


def hashed(pictures: Sequence[Picture], *, clip: bool = True) -> pdq.Hashed:
    """Hash pictures in worker processes. Raises as :func:`safety.pdq.hashed`, or CheckUnavailable."""
    function = pdq.quick if clip else pdq.hashed
    pieces = [list(pictures[at : at + PIECE]) for at in range(0, len(pictures), PIECE)]
    return joined(
        workers.shared().map(function, [(piece,) for piece in pieces]), [len(one) for one in pieces]
    )


def joined(parts: Sequence[pdq.Hashed], sizes: Sequence[int]) -> pdq.Hashed:
    """The hashes of pictures that follow one another. sizes: how many pictures each part is of."""
    before = [sum(sizes[:at]) for at in range(len(parts))]
    return pdq.Hashed(
        np.vstack([np.empty((0, 4), np.uint64), *(part.hashes for part in parts)]),
        np.concatenate(
            [
                np.empty(0, np.int64),
                *(part.picture + first for part, first in zip(parts, before, strict=True)),
            ]
        ),
        sum(part.seen for part in parts),
    )


# What the log says --------------------------------------------------------------------------------------


def history(tx: Transaction) -> list[Mapping[str, object]]:
    """Every change of a list, oldest first, as its entry says. Raises where that list is not the one the log holds."""
    try:
        return [one.body for one in tx.entries(SUBJECT, ["hash_list"])]
    except NotFound:
        if tx.newest("hash_list") is not None:
            raise _unreadable() from None
        return []


def in_force(tx: Transaction) -> tuple[HashList, ...]:
    """The lists the log says there are. Raises CheckUnavailable unless the rows are exactly these."""
    said = dict[object, tuple[object, ...]]()
    for body in history(tx):
        if body["action"] == "imported":
            said[body["list"]] = tuple(
                body[name] for name in ("version", "category", "count", "bits", "sha256")
            )
        else:
            said.pop(body["list"], None)
    rows = tx.hash_lists()
    if {one.name: (one.version, one.category, one.count, one.bits, one.sha256) for one in rows} != said:
        raise _unreadable()
    return tuple(rows)


def _content(tx: Transaction, one: HashList) -> Hashed:
    try:
        held = Hashed.from_bytes(tx.hash_list_content(one))
    except ValueError as error:
        raise _unreadable() from error
    if (len(held), digest(held)) != (one.count, one.sha256):
        raise _unreadable()
    return held


def _unreadable() -> CheckUnavailable:
    return CheckUnavailable(
        "known_bad.unreadable",
        "the lists of known prohibited pictures are not those the log says are in force",
        "try again later; the operator has to restore the database, or import the list again",
    )


# What operators change ----------------------------------------------------------------------------------


def put(
    tx: Transaction,
    read: Read,
    name: str,
    category: ListCategory,
    *,
    source: str,
    bits: int,
    operator: str,
    key: Ed25519PrivateKey,
    origin: str,
    at: datetime,
) -> HashList:
    """Put a list in force, in place of the one of its name. Raises Refused for one that says nothing new."""
    if not _NAME.fullmatch(name) or not 0 <= bits <= MOST_BITS or not 0 < len(source) <= 200:
        raise InvalidInput(
            "lists.name",
            f"a list has a name of small letters and digits, a source, and a distance of `0` to `{MOST_BITS}` bits",
            "name it like `ncmec-industry`",
        )
    before = [body for body in history(tx) if body["list"] == name]
    version = sum(body["action"] == "imported" for body in before) + 1
    said = {
        "list": name,
        "version": version,
        "action": "imported",
        "category": category,
        "source": source,
        "format": read.format,
        "count": len(read.held),
        "bits": bits,
        "sha256": digest(read.held),
    }
    same = ("action", "category", "count", "bits", "sha256")
    # A list whose rows were lost is imported again as it was: that mends them.
    intact = name in {one.name for one in tx.hash_lists()}
    if before and intact and all(before[-1][one] == said[one] for one in same):
        raise Refused(
            "lists.unchanged", f"the list `{name}` holds exactly these hashes already", "nothing to do"
        )
    place = _record(tx, said, operator, key, origin, at)
    one = HashList(
        name,
        version,
        category,
        source,
        read.format,
        len(read.held),
        bits,
        str(said["sha256"]),
        operator,
        int(at.timestamp()),
        place,
    )
    tx.put_hash_list(one, read.held.to_bytes())
    return one


def take_away(
    tx: Transaction, name: str, *, operator: str, key: Ed25519PrivateKey, origin: str, at: datetime
) -> None:
    """Compare with this list no more; its hashes are destroyed, its entries stay. Raises NotFound."""
    before = [body for body in history(tx) if body["list"] == name]
    if not before or before[-1]["action"] != "imported":
        raise NotFound("lists.unknown", f"no list `{name[:64]}` is in force", "see `countersign lists show`")
    said = {**{one: before[-1][one] for one in _SAID}, "action": "removed"}
    _record(tx, said, operator, key, origin, at)
    tx.drop_hash_list(name)


_SAID = ("list", "version", "category", "source", "format", "count", "bits", "sha256")


def _record(
    tx: Transaction,
    said: Mapping[str, object],
    operator: str,
    key: Ed25519PrivateKey,
    origin: str,
    at: datetime,
) -> int:
    number = tx.hash_list_keeper().count
    statement = challenge(TAG, canonical({**said, "origin": origin, "number": number, "operator": operator}))
    body = {
        **said,
        "number": number,
        "operator": operator,
        "signed": [key.public_key().public_bytes_raw().hex(), key.sign(statement).hex()],
    }
    return tx.append("hash_list", str(number), [About(SUBJECT, "keeper", body)], at=at)
