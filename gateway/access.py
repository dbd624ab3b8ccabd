"""Who is asking: apps, operators and auditors by API key, people by a session that their key opened.

API keys, session tokens and recovery codes are random, of 100 bits or more, and stored as SHA-256: a stolen database
opens nothing. A session cookie is HttpOnly and SameSite=Strict, and a request that changes anything must come from
our own pages: a browser says where it comes from (`Origin`, `Sec-Fetch-Site`), and what it says must be us. A session
ends when it was not used for a while, and after its longest life.

Whoever signed in with a recovery code has no session but a token, good for one purpose: what does not ask for it by
`recovered=True` does not know it.
"""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from litestar import Request
from litestar.datastructures import Cookie

from gateway.problems import problem
from gateway.service import Service
from ledger.consent import fold
from ledger.ids import AppId, PersonId, new_id
from ledger.store.accounts import Session
from ledger.store.records import App, KeyHolder
from ledger.store.tokens import Token
from ledger.store.transaction import Transaction

Role = Literal["app", "operator", "auditor"]
Ask = Request[Any, Any, Any]
JSON_BYTES = 64 << 10
"""Statements are small; what is larger is refused before it is parsed."""
RECOVERED_S = 900
"""How long a sign-in by recovery code lasts."""
LATELY_S = 900
"""How long after signing in a session may do what gives something away without a signature of its own."""
_RECOVERED = "recovered"
_SAFE = {"GET", "HEAD", "OPTIONS"}


# -- apps, operators, auditors -----------------------------------------------------------------------------


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
        tx.add_key(hash_of(secret), KeyHolder(role, holder), hint=secret[-6:], at=at)
        return holder

    return secret, service.ledger.transact(operation)


def revoke_key(service: Service, hint: str) -> int:
    """Revoke the keys ending in `hint`. Returns how many."""
    at = int(service.clock().timestamp())
    return service.ledger.transact(lambda tx: tx.revoke_keys(hint, at))


def holder(request: Ask, service: Service, role: Role) -> str:
    """Whose API key this is. Raises a 401 problem for no key, a wrong one, a revoked one, or another role's."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        with service.ledger.reading() as tx:
            found = tx.key_holder(hash_of(secret))
        if found is not None and found.role == role:
            return found.holder
    raise problem(
        401, "access.key", f"this needs the API key of an {role}", f"send `Authorization: Bearer cs_{role}_…`"
    )


def app_of(request: Ask, service: Service) -> AppId:
    return AppId(holder(request, service, "app"))


# -- people ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in. `opened`: with which session; None after a sign-in by recovery code."""

    person_id: PersonId
    token_hash: bytes
    opened: Session | None

    @property
    def recovered(self) -> bool:
        return self.opened is None


def cookie_name(service: Service) -> str:
    """`__Host-` (RFC 6265bis §4.1.3.2): no other host of the domain can set it. Browsers take it over https alone."""
    return f"{'__Host-' if _secure(service) else ''}countersign_session"


def cookie(service: Service, token: str, *, life_s: int) -> Cookie:
    return Cookie(
        key=cookie_name(service),
        value=token,
        httponly=True,
        samesite="strict",
        secure=_secure(service),
        path="/",
        max_age=life_s,
    )


def _secure(service: Service) -> bool:
    return service.settings.url.startswith("https:")


def open_session(tx: Transaction, request: Ask, service: Service, person_id: PersonId, key_id: str) -> Cookie:
    """A new session, opened with a key that just signed. The cookie is the only place its token ever is.

    Raises a 403 problem for somebody who has died.
    """
    _refuse_estate(tx, person_id)
    at, token = int(service.clock().timestamp()), secrets.token_urlsafe(32)
    longest = service.settings.session_hours * 3600
    tx.forget_sessions(at=at)
    tx.open_session(
        Session(
            hash=hash_of(token),
            person_id=person_id,
            key_id=key_id,
            agent=called(request.headers.get("user-agent", "")),
            created_at=at,
            expires_at=at + min(longest, service.settings.idle_minutes * 60),
        )
    )
    return cookie(service, token, life_s=longest)


def open_recovery(tx: Transaction, service: Service, person_id: PersonId) -> Cookie:
    """What a recovery code opens, for 15 minutes: enough to add a passkey. Raises as :func:`open_session` does."""
    _refuse_estate(tx, person_id)
    at, token = int(service.clock().timestamp()), secrets.token_urlsafe(32)
    tx.add_token(Token(hash_of(token), _RECOVERED, person_id, at, at + RECOVERED_S))
    return cookie(service, token, life_s=RECOVERED_S)


def _refuse_estate(tx: Transaction, person_id: PersonId) -> None:
    """Who holds a dead person's keys is not that person. Told only to whoever signed with one."""
    if tx.standing(person_id).executor is not None:
        raise problem(
            403,
            "access.estate",
            "an executor acts for this person, who has died: nobody signs in as them",
            "as their executor, sign in as yourself; if this is a mistake, tell the operator of this service",
        )


