"""`/v1/takedowns`, for people without an account: give notice, confirm it by mail, watch the clock, appeal, take back.

Guarantees

- Nothing is known of who exists: a wrong token, an unknown notice and another's notice are one answer.
- The token goes out by mail only. Whoever cannot read that mailbox can confirm nothing and look at nothing.
- A clip that is sent is looked up and deleted; of pictures only the face is kept, sealed (:mod:`safety.register`).
- Notices are counted per network and per mailbox; of a mailbox only a keyed digest is stored outside of its notice.

What becomes of a notice is :mod:`ledger.consent.notices`; what operators do, :mod:`gateway.notices.deciding`.
"""

import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from litestar import Request, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile

from gateway.access import JSON_BYTES, app_of
from gateway.notices import mail
from gateway.notices.clocks import clock_of
from gateway.notices.form import PICTURE_BYTES, read_body, read_form
from gateway.problems import problem
from gateway.public import judged
from gateway.service import Service
from gateway.throttle import Limit, address, attempt
from gateway.uploads import in_turn
from ledger.consent.grant import Strict
from ledger.consent.notices import (
    CONFIRM_LIFE,
    Case,
    Form,
    Words,
    appeal,
    confirm,
    given_by,
    lodge,
    may_appeal,
    opened,
    withdraw,
)
from ledger.errors import LedgerError
from ledger.ids import VideoId, is_id
from ledger.store.records import Notice
from ledger.store.transaction import Transaction
from safety import register
from safety.enrolment import decode_picture
from safety.errors import SafetyError
from safety.faces import Likeness

Ask = Request[Any, Any, Any]
NOTICES = Limit("notice", 20, 3600)
"""Of one network."""
LETTERS = Limit("notice_letter", 5, 86_400)
"""To one mailbox."""


@post("/v1/takedowns", status_code=201)
async def give_notice(request: Ask, service: Service) -> dict[str, Any]:
    """Ask that a clip be taken down, or that your face is never generated. JSON or a form; no account.

    Fields: `kind` (takedown, do_not_generate), `name`, `email`, `shown` (who it is), `relation` (self,
    parent_or_guardian, representative, family_of_the_dead), `good_faith` (true), `signature` (your name again),
    `country` (ISO), `intimate`, `reason`; for a takedown `video` (an id) or the file `clip`; to register a face the
    files `pictures`, one to four, of you alone. Nothing happens until you confirm it with the token you are mailed.
    """
    # Before the body is read: a stranger's 200 MB are not worth keeping.
    await sync_to_thread(attempt, service, NOTICES, address(request, service))
    fields, clip, pictures = await read_body(request)
    video = fields.pop("video", None)
    form = read_form(fields)
    if form.kind == "takedown":
        video_id = await _clip_named(service, video, clip)
        return await sync_to_thread(_lodge, service, form, video_id, None)
    return await sync_to_thread(_lodge, service, form, None, await _shown_face(service, pictures))


def _lodge(service: Service, form: Form, video_id: VideoId | None, face: Likeness | None) -> dict[str, Any]:
    at, token = service.clock(), secrets.token_urlsafe(32)
    # One mailbox may be somebody else's: it gets few letters, whoever asks for them.
    attempt(service, LETTERS, _mailbox(service, form.email))

    def operation(tx: Transaction) -> Notice:
        notice = lodge(tx, form, video_id, token, at=at)
        if face is not None:
            register.keep(tx, notice.id, face)
        mail.post(tx, notice.id, _to_confirm(service, form, notice, token), at=at)
        return notice

    notice = service.ledger.transact(operation)
    hours = int(CONFIRM_LIFE.total_seconds()) // 3600
    return {"notice_id": notice.id, "status": notice.status, "mailed": True, "confirm_within_hours": hours}


class TokenIn(Strict):
    token: str


