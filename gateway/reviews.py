"""What operators decide about people: who is believed to be a guardian, who acts for somebody who has died, and
whether a clip that was held goes out (:mod:`gateway.held`).

An operator uses their API key. What they looked at, and who they are, stands in the entry on the person's own list.
"""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from litestar import Request, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from pydantic import Field

from gateway import held
from gateway.access import JSON_BYTES, holder
from gateway.problems import problem
from gateway.service import Service
from ledger.canonical import sha256
from ledger.consent.family import accept_guardian, check_estate, end_estate, end_guardian, open_estate
from ledger.consent.grant import Strict, zulu
from ledger.ids import LeafIndex, PersonId, is_id
from ledger.keys import seal
from ledger.store.reviews import Review
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
EVIDENCE_BYTES = 10 << 20
Note = Annotated[str, Field(min_length=3, max_length=300)]
"""What an operator looked at, or what is missing."""


@get("/v1/reviews", sync_to_thread=True)
def open_reviews(request: Ask, service: Service) -> dict[str, Any]:
    """What waits for an operator's word: people who signed that they answer for a minor, and clips that were held."""
    operator = holder(request, service, "operator")
    with service.ledger.reading() as tx:
        guardians = [_shown(tx, one) for one in tx.open_reviews(["guardian"])]
    return {"reviews": guardians, "clips": held.queue(service, operator)}


class DecisionIn(Strict):
    """A guardian is accepted, a clip let pass; either is refused. `note`: why."""

    decision: Literal["accept", "pass", "refuse"]
    note: Note


@post("/v1/reviews/{review_id:str}", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def decide_review(request: Ask, service: Service, review_id: str, data: DecisionIn) -> dict[str, Any]:
    """Accept or refuse a guardian, or let a held clip pass or not. What the operator looked at is in the entry.

    Letting a clip pass takes two operators who have looked at it; the first is answered `waiting`.
    """
    operator, at = holder(request, service, "operator"), service.clock()
    if is_id(review_id, "video"):
        if data.decision == "accept":
            raise problem(400, "review.decision", "a clip is not accepted", "say `pass` or `refuse`")
        return held.decide(service, operator, review_id, data.decision, data.note)
    if data.decision == "pass":
        raise problem(400, "review.decision", "only a clip is let pass", "say `accept` or `refuse`")
    said = {"operator": operator, "note": data.note}

    def operation(tx: Transaction) -> LeafIndex | None:
        review = tx.review(review_id) if is_id(review_id, "review") else None
        if review is None or review.kind != "guardian" or review.status != "open":
            raise problem(404, "review.unknown", "no such review waits", "ask for the list")
        if data.decision == "refuse":
            tx.settle_review(review, "refused", said)
            return None
        index = accept_guardian(tx, review, {**said, "review": review.id}, at=at)
        tx.settle_review(review, "accepted", said)
        return index

    index = service.ledger.transact(operation)
    status = "refused" if index is None else "accepted"
    return {"review_id": review_id, "status": status, "index": index}


class EndIn(Strict):
    ward: Annotated[str, Field(max_length=64)]
    guardian: Annotated[str, Field(max_length=64)]


@post("/v1/guardians/end", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def end_guardianship(request: Ask, service: Service, data: EndIn) -> dict[str, Any]:
    """An operator ends a guardianship: a minor cannot do that by themselves."""
    operator, at = holder(request, service, "operator"), service.clock()
    ward, guardian = PersonId(data.ward), PersonId(data.guardian)
    index = end_guardian(service.ledger, ward, guardian, by=f"operator {operator}", at=at)
    return {"ended": True, "index": index}


@post("/v1/estates", status_code=201)
async def open_an_estate(request: Ask, service: Service) -> dict[str, Any]:
    """An operator vouches that somebody has died and who acts for them.

    Form fields `person_id`, `executor`, `note`; the file `evidence` (10 MB at most) is kept, sealed under the
    person's key, and its SHA-256 is in the entry. Nobody stays signed in as the person, or signs in as them again.
    """
    operator = await sync_to_thread(holder, request, service, "operator")
    form = await request.form()
    evidence, note = form.get("evidence"), str(form.get("note", ""))
    if not isinstance(evidence, UploadFile):
        raise problem(400, "request.evidence", "the file `evidence` is missing", "send what you looked at")
    content = await evidence.read()
    if not content or len(content) > EVIDENCE_BYTES:
        raise problem(413, "estate.evidence", "the evidence is empty, or over 10 MB", "send it smaller")
    if not 3 <= len(note) <= 300:
        raise problem(
            400, "request.note", "the field `note` has not 3 to 300 characters", "say what you looked at"
        )
    person, executor = (PersonId(str(form.get(name, ""))[:64]) for name in ("person_id", "executor"))
    return await sync_to_thread(
        _estate, service, person, executor, content, {"operator": operator, "note": note}
    )


def _estate(
    service: Service, person_id: PersonId, executor: PersonId, evidence: bytes, vouched: dict[str, str]
) -> dict[str, Any]:
    at, digest = service.clock(), sha256(evidence).hex()
    with service.ledger.reading() as tx:
        check_estate(tx, person_id, executor, at=at)
        key = tx.held(person_id).key
    with TemporaryDirectory(prefix="estate-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "evidence"
        path.write_bytes(seal(key, evidence, context=f"estate/{digest}"))
        # Durable before the row that names it; what no row names is swept up.
        stored = service.objects.put(path)

    def operation(tx: Transaction) -> tuple[LeafIndex, str]:
        index = open_estate(tx, person_id, executor, digest, vouched, at=at)
        kept = {"executor": executor, "evidence_sha256": digest, "object_key": stored, **vouched}
        return index, tx.add_review("estate", person_id, kept, at=at, status="accepted")

    try:
        index, review_id = service.ledger.transact(operation)
    except BaseException:
        service.objects.delete(stored)
        raise
    return {"index": index, "review_id": review_id, "evidence_sha256": digest}


class EstateEndIn(Strict):
    person_id: Annotated[str, Field(max_length=64)]
    executor: Annotated[str, Field(max_length=64)]
    note: Note


@post("/v1/estates/end", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def end_an_estate(request: Ask, service: Service, data: EstateEndIn) -> dict[str, Any]:
    """An operator ends an estate that should not be: the person lives, or somebody else acts for them.

    The executor has no say any more, and the person signs in again with the keys they had.
    """
    operator, at = holder(request, service, "operator"), service.clock()
    person, executor = PersonId(data.person_id), PersonId(data.executor)
    said = {"operator": operator, "note": data.note}
    index = end_estate(service.ledger, person, executor, said, at=at)
    return {"ended": True, "index": index}


def _shown(tx: Transaction, review: Review) -> dict[str, Any]:
    said = review.said["guardianship"]
    ward, guardian = (tx.person(said[name]) for name in ("ward", "guardian"))
    born = tx.standing(review.person_id).born_on
    return {
        "review_id": review.id,
        "kind": review.kind,
        "asked_at": zulu(datetime.fromtimestamp(review.created_at, UTC)),
        "ward": {"person_id": said["ward"], "name": ward.display_name if ward else ""},
        "ward_born_on": born.isoformat() if born else None,
        "guardian": {"person_id": said["guardian"], "name": guardian.display_name if guardian else ""},
        "guardianship": said,
    }


ROUTES = [open_reviews, decide_review, end_guardianship, open_an_estate, end_an_estate, *held.ROUTES]
