"""Drafts that wait for a person's word: who asked, for what, the clip itself; and the word.

Nobody but those a draft shows, and whoever answers for them, can see it or learn that it is there.
"""

from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get, post, route
from litestar.enums import HttpMethod

from gateway.access import JSON_BYTES, Acting, acting
from gateway.owners.grants import grantee_name
from gateway.problems import problem
from gateway.ranges import send, wanted_piece
from gateway.service import Service
from gateway.thumbnails import thumbnail
from ledger.consent.approval import Answer, Decision, answer_draft
from ledger.consent.grant import Strict, zulu
from ledger.consent.words import sentence
from ledger.ids import VideoId
from ledger.store.records import Depicted, HeldClip, Video
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
_PRIVATE = {"cache-control": "no-store"}


@get("/v1/approvals", sync_to_thread=True)
def list_approvals(request: Ask, service: Service) -> dict[str, Any]:
    """The drafts that wait for my word, oldest first. `for`: the person whose guardian or executor I am."""
    return approvals(service, acting(request, service))


def approvals(service: Service, who: Acting) -> dict[str, Any]:
    """What waits for the word of those who answer for `who.owner`."""
    at = service.clock().timestamp()
    with service.ledger.reading() as tx:
        waiting = [one for one in tx.held_clips_of(who.owner) if one[0].expires_at > at]
        told = [_told(tx, who, *one) for one in waiting]
    return {"drafts": [one for one in told if one is not None]}


def _told(tx: Transaction, who: Acting, held: HeldClip, video: Video, use: Depicted) -> dict[str, Any] | None:
    standing = tx.standing(who.owner)
    grant = standing.grants[use.grant_id].grant
    if grant.approval != "before_release":
        return None
    app = tx.app(video.app_id)
    asker = tx.person(video.requested_by) if video.requested_by is not None else None
    return {
        "video_id": video.id,
        "app_id": video.app_id,
        "app_name": app.name if app is not None else video.app_id,
        "requested_by": video.requested_by,
        "requested_by_name": asker.display_name if asker is not None else None,
        "prompt": video.prompt,
        "seconds": video.seconds,
        "size": video.size,
        "asked_at": _time(held.asked_at),
        "until": _time(held.expires_at),
        "grant_id": use.grant_id,
        "sentence": sentence(grant, grantee_name(tx, grant.grantee) or ""),
        "clip": f"/v1/approvals/{video.id}/clip",
        "thumbnail": f"/v1/approvals/{video.id}/thumbnail",
        "approved_by_me": standing.approvals.get(video.id, {}).get(who.role),
    }


@route(
    "/v1/approvals/{video_id:str}/clip", http_method=[HttpMethod.GET, HttpMethod.HEAD], sync_to_thread=True
)
def draft_clip(request: Ask, service: Service, video_id: str) -> Response[Any]:
    """The draft itself, to those it shows; ranges as RFC 9110 §14."""
    held = _shown_to(service, acting(request, service), video_id)
    answer = send(request, service.objects, wanted_piece(request, service.objects, held.object_key))
    answer.headers.update(_PRIVATE)
    return answer


@get("/v1/approvals/{video_id:str}/thumbnail", sync_to_thread=True)
def draft_thumbnail(request: Ask, service: Service, video_id: str) -> Response[bytes]:
    """One picture of the draft (JPEG), to those it shows."""
    held = _shown_to(service, acting(request, service), video_id)
    return Response(thumbnail(service, held.object_key), media_type="image/jpeg", headers=_PRIVATE)


def _shown_to(service: Service, who: Acting, video_id: str) -> HeldClip:
    """The draft, if it still waits and shows the person. Raises a 404 problem, which says no more than that."""
    with service.ledger.reading() as tx:
        waiting = tx.held_clips_of(who.owner)
    held = next((clip for clip, _, _ in waiting if clip.video_id == video_id), None)
    if held is None or held.expires_at <= service.clock().timestamp():
        raise problem(404, "approval.unknown", "no such draft shows this person", "look at what waits")
    return held


class AnswerIn(Strict):
    decision: Decision


@post("/v1/approvals/{video_id:str}", status_code=200, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def answer_approval(request: Ask, service: Service, video_id: str, data: AnswerIn) -> dict[str, Any]:
    """Let a draft go out, or not, or not and never ask again. No signature is asked for: the grant is the consent.

    `status`: `released`, `refused`, or `waiting` while others have not spoken.
    """
    who = acting(request, service)
    answer = Answer(VideoId(video_id), who.owner, who.actor, who.role, data.decision)
    answer_draft(service.ledger, answer, at=service.clock())
    # Durable from here on: should we die now, the next start does what this line does.
    service.pipeline.drafts.settle(answer.video_id)
    with service.ledger.reading() as tx:
        video = tx.video(video_id)
    status = {"completed": "released", "failed": "refused"}.get(video.status if video else "", "waiting")
    if data.decision == "approve" and status == "refused":
        status = "ended"
    return {"video_id": video_id, "decision": data.decision, "status": status}


def _time(moment: int) -> str:
    return zulu(datetime.fromtimestamp(moment, UTC))


ROUTES = [list_approvals, draft_clip, draft_thumbnail, answer_approval]
