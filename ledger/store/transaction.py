"""What can be done to the ledger inside one database transaction.

An entry about people is written once per person: each gets the body as *they* may read it, sealed under
their own key, and the public leaf commits to all of them without naming anyone. Order is the head row's lock.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete, literal, tuple_
from sqlmodel import Session, col, select

from ledger.canonical import canonical, sha256
from ledger.consent.fold import Entry, Standing, fold
from ledger.errors import NotFound, Unavailable
from ledger.ids import CameoId, LeafIndex, PersonId, VideoId
from ledger.keys import new_person_key, seal, unseal
from ledger.log.leaf import Opening, commit, make_leaf
from ledger.log.merkle import Frontier, leaf_hash
from ledger.reasons import Reason
from ledger.store.tables import (
    ApiKey,
    Cameo,
    Head,
    LogEntry,
    LoginNonce,
    LogNode,
    Person,
    Subject,
    SubjectKey,
    Video,
    VideoGrant,
)

CONSENT_KINDS = ("enrolment", "grant", "revocation", "decision", "returned", "approval", "erasure")
ENDED = ("completed", "failed")


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
        head = self.session.exec(select(Head).with_for_update()).one()
        frontier = Frontier.read(head.size, self.node)
        index = LeafIndex(head.size)
        sealed = [self._seal(one, kind, index, at) for one in about]
        commitments = [commit(opening) for opening, _ in sealed]
        leaf = make_leaf(commitments, self._keys.origin, self._keys.service)
        self.session.add(
            LogEntry(
                index=index,
                kind=kind,
                ref=ref,
                at=int(at.timestamp()),
                leaf=leaf,
                commitments=b"".join(sorted(commitments)),
            )
        )
        self.session.flush()
        self.session.add_all(row for _, row in sealed)
        for node in frontier.append(leaf_hash(leaf)):
            self.session.add(LogNode(level=node.level, position=node.position, hash=node.hash))
        head.size = frontier.size
        self.session.add(head)
        self.session.flush()
        return index

    def size(self) -> int:
        """How many entries the log holds; 0 before the first."""
        head = self.session.get(Head, 1)
        return head.size if head else 0

    def node(self, level: int, position: int) -> bytes:
        """The hash of a complete subtree, as proofs ask for it."""
        return self.session.get_one(LogNode, (level, position)).hash

    def leaves(self) -> Iterator[bytes]:
        """Every leaf, in log order, without holding them all."""
        query = select(LogEntry.leaf).order_by(col(LogEntry.index))
        yield from self.session.exec(query.execution_options(yield_per=1000))

    def find(self, kind: str, ref: str) -> LogEntry | None:
        return self.session.exec(select(LogEntry).where(LogEntry.kind == kind, LogEntry.ref == ref)).first()

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
        """The person's standing consent as of this transaction."""
        return fold(opened.entry() for opened in self.entries(person_id, CONSENT_KINDS))

    def owner(self, cameo_id: CameoId) -> PersonId | None:
        cameo = self.session.get(Cameo, cameo_id)
        return PersonId(cameo.person_id) if cameo else None

    def person_by_device(self, device_key: str) -> Person | None:
        return self.session.exec(select(Person).where(Person.device_key == device_key)).first()

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

    def open_job(self, video: Video, uses: Iterable[VideoGrant]) -> None:
        self.session.add(video)
        self.session.flush()
        self.session.add_all(uses)

    def take_job(self, video_id: VideoId) -> tuple[str, str]:
        """(sealed permit, prompt) of a job that is still to be made. Raises NotFound for any other."""
        video = self.session.get(Video, video_id)
        if video is None or video.permit is None or video.status in ENDED:
            raise NotFound(
                "permit.used", "this permit has been used: one permit makes one clip", "ask for a new video"
            )
        video.status = "in_progress"
        self.session.add(video)
        return video.permit, video.prompt

    def report_progress(self, video_id: VideoId, percent: int) -> None:
        video = self.session.get_one(Video, video_id)
        if video.status not in ENDED:
            video.progress = percent
            self.session.add(video)

    def uses(self, video_id: VideoId) -> list[VideoGrant]:
        return list(self.session.exec(select(VideoGrant).where(VideoGrant.video_id == video_id)))

    def end_job(self, video_id: VideoId, stage: str, reasons: list[dict[str, str]], *, at: datetime) -> None:
        """End a job without a clip and give each grant its use back. A job that has ended stays as it is."""
        video = self.session.get_one(Video, video_id)
        if video.status in ENDED:
            return
        self.append(
            "returned", video_id, self.about_video(video, {"stage": stage, "reasons": reasons}), at=at
        )
        video.status, video.error_code = "failed", reasons[0]["id"]
        video.error_message = "; ".join(f"{reason['reason']} ({reason['remedy']})" for reason in reasons)
        self.session.add(video)

    def delete_video(self, video_id: VideoId, *, at: datetime) -> str | None:
        """Take a video from its app. Returns the key of a clip to delete. A running job ends without one."""
        cancelled = Reason(
            "job.cancelled", "the app deleted this video before it was finished", "ask for a new one"
        )
        self.end_job(video_id, "cancel", [cancelled.as_json()], at=at)
        video = self.session.get_one(Video, video_id)
        key, video.object_key, video.deleted_at = video.object_key, None, int(at.timestamp())
        self.session.add(video)
        return key

    def finish_job(
        self, video_id: VideoId, clip: Mapping[str, Any], object_key: str, *, at: datetime
    ) -> LeafIndex:
        """Publish: the release entry and the only row that makes a clip downloadable, together."""
        video = self.session.get_one(Video, video_id)
        if video.status in ENDED:
            raise NotFound("job.ended", "this job ended before the clip was finished", "ask for a new video")
        index = self.append("release", video_id, self.about_video(video, clip), at=at)
        video.status, video.progress, video.completed_at = "completed", 100, int(at.timestamp())
        video.object_key, video.manifest_id = object_key, clip["manifest_id"]
        video.payload = bytes.fromhex(clip["payload"])
        self.session.add(video)
        return index

    def about_video(self, video: Video, record: Mapping[str, Any]) -> list[About]:
        """The requester and everyone shown, each told of their own grants only."""
        uses = self.uses(VideoId(video.id))
        record = {**record, "video_id": video.id}
        about = [About(video.app_id, "requester", {**record, "grant_ids": [use.grant_id for use in uses]})]
        return about + [
            About(use.person_id, "depicted", {**record, "grant_ids": [use.grant_id]}) for use in uses
        ]

    def unfinished_jobs(self) -> list[VideoId]:
        rows = self.session.exec(select(Video.id).where(col(Video.status).not_in(ENDED)))
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

    def forget_nonces_before(self, at: int) -> None:
        self.session.exec(delete(LoginNonce).where(col(LoginNonce.expires_at) <= at))

    def videos(self, app_id: str, *, after: str | None, limit: int, newest_first: bool) -> list[Video]:
        """One page of an app's videos, the one after `after`. One row more than `limit` when there is more."""
        query = select(Video).where(Video.app_id == app_id, col(Video.deleted_at).is_(None))
        key = tuple_(col(Video.created_at), col(Video.id))
        if after is not None:
            last = self.session.get(Video, after)
            if last is None or last.app_id != app_id:
                raise NotFound(
                    "request.after", f"there is no video `{after[:40]}`", "use an id from an earlier page"
                )
            mark = tuple_(literal(last.created_at), literal(last.id))
            query = query.where(key < mark if newest_first else key > mark)
        columns = (col(Video.created_at), col(Video.id))
        query = query.order_by(*(c.desc() if newest_first else c.asc() for c in columns)).limit(limit + 1)
        return list(self.session.exec(query))

    # -- sealing ----------------------------------------------------------------------------------------

    def _seal(self, one: About, kind: str, index: LeafIndex, at: datetime) -> tuple[Opening, Subject]:
        key = self.subject_key(one.subject_id)
        row = self.session.get_one(SubjectKey, one.subject_id)
        n, row.next_n = row.next_n, row.next_n + 1
        self.session.add(row)
        body = canonical({"kind": kind, "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), **one.body})
        secret = secrets.token_bytes(32)
        subject = Subject(
            subject_id=one.subject_id,
            n=n,
            entry_index=index,
            kind=kind,
            role=one.role,
            sealed=seal(key, secret + body, context=f"entry/{one.subject_id}/{n}"),
        )
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
