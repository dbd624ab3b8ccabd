"""The grant: what a person allows, exactly, in the bytes they sign.

`schema: "countersign/grant/v1"`, RFC 8785 JSON. Every field is present in the signed bytes, so nothing is
ever inferred from silence; the defaults offered by a preview are the narrowest. Purposes are terms of the
W3C Data Privacy Vocabulary (DPV). A grant expires within ten years. One that was recorded before grants had
:data:`LATER` says nothing of them, and its bytes are what they always were; none is signed like that any more.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from ledger.canonical import canonical
from ledger.consent.preference import telling
from ledger.consent.words import sentence as sentence  # noqa: PLC0414 — it is asked for here
from ledger.errors import InvalidStatement
from ledger.ids import CameoId, GrantId, Prefix, is_id

SCHEMA = "countersign/grant/v1"
LONGEST = timedelta(days=3653)
CLOCK_SKEW = timedelta(minutes=5)
SIGNING_WINDOW = timedelta(hours=24)
LATER = frozenset({"preferences", "delegate_key", "parent"})
"""Fields that grants did not always have."""

Modality = Literal["face", "voice"]
Action = Literal["generate", "remix", "edit", "extend"]
Purpose = Literal["dpv:NonCommercialPurpose", "dpv:CommercialPurpose", "dpv:Advertising"]
Context = Literal["political", "sexual", "violent", "romantic", "advertising"]
Audience = Literal["requester", "everyone"]
RevocationEffect = Literal["stop_new", "withdraw_all"]
Approval = Literal["none", "before_release"]


def zulu(moment: datetime) -> str:
    """`2026-03-01T00:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Moment = Annotated[datetime, PlainSerializer(zulu, return_type=str)]
"""An aware time, whole seconds, written `2026-03-01T00:00:00Z`."""


def _spelt(value: object) -> datetime:
    # One spelling only: the canonical bytes must not depend on who parsed them.
    moment = datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if zulu(moment) != value:
        raise ValueError(f"`{str(value)[:40]}` is not a UTC time such as `2026-03-01T00:00:00Z`")
    return moment


def _spelt_or_ours(value: object) -> datetime:
    return value if isinstance(value, datetime) and value.tzinfo is not None else _spelt(value)


SpeltMoment = Annotated[Moment, BeforeValidator(_spelt)]
"""A moment that only ever comes from outside, in that one spelling."""
StatedMoment = Annotated[Moment, BeforeValidator(_spelt_or_ours)]
"""A moment in a statement that we may draft ourselves; text has that one spelling."""


class Strict(BaseModel):
    """Frozen, no coercion, unknown fields refused: what comes from outside is parsed as it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Preference = Annotated[str, Field(min_length=2, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Grantee(Strict):
    """Who may use the likeness: one app, one person, the owner's approved group, or everyone."""

    type: Literal["app", "person", "group", "everyone"]
    id: Annotated[str, Field(max_length=64)]

    @model_validator(mode="after")
    def _names_what_it_says(self) -> "Grantee":
        named = {"app": is_id(self.id, "app"), "person": is_id(self.id, "person")}
        if not named.get(self.type, self.id == {"group": "mutuals", "everyone": "*"}.get(self.type)):
            raise ValueError(f"`{self.id[:40]}` does not name a {self.type}")
        return self


class Notice(Strict):
    """The text the person was shown, by hash and version."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    version: Annotated[str, Field(min_length=1, max_length=32)]


class Grant(Strict):
    schema_: Annotated[Literal["countersign/grant/v1"], Field(alias="schema")]
    grant_id: str
    cameo_id: str
    grantor: str
    grantee: Grantee
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)]
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1)]
    allowed_contexts: tuple[Context, ...]
    forbidden_contexts: tuple[Context, ...]
    actions: Annotated[tuple[Action, ...], Field(min_length=1)]
    audience: Audience
    max_uses: Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
    issued: SpeltMoment
    starts: SpeltMoment
    expires: SpeltMoment
    jurisdictions: Annotated[
        tuple[Annotated[str, Field(pattern=r"^([A-Z]{2}|\*)$")], ...], Field(min_length=1)
    ]
    approval: Approval
    revocation_effect: RevocationEffect
    preferences: Annotated[tuple[Preference, ...], Field(max_length=10)] = ()
    """What the person would rather not be shown with, in their own words; checked as far as words go."""
    delegate_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")] | None = None
    """Ed25519: whoever holds this key may pass the grant on, only narrower. None: nobody may."""
    parent: str | None = None
    """The grant that this one passes on."""
    notice: Notice
    language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")]

    @field_validator("parent")
    @classmethod
    def _well_formed_parent(cls, value: str | None) -> str | None:
        if value is not None and not is_id(value, "grant"):
            raise ValueError(f"`{value[:40]}` is not a grant id")
        return value

    @field_validator("grant_id", "cameo_id", "grantor")
    @classmethod
    def _well_formed_id(cls, value: str, info: Any) -> str:
        prefixes: dict[str, Prefix] = {"grant_id": "grant", "cameo_id": "cameo", "grantor": "person"}
        if not is_id(value, prefixes[info.field_name]):
            raise ValueError(f"`{value[:40]}` is not a {info.field_name.replace('_', ' ')}")
        return value

    @model_validator(mode="after")
    def _holds_together(self) -> "Grant":
        if self.expires <= self.starts:
            raise ValueError("`expires` is not after `starts`")
        if self.expires - self.starts > LONGEST:
            raise ValueError("`expires` is more than ten years after `starts`")
        if overlap := set(self.allowed_contexts) & set(self.forbidden_contexts):
            raise ValueError(f"`{min(overlap)}` is both allowed and forbidden")
        if self.parent == self.grant_id:
            raise ValueError("a grant does not pass on itself")
        if self.parent is not None and self.delegate_key is not None:
            raise ValueError("a grant that was passed on can not be passed on again")
        return self

    @property
    def id(self) -> GrantId:
        return GrantId(self.grant_id)

    @property
    def cameo(self) -> CameoId:
        return CameoId(self.cameo_id)

    def signed_bytes(self) -> bytes:
        """The canonical bytes the grantor signs."""
        return canonical(self.model_dump(mode="json", by_alias=True, exclude_unset=True))


def beyond(child: Grant, parent: Grant) -> list[str]:
    """The fields in which `child` allows more than `parent`; none, if it only narrows."""
    return [
        field
        for field, within in (
            ("grantor", child.grantor == parent.grantor),
            ("cameo_id", child.cameo_id == parent.cameo_id),
            # To one by name: a group or everyone is more than whom the parent names.
            ("grantee", child.grantee.type in {"app", "person"} or child.grantee == parent.grantee),
            ("modalities", set(child.modalities) <= set(parent.modalities)),
            ("purposes", set(child.purposes) <= set(parent.purposes)),
            ("allowed_contexts", set(child.allowed_contexts) <= set(parent.allowed_contexts)),
            ("forbidden_contexts", set(child.forbidden_contexts) >= set(parent.forbidden_contexts)),
            ("actions", set(child.actions) <= set(parent.actions)),
            ("audience", parent.audience == "everyone" or child.audience == "requester"),
            ("max_uses", child.max_uses <= parent.max_uses),
            ("starts", child.starts >= parent.starts),
            ("expires", child.expires <= parent.expires),
            (
                "jurisdictions",
                "*" in parent.jurisdictions or set(child.jurisdictions) <= set(parent.jurisdictions),
            ),
            ("approval", parent.approval == "none" or child.approval == "before_release"),
            (
                "revocation_effect",
                parent.revocation_effect == "stop_new" or child.revocation_effect == "withdraw_all",
            ),
            ("preferences", set(child.preferences) >= set(parent.preferences)),
        )
        if not within
    ]


def parse_grant(value: object) -> Grant:
    """A grant from outside. Raises InvalidStatement naming the field that is wrong."""
    try:
        return Grant.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "grant"
        problem = first["msg"].removeprefix("Value error, ")
        sentence = f"the grant's field `{where[:80]}` is wrong: {problem[:1].lower()}{problem[1:]}"
        raise InvalidStatement("grant.malformed", sentence, "ask for a new preview and sign that") from error


def check_signable(grant: Grant, *, at: datetime) -> None:
    """Refuse a grant that is stale, future-dated, over before it begins, or not kept to. Raises InvalidStatement."""
    again = "ask for a new preview and sign that"
    if unsaid := LATER - grant.model_fields_set:
        raise InvalidStatement(
            "grant.malformed", f"the grant's field `{min(unsaid)}` is wrong: field required", again
        )
    if empty := next((one for one in grant.preferences if not telling(one)), None):
        raise InvalidStatement(
            "grant.preference",
            f"the preference `{empty}` names nothing that could be looked for in a prompt",
            "say in plain words what you would rather not be shown with, such as `alcohol`",
        )
    if grant.issued > at + CLOCK_SKEW:
        raise InvalidStatement(
            "grant.clock",
            f"the grant is dated `{zulu(grant.issued)}`, ahead of this service's clock (`{zulu(at)}`)",
            "set the device's clock, then " + again,
        )
    if grant.issued < at - SIGNING_WINDOW:
        raise InvalidStatement(
            "grant.stale", f"the grant was prepared at `{zulu(grant.issued)}`, over a day ago", again
        )
    if grant.expires <= at:
        raise InvalidStatement("grant.expired", f"the grant expired at `{zulu(grant.expires)}`", again)
