"""What a person does with their own likeness: sign in, grant, watch, take back. And the operator who vouches.

A session is enough to revoke; granting needs the device's signature over the very bytes shown.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from litestar import Request, Response, delete, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import Cookie, UploadFile
from pydantic import Field, ValidationError

from gateway.access import COOKIE, holder, login, login_nonce, logout, person_of, refuse_other_sites
from gateway.audit import proof_of
from gateway.problems import problem, refused
from gateway.service import Service
from ledger.canonical import challenge, sha256
from ledger.consent.grant import (
    SCHEMA,
    Action,
    Approval,
    Audience,
    Context,
    Grantee,
    Modality,
    Purpose,
    RevocationEffect,
    Strict,
    check_signable,
    parse_grant,
    sentence,
)
from ledger.consent.registry import (
    SignedGrant,
    certificate,
    erase,
    record_grant,
    record_grants,
    revoke,
)
from ledger.consent.statement import GRANT_TAG, DeviceSignature, encode_key
from ledger.errors import InvalidStatement
from ledger.ids import CameoId, GrantId, PersonId, new_id
from ledger.store.transaction import Transaction
from safety.enrolment import enrol_vouched
from safety.gate import Denied
from safety.policy.facts import ListFacts, ReaderFacts

Ask = Request[Any, Any, Any]
NOTICE = "Your face is used only as this grant says. Every use and every refusal is on your timeline."
NOTICE_VERSION = "2026-11"
IMPORT_LINES = 20_000
JSON_BYTES = 64 << 10
"""Statements are small; what is larger is refused before it is parsed."""


# Enrolment --------------------------------------------------------------------------------------------


@post("/v1/cameos/vouched", status_code=201)
async def enrol(request: Ask, service: Service) -> dict[str, str]:
    """An operator enrols someone they saw. Form fields: `statement` (JSON), `evidence` (JSON), file `picture`."""
    await sync_to_thread(holder, request, service, "operator")
    form = await request.form()
    picture = form.get("picture")
    if not isinstance(picture, UploadFile):
        raise problem(
            400, "request.picture", "the file `picture` is missing", "send an image or a short video"
        )
    content = await picture.read()
    return await sync_to_thread(_enrol, service, form.get("statement"), form.get("evidence"), content)


def _enrol(service: Service, statement: object, evidence: object, content: bytes) -> dict[str, str]:
    with TemporaryDirectory(prefix="enrol-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "picture"
        path.write_bytes(content)
        person_id, cameo_id = enrol_vouched(
            service.ledger, _json(statement, "statement"), _evidence(evidence), path, at=service.clock()
        )
    return {"person_id": person_id, "cameo_id": cameo_id, "status": "active", "path": "vouched"}


# Sessions ---------------------------------------------------------------------------------------------


class ChallengeIn(Strict):
    person_id: Annotated[str, Field(max_length=64)]


class SessionIn(Strict):
    person_id: Annotated[str, Field(max_length=64)]
    nonce: Annotated[str, Field(max_length=64)]
    evidence: DeviceSignature


@post("/v1/sessions/challenge", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def session_challenge(service: Service, data: ChallengeIn) -> dict[str, str]:
    """A nonce for the person's device to sign (tag `countersign/session/v1`)."""
    return {"nonce": login_nonce(service, data.person_id)}


