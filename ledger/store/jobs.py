"""A clip's life in rows: its job, whom it shows, what it was made from, the draft that waits, and how it ends.

Every change of a job's state is in the transaction of the entry that says so. A job that has ended stays as it is:
what comes later finds `ENDED` and changes nothing. The app is told of it in the same transaction. A draft's row outlives its job for as long as its file does, so
that whoever sweeps up knows what to destroy.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, bindparam, delete, func, literal, literal_column, tuple_, update
from sqlmodel import SQLModel, col, select

from ledger.errors import NotFound
from ledger.ids import GrantId, LeafIndex, PersonId, VideoId
from ledger.reasons import Reason
from ledger.store import tables
from ledger.store.journal import About
from ledger.store.outbox import Outbox
from ledger.store.records import Depicted, HeldClip, Video, copied

ENDED = ("completed", "failed")
RUNNING = ("queued", "in_progress")
"""Every status that is not `ENDED`."""
_PERSONAL = ("consent.", "minors.", "release.", "standing.", "approval.")
"""Reasons that say something about one person, by the beginning of their ids."""
_VIDEOS, _DRAFTS = SQLModel.metadata.tables["video"], SQLModel.metadata.tables["draft"]
_SPELT: list[ColumnElement[str]] = [literal_column(f"'{status}'") for status in RUNNING]
"""In the statement itself: as parameters they would be expanded anew each time it runs."""
_RUNNING = (
    select(func.count())
    .select_from(_VIDEOS)
    .where(
        _VIDEOS.c.app_id == bindparam("app"),
        _VIDEOS.c.status.in_(_SPELT),
        # What waits for somebody's word keeps no machine busy.
        ~select(_DRAFTS.c.video_id).where(_DRAFTS.c.video_id == _VIDEOS.c.id).exists(),
    )
)
_CHUNK = 500
"""Values in one `IN`: below every database's limit."""
_REVOKED = Reason(
    "consent.revoked",
    "the person has taken this grant back while the clip was being made",
    "leave this likeness out",
)
_WITHDRAWN_ABOVE = Reason(
    "consent.revoked",
    "the clip that this one is made from has been withdrawn by somebody it shows",
    "start from another clip",
)
_ERASED = Reason(
    "consent.erased", "a person in this clip has had their likeness erased", "leave this likeness out"
)
V = TypeVar("V")


