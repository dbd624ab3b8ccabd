"""`/v1/grants/passed-on`: an app or agent gives others a part of what it was permitted itself, only ever narrower.

The person said so in the grant they signed, which names the app's key. The app signs with that key; what it passes
on counts on the person's list like any other permission, takes its uses from the one it comes from, and ends with it.
"""

from datetime import timedelta
from typing import Annotated, Any

from litestar import Request, post
from pydantic import Field

from gateway.access import JSON_BYTES, app_of
from gateway.owners.grants import to_sign
from gateway.problems import problem
from gateway.service import Service
from ledger.consent.grant import (
    Action,
    Audience,
    Context,
    Grant,
    Grantee,
    Modality,
    Purpose,
    Strict,
    beyond,
    check_signable,
    parse_grant,
    zulu,
)
from ledger.consent.registry import SignedGrant, record_grant
from ledger.consent.statement import DeviceSignature
from ledger.errors import InvalidStatement
from ledger.ids import AppId, CameoId, GrantId, PersonId, new_id

Ask = Request[Any, Any, Any]


class PassOn(Strict):
    """Whom to, and what less they may. What is left out stays as it is in the grant it comes from; one use, 30 days."""

    cameo_id: Annotated[str, Field(max_length=64)]
    parent: Annotated[str, Field(max_length=64)]
    grantee: Grantee
    max_uses: int = 1
    days: Annotated[int, Field(ge=1, le=3650)] = 30
    modalities: tuple[Modality, ...] | None = None
    purposes: tuple[Purpose, ...] | None = None
    allowed_contexts: tuple[Context, ...] | None = None
    forbidden_contexts: tuple[Context, ...] | None = None
    actions: tuple[Action, ...] | None = None
    audience: Audience | None = None
    jurisdictions: tuple[str, ...] | None = None


@post("/v1/grants/passed-on/preview", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def preview_passed_on(request: Ask, service: Service, data: PassOn) -> dict[str, Any]:
    """The exact narrower grant for the app to sign."""
    app_id, at = app_of(request, service), service.clock().replace(second=0, microsecond=0)
    _, above = _own(service, app_id, data.cameo_id, data.parent)
    chosen = data.model_dump(mode="json", exclude_none=True, exclude={"days", "cameo_id", "parent"})
    grant = parse_grant(
        {
            **above.model_dump(mode="json", by_alias=True),
            **chosen,
            "grant_id": new_id("grant"),
            "parent": above.grant_id,
            "delegate_key": None,
            "issued": zulu(at),
            "starts": zulu(max(at, above.starts)),
            "expires": zulu(min(max(at, above.starts) + timedelta(days=data.days), above.expires)),
        }
    )
    check_signable(grant, at=at)
    if wider := beyond(grant, above):
        raise InvalidStatement(
            "grant.wider",
            f"what is passed on allows more than the grant it comes from, in `{', '.join(wider)}`",
            "narrow it",
        )
    return to_sign(service, grant)


class PassedOnIn(Strict):
    grant: dict[str, Any]
    evidence: DeviceSignature


@post("/v1/grants/passed-on", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def pass_on(request: Ask, service: Service, data: PassedOnIn) -> dict[str, Any]:
    """Record a narrower grant that the app signed with its key. The person sees it, and can take it back."""
    app_id = app_of(request, service)
    grant = parse_grant(data.grant)
    owner, _ = _own(service, app_id, grant.cameo_id, grant.parent or "")
    signed = SignedGrant(owner, data.grant, data.evidence)
    _, index = record_grant(service.ledger, signed, at=service.clock())
    return {"grant_id": grant.grant_id, "index": index}


def _own(service: Service, app_id: AppId, cameo_id: str, parent: str) -> tuple[PersonId, Grant]:
    """Whose grant it is, and the grant, if this app may pass it on. Every other answer is the same 403."""
    with service.ledger.reading() as tx:
        owner, app = tx.owner(CameoId(cameo_id)), tx.app(app_id)
        held = tx.standing(owner).grants.get(GrantId(parent)) if owner is not None else None
    mine = held is not None and app is not None and bool(app.public_key)
    if owner is None or held is None or app is None or not mine or held.grant.delegate_key != app.public_key:
        raise problem(
            403,
            "grant.not_delegable",
            f"the grant `{parent[:40]}` does not stand, or this app may not pass it on",
            "ask the person for a grant that may be passed on",
        )
    return owner, held.grant


ROUTES = [preview_passed_on, pass_on]
