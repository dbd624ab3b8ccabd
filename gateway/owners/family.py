"""Guardians and their wards: invited, signed, limited, ended; what a minor signed signed with them; taken over at 18.

The guardian signs for themselves and acts in their own session. What needs nobody's agreement but one's own (narrower
limits, an end) is one request; what allows more is always signed.
"""

import json
import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal

from litestar import Request, delete, get, post
from pydantic import Field

from gateway.access import JSON_BYTES, person_of
from gateway.owners.grants import to_sign
from gateway.problems import problem
from gateway.service import Service
from ledger.canonical import challenge
from ledger.consent import passkey
from ledger.consent.cosigning import awaiting, cosign, decline
from ledger.consent.family import (
    INVITATION,
    ask_to_guard,
    check_guardianship,
    check_handover,
    end_guardian,
    hand_over,
    narrow,
)
from ledger.consent.grant import Strict, zulu
from ledger.consent.statement import (
    GRANT_TAG,
    GUARDIANSHIP_TAG,
    HANDOVER_TAG,
    Evidence,
    Guardianship,
    Handover,
    encode_key,
    parse_guardianship,
    parsed,
)
from ledger.ids import GrantId, PersonId
from ledger.store.tokens import Token
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
INVITATION_LIFE = timedelta(days=7)
INVITATIONS_A_DAY = 10
_SENTENCES = {
    "en": (
        (
            "You answer for {ward} as their {relation}, until they are 18. You sign every permission with them, for at most"
            " {uses} each, and decide about every clip of them before it goes out. {adults}"
        ),
        {"parent": "parent", "legal_guardian": "legal guardian"},
        {
            True: "They may be shown together with other adults.",
            False: "They are not shown together with adults who are not their guardians.",
        },
        {True: "1 video", False: "{count} videos"},
    ),
    "de": (
        (
            "Du stehst für {ward} ein, {relation}, bis sie oder er 18 ist. Du unterschreibst jede Erlaubnis mit, für"
            " höchstens je {uses}, und entscheidest über jeden Clip, bevor er herausgeht. {adults}"
        ),
        {"parent": "als Elternteil", "legal_guardian": "mit dem gesetzlichen Sorgerecht"},
        {
            True: "Gezeigt werden darf sie oder er auch zusammen mit anderen Erwachsenen.",
            False: "Nicht gezeigt wird sie oder er zusammen mit Erwachsenen, die nicht selbst dafür einstehen.",
        },
        {True: "1 Video", False: "{count} Videos"},
    ),
}


# Inviting, and becoming one -----------------------------------------------------------------------------


@post("/v1/guardians/invitations", status_code=201, sync_to_thread=True)
def invite_guardian(request: Ask, service: Service) -> dict[str, Any]:
    """A link for an adult to become my guardian with. It is shown this once, good for one of them, and for 7 days."""
    return invitation(service, person_of(request, service))


def invitation(service: Service, ward: PersonId) -> dict[str, Any]:
    at, token = service.clock(), secrets.token_urlsafe(32)
    until = at + INVITATION_LIFE

    def operation(tx: Transaction) -> None:
        if not tx.standing(ward).minor(at):
            raise problem(
                403, "guardian.of_age", "you are of age: nobody answers for you", "go on as you are"
            )
        if tx.count(f"invite/{ward}", at=at, life_s=86_400) > INVITATIONS_A_DAY:
            raise problem(
                429, "guardian.often", "you have invited very many people today", "try again tomorrow"
            )
        now, end = int(at.timestamp()), int(until.timestamp())
        tx.add_token(Token(_hash(token), INVITATION, ward, created_at=now, expires_at=end))

    service.ledger.transact(operation)
    return {"token": token, "link": f"{service.settings.url}/join/{token}", "expires_at": zulu(until)}


@get("/v1/guardians/invitations/{token:str}", sync_to_thread=True)
def look_at_invitation(request: Ask, service: Service, token: str) -> dict[str, Any]:
    """Who invites me to be their guardian."""
    person_of(request, service)
    return invited_by(service, token)


def invited_by(service: Service, token: str) -> dict[str, Any]:
    """Raises a 404 problem for a link that is used up, over, or nobody's."""
    with service.ledger.reading() as tx:
        found = tx.token(_hash(token), INVITATION, at=service.clock())
        if found is None:
            raise problem(
                404,
                "guardian.invitation",
                "this invitation is not good, or no longer",
                "ask to be sent a new link",
            )
        until = datetime.fromtimestamp(found.expires_at, UTC)
        return {"ward": _named(tx, found.person_id), "expires_at": zulu(until)}


