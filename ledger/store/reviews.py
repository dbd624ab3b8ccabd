"""What waits for somebody's word: a guardian or an estate for an operator's, a minor's permission for a guardian's.

What is looked at is sealed under the key of the person it is about, so it goes with them when they are erased.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlmodel import col, select

from ledger.canonical import canonical
from ledger.ids import PersonId, VideoId, new_id
from ledger.keys import seal, unseal
from ledger.store import tables
from ledger.store.jobs import RUNNING
from ledger.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Review:
    """`said`: what is to be looked at. `status`: open, accepted or refused."""

    id: str
    kind: str
    person_id: PersonId
    status: str
    created_at: int
    said: Mapping[str, Any]


class Reviews(Journal):
    def add_review(
        self, kind: str, person_id: PersonId, said: Mapping[str, Any], *, at: datetime, status: str = "open"
    ) -> str:
        review_id = new_id("review")
        self.session.add(
            tables.Review(
                id=review_id,
                kind=kind,
                person_id=person_id,
                status=status,
                sealed=seal(self.held(person_id).key, canonical(said), context=f"review/{review_id}"),
                created_at=int(at.timestamp()),
            )
        )
        self.session.flush()
        return review_id

    def review(self, review_id: str) -> Review | None:
        row = self.session.get(tables.Review, review_id)
        return self._review(row) if row is not None else None

    def open_reviews(self, kinds: Collection[str], about: Collection[PersonId] | None = None) -> list[Review]:
        """What waits, oldest first; about anybody, or about these people."""
        row = tables.Review
        query = select(row).where(row.status == "open", col(row.kind).in_(kinds))
        if about is not None:
            query = query.where(col(row.person_id).in_(about))
        found = self.session.exec(query.order_by(col(row.created_at), row.id))
        return [self._review(one) for one in found]

    def reviews(self, kind: str) -> list[Review]:
        """Every one of a kind, whatever became of it; oldest first."""
        row = tables.Review
        query = select(row).where(row.kind == kind).order_by(col(row.created_at), row.id)
        return [self._review(one) for one in self.session.exec(query)]

    def settle_review(self, review: Review, status: str, note: Mapping[str, Any]) -> None:
        """Close a review, and keep why."""
        row = self.session.get_one(tables.Review, review.id)
        row.status = status
        said = canonical({**review.said, **note})
        row.sealed = seal(self.held(review.person_id).key, said, context=f"review/{review.id}")
        self.session.add(row)
        self.session.flush()

    def drop_review(self, review_id: str) -> None:
        self.session.exec(delete(tables.Review).where(col(tables.Review.id) == review_id))

    def _review(self, row: tables.Review) -> Review:
        person_id = PersonId(row.person_id)
        said = json.loads(unseal(self.held(person_id).key, row.sealed, context=f"review/{row.id}"))
        return Review(row.id, row.kind, person_id, row.status, row.created_at, said)

    # -- who answers for whom ---------------------------------------------------------------------------

    def wards(self, guardian: PersonId) -> list[PersonId]:
        """Whom this person is a guardian of: said in their own list, and still so in the other's."""
        named = {
            PersonId(one.body["person_id"])
            for one in self.entries(guardian, ["guardian"])
            if one.opening.label == "guardian"
        }
        return sorted(
            one for one in named if not self.erased(one) and guardian in self.standing(one).guardians
        )

    def in_flight(self, person_id: PersonId, requester: str) -> list[VideoId]:
        """The jobs not ended that show somebody, and that this app, or this person, asked for."""
        video, use = tables.Video, tables.VideoGrant
        shown = select(use.video_id).where(use.person_id == person_id)
        asked = (col(video.app_id) == requester) | (col(video.requested_by) == requester)
        query = select(video.id).where(col(video.id).in_(shown), asked, col(video.status).in_(RUNNING))
        return [VideoId(one) for one in self.session.exec(query)]