@post(
    "/v1/takedowns/{notice_id:str}/confirm",
    status_code=200,
    sync_to_thread=True,
    request_max_body_size=JSON_BYTES,
)
def confirm_notice(service: Service, notice_id: str, data: TokenIn) -> dict[str, Any]:
    """Show that the address is yours. From here the clock runs; what is reported as intimate is held back at once."""
    at = service.clock()
    with service.ledger.reading() as tx:
        notice = given_by(tx, notice_id, data.token, at=at)
        fresh = notice.status == "unconfirmed"
        # Everyone enrolled is compared: not while the whole log waits for it.
        near = register.resembles(tx, notice.id) if fresh else ()

    def operation(tx: Transaction) -> dict[str, Any]:
        notice = given_by(tx, notice_id, data.token, at=at)
        form = opened(tx, notice).form
        clock = clock_of(form.country, intimate=form.intimate)
        notice = confirm(tx, notice, clock.hours, clock.law, near, at=at)
        return status_of(notice, opened(tx, notice), at)

    return service.ledger.transact(operation)


@get("/v1/takedowns/{notice_id:str}", sync_to_thread=True)
def notice_status(service: Service, notice_id: str, token: str = "") -> dict[str, Any]:
    """My notice: how it stands, and how much time is left."""
    at = service.clock()
    with service.ledger.reading() as tx:
        notice = given_by(tx, notice_id, token, at=at)
        return status_of(notice, None if notice.sealed is None else opened(tx, notice), at)


class AppealIn(Strict):
    text: Words
    token: str | None = None


@post(
    "/v1/takedowns/{notice_id:str}/appeal",
    status_code=200,
    sync_to_thread=True,
    request_max_body_size=JSON_BYTES,
)
def appeal_decision(request: Ask, service: Service, notice_id: str, data: AppealIn) -> dict[str, Any]:
    """Ask for another decision, by another operator: as the app, with its API key, or with the notice's token. Once."""
    at = service.clock()
    app_id = None if data.token is not None else app_of(request, service)

    def operation(tx: Transaction) -> dict[str, Any]:
        if app_id is None:
            notice = given_by(tx, notice_id, data.token or "", at=at)
            notice = appeal(tx, notice, "notifier", data.text, at=at)
            return status_of(notice, opened(tx, notice), at)
        found = [one for one in tx.notices_for_app(app_id) if one.id == notice_id]
        if not found:
            raise problem(404, "takedown.unknown", "there is no such notice about your clips", "check the id")
        notice = appeal(tx, found[0], "app", data.text, at=at)
        case = opened(tx, notice)
        mail.post(tx, notice.id, told(service, notice, case.form.email, "The app has appealed"), at=at)
        return _as_app_reads(tx, notice, at)

    return service.ledger.transact(operation)


@post(
    "/v1/takedowns/{notice_id:str}/withdraw",
    status_code=200,
    sync_to_thread=True,
    request_max_body_size=JSON_BYTES,
)
def withdraw_notice(service: Service, notice_id: str, data: TokenIn) -> dict[str, Any]:
    """Take it back: a face goes off the register, and everything that says who you are is destroyed, for good."""
    at = service.clock()

    def operation(tx: Transaction) -> dict[str, Any]:
        notice, index = withdraw(tx, given_by(tx, notice_id, data.token, at=at), at=at)
        return {"notice_id": notice.id, "status": notice.status, "erased": True, "index": index}

    answer = service.ledger.transact(operation)
    with suppress(LedgerError, SafetyError), service.ledger.reading() as tx:
        service.gate.register.listed(tx)  # so that it is gone from memory, too
    return answer


@get("/v1/takedowns", sync_to_thread=True)
def notices_about_my_clips(request: Ask, service: Service) -> dict[str, Any]:
    """An app's view: confirmed notices about its clips, newest first. Who gave them is not in it."""
    app_id, at = app_of(request, service), service.clock()
    with service.ledger.reading() as tx:
        return {"notices": [_as_app_reads(tx, notice, at) for notice in tx.notices_for_app(app_id)]}


# What is told -----------------------------------------------------------------------------------------


def status_of(notice: Notice, case: Case | None, at: datetime) -> dict[str, Any]:
    """What the notifier and operators see alike. `seconds_left` goes below zero once it is overdue."""
    left = None if notice.due_at is None else notice.due_at - int(at.timestamp())
    return {
        "notice_id": notice.id,
        "kind": notice.kind,
        "status": notice.status,
        "video_id": notice.video_id,
        "lodged_at": _zulu(notice.created_at),
        "confirmed_at": _zulu(notice.confirmed_at),
        "due_at": _zulu(notice.due_at),
        "seconds_left": left,
        "overdue": left is not None and left < 0,
        "held_back": notice.held,
        "outcome": notice.outcome,
        "law": case.law or None if case else None,
        "decisions": [
            {"action": made.action, "note": made.note, "at": _zulu(made.at)}
            for made in (case.decisions if case else ())
        ],
        "appeals": [{"by": one.by, "at": _zulu(one.at)} for one in (case.appeals if case else ())],
        "may_appeal": case is not None and may_appeal(notice, case, "notifier"),
    }


