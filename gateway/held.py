"""Clips that a machine held for people to look at: the queue, what is in them, and what reviewers and apps say.

A reviewer is an operator, known by their API key, or at the command line by their own signing key. What they are
shown comes blurred: a sharp picture, or the clip, is a request of its own, and is in the log before it is answered.
Who may let a clip pass is for the policies in force: two who have looked, where one may refuse (`policies/access.cedar`).
Nobody here is told whether a face is known: the machine has seen that it is nobody's who agreed, and no more.
"""

import hmac
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from litestar import Request, Response, get, post
from pydantic import Field

from gateway.access import JSON_BYTES, app_of, holder
from gateway.problems import problem
from gateway.ranges import send, wanted_piece
from gateway.service import Service
from ledger.consent import held as words
from ledger.consent.grant import Strict, zulu
from ledger.consent.held import Case, Reviewer, case_of, waiting_for_review
from ledger.ids import VideoId, is_id
from ledger.provenance import media
from ledger.store.records import HeldClip, Video
from ledger.store.transaction import Transaction
from safety.chain import Place
from safety.errors import Refused
from safety.policy.facts import OperatorFacts, OrderFacts

Ask = Request[Any, Any, Any]
Decision = Literal["pass", "refuse"]
Status = Literal["waiting", "released", "approval", "refused", "ended"]
ALONE = "operator.pass_alone"
"""The policy that only asks for a second operator."""
MOST_PICTURES = 6
_PRIVATE = {"cache-control": "no-store"}


# -- the queue ------------------------------------------------------------------------------------------------


def queue(service: Service, operator: str) -> list[dict[str, Any]]:
    """Every clip that waits for a reviewer, the next to lapse first, as this operator sees it."""
    at = service.clock()
    with service.ledger.reading() as tx:
        return [
            _shown(service, tx, held, operator)
            for held in tx.clips_for_review(at=at)
            if held.waits_for == "review" or case_of(tx, held.video_id).open_appeal
        ]


def _shown(service: Service, tx: Transaction, held: HeldClip, operator: str) -> dict[str, Any]:
    video, case = tx.video(held.video_id), case_of(tx, held.video_id)
    if video is None:
        raise problem(404, "review.unknown", "no such review waits", "ask for the list")
    me, app = reviewer(service, held.video_id, operator).pseudonym, tx.app(video.app_id)
    places = service.gate.sealer.places(held.stamped)
    return {
        "video_id": held.video_id,
        "waits_for": held.waits_for,
        "app_name": app.name if app is not None else video.app_id,
        "prompt": video.prompt,
        "seconds": video.seconds,
        "size": video.size,
        "people_who_agreed": len(tx.uses(held.video_id)),
        "policies": _policies(tx, video, case),
        "sha256": held.sha256,
        "held_at": zulu(datetime.fromtimestamp(held.asked_at, UTC)),
        "until": zulu(datetime.fromtimestamp(held.expires_at, UTC)),
        "passed_by_others": len(case.passed_by(held.sha256) - {me}),
        "passed_by_me": me in case.passed_by(held.sha256),
        "looked_at_by_me": me in case.looked_by(held.sha256),
        "refused_by_me": me in case.refused_by,
        "notes": [one.note for one in case.words if one.note and one.action != "appealed"],
        "appeal": case.appeal.note if case.appeal is not None else None,
        "pictures": [
            {
                "at_ms": at_ms,
                "boxes": [list(box) for box in boxes],
                "blurred": f"/v1/reviews/{held.video_id}/pictures/{n}",
                "sharp": f"/v1/reviews/{held.video_id}/pictures/{n}/sharp",
            }
            for n, (at_ms, boxes) in enumerate(_moments(places))
        ],
        "clip": f"/v1/reviews/{held.video_id}/clip",
    }


def _policies(tx: Transaction, video: Video, case: Case) -> list[str]:
    """What the machine found, by the policies that held the clip."""
    found = next((one for one in reversed(case.words) if one.action == "held"), None)
    entry = tx.recorded(video.app_id, found.index) if found is not None else None
    return list(entry.body["policies"]) if entry is not None else []


def _moments(places: Iterable[Place]) -> list[tuple[int, list[tuple[int, int, int, int]]]]:
    """The frames to show, and the faces to mark in each; without any face, the beginning."""
    found: dict[int, list[tuple[int, int, int, int]]] = {}
    for at_ms, *box in places:
        found.setdefault(at_ms, []).append((box[0], box[1], box[2], box[3]))
    return sorted(found.items())[:MOST_PICTURES] or [(0, [])]


