"""The C2PA Soft Binding Resolution API 2.4, read side: from a clip that lost its manifest to the manifest.

    GET|POST /v1/matches/byBinding             a mark's number → ids of manifests
    POST     /v1/matches/byContent             a file → ids of manifests; nothing of it is kept
    GET      /v1/manifests/<id>                a manifest store (`application/c2pa`), or its active manifest alone
    GET|POST /v1/manifests/<id>/receipts       that the manifest is in our log; whether a receipt shows that
    GET      /v1/services/supportedAlgorithms | status | capabilities
    GET      /.well-known/c2pa-soft-binding-resolution

Everything here is public, as manifests are: they name clips, grants and places in the log, and nobody. So a manifest
answers for as long as there is a log, also once the clip is withdrawn, taken down or destroyed: that is when copies of
it have to be recognised. What is to be thought of the clip *now*, the address in the manifest says; an answer with the
manifest repeats it as a link (`rel="describedby"`).

A match says that this ledger released a clip with that mark, not that the file which was sent shows that clip and
nothing else: a mark can be copied. That is for `/v1/verify` to judge. Nothing here fetches an address that somebody
names, so `byReference` is refused; nor does anyone store manifests here but the service itself.
"""

import binascii
import json
import re
from base64 import b64decode
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread

from gateway.access import JSON_BYTES
from gateway.log import published_size, transparent_statement
from gateway.problems import problem
from gateway.public import judged
from gateway.service import Service
from gateway.uploads import received
from ledger.errors import LedgerError, LogError
from ledger.ids import VideoId
from ledger.provenance import anchored, jumbf, watermark
from ledger.provenance.manifest import WATERMARK_ALG
from ledger.provenance.verdict import Verdict
from ledger.store.records import Manifest
from ledger.store.transaction import Transaction

SPEC_VERSION: Final = "2.4.0"
C2PA: Final = "application/c2pa"
MAX_VALUE: Final = 1024
"""Characters of a binding's value in an address; in a body there may be more, and none that is longer is ours."""
MAX_RESULTS: Final = 100
_DEFAULT_RESULTS: Final = 10
_CERTAIN: Final = 100
_HEX: Final = re.compile(rb"[0-9a-f]{%d}" % (2 * watermark.PAYLOAD_BYTES))
Ask = Request[Any, Any, Any]


# --- queries ------------------------------------------------------------------------------------------------


@get("/v1/matches/byBinding", sync_to_thread=True)
def by_binding(request: Ask, service: Service) -> dict[str, Any]:
    """The manifests bound to a mark's number. `value`: base64 of its 8 bytes, or of their hexadecimal, or that itself."""
    asked = request.query_params
    value = asked.get("value", "")
    if len(value) > MAX_VALUE:
        raise problem(414, "bindings.value", "the value is too long for an address", "send it with POST")
    return _bound(service, asked.get("alg", ""), value, _most(request))


@post("/v1/matches/byBinding", status_code=200)
async def by_large_binding(request: Ask, service: Service) -> dict[str, Any]:
    """The same for a value of any length, as JSON: `{"alg", "value"}`."""
    asked = await _json(request)
    alg, value = asked.get("alg"), asked.get("value")
    if not isinstance(alg, str) or not isinstance(value, str):
        raise problem(400, "bindings.query", "`alg` and `value` are not both text", "send both as strings")
    return await sync_to_thread(_bound, service, alg, value, _most(request))


