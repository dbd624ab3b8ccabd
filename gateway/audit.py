"""Who used whose face: the auditor's question, its answer, and how a reader checks it.

An auditor's question about a person is itself an entry in that person's log.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from litestar import Request, get

from gateway.access import holder
from gateway.service import Service
from ledger.errors import NotFound
from ledger.ids import CameoId
from ledger.log.disclosure import verify_disclosure
from ledger.log.note import VerifierKey
from ledger.store.transaction import About, Transaction


@get("/v1/audit/uses", sync_to_thread=True)
def audit_uses(request: Request[Any, Any, Any], service: Service, cameo: str) -> dict[str, Any]:
    """Every use and refusal recorded about a likeness, each with its proof. The owner is told that you asked."""
    auditor = holder(request, service, "auditor")
    return uses_of(service, CameoId(cameo), auditor, at=service.clock())


def uses_of(service: Service, cameo_id: CameoId, auditor: str, *, at: datetime) -> dict[str, Any]:
    """The auditor's answer: recorded first, then given."""

    def record(tx: Transaction) -> str:
        owner = tx.owner(cameo_id)
        if owner is None:
            raise NotFound("cameo.unknown", f"there is no likeness `{cameo_id[:40]}`", "check the id")
        ref = f"{cameo_id}/{tx.size()}"
        tx.append("audit", ref, [About(owner, "depicted", {"auditor": auditor, "asked": "uses"})], at=at)
        return owner

    owner = service.ledger.transact(record)
    return {
        "schema": "countersign/uses/v1",
        "cameo_id": cameo_id,
        "entries": service.ledger.disclosures(owner, ("decision", "returned", "release", "revocation")),
    }


def proven_lines(answer: Mapping[str, Any], keys_of_log: Mapping[str, Any]) -> list[str]:
    """Check every entry, and say each in a line. Raises LogError for one that fails.

    `keys_of_log` (as :func:`log_keys_of` gives it) must come from where the reader trusts it, not with the answer.
    """
    log = VerifierKey.parse(keys_of_log["vkey"])
    keys = [Ed25519PublicKey.from_public_bytes(b64decode(key)) for key in keys_of_log["service_keys"]]
    lines = []
    for item in answer["entries"]:
        body = verify_disclosure(item, log, keys)
        lines.append(f"{item['index']:>6}  {body['at']}  {describe(body)}")
    return [
        *lines,
        f"{len(lines)} entries, each with an inclusion proof that verifies against {log.name}'s signed checkpoint",
    ]


def describe(body: Mapping[str, Any]) -> str:
    match body["kind"]:
        case "decision" if body["allowed"]:
            return f"allowed   {body['video_id']} for {body['app_id']}: “{body['prompt']}”"
        case "decision":
            why = "; ".join(reason["reason"] for reason in body["reasons"])
            return f"refused   {body['video_id']} for {body['app_id']}: “{body['prompt']}”: {why}"
        case "release":
            return f"released  {body['video_id']} (checked: {', '.join(body['checks'])})"
        case "returned":
            return (
                f"not made  {body['video_id']}: {'; '.join(reason['reason'] for reason in body['reasons'])}"
            )
        case "revocation":
            return f"revoked   {body['grant_id']} ({body['effect']})"
        case other:
            return str(other)


def log_keys_of(service: Service) -> dict[str, Any]:
    """What a verifier needs to know beforehand, from a source they trust."""
    public = service.keyring.service.public_key().public_bytes_raw()
    return {"vkey": str(service.ledger.verifier), "service_keys": [b64encode(public).decode()]}
