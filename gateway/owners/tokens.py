"""Letting an app ask in one's name: a person gives it a token, and it sends it along with each request.

Grants to a person, and to the people somebody approves of, count for an app only while it holds such a token. It is
256 random bits, bound to one app, shown once and kept as its SHA-256; it opens nothing else, and signs nothing. It is
given out only shortly after signing in: whoever stole a session must not be left with something that outlives it.
"""

import secrets
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from litestar import Request, delete, get, post
from pydantic import Field

from gateway.access import JSON_BYTES, person_of
from gateway.problems import problem
from gateway.service import Service
from ledger.consent.grant import Strict, zulu
from ledger.ids import AppId, PersonId
from ledger.store.tokens import Token
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
HEADER = "x-countersign-person"
PURPOSE = "speak"


class TokenIn(Strict):
    app_id: Annotated[str, Field(max_length=64)]
    days: Annotated[int, Field(ge=1, le=90)] = 30


@post("/v1/tokens", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def create_token(request: Ask, service: Service, data: TokenIn) -> dict[str, Any]:
    """A token with which an app speaks for me for so many days. It is shown this once."""
    person_id, at = person_of(request, service, lately=True), service.clock()
    secret = f"cs_person_{secrets.token_urlsafe(32)}"
    token = Token(
        hash=_hash(secret),
        purpose=PURPOSE,
        person_id=person_id,
        created_at=int(at.timestamp()),
        expires_at=int((at + timedelta(days=data.days)).timestamp()),
        holder=data.app_id,
    )

    def operation(tx: Transaction) -> dict[str, Any]:
        told = _told(tx, token)
        if told["app_name"] is None:
            raise problem(400, "token.app", f"there is no app `{data.app_id[:40]}`", "check the app's id")
        tx.add_token(token)
        return told

    return {"token": secret, **service.ledger.transact(operation)}


@get("/v1/tokens", sync_to_thread=True)
def list_tokens(request: Ask, service: Service) -> dict[str, Any]:
    """Which apps may speak for me, and until when."""
    return tokens(service, person_of(request, service))


def tokens(service: Service, person_id: PersonId) -> dict[str, Any]:
    with service.ledger.reading() as tx:
        held = tx.tokens(person_id, PURPOSE, at=service.clock())
        return {"tokens": [_told(tx, one) for one in held]}


@delete("/v1/tokens/{token_id:str}", status_code=204, sync_to_thread=True)
def delete_token(request: Ask, service: Service, token_id: str) -> None:
    """Take a token back, at once."""
    person_id, at = person_of(request, service), service.clock()

    def operation(tx: Transaction) -> bool:
        found = [one for one in tx.tokens(person_id, PURPOSE, at=at) if one.hash.hex() == token_id]
        for one in found:
            tx.drop_token(one.hash)
        return bool(found)

    if not service.ledger.transact(operation):
        raise problem(404, "token.unknown", "you have no such token", "look at your list of tokens")


def speaks_for(request: Ask, service: Service, app_id: AppId) -> PersonId | None:
    """Whom the app asks for, if it says so. Raises a 401 problem unless that person gave this app the token."""
    secret = request.headers.get(HEADER)
    if secret is None:
        return None
    with service.ledger.reading() as tx:
        token = tx.token(_hash(secret), PURPOSE, at=service.clock())
    if token is None or token.holder != app_id:
        raise problem(
            401,
            "access.person_token",
            f"the header `{HEADER}` holds no token that lets this app speak for a person now",
            "ask the person for a new one, or leave the header out",
        )
    return token.person_id


def _told(tx: Transaction, token: Token) -> dict[str, Any]:
    app = tx.app(token.holder)
    return {
        "id": token.hash.hex(),
        "app_id": token.holder,
        "app_name": app.name if app is not None else None,
        "created_at": zulu(datetime.fromtimestamp(token.created_at, UTC)),
        "expires_at": zulu(datetime.fromtimestamp(token.expires_at, UTC)),
    }


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


ROUTES = [create_token, list_tokens, delete_token]
