"""Signing in and out: a person opens a session with a key of theirs, or, having lost them all, with a recovery code.

A challenge is good for one try within five minutes. Nobody is asked for a name: a passkey says whose it is.
"""

import hashlib
import secrets
from typing import Annotated, Any

from litestar import Request, Response, delete, post
from litestar.datastructures import Cookie
from pydantic import Field

from gateway import throttle
from gateway.access import (
    JSON_BYTES,
    RECOVERED_S,
    cookie,
    hash_of,
    open_recovery,
    open_session,
    person_of,
    refuse_other_sites,
    session_statement,
    signed_in,
)
from gateway.problems import Problem, problem
from gateway.service import Service
from ledger.canonical import challenge
from ledger.consent import passkey
from ledger.consent.grant import Strict
from ledger.consent.statement import SESSION_TAG, Evidence, encode_key, verify
from ledger.errors import InvalidStatement
from ledger.ids import PersonId
from ledger.reasons import Reason
from ledger.store.records import Credential
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
NONCE_LIFE_S = 300
PRIVATE = {"cache-control": "no-store"}
_REFUSED = Reason("session.refused", "the sign-in did not work", "ask for a new challenge and sign that")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's: without the letters that are taken for digits or for each other."""


# -- challenges --------------------------------------------------------------------------------------------


def new_nonce(
    service: Service, person_id: str, *, purpose: str = "session", detail: str = "", nonce: str = ""
) -> str:
    """A challenge, good for one answer: 32 random bytes. Given for unknown ids too: it does not tell who is enrolled."""
    at, nonce = int(service.clock().timestamp()), nonce or encode_key(secrets.token_bytes(32))

    def operation(tx: Transaction) -> None:
        life = at + NONCE_LIFE_S
        tx.add_nonce(nonce, person_id, at=at, expires_at=life, purpose=purpose, detail=detail)

    service.ledger.transact(operation)
    return nonce


def rp_id(service: Service) -> str:
    """Raises a 503 problem where passkeys have nothing to be bound to."""
    if not service.settings.rp_id:
        raise problem(
            503,
            "passkey.no_name",
            f"passkeys work at a name, and this service is at `{service.settings.url}`",
            "set `COUNTERSIGN_BASE_URL` to an https address with a name in it",
        )
    return service.settings.rp_id


class ChallengeIn(Strict):
    person_id: Annotated[str, Field(max_length=64)]


