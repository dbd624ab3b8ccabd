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
from typing import Annotated, Any, Literal

from litestar import Request, Response, delete, get, post, route
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from litestar.enums import HttpMethod
from litestar.response import Stream
from pydantic import Field, ValidationError

from gateway.access import app_of
from gateway.problems import problem, refused
from gateway.service import DEFAULT_MODEL, Service
from ledger.consent.grant import Audience, Purpose, Strict
from ledger.ids import AppId, CameoId, VideoId, is_id, new_id
from ledger.store.records import Video
from safety.enrolment import decode_picture
from safety.gate import Denied, GenerationRequest

Ask = Request[Any, Any, Any]
POLL_AFTER_MS = "500"
MOST_PEOPLE = 4


class Character(Strict):
    """One enrolled likeness to show."""

    id: Annotated[str, Field(max_length=64)]


class ImageReference(Strict):
    """A picture to start from, inline. Addresses are not fetched."""

    image_url: Annotated[str, Field(max_length=40_000_000)]


class VideoCreate(Strict):
    """`POST /v1/videos`. `seconds` is a string, as the protocol has it. Ours: `purpose`, `audience`."""

    prompt: str
    model: str = DEFAULT_MODEL
    seconds: Annotated[str, Field(pattern=r"^([1-9]|1[0-2])$")] = "4"
    size: Literal["1280x720", "720x1280", "854x480", "480x854", "640x360", "1024x1792", "1792x1024"] = (
        "1280x720"
    )
    characters: Annotated[tuple[Character, ...], Field(max_length=4)] = ()
    character_ids: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    input_reference: ImageReference | None = None
    purpose: Purpose = "dpv:NonCommercialPurpose"
    audience: Audience = "requester"

    @property
    def cameo_ids(self) -> tuple[CameoId, ...]:
        named = (*(character.id for character in self.characters), *self.character_ids)
        return tuple(dict.fromkeys(CameoId(one) for one in named))


@post("/v1/videos", status_code=200)
async def create_video(request: Ask, service: Service) -> Response[dict[str, Any]]:
    """Ask for a video. 403 when someone shown has not agreed, 400 when the words or the input cannot be accepted."""
    # Before the body is read: a stranger's 200 MB are not worth keeping.
    app_id = await sync_to_thread(app_of, request, service)
    fields, picture = await _body(request)
    return await sync_to_thread(_create, service, app_id, fields, picture)


@post("/v1/videos/precheck", status_code=200)
async def precheck_video(request: Ask, service: Service) -> dict[str, Any]:
    """What asking for this video would be answered now: the same body, the same decision, and nothing is made.

    Nothing is reserved or recorded, so the answer holds for this moment only. 30 times a minute.
    """
    app_id = await sync_to_thread(app_of, request, service)
    fields, picture = await _body(request)
    return await sync_to_thread(_precheck, service, app_id, fields, picture)


def _precheck(
    service: Service, app_id: AppId, fields: Mapping[str, Any], picture: bytes | None
) -> dict[str, Any]:
    answer = service.gate.precheck(_request(service, app_id, fields, picture), at=service.clock())
    if isinstance(answer, Denied) and answer.kind == "traffic":
        raise refused(answer)
    reasons = [reason.as_json() for reason in answer.reasons] if isinstance(answer, Denied) else []
    return {"object": "video.precheck", "allowed": not reasons, "reasons": reasons}


def _create(
    service: Service, app_id: AppId, fields: Mapping[str, Any], picture: bytes | None
) -> Response[dict[str, Any]]:
    request = _request(service, app_id, fields, picture)
    answer = service.gate.decide(request, at=service.clock())
    if isinstance(answer, Denied):
        raise refused(answer)
    service.pipeline.submit(request.video_id)
    return Response(
        _video_object(_own(service, app_id, request.video_id)),
        headers={"openai-poll-after-ms": POLL_AFTER_MS},
    )


