"""The tables. Rows are the truth; tree, map, checkpoint and pages are derived from them.

Times are Unix seconds. Enumerations are strings, so a migration never has to alter a database type. What is
about a person is sealed under that person's key (`ledger.keys`); no table model ever leaves the store.
"""

from sqlalchemy import BigInteger, Index, LargeBinary, MetaData, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

SQLModel.metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Head(SQLModel, table=True):
    """One row: the log's size. Whoever may write is the only one to read and change it."""

    id: int = Field(default=1, primary_key=True)
    size: int = Field(sa_type=BigInteger)


class LogEntry(SQLModel, table=True):
    """One leaf. `(kind, ref)` is unique: one decision and one release per video, one entry per grant.

    `commitments`: what the leaf's payload is the hash of; empty for a statement of the service about itself.
    """

    __tablename__ = "log_entry"
    __table_args__ = (UniqueConstraint("kind", "ref"),)

    index: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    kind: str = Field(max_length=32)
    ref: str = Field(max_length=96)
    at: int = Field(sa_type=BigInteger)
    leaf: bytes = Field(sa_type=LargeBinary)
    commitments: bytes = Field(sa_type=LargeBinary)


class Record(SQLModel, table=True):
    """The n-th thing recorded about one person or app: place, opening and body, sealed under their key.

    It stands under its public tag, so without the person's key nothing says whose it is.
    """

    tag: bytes = Field(primary_key=True, sa_type=LargeBinary)
    sealed: bytes = Field(sa_type=LargeBinary)


class SubjectKey(SQLModel, table=True):
    """A person's or app's own key, wrapped. Null after erasure: then nothing sealed under it opens again.

    `next_n`: how many records there are about them, which the log's map of tags must confirm.
    """

    __tablename__ = "subject_key"

    subject_id: str = Field(primary_key=True, max_length=64)
    wrapped: bytes | None = Field(sa_type=LargeBinary)
    next_n: int = Field(default=0, sa_type=BigInteger)


class Person(SQLModel, table=True):
    id: str = Field(primary_key=True, max_length=64)
    display_name: str = Field(max_length=80)
    language: str = Field(default="en", max_length=5)
    created_at: int = Field(sa_type=BigInteger)
    handle: bytes | None = Field(default=None, sa_type=LargeBinary, unique=True)
    """What a passkey knows this account by (WebAuthn's user handle): 32 random bytes."""


class Credential(SQLModel, table=True):
    """A key that signs for a person: a passkey, or a device's Ed25519 key, whose id is the key itself."""

    id: str = Field(primary_key=True, max_length=1400)
    person_id: str = Field(max_length=64, foreign_key="person.id", index=True)
    kind: str = Field(max_length=16)
    public_key: str = Field(sa_type=Text)
    rp_id: str = Field(default="", max_length=255)
    origin: str = Field(default="", max_length=255)
    name: str = Field(default="", max_length=80)
    sign_count: int = Field(default=0, sa_type=BigInteger)
    created_at: int = Field(sa_type=BigInteger)
    used_at: int | None = Field(default=None, sa_type=BigInteger)


class RecoveryCode(SQLModel, table=True):
    """SHA-256 of a one-time code. Deleted when it is used."""

    __tablename__ = "recovery_code"

    hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    person_id: str = Field(max_length=64, foreign_key="person.id", index=True)
    created_at: int = Field(sa_type=BigInteger)


class Identity(SQLModel, table=True):
    """Somebody whom an issuer of ages knows, as a keyed digest, and the one account here that is theirs."""

    digest: bytes = Field(primary_key=True, sa_type=LargeBinary)
    person_id: str = Field(max_length=64, foreign_key="person.id", index=True)


class Token(SQLModel, table=True):
    """SHA-256 of a random token that was handed out for one purpose: an invitation, or an app that speaks for a person."""

    hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    purpose: str = Field(max_length=32)
    person_id: str = Field(max_length=64, foreign_key="person.id", index=True)
    holder: str = Field(default="", max_length=64)
    """Whom it was given to, where that is known: an app's id."""
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)


class Capture(SQLModel, table=True):
    """An enrolment a person began: what they were asked to do, and, once they did it, where the film lies."""

    id: str = Field(primary_key=True, max_length=64)
    person_id: str = Field(max_length=64, foreign_key="person.id", index=True)
    status: str = Field(max_length=16)
    """challenge, pending_review, accepted, refused or expired."""
    sealed: bytes = Field(sa_type=LargeBinary)
    """The challenge, sealed under the person's key."""
    object_key: str | None = Field(default=None, max_length=128)
    """The film, sealed under the person's key."""
    sha256: str = Field(default="", max_length=64)
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)


