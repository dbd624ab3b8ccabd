"""Accounts: opened with a passkey and nothing else, and what a person sees of their own.

Nobody under 13 opens one. The date of birth that is asked for is what they say: it lets nobody do anything, is
compared with that age, and forgotten. Whoever was refused is not asked again from the same browser for an hour.
"""

import json
import secrets
import unicodedata
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Annotated, Any

from litestar import Request, Response, get, patch, post
from litestar.datastructures import Cookie
from pydantic import AfterValidator, Field

from gateway import throttle
from gateway.access import (
    JSON_BYTES,
    SignedIn,
    called,
    cookie,
    open_session,
    refuse_other_sites,
    signed_in,
)
from gateway.owners.sessions import PRIVATE, new_codes, new_nonce, rp_id, session_id
from gateway.problems import Problem, problem
from gateway.service import Service
from ledger.consent import passkey
from ledger.consent.authority import YOUNGEST_YEARS
from ledger.consent.fold import Standing, birthday
from ledger.consent.grant import Strict, zulu
from ledger.consent.statement import decode_bytes, encode_key
from ledger.errors import InvalidStatement
from ledger.ids import PersonId, new_id
from ledger.reasons import Reason
from ledger.store.accounts import Session
from ledger.store.captures import Capture
from ledger.store.journal import About
from ledger.store.records import Credential, Person
from ledger.store.transaction import Transaction
from safety.prompt import people

Ask = Request[Any, Any, Any]


def _readable(name: str) -> str:
    """What a person is called: no control characters, and none that turn the text around them."""
    if not name.strip() or any(unicodedata.category(one) == "Cc" or one in _TURNING for one in name):
        raise ValueError("it is not a name that can be shown")
    return name.strip()


_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_readable)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")]
YOUNG_S = 3600
_YOUNG = throttle.Limit("too_young", 1, YOUNG_S)
_YOUNG_COOKIE = "countersign_age"


# -- opening one -------------------------------------------------------------------------------------------


class AccountIn(Strict):
    display_name: Name
    language: Language = "en"
    born_on: Annotated[date, Field(ge=date(1880, 1, 1), le=date(2200, 1, 1))]
    """What the person says. Not kept."""


class RegistrationIn(Strict):
    nonce: Annotated[str, Field(max_length=64)]
    response: dict[str, Any]
    """RegistrationResponseJSON, as `credential.toJSON()` gives it."""


