"""Enrolments that people began by themselves, until an operator has looked at them."""

from dataclasses import asdict, dataclass, field, replace

from sqlmodel import col, select

from ledger.ids import PersonId
from ledger.store import tables
from ledger.store.journal import Journal
from ledger.store.records import copied


@dataclass(frozen=True, slots=True)
class Capture:
    """One attempt. `sealed`: what the person was asked to do; the object under `object_key`: the film of them doing it."""

    id: str
    person_id: PersonId
    status: str
    """challenge, pending_review, accepted, refused or expired."""
    sealed: bytes = field(repr=False)
    created_at: int
    expires_at: int
    object_key: str | None = None
    sha256: str = ""
    """Of the film as it was sent, hex."""


class Captures(Journal):
    def add_capture(self, capture: Capture) -> None:
        self.session.add(tables.Capture(**asdict(capture)))
        self.session.flush()

    def capture(self, capture_id: str) -> Capture | None:
        row = self.session.get(tables.Capture, capture_id)
        return copied(Capture, row)

    def newest_capture(self, person_id: str) -> Capture | None:
        """The person's last attempt."""
        row = tables.Capture
        query = select(row).where(row.person_id == person_id)
        found = self.session.exec(query.order_by(col(row.created_at).desc(), col(row.id).desc())).first()
        return copied(Capture, found)

    def waiting_captures(self) -> list[Capture]:
        """Those an operator has to look at, oldest first."""
        row = tables.Capture
        query = select(row).where(row.status == "pending_review").order_by(col(row.created_at), row.id)
        return [copied(Capture, found) for found in self.session.exec(query)]

    def keep_capture(self, capture: Capture, **changes: object) -> Capture:
        """Write an attempt back with these changes. One that was erased meanwhile does not come back."""
        changed = replace(capture, **changes)  # type: ignore[arg-type]
        if self.session.get(tables.Capture, capture.id) is not None:
            self.session.merge(tables.Capture(**asdict(changed)))
            self.session.flush()
        return changed
