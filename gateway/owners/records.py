"""What a person may keep: receipts of their consent, the notices they were shown, certificates, and all of it at once.

The export is one ZIP file, written while it is sent: nothing of it is ever on our disk, and its size does not matter.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from litestar import Request, Response, get
from litestar.response import Stream

from gateway.access import acting
from gateway.audit import proof_of
from gateway.owners.enrolment import film_of
from gateway.owners.grants import grantee_name, signed_grant
from gateway.owners.timeline import language_of, permitted
from gateway.problems import problem
from gateway.service import Service
from gateway.thumbnails import thumbnail
from ledger.consent import notice_text
from ledger.consent.fold import GrantStanding
from ledger.consent.grant import Grant, zulu
from ledger.consent.receipt import Published, events_of, receipt
from ledger.consent.registry import deletion_certificate
from ledger.consent.words import language_of as spoken
from ledger.consent.words import name_of
from ledger.errors import LedgerError, NotFound
from ledger.ids import CameoId, GrantId, LeafIndex, PersonId
from ledger.provenance.standing import clip_standing
from ledger.store import keeping
from ledger.store.transaction import Transaction

Ask = Request[Any, Any, Any]
JSON_LD = "application/ld+json"
SHOWN = {"standing", "expired", "revoked"}
"""What `consent_now` of a clip says as long as it may be shown: nobody in it has withdrawn it."""


# --- notices ------------------------------------------------------------------------------------------------


@get("/v1/notices", sync_to_thread=False)
def notices() -> dict[str, Any]:
    """Every text that people were shown before they signed, oldest first."""
    return {
        "notices": [
            {"version": one.version, "language": one.language, "sha256": one.sha256}
            for one in notice_text.NOTICES
        ]
    }


@get("/v1/notices/{sha256:str}", sync_to_thread=False)
def notice(sha256: str) -> Response[str]:
    """One text, byte for byte as it was shown: what a grant names by this hash."""
    found = notice_text.shown(sha256)
    if found is None:
        raise problem(404, "notice.unknown", "no notice with this hash was ever shown", "see /v1/notices")
    headers = {"content-language": found.language, "x-notice-version": found.version}
    return Response(found.text, media_type="text/plain; charset=utf-8", headers=headers)


# --- receipts and certificates ------------------------------------------------------------------------------


@get("/v1/grants/{grant_id:str}/receipt", sync_to_thread=True)
def grant_receipt(request: Ask, service: Service, grant_id: str) -> Response[dict[str, Any]]:
    """A receipt of my consent, or of having taken it back: ISO/IEC TS 27560, as JSON-LD."""
    owner = acting(request, service).owner
    with service.ledger.reading() as tx:
        standing = tx.standing(owner)
        held = standing.grants.get(GrantId(grant_id))
        if held is None:
            raise problem(
                404, "grant.unknown", f"you have no grant `{grant_id[:40]}`", "look at your list of grants"
            )
        made = receipt_of(service, tx, owner, held)
    return Response(made, media_type=JSON_LD)


def receipt_of(service: Service, tx: Transaction, owner: PersonId, held: GrantStanding) -> dict[str, Any]:
    at, grant = service.clock(), held.grant
    given = tx.recorded(owner, held.index)
    if given is None:
        raise NotFound("grant.unknown", f"your list has no grant at `{held.index}`")
    ended = tx.recorded(owner, held.revoked_index) if held.revoked_index is not None else None
    text = notice_text.shown(grant.notice.sha256)
    return receipt(
        grant,
        events_of(held, given.body, ended.body if ended is not None else None, at=at),
        Published(service.settings.url, service.ledger.origin, _grantee(tx, grant)),
        language=text.language if text is not None else spoken(grant.language),
        at=at,
    )


def _grantee(tx: Transaction, grant: Grant) -> str:
    return name_of(grantee_name(tx, grant.grantee) or "", grant.language)


@get("/v1/deletions/{index:int}", sync_to_thread=True)
def deletion(request: Ask, service: Service, index: int) -> dict[str, Any]:
    """The certificate for something about me that was destroyed; `index` is its place on my timeline."""
    owner = acting(request, service).owner
    return deletion_certificate(service.ledger, owner, LeafIndex(index))


# --- everything at once -------------------------------------------------------------------------------------


@get("/v1/export", sync_to_thread=True)
def export_everything(request: Ask, service: Service) -> Stream:
    """Everything about me in one ZIP file: my list and its proof, permissions, receipts, clips, films."""
    who = acting(request, service)
    with service.ledger.reading() as tx:
        cameo_id = tx.standing(who.owner).cameo_id
    if cameo_id is not None:
        permitted(service, service.gate.may_read, who.owner, cameo_id)
    language = spoken(language_of(service, who.actor))
    name = f"countersign-{zulu(service.clock())[:10]}.zip"
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "private, no-store"}
    # The small things are read before the answer begins: what can not be answered is refused, not cut short.
    documents = list(_documents(service, who.owner, cameo_id, language))
    return Stream(exported(service, who.owner, documents), media_type="application/zip", headers=headers)


class _Sent:
    """Where the ZIP is written: it can not be gone back in, and hands on what it holds."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def taken(self) -> Iterator[bytes]:
        parts, self._parts = self._parts, []
        yield from parts


