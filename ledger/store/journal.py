"""The log as rows: appending entries, and reading back what is recorded about one person.

An entry about people is written once per person: each gets the body as *they* may read it, sealed under their
own key, and the public leaf commits to all of them without naming anyone. A person's n-th record stands under
the tag `t_n` of their list. That every one of them is there is checked at each reading: rows for all n below the
person's count, and no tag beyond it in the log's map. So hiding a row, or turning the count back, is noticed.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, bindparam, delete, insert, update
from sqlmodel import Session, SQLModel, col, select

from ledger.canonical import sha256
from ledger.consent import fold as consent
from ledger.consent.fold import Standing, fold
from ledger.errors import Inconsistent, LogError, NotFound, Unavailable
from ledger.ids import LeafIndex, PersonId
from ledger.keys import Rotated, SigningKey, Wrapping, list_key, new_person_key, tag_of
from ledger.log.leaf import Opening
from ledger.log.merkle import MAX_SIZE
from ledger.log.prefixmap import PrefixMap
from ledger.log.public import (
    Epoch,
    InForce,
    KeyChange,
    KeyTable,
    Kind,
    PolicyChange,
    make_public,
    open_public,
    parse_public,
    policies_after,
)
from ledger.log.replica import Growth, Replica
from ledger.log.signing import SigningTable
from ledger.store.records import Place
from ledger.store.sealing import Entry, Sealed, Share, open_record, seal_entries
from ledger.store.tables import LogEntry, Record

# What every append runs, built once, on the tables themselves: these rows never change, so they need no unit of
# work around them, and building a statement costs more than running it.
_TABLES = SQLModel.metadata.tables
_KEYS = _TABLES["subject_key"]
_ADD_ENTRY = insert(_TABLES["log_entry"])
_ADD_RECORD = insert(_TABLES["record"])
_GROW = update(_TABLES["head"]).values(size=bindparam("new_size"))
_SIZE = select(_TABLES["head"].c.size)
_KEY_ROW = select(_KEYS.c.wrapped, _KEYS.c.next_n).where(_KEYS.c.subject_id == bindparam("subject"))
_ONE_KEY = update(_KEYS).where(_KEYS.c.subject_id == bindparam("subject"))
_COUNT = _ONE_KEY.values(next_n=bindparam("count"))
_REWRAP = _ONE_KEY.values(wrapped=bindparam("key"))
T = TypeVar("T")
PARALLEL = 100
"""Entries sealed in one piece by a worker; fewer are not worth sending."""
STANDINGS = 10_000
"""People whose standing consent is remembered at a time."""
_CHUNK = 500
"""Values in one `IN`: below every database's limit."""


