"""`/v1/videos`: the OpenAI-compatible face of the gate.

JSON and multipart are read alike; the public Python SDK always sends multipart with bracketed keys
(`characters[][id]`, `input_reference[image_url]`). A field we do not know is refused by name: an identity
adapter or a URL smuggled past the gate would bypass consent. Status is only ever queued, in_progress, completed
or failed. Everything an app may see of another app's videos is 404.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from litestar import Request, Response, delete, get, post, route
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from litestar.enums import HttpMethod
from pydantic import Field, ValidationError, field_validator

from gateway.access import app_of
from gateway.held import waits
from gateway.owners.tokens import speaks_for
from gateway.problems import Problem, problem, refused
from gateway.ranges import send, wanted_piece
from gateway.service import DEFAULT_MODEL, Service
from ledger.consent.grant import Audience, Modality, Purpose, Strict
from ledger.ids import AppId, CameoId, PersonId, VideoId, is_id, new_id
from ledger.provenance.label import Language
from ledger.provenance.profiles import Marking, ProfileId
from ledger.store.records import Video
from safety.enrolment import decode_picture
from safety.gate import MOST_PEOPLE, Denied, GenerationRequest

Ask = Request[Any, Any, Any]
POLL_AFTER_MS = "500"
A = TypeVar("A", bound="Asked")


class Character(Strict):
    """One enrolled likeness to show."""

    id: Annotated[str, Field(max_length=64)]


class ImageReference(Strict):
    """A picture to start from, inline. Addresses are not fetched."""

    image_url: Annotated[str, Field(max_length=40_000_000)]


Country = Annotated[str, Field(pattern=r"^([A-Z]{2}|\*)$")]


class Asked(Strict):
    """What every request for a clip says. Ours: `purpose`, `audience`, `countries`, where it will be shown,
    `modalities`: whether those it names are heard as well as seen, and how the clip is marked: `profiles`, the rules of
    which places it has to meet, and `visible_label` in `label_language`, whether the picture says that AI made it.
    """

    prompt: str
    characters: Annotated[tuple[Character, ...], Field(max_length=4)] = ()
    character_ids: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    purpose: Purpose = "dpv:NonCommercialPurpose"
    audience: Audience = "requester"
    countries: Annotated[tuple[Country, ...], Field(min_length=1, max_length=250)] = ("*",)
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1, max_length=2)] = ("face",)
    profiles: Annotated[tuple[ProfileId, ...], Field(max_length=8)] = ()
    visible_label: bool = False
    label_language: Language = "en"

    @field_validator("modalities")
    @classmethod
    def _seen(cls, modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
        # A model is given the portraits of all it depicts: nobody is only heard.
        if "face" not in modalities:
            raise ValueError("`face` is always among them")
        return modalities

    def marking(self, service: Service) -> Marking:
        """What the app asks for, and what the operator does not let it go below."""
        settings = service.settings
        asked = Marking(
            profiles=self.profiles, visible_label=self.visible_label, language=self.label_language
        )
        return asked.beside(Marking(profiles=settings.profiles, visible_label=settings.visible_label))

    @property
    def cameo_ids(self) -> tuple[CameoId, ...]:
        named = (*(character.id for character in self.characters), *self.character_ids)
        return tuple(dict.fromkeys(CameoId(one) for one in named))


class VideoCreate(Asked):
    """`POST /v1/videos`. `seconds` is a string, as the protocol has it."""

    model: str = DEFAULT_MODEL
    seconds: Annotated[str, Field(pattern=r"^([1-9]|1[0-2])$")] = "4"
    size: Literal["1280x720", "720x1280", "854x480", "480x854", "640x360", "1024x1792", "1792x1024"] = (
        "1280x720"
    )
    input_reference: ImageReference | None = None


class VideoRemix(Asked):
    """`POST /v1/videos/{id}/remix`. Length, size and model are those of the clip it starts from."""


@dataclass(frozen=True, slots=True)
class _Asker:
    """The app that asks, and the person it asks for, if it said so and showed that it may."""

    app_id: AppId
    person: PersonId | None


def _asker(request: Ask, service: Service) -> _Asker:
    app_id = app_of(request, service)
    return _Asker(app_id, speaks_for(request, service, app_id))


@post("/v1/videos", status_code=200)
async def create_video(request: Ask, service: Service) -> Response[dict[str, Any]]:
    """Ask for a video. 403 when someone shown has not agreed, 400 when the words or the input cannot be accepted.

    `profiles` (`eu`, `us-ca`, `cn`, `in`, `in-draft`): the rules of which places the clip has to meet. They decide what it
    says of itself and whether a label is burnt into the picture; `visible_label` asks for one in any case, in
    `label_language`. A remix keeps those of the clip it starts from.
    The header `x-countersign-person`: a token of the person the app asks for, whose grants then count as well.
    """
    # Before the body is read: a stranger's 200 MB are not worth keeping.
    asker = await sync_to_thread(_asker, request, service)
    fields, picture = await _body(request)
    return await sync_to_thread(_create, service, asker, fields, picture)


@post("/v1/videos/precheck", status_code=200)
async def precheck_video(request: Ask, service: Service) -> dict[str, Any]:
    """What asking for this video would be answered now: the same body, the same decision, and nothing is made.

    Nothing is reserved or recorded, so the answer holds for this moment only. 30 times a minute.
    """
    asker = await sync_to_thread(_asker, request, service)
    fields, picture = await _body(request)
    return await sync_to_thread(_precheck, service, asker, fields, picture)


@post("/v1/videos/{video_id:str}/remix", status_code=200)
async def remix_video(request: Ask, service: Service, video_id: str) -> Response[dict[str, Any]]:
    """Ask for another clip with the people of one that is out: the app's own, or one made for everyone to see.

    Everyone it shows is named by it, and each needs a grant that allows a remix.
    """
    asker = await sync_to_thread(_asker, request, service)
    fields, picture = await _body(request)
    if picture is not None:
        raise problem(400, "request.input_reference", "a remix starts from a clip alone", "leave it out")
    return await sync_to_thread(_remix, service, asker, video_id, fields)


def _precheck(
    service: Service, asker: _Asker, fields: Mapping[str, Any], picture: bytes | None
) -> dict[str, Any]:
    answer = service.gate.precheck(_request(service, asker, fields, picture), at=service.clock())
    if isinstance(answer, Denied) and answer.kind == "traffic":
        raise refused(answer)
    reasons = [reason.as_json() for reason in answer.reasons] if isinstance(answer, Denied) else []
    return {"object": "video.precheck", "allowed": not reasons, "reasons": reasons}


def _create(
    service: Service, asker: _Asker, fields: Mapping[str, Any], picture: bytes | None
) -> Response[dict[str, Any]]:
    return _decided(service, _request(service, asker, fields, picture))


def _remix(
    service: Service, asker: _Asker, video_id: str, fields: Mapping[str, Any]
) -> Response[dict[str, Any]]:
    asked = _parse(VideoRemix, fields)
    with service.ledger.reading() as tx:
        parent = tx.video(video_id) if is_id(video_id, "video") else None
    if parent is None or parent.deleted_at is not None:
        raise _unknown(video_id)
    if parent.app_id == asker.app_id and parent.object_key is None:
        raise _not_ready(parent)
    return _decided(
        service,
        GenerationRequest(
            video_id=VideoId(new_id("video")),
            app_id=asker.app_id,
            model=parent.model,
            prompt=_words(asked),
            seconds=parent.seconds,
            size=parent.size,
            purpose=asked.purpose,
            audience=asked.audience,
            modalities=frozenset(asked.modalities),
            cameo_ids=_known(asked.cameo_ids),
            person=asker.person,
            countries=asked.countries,
            marking=asked.marking(service),
            action="remix",
            parent=parent.id,
        ),
    )


def _decided(service: Service, request: GenerationRequest) -> Response[dict[str, Any]]:
    answer = service.gate.decide(request, at=service.clock())
    if isinstance(answer, Denied):
        if request.parent is not None and answer.reasons[0].id == "parent.unknown":
            # Another app's clip that is not for everyone: to this one it does not exist.
            raise _unknown(request.parent)
        raise refused(answer)
    service.pipeline.submit(request.video_id)
    return Response(
        _video_object(service, _own(service, request.app_id, request.video_id)),
        headers={"openai-poll-after-ms": POLL_AFTER_MS},
    )


def _request(
    service: Service, asker: _Asker, fields: Mapping[str, Any], picture: bytes | None
) -> GenerationRequest:
    asked = _parse(VideoCreate, fields)
    if asked.model not in service.models:
        raise problem(
            400, "request.model", f"there is no model `{asked.model[:40]}`", f"use one of {service.models}"
        )
    if asked.input_reference is not None:
        picture = _inline(asked.input_reference.image_url)
    return GenerationRequest(
        video_id=VideoId(new_id("video")),
        app_id=asker.app_id,
        model=asked.model,
        prompt=_words(asked),
        seconds=int(asked.seconds),
        size=asked.size,
        purpose=asked.purpose,
        audience=asked.audience,
        modalities=frozenset(asked.modalities),
        cameo_ids=_known(asked.cameo_ids),
        reference=service.eyes.call(decode_picture, picture) if picture is not None else None,
        person=asker.person,
        countries=asked.countries,
        marking=asked.marking(service),
    )


def _words(asked: Asked) -> str:
    if "\x00" in asked.prompt:
        # PostgreSQL cannot store it; the decision would be lost as a fault of ours.
        raise problem(400, "request.prompt", "the prompt contains the character NUL", "remove it")
    return asked.prompt


@get("/v1/videos", sync_to_thread=True)
def list_videos(
    request: Ask,
    service: Service,
    after: str | None = None,
    limit: int = 20,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    """The app's videos, newest first."""
    app_id = app_of(request, service)
    if not 1 <= limit <= 100:
        raise problem(400, "request.limit", f"`limit` is `{limit}`", "use 1 to 100")
    with service.ledger.reading() as tx:
        rows = tx.videos(app_id, after=after, limit=limit, newest_first=order == "desc")
    page = rows[:limit]
    return {
        "object": "list",
        "data": [_video_object(service, row) for row in page],
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": len(rows) > limit,
    }


