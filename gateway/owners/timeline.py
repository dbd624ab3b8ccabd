"""What was recorded about a likeness, whole and provable; and the end of all of it."""

from collections.abc import Callable
from typing import Annotated, Any

from litestar import Request, get, post
from pydantic import Field

from gateway.access import JSON_BYTES, person_of
from gateway.audit import proof_of
from gateway.problems import problem, refused
from gateway.service import Service
from ledger.consent.grant import Strict
from ledger.consent.registry import certificate, erase
from ledger.ids import CameoId, PersonId
from ledger.store.transaction import Transaction
from safety.gate import Denied
from safety.policy.facts import ListFacts, ReaderFacts

Ask = Request[Any, Any, Any]


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


ROUTES = [my_uses, erase_cameo]