@dataclass(frozen=True, slots=True)
class About:
    """Whom an entry is about, in what role, and the entry as that reader may see it."""

    subject_id: str
    role: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry to be. `(kind, ref)` must be new."""

    kind: str
    ref: str
    about: Sequence[About]
    at: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """One entry as one person may read it."""

    index: LeafIndex
    kind: str
    body: Mapping[str, Any]
    opening: Opening
    others: Mapping[str, Opening] = field(default_factory=dict)
    """For a requester: the openings of those depicted, by likeness. Evidence that the entry is on their lists."""

    def entry(self) -> consent.Entry:
        return consent.Entry(self.index, self.kind, self.body)


@dataclass(frozen=True, slots=True)
class Held:
    """A person's or app's key, and how many records there are about them."""

    subject_id: str
    key: bytes = field(repr=False)
    count: int

    @property
    def list_key(self) -> bytes:
        return list_key(self.key)

    @property
    def list_key_digest(self) -> str:
        """What an enrolment says of the list key: its SHA-256, in hex."""
        return sha256(self.list_key).hex()


@dataclass(slots=True)
class LogKeys:
    """What appending needs: the log's name, the key that signs leaves, the keys that wrap people's keys.

    `standings`: standing consent already folded, as of the n-th record. Only what is durable is remembered, and
    records never change, so it can be trusted by every later transaction.
    """

    origin: str
    service: Ed25519PrivateKey = field(repr=False)
    wrapping: Wrapping
    workers: Executor | None = None
    """Processes that seal large batches; without them it is done here."""
    standings: dict[str, tuple[int, Standing]] = field(default_factory=dict, repr=False)

    def seal(self, entries: Sequence[Entry], service: Ed25519PrivateKey) -> list[Sealed]:
        seed = service.private_bytes_raw()
        if self.workers is None or len(entries) < PARALLEL:
            return seal_entries(entries, self.origin, seed)
        parts = [entries[at : at + PARALLEL] for at in range(0, len(entries), PARALLEL)]
        try:
            waiting = [self.workers.submit(seal_entries, part, self.origin, seed) for part in parts]
            return [one for part in waiting for one in part.result()]
        except BrokenExecutor:  # a worker was killed; what it had begun is nowhere else
            self.workers = None
            return seal_entries(entries, self.origin, seed)


class Journal:
    """Reads and, with a :class:`Growth`, appends. One instance lives as long as its database transaction."""

    def __init__(self, session: Session, keys: LogKeys, log: Growth | Replica) -> None:
        self.session = session
        self._keys = keys
        self._log = log
        # A reader sees one state throughout: what it has looked up once, it knows.
        self._reader: Connection | None = None
        self._seen: int | None = None

    # -- appending --------------------------------------------------------------------------------------

    def append(self, kind: str, ref: str, about: Sequence[About], *, at: datetime) -> LeafIndex:
        """Add one entry. `(kind, ref)` must be new: look with :meth:`find` first to be idempotent."""
        return self.append_all([Draft(kind, ref, about, at)])[0]

    def append_all(self, drafts: Sequence[Draft]) -> list[LeafIndex]:
        """Add entries, in order. Their time is never before that of the entry before them."""
        growth = self._growth()
        growth.check_room(sum(len(draft.about) for draft in drafts))
        for draft in drafts:
            if len({one.subject_id for one in draft.about}) != len(draft.about):
                raise LogError("log.twice", f"a `{draft.kind}` entry is about somebody twice")
        names = {one.subject_id for draft in drafts for one in draft.about}
        subjects = {name: self.held(name) for name in names}
        counts = {name: subject.count for name, subject in subjects.items()}
        entries, time = [], growth.time
        for index, draft in enumerate(drafts, growth.size):
            time = max(time, int(draft.at.timestamp()))
            shares = []
            for one in draft.about:
                held, n = subjects[one.subject_id], counts[one.subject_id]
                counts[one.subject_id] = n + 1
                shares.append(Share(held.key, held.list_key, n, one.role, dict(one.body)))
            entries.append(Entry(index, draft.kind, time, tuple(shares)))
        sealed = self._keys.seal(entries, growth.service)
        for entry, ready in zip(entries, sealed, strict=True):
            growth.add(ready.leaf, [tag for tag, _ in ready.records], entry.time)
        self.session.flush()
        self.session.execute(
            _ADD_ENTRY,
            [
                _entry_row(entry.index, draft.kind, draft.ref, entry.time, ready.leaf, ready.commitments)
                for entry, draft, ready in zip(entries, drafts, sealed, strict=True)
            ],
        )
        records = [{"tag": tag, "sealed": row} for ready in sealed for tag, row in ready.records]
        self.session.execute(_ADD_RECORD, records)
        self.session.execute(_COUNT, [{"subject": name, "count": count} for name, count in counts.items()])
        self.session.execute(_GROW, {"new_size": growth.size})
        return [LeafIndex(entry.index) for entry in entries]

    def append_public(self, kind: Kind, ref: str, payload: Mapping[int, Any], *, at: datetime) -> LeafIndex:
        """Add a statement of the service about itself."""
        growth = self._growth()
        leaf = make_public(kind, payload, self._keys.origin, growth.service)
        time = max(growth.time, int(at.timestamp()))
        index = growth.add(leaf, [], time)
        self._add_public(index, kind, ref, time, leaf)
        return index

    def announce_key(
        self, role: Rotated, new: SigningKey, old: SigningKey | None, *, at: datetime
    ) -> LeafIndex:
        """Put `new` in force from the next leaf on. Without an `old` key it is the role's first, from this leaf on."""
        growth = self._growth()
        change = KeyChange.make(role, self._keys.origin, new, old)
        index = self.append_public("keys", f"{role}/{len(growth.keys.rows)}", change.payload(), at=at)
        growth.keys = growth.keys.changed(change, index)
        if role == "service" and isinstance(new, Ed25519PrivateKey):
            growth.service = new
        return index

    def activate(self, change: PolicyChange, *, at: datetime) -> LeafIndex:
        """Put a policy set in force from the next leaf on. Raises LogError for a change that does not count here."""
        growth = self._growth()
        payload = change.payload()
        # Checked before it is durable: a log that breaks its own rule is one that no start opens again.
        after = policies_after(growth.policies, payload, self._keys.origin)
        index = self.append_public("policies", str(change.number), payload, at=at)
        growth.policies = after
        return index

    def announce_signing(self, payload: Mapping[int, Any], *, at: datetime) -> LeafIndex:
        """Say which certificate signs clips, or was taken back. Raises LogError for what does not count here."""
        growth = self._growth()
        after = growth.signing.after(payload)  # before it is durable, as in :meth:`activate`
        index = self.append_public("signing", str(growth.size), payload, at=at)
        growth.signing = after
        return index

    def end_epoch(self) -> None:
        """Close the epoch over what was appended; does nothing when there is nothing."""
        growth = self._growth()
        if growth.open:
            index, epoch, leaf = growth.end_epoch()
            self._add_public(index, "epoch", str(epoch.number), epoch.time, leaf)

    def _add_public(self, index: LeafIndex, kind: str, ref: str, time: int, leaf: bytes) -> None:
        self.session.flush()
        self.session.execute(_ADD_ENTRY, _entry_row(index, kind, ref, time, leaf, b""))
        self.session.execute(_GROW, {"new_size": index + 1})

    def _growth(self) -> Growth:
        if not isinstance(self._log, Growth):
            raise TypeError("entries are appended through Ledger.transact")
        return self._log

    def dated(self, at: datetime) -> datetime:
        """The time that counts here: an entry's is never before that of the entry before it.

        Whoever decides at another time than the entry says is refuted by whoever replays it.
        """
        log = self._log
        time = log.time if isinstance(log, Growth) else log.head.time
        return max(at, datetime.fromtimestamp(time, UTC))

    # -- the log ----------------------------------------------------------------------------------------

    def size(self) -> int:
        """How many leaves the log holds."""
        if isinstance(self._log, Growth):
            return int(self._rows().execute(_SIZE).scalar_one())
        if self._seen is None:
            self._seen = int(self._rows().execute(_SIZE).scalar_one())
        return self._seen

    def leaves(self, start: int = 0, stop: int = MAX_SIZE) -> Iterator[tuple[int, bytes]]:
        """Index and leaf of `start` … stop-1, in log order, without holding them all."""
        entry = _TABLES["log_entry"].c
        query = select(entry.index, entry.leaf).where(entry.index >= start, entry.index < stop)
        query = query.order_by(entry.index)
        yield from self.session.execute(query.execution_options(yield_per=2000))

    def statements(self, indices: Iterable[int]) -> dict[int, tuple[bytes, tuple[bytes, ...]]]:
        """Leaf and commitments of each entry."""
        found: dict[int, tuple[bytes, tuple[bytes, ...]]] = {}
        for chunk in _chunks(sorted(set(indices))):
            query = select(LogEntry).where(col(LogEntry.index).in_(chunk))
            for row in self.session.exec(query):
                split = tuple(row.commitments[at : at + 32] for at in range(0, len(row.commitments), 32))
                found[row.index] = (row.leaf, split)
        return found

    def find(self, kind: str, ref: str) -> Place | None:
        query = select(LogEntry).where(LogEntry.kind == kind, LogEntry.ref == ref)
        row = self.session.exec(query).first()
        return Place(LeafIndex(row.index), row.at) if row is not None else None

    def newest(self, kind: str) -> str | None:
        """The ref of the last entry of a kind."""
        query = select(LogEntry.ref).where(LogEntry.kind == kind).order_by(col(LogEntry.index).desc())
        return self.session.exec(query.limit(1)).first()

    def taken(self, kind: str, refs: Iterable[str]) -> set[str]:
        """Which of these places are taken."""
        found: set[str] = set()
        for chunk in _chunks(list(refs)):
            query = select(LogEntry.ref).where(LogEntry.kind == kind, col(LogEntry.ref).in_(chunk))
            found.update(self.session.exec(query))
        return found

    def policies(self) -> InForce | None:
        """The policy sets in force as of this transaction; None before the first change."""
        if isinstance(self._log, Growth):
            return self._log.policies
        head, size = self._log.head, self.size()  # each read once: while we look, the log may go on
        if size < head.size:
            # An older state, and one that was: a count turned back in the rows ends no epoch, or an older one.
            return self._log.covered(size).policies
        return self._policies_from(head.size, size, head.policies, head.keys)

    def policies_at(self, index: LeafIndex) -> InForce | None:
        """The policy sets in force for the entry at `index`. Raises LogError for a row the service did not sign."""
        return self._policies_from(0, index, None, KeyTable())

    def _policies_from(
        self, start: int, stop: int, in_force: InForce | None, keys: KeyTable
    ) -> InForce | None:
        """What is in force once the rows from `start` on have changed it: only such as the service has signed."""
        for payload in self._said("policies", start, stop, keys):
            in_force = policies_after(in_force, payload, self._keys.origin)
        return in_force

    def signing(self) -> SigningTable:
        """Every certificate that clips were signed with, as of this transaction."""
        if isinstance(self._log, Growth):
            return self._log.signing
        head, size = self._log.head, self.size()
        if size < head.size:
            return self._log.covered(size).signing
        table = head.signing
        for payload in self._said("signing", head.size, size, head.keys):
            table = table.after(payload)
        return table

    def _said(self, kind: Kind, start: int, stop: int, keys: KeyTable) -> Iterator[Mapping[int, Any]]:
        """Payloads of one kind in the rows from `start` on, each signed by the service key in force there."""
        if start == stop:
            return
        entry, origin = _TABLES["log_entry"].c, self._keys.origin
        query = select(entry.index, entry.leaf).where(entry.kind.in_(("keys", kind)))
        query = query.where(entry.index >= start, entry.index < stop).order_by(entry.index)
        for index, leaf in self.session.execute(query):
            parsed, service = parse_public(leaf, origin), keys.at("service", index)
            if service is None and parsed is not None and parsed[0].kind == "keys":
                # A log's very first signs for itself.
                first = KeyChange.parse(parsed[0].payload, origin)
                service = first.public if first.role == "service" else None
            public = open_public(leaf, origin, [service] if service is not None else [])
            if public.kind == "keys":
                keys = keys.changed(KeyChange.parse(public.payload, origin), index)
            elif public.kind == kind:
                yield public.payload

    def epoch_times(self, index: LeafIndex) -> tuple[int, int]:
        """Unix seconds that an entry's own time lies between: of the epochs before it and over it."""
        entry = _TABLES["log_entry"].c
        epochs = select(entry.leaf).where(entry.kind == "epoch")
        before = self.session.execute(
            epochs.where(entry.index < index).order_by(entry.index.desc()).limit(1)
        ).scalar()
        over = self.session.execute(epochs.where(entry.index > index).order_by(entry.index).limit(1)).scalar()
        if over is None:
            raise LogError("log.not_yet", f"no epoch covers the entry at `{index}`", "ask again in a minute")
        return self._epoch_time(before) if before is not None else 0, self._epoch_time(over)

    def _epoch_time(self, leaf: bytes) -> int:
        parsed = parse_public(leaf, self._keys.origin)
        return Epoch.parse(parsed[0].payload).time if parsed is not None else 0

    # -- one person's list ------------------------------------------------------------------------------

    def entries(self, subject_id: str, kinds: Iterable[str] | None = None, *, start: int = 0) -> list[Opened]:
        """Everything recorded about one subject from their `start`-th record on, in log order.

        Raises NotFound after erasure, Inconsistent when the stored list is not the one the log holds.
        """
        opened = self._list(self.held(subject_id), start)
        return opened if kinds is None else [one for one in opened if one.kind in set(kinds)]

    def entries_since(self, subject_id: str, index: int, kinds: Iterable[str] | None = None) -> list[Opened]:
        """As :meth:`entries`, from log index `index` on; what lies before is not read."""
        held = self.held(subject_id)
        # The n-th record about somebody stands before the next one in the log, too.
        start = bisect_left(range(held.count), index, key=lambda n: self._nth(held, n).index)
        return self.entries(subject_id, kinds, start=start)

    def newest_entries(self, subject_id: str, limit: int, *, before: int = MAX_SIZE) -> list[Opened]:
        """The last `limit` records about one subject that stand before log index `before`, newest first.

        What it reads does not depend on how many there are. Raises as :meth:`entries`.
        """
        held = self.held(subject_id)
        stop = bisect_left(range(held.count), before, key=lambda n: self._nth(held, n).index)
        return self._list(held, max(0, stop - limit), stop)[::-1]

    def recorded(self, subject_id: str, index: int) -> Opened | None:
        """The record about this subject at log index `index`; None when there is none."""
        found = self.newest_entries(subject_id, 1, before=index + 1)
        return found[0] if found and found[0].index == index else None

    def entry_at(self, subject_id: str, index: LeafIndex) -> Opened | None:
        """The entry at `index` as this subject may read it; None when it is not about them."""
        held = self.held(subject_id)
        after = select(LogEntry.leaf).where(LogEntry.kind == "epoch", col(LogEntry.index) > index)
        leaf = self.session.exec(after.order_by(col(LogEntry.index)).limit(1)).first()
        parsed = parse_public(leaf, self._keys.origin) if leaf is not None else None
        if parsed is None:
            return None
        tags = [tag for tag, entry in Epoch.parse(parsed[0].payload).assignments if entry == index]
        for row in self.session.exec(select(Record).where(col(Record.tag).in_(tags))):
            # The row says under which tag it was sealed, and only its own person's key opens it.
            with suppress(Unavailable):
                return _opened(held, row.tag, row.sealed)
        return None

    def standing(self, person_id: PersonId) -> Standing:
        """The person's standing consent as of this transaction; of an erased person, that they are erased."""
        row = self._key_row(person_id)
        if row is not None and row.wrapped is None:
            return Standing(erased=True)
        held = self._held(person_id, row)
        known, standing = self._keys.standings.get(person_id, (0, Standing()))
        if known > held.count:
            if self._map() is not None:
                raise _hidden(person_id)
            known, standing = 0, Standing()  # read at an earlier state, in which less was recorded
        fresh = self._list(held, known)
        durable = self._log.base.size if isinstance(self._log, Growth) else self._log.size
        kept = [one.entry() for one in fresh if one.index < durable]
        standing = fold(kept, standing)
        if len(self._keys.standings) >= STANDINGS:
            self._keys.standings.clear()
        self._keys.standings[person_id] = (known + len(kept), standing)
        return fold((one.entry() for one in fresh[len(kept) :]), standing)

    def erased(self, subject_id: str) -> bool:
        row = self._key_row(subject_id)
        return row is not None and row.wrapped is None

    def held(self, subject_id: str) -> Held:
        """Raises NotFound for someone unknown or erased."""
        return self._held(subject_id, self._key_row(subject_id))

    def _held(self, subject_id: str, row: Any) -> Held:
        if row is None or row.wrapped is None:
            raise NotFound("subject.unknown", f"nothing is held about `{subject_id[:40]}`")
        key = self._keys.wrapping.unwrap(row.wrapped, context=f"key/{subject_id}")
        return Held(subject_id, key, row.next_n)

    def _key_row(self, subject_id: str) -> Any:
        return self._rows().execute(_KEY_ROW, {"subject": subject_id}).first()

    def _rows(self) -> Connection:
        """For reading rows as they are, without a unit of work around them: that costs more than the reading."""
        if isinstance(self._log, Growth):
            self.session.flush()  # what this very operation has changed is to be read, too
            return self.session.connection()
        if self._reader is None:
            self._reader = self.session.connection()
        return self._reader

    def new_subject(self, subject_id: str) -> Held:
        """Give a new person or app their key."""
        key = new_person_key()
        wrapped = self._keys.wrapping.wrap(key, context=f"key/{subject_id}")
        self.session.execute(insert(_KEYS), {"subject_id": subject_id, "wrapped": wrapped, "next_n": 0})
        return Held(subject_id, key, 0)

    def erase_list(self, subject_id: str) -> int:
        """Destroy a subject's key and everything recorded under it. Returns how many records there were."""
        held = self.held(subject_id)
        for chunk in _chunks([tag_of(held.list_key, n) for n in range(held.count)]):
            self.session.exec(delete(Record).where(col(Record.tag).in_(chunk)))
        self.session.execute(_REWRAP, {"subject": subject_id, "key": None})
        self.session.execute(_COUNT, [{"subject": subject_id, "count": 0}])
        self._keys.standings.pop(subject_id, None)
        return held.count

    def rewrap(self) -> int:
        """Wrap every key anew under the current wrapping key. Returns how many were."""
        wrapping, changed = self._keys.wrapping, []
        for subject_id, wrapped in self.session.execute(select(_KEYS.c.subject_id, _KEYS.c.wrapped)):
            if wrapped is not None and not wrapping.is_current(wrapped):
                context = f"key/{subject_id}"
                again = wrapping.wrap(wrapping.unwrap(wrapped, context=context), context=context)
                changed.append({"subject": subject_id, "key": again})
        if changed:
            self.session.execute(_REWRAP, changed)
        return len(changed)

    def _list(self, held: Held, start: int, stop: int | None = None) -> list[Opened]:
        """Records `start` … stop-1, or to the last one; none missing. Raises Inconsistent."""
        key = held.list_key
        tags = [tag_of(key, n) for n in range(start, held.count if stop is None else stop)]
        rows: dict[bytes, bytes] = {}
        for chunk in _chunks(tags):
            query = select(Record.tag, Record.sealed).where(col(Record.tag).in_(chunk))
            rows.update((row.tag, row.sealed) for row in self.session.execute(query))
        # A list that is longer in the log than in the database has been cut: what was revoked would live again.
        known = self._map()
        if len(rows) != len(tags) or (known is not None and known.get(tag_of(key, held.count)) is not None):
            raise _hidden(held.subject_id)
        return [_opened(held, tag, rows[tag]) for tag in tags]

    def _nth(self, held: Held, n: int) -> Opened:
        tag = tag_of(held.list_key, n)
        row = self.session.get(Record, tag)
        if row is None:
            raise _hidden(held.subject_id)
        return _opened(held, tag, row.sealed)

    def _map(self) -> PrefixMap | None:
        """All tags in the log as this transaction sees it; None for a reader of another state than the newest."""
        if isinstance(self._log, Growth):
            return self._log.map
        head = self._log.head  # read once: while we look, the log may go on
        return head.map if head.size == self.size() else None


def _opened(held: Held, tag: bytes, sealed: bytes) -> Opened:
    index, body, opening, others = open_record(tag, sealed, held.key)
    return Opened(index, body["kind"], body, opening, others)


def _entry_row(index: int, kind: str, ref: str, time: int, leaf: bytes, commitments: bytes) -> dict[str, Any]:
    return {"index": index, "kind": kind, "ref": ref, "at": time, "leaf": leaf, "commitments": commitments}


def _hidden(subject_id: str) -> Inconsistent:
    return Inconsistent(
        "log.hidden",
        f"what is stored about `{subject_id[:40]}` is not all that the log holds",
        "restore the database that was running; nothing is decided about this person until then",
    )


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(values), _CHUNK):
        yield values[at : at + _CHUNK]
