"""Bringing a likeness in: a person films themselves as they were asked to, and an operator who saw them vouches.

A challenge (digits to read, an order of head turns) lives five minutes and is bound to the account and to the text
the person agreed to. A machine looks at the film at once: what is certainly wrong is refused with what to do better,
and is not kept; of anything else the scores go to the operator with the film. It is sealed under the person's key;
who looks at it is on the person's own list. Nothing a person sends activates their likeness by itself.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from pydantic import Field, ValidationError

from gateway.access import JSON_BYTES, holder, person_of
from gateway.problems import Problem, problem
from gateway.service import Service
from ledger.canonical import sha256
from ledger.consent.grant import Strict, zulu
from ledger.consent.statement import DeviceSignature
from ledger.ids import PersonId, is_id, new_id
from ledger.keys import seal, unseal
from ledger.provenance import media
from ledger.reasons import Reason
from ledger.store.captures import Capture
from ledger.store.journal import About
from ledger.store.transaction import Transaction
from safety import workers
from safety.enrolment import Challenge, enrol_vouched, new_challenge
from safety.enrolment.checks import DOUBTED, Asked, Examined, Finding, alike, examine, worst_first
from safety.faces import Likeness

Ask = Request[Any, Any, Any]
FILM_LIMITS = media.Limits(max_seconds=60)
EXAMINED_WITHIN_S = 120.0
FILM_REFUSED = "enrolment.film"
"""How the ids of reasons begin for which a machine refuses a film."""
REVIEW_LIFE = timedelta(days=30)
"""How long a film waits for an operator at most; then it is destroyed."""
ATTEMPTS_A_DAY = 20
CONSENT: dict[str, str] = {
    "en": (
        "I film my own face and voice so that my likeness can be recognised. The film is kept locked until a"
        " person here has looked at it, for 30 days at most, and is then destroyed; what is kept are measurements of"
        " my face and voice and one picture. Nobody may use my likeness without a permission I sign, and I can have all of it"
        " erased at any time."
    ),
    "de": (
        "Ich filme mein eigenes Gesicht und meine Stimme, damit mein Abbild erkannt werden kann. Der Film liegt"
        " verschlossen, bis ein Mensch hier ihn angesehen hat, höchstens 30 Tage, und wird dann vernichtet; behalten"
        " werden Maße meines Gesichts und meiner Stimme und ein Bild. Niemand darf mein Abbild ohne eine Erlaubnis nutzen, die ich"
        " unterschreibe, und ich kann jederzeit alles löschen lassen."
    ),
}


# The person -------------------------------------------------------------------------------------------


class ChallengeIn(Strict):
    agreed: Literal[True]
    """To the text of `GET /v1/enrolment`."""
    consent_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    lit: bool = False
    """Let the page light my face in colours at the end: harder to counterfeit, and not for everybody."""


@get("/v1/enrolment", sync_to_thread=True)
def my_enrolment(request: Ask, service: Service) -> dict[str, Any]:
    """How far I am, the text to agree to, and while a challenge runs, what to do in front of the camera."""
    return enrolment_of(service, person_of(request, service))


def enrolment_of(service: Service, person_id: PersonId) -> dict[str, Any]:
    """`status`: none, challenge, pending_review, active, refused or expired. `usable_from`: while it is yet to come."""
    at = service.clock()
    with service.ledger.reading() as tx:
        capture, standing, text = (
            tx.newest_capture(person_id),
            tx.standing(person_id),
            _consent(tx, person_id),
        )
        challenge, refused = _opened(tx, capture)
    status = "none" if capture is None else capture.status
    if standing.active:
        status, challenge = "active", None
    elif capture is not None and status in {"challenge", "pending_review"} and _over(capture, at):
        status, challenge = "expired", None
    running = challenge is not None and status == "challenge"
    return {
        "status": status,
        "consent": {"text": text, "sha256": sha256(text.encode()).hex()},
        "capture": _shown(challenge, text) if challenge is not None and running else None,
        "reason": "; ".join(one["reason"] for one in refused) or None,
        "reasons": refused,
        "usable_from": zulu(standing.usable_from)
        if standing.usable_from is not None and standing.active and standing.cooling_off(at)
        else None,
    }


@post("/v1/enrolment/challenge", status_code=201, sync_to_thread=True, request_max_body_size=JSON_BYTES)
def begin_enrolment(request: Ask, service: Service, data: ChallengeIn) -> dict[str, Any]:
    """Agree to be filmed. Answers with what to do; it has to be done and sent within five minutes."""
    person_id, at = person_of(request, service), service.clock()

    def operation(tx: Transaction) -> Challenge | str:
        text = _consent(tx, person_id)
        if tx.standing(person_id).active:
            return "active"
        if sha256(text.encode()).hex() != data.consent_sha256:
            return "text"
        before = tx.newest_capture(person_id)
        if before is not None and before.status == "pending_review" and not _over(before, at):
            return "waiting"
        if tx.count(f"enrol/{person_id}", at=at, life_s=86_400) > ATTEMPTS_A_DAY:
            return "often"
        capture_id = new_id("capture")
        challenge = new_challenge(capture_id, person_id, text, at=at, lit=data.lit)
        asked = seal(tx.held(person_id).key, challenge.model_dump_json().encode(), context=capture_id)
        now, until = int(at.timestamp()), int(challenge.expires.timestamp())
        # Whoever begins twice in one second is held to the later one, as the page shows it.
        begun = now if before is None else max(now, before.created_at + 1)
        tx.add_capture(Capture(capture_id, person_id, "challenge", asked, begun, until))
        return challenge

    answer = service.ledger.transact(operation)
    match answer:
        case Challenge():
            return _shown(answer, None)
        case "active":
            raise problem(409, "enrolment.twice", "you already have a likeness here", "erase that one first")
        case "waiting":
            raise problem(
                409, "enrolment.waiting", "your film is waiting to be looked at", "wait for the answer"
            )
        case "often":
            raise problem(429, "enrolment.often", "you have tried very often today", "try again tomorrow")
        case _:
            raise problem(400, "enrolment.text", "this is not the text you were shown", "read it again")


@post("/v1/enrolment/{capture_id:str}", status_code=202)
async def send_film(request: Ask, service: Service, capture_id: str) -> dict[str, Any]:
    """Send the film of the challenge, as the form file `film`. It waits until an operator has looked at it."""
    person_id = await sync_to_thread(person_of, request, service)
    film = (await request.form()).get("film")
    if not isinstance(film, UploadFile):
        raise problem(400, "request.film", "the file `film` is missing", "send the film")
    content = await film.read()
    return await sync_to_thread(_receive, service, person_id, capture_id, content)


def _receive(service: Service, person_id: PersonId, capture_id: str, film: bytes) -> dict[str, Any]:
    at = service.clock()
    challenge = _challenged(service, person_id, capture_id, at)
    with TemporaryDirectory(prefix="film-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "film"
        path.write_bytes(film)
        service.eyes.call(media.probe, path, FILM_LIMITS)
        findings = _examined(service, challenge, path, at)
        with service.ledger.reading() as tx:
            key = tx.held(person_id).key
        path.write_bytes(seal(key, film, context=f"film/{capture_id}"))
        # Durable before the row that names it; what no row names is swept up.
        stored = service.objects.put(path)

    def operation(tx: Transaction) -> bool:
        capture = tx.capture(capture_id)
        if capture is None or capture.status != "challenge":
            return False
        until = int((at + REVIEW_LIFE).timestamp())
        tx.keep_capture(
            capture,
            status="pending_review",
            sealed=_seal_examined(tx, challenge, findings),
            object_key=stored,
            sha256=sha256(film).hex(),
            expires_at=until,
        )
        return True

    if not service.ledger.transact(operation):
        service.objects.delete(stored)
        raise _no_challenge()
    return {"capture_id": capture_id, "status": "pending_review"}


def _examined(service: Service, challenge: Challenge, path: Path, at: datetime) -> tuple[Finding, ...]:
    """What a machine makes of the film. Raises Problem for one that is certainly wrong; then the challenge is over."""
    asked = Asked(challenge.digits, challenge.turns, challenge.colours)
    anchors = service.settings.capture_anchors
    trusted = anchors.read_bytes() if anchors is not None else b""
    film = looked_at(path, asked, trusted)
    person_id = PersonId(challenge.person_id)

    def operation(tx: Transaction) -> tuple[Finding, ...]:
        misheard = f"misheard/{person_id}"
        heard = [one for one in film.findings if one.misheard]
        tried = tx.count(misheard, at=at, life_s=86_400) - 1 if heard else 0
        wrong = film.wrong(tried=tried)
        capture = tx.capture(challenge.capture_id)
        if wrong and capture is not None and capture.status == "challenge":
            said = {"refused_by": "film", "reasons": [one.as_json() for one in _reasons(wrong)]}
            sealed = seal(tx.held(person_id).key, json.dumps(said).encode(), context=capture.id)
            tx.keep_capture(capture, status="refused", sealed=sealed, object_key=None)
        return wrong

    if wrong := service.ledger.transact(operation):
        raise Problem(403, *_reasons(wrong))
    with service.ledger.reading() as tx:
        known = service.gate.gallery.near(tx, Likeness(film.templates)) is not None
    return worst_first((*film.findings, *([alike()] if known else [])))


def _reasons(wrong: Iterable[Finding]) -> list[Reason]:
    return [Reason(f"{FILM_REFUSED}.{one.check}", one.sentence, one.remedy) for one in wrong]


def looked_at(film: Path, asked: Asked, anchors_pem: bytes) -> Examined:
    return workers.shared().call(examine, str(film), asked, anchors_pem, timeout_s=EXAMINED_WITHIN_S)


def _challenged(service: Service, person_id: PersonId, capture_id: str, at: datetime) -> Challenge:
    with service.ledger.reading() as tx:
        capture = tx.capture(capture_id) if is_id(capture_id, "capture") else None
        if capture is None or capture.person_id != person_id or capture.status != "challenge":
            raise _no_challenge()
        challenge, _ = _opened(tx, capture)
    if _over(capture, at) or challenge is None:
        raise problem(
            403, "enrolment.expired", "the five minutes are over", "ask for new digits and film again"
        )
    return challenge


def _no_challenge() -> Exception:
    return problem(
        404, "enrolment.no_challenge", "no film is expected here", "ask for digits first, then film"
    )


# The operator -----------------------------------------------------------------------------------------


@get("/v1/enrolments", sync_to_thread=True)
def waiting_enrolments(request: Ask, service: Service) -> dict[str, Any]:
    """An operator sees who waits to be looked at, and what each was asked to do."""
    holder(request, service, "operator")
    return {"enrolments": waiting_films(service)}


def waiting_films(service: Service) -> list[dict[str, Any]]:
    at = service.clock()
    with service.ledger.reading() as tx:
        waiting = [one for one in tx.waiting_captures() if not _over(one, at)]
        return [_waiting(tx, one) for one in waiting]


def _waiting(tx: Transaction, capture: Capture) -> dict[str, Any]:
    challenge, _ = _opened(tx, capture)
    person = tx.person(capture.person_id)
    standing = tx.standing(capture.person_id)
    return {
        "capture_id": capture.id,
        "person_id": capture.person_id,
        "display_name": person.display_name if person else "",
        "sha256": capture.sha256,
        "digits": challenge.digits if challenge else None,
        "turns": list(challenge.turns) if challenge else [],
        "findings": _findings(tx, capture),
        "born_on": standing.born_on.isoformat() if standing.born_on else None,
        "sent_at": zulu(datetime.fromtimestamp(capture.created_at, UTC)),
        "film": f"/v1/enrolments/{capture.id}/film",
    }


@get("/v1/enrolments/{capture_id:str}/film", sync_to_thread=True)
def enrolment_film(request: Ask, service: Service, capture_id: str) -> Response[bytes]:
    """An operator looks at a film. The person sees that they did."""
    operator = holder(request, service, "operator")
    at = service.clock()

    def operation(tx: Transaction) -> tuple[Capture, bytes]:
        capture = _pending(tx, capture_id, at)
        body = {"auditor": operator, "asked": "your enrolment film"}
        seen = tx.count(f"looked/{capture_id}", at=at, life_s=int(REVIEW_LIFE.total_seconds()))
        tx.append("audit", f"{capture_id}/{seen}", [About(capture.person_id, "depicted", body)], at=at)
        return capture, tx.held(capture.person_id).key

    capture, key = service.ledger.transact(operation)
    film = film_of(service, capture, key)
    return Response(film, media_type="application/octet-stream", headers={"cache-control": "no-store"})


class RefuseIn(Strict):
    reason: Annotated[str, Field(min_length=3, max_length=300)]


@post(
    "/v1/enrolments/{capture_id:str}/refuse",
    status_code=200,
    sync_to_thread=True,
    request_max_body_size=JSON_BYTES,
)
def refuse_enrolment(request: Ask, service: Service, capture_id: str, data: RefuseIn) -> dict[str, Any]:
    """An operator turns a film down, and says why. The film is destroyed."""
    return refuse_film(service, holder(request, service, "operator"), capture_id, data)


def refuse_film(service: Service, operator: str, capture_id: str, said_why: RefuseIn) -> dict[str, Any]:
    at = service.clock()

    def operation(tx: Transaction) -> Capture:
        capture = _pending(tx, capture_id, at)
        said = {"refused_by": operator, "reason": said_why.reason}
        sealed = seal(tx.held(capture.person_id).key, json.dumps(said).encode(), context=capture_id)
        tx.keep_capture(capture, status="refused", sealed=sealed, object_key=None)
        return capture

    capture = service.ledger.transact(operation)
    if capture.object_key is not None:
        service.objects.delete(capture.object_key)
    return {"capture_id": capture_id, "status": "refused"}


@post("/v1/cameos/vouched", status_code=201)
async def enrol(request: Ask, service: Service) -> dict[str, str]:
    """An operator enrols someone they saw. Form fields: `statement` (JSON), `evidence` (JSON), and what they show.

    That is a file `picture`, or `capture_id`: the film the person sent. The statement names either by its SHA-256.
    """
    await sync_to_thread(holder, request, service, "operator")
    form = await request.form()
    picture, capture_id = form.get("picture"), form.get("capture_id")
    statement, evidence = form.get("statement"), form.get("evidence")
    if isinstance(capture_id, str) and picture is None:
        return await sync_to_thread(enrol_filmed, service, statement, evidence, capture_id)
    if not isinstance(picture, UploadFile):
        raise problem(
            400, "request.picture", "the file `picture` is missing", "send an image or a short video"
        )
    return await sync_to_thread(_enrol, service, statement, evidence, await picture.read())


def enrol_filmed(service: Service, statement: object, evidence: object, capture_id: str) -> dict[str, str]:
    """An operator's signed word on a film that waits. `statement`, `evidence`: JSON text."""
    with service.ledger.reading() as tx:
        capture = _pending(tx, capture_id, service.clock())
        key = tx.held(capture.person_id).key
    said = _json(statement, "statement")
    if not isinstance(said, dict) or said.get("person_id") != capture.person_id:
        raise problem(
            400, "enrolment.other_person", "the statement is about another account", "name the film's own"
        )
    enrolled = _enrol(service, statement, evidence, film_of(service, capture, key), filmed=True)
    # The likeness is in. Should this be cut short, the film's own time limit destroys it.
    service.ledger.transact(lambda tx: tx.keep_capture(capture, status="accepted", object_key=None))
    if capture.object_key is not None:
        service.objects.delete(capture.object_key)
    return enrolled