def reviewer(service: Service, video_id: str, operator: str) -> Reviewer:
    """An operator, and what the app reads in place of their name: the same for each word on one clip, on no other."""
    said = f"countersign/reviewer/v1\0{video_id}\0{operator}".encode()
    return Reviewer(operator, hmac.digest(service.keyring.facts_key, said, "sha256")[:16].hex())


# -- looking --------------------------------------------------------------------------------------------------


@get("/v1/reviews/{video_id:str}/pictures/{number:int}", sync_to_thread=True)
def blurred_picture(request: Ask, service: Service, video_id: str, number: int) -> Response[bytes]:
    """One frame of a held clip with the faces in question marked (JPEG), blurred beyond recognition."""
    holder(request, service, "operator")
    held = unseen(service, video_id)
    return Response(picture(service, held, number, sharp=False), media_type="image/jpeg", headers=_PRIVATE)


@get("/v1/reviews/{video_id:str}/pictures/{number:int}/sharp", sync_to_thread=True)
def sharp_picture(request: Ask, service: Service, video_id: str, number: int) -> Response[bytes]:
    """The same frame as it is. That this operator has looked is recorded first."""
    held = look(service, holder(request, service, "operator"), video_id)
    return Response(picture(service, held, number, sharp=True), media_type="image/jpeg", headers=_PRIVATE)


@get("/v1/reviews/{video_id:str}/clip", sync_to_thread=True)
def held_clip(request: Ask, service: Service, video_id: str) -> Response[Any]:
    """The held clip itself, in ranges. That this operator has looked is recorded first."""
    held = look(service, holder(request, service, "operator"), video_id)
    answer = send(request, service.objects, wanted_piece(request, service.objects, held.object_key))
    answer.headers.update(_PRIVATE)
    return answer


def unseen(service: Service, video_id: str) -> HeldClip:
    """The held clip, of which nothing but blurred pictures is to be shown."""
    with service.ledger.reading() as tx:
        return _held(tx, service, video_id)


def look(service: Service, operator: str, video_id: str) -> HeldClip:
    """The held clip, to be shown to an operator: recorded before they see anything of it."""
    at = service.clock()

    def operation(tx: Transaction) -> HeldClip:
        held = _held(tx, service, video_id)
        words.note_look(tx, held, reviewer(service, held.video_id, operator), at=at)
        return held

    return service.ledger.transact(operation)


def picture(service: Service, held: HeldClip, number: int, *, sharp: bool) -> bytes:
    """One of the frames that the queue names. Made anew each time: nothing of a held clip lies anywhere else."""
    moments = _moments(service.gate.sealer.places(held.stamped))
    if not 0 <= number < len(moments):
        raise problem(404, "review.picture", f"this clip has `{len(moments)}` pictures", "ask for the list")
    at_ms, boxes = moments[number]
    with fetched(service, held) as path:
        return media.marked_frame(path, at_ms / 1000, boxes, blurred=not sharp)


@contextmanager
def fetched(service: Service, held: HeldClip) -> Iterator[Path]:
    """The clip as a file, for as long as it is looked at."""
    service.settings.uploads.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="review-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "clip.mp4"
        with path.open("wb") as out:
            out.writelines(service.objects.read(held.object_key, 0, service.objects.size(held.object_key)))
        yield path


def _held(tx: Transaction, service: Service, video_id: str) -> HeldClip:
    if not is_id(video_id, "video"):
        raise problem(404, "review.unknown", "no such review waits", "ask for the list")
    return waiting_for_review(tx, VideoId(video_id), at=service.clock())


# -- deciding -------------------------------------------------------------------------------------------------


def decide(service: Service, operator: str, video_id: str, decision: Decision, note: str) -> dict[str, Any]:
    """A reviewer's word, in the log; then whatever follows from it. `note`: why; the app and everyone shown read it.

    `status`: `waiting` for another reviewer, `approval` by those it shows, `released`, `refused`, or `ended` where the
    policies or somebody shown stood against it.
    """
    at = service.clock()
    settled = service.ledger.transact(
        lambda tx: _say(service, tx, operator, _held(tx, service, video_id), decision, note, at)
    )
    # Durable from here on: should we die now, the next start does what this line does.
    service.pipeline.drafts.settle(VideoId(video_id))
    status: Status = "refused" if decision == "refuse" else "waiting"
    if settled and decision == "pass":
        with service.ledger.reading() as tx:
            video, held = tx.video(video_id), tx.held_clip(VideoId(video_id))
        now = video.status if video is not None else "failed"
        waits: Status = "approval" if held is not None and held.waits_for == "approval" else "waiting"
        status = {"completed": "released", "failed": "ended"}.get(now, waits)  # type: ignore[assignment]
    return {"review_id": video_id, "decision": decision, "status": status}