def _request(
    service: Service, app_id: AppId, fields: Mapping[str, Any], picture: bytes | None
) -> GenerationRequest:
    asked = _parse(fields)
    if asked.model not in service.models:
        raise problem(
            400, "request.model", f"there is no model `{asked.model[:40]}`", f"use one of {service.models}"
        )
    if "\x00" in asked.prompt:
        # PostgreSQL cannot store it; the decision would be lost as a fault of ours.
        raise problem(400, "request.prompt", "the prompt contains the character NUL", "remove it")
    if asked.input_reference is not None:
        picture = _inline(asked.input_reference.image_url)
    return GenerationRequest(
        video_id=VideoId(new_id("video")),
        app_id=app_id,
        model=asked.model,
        prompt=asked.prompt,
        seconds=int(asked.seconds),
        size=asked.size,
        purpose=asked.purpose,
        audience=asked.audience,
        modalities=frozenset({"face"}),
        cameo_ids=_known(asked.cameo_ids),
        reference=decode_picture(picture) if picture is not None else None,
    )


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
        "data": [_video_object(row) for row in page],
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": len(rows) > limit,
    }


@get("/v1/videos/{video_id:str}", sync_to_thread=True)
def get_video(request: Ask, service: Service, video_id: str) -> Response[dict[str, Any]]:
    """One video's state."""
    video = _own(service, app_of(request, service), video_id)
    headers = {} if video.status in {"completed", "failed"} else {"openai-poll-after-ms": POLL_AFTER_MS}
    return Response(_video_object(video), headers=headers)


@delete("/v1/videos/{video_id:str}", status_code=200, sync_to_thread=True)
def delete_video(request: Ask, service: Service, video_id: str) -> dict[str, Any]:
    """Delete a video. What the ledger says about it stays; a job still running ends without a clip."""
    app_id = app_of(request, service)
    _own(service, app_id, video_id)
    at = service.clock()
    key = service.ledger.transact(lambda tx: tx.delete_video(VideoId(video_id), at=at))
    if key is not None:
        service.objects.delete(key)
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
        raise problem(
            404,
            "video.not_ready",
            f"the video is `{video.status}`; there is no clip",
            "wait until it is completed",
        )
    with service.ledger.reading() as tx:
        denied = service.gate.may_download(tx, video, app_id, at=service.clock())
    if denied is not None:
        raise refused(denied)
    return _ranged(request, service, video.object_key)


def _ranged(request: Ask, service: Service, key: str) -> Response[Any]:
    size = service.objects.size(key)
    start, end, partial = 0, size, False
    etag = f'"{key.rsplit("/", 1)[-1]}"'
    wanted = request.headers.get("range") if request.method == "GET" else None
    if wanted and request.headers.get("if-range", etag) == etag:
        # At most 18 digits: Python refuses to read thousands of them, and no clip is that long.
        found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", wanted.strip())
        # Anything but one byte range may be answered with the whole (RFC 9110 §14.2).
        if found and found.group(0) != "bytes=-":
            first, last = found.groups()
            start = int(first) if first else max(0, size - int(last))
            end = min(size, int(last) + 1) if first and last else size
            partial = True
            if start >= size or start >= end:
                error = problem(416, "request.range", f"the clip has `{size}` bytes", "ask for bytes it has")
                error.headers["content-range"] = f"bytes */{size}"
                raise error
    headers = {"accept-ranges": "bytes", "content-length": str(end - start), "etag": etag}
    if partial:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if partial else 200
    if request.method == "HEAD":
        return Response(b"", media_type="video/mp4", status_code=status, headers=headers)
    return Stream(
        service.objects.read(key, start, end), media_type="video/mp4", status_code=status, headers=headers
    )


def _own(service: Service, app_id: AppId, video_id: str) -> Video:
    with service.ledger.reading() as tx:
        video = tx.video(video_id) if is_id(video_id, "video") else None
    if video is None or video.app_id != app_id or video.deleted_at is not None:
        raise problem(404, "video.unknown", f"there is no video `{video_id[:40]}`", "check the id")
    return video


def _video_object(video: Video) -> dict[str, Any]:
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
        "remixed_from_video_id": None,
        "error": error,
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


def _parse(fields: Mapping[str, Any]) -> VideoCreate:
    try:
        return VideoCreate.model_validate(fields)
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
