"""Who is asking: apps, operators and auditors by API key, people by a session their device opened.

Keys and session tokens are 256 random bits, stored as SHA-256: a stolen database opens nothing. A session cookie
is HttpOnly and SameSite=Strict, and a request that changes anything must come from our own pages (`Origin`).
"""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from litestar import Request

from gateway.problems import problem
from gateway.service import Service
from ledger.consent import fold
from ledger.consent.statement import SESSION_TAG, DeviceSignature, encode_key, verify
from ledger.errors import InvalidStatement
from ledger.ids import AppId, PersonId, new_id
from ledger.store.records import App, KeyHolder
from ledger.store.transaction import Transaction

Role = Literal["app", "operator", "auditor"]
JSON_BYTES = 64 << 10
"""Statements are small; what is larger is refused before it is parsed."""
COOKIE = "countersign_session"
NONCE_LIFE_S = 300


def create_key(service: Service, role: Role, name: str, *, public_key: str = "") -> tuple[str, str]:
    """A new API key, shown once, and the id of its holder.

    An operator also registers the key they sign with, and an app may: with it, it passes on grants that say so.
    """
    at = int(service.clock().timestamp())
    secret = f"cs_{role}_{secrets.token_urlsafe(32)}"

    def operation(tx: Transaction) -> str:
        holder = name
        match role:
            case "app":
                holder = new_id("app")
                tx.add_app(App(AppId(holder), name, created_at=at, public_key=public_key))
            case "operator":
                tx.register_operator(name, public_key)
            case "auditor":
                pass
        tx.add_key(_hash(secret), KeyHolder(role, holder), hint=secret[-6:], at=at)
        return holder

    return secret, service.ledger.transact(operation)


def revoke_key(service: Service, hint: str) -> int:
    """Revoke the keys ending in `hint`. Returns how many."""
    at = int(service.clock().timestamp())
    return service.ledger.transact(lambda tx: tx.revoke_keys(hint, at))


def holder(request: Request[Any, Any, Any], service: Service, role: Role) -> str:
    """Whose API key this is. Raises a 401 problem for no key, a wrong one, a revoked one, or another role's."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        with service.ledger.reading() as tx:
            found = tx.key_holder(_hash(secret))
        if found is not None and found.role == role:
            return found.holder
    raise problem(
        401, "access.key", f"this needs the API key of an {role}", f"send `Authorization: Bearer cs_{role}_…`"
    )


def app_of(request: Request[Any, Any, Any], service: Service) -> AppId:
    return AppId(holder(request, service, "app"))


def login_nonce(service: Service, person_id: str) -> str:
    """A challenge for a person's device. Given for unknown ids too: it does not tell who is enrolled."""
    at = int(service.clock().timestamp())
    nonce = encode_key(secrets.token_bytes(32))
    service.ledger.transact(lambda tx: tx.add_nonce(nonce, person_id, at=at, expires_at=at + NONCE_LIFE_S))
    return nonce


def login(service: Service, person_id: str, nonce: str, evidence: DeviceSignature) -> str:
    """Open a session for the person whose device signed the nonce. Returns the cookie's value."""
    at = int(service.clock().timestamp())
    token = secrets.token_urlsafe(32)

    def operation(tx: Transaction) -> bool:
        # Used up whether or not the signature holds, so this returns instead of raising: one challenge, one try.
        taken, person = tx.take_nonce(nonce, person_id, at=at), tx.person(person_id)
        if taken is None or person is None:
            return False
        try:
            signers = [one.signer for one in tx.credentials(person_id)]
            verify(SESSION_TAG, session_statement(person_id, nonce), evidence, signers=signers)
        except InvalidStatement:
            return False
        expires = at + service.settings.session_hours * 3600
        tx.open_session(_hash(token), person_id, expires_at=expires)
        return True

    if not service.ledger.transact(operation):
        raise problem(
            401, "session.refused", "the sign-in did not work", "ask for a new challenge and sign that"
        )
    return token


def session_statement(person_id: str, nonce: str) -> bytes:
    """What the device signs to open a session (tag ``countersign/session/v1``)."""
    return f"{person_id}\n{nonce}".encode()


def logout(service: Service, token: str) -> None:
    service.ledger.transact(lambda tx: tx.close_session(_hash(token)))


def person_of(request: Request[Any, Any, Any], service: Service) -> PersonId:
    """Whose session this is. Raises a 401 problem; 403 for a change asked for by another site's page."""
    refuse_other_sites(request, service)
    token, at = request.cookies.get(COOKIE, ""), int(service.clock().timestamp())
    with service.ledger.reading() as tx:
        person_id = tx.person_in_session(_hash(token), at=at) if token else None
    if person_id is None:
        raise problem(401, "access.session", "you are not signed in", "sign in with your device")
    return person_id


@dataclass(frozen=True, slots=True)
class Acting:
    """Who is signed in, about whose likeness they ask, and as what they may."""

    actor: PersonId
    owner: PersonId
    role: fold.Role


def acting(
    request: Request[Any, Any, Any], service: Service, *, may: Collection[fold.Role] = get_args(fold.Role)
) -> Acting:
    """For whom the person signed in acts: themselves, or whom the query parameter `for` names.

    A guardian acts for a minor, an executor for somebody who has died; `may` says which of them may do this. Raises
    403 `access.not_for_them`, for somebody who does not exist as well.
    """
    actor, named = person_of(request, service), request.query_params.get("for")
    owner = PersonId(named or actor)
    role: fold.Role | None = "owner" if owner == actor else _role(service, actor, owner)
    if role is None or role not in may:
        raise problem(
            403,
            "access.not_for_them",
            "you may not do this for this person",
            "sign in as they themselves, or as someone who answers for them",
        )
    return Acting(actor, owner, role)


def _role(service: Service, actor: PersonId, owner: PersonId) -> fold.Role | None:
    with service.ledger.reading() as tx:
        standing = tx.standing(owner) if tx.person(owner) else fold.Standing()
    if actor in standing.guardians:
        return "guardian" if standing.minor(service.clock()) else None
    return "executor" if standing.executor == actor else None


def refuse_other_sites(request: Request[Any, Any, Any], service: Service) -> None:
    """Signing someone in is a change too: they would act, and sign, in a session that is not theirs."""
    origin = request.headers.get("origin")
    if request.method not in {"GET", "HEAD"} and origin is not None and origin != service.settings.url:
        raise problem(
            403,
            "access.origin",
            "this request comes from another site's page",
            "use this service's own pages",
        )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
