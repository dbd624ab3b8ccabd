"""How old somebody is, from an issuer we were told to believe; unknown age stays a minor's.

The person is sent to the issuer and comes back to a page of ours (:mod:`gateway.site.account`), which asks them to go
on: only then does their browser send the session cookie, and only the account that began the check can finish it. Kept
is the least that serves: of an adult that they are one, of a minor the birth date, on which their permissions end; and
of whom the issuer means a keyed digest, so that nobody's identity is used for a second account. Erasing the account
destroys it.

One word for a minor counts for good, so a check is begun only shortly after signing in: a session that was stolen
leads to nobody else's age. Nor does a word destroy what another word contradicts, or what others rely on.
"""

import hmac
import json
from datetime import datetime
from typing import Annotated, Any

from litestar import Request, post
from pydantic import Field

from gateway import demo_issuer
from gateway.access import JSON_BYTES, person_of
from gateway.oidc import Claims, Issuer
from gateway.problems import problem
from gateway.service import Service
from ledger.consent.authority import YOUNGEST_YEARS
from ledger.consent.fold import ADULT_YEARS, birthday
from ledger.consent.grant import Strict
from ledger.ids import PersonId
from ledger.store.journal import About
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
LIFE_S = 900
CHECKS_A_DAY = 10


def issuer_of(service: Service) -> Issuer:
    """Raises a 404 problem when none is configured: then nobody's age can be shown here."""
    settings = service.settings
    redirect = f"{settings.url}/age/return"
    if service.demo_issuer:
        return Issuer(service.demo_issuer, demo_issuer.CLIENT, "", redirect)
    if not settings.age_issuer:
        raise problem(
            404, "age.not_offered", "this service can not check your age", "ask its operator to vouch for you"
        )
    return Issuer(settings.age_issuer, settings.age_client_id, settings.age_client_secret, redirect)


@post("/v1/age/start", status_code=200, sync_to_thread=True)
def start_age_check(request: Ask, service: Service) -> dict[str, str]:
    """Where to go to have one's age confirmed: `{"location"}`."""
    person_id, at = person_of(request, service, lately=True), service.clock()
    begun = issuer_of(service).begin()
    kept = json.dumps({"nonce": begun.nonce, "verifier": begun.verifier})
    now = int(at.timestamp())

    def operation(tx: Transaction) -> bool:
        if tx.count(f"age/{person_id}", at=at, life_s=86_400) > CHECKS_A_DAY:
            return False
        tx.add_nonce(begun.state, person_id, at=now, expires_at=now + LIFE_S, purpose="age", detail=kept)
        return True

    if not service.ledger.transact(operation):
        raise problem(429, "age.often", "you have tried very often today", "try again tomorrow")
    return {"location": begun.location}


class FinishIn(Strict):
    state: Annotated[str, Field(max_length=200)]
    code: Annotated[str, Field(max_length=2000)]


@post("/v1/age", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def finish_age_check(request: Ask, service: Service, data: FinishIn) -> dict[str, Any]:
    """Redeem what the issuer sent. Only for the account that began this check, and only once."""
    person_id, at = person_of(request, service), service.clock()
    now = int(at.timestamp())
    kept = service.ledger.transact(lambda tx: tx.take_nonce(data.state, person_id, at=now, purpose="age"))
    if kept is None:
        raise problem(
            403,
            "age.state",
            "this answer belongs to no age check of yours that is still open",
            "start it again",
        )
    begun, issuer = json.loads(kept), issuer_of(service)
    claims = issuer.finish(data.code, nonce=begun["nonce"], verifier=begun["verifier"], at=at)
    who = hmac.digest(service.keyring.facts_key, f"age/{issuer.url}\n{claims.subject}".encode(), "sha256")
    body = {"issuer": issuer.url, "subject_sha256": who.hex(), **_least(claims, at)}

    def operation(tx: Transaction) -> bool:
        if not tx.claim_identity(who, person_id):
            raise problem(
                403,
                "age.other_account",
                "whom the issuer knows has another account here",
                "sign in to that account, or erase it first; show your own age, not somebody else's",
            )
        tx.append("age", data.state, [About(person_id, "owner", body)], at=at)
        return tx.standing(person_id).minor(at)

    minor = service.ledger.transact(operation)
    if claims.born_on is not None and at.date() < birthday(claims.born_on, YOUNGEST_YEARS):
        raise _too_young(service, person_id, at)
    return {"minor": minor}


def _least(claims: Claims, at: datetime) -> dict[str, Any]:
    """What is kept of the claims. Where they contradict each other, the word for a minor."""
    if claims.born_on is None:
        return {"born_on": None, "over_18": claims.over_18}
    of_age = at.date() >= birthday(claims.born_on, ADULT_YEARS)
    if of_age and claims.over_18 is not False:
        return {"born_on": None, "over_18": True}
    return {"born_on": None if of_age else claims.born_on.isoformat(), "over_18": False}


def _too_young(service: Service, person_id: PersonId, at: datetime) -> Exception:
    """Nobody under 13 has an account. Their sessions end; what was kept is erased, if nothing speaks against it.

    Where a likeness is in use, where another word says that they are of age, or where they answer for others, somebody
    is wrong, or somebody else was asked: everything stays, as a minor's, until its owner or an operator ends it.
    """

    def operation(tx: Transaction) -> list[str]:
        tx.close_sessions(person_id)
        standing = tx.standing(person_id)
        of_age = any(word.minor(at) is False for word in standing.ages)
        return [] if standing.active or of_age or tx.people_of(person_id) else tx.erase_person(person_id)

    for key in service.ledger.transact(operation):
        service.objects.delete(key)
    return problem(
        403, "account.too_young", "nobody under 13 can have an account here", "come back when you are 13"
    )


ROUTES = [start_age_check, finish_age_check]
