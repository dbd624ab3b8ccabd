"""Rows about people without an account: notices, the clips they are about, faces nobody may generate, letters.

A clip is taken down exactly while a notice about it holds it back or removed it: :meth:`Notices.settle_clips` writes that
down where every download and every verdict looks, in the transaction that changes the notice. Who gave a notice
can be read with the notice's own key only; destroying it (:meth:`Notices.forget_notice`) leaves a row that counts.
"""

from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, insert, or_, select, update
from sqlmodel import SQLModel, col

from ledger.ids import CameoId, NoticeId, VideoId
from ledger.store import tables
from ledger.store.journal import Journal
from ledger.store.records import Mail, Notice, Video, copied

_NOTICES, _LINKS, _FACES, _MAIL, _VIDEOS = (
    SQLModel.metadata.tables[name] for name in ("notice", "notice_video", "do_not_generate", "mail", "video")
)
_IN_FORCE = or_(_NOTICES.c.held.is_(True), _NOTICES.c.outcome == "removed")


class RegisterState(NamedTuple):
    """Differs whenever the register does: every face comes with a higher place in the log, and none comes back."""

    faces: int
    last: int


class Notices(Journal):
    """The part of a transaction that is about people without an account."""

    # -- notices ----------------------------------------------------------------------------------------

    def notice(self, notice_id: str) -> Notice | None:
        row = self._rows().execute(select(_NOTICES).where(_NOTICES.c.id == notice_id)).first()
        return copied(Notice, row)

    def add_notice(self, notice: Notice) -> None:
        self.session.execute(insert(_NOTICES), asdict(notice))

    def change_notice(self, notice: Notice) -> None:
        values = asdict(notice)
        self.session.execute(update(_NOTICES).where(_NOTICES.c.id == values.pop("id")).values(**values))

    def forget_notice(self, notice: Notice) -> None:
        """Destroy the notice's key, its case, its face and its letters. The row stays, and names nobody."""
        self.erase_list(notice.id)
        for table in (_FACES, _MAIL):
            self.session.execute(delete(table).where(table.c.notice_id == notice.id))
        self.change_notice(notice)

    def notices(self, *statuses: str) -> list[Notice]:
        """Every notice in one of these states; what is due first comes first."""
        query = select(_NOTICES).where(_NOTICES.c.status.in_(statuses))
        query = query.order_by(_NOTICES.c.due_at, _NOTICES.c.created_at, _NOTICES.c.id)
        return [copied(Notice, row) for row in self._rows().execute(query)]

    def notices_for_app(self, app_id: str) -> list[Notice]:
        """Confirmed notices about clips that an app asked for, newest first."""
        query = (
            select(_NOTICES)
            .join(_VIDEOS, _VIDEOS.c.id == _NOTICES.c.video_id)
            .where(_VIDEOS.c.app_id == app_id, _NOTICES.c.confirmed_at.is_not(None))
            .order_by(_NOTICES.c.confirmed_at.desc(), _NOTICES.c.id)
        )
        return [copied(Notice, row) for row in self._rows().execute(query)]

    # -- the clips they are about -----------------------------------------------------------------------

    def copies(self, video_id: VideoId) -> list[VideoId]:
        """A clip, and every other whose bytes are the same or whose pixels carry the same number."""
        one = self.session.get_one(tables.Video, video_id)
        same = [_VIDEOS.c.id == video_id]
        if one.object_key is not None:
            same.append(_VIDEOS.c.object_key == one.object_key)
        if one.payload is not None:
            same.append(_VIDEOS.c.payload == one.payload)
        query = select(_VIDEOS.c.id).where(or_(*same)).order_by(_VIDEOS.c.id)
        return [VideoId(found) for found in self._rows().execute(query).scalars()]

    def link(self, notice_id: NoticeId, video_ids: Iterable[VideoId]) -> None:
        """These clips, too, are what the notice is about."""
        new = sorted(set(video_ids) - set(self.linked(notice_id)))
        if new:
            self.session.execute(
                insert(_LINKS), [{"notice_id": notice_id, "video_id": video_id} for video_id in new]
            )

    def linked(self, notice_id: NoticeId) -> list[VideoId]:
        query = select(_LINKS.c.video_id).where(_LINKS.c.notice_id == notice_id).order_by(_LINKS.c.video_id)
        return [VideoId(found) for found in self._rows().execute(query).scalars()]

    def settle_clips(self, notice_id: NoticeId, *, at: datetime) -> list[Video]:
        """Let each of the notice's clips be down exactly if some notice has it down. Returns those that changed."""
        self.session.flush()
        changed = []
        for video_id in self.linked(notice_id):
            query = (
                select(func.count()).select_from(_LINKS).join(_NOTICES, _NOTICES.c.id == _LINKS.c.notice_id)
            )
            held = self.session.execute(query.where(_LINKS.c.video_id == video_id, _IN_FORCE)).scalar_one()
            row = self.session.get_one(tables.Video, video_id)
            if bool(held) != (row.taken_down_at is not None):
                row.taken_down_at = int(at.timestamp()) if held else None
                self.session.add(row)
                self.session.flush()
                changed.append(copied(Video, row))
        return changed

    # -- faces nobody may generate ----------------------------------------------------------------------

    def add_face(self, notice_id: NoticeId, sealed: bytes) -> None:
        """Keep a face that is not in force yet."""
        self.session.execute(insert(_FACES), {"notice_id": notice_id, "sealed": sealed, "since": None})

    def face(self, notice_id: NoticeId) -> bytes | None:
        query = select(_FACES.c.sealed).where(_FACES.c.notice_id == notice_id)
        found: bytes | None = self._rows().execute(query).scalar()
        return found

    def drop_face(self, notice_id: NoticeId) -> None:
        self.session.execute(delete(_FACES).where(_FACES.c.notice_id == notice_id))

    def put_in_force(self, notice_id: NoticeId, since: int | None) -> None:
        """From this place in the log on; None: not any more."""
        self.session.execute(update(_FACES).where(_FACES.c.notice_id == notice_id).values(since=since))

    def register_state(self) -> RegisterState:
        query = select(func.count(), func.coalesce(func.max(_FACES.c.since), 0))
        return RegisterState(*self._rows().execute(query.where(_FACES.c.since.is_not(None))).one())

    def faces_in_force(self) -> list[tuple[NoticeId, bytes]]:
        query = select(_FACES.c.notice_id, _FACES.c.sealed).where(_FACES.c.since.is_not(None))
        rows = self._rows().execute(query.order_by(_FACES.c.since))
        return [(NoticeId(row.notice_id), row.sealed) for row in rows]

    def cameo_ids(self) -> list[CameoId]:
        """Every likeness that is enrolled. Of one that was destroyed a row stays, and no face."""
        query = select(col(tables.Cameo.id)).where(col(tables.Cameo.likeness) != b"")
        found = self._rows().execute(query.order_by(col(tables.Cameo.id))).scalars()
        return [CameoId(one) for one in found]

    def voiced_cameo_ids(self) -> list[CameoId]:
        """Every likeness that has a voice."""
        query = select(col(tables.Cameo.id)).where(col(tables.Cameo.voice).is_not(None))
        found = self._rows().execute(query.order_by(col(tables.Cameo.id))).scalars()
        return [CameoId(one) for one in found]

    # -- letters ----------------------------------------------------------------------------------------

    def add_mail(self, mail: Mail) -> None:
        self.session.execute(insert(_MAIL), asdict(mail))

    def due_mail(self, *, at: int, limit: int) -> list[Mail]:
        """Letters whose time has come, oldest first."""
        columns = [_MAIL.c[field.name] for field in fields(Mail)]
        query = (
            select(*columns).where(_MAIL.c.next_at <= at).order_by(_MAIL.c.next_at, _MAIL.c.id).limit(limit)
        )
        return [Mail(*row) for row in self._rows().execute(query)]

    def claim_mail(self, mail: Mail, *, until: int) -> bool:
        """Take a letter, so that nobody else sends it before `until`. Whether it was still to be taken."""
        mine = (_MAIL.c.id == mail.id) & (_MAIL.c.tries == mail.tries)
        taken = update(_MAIL).where(mine).values(tries=mail.tries + 1, next_at=until).returning(_MAIL.c.id)
        return self.session.execute(taken).first() is not None

    def drop_mail(self, mail_id: str) -> None:
        self.session.execute(delete(_MAIL).where(_MAIL.c.id == mail_id))
