"""What the store hands out and takes in: frozen values, never a live table row.

A row that left its transaction could be changed, or read again later, behind the sequencer's back.
"""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar, overload

from sqlalchemy import Row
from sqlmodel import SQLModel

from ledger.consent.statement import Signer
from ledger.ids import AppId, CameoId, GrantId, LeafIndex, NoticeId, PersonId, VideoId

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@overload
def copied(kind: type[R], row: SQLModel | Row[Any]) -> R: ...
@overload
def copied(kind: type[R], row: SQLModel | Row[Any] | None) -> R | None: ...
def copied(kind: type[R], row: SQLModel | Row[Any] | None) -> R | None:
    """The frozen copy of a row."""
    return None if row is None else kind(**{one.name: getattr(row, one.name) for one in fields(kind)})


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands in the log, and when it was written (Unix seconds)."""

    index: LeafIndex
    at: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A released clip's C2PA manifest store, and the id of its active manifest."""

    id: str
    video_id: VideoId
    store: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class App:
    id: AppId
    name: str
    created_at: int
    suspended: bool = False
    public_key: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with an account. `handle`: what a passkey knows it by."""

    id: PersonId
    display_name: str
    created_at: int
    language: str = "en"
    handle: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """A key that signs for a person. `signer`: what their signatures are checked against."""

    id: str
    person_id: PersonId
    kind: str
    public_key: str
    created_at: int
    rp_id: str = ""
    origin: str = ""
    name: str = ""
    sign_count: int = 0
    used_at: int | None = None

    @property
    def signer(self) -> Signer:
        return Signer.model_validate(
            {name: getattr(self, name) for name in ("id", "kind", "public_key", "rp_id", "origin")}
        )


@dataclass(frozen=True, slots=True)
class Cameo:
    """A likeness as it is stored: `likeness`, `portrait` and `voice` are sealed under the person's key."""

    id: CameoId
    person_id: PersonId
    likeness: bytes = field(repr=False)
    portrait: bytes = field(repr=False)
    voice: bytes | None = field(default=None, repr=False)
    name_key: str | None = None
    """What their name is looked up by; None where it is not."""


@dataclass(frozen=True, slots=True)
class Depicted:
    """Someone a video shows, and the grant it was made under."""

    person_id: PersonId
    cameo_id: CameoId
    grant_id: GrantId


@dataclass(frozen=True, slots=True)
class Video:
    """One job of one app, and the clip it made. `object_key`: where the clip lies, once it is released."""

    id: VideoId
    app_id: AppId
    model: str
    prompt: str
    size: str
    seconds: int
    created_at: int
    status: str = "queued"
    progress: int = 0
    completed_at: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    object_key: str | None = None
    manifest_id: str | None = None
    deleted_at: int | None = None
    action: str = "generate"
    parent_id: VideoId | None = None
    requested_by: PersonId | None = None
    downloads: int = 0
    taken_down_at: int | None = None


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whom a live API key speaks for. `role`: app, operator or auditor."""

    role: str
    holder: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint where an app is told of events. Its secret stays in the store."""

    id: str
    app_id: AppId
    url: str
    created_at: int
    disabled_at: int | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `next_at`: when it is tried next; None once it is delivered or given up."""

    id: str
    webhook_id: str
    type: str
    payload: str
    created_at: int
    attempts: int = 0
    next_at: int | None = None
    delivered_at: int | None = None
    last_status: str = ""
    """The answer's HTTP status, or in a word why there was none."""


@dataclass(frozen=True, slots=True)
class HeldClip:
    """A finished clip that waits for somebody's word.

    `stamped`: the sealed token that says it was checked, marked and signed. `object_key`: where its bytes lie.
    `waits_for`: `approval` by those it shows, `review`, or an `appeal` against what reviewers said.
    """

    video_id: VideoId
    stamped: str = field(repr=False)
    object_key: str
    asked_at: int
    expires_at: int
    waits_for: str = "approval"

    @property
    def sha256(self) -> str:
        """Of its bytes: an object's key ends in it."""
        return self.object_key.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice of somebody without an account. `sealed`: the case, under the notice's own key."""

    id: NoticeId
    kind: str
    status: str
    token_hash: bytes = field(repr=False)
    sealed: bytes | None = field(repr=False)
    created_at: int
    video_id: VideoId | None = None
    confirmed_at: int | None = None
    due_at: int | None = None
    first_due_at: int | None = None
    first_decided_at: int | None = None
    held: bool = False
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class HashList:
    """A list of known prohibited pictures, but for what is on it. `bits`: how far a picture may differ from one of them."""

    name: str
    version: int
    category: str
    source: str
    format: str
    count: int
    bits: int
    sha256: str
    imported_by: str
    imported_at: int
    place: int
    """Of its entry in the log."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A letter to be sent. `sealed`: under the key of its notice."""

    id: str
    notice_id: NoticeId
    sealed: bytes = field(repr=False)
    tries: int
    next_at: int