class GuardianDraft(Strict):
    """By invitation; or, to sign anew, for a ward one has already."""

    token: Annotated[str, Field(max_length=100)] | None = None
    ward: Annotated[str, Field(max_length=64)] | None = None
    relation: Literal["parent", "legal_guardian"]
    max_uses: Annotated[int, Field(ge=1, le=1000)] = 1
    with_adults: bool = False


@post("/v1/guardians/preview", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def preview_guardian(request: Ask, service: Service, data: GuardianDraft) -> dict[str, Any]:
    """The exact statement to sign as a guardian, and what it says in words."""
    guardian, at = person_of(request, service), service.clock()
    ward = invited_by(service, data.token)["ward"]["person_id"] if data.token else data.ward
    if ward is None:
        raise problem(
            400, "request.ward", "neither an invitation nor a ward is named", "send `token` or `ward`"
        )
    said = parse_guardianship(
        {
            "schema": "countersign/guardianship/v1",
            "guardian": guardian,
            "ward": ward,
            "relation": data.relation,
            "max_uses": data.max_uses,
            "with_adults": data.with_adults,
            "issued": zulu(at),
        }
    )
    with service.ledger.reading() as tx:
        if data.token is None and ward not in tx.wards(guardian):
            raise problem(
                404, "guardian.unknown", "you are not this person's guardian", "ask to be sent an invitation"
            )
        check_guardianship(tx, said, at=at)
        signing = _signing(service, tx, guardian, GUARDIANSHIP_TAG, said.signed_bytes())
        words = _sentence(tx, said)
    return {"guardianship": json.loads(said.signed_bytes()), "sentence": words, **signing}


class GuardianIn(Strict):
    token: Annotated[str, Field(max_length=100)] | None = None
    guardianship: dict[str, Any]
    evidence: Evidence


@post("/v1/guardians", status_code=202, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def become_guardian(request: Ask, service: Service, data: GuardianIn) -> dict[str, Any]:
    """Sign that I answer for somebody. An operator then looks at it; only after that does it count.

    Whoever is their guardian already sets wider limits this way, which count at once.
    """
    guardian, at = person_of(request, service), service.clock()
    hashed = _hash(data.token) if data.token else None
    answer = ask_to_guard(
        service.ledger, guardian, data.guardianship, data.evidence, invitation=hashed, at=at
    )
    if isinstance(answer, str):
        return {"status": "pending_review", "review_id": answer}
    return {"status": "standing", "index": answer}


class LimitsIn(Strict):
    max_uses: Annotated[int, Field(ge=1, le=1000)]
    with_adults: bool


@post("/v1/wards/{ward:str}/limits", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def narrow_limits(request: Ask, service: Service, ward: str, data: LimitsIn) -> dict[str, Any]:
    """Allow less of what may be done with the likeness of somebody I answer for, at once. More has to be signed."""
    guardian = person_of(request, service)
    index = narrow(
        service.ledger,
        guardian,
        PersonId(ward),
        max_uses=data.max_uses,
        with_adults=data.with_adults,
        at=service.clock(),
    )
    return {"max_uses": data.max_uses, "with_adults": data.with_adults, "index": index}


def wards_of(service: Service, guardian: PersonId) -> list[dict[str, Any]]:
    """Whom somebody answers for, and how far it may go."""
    with service.ledger.reading() as tx:
        held = {ward: tx.standing(ward).guardians[guardian].guardianship for ward in tx.wards(guardian)}
        return [
            {
                **_named(tx, ward),
                "relation": said.relation,
                "max_uses": said.max_uses,
                "with_adults": said.with_adults,
            }
            for ward, said in held.items()
        ]


@delete("/v1/guardians/{person_id:str}", status_code=200, sync_to_thread=True)
def leave_guardian(request: Ask, service: Service, person_id: str) -> dict[str, Any]:
    """End a guardianship: mine for the person named, or theirs for me, once I am of age."""
    actor, other, at = person_of(request, service), PersonId(person_id), service.clock()
    with service.ledger.reading() as tx:
        mine, is_minor = tx.standing(actor).guardians, tx.standing(actor).minor(at)
        guards = other in tx.wards(actor)
    if other in mine and is_minor:
        raise problem(
            403,
            "guardian.minor",
            "a guardian stays until you are 18, or until they or an operator end it",
            "ask the operator of this service",
        )
    if other not in mine and not guards:
        raise problem(404, "guardian.unknown", "there is no such guardian", "look at who answers for you")
    ward, guardian, by = (actor, other, "ward") if other in mine else (other, actor, "guardian")
    return {"ended": True, "index": end_guardian(service.ledger, ward, guardian, by=by, at=at)}


# What a ward signed -------------------------------------------------------------------------------------


@get("/v1/wards/pending", sync_to_thread=True)
def pending_grants(request: Ask, service: Service) -> dict[str, Any]:
    """What those I answer for have signed, and I have not: the very bytes they signed, and what they say."""
    return pending_for(service, person_of(request, service))


def pending_for(service: Service, guardian: PersonId) -> dict[str, Any]:
    at = service.clock()
    with service.ledger.reading() as tx:
        wards = [one for one in tx.wards(guardian) if tx.standing(one).minor(at)]
        found = [
            (_named(tx, ward), grant, _signing(service, tx, guardian, GRANT_TAG, grant.signed_bytes()))
            for ward, grant in awaiting(tx, wards, at=at)
        ]
    return {
        "pending": [
            {**ward, "grant_id": grant.grant_id, **to_sign(service, grant), **signing}
            for ward, grant, signing in found
        ]
    }


class CosignIn(Strict):
    evidence: Evidence


@post(
    "/v1/wards/pending/{grant_id:str}", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES
)
def cosign_grant(request: Ask, service: Service, grant_id: str, data: CosignIn) -> dict[str, Any]:
    """Sign what a ward signed, the same bytes. From now on it counts."""
    guardian = person_of(request, service)
    grant, index = cosign(service.ledger, guardian, GrantId(grant_id), data.evidence, at=service.clock())
    return {"grant_id": grant.grant_id, "index": index, "sentence": to_sign(service, grant)["sentence"]}


@delete("/v1/wards/pending/{grant_id:str}", status_code=204, sync_to_thread=True)
def decline_grant(request: Ask, service: Service, grant_id: str) -> None:
    """Do not sign it. What the ward signed is gone."""
    decline(service.ledger, person_of(request, service), GrantId(grant_id), at=service.clock())


# Coming of age ------------------------------------------------------------------------------------------


@post("/v1/handover/preview", status_code=200, sync_to_thread=True)
def preview_handover(request: Ask, service: Service) -> dict[str, Any]:
    """The exact statement with which I keep my likeness, now that I am of age. Until then it rests."""
    person_id, at = person_of(request, service), service.clock()
    with service.ledger.reading() as tx:
        cameo_id = check_handover(tx.standing(person_id), at=at)
        said = parsed(
            Handover,
            "handover",
            {
                "schema": "countersign/handover/v1",
                "person_id": person_id,
                "cameo_id": cameo_id,
                "issued": zulu(at),
            },
        )
        signing = _signing(service, tx, person_id, HANDOVER_TAG, said.signed_bytes())
    return {"statement": json.loads(said.signed_bytes()), **signing}


class HandoverIn(Strict):
    statement: dict[str, Any]
    evidence: Evidence


@post("/v1/handover", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def take_over(request: Ask, service: Service, data: HandoverIn) -> dict[str, Any]:
    """Keep my likeness, signed by me alone. What guardians signed with me is over; nobody answers for me any more."""
    person_id = person_of(request, service)
    index = hand_over(service.ledger, person_id, data.statement, data.evidence, at=service.clock())
    return {"handed_over": True, "index": index}


# What all of them need ----------------------------------------------------------------------------------


def _signing(
    service: Service, tx: Transaction, person_id: PersonId, tag: str, signed: bytes
) -> dict[str, Any]:
    """What a person's device or passkey is asked to sign. `options`: for a passkey, where they have one here."""
    asked, rp_id = challenge(tag, signed), service.settings.rp_id
    allow = [one.id for one in tx.credentials(person_id) if one.kind == "passkey" and one.rp_id == rp_id]
    options = passkey.request_options(rp_id=rp_id, challenge=asked, allow=allow) if allow else None
    return {"canonical": signed.decode(), "challenge": encode_key(asked), "options": options}


def _sentence(tx: Transaction, said: Guardianship) -> str:
    reader = tx.person(said.guardian)
    words, relations, adults, uses = _SENTENCES.get(reader.language if reader else "en", _SENTENCES["en"])
    return words.format(
        ward=_named(tx, PersonId(said.ward))["name"],
        relation=relations[said.relation],
        uses=uses[said.max_uses == 1].format(count=said.max_uses),
        adults=adults[said.with_adults],
    )


def _named(tx: Transaction, person_id: PersonId) -> dict[str, str]:
    person = tx.person(person_id)
    return {"person_id": person_id, "name": person.display_name if person is not None else ""}


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()


ROUTES = [
    invite_guardian,
    look_at_invitation,
    preview_guardian,
    become_guardian,
    narrow_limits,
    leave_guardian,
    pending_grants,
    cosign_grant,
    decline_grant,
    preview_handover,
    take_over,
]
