"""The log, as anyone may read it: C2SP tlog-tiles over HTTP, and the same as a folder of static files.

    /checkpoint                       the newest published checkpoint; changes, so it is never cached
    /tile/<L>/<N>[.p/<W>]             hashes; a resource never changes, so it is cached for ever
    /tile/entries/<N>[.p/<W>]         leaves
    /v1/log/keys                      every key the service ever had
    /v1/log/proofs/<index>            where a leaf stands in the log, as a tlog-proof file
    /v1/log/receipts/<index>          one leaf as a SCITT transparent statement with its RFC 9942 receipt
    /v1/videos/<id>/receipts          an app's evidence that its uses were recorded

Nothing beyond the published checkpoint is served: whoever reads a tile can hold it against what witnesses saw.
Partial tiles of every published size stay available, since any width up to the published one is answered.
"""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litestar import Request, Response, get

from gateway.access import app_of
from gateway.problems import problem
from gateway.service import Service
from ledger.errors import Inconsistent, LogError
from ledger.ids import AppId, LeafIndex
from ledger.log.leaf import Opening
from ledger.log.merkle import (
    TILE_WIDTH,
    Tile,
    entry_bundle,
    inclusion_proof,
    parse_tile_path,
    tile_path,
    tiles_of,
)
from ledger.log.publisher import replace, size_of
from ledger.log.receipt import attach, make_receipt
from ledger.log.sequencer import Ledger
from ledger.store.journal import Opened
from ledger.store.transaction import Transaction

FOREVER = "public, max-age=31536000, immutable"
OCTETS = "application/octet-stream"


@get("/checkpoint", sync_to_thread=True)
def checkpoint(service: Service) -> Response[bytes]:
    """The newest published checkpoint (C2SP tlog-checkpoint)."""
    note = service.ledger.checkpoint()
    return Response(note, media_type="text/plain", headers={"cache-control": "no-cache"})


@get("/tile/{path:path}", sync_to_thread=True)
def tile(request: Request[Any, Any, Any], service: Service, path: str) -> Response[bytes]:  # noqa: ARG001 — declares it
    """One tile of hashes, or one bundle of leaves (C2SP tlog-tiles)."""
    # The address as it was sent: in `path`, other spellings (`//`, `%30`, a last `/`) have become the canonical one.
    sent = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
    try:
        content = read_tile(service.ledger, parse_tile_path(sent.removeprefix("/")))
    except LogError as error:
        raise problem(404, "log.tile", str(error), "see the size in /checkpoint") from error
    return Response(content, media_type=OCTETS, headers={"cache-control": FOREVER})


@get("/v1/log/keys", sync_to_thread=True)
def log_keys(service: Service) -> dict[str, Any]:
    """The log's verifier key, and every key the service ever had. Compare the first with one from elsewhere."""
    return log_keys_of(service)


@get("/v1/log/receipts/{index:int}", sync_to_thread=True)
def receipt(service: Service, index: int) -> Response[bytes]:
    """A leaf as a transparent statement. A receipt says that it is in the log, and nothing about its order."""
    try:
        statement = transparent_statement(service.ledger, LeafIndex(index))
    except LogError as error:
        raise problem(404, error.reason.id, str(error), error.reason.remedy) from error
    return Response(statement, media_type="application/scitt-statement+cose")


@get("/v1/log/proofs/{index:int}", sync_to_thread=True)
def log_proof(service: Service, index: int) -> Response[bytes]:
    """That the leaf at `index` is in the log: a C2SP tlog-proof file, under the published checkpoint."""
    try:
        proof = service.ledger.proof(LeafIndex(index))
    except LogError as error:
        raise problem(404, error.reason.id, str(error), error.reason.remedy) from error
    return Response(proof.encode(), media_type="text/plain")


