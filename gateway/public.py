"""What anyone may ask without an account.

A file sent to `/v1/verify` is decoded, answered and deleted. A clip's status names nobody.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from litestar import Request, Response, get, post

from gateway.problems import problem
from gateway.service import Service
from gateway.uploads import in_turn, received
from ledger.errors import MediaError
from ledger.provenance import schemas
from ledger.provenance.standing import clip_standing
from ledger.provenance.verdict import Verdict
from safety.policy.engine import Engine

Ask = Request[Any, Any, Any]
_STATUS = {"media.too_large": 413, "media.not_video": 415, "media.codec": 415}
"""Of files that no verdict is given on; others are 422."""


@post("/v1/verify", status_code=200)
async def verify(request: Ask, service: Service) -> dict[str, Any]:
    """The verdict on a video: send it as the body, or as the form file `file`. Nothing is kept."""
    async with received(request, service) as path:
        try:
            found = await judged(service, path)
        except MediaError as error:
            said = error.reason
            raise problem(_STATUS.get(said.id, 422), said.id, said.sentence, said.remedy) from error
    return found.as_json()


async def judged(service: Service, path: Path) -> Verdict:
    """The verdict on a stranger's file, in its turn. Raises a 503 problem when too many wait."""
    return await in_turn(partial(service.verifier.verify, path, at=service.clock()))


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
        "checks": None if standing.checks is None else list(standing.checks),
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


@get("/schemas/{name:str}/{version:str}", sync_to_thread=True)
def published_schema(name: str, version: str) -> Response[bytes]:
    """The JSON Schema of what our manifests say (`consent/v1`, `generation/v1`) and of a verdict (`verdict/v2`)."""
    if schemas.VERSIONS.get(name) != version:
        known = ", ".join(f"`{one}/{held}`" for one, held in schemas.VERSIONS.items())
        raise problem(
            404, "schema.unknown", f"there is no schema `{name[:40]}/{version[:10]}`", f"ask for {known}"
        )
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
