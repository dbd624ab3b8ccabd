"""The keys a person signs with: another one, one less; and codes for when they are all lost.

A stolen session must not become a key: whoever adds one signs for it with a key they already have, over a statement
(`countersign/device/v1`) that names the new one, and new recovery codes are signed for in the same way. Someone who
lost every key has a recovery code instead, and 15 minutes; their other sessions end then. Taking a key away needs a
session only, and ends what the key had opened; the last one stays.
"""

import json
import secrets
from typing import Annotated, Any

from litestar import Request, Response, delete, post
from pydantic import Field

from gateway.access import JSON_BYTES, SignedIn, session_statement, signed_in
from gateway.owners.accounts import Name, RegistrationIn, credential, expired, new_key
from gateway.owners.sessions import PRIVATE, new_codes, new_nonce, rp_id, signed_with
from gateway.problems import problem
from gateway.service import Service
from ledger.canonical import challenge
from ledger.consent import passkey
from ledger.consent.grant import Strict, zulu
from ledger.consent.statement import (
    DEVICE_TAG,
    RECOVERY_TAG,
    Evidence,
    KeyAddition,
    decode_bytes,
    encode_key,
)
from ledger.errors import InvalidStatement, LedgerError
from ledger.ids import PersonId
from ledger.store.journal import About
from ledger.store.records import Credential, Person
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]


# -- one more ----------------------------------------------------------------------------------------------


@post("/v1/passkeys/options", status_code=200, sync_to_thread=True)
def passkey_options(request: Ask, service: Service) -> Response[dict[str, Any]]:
    """First step: what to make the new passkey with (`PublicKeyCredentialCreationOptionsJSON`)."""
    name, here = rp_id(service), signed_in(request, service, recovered=True)
    person, keys = _account(service, here)
    handle = person.handle or secrets.token_bytes(32)
    nonce = new_nonce(service, here.person_id, purpose="passkey", detail=encode_key(handle))
    options = passkey.creation_options(
        rp_id=name,
        handle=handle,
        name=person.display_name,
        challenge=decode_bytes(nonce, 32),
        exclude=_passkeys(keys),
    )
    return Response({"nonce": nonce, "options": options}, headers=PRIVATE)


class NewKeyIn(RegistrationIn):
    name: Name | None = None
    """What the person calls it; else after the browser it was made in."""


