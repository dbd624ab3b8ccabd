"""What operators do with notices: the queue, the decision, and what everyone may know about how we are doing.

The queue is in the order in which things are due, so what is overdue stands first, and says so. Operators see who
gave notice; nobody else does. The statistics name nobody.
"""

import json
from collections import Counter
from datetime import datetime
from statistics import median
from typing import Any

import click
from litestar import Request, get, post

from gateway.access import JSON_BYTES, holder
from gateway.notices import mail
from gateway.notices.giving import status_of, told
from gateway.service import Service, open_service
from gateway.settings import Settings
from ledger.consent.grant import Strict
from ledger.consent.notices import Action, Words, decide, opened
from ledger.log.policy import shown
from ledger.store.records import Notice
from ledger.store.transaction import Transaction
from safety import copies

Ask = Request[Any, Any, Any]
_CONFIRMED = ("open", "decided", "withdrawn")


@get("/v1/takedowns/queue", sync_to_thread=True)
def queue(request: Ask, service: Service) -> dict[str, Any]:
    """An operator's work: everything that waits for a decision, by when it is due; what is overdue first."""
    holder(request, service, "operator")
    return queue_of(service)


def queue_of(service: Service) -> dict[str, Any]:
    at = service.clock()
    with service.ledger.reading() as tx:
        waiting = [_as_operators_read(tx, notice, at) for notice in tx.notices("open")]
    overdue = sum(one["overdue"] for one in waiting)
    return {"at": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "overdue": overdue, "notices": waiting}


def _as_operators_read(tx: Transaction, notice: Notice, at: datetime) -> dict[str, Any]:
    case = opened(tx, notice)
    appealed, video = case.appealed, tx.video(notice.video_id) if notice.video_id else None
    return {
        **status_of(notice, case, at),
        "waits_for": "appeal" if appealed else "decision",
        "app_id": video.app_id if video else None,
        "form": case.form.model_dump(mode="json"),
        "resembles": list(case.resembles),
        "decided_by": [made.operator for made in case.decisions],
        "appeal": {"by": appealed.by, "text": appealed.text} if appealed else None,
    }


class DecisionIn(Strict):
    """`note`: why, in words that the notifier, the app and everyone shown will read."""

    action: Action
    note: Words


@post(
    "/v1/takedowns/{notice_id:str}/decision",
    status_code=200,
    sync_to_thread=True,
    request_max_body_size=JSON_BYTES,
)
def decision(request: Ask, service: Service, notice_id: str, data: DecisionIn) -> dict[str, Any]:
    """Decide on a notice (`removed`, `kept`; of a face `registered`, `refused`), or on an appeal (`restored`, too)."""
    operator, at = holder(request, service, "operator"), service.clock()

    def operation(tx: Transaction) -> dict[str, Any]:
        notice = decide(tx, notice_id, operator, data.action, data.note, at=at)
        case = opened(tx, notice)
        letter = told(service, notice, case.form.email, f"The decision is `{data.action}`", data.note)
        mail.post(tx, notice.id, letter, at=at)
        return {**status_of(notice, case, at), "clips": tx.linked(notice.id)}

    return service.ledger.transact(operation)


@get("/v1/takedowns/statistics", sync_to_thread=True)
def statistics(service: Service) -> dict[str, Any]:
    """How many notices came, what became of them, and how long it took. Names nobody; unconfirmed ones do not count."""
    at = service.clock()
    with service.ledger.reading() as tx:
        notices, register = tx.notices(*_CONFIRMED), tx.register_state()
    looked_at = [one for one in notices if one.first_due_at is not None]
    hours = [
        (one.first_decided_at - one.confirmed_at) / 3600
        for one in looked_at
        if one.first_decided_at is not None and one.confirmed_at is not None
    ]
    return {
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "notices": {
            kind: dict(Counter(one.status for one in notices if one.kind == kind))
            for kind in ("takedown", "do_not_generate")
        },
        "outcomes": dict(Counter(one.outcome for one in notices if one.outcome is not None)),
        "median_hours_to_decision": round(median(hours), 2) if hours else None,
        "decided_late": sum(
            one.first_decided_at > one.first_due_at
            for one in looked_at
            if one.first_decided_at is not None and one.first_due_at is not None
        ),
        "overdue_now": sum(
            one.due_at < at.timestamp() for one in notices if one.status == "open" and one.due_at is not None
        ),
        "faces_on_register": register.faces,
    }


# The command -------------------------------------------------------------------------------------------


@click.group()
def takedowns() -> None:
    """Notices of people without an account."""


@takedowns.command("queue")
@click.option("--json", "as_json", is_flag=True, help="Print everything, names included.")
def print_queue(as_json: bool) -> None:
    """List what waits for a decision, by when it is due; what is overdue first. Names nobody."""
    with open_service(Settings()) as service:
        found = queue_of(service)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found["notices"]:
        about = one["video_id"] or "a face"
        marks = "".join(f", {word}" for word in ("intimate",) if one["form"]["intimate"])
        held = ", held back" if one["held_back"] else ""
        click.echo(
            f"{_left(one['seconds_left']):<22} {one['notice_id']}  {one['waits_for']} on {about}{marks}{held}"
        )
        click.echo(shown(f"{'':<22} {one['law']}"))
    click.echo(f"{len(found['notices'])} waiting, {found['overdue']} overdue")


@takedowns.command("sweep")
@click.option("--json", "as_json", is_flag=True, help="Print everything.")
def print_copies(as_json: bool) -> None:
    """List clips that are out and look like one that was taken down, withdrawn or erased: known identical copies.

    Whether they go as well is for the decision on a notice; no new copy of any of these is let out.
    """
    with open_service(Settings()) as service:
        while copies.fill(service.ledger, service.objects, service.settings.home / "work"):
            pass
        with service.ledger.reading() as tx:
            found = copies.sweep(tx, service.gate.clips, at=tx.dated(service.clock()))
    if as_json:
        said = [
            {"video_id": one.video_id, "copy_of": one.stopped.video_id, "why": one.stopped.why}
            for one in found
        ]
        click.echo(json.dumps({"copies": said}, indent=2))
        return
    for one in found:
        click.echo(
            f"{one.video_id}  is a copy of {one.stopped.video_id} ({one.stopped.why.replace('_', ' ')})"
        )
    click.echo(f"{len(found)} {'copy' if len(found) == 1 else 'copies'}")


def _left(seconds: int) -> str:
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{'OVERDUE by' if seconds < 0 else 'due in'} {hours} h {minutes:02} min"


ROUTES = [queue, decision, statistics]
