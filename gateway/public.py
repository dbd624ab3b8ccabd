"""What anyone may ask without an account, and what auditors ask with a key.

A file sent to `/v1/verify` is decoded, answered and deleted. A clip's status names nobody. An auditor's question
about a person is itself an entry in that person's log.
"""

import base64
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile

from gateway.access import holder
from gateway.problems import problem
from gateway.service import Service
from ledger.ids import CameoId
from ledger.log.disclosure import disclose
from ledger.provenance.verdict import clip_standing
from ledger.store.transaction import About, Transaction

Ask = Request[Any, Any, Any]


@post("/v1/verify", status_code=200)
async def verify(request: Ask, service: Service) -> dict[str, Any]:
    """The verdict on a video: send it as the body, or as the form file `file`. Nothing is kept."""
    with TemporaryDirectory(prefix="verify-") as directory:
        path = Path(directory) / "upload"
        await _receive(request, path, service.settings.max_upload_mb << 20)
        verdict = await sync_to_thread(service.verifier.verify, path, at=service.clock())
    return verdict.as_json()


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
        "log": {
            "origin": service.ledger.origin,
            "decision": standing.decision_index,
            "release": standing.release_index,
        },
    }


@get("/v1/audit/uses", sync_to_thread=True)
def audit_uses(request: Ask, service: Service, cameo: str) -> dict[str, Any]:
    """Every use and refusal recorded about a likeness, each with its proof. The owner is told that you asked."""
    auditor = holder(request, service, "auditor")
    return uses_of(service, CameoId(cameo), auditor, at=service.clock())


def uses_of(service: Service, cameo_id: CameoId, auditor: str, *, at: datetime) -> dict[str, Any]:
    """The auditor's answer: recorded first, then given."""

    def record(tx: Transaction) -> str:
        owner = tx.owner(cameo_id)
        if owner is None:
            raise problem(404, "cameo.unknown", f"there is no likeness `{cameo_id[:40]}`", "check the id")
        ref = f"{cameo_id}/{tx.size()}"
        tx.append("audit", ref, [About(owner, "depicted", {"auditor": auditor, "asked": "uses"})], at=at)
        return owner

    owner = service.ledger.transact(record)
    with service.ledger.reading() as tx:
        entries = tx.entries(owner, ("decision", "returned", "release", "revocation"))
    return {
        "schema": "countersign/uses/v1",
        "cameo_id": cameo_id,
        "log": log_keys_of(service),
        "entries": [disclose(entry, service.ledger.proof(entry.index)) for entry in entries],
    }


def log_keys_of(service: Service) -> dict[str, Any]:
    """What a verifier needs to know beforehand, from a source they trust."""
    public = service.keyring.service.public_key().public_bytes_raw()
    return {"vkey": str(service.ledger.verifier), "service_keys": [base64.b64encode(public).decode()]}


@get("/checkpoint", sync_to_thread=True)
def checkpoint(service: Service) -> Response[bytes]:
    """The newest checkpoint (C2SP tlog-checkpoint)."""
    return Response(
        service.ledger.checkpoint(),
        media_type="text/plain; charset=utf-8",
        headers={"cache-control": "no-store"},
    )


@get("/v1/log/keys", sync_to_thread=True)
def log_keys(service: Service) -> dict[str, Any]:
    """The log's verifier key and the keys that sign its leaves."""
    return log_keys_of(service)


@get("/root.pem", sync_to_thread=True)
def root_certificate(service: Service) -> Response[bytes]:
    """The trust anchor of our manifests. The embedded one is for development, and says so in its name."""
    return Response(service.anchors_pem, media_type="application/x-pem-file")


@get("/health", sync_to_thread=False)
def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@get("/ready", sync_to_thread=True)
def ready(service: Service) -> dict[str, Any]:
    """The service can decide: database, policies and log are usable."""
    fault = service.gate.engine.fault
    if fault is not None:
        raise problem(503, fault.id, fault.sentence, fault.remedy)
    with service.ledger.reading() as tx:
        size = tx.size()
    return {"status": "ready", "log_size": size, "policy_set": service.gate.engine.policy_set_hash}
