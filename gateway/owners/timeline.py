"""What was recorded about a likeness: as a timeline to read, whole and provable; and the end of all of it."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import Parameter
from pydantic import Field

from gateway.access import JSON_BYTES, Acting, acting
from gateway.audit import proof_of
from gateway.owners.reasons import told
from gateway.owners.telling import Teller
from gateway.problems import problem, refused
from gateway.service import Service
from gateway.site.words import spoken
from gateway.thumbnails import thumbnail
from ledger.consent.grant import Strict
from ledger.consent.registry import certificate, erase
from ledger.errors import LogError
from ledger.ids import CameoId, LeafIndex, PersonId, VideoId
from ledger.log.merkle import MAX_SIZE
from ledger.provenance.standing import clip_standing
from ledger.store import keeping
from ledger.store.jobs import ENDED
from ledger.store.journal import Opened
from ledger.store.records import Video
from ledger.store.transaction import Transaction
from safety.gate import Denied
from safety.policy.facts import ListFacts, ReaderFacts

Ask = Request[Any, Any, Any]
PAGE = 50
PRIVATE = {"cache-control": "private, no-store"}


@get("/v1/timeline", sync_to_thread=True)
def my_timeline(
    request: Ask,
    service: Service,
    before: Annotated[int, Parameter(ge=0, le=MAX_SIZE)] = MAX_SIZE,
    limit: Annotated[int, Parameter(ge=1, le=200)] = PAGE,
) -> dict[str, Any]:
    """Everything recorded about me, newest first. `before`: the `next` of the page before."""
    who = acting(request, service)
    return timeline(service, who.owner, language=language_of(service, who.actor), before=before, limit=limit)


def timeline(
    service: Service, owner: PersonId, *, language: str = "", before: int = MAX_SIZE, limit: int = PAGE
) -> dict[str, Any]:
    """One page of a person's own list, each entry told in `language`; none: their own.

    Reads `limit` records, whatever the length of the list: that none of them is missing is checked all the same.
    """
    language = language or language_of(service, owner)
    with service.ledger.reading() as tx:
        entries = tx.newest_entries(owner, limit, before=before)
        page = _Page(service, tx, owner, language)
        events = [page.event(entry) for entry in entries]
    more = bool(entries) and entries[-1].opening.n > 0
    return {"events": events, "next": entries[-1].index if more else None}


def language_of(service: Service, person_id: PersonId) -> str:
    with service.ledger.reading() as tx:
        person = tx.person(person_id)
    return person.language if person is not None else "en"


class _Page:
    """What several entries of one page need, looked up once."""

    def __init__(self, service: Service, tx: Transaction, owner: PersonId, language: str) -> None:
        self._tx, self._at, self._standing = tx, service.clock(), tx.standing(owner)
        self._video, self._state = cache(tx.video), cache(self._state_of)
        self._app = cache(lambda app_id: app.name if (app := tx.app(app_id)) else None)
        person = cache(lambda found: one.display_name if (one := tx.person(found)) else None)
        self._teller = Teller(language, self._app, person)

    def event(self, entry: Opened) -> dict[str, Any]:
        body = entry.body
        video_id = body.get("video_id")
        # Of a clip that somebody was found in without having agreed, its words and pictures are not theirs to see.
        seen = entry.kind == "sighting"
        video = None if seen else self._video(str(video_id)) if video_id is not None else None
        app_id = body.get("app_id") or (video.app_id if video is not None else None)
        app_name = self._app(str(app_id)) if app_id is not None else None
        prompt = body.get("prompt") or (video.prompt if video is not None else None) or None
        refused = body.get("allowed") is False or body.get("outcome") == "refused"
        status = "refused" if refused else self._state(video)
        reasons = told(body.get("reasons", ()), self._teller.language)
        title, detail = self._teller.tell(entry, app=app_name or "", prompt=prompt)
        shown = video is not None and keeping.clip_object(self._tx, video.id) is not None
        out = video if video is not None and status in {"released", "withdrawn", "taken_down"} else None
        return {
            "index": entry.index,
            "at": body["at"],
            "kind": entry.kind,
            "title": title,
            "detail": detail,
            "app_id": app_id,
            "app_name": app_name,
            "video_id": video_id,
            "prompt": prompt,
            "reasons": reasons,
            # Of what was not made, the detail says it already.
            "why": " ".join(spoken(one["reason"]) for one in reasons) if entry.kind == "decision" else "",
            "status": status,
            "downloads": out.downloads if out is not None else None,
            "thumbnail": f"/v1/timeline/{video_id}/thumbnail" if shown else None,
        }

    def _state_of(self, video: Video | None) -> str | None:
        """What has become of a clip by now. None: it is being made, or this is not about one."""
        if video is None:
            return None
        if video.taken_down_at is not None:
            return "taken_down"
        if video.status == "completed":
            standing = clip_standing(self._tx, video.id, at=self._at)
            gone = standing is None or standing.consent_now in {"withdrawn", "erased"}
            return "withdrawn" if gone else "released"
        if video.status in ENDED:
            return "refused" if self._standing.refused(video.id) else "failed"
        return "waiting" if self._tx.find("draft", video.id) is not None else None


@get("/v1/timeline/{video_id:str}/thumbnail", sync_to_thread=True)
def timeline_thumbnail(request: Ask, service: Service, video_id: str) -> Response[bytes]:
    """A picture of a clip that shows me: released, waiting, or withdrawn since, for as long as there is a clip."""
    who = acting(request, service)
    with service.ledger.reading() as tx:
        shown = who.owner in {use.person_id for use in tx.uses(VideoId(video_id))}
        key = keeping.clip_object(tx, VideoId(video_id)) if shown else None
    if key is None:
        raise problem(404, "thumbnail.unknown", "there is no such picture of you", "look at your timeline")
    return Response(thumbnail(service, key), media_type="image/jpeg", headers=PRIVATE)


@get("/v1/cameos/{cameo_id:str}/uses", sync_to_thread=True)
def my_uses(
    request: Ask, service: Service, cameo_id: str, proof: bool = False, since: int = 0
) -> dict[str, Any]:
    """Everything recorded about my likeness. With `proof`, one file that shows it to be everything.

    `since`: the size of the log at your last visit; the proof then shows that it only grew.
    """
    owner = _own(service, acting(request, service), cameo_id)
    permitted(service, service.gate.may_read, owner, cameo_id)
    if proof:
        return proof_of(service, owner, CameoId(cameo_id), since=since)
    with service.ledger.reading() as tx:
        entries = [
            {"index": one.index, "kind": one.kind, "body": dict(one.body)} for one in tx.entries(owner)
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
    owner = _own(service, acting(request, service, may=("owner", "executor")), cameo_id)
    if data.confirm != cameo_id:
        raise problem(
            400,
            "erasure.confirm",
            "the field `confirm` is not the id of this likeness",
            "send its id to confirm; download /v1/export first if you want to keep what is there",
        )
    permitted(service, service.gate.may_erase, owner, cameo_id)
    last = _last_list(service, owner, CameoId(cameo_id))
    erased = erase(service.ledger, owner, CameoId(cameo_id), at=service.clock())
    for key in erased.objects:
        # Nothing names them any more. Should this be cut short, the sweep of `gateway.retention` finds them.
        service.objects.delete(key)
    return {"certificate": certificate(service.ledger, erased), "last_list": last}


def _last_list(service: Service, owner: PersonId, cameo_id: CameoId) -> dict[str, Any]:
    """The list as it will end, but for the erasure: what is being made ends first, and that is on it too."""
    at = service.clock()

    def operation(tx: Transaction) -> LeafIndex:
        tx.end_jobs_of(owner, at=at)
        return tx.newest_entries(owner, 1)[0].index

    index = service.ledger.transact(operation)
    try:
        return proof_of(service, owner, cameo_id, index)
    except LogError:
        # Too few witnesses answer: nobody waits for them to be forgotten.
        return proof_of(service, owner, cameo_id)


def permitted(
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


def _own(service: Service, who: Acting, cameo_id: str) -> PersonId:
    """Whose likeness this is: of whoever is signed in, or of whom they act for."""
    with service.ledger.reading() as tx:
        if tx.owner(CameoId(cameo_id)) != who.owner:
            raise problem(404, "cameo.unknown", f"you have no likeness `{cameo_id[:40]}`", "check the id")
    return who.owner


ROUTES = [my_timeline, timeline_thumbnail, my_uses, erase_cameo]