@post("/v1/matches/byContent", status_code=200)
async def by_content(request: Ask, service: Service) -> dict[str, Any]:
    """The manifests of the clip in a video, which is the body. It is decoded, answered and deleted.

    `alg` asks for what one algorithm finds. A hint is the sender's word, and only what the file shows is answered.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("video/"):
        raise problem(415, "bindings.type", f"`{kind[:60]}` is not a video", "send it as `video/mp4`, say")
    alg, most = request.query_params.get("alg"), _most(request)
    if alg is not None:
        _require_known(alg)
    async with received(request, service) as path:
        verdict = await judged(service, path)
    return {"matches": (await sync_to_thread(_matches, service, verdict, alg))[:most]}


def _matches(service: Service, verdict: Verdict, alg: str | None) -> list[dict[str, Any]]:
    with service.ledger.reading() as tx:
        return _in(tx, verdict, embedded=alg is None)


@post("/v1/matches/byReference", status_code=200)
async def by_reference() -> dict[str, Any]:
    """Refused: this service fetches no address that somebody names."""
    raise problem(
        403, "bindings.reference", "this service fetches nothing by its address", "send the file to byContent"
    )


def _bound(service: Service, alg: str, value: str, most: int) -> dict[str, Any]:
    _require_known(alg)
    payload = _payload(value)
    with service.ledger.reading() as tx:
        return {"matches": _by_payload(tx, payload)[:most]}


def _payload(value: str) -> bytes | None:
    """The mark's number that a value stands for; None for what is none of ours. Raises a 400 problem for no base64."""
    # A form turns `+` into a space, and both alphabets of base64 are in use.
    plain = value.replace(" ", "+").replace("-", "+").replace("_", "/").encode(errors="replace")
    if _HEX.fullmatch(plain):
        return bytes.fromhex(value)
    said = _unbased(plain)
    if _HEX.fullmatch(said):
        return bytes.fromhex(said.decode())
    return said if len(said) == watermark.PAYLOAD_BYTES else None


def _unbased(text: bytes) -> bytes:
    try:
        return b64decode(text.rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4), validate=True)
    except binascii.Error as error:
        raise problem(400, "bindings.value", "the value is not base64", "encode it as base64") from error


def _by_payload(tx: Transaction, payload: bytes | None) -> list[dict[str, Any]]:
    video_id = tx.video_by_payload(payload) if payload is not None else None
    return _match(tx, video_id) if video_id is not None else []


def _in(tx: Transaction, verdict: Verdict, *, embedded: bool) -> list[dict[str, Any]]:
    """What a file's verdict leads to: by its marks, and unless only those were asked for, by manifest and looks too.

    Looks alone have no score: for how much of a clip they speak, `/v1/verify` says in words.
    """
    found = [one for mark in verdict.marks for one in _by_payload(tx, bytes.fromhex(mark.payload))]
    if embedded and verdict.recovered_via == "embedded" and verdict.video_id is not None:
        found += _match(tx, VideoId(verdict.video_id))
    if embedded:
        looks = (one for video_id in verdict.clips for one in _match(tx, VideoId(video_id)))
        found += [{"manifestId": one["manifestId"]} for one in looks]
    matches: dict[str, dict[str, Any]] = {}
    for one in found:
        matches.setdefault(one["manifestId"], one)
    return list(matches.values())


def _match(tx: Transaction, video_id: VideoId) -> list[dict[str, Any]]:
    manifest_id = tx.manifest_of(video_id)
    return [{"manifestId": manifest_id, "similarityScore": _CERTAIN}] if manifest_id is not None else []


def _require_known(alg: str) -> None:
    if alg != WATERMARK_ALG:
        raise problem(
            400,
            "bindings.algorithm",
            f"this service knows no algorithm `{alg[:80]}`",
            "see /v1/services/supportedAlgorithms",
        )


def _most(request: Ask) -> int:
    said = request.query_params.get("maxResults", str(_DEFAULT_RESULTS))
    if not re.fullmatch(r"[1-9][0-9]{0,8}", said):
        raise problem(
            400, "bindings.results", f"`maxResults` is not a number from 1 on: `{said[:20]}`", "leave it out"
        )
    return min(int(said), MAX_RESULTS)


# --- manifests and receipts ---------------------------------------------------------------------------------


@get("/v1/manifests/{manifest_id:str}", sync_to_thread=True)
def manifest_store(request: Ask, service: Service, manifest_id: str) -> Response[bytes]:
    """The manifest store whose active manifest has this id; with `returnActiveManifest=true`, that manifest alone."""
    alone = request.query_params.get("returnActiveManifest", "false")
    if alone not in {"true", "false"}:
        raise problem(
            400, "bindings.alone", "`returnActiveManifest` is `true` or `false`", "leave it out for the whole"
        )
    kept = _kept(service, manifest_id)
    status = f"{service.settings.url}/v1/clips/{kept.video_id}"
    return Response(
        jumbf.parse(kept.store).active_alone() if alone == "true" else kept.store,
        media_type=C2PA,
        headers={"link": f'<{status}>; rel="describedby"'},
    )


