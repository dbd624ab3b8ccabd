"""What can be done to the ledger inside one database transaction: the journal, and the rows beside it.

The database's one write lock (:mod:`ledger.store.database`) makes the order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any, TypeVar, overload

from sqlalchemy import delete, literal, tuple_
from sqlmodel import SQLModel, col, select

from ledger.errors import NotFound
from ledger.ids import CameoId, LeafIndex, PersonId, VideoId
from ledger.reasons import Reason
from ledger.store import tables
from ledger.store.journal import About, Journal
from ledger.store.records import App, Cameo, Depicted, KeyHolder, Person, Video
from ledger.store.tables import ApiKey, LoginNonce, PersonSession

ENDED = ("completed", "failed")
_PERSONAL = ("consent.", "minors.", "release.", "standing.")
"""Reasons that say something about one person, by the beginning of their ids."""
R = TypeVar("R", App, Person, Cameo, Video, Depicted, KeyHolder)


class Transaction(Journal):
    """Everything a caller may read, and on a writing session change."""

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

    def erase_person(self, person_id: PersonId) -> list[str]:
        """Destroy everything that is about this person, but the leaves. Returns the objects of clips that show them.

        What remains names nobody: leaves, tags, and rows that say a video showed someone under this random id.
        """
        shown = select(tables.VideoGrant.video_id).where(tables.VideoGrant.person_id == person_id)
        clips = list(self.session.exec(select(tables.Video).where(col(tables.Video.id).in_(shown))))
        keys = [clip.object_key for clip in clips if clip.object_key is not None]
        for clip in clips:
            clip.object_key = None
            self.session.add(clip)
        self.erase_list(person_id)
        self.session.flush()
        for table in (tables.Cameo, PersonSession, LoginNonce):
            self.session.exec(delete(table).where(col(table.person_id) == person_id))
        self.session.exec(delete(tables.Person).where(col(tables.Person.id) == person_id))
        return keys

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
            About(
                use.person_id, "depicted", {**record, "cameo_id": use.cameo_id, "grant_ids": [use.grant_id]}
            )
            for use in uses
            if not self.erased(use.person_id)
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


@overload
def _record(kind: type[R], row: SQLModel) -> R: ...
@overload
def _record(kind: type[R], row: SQLModel | None) -> R | None: ...
def _record(kind: type[R], row: SQLModel | None) -> R | None:
    """The frozen copy of a row."""
    return None if row is None else kind(**{field.name: getattr(row, field.name) for field in fields(kind)})