def _say(
    service: Service,
    tx: Transaction,
    operator: str,
    held: HeldClip,
    decision: Decision,
    note: str,
    at: datetime,
) -> bool:
    """Whether the word took effect. Raises Refused where the policies do not let this operator say it."""
    who, case = reviewer(service, held.video_id, operator), case_of(tx, held.video_id)
    action: Literal["passed", "refused"] = "passed" if decision == "pass" else "refused"
    words.check_word(case, held, who, action)
    others = case.passed_by(held.sha256) - {who.pseudonym}
    final = _permitted(service, tx, operator, held, decision, seconded=bool(others))
    words.say(tx, held, who, action, note, final=final, at=at)
    if final and action == "passed" and held.waits_for == "appeal":
        _reopen(service, tx, held, at)
    return final


def _permitted(
    service: Service, tx: Transaction, operator: str, held: HeldClip, decision: Decision, *, seconded: bool
) -> bool:
    """Whether the policies let the word take effect; False where only a second operator is missing."""
    facts = OperatorFacts(operator, registered=tx.operator_key(operator) is not None)
    order = OrderFacts(held.video_id, seconded=seconded, checked=False, loosens=False)
    ruling = service.gate.sets.engine(tx).rule(f"{decision}_clip", operator=facts, order=order)
    if ruling.allowed:
        return True
    if ruling.policy_ids == (ALONE,):
        return False
    first = min(ruling.reasons(), key=lambda reason: reason.id == ALONE)
    raise Refused(first.id, first.sentence, first.remedy)


def _reopen(service: Service, tx: Transaction, held: HeldClip, at: datetime) -> None:
    """Two others let pass what one refused: the request is decided anew, and the job goes on, or stays ended."""
    video = tx.video(held.video_id)
    if video is None:
        raise problem(404, "review.unknown", "no such review waits", "ask for the list")
    permit = service.gate.sealer.permit(held.stamped)
    denied = service.gate.decide_anew(tx, video, permit, at=at)
    if denied is None:
        tx.reopen_job(held.video_id)
        words.resume(tx, held, at=at)
    else:
        words.give_up(tx, held, denied.reasons, at=at)


# -- the app --------------------------------------------------------------------------------------------------


class AppealIn(Strict):
    """`text`: why the app thinks that the clip should go out; reviewers read it, and nobody else."""

    text: Annotated[
        str, Field(min_length=3, max_length=1000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$")
    ]


@post(
    "/v1/videos/{video_id:str}/appeal", status_code=202, sync_to_thread=True, request_max_body_size=JSON_BYTES
)
def appeal_review(request: Ask, service: Service, video_id: str, data: AppealIn) -> dict[str, Any]:
    """Ask, once and within 14 days, that others look at a clip which one of our reviewers refused."""
    app_id, at = app_of(request, service), service.clock()

    def operation(tx: Transaction) -> datetime:
        video = tx.video(video_id) if is_id(video_id, "video") else None
        if video is None or video.app_id != app_id or video.deleted_at is not None:
            raise problem(404, "video.unknown", f"there is no video `{video_id[:40]}`", "check the id")
        return words.appeal(tx, video.id, data.text, at=at)

    until = service.ledger.transact(operation)
    return {"video_id": video_id, "waits_for": "appeal", "until": zulu(until)}


def waits(service: Service, video: Video) -> dict[str, str] | None:
    """What a clip waits for, as its app may know it: `approval`, `review`, `appeal`; None: for nothing, or to be made.

    `may_appeal`: a reviewer refused it, and the app can ask for another look.
    """
    if video.status not in {"queued", "failed"}:
        return None
    with service.ledger.reading() as tx:
        held = tx.held_clip(video.id)
        if held is None or held.expires_at <= service.clock().timestamp():
            return None
        if (held.waits_for == "appeal") != (video.status == "failed"):
            return None
        refused = held.waits_for == "appeal" and not case_of(tx, video.id).open_appeal
    for_what = "may_appeal" if refused else held.waits_for
    return {"for": for_what, "until": zulu(datetime.fromtimestamp(held.expires_at, UTC))}


ROUTES = [blurred_picture, sharp_picture, held_clip, appeal_review]