@get("/v1/manifests/{manifest_id:str}/receipts", sync_to_thread=True)
def manifest_receipt(service: Service, manifest_id: str) -> dict[str, Any]:
    """The proof that this manifest is in our log. It can be checked without us (`ledger.provenance.anchored`)."""
    kept = _kept(service, manifest_id)
    with service.ledger.reading() as tx:
        said = tx.manifest_entry(kept)
        _, commitments = tx.statements([said.index])[said.index]
    if said.index >= published_size(service.ledger):
        raise problem(404, "bindings.receipt", "the log has not published it yet", "ask again in a minute")
    given = anchored.receipt(
        manifest_id,
        said,
        transparent_statement(service.ledger, said.index),
        commitments,
        base_url=service.settings.url,
        origin=service.ledger.origin,
    )
    return {**given, **_shown(service, given, kept)}


@post("/v1/manifests/{manifest_id:str}/receipts", status_code=200)
async def verify_manifest_receipt(request: Ask, service: Service, manifest_id: str) -> dict[str, Any]:
    """Whether a receipt shows that this manifest is in our log."""
    given, kept = await _json(request), await sync_to_thread(_kept, service, manifest_id)
    # A receipt that was asked for comes with our own word on it; only what it shows counts.
    given = {name: said for name, said in given.items() if name not in {"verified", "error"}}
    return {**given, **await sync_to_thread(_shown, service, given, kept)}


def _shown(service: Service, given: dict[str, Any], kept: Manifest) -> dict[str, Any]:
    rows = service.ledger.replica.keys.rows
    keys = [
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        for role, public, _ in rows
        if role == "receipt"
    ]
    try:
        anchored.verify(given, kept.id, kept.store, origin=service.ledger.origin, keys=keys)
    except LogError as error:
        return {"verified": False, "error": str(error)}
    return {"verified": True}


def _kept(service: Service, manifest_id: str) -> Manifest:
    with service.ledger.reading() as tx:
        kept = tx.manifest(manifest_id)
    if kept is None:
        raise problem(404, "bindings.unknown", "there is no such manifest here", "check the id")
    return kept


# --- bodies -------------------------------------------------------------------------------------------------


async def _json(request: Ask) -> dict[str, Any]:
    if request.content_length is None or request.content_length > JSON_BYTES:
        raise problem(
            413, "request.length", "the body is over 64 KiB, or does not say how long it is", "send less"
        )
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise problem(400, "request.body", "the body is not a JSON object", "send one")
    return found


# --- about the service --------------------------------------------------------------------------------------


@get("/v1/services/supportedAlgorithms", sync_to_thread=False)
def supported_algorithms() -> dict[str, Any]:
    """What `alg` may be. Ours is a private name: none is registered in the public list yet."""
    return {"watermarks": [{"alg": WATERMARK_ALG}], "fingerprints": []}


@get("/v1/services/capabilities", sync_to_thread=False)
def capabilities() -> dict[str, Any]:
    """Which of the optional parts of the API are here."""
    return {"c2paSpecificationVersion": SPEC_VERSION, "supportedCapabilities": ["queryByContent"]}


@get("/v1/services/status", sync_to_thread=True)
def service_status(service: Service) -> dict[str, Any]:
    """Whether manifests can be found now."""
    at = service.clock().strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        with service.ledger.reading() as tx:
            tx.manifest("")
    except LedgerError:
        return {"status": "down", "timestamp": at}
    return {"status": "ok", "timestamp": at}


@get("/.well-known/c2pa-soft-binding-resolution", sync_to_thread=False)
def discovery(service: Service) -> dict[str, Any]:
    """Where this API is, for whoever knows only our name."""
    api = f"{service.settings.url}/v1"
    return {
        "apiEndpoint": api,
        "c2paSpecificationVersion": SPEC_VERSION,
        "capabilitiesEndpoint": f"{api}/services/capabilities",
        "statusEndpoint": f"{api}/services/status",
    }


ROUTES = [
    by_binding,
    by_large_binding,
    by_content,
    by_reference,
    manifest_store,
    manifest_receipt,
    verify_manifest_receipt,
    supported_algorithms,
    capabilities,
    service_status,
    discovery,
]
