"""What can be done to the ledger inside one database transaction.

An entry about people is written once per person: each gets the body as *they* may read it, sealed under
their own key, and the public leaf commits to all of them without naming anyone. The database's one write lock
(:mod:`ledger.store.database`) makes the order.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, TypeVar, overload

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import BigInteger, bindparam, delete, insert, literal, tuple_, update
from sqlmodel import Session, SQLModel, col, select
from sqlmodel.sql.expression import SelectOfScalar

from ledger.canonical import canonical, sha256
from ledger.consent.fold import Entry, Standing, fold
from ledger.errors import NotFound, Unavailable
from ledger.ids import CameoId, LeafIndex, PersonId, VideoId
from ledger.keys import new_person_key, seal, unseal
from ledger.log.leaf import Opening, commit, make_leaf
from ledger.log.merkle import Frontier, leaf_hash
from ledger.reasons import Reason
from ledger.store import tables
from ledger.store.records import App, Cameo, Depicted, KeyHolder, Person, Place, Video
from ledger.store.tables import (
    ApiKey,
    Head,
    LogEntry,
    LoginNonce,
    LogNode,
    PersonSession,
    Subject,
    SubjectKey,
)

CONSENT_KINDS = ("enrolment", "grant", "revocation", "decision", "returned", "approval", "erasure")
ENDED = ("completed", "failed")
_PERSONAL = ("consent.", "minors.", "release.", "standing.")
"""Reasons that say something about one person, by the beginning of their ids."""
R = TypeVar("R", App, Person, Cameo, Video, Depicted, KeyHolder, Place)


# What every append runs, built once, on the tables themselves: these rows never change, so they need no unit of
# work around them, and building a statement costs more than running it.
_TABLES = SQLModel.metadata.tables
_NODES, _KEYS = _TABLES["log_node"], _TABLES["subject_key"]
_ADD_ENTRY = insert(_TABLES["log_entry"])
_ADD_SUBJECT = insert(_TABLES["subject"])
_ADD_NODE = insert(_NODES)
_GROW = update(_TABLES["head"]).values(size=bindparam("new_size"))
_SIZE = select(Head.size)
_EDGE: SelectOfScalar[bytes] = (
    select(LogNode.hash)
    .where(tuple_(col(LogNode.level), col(LogNode.position)).in_(bindparam("places", expanding=True)))
    .order_by(col(LogNode.level).desc())
)
_COUNT = (
    update(_KEYS)
    .where(_KEYS.c.subject_id == bindparam("subject"))
    .values(next_n=_KEYS.c.next_n + 1)
    .returning(_KEYS.c.next_n)
)


@dataclass(frozen=True, slots=True)
class About:
    """Whom an entry is about, in what role, and the entry as that reader may see it."""

    subject_id: str
    role: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogKeys:
    """What appending needs: the log's name, the key that signs leaves, the key that wraps people's keys."""

    origin: str
    service: Ed25519PrivateKey
    master: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """One entry as one person may read it, with what proves that it is in the log."""

    index: LeafIndex
    kind: str
    body: Mapping[str, Any]
    opening: Opening
    leaf: bytes
    commitments: tuple[bytes, ...]

    def entry(self) -> Entry:
        return Entry(self.index, self.kind, self.body)


class Transaction:
    """Reads and, on a writing session, appends. One instance lives as long as its database transaction."""

    def __init__(self, session: Session, keys: LogKeys) -> None:
        self.session = session
        self._keys = keys

    def append(self, kind: str, ref: str, about: Sequence[About], *, at: datetime) -> LeafIndex:
        """Add one entry. `(kind, ref)` must be new: look with :meth:`find` first to be idempotent."""
        index = LeafIndex(self.size())
        frontier = self.frontier(index)
        sealed = [self._seal(one, kind, index, at) for one in about]
        commitments = [commit(opening) for opening, _ in sealed]
        leaf = make_leaf(commitments, self._keys.origin, self._keys.service)
        entry = {
            "index": index,
            "kind": kind,
            "ref": ref,
            "at": int(at.timestamp()),
            "leaf": leaf,
            "commitments": b"".join(sorted(commitments)),
        }
        self.session.flush()
        self.session.exec(_ADD_ENTRY, params=entry)
        self.session.exec(_ADD_SUBJECT, params=[row for _, row in sealed])
        self.session.exec(_ADD_NODE, params=[node._asdict() for node in frontier.append(leaf_hash(leaf))])
        self.session.exec(_GROW, params={"new_size": frontier.size})
        return index

    def size(self) -> int:
        """How many entries the log holds."""
        return self.session.exec(_SIZE).one()

    def frontier(self, size: int) -> Frontier:
        """The right edge of the tree when it held `size` entries: what its root, and the next entry, hang on."""
        wanted = [(level, (size >> level) - 1) for level in range(size.bit_length()) if size >> level & 1]
        return Frontier(size, self.session.exec(_EDGE, params={"places": wanted}).all())

    def node(self, level: int, position: int) -> bytes:
        """The hash of a complete subtree, as proofs ask for it."""
        query = select(LogNode.hash).where(LogNode.level == level, LogNode.position == position)
        return self.session.exec(query).one()

    def leaves(self) -> Iterator[tuple[int, bytes]]:
        """Every index and leaf, in log order, without holding them all."""
        query = select(LogEntry.index, LogEntry.leaf).order_by(col(LogEntry.index))
        yield from self.session.exec(query.execution_options(yield_per=1000))

    def nodes(self) -> Iterator[tuple[int, int, bytes]]:
        """Every (level, position, hash), in the order in which entries complete them; without holding them all."""
        width = literal(1, BigInteger).bitwise_lshift(col(LogNode.level))
        query = select(LogNode.level, LogNode.position, LogNode.hash)
        query = query.order_by((col(LogNode.position) + 1) * width, col(LogNode.level))
        yield from self.session.exec(query.execution_options(yield_per=1000))

    def find(self, kind: str, ref: str) -> Place | None:
        query = select(LogEntry).where(LogEntry.kind == kind, LogEntry.ref == ref)
        return _record(Place, self.session.exec(query).first())

    def entries(self, subject_id: str, kinds: Iterable[str] | None = None) -> list[Opened]:
        """Everything recorded about one subject, in log order. Raises NotFound after erasure."""
        key = self.subject_key(subject_id)
        query = (
            select(Subject, LogEntry)
            .join(LogEntry, col(Subject.entry_index) == col(LogEntry.index))
            .where(Subject.subject_id == subject_id)
            .order_by(col(Subject.n))
        )
        if kinds is not None:
            query = query.where(col(Subject.kind).in_(list(kinds)))
        return [self._open(subject, entry, key) for subject, entry in self.session.exec(query)]

    def standing(self, person_id: PersonId) -> Standing:
        """The person's standing consent as of this transaction; of an erased person, that they are erased."""
        if self._erased(person_id):
            return Standing(erased=True)
        return fold(opened.entry() for opened in self.entries(person_id, CONSENT_KINDS))

    def _erased(self, subject_id: str) -> bool:
        row = self.session.get(SubjectKey, subject_id)
        return row is not None and row.wrapped is None

    # -- people and apps --------------------------------------------------------------------------------

    def person(self, person_id: str) -> Person | None:
        return _record(Person, self.session.get(tables.Person, person_id))

    def person_by_device(self, device_key: str) -> Person | None:
        query = select(tables.Person).where(tables.Person.device_key == device_key)
        return _record(Person, self.session.exec(query).first())

    def add_person(self, person: Person) -> None:
        """A new person, with a key of their own."""
        self.new_subject(person.id)
        self.session.add(tables.Person(**asdict(person)))
        self.session.flush()

    def cameo(self, cameo_id: CameoId) -> Cameo | None:
        return _record(Cameo, self.session.get(tables.Cameo, cameo_id))

    def add_cameo(self, cameo: Cameo) -> None:
        self.session.add(tables.Cameo(**asdict(cameo)))

    def owner(self, cameo_id: CameoId) -> PersonId | None:
        cameo = self.session.get(tables.Cameo, cameo_id)
        return PersonId(cameo.person_id) if cameo else None

    def app(self, app_id: str) -> App | None:
        return _record(App, self.session.get(tables.App, app_id))

    def add_app(self, app: App) -> None:
        """A new app, with a key of its own."""
        self.new_subject(app.id)
        self.session.add(tables.App(**asdict(app)))

    def operator_key(self, operator_id: str) -> str | None:
        """The public key an operator signs enrolments with."""
        operator = self.session.get(tables.Operator, operator_id)
        return operator.public_key if operator else None

    def register_operator(self, operator_id: str, public_key: str) -> None:
        """A new operator, or a new key of one we know."""
        self.session.merge(tables.Operator(id=operator_id, public_key=public_key))

    def new_subject(self, subject_id: str) -> bytes:
        """Give a new person or app their key. Returns it unwrapped."""
        key = new_person_key()
        wrapped = seal(self._keys.master, key, context=f"key/{subject_id}")
        self.session.add(SubjectKey(subject_id=subject_id, wrapped=wrapped))
        self.session.flush()
        return key

    def subject_key(self, subject_id: str) -> bytes:
        row = self.session.get(SubjectKey, subject_id)
        if row is None or row.wrapped is None:
            raise NotFound("subject.unknown", f"nothing is held about `{subject_id[:40]}`")
        return unseal(self._keys.master, row.wrapped, context=f"key/{subject_id}")

    # -- jobs -------------------------------------------------------------------------------------------

    def video(self, video_id: str) -> Video | None:
        return _record(Video, self.session.get(tables.Video, video_id))

    def video_by_payload(self, payload: bytes) -> VideoId | None:
        """The released clip whose pixels carry this number."""
        query = select(tables.Video.id).where(tables.Video.payload == payload)
        found = self.session.exec(query).first()
        return VideoId(found) if found else None

    def open_job(self, video: Video, permit: str, uses: Iterable[Depicted]) -> None:
        """A new job, with the sealed permit to make it."""
        self.session.add(tables.Video(**asdict(video), permit=permit))
        self.session.flush()
        self.session.add_all(tables.VideoGrant(video_id=video.id, **asdict(use)) for use in uses)

    def take_job(self, video_id: VideoId) -> tuple[str, str]:
        """(sealed permit, prompt) of a job that is still to be made. Raises NotFound for any other."""
        video = self.session.get(tables.Video, video_id)
        if video is None or video.permit is None or video.status in ENDED:
            raise NotFound(
                "permit.used", "this permit has been used: one permit makes one clip", "ask for a new video"
            )
        video.status = "in_progress"
        self.session.add(video)
        return video.permit, video.prompt

    def report_progress(self, video_id: VideoId, percent: int) -> None:
        video = self.session.get_one(tables.Video, video_id)
        if video.status not in ENDED:
            video.progress = percent
            self.session.add(video)

    def uses(self, video_id: VideoId) -> list[Depicted]:
        """Everyone a video shows."""
        query = select(tables.VideoGrant).where(tables.VideoGrant.video_id == video_id)
        return [_record(Depicted, row) for row in self.session.exec(query)]

    def end_job(self, video_id: VideoId, stage: str, reasons: list[dict[str, str]], *, at: datetime) -> None:
        """End a job without a clip and give each grant its use back. A job that has ended stays as it is."""
        video = self.session.get_one(tables.Video, video_id)
        if video.status in ENDED:
            return
        about = self._about_video(video, {"stage": stage, "reasons": reasons})
        if len(about) > 2:
            # Two people or more: why one of them is not in a clip is not for the others to read.
            shared = [reason for reason in reasons if not reason["id"].startswith(_PERSONAL)]
            about[1:] = [replace(one, body={**one.body, "reasons": shared}) for one in about[1:]]
        self.append("returned", video_id, about, at=at)
        video.status, video.error_code = "failed", reasons[0]["id"]
        video.error_message = "; ".join(f"{reason['reason']} ({reason['remedy']})" for reason in reasons)
        self.session.add(video)

    def delete_video(self, video_id: VideoId, *, at: datetime) -> str | None:
        """Take a video from its app. Returns the key of a clip to delete. A running job ends without one."""
        cancelled = Reason(
            "job.cancelled", "the app deleted this video before it was finished", "ask for a new one"
        )
        self.end_job(video_id, "cancel", [cancelled.as_json()], at=at)
        video = self.session.get_one(tables.Video, video_id)
        key, video.object_key, video.deleted_at = video.object_key, None, int(at.timestamp())
        self.session.add(video)
        return key

    def finish_job(
        self, video_id: VideoId, clip: Mapping[str, Any], object_key: str, *, at: datetime
    ) -> LeafIndex:
        """Publish: the release entry and the only row that makes a clip downloadable, together."""
        video = self.session.get_one(tables.Video, video_id)
        if video.status in ENDED:
            raise NotFound("job.ended", "this job ended before the clip was finished", "ask for a new video")
        index = self.append("release", video_id, self._about_video(video, clip), at=at)
        video.status, video.progress, video.completed_at = "completed", 100, int(at.timestamp())
        video.object_key, video.manifest_id = object_key, clip["manifest_id"]
        video.payload = bytes.fromhex(clip["payload"])
        self.session.add(video)
        return index

    def _about_video(self, video: tables.Video, record: Mapping[str, Any]) -> list[About]:
        """The requester and everyone shown, each told of their own grants only."""
        uses = self.uses(VideoId(video.id))
        record = {**record, "video_id": video.id}
        about = [About(video.app_id, "requester", {**record, "grant_ids": [use.grant_id for use in uses]})]
        return about + [
            About(use.person_id, "depicted", {**record, "grant_ids": [use.grant_id]})
            for use in uses
            if not self._erased(use.person_id)
        ]

    def unfinished_jobs(self) -> list[VideoId]:
        rows = self.session.exec(select(tables.Video.id).where(col(tables.Video.status).not_in(ENDED)))
        return [VideoId(row) for row in rows]

    # -- who is asking ----------------------------------------------------------------------------------

    def revoke_keys(self, hint: str, at: int) -> int:
        """Revoke the live API keys whose last characters are `hint`. Returns how many."""
        rows = list(
            self.session.exec(select(ApiKey).where(ApiKey.hint == hint, col(ApiKey.revoked_at).is_(None)))
        )
        for row in rows:
            row.revoked_at = at
            self.session.add(row)
        return len(rows)

    def add_key(self, key_hash: bytes, holder: KeyHolder, *, hint: str, at: int) -> None:
        row = ApiKey(hash=key_hash, role=holder.role, holder=holder.holder, hint=hint, created_at=at)
        self.session.add(row)

    def key_holder(self, key_hash: bytes) -> KeyHolder | None:
        """Whom a key speaks for; None when it was never given out, or was revoked."""
        row = self.session.get(ApiKey, key_hash)
        return _record(KeyHolder, row) if row is not None and row.revoked_at is None else None

    def add_nonce(self, nonce: str, person_id: str, *, at: int, expires_at: int) -> None:
        """A new challenge; those that expired are forgotten."""
        self.session.exec(delete(LoginNonce).where(col(LoginNonce.expires_at) <= at))
        self.session.add(LoginNonce(nonce=nonce, person_id=person_id, expires_at=expires_at))

    def take_nonce(self, nonce: str, person_id: str, *, at: int) -> bool:
        """Use up a challenge. Whether it was this person's and still good; a second try finds it gone."""
        asked = self.session.get(LoginNonce, nonce)
        if asked is None or asked.person_id != person_id or asked.expires_at <= at:
            return False
        self.session.delete(asked)
        return True

    def open_session(self, token_hash: bytes, person_id: str, *, expires_at: int) -> None:
        self.session.add(PersonSession(hash=token_hash, person_id=person_id, expires_at=expires_at))

    def person_in_session(self, token_hash: bytes, *, at: int) -> PersonId | None:
        row = self.session.get(PersonSession, token_hash)
        return PersonId(row.person_id) if row is not None and row.expires_at > at else None

    def close_session(self, token_hash: bytes) -> None:
        row = self.session.get(PersonSession, token_hash)
        if row is not None:
            self.session.delete(row)

    def videos(self, app_id: str, *, after: str | None, limit: int, newest_first: bool) -> list[Video]:
        """One page of an app's videos, the one after `after`. One row more than `limit` when there is more."""
        row = tables.Video
        query = select(row).where(row.app_id == app_id, col(row.deleted_at).is_(None))
        columns = (col(row.created_at), col(row.id))
        if after is not None:
            last = self.session.get(tables.Video, after)
            if last is None or last.app_id != app_id:
                raise NotFound(
                    "request.after", f"there is no video `{after[:40]}`", "use an id from an earlier page"
                )
            mark = tuple_(literal(last.created_at), literal(last.id))
            query = query.where(tuple_(*columns) < mark if newest_first else tuple_(*columns) > mark)
        query = query.order_by(*(c.desc() if newest_first else c.asc() for c in columns)).limit(limit + 1)
        return [_record(Video, found) for found in self.session.exec(query)]

    # -- sealing ----------------------------------------------------------------------------------------

    def _seal(self, one: About, kind: str, index: LeafIndex, at: datetime) -> tuple[Opening, dict[str, Any]]:
        key = self.subject_key(one.subject_id)
        n = self.session.exec(_COUNT, params={"subject": one.subject_id}).scalar_one() - 1
        body = canonical({"kind": kind, "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), **one.body})
        secret = secrets.token_bytes(32)
        subject = {
            "subject_id": one.subject_id,
            "n": n,
            "entry_index": index,
            "kind": kind,
            "role": one.role,
            "sealed": seal(key, secret + body, context=f"entry/{one.subject_id}/{n}"),
        }
        return Opening(secret=secret, label=one.role, n=n, value=sha256(body)), subject

    def _open(self, subject: Subject, entry: LogEntry, key: bytes) -> Opened:
        plain = unseal(key, subject.sealed, context=f"entry/{subject.subject_id}/{subject.n}")
        body = json.loads(plain[32:])
        if body.get("kind") != entry.kind:
            raise Unavailable("store.mixed", f"entry {entry.index} is not of the kind it was recorded as")
        return Opened(
            index=LeafIndex(entry.index),
            kind=entry.kind,
            body=body,
            opening=Opening(secret=plain[:32], label=subject.role, n=subject.n, value=sha256(plain[32:])),
            leaf=entry.leaf,
            commitments=tuple(entry.commitments[at : at + 32] for at in range(0, len(entry.commitments), 32)),
        )


@overload
def _record(kind: type[R], row: SQLModel) -> R: ...
@overload
def _record(kind: type[R], row: SQLModel | None) -> R | None: ...
def _record(kind: type[R], row: SQLModel | None) -> R | None:
    """The frozen copy of a row."""
    return None if row is None else kind(**{field.name: getattr(row, field.name) for field in fields(kind)})
