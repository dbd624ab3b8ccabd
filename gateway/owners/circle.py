"""The people somebody approves of, and whom they have blocked.

Letting somebody in, and unblocking, widen what was signed: a session does that only shortly after a key opened it.
"""

from typing import Annotated, Any

from litestar import Request, get, post
from pydantic import Field

from gateway.access import JSON_BYTES, acting
from gateway.service import Service
from ledger.consent.circle import set_block, set_member
from ledger.consent.grant import Strict
from ledger.ids import PersonId, is_id
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]


@get("/v1/circle", sync_to_thread=True)
def my_circle(request: Ask, service: Service) -> dict[str, Any]:
    """Whom I approve of: what I permit to `mutuals`, I permit to them. And whom I have blocked."""
    return circle_of(service, acting(request, service).owner)


def circle_of(service: Service, person_id: PersonId) -> dict[str, Any]:
    with service.ledger.reading() as tx:
        standing = tx.standing(person_id)
        members = [{"person_id": one, "name": _name(tx, one)} for one in standing.members]
        blocked = [
            {"target": one, "name": _name(tx, one), "type": "app" if is_id(one, "app") else "person"}
            for one in standing.blocked
        ]
    return {
        "members": sorted(members, key=lambda one: (one["name"], one["person_id"])),
        "blocked": sorted(blocked, key=lambda one: (one["name"], one["target"])),
    }


class MemberIn(Strict):
    person_id: Annotated[str, Field(max_length=64)]
    member: bool


@post("/v1/circle/members", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def change_member(request: Ask, service: Service, data: MemberIn) -> dict[str, Any]:
    """Let somebody into the people I approve of, or out."""
    owner = acting(request, service, may=("owner", "executor"), lately=data.member).owner
    set_member(service.ledger, owner, PersonId(data.person_id), member=data.member, at=service.clock())
    return circle_of(service, owner)


class BlockIn(Strict):
    target: Annotated[str, Field(max_length=64)]
    """The id of an app, or of a person."""
    blocked: bool


@post("/v1/circle/blocks", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def change_block(request: Ask, service: Service, data: BlockIn) -> dict[str, Any]:
    """Keep an app or a person from ever using my likeness, whatever I permit; or let them again.

    What they are making with it now, ends. They are not told that they are blocked.
    """
    owner = acting(request, service, lately=not data.blocked).owner
    set_block(service.ledger, owner, data.target, blocked=data.blocked, at=service.clock())
    return circle_of(service, owner)


def _name(tx: Transaction, target: str) -> str:
    found = tx.app(target) if is_id(target, "app") else None
    person = tx.person(target)
    return found.name if found is not None else person.display_name if person is not None else ""


ROUTES = [my_circle, change_member, change_block]
