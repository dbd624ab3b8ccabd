"""Permission: looked at before it is signed, signed with the owner's device, listed, and taken back with one request.

A session is enough to revoke; granting needs the device's signature over the very bytes shown.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread
from pydantic import Field, ValidationError

from gateway.access import JSON_BYTES, acting, holder
from gateway.problems import problem
from gateway.service import Service
from ledger.canonical import challenge
from ledger.consent.cosigning import keep_for_guardian
from ledger.consent.fold import GrantStanding, Role, Standing
from ledger.consent.grant import (
    SCHEMA,
    Action,
    Approval,
    Audience,
    Context,
    Grant,
    Grantee,
    Modality,
    Purpose,
    RevocationEffect,
    Strict,
    check_signable,
    parse_grant,
    sentence,
    zulu,
)
from ledger.consent.notice_text import check_notice, current
from ledger.consent.registry import SignedGrant, record_grant, record_grants, revoke, taken_along
from ledger.consent.statement import GRANT_TAG, DeviceSignature, Evidence, encode_key
from ledger.errors import InvalidStatement
from ledger.ids import GrantId, PersonId, new_id
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
IMPORT_LINES = 20_000
_SIGN: tuple[Role, ...] = ("owner", "executor")
"""Who signs grants. A guardian signs with the minor, not instead of them: see `gateway.owners.family`."""


class GrantDraft(Strict):
    """What a person chose. Everything left out takes its narrowest value."""

    cameo_id: str
    grantee: Grantee
    modalities: tuple[Modality, ...] = ("face",)
    purposes: tuple[Purpose, ...] = ("dpv:NonCommercialPurpose",)
    allowed_contexts: tuple[Context, ...] = ()
    forbidden_contexts: tuple[Context, ...] = ()
    actions: tuple[Action, ...] = ("generate",)
    audience: Audience = "requester"
    max_uses: int = 1
    days: Annotated[int, Field(ge=1, le=3650)] = 30
    jurisdictions: tuple[str, ...] = ("*",)
    approval: Approval = "none"
    revocation_effect: RevocationEffect = "withdraw_all"
    preferences: tuple[str, ...] = ()
    may_pass_on: bool = False
    """Whether the app may pass it on, only narrower, signed with the key it has registered."""
    language: str | None = None
    """None: the person's own."""


class GrantIn(Strict):
    grant: dict[str, Any]
    evidence: Evidence


