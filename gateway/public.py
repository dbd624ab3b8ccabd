"""What anyone may ask without an account.

A file sent to `/v1/verify` is decoded, answered and deleted. A clip's status names nobody.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore
from typing import Any, TypeVar

from litestar import Request, Response, get, post
from litestar.datastructures import UploadFile

from gateway.problems import problem
from gateway.service import Service
from ledger.provenance import schemas
from ledger.provenance.verdict import Verdict, clip_standing
from safety.policy.engine import Engine

Ask = Request[Any, Any, Any]
R = TypeVar("R")
# Strangers' files are decoded on threads of their own: a queue of them never holds up a revocation.
_DECODING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="verify")
_PLACES = BoundedSemaphore(16)


@post("/v1/verify", status_code=200)
async def verify(request: Ask, service: Service) -> dict[str, Any]:
    """The verdict on a video: send it as the body, or as the form file `file`. Nothing is kept."""
    with TemporaryDirectory(prefix="verify-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "upload"
        await _receive(request, path, service.settings.max_upload_mb << 20)
        verdict = await judged(service, path)
    return verdict.as_json()


async def judged(service: Service, path: Path) -> Verdict:
    """The verdict on a stranger's file, in its turn. Raises a 503 problem when too many wait."""
    return await in_turn(partial(service.verifier.verify, path, at=service.clock()))


async def in_turn(job: Callable[[], R]) -> R:
    """Decode what a stranger sent, two at a time. Raises a 503 problem when too many wait."""
    if not _PLACES.acquire(blocking=False):
        raise problem(
            503, "verify.busy", "too many files are being checked right now", "try again in a minute"
        )
    try:
        return await asyncio.get_running_loop().run_in_executor(_DECODING, job)
    finally:
        _PLACES.release()


async def _receive(request: Ask, path: Path, limit: int) -> None:
    received = 0
    with path.open("wb") as out:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            upload = (await request.form()).get("file")
            if not isinstance(upload, UploadFile):
                raise problem(400, "request.file", "the file `file` is missing", "send a video")
            while chunk := await upload.read(1 << 20):
                out.write(chunk)
            return
        async for chunk in request.stream():
            received += len(chunk)
            if received > limit:
                raise problem(
                    413, "media.too_large", f"the file is over `{limit >> 20}` MB", "send a shorter clip"
                )
            out.write(chunk)


@get("/v1/clips/{video_id:str}", sync_to_thread=True)
def clip_status(service: Service, video_id: str) -> dict[str, Any]:
    """Does consent to this clip still stand? The address every manifest carries."""
    with service.ledger.reading() as tx:
        standing = clip_standing(tx, video_id, at=service.clock())
    if standing is None:
        raise problem(404, "clip.unknown", "this ledger released no such clip", "check the id")
    return {
        "video_id": standing.video_id,
        "released": standing.released,
        "released_at": standing.released_at,
        "people_shown": standing.people,
        "consent_now": standing.consent_now,
        "consent_changed_at": standing.consent_changed_at,
        "taken_down": standing.taken_down_at is not None,
        "taken_down_at": standing.taken_down_at,
        "log": {
            "origin": service.ledger.origin,
            "decision": standing.decision_index,
            "release": standing.release_index,
        },
    }


@get("/root.pem", sync_to_thread=True)
def root_certificate(service: Service) -> Response[bytes]:
    """The trust anchors of our manifests. An embedded one is for development, and says so in its name."""
    anchors = service.signing.anchors
    return Response(anchors.own_pem + anchors.development_pem, media_type="application/x-pem-file")


@get("/schemas/{name:str}/v1", sync_to_thread=True)
def assertion_schema(name: str) -> Response[bytes]:
    """The JSON Schema of what our manifests say: `consent` and `generation`, as `org.countersign.NAME`."""
    if name not in schemas.NAMES:
        raise problem(404, "schema.unknown", f"there is no schema `{name[:40]}`", f"one of {schemas.NAMES}")
    body = json.dumps(schemas.schema(name), indent=2).encode()
    return Response(body, media_type="application/schema+json")


@get("/health", sync_to_thread=False)
def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@get("/ready", sync_to_thread=True)
def ready(service: Service) -> dict[str, Any]:
    """The service can decide: database, policies and log are usable."""
    with service.ledger.reading() as tx:
        size, in_force = tx.size(), tx.policies()
        engine = service.sets.of(tx, in_force.current) if in_force is not None else Engine.missing("")
    if engine.policies is None:
        raise problem(
            503,
            "policy.unreadable",
            "the policies in force cannot be read, so everything is refused",
            "the operator finds the cause in the service's own records",
        )
    return {"status": "ready", "log_size": size, "policy_set": engine.policy_set_hash}


@get("/v1/policies", sync_to_thread=True)
def policies_in_force(service: Service) -> dict[str, Any]:
    """Which policy set decides now, by its hash; during a roll-out also the incoming one, and for what share of apps."""
    with service.ledger.reading() as tx:
        in_force = tx.policies()
    if in_force is None:
        raise problem(404, "policy.none", "no policy set is in force yet", "start the service")
    return {"current": in_force.current, "incoming": in_force.incoming, "share_per_mille": in_force.share}


@get("/v1/policies/{sha256:str}", sync_to_thread=True)
def policy_set(service: Service, sha256: str) -> dict[str, Any]:
    """The files of a set on record. Whoever reads them hashes them: the log and each decision name a set by its hash."""
    with service.ledger.reading() as tx:
        files = tx.policy_set(sha256)
    if files is None:
        raise problem(
            404, "policy.unknown", f"there is no policy set `{sha256[:64]}`", "ask for /v1/policies"
        )
    return {"sha256": sha256, "files": {name: data.decode() for name, data in files.items()}}