@post("/v1/sessions", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def open_session(request: Ask, service: Service, data: SessionIn) -> Response[dict[str, str]]:
    """Sign in: the cookie is HttpOnly, SameSite=Strict."""
    refuse_other_sites(request, service)
    token = login(service, data.person_id, data.nonce, data.evidence)
    cookie = Cookie(
        key=COOKIE,
        value=token,
        httponly=True,
        samesite="strict",
        secure=service.settings.url.startswith("https:"),
        path="/",
        max_age=service.settings.session_hours * 3600,
    )
    return Response({"person_id": data.person_id}, cookies=[cookie])


@delete("/v1/sessions", status_code=204, sync_to_thread=True)
def close_session(request: Ask, service: Service) -> None:
    """Sign out."""
    person_of(request, service)
    logout(service, request.cookies[COOKIE])


# Grants -----------------------------------------------------------------------------------------------


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
    language: str = "en"


class GrantIn(Strict):
    grant: dict[str, Any]
    evidence: DeviceSignature


@post("/v1/grants/preview", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def preview_grant(request: Ask, service: Service, data: GrantDraft) -> dict[str, Any]:
    """The exact grant to sign, its canonical bytes, what they say in words, and the challenge."""
    person_id = person_of(request, service)
    at = service.clock().replace(microsecond=0)
    chosen = data.model_dump(mode="json", exclude={"days"})
    grant = parse_grant(
        {
            **chosen,
            "schema": SCHEMA,
            "grant_id": new_id("grant"),
            "grantor": person_id,
            "issued": _z(at),
            "starts": _z(at),
            "expires": _z(at + timedelta(days=data.days)),
            "notice": {"sha256": sha256(NOTICE.encode()).hex(), "version": NOTICE_VERSION},
        }
    )
    check_signable(grant, at=at)
    signed = grant.signed_bytes()
    return {
        "grant": json.loads(signed),
        "canonical": signed.decode(),
        "challenge": encode_key(challenge(GRANT_TAG, signed)),
        "sentence": sentence(grant, _grantee_name(service, grant.grantee)),
        "notice": NOTICE,
    }


@post("/v1/grants", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def create_grant(request: Ask, service: Service, data: GrantIn) -> dict[str, Any]:
    """Record a signed grant."""
    person_id = person_of(request, service)
    grant, index = record_grant(service.ledger, person_id, data.grant, data.evidence, at=service.clock())
    return {
        "grant_id": grant.grant_id,
        "index": index,
        "sentence": sentence(grant, _grantee_name(service, grant.grantee)),
    }


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
    person_id, at = person_of(request, service), service.clock()
    with service.ledger.reading() as tx:
        standing = tx.standing(person_id)
    grants = [
        {
            "grant_id": held.grant.grant_id,
            "sentence": sentence(held.grant, _grantee_name(service, held.grant.grantee)),
            "live": held.live(at),
            "uses": len(held.uses),
            "uses_left": held.uses_left,
            "expires": _z(held.grant.expires),
            "revoked_at": held.revoked_at,
        }
        for held in standing.grants.values()
    ]
    return {"grants": grants}


class RevokeIn(Strict):
    effect: RevocationEffect | None = None


@post(
    "/v1/grants/{grant_id:str}/revoke", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES
)
def revoke_grant(
    request: Ask, service: Service, grant_id: str, data: RevokeIn | None = None
) -> dict[str, Any]:
    """Take a grant back: instantly, for good, without a signature."""
    person_id = person_of(request, service)
    effect = data.effect if data else None
    index = revoke(service.ledger, person_id, GrantId(grant_id), effect, at=service.clock())
    return {"grant_id": grant_id, "revoked": True, "index": index}


@get("/v1/cameos/{cameo_id:str}/uses", sync_to_thread=True)
def my_uses(
    request: Ask, service: Service, cameo_id: str, proof: bool = False, since: int = 0
) -> dict[str, Any]:
    """Everything recorded about my likeness. With `proof`, one file that shows it to be everything.

    `since`: the size of the log at your last visit; the proof then shows that it only grew.
    """
    person_id = _own(request, service, cameo_id)
    _permitted(service, service.gate.may_read, person_id, cameo_id)
    if proof:
        return proof_of(service, person_id, CameoId(cameo_id), since=since)
    with service.ledger.reading() as tx:
        entries = [
            {"index": one.index, "kind": one.kind, "body": dict(one.body)} for one in tx.entries(person_id)
        ]
    return {"cameo_id": cameo_id, "entries": entries}


class EraseIn(Strict):
    confirm: Annotated[str, Field(max_length=64)]
    """The id of the likeness, once more: this cannot be undone."""


@post(
    "/v1/cameos/{cameo_id:str}/erase", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES
)
def erase_cameo(request: Ask, service: Service, cameo_id: str, data: EraseIn) -> dict[str, Any]:
    """Destroy my likeness and everything recorded about me. Answers with a certificate, and my last whole list.

    Whoever keeps neither can never again show what was recorded: we can not either.
    """
    person_id = _own(request, service, cameo_id)
    if data.confirm != cameo_id:
        raise problem(
            400,
            "erasure.confirm",
            "the field `confirm` is not the id of this likeness",
            "send its id to confirm; download /v1/cameos/{id}/uses?proof=true first if you want your list",
        )
    _permitted(service, service.gate.may_erase, person_id, cameo_id)
    last = proof_of(service, person_id, CameoId(cameo_id))
    erased = erase(service.ledger, person_id, CameoId(cameo_id), at=service.clock())
    for key in erased.objects:
        service.objects.delete(key)
    return {"certificate": certificate(service.ledger, erased), "last_list": last}


def _permitted(
    service: Service,
    question: Callable[[Transaction, ReaderFacts, ListFacts], Denied | None],
    person_id: PersonId,
    cameo_id: str,
) -> None:
    """That the policies let a person do this with their own list. Raises a 403 problem."""
    reader, about = ReaderFacts(person_id, "owner"), ListFacts(CameoId(cameo_id), own=True, recorded=False)
    with service.ledger.reading() as tx:
        denied = question(tx, reader, about)
    if denied is not None:
        raise refused(denied)


def _own(request: Ask, service: Service, cameo_id: str) -> PersonId:
    """The person signed in, whose likeness this is."""
    person_id = person_of(request, service)
    with service.ledger.reading() as tx:
        if tx.owner(CameoId(cameo_id)) != person_id:
            raise problem(404, "cameo.unknown", f"you have no likeness `{cameo_id[:40]}`", "check the id")
    return person_id


def _grantee_name(service: Service, grantee: Grantee) -> str:
    """How the sentence names who may use the likeness."""
    if grantee.type == "everyone":
        return "Everyone"
    with service.ledger.reading() as tx:
        app = tx.app(grantee.id)
    if app is None:
        raise problem(400, "grant.unknown_grantee", f"there is no app `{grantee.id}`", "check the id")
    return app.name


def _evidence(value: object) -> DeviceSignature:
    try:
        return DeviceSignature.model_validate(_json(value, "evidence"))
    except ValidationError as error:
        raise problem(
            400, "request.evidence", "the field `evidence` is not a device signature", "sign again"
        ) from error


def _json(value: object, name: str) -> Any:
    try:
        return json.loads(str(value))
    except ValueError as error:
        raise problem(
            400, f"request.{name}", f"the field `{name}` is not JSON", "send it as JSON text"
        ) from error


def _z(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
