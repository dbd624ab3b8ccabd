"""What an account is beside its keys: how it is named, its sessions, its recovery codes.

Whatever opens something is stored as a hash alone; callers hash it before they come here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlmodel import col, delete, func, select

from ledger.errors import NotFound
from ledger.ids import PersonId
from ledger.store import tables
from ledger.store.journal import Journal
from ledger.store.records import copied
from ledger.store.tables import PersonSession, RecoveryCode


@dataclass(frozen=True, slots=True)
class Session:
    """A browser somebody is signed in with. `key_id`: the key that opened it; `hash`: of what its cookie holds."""

    hash: bytes
    person_id: PersonId
    key_id: str
    agent: str
    created_at: int
    expires_at: int


class Accounts(Journal):
    # -- the account itself -----------------------------------------------------------------------------

    def rename(self, person_id: PersonId, *, display_name: str | None, language: str | None) -> None:
        """Change what a person is called, or the language they read; None leaves it."""
        row = self._person(person_id)
        row.display_name = row.display_name if display_name is None else display_name
        row.language = row.language if language is None else language
        self.session.add(row)
        self.session.flush()

    def set_handle(self, person_id: PersonId, handle: bytes) -> None:
        """What passkeys know this account by, from its first one on."""
        row = self._person(person_id)
        row.handle = row.handle or handle
        self.session.add(row)
        self.session.flush()

    def _person(self, person_id: PersonId) -> tables.Person:
        row = self.session.get(tables.Person, person_id)
        if row is None:
            raise NotFound("person.unknown", f"there is no account `{person_id[:40]}`")
        return row

    def claim_identity(self, digest: bytes, person_id: PersonId) -> bool:
        """Whether whom an issuer knows under this digest has this account here, from now on if they had none."""
        row = self.session.get(tables.Identity, digest)
        if row is None:
            self.session.add(tables.Identity(digest=digest, person_id=person_id))
            self.session.flush()
        return row is None or row.person_id == person_id

    def remove_credential(self, credential_id: str) -> None:
        """Take a key away, and every session it opened."""
        self.session.exec(delete(tables.Credential).where(col(tables.Credential.id) == credential_id))
        self.session.exec(delete(PersonSession).where(col(PersonSession.key_id) == credential_id))

    # -- sessions ---------------------------------------------------------------------------------------

    def open_session(self, session: Session) -> None:
        self.session.add(
            PersonSession(
                hash=session.hash,
                person_id=session.person_id,
                key_id=session.key_id,
                agent=session.agent,
                created_at=session.created_at,
                expires_at=session.expires_at,
            )
        )

    def signed_in(self, token_hash: bytes, *, at: int) -> Session | None:
        """The session a cookie belongs to, if it is not over."""
        row = self.session.get(PersonSession, token_hash)
        return copied(Session, row) if row is not None and row.expires_at > at else None

    def sessions(self, person_id: PersonId, *, at: int) -> list[Session]:
        """Where a person is signed in, newest first."""
        row = PersonSession
        query = select(row).where(row.person_id == person_id, col(row.expires_at) > at)
        return [
            copied(Session, found) for found in self.session.exec(query.order_by(col(row.created_at).desc()))
        ]

    def extend_session(self, token_hash: bytes, *, expires_at: int) -> None:
        row = self.session.get(PersonSession, token_hash)
        if row is not None:
            row.expires_at = expires_at
            self.session.add(row)

    def close_session(self, token_hash: bytes) -> None:
        self.session.exec(delete(PersonSession).where(col(PersonSession.hash) == token_hash))

    def close_sessions(self, person_id: PersonId, *, but: bytes = b"") -> None:
        """Sign a person out everywhere, or everywhere but in one session."""
        row = PersonSession
        self.session.exec(delete(row).where(col(row.person_id) == person_id, col(row.hash) != but))

    def forget_sessions(self, *, at: int) -> None:
        """Delete the sessions of anyone that are over."""
        self.session.exec(delete(PersonSession).where(col(PersonSession.expires_at) <= at))

    # -- recovery codes ---------------------------------------------------------------------------------

    def set_recovery_codes(self, person_id: PersonId, hashes: Iterable[bytes], *, at: int) -> None:
        """Give a person new codes. Those they had are good no longer."""
        self.session.exec(delete(RecoveryCode).where(col(RecoveryCode.person_id) == person_id))
        self.session.add_all(RecoveryCode(hash=one, person_id=person_id, created_at=at) for one in hashes)
        self.session.flush()

    def take_recovery_code(self, code_hash: bytes) -> PersonId | None:
        """Use up a code. Whose it was; a second try finds nobody."""
        row = self.session.get(RecoveryCode, code_hash)
        if row is None:
            return None
        self.session.delete(row)
        self.session.flush()
        return PersonId(row.person_id)

    def recovery_codes_left(self, person_id: PersonId) -> int:
        query = select(func.count()).select_from(RecoveryCode).where(RecoveryCode.person_id == person_id)
        return int(self.session.exec(query).one())
