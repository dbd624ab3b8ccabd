"""What the pictures of released clips look like, as rows (:mod:`ledger.provenance.fingerprint` says what is in them).

A row comes with a clip's release, or later for a clip that was released before there were any, and stays: after a
withdrawal, a takedown, an erasure, when the clip itself is long destroyed. Without it a copy of what nobody may show
any more would be a clip like any other.
"""

from collections.abc import Iterator

from sqlalchemy import func, insert, select
from sqlmodel import SQLModel

from ledger.ids import VideoId
from ledger.store.journal import Journal

_PRINTS, _VIDEOS = (SQLModel.metadata.tables[name] for name in ("fingerprint", "video"))
_PIECE = 500
_LAST = select(func.coalesce(func.max(_PRINTS.c.seq), 0))


class Fingerprints(Journal):
    """The part of a transaction that is about fingerprints."""

    def put_fingerprint(self, video_id: VideoId, content: bytes) -> None:
        """Keep a clip's fingerprint. One that is kept stays."""
        if self.fingerprint(video_id) is None:
            # INVARIANT: one more than the last, so that whoever has read up to a row has read all before it. Two
            # writers at once want the same number, and one of them fails.
            values = {"seq": _LAST.scalar_subquery() + 1, "video_id": video_id, "content": content}
            self.session.execute(insert(_PRINTS).values(values))

    def fingerprint(self, video_id: str) -> bytes | None:
        found: bytes | None = (
            self._rows().execute(select(_PRINTS.c.content).where(_PRINTS.c.video_id == video_id)).scalar()
        )
        return found

    def fingerprints(self) -> Iterator[tuple[VideoId, bytes]]:
        """Every one, in the order in which they came, without holding them all."""
        seq = 0
        while found := self.fingerprints_after(seq, _PIECE):
            yield from ((video_id, content) for _, video_id, content in found)
            seq = found[-1][0]

    def last_fingerprint(self) -> int:
        return int(self._rows().execute(_LAST).scalar_one())

    def fingerprints_after(self, seq: int, limit: int) -> list[tuple[int, VideoId, bytes]]:
        """The next ones to come, in the order in which they came."""
        query = select(_PRINTS).where(_PRINTS.c.seq > seq).order_by(_PRINTS.c.seq).limit(limit)
        return [(row.seq, VideoId(row.video_id), row.content) for row in self._rows().execute(query)]

    def without_fingerprint(self, limit: int) -> list[tuple[VideoId, str]]:
        """Released clips that have none, and where their files lie; oldest first."""
        query = (
            select(_VIDEOS.c.id, _VIDEOS.c.object_key)
            .where(
                _VIDEOS.c.object_key.is_not(None),
                ~select(_PRINTS.c.seq).where(_PRINTS.c.video_id == _VIDEOS.c.id).exists(),
            )
            .order_by(_VIDEOS.c.created_at, _VIDEOS.c.id)
            .limit(limit)
        )
        return [(VideoId(row.id), row.object_key) for row in self._rows().execute(query)]