@get("/v1/videos/{video_id:str}", sync_to_thread=True)
def get_video(request: Ask, service: Service, video_id: str) -> Response[dict[str, Any]]:
    """One video's state."""
    video = _own(service, app_of(request, service), video_id)
    headers = {} if video.status in {"completed", "failed"} else {"openai-poll-after-ms": POLL_AFTER_MS}
    return Response(_video_object(service, video), headers=headers)


@delete("/v1/videos/{video_id:str}", status_code=200, sync_to_thread=True)
def delete_video(request: Ask, service: Service, video_id: str) -> dict[str, Any]:
    """Delete a video. What the ledger says about it stays; a job still running ends without a clip."""
    app_id = app_of(request, service)
    _own(service, app_id, video_id)
    at = service.clock()
    key = service.ledger.transact(lambda tx: tx.delete_video(VideoId(video_id), at=at))
    if key is not None:
        service.objects.delete(key)
    service.pipeline.drafts.settle(VideoId(video_id))
    return {"id": video_id, "object": "video.deleted", "deleted": True}


@route(
    "/v1/videos/{video_id:str}/content", http_method=[HttpMethod.GET, HttpMethod.HEAD], sync_to_thread=True
)
def video_content(request: Ask, service: Service, video_id: str, variant: str = "video") -> Response[Any]:
    """The clip's bytes. Consent is asked again at every download; ranges as RFC 9110 §14."""
    app_id = app_of(request, service)
    video = _own(service, app_id, video_id)
    if variant != "video":
        raise problem(
            400, "request.variant", f"the variant `{variant[:20]}` is not offered", "ask for `video`"
        )
    if video.status != "completed" or video.object_key is None:
        raise _not_ready(video)
    with service.ledger.reading() as tx:
        denied = service.gate.may_download(tx, video, app_id, at=service.clock())
    if denied is not None:
        raise refused(denied)
    piece = wanted_piece(request, service.objects, video.object_key)
    if request.method == "GET" and piece.start == 0:
        # Once a download: a player asks for the rest in many pieces.
        service.ledger.transact(lambda tx: tx.count_download(video.id))
    return send(request, service.objects, piece)