class Review(SQLModel, table=True):
    """Something that waits for an operator's word about a person: a guardian, an estate."""

    id: str = Field(primary_key=True, max_length=64)
    kind: str = Field(max_length=16)
    person_id: str = Field(max_length=64, foreign_key="person.id", index=True)
    status: str = Field(max_length=16)
    """open, accepted or refused."""
    sealed: bytes = Field(sa_type=LargeBinary)
    """What is to be looked at, sealed under the person's key."""
    created_at: int = Field(sa_type=BigInteger)


class Draft(SQLModel, table=True):
    """A finished clip that waits for somebody's word. Gone once it is released, or refused for good."""

    video_id: str = Field(primary_key=True, max_length=64, foreign_key="video.id")
    stamped: str = Field(sa_type=Text)
    """The sealed token that says the clip was checked, marked and signed."""
    object_key: str = Field(max_length=128)
    asked_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    waits_for: str = Field(default="approval", max_length=16, sa_column_kwargs={"server_default": "approval"})
    """approval, review, or appeal: refused by a reviewer, and kept while the app may ask for another look."""


class Cameo(SQLModel, table=True):
    id: str = Field(primary_key=True, max_length=64)
    person_id: str = Field(max_length=64, foreign_key="person.id", unique=True)
    likeness: bytes = Field(sa_type=LargeBinary)
    """Face templates, sealed under the person's key."""
    portrait: bytes = Field(sa_type=LargeBinary)
    """The enrolled picture and the place of the face in it, sealed under the person's key."""
    name_key: str | None = Field(default=None, max_length=320, index=True)
    """What the name of whose it is is looked up by, where it can be told from ordinary words."""
    voice: bytes | None = Field(default=None, sa_type=LargeBinary)
    """The template of their voice, sealed under the person's key; null where none was enrolled, or it was destroyed."""


class CameoChange(SQLModel, table=True):
    """A likeness that came or went. Whoever holds them all in memory reads on from the last change they know."""

    __tablename__ = "cameo_change"

    seq: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    cameo_id: str = Field(max_length=64)


class Operator(SQLModel, table=True):
    id: str = Field(primary_key=True, max_length=64)
    public_key: str = Field(max_length=64, unique=True)


class App(SQLModel, table=True):
    id: str = Field(primary_key=True, max_length=64)
    name: str = Field(max_length=80)
    suspended: bool = False
    created_at: int = Field(sa_type=BigInteger)
    public_key: str = Field(default="", max_length=64)
    """Ed25519: what the app signs with when it passes a grant on. Empty for an app that never does."""


class ApiKey(SQLModel, table=True):
    """SHA-256 of a 256-bit random key. `role` is app, operator or auditor; `holder` whom it speaks for."""

    __tablename__ = "api_key"

    hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    role: str = Field(max_length=16)
    holder: str = Field(max_length=64)
    hint: str = Field(max_length=16)
    created_at: int = Field(sa_type=BigInteger)
    revoked_at: int | None = Field(default=None, sa_type=BigInteger)


class LoginNonce(SQLModel, table=True):
    """A challenge waiting for a key's signature. Deleted when it is used, dead when it expires."""

    __tablename__ = "login_nonce"

    nonce: str = Field(primary_key=True, max_length=64)
    person_id: str = Field(max_length=64)
    """Whose key has to sign; empty where a passkey says that itself, or where the account is yet to be opened."""
    purpose: str = Field(default="session", max_length=32)
    detail: str = Field(default="", sa_type=Text)
    """What the answer must agree with, as JSON."""
    expires_at: int = Field(sa_type=BigInteger)