@post("/v1/accounts/options", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def account_options(request: Ask, service: Service, data: AccountIn) -> Response[dict[str, Any]]:
    """What to make a passkey with (`PublicKeyCredentialCreationOptionsJSON`), for an account yet to be opened."""
    refuse_other_sites(request, service)
    name, here = rp_id(service), throttle.address(request, service)
    throttle.attempt(service, throttle.accounts(service), here)
    if not _old_enough(request, service, data.born_on, here):
        raise _too_young(service)
    nonce, handle = encode_key(secrets.token_bytes(32)), secrets.token_bytes(32)
    detail = {
        "display_name": data.display_name,
        "language": data.language,
        "handle": encode_key(handle),
    }
    new_nonce(service, "", purpose="account", detail=json.dumps(detail), nonce=nonce)
    options = passkey.creation_options(
        rp_id=name, handle=handle, name=data.display_name, challenge=decode_bytes(nonce, 32)
    )
    return Response({"nonce": nonce, "options": options}, headers=PRIVATE)


def _old_enough(request: Ask, service: Service, born_on: date, here: str) -> bool:
    at = service.clock()
    # The address alone would refuse a whole household; a cookie alone is deleted at once.
    browser = sha256(f"{here}\n{request.headers.get('user-agent', '')}".encode()).hexdigest()[:32]
    with service.ledger.reading() as tx:
        refused = tx.tally(f"{_YOUNG.name}/{browser}", at=at) > 0
    if birthday(born_on, YOUNGEST_YEARS) > at.date():
        service.ledger.transact(lambda tx: tx.count(f"{_YOUNG.name}/{browser}", at=at, life_s=YOUNG_S))
        return False
    return not refused and _YOUNG_COOKIE not in request.cookies


def _too_young(service: Service) -> Problem:
    remembered = cookie(service, "1", life_s=YOUNG_S)
    remembered.key = _YOUNG_COOKIE
    return Problem(
        403,
        Reason(
            "account.too_young",
            f"accounts are for people of {YOUNGEST_YEARS} and older",
            "ask a parent or guardian: an operator can enrol a child together with them",
        ),
        headers={"set-cookie": remembered.to_header(header="")},
    )


@post("/v1/accounts", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def create_account(request: Ask, service: Service, data: RegistrationIn) -> Response[dict[str, Any]]:
    """Open an account with the passkey just made. Signs in, and shows ten recovery codes, this once."""
    refuse_other_sites(request, service)
    throttle.attempt(service, throttle.accounts(service), throttle.address(request, service))
    outcome = service.ledger.transact(lambda tx: _open(tx, request, service, data))
    if isinstance(outcome, InvalidStatement):
        raise outcome
    person_id, codes, opened = outcome
    return Response({"person_id": person_id, "recovery_codes": codes}, cookies=[opened], headers=PRIVATE)


def _open(
    tx: Transaction, request: Ask, service: Service, data: RegistrationIn
) -> tuple[PersonId, list[str], Cookie] | InvalidStatement:
    """The person, their first key and the log's entry of it, together. Uses up the challenge, also in vain."""
    at = service.clock()
    now = int(at.timestamp())
    detail = tx.take_nonce(data.nonce, "", at=now, purpose="account")
    if detail is None:
        return expired()
    try:
        made = new_key(tx, service, data)
    except InvalidStatement as refused:
        return refused
    asked, person_id = json.loads(detail), PersonId(new_id("person"))
    handle = decode_bytes(asked["handle"], 32)
    person = Person(person_id, asked["display_name"], now, asked["language"], handle)
    first = credential(request, service, person_id, made)
    tx.add_person(person, first)
    body = {"key": first.signer.model_dump(), "list_key": tx.held(person_id).list_key_digest}
    tx.append("account", person_id, [About(person_id, "owner", body)], at=at)
    codes = new_codes(tx, person_id, at=now)
    return person_id, codes, open_session(tx, request, service, person_id, first.id)


def expired() -> InvalidStatement:
    return InvalidStatement("passkey.challenge", "this took too long, or was already answered", "start again")


def new_key(tx: Transaction, service: Service, data: RegistrationIn) -> passkey.Registered:
    """The passkey that was made for this challenge, if nobody has it yet. Raises InvalidStatement."""
    made = passkey.register(
        data.response,
        challenge=decode_bytes(data.nonce, 32),
        rp_id=service.settings.rp_id,
        origin=service.settings.url,
    )
    if tx.credential(made.credential_id) is not None:
        raise InvalidStatement("passkey.taken", "this passkey is already in use here", "sign in with it")
    return made


def credential(
    request: Ask, service: Service, person_id: PersonId, made: passkey.Registered, name: str = ""
) -> Credential:
    return Credential(
        made.credential_id,
        person_id,
        "passkey",
        made.public_key,
        created_at=int(service.clock().timestamp()),
        rp_id=service.settings.rp_id,
        origin=service.settings.url,
        name=name or called(request.headers.get("user-agent", "")),
        sign_count=made.sign_count,
    )


# -- looking at it -----------------------------------------------------------------------------------------


def me(service: Service, here: SignedIn) -> dict[str, Any]:
    """Everything about the account of whoever is signed in."""
    at, person_id = service.clock(), here.person_id
    now = int(at.timestamp())
    with service.ledger.reading() as tx:
        person, standing = tx.person(person_id), tx.standing(person_id)
        if person is None:
            raise problem(401, "access.session", "you are not signed in", "sign in with your device")
        others = tx.people_of(person_id)
        return {
            "person_id": person_id,
            "display_name": person.display_name,
            "language": person.language,
            "cameo_id": standing.cameo_id,
            "likeness": _likeness(standing, tx.newest_capture(person_id), at),
            "usable_from": zulu(standing.usable_from)
            if standing.usable_from is not None and standing.active and standing.cooling_off(at)
            else None,
            "minor": standing.minor(at),
            "age_known": any(age.minor(at) is not None for age in standing.ages),
            "guardians": [
                {
                    **_named(tx, guardian),
                    "with_adults": held.guardianship.with_adults,
                    "max_uses": held.guardianship.max_uses,
                }
                for guardian, held in standing.guardians.items()
            ],
            "wards": [
                _named(tx, other)
                for other, role in others.items()
                if role == "guardian" and tx.standing(other).minor(at)
            ],
            "estates": [_named(tx, other) for other, role in others.items() if role == "executor"],
            "passkeys": [_key(one, here.opened) for one in tx.credentials(person_id)],
            "recovery_codes_left": tx.recovery_codes_left(person_id),
            "sessions": [_session(one, here) for one in tx.sessions(person_id, at=now)],
            "recovered": here.recovered,
        }


def _likeness(standing: Standing, capture: Capture | None, at: datetime) -> str:
    if standing.erased:
        return "erased"
    if standing.active:
        return "active" if standing.in_use(at) else "waiting_handover"
    return (
        capture.status if capture is not None and capture.status in {"pending_review", "refused"} else "none"
    )


def _named(tx: Transaction, person_id: PersonId) -> dict[str, str]:
    person = tx.person(person_id)
    return {"person_id": person_id, "name": person.display_name if person else ""}


def _key(key: Credential, opened: Session | None) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "kind": key.kind,
        "created_at": _moment(key.created_at),
        "used_at": _moment(key.used_at) if key.used_at is not None else None,
        "current": opened is not None and opened.key_id == key.id,
    }


def _session(opened: Session, here: SignedIn) -> dict[str, Any]:
    return {
        "id": session_id(opened.hash),
        "agent": opened.agent,
        "created_at": _moment(opened.created_at),
        "current": opened.hash == here.token_hash,
    }


def _moment(seconds: int) -> str:
    return zulu(datetime.fromtimestamp(seconds, UTC))


@get("/v1/me", sync_to_thread=True)
def get_me(request: Ask, service: Service) -> Response[dict[str, Any]]:
    """My account: who I am here, my keys, my sessions, and for whom I answer."""
    return Response(me(service, signed_in(request, service, recovered=True)), headers=PRIVATE)


class MeIn(Strict):
    display_name: Name | None = None
    language: Language | None = None


@patch("/v1/me", sync_to_thread=True, request_max_body_size=JSON_BYTES)
def change_me(request: Ask, service: Service, data: MeIn) -> Response[dict[str, Any]]:
    """Change what I am called, or the language I read."""
    here = signed_in(request, service)
    name, language = data.display_name, data.language

    def renamed(tx: Transaction) -> None:
        tx.rename(here.person_id, display_name=name, language=language)
        if name is not None:
            tx.name_cameo(here.person_id, people.key(name))

    service.ledger.transact(renamed)
    return Response(me(service, here), headers=PRIVATE)


ROUTES = [account_options, create_account, get_me, change_me]
