"""What can be done to the ledger inside one database transaction: the journal, jobs, outbox, the other rows beside them.

The database's one write lock (:mod:`ledger.store.database`) makes the order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from sqlalchemy import bindparam, delete, func, insert, update
from sqlmodel import SQLModel, col, select

from ledger.canonical import canonical, parse
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import CameoId, PersonId
from ledger.store import tables
from ledger.store.accounts import Accounts
from ledger.store.captures import Captures
from ledger.store.fingerprints import Fingerprints
from ledger.store.hash_lists import HashLists
from ledger.store.jobs import Jobs
from ledger.store.journal import Opened
from ledger.store.manifests import Manifests
from ledger.store.notices import Notices
from ledger.store.outbox import Outbox
from ledger.store.records import App, Cameo, Credential, KeyHolder, Person, copied
from ledger.store.reviews import Reviews
from ledger.store.tables import ApiKey, LoginNonce, PersonSession
from ledger.store.tokens import Tokens

# What every decision runs, built once, as in the journal.
_SETS, _TALLIES, _SHADOWS, _CAMEOS, _APPS = (
    SQLModel.metadata.tables[name] for name in ("policy_set", "tally", "shadow_count", "cameo", "app")
)
_CHANGES = SQLModel.metadata.tables["cameo_change"]
_LAST_CHANGE = select(func.max(_CHANGES.c.seq))
_OWNER = select(_CAMEOS.c.person_id).where(_CAMEOS.c.id == bindparam("cameo"))
_APP = select(*_APPS.c).where(_APPS.c.id == bindparam("app"))
_KEYS_AT_ONCE = 500
_NAMED = _TALLIES.c.name == bindparam("named")
_TALLY = select(_TALLIES.c.count).where(_NAMED, _TALLIES.c.expires_at > bindparam("now"))
_COUNT = (
    update(_TALLIES)
    .where(_NAMED, _TALLIES.c.expires_at > bindparam("now"))
    .values(count=_TALLIES.c.count + 1)
    .returning(_TALLIES.c.count)
)
_COUNT_FIRST = insert(_TALLIES)
_OVER = select(_TALLIES.c.name).where(_TALLIES.c.expires_at <= bindparam("now")).limit(2)
# Two others for each that begins: so what is over never piles up, and no decision pays for many.
_FORGET = delete(_TALLIES).where(_NAMED | _TALLIES.c.name.in_(_OVER))
_SHADOW = select(_SETS.c.sha256).where(_SETS.c.shadow.is_(True))
_COUNT_SHADOW = (
    update(_SHADOWS)
    .where(*(_SHADOWS.c[name] == bindparam(f"{name}_") for name in ("sha256", "outcome", "policy_id")))
    .values(count=_SHADOWS.c.count + 1)
    .returning(_SHADOWS.c.count)
)


class Transaction(
    Accounts, Captures, Fingerprints, HashLists, Jobs, Manifests, Notices, Outbox, Reviews, Tokens
):
    """Everything a caller may read, and on a writing session change."""

    # -- people and apps --------------------------------------------------------------------------------

    def person(self, person_id: str) -> Person | None:
        return copied(Person, self.session.get(tables.Person, person_id))

    def add_person(self, person: Person, first: Credential) -> None:
        """A new person, with a key of their own to be sealed under, and the first they sign with."""
        self.new_subject(person.id)
        self.session.add(tables.Person(**asdict(person)))
        self.session.flush()
        self.add_credential(first)

    def credential(self, credential_id: str) -> Credential | None:
        """The key with this id, and whose it is."""
        return copied(Credential, self.session.get(tables.Credential, credential_id))

    def credentials(self, person_id: str) -> list[Credential]:
        """Every key that signs for this person, oldest first."""
        row = tables.Credential
        query = select(row).where(row.person_id == person_id).order_by(col(row.created_at), row.id)
        return [copied(Credential, found) for found in self.session.exec(query)]

    def add_credential(self, credential: Credential) -> None:
        self.session.add(tables.Credential(**asdict(credential)))
        self.session.flush()

    def credential_used(self, credential_id: str, sign_count: int, *, at: datetime) -> None:
        row = self.session.get_one(tables.Credential, credential_id)
        row.sign_count, row.used_at = sign_count, int(at.timestamp())
        self.session.add(row)

    def people_of(self, person_id: PersonId) -> dict[PersonId, Literal["guardian", "executor"]]:
        """For whom this person may act, and as what: said in their own list, and still so in the other's.

        The copy of a `guardian` or `estate` entry that a guardian or executor keeps names the other as `person_id`.
        """
        if self.erased(person_id):
            return {}
        found: dict[PersonId, Literal["guardian", "executor"]] = {}
        for one in self.entries(person_id, ("guardian", "estate")):
            if one.opening.label != "owner" and (other := PersonId(one.body["person_id"])) not in found:
                standing = self.standing(other)
                if person_id in standing.guardians:
                    found[other] = "guardian"
                elif standing.executor == person_id:
                    found[other] = "executor"
        return found

    def cameo(self, cameo_id: CameoId) -> Cameo | None:
        return copied(Cameo, self.session.get(tables.Cameo, cameo_id))

    def add_cameo(self, cameo: Cameo) -> None:
        self.session.add(tables.Cameo(**asdict(cameo)))
        self.cameo_changed(cameo.id)

    def cameo_changed(self, cameo_id: str) -> None:
        """A likeness came or went. In the transaction that says so: who reads one reads the other."""
        # INVARIANT: one more than the last, so that whoever has read up to a change has read all before it. Two
        # writers at once want the same number, and one of them fails.
        following = select(func.coalesce(func.max(_CHANGES.c.seq), 0) + 1).scalar_subquery()
        self.session.execute(insert(_CHANGES).values(seq=following, cameo_id=cameo_id))

    def last_cameo_change(self) -> int:
        found: int | None = self._rows().execute(_LAST_CHANGE).scalar()
        return found or 0

    def cameos_changed(self, after: int) -> list[CameoId]:
        """Likenesses that came or went since a change, each once."""
        query = select(_CHANGES.c.cameo_id).where(_CHANGES.c.seq > after).distinct()
        return [CameoId(found) for found in self._rows().execute(query).scalars()]

    def name_cameo(self, person_id: PersonId, name_key: str | None) -> None:
        """What somebody's name is looked up by from now on, if they are enrolled."""
        self.session.execute(
            update(_CAMEOS)
            .where(_CAMEOS.c.person_id == person_id, _CAMEOS.c.likeness != b"")
            .values(name_key=name_key)
        )

    def called(self, name_keys: Iterable[str]) -> set[PersonId]:
        """Those enrolled whose name is looked up by one of these."""
        keys, found = sorted(name_keys), set[PersonId]()
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            part = _CAMEOS.c.name_key.in_(keys[at : at + _KEYS_AT_ONCE])
            found |= {
                PersonId(one)
                for one in self._rows().execute(select(_CAMEOS.c.person_id).where(part)).scalars()
            }
        return found

    def owner(self, cameo_id: CameoId) -> PersonId | None:
        found = self._rows().execute(_OWNER, {"cameo": cameo_id}).scalar()
        return PersonId(found) if found is not None else None

    def app(self, app_id: str) -> App | None:
        row = self._rows().execute(_APP, {"app": app_id}).first()
        if row is None:
            return None
        return App(row.id, row.name, row.created_at, row.suspended, row.public_key)

    def add_app(self, app: App) -> None:
        """A new app, with a key of its own."""
        self.new_subject(app.id)
        self.session.add(tables.App(**asdict(app)))

    def apps(self) -> list[App]:
        """Every app, oldest first."""
        query = select(tables.App).order_by(col(tables.App.created_at), col(tables.App.id))
        return [copied(App, row) for row in self.session.exec(query)]

    def set_suspended(self, app_id: str, suspended: bool) -> None:
        app = self.session.get(tables.App, app_id)
        if app is None:
            raise NotFound("app.unknown", f"there is no app `{app_id[:40]}`")
        app.suspended = suspended
        self.session.add(app)
        self.session.flush()

    def decisions_since(self, app_id: str, index: int) -> list[Opened]:
        """An app's decisions from log index `index` on."""
        return self.entries_since(app_id, index, ["decision"])

    def operator_key(self, operator_id: str) -> str | None:
        """The public key an operator signs enrolments with."""
        operator = self.session.get(tables.Operator, operator_id)
        return operator.public_key if operator else None

    def operator_by_key(self, public_key: str) -> str | None:
        """Whose key this is."""
        query = select(tables.Operator.id).where(tables.Operator.public_key == public_key)
        return self.session.exec(query).first()

    def register_operator(self, operator_id: str, public_key: str) -> None:
        """A new operator, or a new key of one we know."""
        self.session.merge(tables.Operator(id=operator_id, public_key=public_key))

    def erase_person(self, person_id: PersonId) -> list[str]:
        """Destroy everything that is about this person, but the leaves. Returns the objects of clips and films of them.

        What remains names nobody: leaves, tags, and rows that say a video showed someone under this random id.
        """
        shown = select(tables.VideoGrant.video_id).where(tables.VideoGrant.person_id == person_id)
        clips = list(self.session.exec(select(tables.Video).where(col(tables.Video.id).in_(shown))))
        keys = [clip.object_key for clip in clips if clip.object_key is not None]
        films = select(tables.Capture.object_key).where(tables.Capture.person_id == person_id)
        keys += [key for key in self.session.exec(films) if key is not None]
        for clip in clips:
            clip.object_key = None
            self.session.add(clip)
        cameos = select(tables.Cameo.id).where(tables.Cameo.person_id == person_id)
        for cameo_id in self.session.exec(cameos).all():
            self.cameo_changed(cameo_id)
        self.erase_list(person_id)
        self.session.flush()
        for table in (
            tables.Cameo,
            tables.Credential,
            tables.RecoveryCode,
            tables.Identity,
            tables.Token,
            tables.Capture,
            tables.Review,
            PersonSession,
            LoginNonce,
        ):
            self.session.exec(delete(table).where(col(table.person_id) == person_id))
        self.session.exec(delete(tables.Person).where(col(tables.Person.id) == person_id))
        return keys

    # -- policy sets ------------------------------------------------------------------------------------

    def keep_policy_set(self, sha256: str, files: Mapping[str, bytes], *, at: datetime) -> None:
        """Keep a set under its hash. One that is kept stays as it is, or becomes what it was if it was damaged."""
        try:
            kept = canonical({name: text.decode() for name, text in files.items()})
        except UnicodeDecodeError as error:
            raise InvalidStatement("policies.encoding", "a policy file is not UTF-8 text") from error
        row = self.session.get(tables.PolicySet, sha256)
        if row is None:
            row = tables.PolicySet(sha256=sha256, files=kept, added_at=int(at.timestamp()))
        row.files = kept
        self.session.add(row)
        self.session.flush()

    def policy_set(self, sha256: str) -> dict[str, bytes] | None:
        """The files kept under a hash, which the caller must find that they have; None where there are none."""
        row = self.session.get(tables.PolicySet, sha256)
        if row is None:
            return None
        try:
            return {name: text.encode() for name, text in parse(row.files).items()}
        except (InvalidStatement, AttributeError):
            # What is damaged is as good as lost: whoever asks denies.
            return None

    def policy_sets(self) -> list[str]:
        """The hash of every set that is kept, newest first."""
        row = tables.PolicySet
        return list(self.session.exec(select(row.sha256).order_by(col(row.added_at).desc(), row.sha256)))

    def shadow(self) -> str | None:
        """The candidate that is evaluated beside the active set."""
        sha256: str | None = self.session.execute(_SHADOW).scalar()
        return sha256

    def set_shadow(self, sha256: str | None) -> None:
        """Evaluate a kept set beside the active one, and count its answers anew; None for no set any more."""
        if sha256 == self.shadow():
            return
        self.session.execute(update(_SETS).where(_SETS.c.shadow.is_not(None)).values(shadow=None))
        if sha256 is None:
            return
        self.session.execute(delete(_SHADOWS).where(_SHADOWS.c.sha256 == sha256))
        chosen = update(_SETS).where(_SETS.c.sha256 == sha256).values(shadow=True)
        if self.session.execute(chosen.returning(_SETS.c.sha256)).first() is None:
            raise NotFound("policies.unknown", f"no policy set `{sha256[:64]}` is kept here")

    def count_shadow(self, sha256: str, outcome: str, policy_ids: Iterable[str]) -> None:
        """One answer of the candidate more: counted by itself, and for each of the policies that made it."""
        for policy_id in ("", *policy_ids):
            # Cut to what the column holds: a candidate's long name must not fail a decision it has no part in.
            key = {"sha256": sha256, "outcome": outcome, "policy_id": policy_id[:96]}
            place = {f"{name}_": value for name, value in key.items()}
            if self.session.execute(_COUNT_SHADOW, place).first() is None:
                self.session.execute(insert(_SHADOWS), {**key, "count": 1})

    def shadow_counts(self, sha256: str) -> list[tuple[str, str, int]]:
        """(outcome, policy id, how often); under the empty id the number of answers with that outcome."""
        row = _SHADOWS.c
        query = select(row.outcome, row.policy_id, row.count).where(row.sha256 == sha256)
        return [tuple(found) for found in self.session.execute(query.order_by(row.outcome, row.policy_id))]

    # -- orders that wait for a second operator ---------------------------------------------------------

    def sign_order(self, statement: bytes, public_key: bytes, signature: bytes, *, expires_at: int) -> None:
        """Keep a signature under `statement` until `expires_at`."""
        row = tables.OrderSignature(
            statement=statement, public_key=public_key, signature=signature, expires_at=expires_at
        )
        self.session.merge(row)
        self.session.flush()

    def order_signatures(self, statement: bytes, *, at: datetime) -> list[tuple[bytes, bytes]]:
        """Public key and signature of everyone who signed it, and whose signature is still good."""
        row = tables.OrderSignature
        query = select(row).where(row.statement == statement, col(row.expires_at) > int(at.timestamp()))
        return [(found.public_key, found.signature) for found in self.session.exec(query)]

    def forget_order(self, statement: bytes) -> None:
        row = tables.OrderSignature
        self.session.exec(delete(row).where(col(row.statement) == statement))

    # -- how often --------------------------------------------------------------------------------------

    def tally(self, name: str, *, at: datetime) -> int:
        """What :meth:`count` last returned for this name; 0 once its time is over."""
        here = {"named": name, "now": int(at.timestamp())}
        return int(self.session.connection().execute(_TALLY, here).scalar() or 0)

    def count(self, name: str, *, at: datetime, life_s: int) -> int:
        """Add one to a tally and return it. It begins at its first count, and is over `life_s` later."""
        connection, now = self.session.connection(), int(at.timestamp())
        here = {"named": name, "now": now}
        counted = connection.execute(_COUNT, here).scalar()
        if counted is None:
            counted = 1
            connection.execute(_FORGET, here)
            connection.execute(_COUNT_FIRST, {"name": name, "count": counted, "expires_at": now + life_s})
        return int(counted)

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
        return copied(KeyHolder, row) if row is not None and row.revoked_at is None else None

    def add_nonce(
        self,
        nonce: str,
        person_id: str,
        *,
        at: int,
        expires_at: int,
        purpose: str = "session",
        detail: str = "",
    ) -> None:
        """A new challenge; those that expired are forgotten."""
        self.session.exec(delete(LoginNonce).where(col(LoginNonce.expires_at) <= at))
        row = LoginNonce(
            nonce=nonce, person_id=person_id, purpose=purpose, detail=detail, expires_at=expires_at
        )
        self.session.add(row)

    def take_nonce(self, nonce: str, person_id: str, *, at: int, purpose: str = "session") -> str | None:
        """Use up a challenge. Its detail, if it was this person's, for this, and still good; a second try finds none."""
        asked = self.session.get(LoginNonce, nonce)
        if (
            asked is None
            or (asked.person_id, asked.purpose) != (person_id, purpose)
            or asked.expires_at <= at
        ):
            return None
        self.session.delete(asked)
        return asked.detail