class PersonSession(SQLModel, table=True):
    __tablename__ = "person_session"

    hash: bytes = Field(primary_key=True, sa_type=LargeBinary)
    person_id: str = Field(max_length=64, foreign_key="person.id", index=True)
    key_id: str = Field(default="", max_length=1400)
    """The key it was opened with."""
    agent: str = Field(default="", max_length=120)
    """What the browser calls itself, for the person to recognise it by."""
    created_at: int = Field(default=0, sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    """Moves on while the session is used, up to its longest life."""


class Video(SQLModel, table=True):
    """One job of one app, and the clip it made. `object_key` is set by the release transaction, never before."""

    __table_args__ = (Index(None, "app_id", "created_at", "id"), Index(None, "app_id", "status"))

    id: str = Field(primary_key=True, max_length=64)
    app_id: str = Field(max_length=64, foreign_key="app.id")
    model: str = Field(max_length=64)
    prompt: str = Field(sa_type=Text)
    size: str = Field(max_length=16)
    seconds: int
    status: str = Field(max_length=16)
    progress: int = 0
    created_at: int = Field(sa_type=BigInteger)
    completed_at: int | None = Field(default=None, sa_type=BigInteger)
    error_code: str | None = Field(default=None, max_length=64)
    error_message: str | None = Field(default=None, sa_type=Text)
    permit: str | None = Field(default=None, sa_type=Text)
    payload: bytes | None = Field(default=None, sa_type=LargeBinary, unique=True)
    object_key: str | None = Field(default=None, max_length=128)
    manifest_id: str | None = Field(default=None, max_length=128, index=True)
    deleted_at: int | None = Field(default=None, sa_type=BigInteger)
    action: str = Field(default="generate", max_length=16)
    parent_id: str | None = Field(default=None, max_length=64, index=True)
    """The clip this one was made from."""
    requested_by: str | None = Field(default=None, max_length=64)
    """The person the app asked for, if it said so and could show it."""
    downloads: int = Field(default=0, sa_type=BigInteger)
    taken_down_at: int | None = Field(default=None, sa_type=BigInteger)


class Fingerprint(SQLModel, table=True):
    """What a released clip looks like, second by second. Whoever holds them all reads on from the last they know."""

    seq: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    video_id: str = Field(max_length=64, foreign_key="video.id", unique=True)
    content: bytes = Field(sa_type=LargeBinary)


class VideoGrant(SQLModel, table=True):
    """Whose likeness a video uses, and under which grant."""

    __tablename__ = "video_grant"

    video_id: str = Field(primary_key=True, max_length=64, foreign_key="video.id")
    grant_id: str = Field(primary_key=True, max_length=64, index=True)
    cameo_id: str = Field(max_length=64, index=True)
    person_id: str = Field(max_length=64)


class Manifest(SQLModel, table=True):
    """The C2PA manifest store of a released clip. It outlives the clip's file."""

    id: str = Field(primary_key=True, max_length=128)
    video_id: str = Field(max_length=64, foreign_key="video.id", unique=True)
    store: bytes = Field(sa_type=LargeBinary)


class PolicySet(SQLModel, table=True):
    """The files of a policy set under its hash. Not trusted: whoever reads them hashes them again."""

    __tablename__ = "policy_set"

    sha256: str = Field(primary_key=True, max_length=64)
    files: bytes = Field(sa_type=LargeBinary)
    """Canonical JSON (RFC 8785) of {name: text}."""
    added_at: int = Field(sa_type=BigInteger)
    shadow: bool | None = Field(default=None, unique=True)
    """True for the candidate that is evaluated beside the active set, else null: so there is at most one."""


class Tally(SQLModel, table=True):
    """How often something happened in a span of time. After `expires_at` it counts for nothing."""

    name: str = Field(primary_key=True, max_length=160)
    count: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger, index=True)


class OrderSignature(SQLModel, table=True):
    """An operator's signature under an order that waits for another operator's. After `expires_at` it is nothing."""

    __tablename__ = "order_signature"

    statement: bytes = Field(primary_key=True, sa_type=LargeBinary)
    """What was signed: 32 bytes."""
    public_key: bytes = Field(primary_key=True, sa_type=LargeBinary)
    signature: bytes = Field(sa_type=LargeBinary)
    expires_at: int = Field(sa_type=BigInteger)


class ShadowCount(SQLModel, table=True):
    """How often the candidate in shadow answered so, and by which policy; `policy_id` is empty for every answer."""

    __tablename__ = "shadow_count"

    sha256: str = Field(primary_key=True, max_length=64)
    outcome: str = Field(primary_key=True, max_length=16)
    policy_id: str = Field(primary_key=True, max_length=96)
    count: int = Field(sa_type=BigInteger)


class Webhook(SQLModel, table=True):
    """An endpoint of an app. `secret` is sealed under the app's key."""

    id: str = Field(primary_key=True, max_length=64)
    app_id: str = Field(max_length=64, foreign_key="app.id", index=True)
    url: str = Field(max_length=2000)
    secret: bytes = Field(sa_type=LargeBinary)
    created_at: int = Field(sa_type=BigInteger)
    disabled_at: int | None = Field(default=None, sa_type=BigInteger)