class Jobs(Outbox):
    """The rows of clips and drafts, and the entries that change them."""

    def video(self, video_id: str) -> Video | None:
        return copied(Video, self.session.get(tables.Video, video_id))

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
        made = video is None or video.status in ENDED or self.held_clip(video_id) is not None
        if video is None or video.permit is None or made:
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

    def has_ended(self, video_id: VideoId) -> bool:
        """Whether nothing more is to be made of this job; of an unknown one, too."""
        query = select(tables.Video.status).where(tables.Video.id == video_id)
        return self.session.exec(query).first() not in RUNNING

    def uses(self, video_id: VideoId) -> list[Depicted]:
        """Everyone a video shows."""
        query = select(tables.VideoGrant).where(tables.VideoGrant.video_id == video_id)
        return [copied(Depicted, row) for row in self.session.exec(query)]

    def end_job(self, video_id: VideoId, stage: str, reasons: list[dict[str, str]], *, at: datetime) -> None:
        """End a job without a clip and give each grant its use back. A job that has ended stays as it is."""
        video = self.session.get_one(tables.Video, video_id)
        if video.status in ENDED:
            return
        about = self._about_video(video, {"stage": stage, "reasons": reasons})
        if len(self.uses(video_id)) > 1:
            # Two people or more: why one of them is not in a clip is not for the others to read.
            shared = [reason for reason in reasons if not reason["id"].startswith(_PERSONAL)]
            about[1:] = [replace(one, body={**one.body, "reasons": shared}) for one in about[1:]]
        # A job that was reopened on appeal may end once more.
        again = "/again" if self.find("returned", video_id) is not None else ""
        self.append("returned", f"{video_id}{again}", about, at=at)
        video.status, video.error_code = "failed", reasons[0]["id"]
        video.error_message = "; ".join(f"{reason['reason']} ({reason['remedy']})" for reason in reasons)
        self.session.add(video)
        told = {"video_id": video_id, "reasons": [reason["id"] for reason in reasons]}
        self.event(video.app_id, "video.failed", told, at=at)

    def delete_video(self, video_id: VideoId, *, at: datetime) -> str | None:
        """Take a video from its app. Returns the key of a clip to delete. A running job ends without one."""
        cancelled = Reason(
            "job.cancelled", "the app deleted this video before it was finished", "ask for a new one"
        )
        self.end_job(video_id, "cancel", [cancelled.as_json()], at=at)
        self.forgo_appeals([video_id])
        video = self.session.get_one(tables.Video, video_id)
        key, video.object_key, video.deleted_at = video.object_key, None, int(at.timestamp())
        self.session.add(video)
        return key

    def finish_job(
        self, video_id: VideoId, clip: Mapping[str, Any], object_key: str, *, at: datetime
    ) -> LeafIndex:
        """Publish: the release entry and the only row that makes a clip downloadable, together.

        A draft of it waits no longer: its file is the clip's from now on.
        """
        video = self.unended(video_id)
        if video.parent_id is not None:
            clip = {**clip, "parent_id": video.parent_id}
        index = self.append("release", video_id, self._about_video(video, clip), at=at)
        self.drop_draft(video_id)
        video.status, video.progress, video.completed_at = "completed", 100, int(at.timestamp())
        video.object_key, video.manifest_id = object_key, clip["manifest_id"]
        video.payload = bytes.fromhex(clip["payload"])
        self.session.add(video)
        self.event(video.app_id, "video.completed", {"video_id": video_id}, at=at)
        return index

    def unended(self, video_id: VideoId) -> tables.Video:
        video = self.session.get_one(tables.Video, video_id)
        if video.status in ENDED:
            raise NotFound("job.ended", "this job ended before the clip was finished", "ask for a new video")
        return video

    def about_video(self, video_id: VideoId, record: Mapping[str, Any]) -> list[About]:
        """The requester and everyone a clip shows, each told of their own grants only."""
        return self._about_video(self.session.get_one(tables.Video, video_id), record)

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

    def running_jobs(self, app_id: str) -> int:
        """How many of an app's jobs have not ended."""
        return int(self._rows().execute(_RUNNING, {"app": app_id}).scalar_one())

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
        return [copied(Video, found) for found in self.session.exec(query)]

    def count_download(self, video_id: VideoId) -> None:
        """One more download from the first byte on."""
        row = tables.Video
        counted = update(row).where(col(row.id) == video_id).values(downloads=col(row.downloads) + 1)
        self.session.execute(counted)

    # -- drafts -----------------------------------------------------------------------------------------

    def hold_job(self, clip: HeldClip, sha256: str, *, at: datetime) -> LeafIndex:
        """Keep a finished clip until those it shows have spoken. Raises NotFound for a job that has ended."""
        video = self.unended(clip.video_id)
        until = datetime.fromtimestamp(clip.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        about = self._about_video(video, {"sha256": sha256, "until": until})
        before = self.find("draft", clip.video_id)
        # Held twice where reviewers had to look at it once more in between: that is one draft.
        index = before.index if before is not None else self.append("draft", clip.video_id, about, at=at)
        self.keep_clip(clip)
        told = {"video_id": clip.video_id, "until": until}
        self.event(video.app_id, "video.awaiting_approval", told, at=at)
        return index

    def keep_clip(self, clip: HeldClip) -> None:
        """Keep a finished clip, or say what one that is kept waits for now. Its job is in the queue again, if it goes on."""
        video = self.session.get_one(tables.Video, clip.video_id)
        if video.status not in ENDED:
            # To the app it is in the queue: the protocol has no word for waiting.
            video.status = "queued"
            self.session.add(video)
        self.session.merge(tables.Draft(**asdict(clip)))
        self.session.flush()

    def reopen_job(self, video_id: VideoId) -> None:
        """A job that ended without a clip goes on: what it made was kept, and it was decided anew."""
        video = self.session.get_one(tables.Video, video_id)
        if video.status != "failed" or self.held_clip(video_id) is None:
            raise NotFound("job.ended", "nothing is kept of this job", "ask for a new video")
        video.status = "queued"
        video.error_code = video.error_message = None
        self.session.add(video)
        self.session.flush()

    def held_clip(self, video_id: VideoId) -> HeldClip | None:
        return copied(HeldClip, self.session.get(tables.Draft, video_id))

    def held_clips(self) -> list[HeldClip]:
        """Every draft there is a row of, oldest first."""
        row = tables.Draft
        query = select(row).order_by(col(row.asked_at), row.video_id)
        return [copied(HeldClip, found) for found in self.session.exec(query)]

    def held_clips_over(self, *, at: datetime) -> list[HeldClip]:
        """The drafts that wait for nothing any more: of jobs that have ended, and those whose time is up."""
        row, video = tables.Draft, tables.Video
        query = select(row).join(video, col(video.id) == col(row.video_id))
        ended = col(video.status).in_(ENDED) & (col(row.waits_for) != "appeal")
        over = ended | (col(row.expires_at) <= int(at.timestamp()))
        return [copied(HeldClip, found) for found in self.session.exec(query.where(over))]

    def clips_for_review(self, *, at: datetime) -> list[HeldClip]:
        """What waits for reviewers, or was refused by one and may be appealed; the next to lapse first."""
        row, video = tables.Draft, tables.Video
        query = select(row).join(video, col(video.id) == col(row.video_id))
        waits = (col(row.waits_for) == "review") & col(video.status).in_(RUNNING)
        waits = (waits | (col(row.waits_for) == "appeal")) & (col(row.expires_at) > int(at.timestamp()))
        found = self.session.exec(query.where(waits).order_by(col(row.expires_at), row.video_id))
        return [copied(HeldClip, one) for one in found]

    def held_clips_of(self, person_id: PersonId) -> list[tuple[HeldClip, Video, Depicted]]:
        """The drafts that show somebody and wait for their word, oldest first."""
        row, video, use = tables.Draft, tables.Video, tables.VideoGrant
        query = (
            select(row, video, use)
            .join(video, col(video.id) == col(row.video_id))
            .join(use, col(use.video_id) == col(row.video_id))
            .where(use.person_id == person_id, col(video.status).in_(RUNNING), row.waits_for == "approval")
            .order_by(col(row.asked_at), row.video_id)
        )
        return [
            (copied(HeldClip, held), copied(Video, clip), copied(Depicted, shown))
            for held, clip, shown in self.session.exec(query)
        ]

    def drop_draft(self, video_id: VideoId) -> None:
        """Forget a draft whose file is gone, or has become the clip's."""
        self.session.execute(delete(tables.Draft).where(col(tables.Draft.video_id) == video_id))

    def forgo_appeals(self, videos: Iterable[VideoId]) -> None:
        """Nobody can appeal any more against what reviewers said of these clips: they are destroyed at the next look."""
        row = tables.Draft
        for part in _parts(list(videos)):
            kept = update(row).where(col(row.video_id).in_(part), col(row.waits_for) == "appeal")
            self.session.execute(kept.values(waits_for="approval"))

    # -- what was made from what ------------------------------------------------------------------------

    def lineage(self, video: Video) -> list[Video]:
        """The clip, the one it was made from, and so on to the first.

        Where a row is missing the last one still names its parent: whoever asks denies.
        """
        line, seen = [video], {video.id}
        while (above := line[-1].parent_id) is not None and above not in seen:
            found = self.video(above)
            if found is None:
                break
            seen.add(above)
            line.append(found)
        return line

    def descendants(self, videos: Iterable[VideoId]) -> list[Video]:
        """Everything made from these clips, and from what was made of them, at any depth; not the clips themselves."""
        row, found = tables.Video, list[Video]()
        seen = set(videos)
        newest: Collection[VideoId] = seen
        while newest:
            # Nothing is made from itself; what was seen is not walked again, should rows say so all the same.
            below = [
                copied(Video, one)
                for part in _parts(sorted(newest))
                for one in self.session.exec(
                    select(row).where(col(row.parent_id).in_(part)).order_by(col(row.created_at), row.id)
                )
                if one.id not in seen
            ]
            found += below
            newest = [one.id for one in below]
            seen.update(newest)
        return found

    def made_under(self, grants: Iterable[GrantId]) -> list[Video]:
        """Every job that uses one of these grants, oldest first."""
        row, use = tables.Video, tables.VideoGrant
        named = select(use.video_id).where(col(use.grant_id).in_(list(grants)))
        query = select(row).where(col(row.id).in_(named)).order_by(col(row.created_at), row.id)
        return [copied(Video, found) for found in self.session.exec(query)]

    def take_back(self, grants: Iterable[GrantId], *, withdraw: bool, at: datetime) -> None:
        """What the end of these grants does to clips: none that is being made under them is finished.

        `withdraw`: nor is any that is made from one made under them. What is out stays in its rows: whoever asks for
        it is told by the fold, and by walking the lineage, that it was withdrawn; and its app is told now.
        """
        under = self.made_under(grants)
        self._end_all(under, _REVOKED, at)
        self.forgo_appeals([video.id for video in under])
        if withdraw:
            below = self.descendants([video.id for video in under])
            self._end_all(below, _WITHDRAWN_ABOVE, at)
            self._tell_withdrawn([*under, *below], at)

    def end_jobs_of(self, person_id: PersonId, *, at: datetime) -> list[str]:
        """End every job that shows somebody who is about to be erased. Returns the objects of their drafts."""
        row, use = tables.Video, tables.VideoGrant
        shown = select(use.video_id).where(use.person_id == person_id)
        query = select(row).where(col(row.id).in_(shown)).order_by(col(row.created_at), row.id)
        videos = [copied(Video, found) for found in self.session.exec(query)]
        self._end_all(videos, _ERASED, at)
        self.forgo_appeals([video.id for video in videos])
        self._tell_withdrawn(videos, at)
        drafts = select(tables.Draft.object_key).where(col(tables.Draft.video_id).in_(shown))
        return list(self.session.exec(drafts))

    def _tell_withdrawn(self, videos: Iterable[Video], at: datetime) -> None:
        for video in videos:
            if video.status == "completed" and video.deleted_at is None:
                self.event(video.app_id, "video.withdrawn", {"video_id": video.id}, at=at)

    def _end_all(self, videos: Iterable[Video], reason: Reason, at: datetime) -> None:
        for video in videos:
            if video.status not in ENDED:
                self.end_job(video.id, "revoked", [reason.as_json()], at=at)


def _parts(values: Sequence[V]) -> Iterator[Sequence[V]]:
    for at in range(0, len(values), _CHUNK):
        yield values[at : at + _CHUNK]
