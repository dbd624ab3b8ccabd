"""Random tokens that were handed out for one purpose. Only their SHA-256 is kept."""

from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy import delete
from sqlmodel import col, select

from ledger.ids import PersonId
from ledger.store import tables
from ledger.store.journal import Journal
from ledger.store.records import copied


@dataclass(frozen=True, slots=True)
class Token:
    """`holder`: whom it was given to, where that is known."""

    hash: bytes = field(repr=False)
    purpose: str
    person_id: PersonId
    created_at: int
    expires_at: int
    holder: str = ""


class Tokens(Journal):
    def add_token(self, token: Token) -> None:
        """A new token; those that are over are forgotten."""
        row = tables.Token
        self.session.exec(delete(row).where(col(row.expires_at) <= token.created_at))
        self.session.add(tables.Token(**asdict(token)))
        self.session.flush()

    def token(self, token_hash: bytes, purpose: str, *, at: datetime) -> Token | None:
        """A token that was handed out for this purpose and is not over; None for any other."""
        row = self.session.get(tables.Token, token_hash)
        if row is None or row.purpose != purpose or row.expires_at <= at.timestamp():
            return None
        return copied(Token, row)

    def tokens(self, person_id: PersonId, purpose: str, *, at: datetime) -> list[Token]:
        """A person's tokens of one purpose that are not over, oldest first."""
        row = tables.Token
        query = select(row).where(
            row.person_id == person_id, row.purpose == purpose, col(row.expires_at) > int(at.timestamp())
        )
        return [
            copied(Token, found)
            for found in self.session.exec(query.order_by(col(row.created_at), col(row.hash)))
        ]

    def drop_token(self, token_hash: bytes) -> None:
        row = self.session.get(tables.Token, token_hash)
        if row is not None:
            self.session.delete(row)

    def drop_tokens(self, person_id: PersonId) -> None:
        """Everything that was handed out for a person is good no longer."""
        self.session.exec(delete(tables.Token).where(col(tables.Token.person_id) == person_id))