@post("/v1/passkeys/preview", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def preview_passkey(request: Ask, service: Service, data: NewKeyIn) -> Response[dict[str, Any]]:
    """Second step: what a key that is here already has to sign, so that the new one counts."""
    here, at = signed_in(request, service, recovered=True), service.clock()
    _, keys = _account(service, here)

    def operation(tx: Transaction) -> tuple[Credential, str] | InvalidStatement:
        handle = tx.take_nonce(data.nonce, here.person_id, at=int(at.timestamp()), purpose="passkey")
        if handle is None:
            return expired()
        try:
            made = new_key(tx, service, data)
        except InvalidStatement as refused:
            return refused
        return credential(request, service, here.person_id, made, data.name or ""), handle

    outcome = service.ledger.transact(operation)
    if isinstance(outcome, InvalidStatement):
        raise outcome
    made, handle = outcome
    said = {"schema": "countersign/device/v1", "person_id": here.person_id, "key": made.signer.model_dump()}
    statement = KeyAddition.model_validate({**said, "issued": zulu(at)})
    signed = statement.signed_bytes()
    kept = {"handle": handle, "name": made.name, "sign_count": made.sign_count, "statement": signed.decode()}
    nonce = new_nonce(service, here.person_id, purpose="device", detail=json.dumps(kept))
    asked = challenge(DEVICE_TAG, signed)
    return Response(
        {
            "nonce": nonce,
            "statement": json.loads(signed),
            "canonical": signed.decode(),
            "challenge": encode_key(asked),
            "options": passkey.request_options(rp_id=rp_id(service), challenge=asked, allow=_passkeys(keys)),
        },
        headers=PRIVATE,
    )


class SignedKeyIn(Strict):
    nonce: Annotated[str, Field(max_length=64)]
    evidence: Evidence | None = None
    """None: after a sign-in with a recovery code."""


@post("/v1/passkeys", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def add_passkey(request: Ask, service: Service, data: SignedKeyIn) -> dict[str, Any]:
    """Third step: the new key counts from now on. After a recovery, sign in with it: everything else is signed out."""
    here = signed_in(request, service, recovered=True)
    outcome = service.ledger.transact(lambda tx: _add(tx, service, here, data))
    if isinstance(outcome, InvalidStatement):
        raise outcome
    return {"id": outcome.id, "name": outcome.name, "kind": outcome.kind, "created_at": zulu(service.clock())}


def _add(
    tx: Transaction, service: Service, here: SignedIn, data: SignedKeyIn
) -> Credential | InvalidStatement:
    at, person_id = service.clock(), here.person_id
    detail = tx.take_nonce(data.nonce, person_id, at=int(at.timestamp()), purpose="device")
    if detail is None:
        return expired()
    kept = json.loads(detail)
    statement = KeyAddition.model_validate_json(kept["statement"])
    how: dict[str, Any] = {"how": "recovery", "statement": json.loads(kept["statement"])}
    if data.evidence is not None:
        keys = tx.credentials(person_id)
        try:
            signed_with(tx, DEVICE_TAG, statement.signed_bytes(), data.evidence, keys, service)
        except InvalidStatement as refused:
            return refused
        how |= {"how": "signed", "evidence": data.evidence.model_dump(mode="json")}
    elif not here.recovered:
        return InvalidStatement(
            "passkey.unsigned",
            "a new passkey is signed for with one that you have",
            "sign with a device you have, or sign in with a recovery code",
        )
    if tx.credential(statement.key.id) is not None:
        return InvalidStatement("passkey.taken", "this passkey is already in use here", "sign in with it")
    made = Credential(
        **statement.key.model_dump(),
        person_id=person_id,
        created_at=int(at.timestamp()),
        name=kept["name"],
        sign_count=kept["sign_count"],
    )
    tx.add_credential(made)
    tx.set_handle(person_id, decode_bytes(kept["handle"], 32))
    body = {"change": "added", "key": statement.key.model_dump(), **how}
    tx.append("device", f"{person_id}/{data.nonce}", [About(person_id, "owner", body)], at=at)
    if here.recovered:
        # Who lost their keys does not know who found them, nor what was handed out since. One code adds one key.
        tx.close_sessions(person_id)
        tx.drop_tokens(person_id)
    return made


# -- one less ----------------------------------------------------------------------------------------------


@delete("/v1/passkeys/{key_id:str}", status_code=204, sync_to_thread=True)
def remove_passkey(request: Ask, service: Service, key_id: str) -> None:
    """Take a key away, and sign out what it had opened. Needs no signature: a lost device must be quick to lock out."""
    remove_key(service, signed_in(request, service).person_id, key_id)


def remove_key(service: Service, person_id: PersonId, key_id: str) -> None:
    """Raises a 404 problem for a key that is not theirs, 403 for the only one they have."""
    at = service.clock()

    def operation(tx: Transaction) -> None:
        keys = {key.id: key for key in tx.credentials(person_id)}
        if key_id not in keys:
            raise problem(404, "passkey.unknown", "you have no such passkey", "look at your list again")
        if len(keys) == 1:
            raise problem(
                403,
                "passkey.last",
                "this is the only key you have",
                "add another one first, then remove this",
            )
        tx.remove_credential(key_id)
        body = {"change": "removed", "key": keys[key_id].signer.model_dump(), "how": "session"}
        ref = f"{person_id}/{encode_key(secrets.token_bytes(32))}"
        tx.append("device", ref, [About(person_id, "owner", body)], at=at)

    service.ledger.transact(operation)


# -- recovery codes ----------------------------------------------------------------------------------------


@post("/v1/recovery-codes/options", status_code=200, sync_to_thread=True)
def recovery_options(request: Ask, service: Service) -> Response[dict[str, Any]]:
    """What to sign for new recovery codes (tag `countersign/recovery/v1`)."""
    here = signed_in(request, service)
    _, keys = _account(service, here)
    nonce = new_nonce(service, here.person_id, purpose="codes")
    asked = challenge(RECOVERY_TAG, session_statement(here.person_id, nonce))
    options = passkey.request_options(rp_id=rp_id(service), challenge=asked, allow=_passkeys(keys))
    return Response({"nonce": nonce, "challenge": encode_key(asked), "options": options}, headers=PRIVATE)


class CodesIn(Strict):
    nonce: Annotated[str, Field(max_length=64)]
    evidence: Evidence


@post("/v1/recovery-codes", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def create_recovery_codes(request: Ask, service: Service, data: CodesIn) -> Response[dict[str, Any]]:
    """Ten new recovery codes, shown this once. The old ones are good no longer."""
    here, at = signed_in(request, service), int(service.clock().timestamp())

    def operation(tx: Transaction) -> list[str] | LedgerError:
        if tx.take_nonce(data.nonce, here.person_id, at=at, purpose="codes") is None:
            return expired()
        asked, keys = session_statement(here.person_id, data.nonce), tx.credentials(here.person_id)
        try:
            signed_with(tx, RECOVERY_TAG, asked, data.evidence, keys, service)
        except InvalidStatement as refused:
            return refused
        return new_codes(tx, here.person_id, at=at)

    outcome = service.ledger.transact(operation)
    if isinstance(outcome, LedgerError):
        raise outcome
    return Response({"recovery_codes": outcome}, headers=PRIVATE)


def _account(service: Service, here: SignedIn) -> tuple[Person, list[Credential]]:
    with service.ledger.reading() as tx:
        person, keys = tx.person(here.person_id), tx.credentials(here.person_id)
    if person is None:
        raise problem(401, "access.session", "you are not signed in", "sign in with your device")
    return person, keys


def _passkeys(keys: list[Credential]) -> list[str]:
    return [key.id for key in keys if key.kind == "passkey"]


ROUTES = [
    passkey_options,
    preview_passkey,
    add_passkey,
    remove_passkey,
    recovery_options,
    create_recovery_codes,
]
