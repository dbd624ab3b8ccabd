"""Bringing a likeness in. Today an operator vouches for a person whom they saw; nothing else activates one."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from litestar import Request, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from pydantic import ValidationError

from gateway.access import holder
from gateway.problems import problem
from gateway.service import Service
from ledger.consent.statement import DeviceSignature
from safety.enrolment import enrol_vouched

Ask = Request[Any, Any, Any]


@post("/v1/cameos/vouched", status_code=201)
async def enrol(request: Ask, service: Service) -> dict[str, str]:
    """An operator enrols someone they saw. Form fields: `statement` (JSON), `evidence` (JSON), file `picture`."""
    await sync_to_thread(holder, request, service, "operator")
    form = await request.form()
    picture = form.get("picture")
    if not isinstance(picture, UploadFile):
        raise problem(
            400, "request.picture", "the file `picture` is missing", "send an image or a short video"
        )
    content = await picture.read()
    return await sync_to_thread(_enrol, service, form.get("statement"), form.get("evidence"), content)


def _enrol(service: Service, statement: object, evidence: object, content: bytes) -> dict[str, str]:
    with TemporaryDirectory(prefix="enrol-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "picture"
        path.write_bytes(content)
        person_id, cameo_id = enrol_vouched(
            service.ledger, _json(statement, "statement"), _evidence(evidence), path, at=service.clock()
        )
    return {"person_id": person_id, "cameo_id": cameo_id, "status": "active", "path": "vouched"}


def _evidence(value: object) -> DeviceSignature:
    try:
        return DeviceSignature.model_validate(_json(value, "evidence"))
    except ValidationError as error:
        raise problem(
            400, "request.evidence", "the field `evidence` is not a device signature", "sign again"
        ) from error


def _json(value: object, name: str) -> Any:
    try:
        return json.loads(str(value))
    except ValueError as error:
        raise problem(
            400, f"request.{name}", f"the field `{name}` is not JSON", "send it as JSON text"
        ) from error


ROUTES = [enrol]
