"""Signing in and out: a person opens a session with their own device."""

from typing import Annotated, Any

from litestar import Request, Response, delete, post
from litestar.datastructures import Cookie
from pydantic import Field

from gateway.access import COOKIE, JSON_BYTES, login, login_nonce, logout, person_of, refuse_other_sites
from gateway.service import Service
from ledger.consent.grant import Strict
from ledger.consent.statement import DeviceSignature

Ask = Request[Any, Any, Any]


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


ROUTES = [session_challenge, open_session, close_session]