class Delivery(SQLModel, table=True):
    """An event on its way to one endpoint. `next_at` is null once it is delivered or given up."""

    id: str = Field(primary_key=True, max_length=64)
    webhook_id: str = Field(primary_key=True, max_length=64, foreign_key="webhook.id", index=True)
    type: str = Field(max_length=64)
    payload: str = Field(sa_type=Text)
    created_at: int = Field(sa_type=BigInteger)
    attempts: int = 0
    next_at: int | None = Field(default=None, sa_type=BigInteger, index=True)
    delivered_at: int | None = Field(default=None, sa_type=BigInteger)
    last_status: str = Field(default="", max_length=32)


class Notice(SQLModel, table=True):
    """What somebody without an account asked of us. Who they are, and what they wrote, is sealed under the notice's own key.

    It is about a clip (`takedown`) or about a face (`do_not_generate`).
    """

    id: str = Field(primary_key=True, max_length=64)
    kind: str = Field(max_length=16)
    status: str = Field(max_length=16)
    """unconfirmed, open, decided, withdrawn or lapsed."""
    token_hash: bytes = Field(sa_type=LargeBinary)
    """SHA-256 of what the notifier was mailed."""
    sealed: bytes | None = Field(default=None, sa_type=LargeBinary)
    """Null once the notice was withdrawn, or was never confirmed."""
    video_id: str | None = Field(default=None, max_length=64, foreign_key="video.id")
    created_at: int = Field(sa_type=BigInteger)
    confirmed_at: int | None = Field(default=None, sa_type=BigInteger)
    due_at: int | None = Field(default=None, sa_type=BigInteger)
    """When what waits now, the notice or an appeal, must be decided."""
    first_due_at: int | None = Field(default=None, sa_type=BigInteger)
    first_decided_at: int | None = Field(default=None, sa_type=BigInteger)
    held: bool = False
    """Its clips are held back until it is decided."""
    outcome: str | None = Field(default=None, max_length=16)
    """The decision that stands: removed, kept or restored; registered or refused."""

    __table_args__ = (Index(None, "status", "due_at"),)


class NoticeVideo(SQLModel, table=True):
    """A clip that a notice is about: the one it names, and identical copies of it."""

    __tablename__ = "notice_video"

    notice_id: str = Field(primary_key=True, max_length=64, foreign_key="notice.id")
    video_id: str = Field(primary_key=True, max_length=64, foreign_key="video.id", index=True)


class DoNotGenerate(SQLModel, table=True):
    """A face nobody may generate, sealed under the key of its notice. In force while `since` is set."""

    __tablename__ = "do_not_generate"

    notice_id: str = Field(primary_key=True, max_length=64, foreign_key="notice.id")
    sealed: bytes = Field(sa_type=LargeBinary)
    since: int | None = Field(default=None, sa_type=BigInteger, unique=True)
    """The place in the log that put it in force. Places only ascend, so nothing is added unnoticed."""


class HashList(SQLModel, table=True):
    """Known prohibited pictures that everything is compared with. Which lists there should be, the log says.

    `sealed`: the hashes, under the lists' own key; a list is secret.
    """

    __tablename__ = "hash_list"

    name: str = Field(primary_key=True, max_length=64)
    version: int
    category: str = Field(max_length=16)
    source: str = Field(max_length=200)
    format: str = Field(max_length=16)
    count: int = Field(sa_type=BigInteger)
    bits: int
    """How far a picture may differ and still be on it."""
    sha256: str = Field(max_length=64)
    imported_by: str = Field(max_length=80)
    imported_at: int = Field(sa_type=BigInteger)
    place: int = Field(sa_type=BigInteger, unique=True)
    """Of its entry in the log. Places only ascend, so nothing is exchanged unnoticed."""
    sealed: bytes = Field(sa_type=LargeBinary)


class Mail(SQLModel, table=True):
    """A letter that is still to be sent, sealed under the key of the notice it is about."""

    id: str = Field(primary_key=True, max_length=64)
    notice_id: str = Field(max_length=64, foreign_key="notice.id", index=True)
    sealed: bytes = Field(sa_type=LargeBinary)
    tries: int = 0
    next_at: int = Field(sa_type=BigInteger, index=True)