def _enrol(
    service: Service, statement: object, evidence: object, content: bytes, *, filmed: bool = False
) -> dict[str, str]:
    with TemporaryDirectory(prefix="enrol-", dir=service.settings.uploads) as directory:
        path = Path(directory) / "picture"
        path.write_bytes(content)
        person_id, cameo_id = enrol_vouched(
            service.ledger,
            service.gate.register,
            service.gate.gallery,
            _json(statement, "statement"),
            _evidence(evidence),
            path,
            at=service.clock(),
            filmed=filmed,
        )
    return {"person_id": person_id, "cameo_id": cameo_id, "status": "active", "path": "vouched"}


# What both need ---------------------------------------------------------------------------------------


def film_of(service: Service, capture: Capture, key: bytes) -> bytes:
    """The film as it was sent. Raises NotFound when it has been destroyed."""
    name = capture.object_key or ""
    sealed = b"".join(service.objects.read(name, 0, service.objects.size(name)))
    return unseal(key, sealed, context=f"film/{capture.id}")


def _pending(tx: Transaction, capture_id: str, at: datetime) -> Capture:
    capture = tx.capture(capture_id) if is_id(capture_id, "capture") else None
    if capture is None or capture.status != "pending_review" or _over(capture, at):
        raise problem(404, "enrolment.unknown", "no such film waits to be looked at", "ask for the list")
    return capture