def _own(service: Service, app_id: AppId, video_id: str) -> Video:
    with service.ledger.reading() as tx:
        video = tx.video(video_id) if is_id(video_id, "video") else None
    if video is None or video.app_id != app_id or video.deleted_at is not None:
        raise _unknown(video_id)
    return video


def _unknown(video_id: str) -> Problem:
    return problem(404, "video.unknown", f"there is no video `{video_id[:40]}`", "check the id")


def _not_ready(video: Video) -> Problem:
    sentence = f"the video is `{video.status}`; there is no clip"
    return problem(404, "video.not_ready", sentence, "wait until it is completed")


def _video_object(service: Service, video: Video) -> dict[str, Any]:
    """As the protocol has it, and `waits`, which is ours: for whose word a finished clip waits, and until when."""
    error = {"code": video.error_code, "message": video.error_message} if video.error_code else None
    return {
        "id": video.id,
        "object": "video",
        "model": video.model,
        "status": video.status,
        "progress": video.progress,
        "created_at": video.created_at,
        "completed_at": video.completed_at,
        "expires_at": None,
        "prompt": video.prompt,
        "size": video.size,
        "seconds": str(video.seconds),
        "remixed_from_video_id": video.parent_id if video.action == "remix" else None,
        "error": error,
        "waits": waits(service, video),
    }