def exported(service: Service, owner: PersonId, documents: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    """The ZIP file, in pieces. What co-stars' entries say is not in it: only what this person may read."""
    sent = _Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in documents:
            archive.writestr(name, content)
            yield from sent.taken()
        for name, pieces in _files(service, owner):
            info = zipfile.ZipInfo(name)  # as it is: films and pictures do not get smaller
            with archive.open(info, "w", force_zip64=True) as out:
                for piece in pieces:
                    out.write(piece)
                    yield from sent.taken()
            yield from sent.taken()
    yield from sent.taken()


def _documents(
    service: Service, owner: PersonId, cameo_id: CameoId | None, language: str
) -> Iterator[tuple[str, str]]:
    yield "README.txt", _README[language]
    if cameo_id is not None:
        yield "list.proof.json", _json(proof_of(service, owner, cameo_id))
    with service.ledger.reading() as tx:
        entries, standing = tx.entries(owner), tx.standing(owner)
        yield (
            "entries.json",
            _json([{"index": one.index, "kind": one.kind, "body": dict(one.body)} for one in entries]),
        )
        for grant_id, held in standing.grants.items():
            yield f"receipts/{grant_id}.jsonld", _json(receipt_of(service, tx, owner, held))
    for grant_id in standing.grants:
        yield f"grants/{grant_id}.json", _json(signed_grant(service, owner, grant_id))
    for one in entries:
        if one.kind == "deletion":
            made = deletion_certificate(service.ledger, owner, one.index)
            yield f"deletions/{one.index}.json", _json(made)


def _files(service: Service, owner: PersonId) -> Iterator[tuple[str, Iterator[bytes]]]:
    at = service.clock()
    with service.ledger.reading() as tx:
        key = tx.held(owner).key
        films = [one for ref in keeping.captures_of(tx, owner) if (one := tx.capture(ref)) is not None]
        clips = [
            (video_id, name)
            for video_id, name in keeping.clips_of(tx, owner)
            if (standing := clip_standing(tx, video_id, at=at)) is not None
            and standing.consent_now in SHOWN
            and (video := tx.video(video_id)) is not None
            and video.taken_down_at is None
        ]
    for video_id, name in clips:
        try:
            size, picture = service.objects.size(name), thumbnail(service, name)
        except LedgerError:
            continue  # gone meanwhile, or no clip that can be shown: the rest is still theirs
        yield f"clips/{video_id}.mp4", service.objects.read(name, 0, size)
        yield f"thumbnails/{video_id}.jpg", iter([picture])
    for film in films:
        try:
            content = film_of(service, film, key)
        except LedgerError:
            continue
        yield f"captures/{film.id}", iter([content])


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)


_README = {
    "en": """Everything this service holds about you.

list.proof.json   Your list, and the proof that nothing is missing from it. Check it without us:
                  countersign audit verify list.proof.json
entries.json      The same list, to read.
grants/           Every permission you gave, with your signature. Check one without us:
                  countersign consent verify grants/….json
receipts/         A receipt for each permission, and for having taken it back.
deletions/        Certificates of what was destroyed when its time was over.
clips/            The videos that show you and may still be shown.
thumbnails/       A picture of each.
captures/         What you filmed of yourself, as far as it is still kept.

A video that you or somebody else in it withdrew is not in here, nor what concerns other people alone.
""",
    "de": """Alles, was dieser Dienst über dich hat.

list.proof.json   Dein Verlauf, und der Beweis, dass nichts darin fehlt. Ohne uns zu prüfen:
                  countersign audit verify list.proof.json
entries.json      Derselbe Verlauf, zum Lesen.
grants/           Jede Erlaubnis, die du gegeben hast, mit deiner Unterschrift. Ohne uns zu prüfen:
                  countersign consent verify grants/….json
receipts/         Zu jeder Erlaubnis eine Quittung, auch dafür, dass du sie zurückgenommen hast.
deletions/        Bescheinigungen über das, was vernichtet wurde, als seine Zeit um war.
clips/            Die Videos, die dich zeigen und noch gezeigt werden dürfen.
thumbnails/       Ein Bild von jedem.
captures/         Was du von dir gefilmt hast, soweit es noch da ist.

Ein Video, das du oder jemand anderes darin zurückgezogen hat, ist nicht dabei, auch nicht, was nur andere betrifft.
""",
}

ROUTES = [notices, notice, grant_receipt, deletion, export_everything]