def _opened(tx: Transaction, capture: Capture | None) -> tuple[Challenge | None, list[dict[str, str]]]:
    """What was asked for, or why it was refused."""
    if capture is None:
        return None, []
    text = unseal(tx.held(capture.person_id).key, capture.sealed, context=capture.id)
    said = json.loads(text)
    if capture.status == "refused":
        by_hand = {"id": "enrolment.refused", "reason": said.get("reason", ""), "remedy": ""}
        return None, said.get("reasons", [by_hand])
    return Challenge.model_validate_json(json.dumps(said.get("challenge", said))), []


def _seal_examined(tx: Transaction, challenge: Challenge, findings: Sequence[Finding]) -> bytes:
    said = {
        "challenge": challenge.model_dump(mode="json"),
        "findings": [{"check": one.check, "score": one.score, "sentence": one.sentence} for one in findings],
    }
    key = tx.held(PersonId(challenge.person_id)).key
    return seal(key, json.dumps(said).encode(), context=challenge.capture_id)


def _findings(tx: Transaction, capture: Capture) -> list[dict[str, Any]]:
    """What a machine made of a film, the worst first; nothing of films from before machines looked."""
    text = unseal(tx.held(capture.person_id).key, capture.sealed, context=capture.id)
    found: list[dict[str, Any]] = json.loads(text).get("findings", [])
    return [{**one, "doubted": one["score"] < DOUBTED} for one in found]


def _shown(challenge: Challenge, text: str | None) -> dict[str, Any]:
    shown = {
        "capture_id": challenge.capture_id,
        "digits": challenge.digits,
        "turns": list(challenge.turns),
        "colours": list(challenge.colours),
        "expires_at": zulu(challenge.expires),
        "consent_sha256": challenge.consent_sha256,
    }
    return shown if text is None else {**shown, "consent_text": text}


def _consent(tx: Transaction, person_id: PersonId) -> str:
    person = tx.person(person_id)
    return CONSENT.get(person.language if person else "en", CONSENT["en"])


def _over(capture: Capture, at: datetime) -> bool:
    return capture.expires_at <= at.timestamp()


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


ROUTES = [
    my_enrolment,
    begin_enrolment,
    send_film,
    waiting_enrolments,
    enrolment_film,
    refuse_enrolment,
    enrol,
]