@post("/v1/grants/preview", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def preview_grant(request: Ask, service: Service, data: GrantDraft) -> dict[str, Any]:
    """The exact grant to sign, its canonical bytes, what they say in words, and the challenge.

    `needs_guardian`: that a guardian has to sign it as well before it counts.
    """
    here = acting(request, service, may=_SIGN)
    person_id = here.owner
    # To the minute: seconds would stand in the sentence and tell the person nothing.
    at = service.clock().replace(second=0, microsecond=0)
    chosen = data.model_dump(mode="json", exclude={"days", "may_pass_on"})
    chosen["language"] = data.language or _language(service, here.actor)
    notice = current(chosen["language"])
    grant = parse_grant(
        {
            **chosen,
            "schema": SCHEMA,
            "grant_id": new_id("grant"),
            "grantor": person_id,
            "parent": None,
            "delegate_key": _delegate_key(service, data),
            "issued": zulu(at),
            "starts": zulu(at),
            "expires": zulu(at + timedelta(days=data.days)),
            "notice": notice.named.model_dump(),
        }
    )
    check_signable(grant, at=at)
    with service.ledger.reading() as tx:
        needs_guardian = tx.standing(person_id).minor(at)
    return {**to_sign(service, grant), "notice": notice.text, "needs_guardian": needs_guardian}


def to_sign(service: Service, grant: Grant) -> dict[str, Any]:
    """A grant, the bytes to sign, and what they say."""
    signed = grant.signed_bytes()
    return {
        "grant": json.loads(signed),
        "canonical": signed.decode(),
        "challenge": encode_key(challenge(GRANT_TAG, signed)),
        "sentence": sentence(grant, _grantee_name(service, grant.grantee)),
    }


def _delegate_key(service: Service, data: GrantDraft) -> str | None:
    if not data.may_pass_on:
        return None
    with service.ledger.reading() as tx:
        app = tx.app(data.grantee.id)
    if data.grantee.type != "app" or app is None or not app.public_key:
        raise problem(
            400,
            "grant.no_app_key",
            "only an app that has registered a key can pass a grant on",
            "leave `may_pass_on` out, or choose such an app",
        )
    return app.public_key


@post("/v1/grants", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def create_grant(request: Ask, service: Service, data: GrantIn) -> Response[dict[str, Any]]:
    """Record a signed grant. A minor's is kept for a day, until a guardian signs it too: 202, `pending`."""
    person_id, at = acting(request, service, may=_SIGN).owner, service.clock()
    signed = SignedGrant(person_id, data.grant, data.evidence)
    check_notice(parse_grant(data.grant))
    with service.ledger.reading() as tx:
        pending = tx.standing(person_id).minor(at)
    if pending:
        grant, index = keep_for_guardian(service.ledger, signed, at=at), None
    else:
        grant, index = record_grant(service.ledger, signed, at=at)
    words = sentence(grant, _grantee_name(service, grant.grantee))
    answer = {"grant_id": grant.grant_id, "pending": pending, "index": index, "sentence": words}
    return Response(answer, status_code=202 if pending else 201)


@post("/v1/grants/import", status_code=200)
async def import_grants(request: Ask, service: Service) -> dict[str, Any]:
    """An operator brings in grants that their owners signed elsewhere: one JSON object a line.

    Each line is `{"owner", "grant", "evidence"}`. Answers with one outcome for each line, in order; a line that is
    refused hinders no other.
    """
    await sync_to_thread(holder, request, service, "operator")
    lines = (await request.body()).splitlines()
    if len(lines) > IMPORT_LINES:
        raise problem(
            413, "request.lines", f"the file has over `{IMPORT_LINES}` lines", "send it in several parts"
        )
    return {"outcomes": await sync_to_thread(_import, service, lines)}


def _import(service: Service, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    read = [_read_line(line) for line in lines]
    signed = [one for one in read if isinstance(one, SignedGrant)]
    recorded = iter(record_grants(service.ledger, signed, at=service.clock()))
    outcomes = [next(recorded) if isinstance(one, SignedGrant) else one for one in read]
    return [
        {"refused": outcome.reason.as_json()}
        if isinstance(outcome, InvalidStatement)
        else {"recorded": True, "index": outcome}
        for outcome in outcomes
    ]


def _read_line(line: bytes) -> SignedGrant | InvalidStatement:
    try:
        value = ImportLine.model_validate_json(line)
    except ValidationError:
        return InvalidStatement(
            "import.line",
            "the line is not an object with `owner`, `grant` and `evidence`",
            "correct the line",
        )
    return SignedGrant(PersonId(value.owner), value.grant, value.evidence)


class ImportLine(Strict):
    owner: Annotated[str, Field(max_length=64)]
    grant: dict[str, Any]
    evidence: DeviceSignature


@get("/v1/grants", sync_to_thread=True)
def list_grants(request: Ask, service: Service) -> dict[str, Any]:
    """My grants: what each says, whether it stands, how often it was used."""
    return grants_of(service, acting(request, service, recovered=True).owner)


def grants_of(service: Service, owner: PersonId) -> dict[str, Any]:
    """Every grant of a person, newest first."""
    at = service.clock()
    with service.ledger.reading() as tx:
        standing = tx.standing(owner)
    newest_first = sorted(standing.grants.values(), key=lambda held: held.index, reverse=True)
    return {"grants": [_told(service, standing, held, at) for held in newest_first]}


def _told(service: Service, standing: Standing, held: GrantStanding, at: datetime) -> dict[str, Any]:
    grant, name = held.grant, _grantee_name(service, held.grant.grantee)
    return {
        "grant_id": grant.grant_id,
        "grantee": {**grant.grantee.model_dump(), "name": name},
        "sentence": sentence(grant, name),
        "language": grant.language,
        "live": standing.live(held, at),
        "status": _status(standing, held, at),
        "uses": len(held.uses),
        "uses_left": standing.uses_left(held),
        "videos": sorted(held.uses),
        "starts": zulu(grant.starts),
        "expires": zulu(grant.expires),
        "approval": grant.approval,
        "forbidden_contexts": list(grant.forbidden_contexts),
        "preferences": list(grant.preferences),
        "countries": list(grant.jurisdictions),
        "revocation_effect": grant.revocation_effect,
        "parent": grant.parent,
        "passed_on": list(standing.passed_on.get(grant.id, ())),
        "revoked_at": held.revoked_at,
        "effect": held.effect,
    }


def _status(standing: Standing, held: GrantStanding, at: datetime) -> str:
    if held.revoked_index is not None:
        return "revoked"
    if at < held.grant.starts:
        return "not_started"
    if not standing.live(held, at):
        return "expired"
    return "live" if standing.uses_left(held) else "used_up"


def signed_grant(service: Service, owner: PersonId, grant_id: GrantId) -> dict[str, Any]:
    """A grant with everything that shows who signed it, and that the log holds it. Raises NotFound."""
    return taken_along(service.ledger, owner, grant_id)


@get("/v1/grants/{grant_id:str}", sync_to_thread=True)
def get_grant(request: Ask, service: Service, grant_id: str) -> dict[str, Any]:
    """One of my grants, signed, for whoever I show it to: `countersign consent verify FILE` checks it without us."""
    return signed_grant(service, acting(request, service).owner, GrantId(grant_id))


class RevokeIn(Strict):
    effect: RevocationEffect | None = None


@post(
    "/v1/grants/{grant_id:str}/revoke", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES
)
def revoke_grant(
    request: Ask, service: Service, grant_id: str, data: RevokeIn | None = None
) -> dict[str, Any]:
    """Take a grant back: instantly, for good, without a signature."""
    person_id = acting(request, service, recovered=True).owner
    effect = data.effect if data else None
    index = revoke(service.ledger, person_id, GrantId(grant_id), effect, at=service.clock())
    return {"grant_id": grant_id, "revoked": True, "index": index}


def _language(service: Service, person_id: PersonId) -> str:
    with service.ledger.reading() as tx:
        person = tx.person(person_id)
    return person.language if person is not None else "en"


def grantee_name(tx: Transaction, grantee: Grantee) -> str | None:
    """Of the app or person a grant names: None if there never was one, nothing of someone who has been erased.

    Nothing for a group and for everyone, too: the sentence finds its own words for them.
    """
    match grantee.type:
        case "app":
            app = tx.app(grantee.id)
            return app.name if app is not None else None
        case "person":
            person = tx.person(grantee.id)
            return person.display_name if person is not None else "" if tx.erased(grantee.id) else None
        case "group" | "everyone":
            return ""


def _grantee_name(service: Service, grantee: Grantee) -> str:
    """Raises a 400 problem for an app or person that there never was."""
    with service.ledger.reading() as tx:
        name = grantee_name(tx, grantee)
    if name is None:
        raise problem(
            400,
            "grant.unknown_grantee",
            f"there is no {grantee.type} `{grantee.id}`",
            "check the id",
        )
    return name


ROUTES = [preview_grant, create_grant, list_grants, get_grant, import_grants, revoke_grant]