@get("/v1/videos/{video_id:str}/receipts", sync_to_thread=True)
def video_receipts(request: Request[Any, Any, Any], service: Service, video_id: str) -> dict[str, Any]:
    """What the log says of one of my videos. Keep it: it shows each person depicted that the use was recorded.

    `depicted` holds, for each likeness, the opening of the entry's commitment to its owner: the use stands in that
    person's list as number `n`, with a body of digest `value`, or the log has hidden it from them. That body is the
    entry's own with `cameo_id` added, their grant alone in `grant_ids`, and without `facts` and `named`.
    """
    app_id = app_of(request, service)
    with service.ledger.reading() as tx:
        video = tx.video(video_id)
        if video is None or video.app_id != app_id:
            raise problem(404, "video.unknown", f"you have no video `{video_id[:40]}`", "check the id")
        places = [tx.find(kind, video_id) for kind in ("decision", "returned", "release")]
        entries = [_about(tx, app_id, place.index) for place in places if place is not None]
        statements = tx.statements(one.index for one in entries)
    return {
        "video_id": video_id,
        "entries": [_entry_receipt(service.ledger, one, *statements[one.index]) for one in entries],
    }


def _about(tx: Transaction, app_id: AppId, index: LeafIndex) -> Opened:
    """The app's own record of an entry about it. One that is gone is said to be, not left out."""
    entry = tx.entry_at(app_id, index)
    if entry is None:
        raise Inconsistent(
            "log.hidden",
            f"the entry at `{index}` is about this app, and what is stored does not say so",
            "keep the receipts you have, and tell the operator",
        )
    return entry


def _entry_receipt(
    ledger: Ledger, entry: Opened, leaf: bytes, commitments: Sequence[bytes]
) -> dict[str, Any]:
    ledger.published(entry.index)
    return {
        "index": entry.index,
        "kind": entry.kind,
        "body": dict(entry.body),
        "opening": _opening(entry.opening),
        "depicted": {cameo: _opening(opening) for cameo, opening in entry.others.items()},
        "leaf": _b64(leaf),
        "commitments": [_b64(commitment) for commitment in commitments],
        "statement": _b64(transparent_statement(ledger, entry.index)),
        "proof": ledger.proof(entry.index).encode().decode(),
    }


def _opening(opening: Opening) -> dict[str, Any]:
    return {
        "secret": _b64(opening.secret),
        "role": opening.label,
        "n": opening.n,
        "value": _b64(opening.value),
    }


def _b64(data: bytes) -> str:
    return b64encode(data).decode()


def log_keys_of(service: Service) -> dict[str, Any]:
    """What a verifier needs to know beforehand, from a source they trust."""
    service.ledger.checkpoint()  # takes in what another process announced
    return {
        "vkey": str(service.ledger.verifier),
        "keys": service.ledger.replica.keys.as_json(),
    }


def published_size(ledger: Ledger) -> int:
    return size_of(ledger.checkpoint())


def read_tile(ledger: Ledger, wanted: Tile) -> bytes:
    """Raises LogError for a tile that does not lie wholly under the published checkpoint."""
    level = 0 if wanted.level == "entries" else 8 * wanted.level
    first = wanted.index * TILE_WIDTH
    if (first + wanted.width) << level > published_size(ledger):
        raise LogError("log.tile", "the log has not published that much yet")
    if wanted.level == "entries":
        with ledger.reading() as tx:
            return entry_bundle([leaf for _, leaf in tx.leaves(first, first + wanted.width)])
    node = ledger.replica.tree.node
    return b"".join(node(level, position) for position in range(first, first + wanted.width))


def transparent_statement(ledger: Ledger, index: LeafIndex) -> bytes:
    """The leaf at `index` with a receipt under the published root. Raises LogError."""
    size = published_size(ledger)
    if not 0 <= index < size:
        raise LogError("log.range", f"there is no entry `{index}` under the published checkpoint")
    tree, key = ledger.replica.tree, ledger.keyring.receipt
    path = inclusion_proof(index, size, tree.node)
    with ledger.reading() as tx:
        ((_, leaf),) = tx.leaves(index, index + 1)
    return attach(leaf, [make_receipt(key, ledger.origin, index, size, path, tree.root(size))])


def export(ledger: Ledger, directory: Path) -> int:
    """Write everything published as static files, the checkpoint last. Returns how many files are new.

    Run again, it adds what is new and keeps the partial tiles of earlier sizes.
    """
    note, written = ledger.checkpoint(), 0
    # The tiles of this very checkpoint: asked again, the log may have grown, and others would be partial.
    for resource in tiles_of(size_of(note)):
        path = directory / tile_path(resource.level, resource.index, resource.width)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, read_tile(ledger, resource))
            written += 1
    replace(directory / "checkpoint", note)
    return written