def signed_in(request: Ask, service: Service, *, recovered: bool = False) -> SignedIn:
    """Who is signed in. Raises a 401 problem; 403 for a change asked for by another site's page.

    `recovered`: whether somebody who signed in with a recovery code may do this, too.
    """
    refuse_other_sites(request, service)
    token, now = request.cookies.get(cookie_name(service), ""), service.clock()
    hashed, at = hash_of(token), int(now.timestamp())
    with service.ledger.reading() as tx:
        opened = tx.signed_in(hashed, at=at) if token else None
        by_code = tx.token(hashed, _RECOVERED, at=now) if token and opened is None else None
    if opened is not None and at < (end := opened.created_at + service.settings.session_hours * 3600):
        _keep(service, opened, at=at, end=end)
        return SignedIn(opened.person_id, hashed, opened)
    if by_code is None:
        raise problem(401, "access.session", "you are not signed in", "sign in with your device")
    if not recovered:
        raise problem(
            403,
            "access.recovered",
            "signed in with a recovery code you can only add a passkey, take a grant back, and sign out",
            "add a passkey, then sign in with it",
        )
    return SignedIn(by_code.person_id, hashed, None)


def _keep(service: Service, opened: Session, *, at: int, end: int) -> None:
    """Move a session's end on, once a tenth of the time without use is over: not every request writes."""
    idle = service.settings.idle_minutes * 60
    until = min(end, at + idle)
    if until - opened.expires_at > idle // 10:
        service.ledger.transact(lambda tx: tx.extend_session(opened.hash, expires_at=until))


def person_of(request: Ask, service: Service, *, recovered: bool = False, lately: bool = False) -> PersonId:
    """Whose session this is; as :func:`signed_in`, and as :func:`refuse_old` where it must be one of `lately`."""
    here = signed_in(request, service, recovered=recovered)
    if lately:
        refuse_old(service, here)
    return here.person_id


def refuse_old(service: Service, here: SignedIn) -> None:
    """Raises a 403 problem, `access.again`, unless a key opened this session just now: it may be stolen since."""
    opened, at = here.opened, int(service.clock().timestamp())
    if opened is None or at - opened.created_at >= LATELY_S:
        raise problem(
            403,
            "access.again",
            "you signed in a while ago, and this gives somebody more than they have",
            "sign in once more, then do it again",
        )


@dataclass(frozen=True, slots=True)
class Acting:
    """Who is signed in, about whose likeness they ask, and as what they may."""

    actor: PersonId
    owner: PersonId
    role: fold.Role


def acting(
    request: Ask,
    service: Service,
    *,
    may: Collection[fold.Role] = get_args(fold.Role),
    recovered: bool = False,
    lately: bool = False,
) -> Acting:
    """For whom the person signed in acts: themselves, or whom the query parameter `for` names.

    A guardian acts for a minor, an executor for somebody who has died; `may` says which of them may do this. Raises
    403 `access.not_for_them`, for somebody who does not exist as well. `lately`: as :func:`person_of`.
    """
    actor = person_of(request, service, recovered=recovered, lately=lately)
    named = request.query_params.get("for")
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


def refuse_other_sites(request: Ask, service: Service) -> None:
    """Raises 403 for a change that a page of another site asked for; `null` is another site.

    Signing someone in is a change too: they would act, and sign, in a session that is not theirs.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    ours = origin in {None, service.settings.url} and site in {None, "same-origin"}
    if request.method not in _SAFE and not ours:
        raise problem(
            403,
            "access.origin",
            "this request comes from another site's page",
            f"use this service's own pages, at {service.settings.url}",
        )


def called(agent: str) -> str:
    """What a browser calls itself, in words its owner would use."""
    browsers = {
        "Edg": "Edge",
        "OPR/": "Opera",
        "Firefox/": "Firefox",
        "FxiOS": "Firefox",
        "Chrome/": "Chrome",
        "CriOS": "Chrome",
        "Safari/": "Safari",
    }
    systems = {
        "iPhone": "iPhone",
        "iPad": "iPad",
        "Android": "Android",
        "Windows": "Windows",
        "Mac OS": "Mac",
        "CrOS": "Chromebook",
        "Linux": "Linux",
    }
    found = [
        next((name for mark, name in names.items() if mark in agent), "") for names in (browsers, systems)
    ]
    return ", ".join(filter(None, found)) or agent[:40]


def session_statement(person_id: str, nonce: str) -> bytes:
    """What a key signs to open a session (tag ``countersign/session/v1``); no person where a passkey says who it is."""
    return f"{person_id}\n{nonce}".encode()


def hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