def _as_app_reads(tx: Transaction, notice: Notice, at: datetime) -> dict[str, Any]:
    """Never the case itself: it says who gave the notice."""
    case = opened(tx, notice) if notice.sealed is not None else None
    mine = case is not None and may_appeal(notice, case, "app")
    return {**status_of(notice, case, at), "may_appeal": mine}


def _zulu(moment: int | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _to_confirm(service: Service, form: Form, notice: Notice, token: str) -> mail.Letter:
    what = "take a clip down" if form.kind == "takedown" else "put a face on the do-not-generate register"
    return mail.Letter(
        form.email,
        "Confirm your notice",
        f"Somebody, probably you, asked us at {service.settings.url} to {what}.\n\n"
        f"Nothing happens until you confirm it, within 72 hours:\n\n"
        f"{service.settings.url}/takedowns/{notice.id}?token={token}\n\n"
        f"Notice: {notice.id}\nToken: {token}\n\n"
        "Keep this letter: with it you can see how your notice stands, appeal, and take it back.\n"
        "If it was not you, do nothing, and we will forget this address.\n",
    )


def told(service: Service, notice: Notice, to: str, subject: str, note: str = "") -> mail.Letter:
    """That something happened. The token is in the first letter only."""
    return mail.Letter(
        to,
        subject,
        f"Your notice {notice.id} at {service.settings.url}: {subject[:1].lower()}{subject[1:]}.\n"
        f"{chr(10) + note + chr(10) if note else ''}\n"
        "With the token of our first letter you can see how it stands, and what you can do.\n",
    )


# What comes in ----------------------------------------------------------------------------------------


async def _clip_named(service: Service, video: object, clip: UploadFile | None) -> VideoId:
    """The released clip that an id, or a file with its manifest or mark, names. Raises a 4xx problem."""
    if not video and clip is not None:
        with TemporaryDirectory(prefix="notice-", dir=service.settings.uploads) as directory:
            path = Path(directory) / "clip"
            with path.open("wb") as out:
                while chunk := await clip.read(1 << 20):
                    out.write(chunk)
            verdict = await judged(service, path)
        if verdict.video_id is None:
            raise problem(
                404,
                "takedown.not_ours",
                "this file is not a clip that this service made, as far as its manifest and its mark say",
                "give the clip's id if you know it, or ask whoever made the clip",
            )
        return VideoId(verdict.video_id)
    named = video if isinstance(video, str) else ""
    if not await sync_to_thread(_released, service, named):
        raise problem(
            404,
            "takedown.video",
            "this service released no such clip",
            "give the clip's id, or send the clip as the file `clip`",
        )
    return VideoId(named)


def _released(service: Service, video_id: str) -> bool:
    with service.ledger.reading() as tx:
        return is_id(video_id, "video") and tx.find("release", video_id) is not None


async def _shown_face(service: Service, pictures: Sequence[bytes]) -> Likeness:
    # In turn with other strangers' files: four large pictures, decoded, fill half a gigabyte.
    return await in_turn(partial(_face, service, pictures))


def _face(service: Service, pictures: Sequence[bytes]) -> Likeness:
    if not pictures or any(len(one) > PICTURE_BYTES for one in pictures):
        raise problem(
            400,
            "takedown.pictures",
            f"`{len(pictures)}` pictures came, or one of them is over 20 MB",
            "send one to four pictures of the person alone, as the form's files `pictures`",
        )
    return register.face_of([service.eyes.call(decode_picture, one) for one in pictures])


# How often --------------------------------------------------------------------------------------------


def _mailbox(service: Service, email: str) -> str:
    """Whose mailbox it is, without saying so: what is counted is stored."""
    keyed = hmac.digest(service.keyring.facts_key, f"mailbox/{email.casefold()}".encode(), "sha256")
    return keyed.hex()[:32]


ROUTES = [
    give_notice,
    confirm_notice,
    notice_status,
    appeal_decision,
    withdraw_notice,
    notices_about_my_clips,
]