@post("/v1/sessions/challenge", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def session_challenge(request: Ask, service: Service, data: ChallengeIn) -> dict[str, str]:
    """A nonce for the person's device to sign (tag `countersign/session/v1`)."""
    throttle.attempt(service, throttle.sign_ins(service), throttle.address(request, service))
    return {"nonce": new_nonce(service, data.person_id)}


@post("/v1/sessions/options", status_code=200, sync_to_thread=True)
def session_options(request: Ask, service: Service) -> dict[str, Any]:
    """What to ask a passkey for (`PublicKeyCredentialRequestOptionsJSON`): the person chooses the account."""
    name = rp_id(service)
    throttle.attempt(service, throttle.sign_ins(service), throttle.address(request, service))
    nonce = new_nonce(service, "")
    asked = challenge(SESSION_TAG, session_statement("", nonce))
    return {"nonce": nonce, "options": passkey.request_options(rp_id=name, challenge=asked)}


# -- in ----------------------------------------------------------------------------------------------------


class SessionIn(Strict):
    person_id: Annotated[str, Field(max_length=64)] = ""
    """Empty where the challenge was given to nobody in particular."""
    nonce: Annotated[str, Field(max_length=64)]
    evidence: Evidence


@post("/v1/sessions", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def create_session(request: Ask, service: Service, data: SessionIn) -> Response[dict[str, str]]:
    """Sign in: the cookie is HttpOnly, SameSite=Strict."""
    refuse_other_sites(request, service)
    throttle.attempt(service, throttle.sign_ins(service), throttle.address(request, service))
    # Used up whether or not the signature holds, so a refusal is returned and not raised: one challenge, one try.
    outcome = service.ledger.transact(lambda tx: _sign_in(tx, request, service, data))
    if isinstance(outcome, Problem):
        raise outcome
    person_id, opened = outcome
    return Response({"person_id": person_id}, cookies=[opened], headers=PRIVATE)


def _sign_in(
    tx: Transaction, request: Ask, service: Service, data: SessionIn
) -> tuple[PersonId, Cookie] | Problem:
    at = service.clock()
    taken = tx.take_nonce(data.nonce, data.person_id, at=int(at.timestamp()))
    key = tx.credential(data.evidence.key_id)
    if taken is None or key is None or data.person_id not in {"", key.person_id}:
        return Problem(401, _REFUSED)
    limit = throttle.failures(service)
    if tx.tally(f"{limit.name}/{key.person_id}", at=at) >= limit.times:
        return throttle.throttled(limit)
    try:
        signed_with(
            tx, SESSION_TAG, session_statement(data.person_id, data.nonce), data.evidence, [key], service
        )
    except InvalidStatement as refused:
        tx.count(f"{limit.name}/{key.person_id}", at=at, life_s=limit.span_s)
        return Problem(401, refused.reason)
    return key.person_id, open_session(tx, request, service, key.person_id, key.id)


def signed_with(
    tx: Transaction,
    tag: str,
    statement: bytes,
    evidence: Evidence,
    keys: list[Credential],
    service: Service,
) -> Credential:
    """The one of `keys` that signed this now; its counter moves on. Raises InvalidStatement."""
    by_id = {key.id: key for key in keys}
    last = by_id[evidence.key_id].sign_count if evidence.key_id in by_id else 0
    signers = [key.signer for key in keys]
    found = verify(tag, statement, evidence, signers=signers, sign_count=last)
    tx.credential_used(found.signer.id, found.sign_count, at=service.clock())
    return by_id[found.signer.id]


class CodeIn(Strict):
    code: Annotated[str, Field(min_length=20, max_length=40)]


@post("/v1/sessions/recover", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def recover(request: Ask, service: Service, data: CodeIn) -> Response[dict[str, Any]]:
    """Sign in with a recovery code, which is used up: for 15 minutes, to add a passkey and to take grants back."""
    refuse_other_sites(request, service)
    throttle.attempt(service, throttle.recoveries(service), throttle.address(request, service))

    def operation(tx: Transaction) -> tuple[PersonId, Cookie] | None:
        person_id = tx.take_recovery_code(hash_of(spelt(data.code)))
        return None if person_id is None else (person_id, open_recovery(tx, service, person_id))

    outcome = service.ledger.transact(operation)
    if outcome is None:
        raise problem(
            401,
            "session.recovery",
            "this recovery code is not good, or was used before",
            "check the letters, or use another one",
        )
    person_id, opened = outcome
    body = {"person_id": person_id, "recovered": True, "seconds": RECOVERED_S}
    return Response(body, cookies=[opened], headers=PRIVATE)


def new_codes(tx: Transaction, person_id: PersonId, *, at: int, count: int = 10) -> list[str]:
    """Fresh recovery codes of 100 random bits, to be shown once. Those given before are good no longer."""
    codes = [
        "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(4)) for _ in range(count)
    ]
    tx.set_recovery_codes(person_id, [hash_of(spelt(code)) for code in codes], at=at)
    return codes


def spelt(code: str) -> str:
    """A code as it was meant: however it was grouped, and whichever look-alike was typed."""
    letters = "".join(code.split()).replace("-", "").lower()
    return letters.translate(str.maketrans("oil", "011"))


# -- out ---------------------------------------------------------------------------------------------------


def session_id(token_hash: bytes) -> str:
    """What a person's list calls a session. Opens nothing."""
    return hashlib.sha256(b"countersign/session-id/v1\x00" + token_hash).hexdigest()[:32]


@delete("/v1/sessions", status_code=204, sync_to_thread=True)
def close_session(request: Ask, service: Service) -> Response[None]:
    """Sign out."""
    here = signed_in(request, service, recovered=True)

    def operation(tx: Transaction) -> None:
        tx.close_session(here.token_hash)
        tx.drop_token(here.token_hash)

    service.ledger.transact(operation)
    return Response(None, cookies=[cookie(service, "", life_s=0)])


@delete("/v1/sessions/others", status_code=204, sync_to_thread=True)
def close_other_sessions(request: Ask, service: Service) -> None:
    """Sign out everywhere else."""
    here = signed_in(request, service)
    service.ledger.transact(lambda tx: tx.close_sessions(here.person_id, but=here.token_hash))


@delete("/v1/sessions/{session:str}", status_code=204, sync_to_thread=True)
def close_one_session(request: Ask, service: Service, session: str) -> None:
    """Sign out somewhere else: `session` is the id that `/v1/me` lists."""
    end_session(service, person_of(request, service), session)


def end_session(service: Service, person_id: PersonId, session: str) -> None:
    """End one of a person's sessions. Raises a 404 problem for what is none of them."""
    at = int(service.clock().timestamp())

    def operation(tx: Transaction) -> bool:
        found = [one for one in tx.sessions(person_id, at=at) if session_id(one.hash) == session]
        for one in found:
            tx.close_session(one.hash)
        return bool(found)

    if not service.ledger.transact(operation):
        raise problem(
            404, "session.unknown", "you are not signed in there", "look at your list of sessions again"
        )


ROUTES = [
    session_challenge,
    session_options,
    create_session,
    recover,
    close_session,
    close_other_sessions,
    close_one_session,
]