# What comes in ----------------------------------------------------------------------------------------


async def _body(request: Ask) -> tuple[dict[str, Any], bytes | None]:
    """The fields of a JSON or form body, and the picture sent as a file, if any."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise problem(400, "request.body", "the body is not a JSON object", "send one")
        return fields, None
    if kind not in {"multipart/form-data", "application/x-www-form-urlencoded"}:
        raise problem(
            415, "request.content_type", "the body is neither JSON nor a form", "send `application/json`"
        )
    form = await request.form()
    picture: bytes | None = None
    pairs: list[tuple[str, str]] = []
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            if key != "input_reference" or picture is not None:
                raise problem(
                    400,
                    "request.file",
                    f"the file `{key[:40]}` is not expected",
                    "send one `input_reference`",
                )
            picture = await value.read()
        else:
            pairs.append((key, str(value)))
    return unbracket(pairs), picture


def unbracket(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Form keys to nested fields: `a`, `a[b]`, `a[]`, `a[][b]`. Deeper nesting is refused."""
    fields: dict[str, Any] = {}
    for key, value in pairs:
        found = re.fullmatch(r"([A-Za-z_]\w{0,63})(\[\])?(?:\[([A-Za-z_]\w{0,63})\])?", key)
        if found is None:
            raise problem(400, "request.field", f"the field `{key[:40]}` is not known", "remove it")
        name, many, inner = found.groups()
        if many:
            items = fields.setdefault(name, [])
            fits = isinstance(items, list)
            if fits and inner is None:
                items.append(value)
            elif fits and (not items or not isinstance(items[-1], dict) or inner in items[-1]):
                items.append({inner: value})
            elif fits:
                items[-1][inner] = value
        elif inner:
            group = fields.setdefault(name, {})
            fits = isinstance(group, dict) and inner not in group
            if fits:
                group[inner] = value
        else:
            fits = name not in fields
            fields[name] = value
        if not fits:
            raise problem(
                400, f"request.{name}", f"the field `{name}` is sent twice or in two shapes", "send it once"
            )
    return fields


def _parse(kind: type[A], fields: Mapping[str, Any]) -> A:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:80] or "body"
        if first["type"] == "extra_forbidden":
            raise problem(
                400, f"request.{where}", f"the field `{where}` is not known here", "remove it"
            ) from error
        sentence = f"the field `{where}` is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}"
        raise problem(400, f"request.{where}", sentence, "correct it and ask again") from error


def _known(cameo_ids: tuple[CameoId, ...]) -> tuple[CameoId, ...]:
    if len(cameo_ids) > MOST_PEOPLE:
        raise problem(
            400, "request.characters", f"at most `{MOST_PEOPLE}` people fit in a clip", "name fewer"
        )
    for cameo_id in cameo_ids:
        if not is_id(cameo_id, "cameo"):
            raise problem(
                400, "request.characters", f"`{cameo_id[:40]}` is not the id of a likeness", "check the id"
            )
    return cameo_ids


def _inline(url: str) -> bytes:
    """The bytes of a data: URL. An address is never fetched: it could point anywhere inside our network."""
    head, _, data = url.partition(",")
    if not re.fullmatch(r"data:image/[a-z0-9.+-]+;base64", head):
        raise problem(
            400,
            "request.input_reference",
            "only inline pictures are accepted",
            "send a `data:image/…;base64,` URL",
        )
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise problem(
            400, "request.input_reference", "the inline picture is not base64", "encode it again"
        ) from error
