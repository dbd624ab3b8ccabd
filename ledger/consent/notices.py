"""What people without an account may ask for: that a clip goes, that their face is never generated (design §5, §9).

    unconfirmed ─ the mailed token ─→ open ─ an operator ─→ decided ─ an appeal ─→ open ─ another operator ─→ decided
         └─ 72 h without it ─→ lapsed     └───────── the notifier takes it back ─────────→ withdrawn

Guarantees

- Nothing happens at the word of an address nobody has shown to be theirs: only the mailed token starts the clock.
- A clip reported as intimate is held back from that moment until somebody has decided; any other only by a decision.
- What was done is an entry about the notifier, the app and everyone shown, each with the reasons they may read. Only
  operators and the notifier ever read who gave the notice.
- Each side appeals once, and nobody who decided before decides again.
- Who gave the notice, what they wrote and their face are sealed under the notice's own key; withdrawing destroys it.

How long an operator has is in :mod:`gateway.notices.clocks`; whose face it is, in :mod:`safety.register`.
"""

import hmac
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from ledger.canonical import canonical, parse, sha256
from ledger.consent.grant import Strict
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import LeafIndex, NoticeId, VideoId, new_id
from ledger.keys import seal, unseal
from ledger.reasons import Reason
from ledger.store.journal import About
from ledger.store.records import Notice
from ledger.store.transaction import Transaction

CONFIRM_LIFE = timedelta(hours=72)
Kind = Literal["takedown", "do_not_generate"]
Side = Literal["app", "notifier"]
Action = Literal["removed", "kept", "restored", "registered", "refused"]
Relation = Literal["self", "parent_or_guardian", "representative", "family_of_the_dead"]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Words = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+$")]
Address = Annotated[
    str, Field(max_length=254, pattern=r"^[A-Za-z0-9._%+'-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}$")
]


class Form(Strict):
    """What the notifier filled in. All of it is sealed."""

    kind: Kind
    name: Line
    email: Address
    shown: Line
    """Who is shown, or whose face it is."""
    relation: Relation
    good_faith: Literal[True]
    """They believe in good faith that nobody had the right to make or show this."""
    signature: Line
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    intimate: bool = False
    reason: Words


class Made(Strict):
    """A decision, and who made it."""

    action: Action
    note: Words
    operator: str
    at: int


class Appeal(Strict):
    by: Side
    text: Words
    at: int


class Case(Strict):
    """Everything about one notice that somebody reads."""

    form: Form
    hours: int = 0
    law: str = ""
    resembles: tuple[str, ...] = ()
    """Enrolled likenesses that the registered face is near to: somebody may be blocking another's own consent."""
    decisions: tuple[Made, ...] = ()
    appeals: tuple[Appeal, ...] = ()

    @property
    def appealed(self) -> Appeal | None:
        """The appeal that waits for a decision."""
        return self.appeals[-1] if self.appeals and len(self.appeals) == len(self.decisions) else None


# ── giving notice ─────────────────────────────────────────────────────────────────────────────────────────


def lodge(tx: Transaction, form: Form, video_id: VideoId | None, token: str, *, at: datetime) -> Notice:
    """Keep a notice that does nothing yet. `token`: what whoever reads that mail confirms it with."""
    if _plain(form.signature) != _plain(form.name):
        raise InvalidStatement(
            "takedown.signature", "the signature is not the name given", "type your name again to sign"
        )
    if (form.kind == "takedown") != (video_id is not None):
        raise InvalidStatement("takedown.video", "a takedown names a clip", "name the clip, or send it")
    notice = Notice(
        id=NoticeId(new_id("notice")),
        kind=form.kind,
        status="unconfirmed",
        token_hash=sha256(token.encode()),
        sealed=None,
        created_at=int(at.timestamp()),
        video_id=video_id,
    )
    tx.new_subject(notice.id)
    notice = replace(notice, sealed=_sealed(tx, notice, Case(form=form)))
    tx.add_notice(notice)
    return notice


def given_by(tx: Transaction, notice_id: str, token: str, *, at: datetime) -> Notice:
    """The notice, for whoever holds its token. Raises NotFound for any other, and where nothing is left of it."""
    notice = tx.notice(notice_id)
    known = notice.token_hash if notice is not None else bytes(32)
    if not hmac.compare_digest(known, sha256(token.encode())) or notice is None:
        raise NotFound(
            "takedown.unknown",
            "there is no such notice, or this is not its token",
            "use the address in the mail you got",
        )
    if notice.status == "lapsed" or _too_late(notice, at):
        raise NotFound(
            "takedown.expired", "this notice was not confirmed within 72 hours", "send the notice again"
        )
    return notice


def _too_late(notice: Notice, at: datetime) -> bool:
    unconfirmed = notice.status == "unconfirmed"
    return unconfirmed and at.timestamp() >= notice.created_at + CONFIRM_LIFE.total_seconds()


def lapse(tx: Transaction, *, at: datetime) -> int:
    """Destroy what was never confirmed in time. Returns how many notices that were."""
    late = [notice for notice in tx.notices("unconfirmed") if _too_late(notice, at)]
    for notice in late:
        tx.forget_notice(replace(notice, status="lapsed", sealed=None))
    return len(late)


def confirm(
    tx: Transaction, notice: Notice, hours: int, law: str, resembles: tuple[str, ...] = (), *, at: datetime
) -> Notice:
    """The address is the notifier's: the clock starts. A face that resembles nobody enrolled is registered at once."""
    if notice.status != "unconfirmed":
        raise InvalidStatement(
            "takedown.confirmed", "this notice has been confirmed already", "look at its status"
        )
    case = opened(tx, notice)
    case = case.model_copy(update={"hours": hours, "law": law, "resembles": resembles})
    now = int(at.timestamp())
    notice = replace(notice, confirmed_at=now, sealed=_sealed(tx, notice, case))
    if notice.kind == "do_not_generate" and not resembles:
        notice = replace(notice, status="decided", outcome="registered", first_decided_at=now)
        tx.put_in_force(notice.id, _record(tx, notice, "registered", at=at))
        tx.change_notice(notice)
        return notice
    due_at = now + hours * 3600
    held = notice.kind == "takedown" and case.form.intimate
    notice = replace(notice, status="open", due_at=due_at, first_due_at=due_at, held=held)
    if notice.video_id is not None:
        tx.link(notice.id, tx.copies(notice.video_id))
    _record(tx, notice, "held" if held else "received", at=at)
    return _changed(tx, notice, at)


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────────────


def decide(
    tx: Transaction, notice_id: str, operator: str, action: Action, note: str, *, at: datetime
) -> Notice:
    """An operator's word on a notice or on an appeal, at this place in the log."""
    notice = tx.notice(notice_id)
    if notice is None or notice.status in {"unconfirmed", "lapsed"}:
        raise NotFound("takedown.unknown", "there is no such notice", "look at the queue")
    if notice.status != "open":
        raise InvalidStatement(
            "takedown.decided", f"this notice is `{notice.status}`", "nothing waits for a decision"
        )
    case = opened(tx, notice)
    if any(made.operator == operator for made in case.decisions):
        raise InvalidStatement(
            "takedown.same_operator",
            "you decided on this notice before",
            "let another operator decide on the appeal",
        )
    if action not in (choices := _choices(notice, case)):
        raise InvalidStatement(
            "takedown.action",
            f"the decision `{action}` does not fit here",
            f"choose one of {', '.join(f'`{one}`' for one in choices)}",
        )
    if any(_names(_plain(one), _plain(note)) for one in (case.form.name, case.form.email)):
        raise InvalidStatement(
            "takedown.note_names",
            "the note names the notifier, and the app reads it",
            "say why without saying who",
        )
    now = int(at.timestamp())
    made = Made(action=action, note=note, operator=operator, at=now)
    final = bool(case.decisions)
    case = case.model_copy(update={"decisions": (*case.decisions, made)})
    notice = replace(
        notice,
        status="decided",
        outcome=action,
        held=False,
        due_at=None,
        first_decided_at=notice.first_decided_at or now,
        sealed=_sealed(tx, notice, case),
    )
    if notice.video_id is not None:
        tx.link(notice.id, tx.copies(notice.video_id))
    index = _record(tx, notice, action, note, at=at)
    if notice.kind == "do_not_generate":
        tx.put_in_force(notice.id, index if action == "registered" else None)
        if action == "refused" and final:
            tx.drop_face(notice.id)  # nothing is left to appeal, so there is nothing to keep it for
    return _changed(tx, notice, at)


def _choices(notice: Notice, case: Case) -> tuple[Action, ...]:
    if notice.kind == "do_not_generate":
        return "registered", "refused"
    if not case.decisions:
        return "removed", "kept"
    return ("removed", "restored") if notice.outcome != "kept" else ("removed", "kept")


def appeal(tx: Transaction, notice: Notice, side: Side, text: str, *, at: datetime) -> Notice:
    """Ask for another decision, by another operator. Once for each side, and only against what went against it."""
    case = opened(tx, notice)
    if any(one.by == side for one in case.appeals):
        raise InvalidStatement("takedown.appealed", "you have appealed already", "an appeal is heard once")
    if notice.status != "decided":
        raise InvalidStatement(
            "takedown.not_decided", f"this notice is `{notice.status}`", "wait for the decision"
        )
    if not may_appeal(notice, case, side):
        raise InvalidStatement(
            "takedown.nothing_to_appeal", "the decision went your way", "there is nothing to appeal"
        )
    now = int(at.timestamp())
    case = case.model_copy(update={"appeals": (*case.appeals, Appeal(by=side, text=text, at=now))})
    due_at = now + case.hours * 3600
    notice = replace(notice, status="open", due_at=due_at, sealed=_sealed(tx, notice, case))
    _record(tx, notice, f"appealed_by_{side}", at=at)
    return _changed(tx, notice, at)


def may_appeal(notice: Notice, case: Case, side: Side) -> bool:
    against = {"app": {"removed"}, "notifier": {"kept", "restored", "refused"}}[side]
    fresh = all(one.by != side for one in case.appeals)
    return notice.status == "decided" and notice.outcome in against and fresh


def withdraw(tx: Transaction, notice: Notice, *, at: datetime) -> tuple[Notice, LeafIndex]:
    """The notifier takes it back, and everything that says who they are is destroyed. Cannot be undone.

    A face goes off the register at any time. A takedown can be taken back until it is decided.
    """
    if notice.sealed is None or (notice.kind == "takedown" and notice.status != "open"):
        raise InvalidStatement(
            "takedown.too_late",
            f"this notice is `{notice.status}`, and cannot be taken back",
            "what is recorded about a clip stays",
        )
    if opened(tx, notice).decisions and notice.kind == "takedown":
        raise InvalidStatement(
            "takedown.too_late", "this notice has been decided", "what is recorded about a clip stays"
        )
    gone = replace(notice, status="withdrawn", sealed=None, due_at=None, held=False, outcome=None)
    # Written before the key goes: the log shows that the notice ended here, and nobody can read whose it was.
    index = _record(tx, notice, "withdrawn", at=at)
    tx.forget_notice(gone)
    _settle(tx, gone, at)
    return gone, index


def forget_closed(tx: Transaction, *, before: datetime) -> int:
    """Destroy who gave notice, and what they wrote, of every case decided before `before`. How many there were.

    What was decided stays in force, and on the lists of those it was about. A face on the register is no closed case.
    """
    limit, gone = before.timestamp(), 0
    for notice in tx.notices("decided"):
        if notice.sealed is None or notice.outcome == "registered":
            continue
        decisions = opened(tx, notice).decisions
        if decisions and decisions[-1].at <= limit:
            tx.forget_notice(replace(notice, sealed=None))
            gone += 1
    return gone


# ── what is kept, and what is told ────────────────────────────────────────────────────────────────────────


def opened(tx: Transaction, notice: Notice) -> Case:
    """Raises NotFound once the notice's key is destroyed."""
    key = tx.held(notice.id).key
    if notice.sealed is None:
        raise NotFound("takedown.withdrawn", "this notice has been taken back", "send a new one")
    return Case.model_validate(parse(unseal(key, notice.sealed, context=f"notice/{notice.id}")))


def _sealed(tx: Transaction, notice: Notice, case: Case) -> bytes:
    plain = canonical(case.model_dump(mode="json"))
    return seal(tx.held(notice.id).key, plain, context=f"notice/{notice.id}")


def _changed(tx: Transaction, notice: Notice, at: datetime) -> Notice:
    tx.change_notice(notice)
    _settle(tx, notice, at)
    return notice


def _settle(tx: Transaction, notice: Notice, at: datetime) -> None:
    """Its clips go, or come back, and whoever made one is told so at once."""
    for video in tx.settle_clips(notice.id, at=at):
        kind = "video.restored" if video.taken_down_at is None else "video.taken_down"
        tx.event(video.app_id, kind, {"video_id": video.id, "notice_id": notice.id}, at=at)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _names(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _record(tx: Transaction, notice: Notice, action: str, note: str = "", *, at: datetime) -> LeafIndex:
    """One entry for each clip the notice is about. Returns the place of the last."""
    said: dict[str, Any] = {"notice": notice.id, "action": action, "note": note}
    if notice.kind == "do_not_generate":
        reasons = [_reason(action, "register").as_json()]
        about = [About(notice.id, "notifier", {**said, "reasons": reasons})]
        return tx.append("register", _ref(tx, notice), about, at=at)
    index = LeafIndex(-1)
    for video_id in tx.linked(notice.id) or filter(None, [notice.video_id]):
        index = tx.append("takedown", _ref(tx, notice), _about(tx, notice, video_id, said), at=at)
    return index


def _about(tx: Transaction, notice: Notice, video_id: VideoId, said: dict[str, Any]) -> list[About]:
    """The notifier, the app and everyone shown, each with the reasons they may read. Nobody's name is in any."""
    video, action = tx.video(video_id), said["action"]
    uses = tx.uses(video_id)
    body = {"video_id": video_id, **said}
    told = {side: [_reason(action, side).as_json()] for side in ("notifier", "app", "depicted")}
    about = [About(notice.id, "notifier", {**body, "reasons": told["notifier"]})]
    if video is not None:
        grants = [use.grant_id for use in uses]
        about.append(About(video.app_id, "requester", {**body, "grant_ids": grants, "reasons": told["app"]}))
    for person_id in dict.fromkeys(use.person_id for use in uses if not tx.erased(use.person_id)):
        mine = [use for use in uses if use.person_id == person_id]
        shown = {"cameo_id": mine[0].cameo_id, "grant_ids": [use.grant_id for use in mine]}
        about.append(About(person_id, "depicted", {**body, **shown, "reasons": told["depicted"]}))
    return about


def _ref(tx: Transaction, notice: Notice) -> str:
    """Unique: every entry of a notice is also about its notifier, and so counted."""
    return f"{notice.id}/{tx.held(notice.id).count}"


_HAPPENED = {
    "received": "a notice asks that this clip be taken down",
    "held": "a notice calls this clip intimate, so it is held back until somebody has looked at it",
    "removed": "this clip has been taken down",
    "kept": "a notice about this clip was looked at, and the clip stays",
    "restored": "the decision to take this clip down was reversed, and the clip is back",
    "appealed_by_app": "the app has appealed, so another operator looks at this clip",
    "appealed_by_notifier": "whoever gave notice has appealed, so another operator looks at this clip",
    "withdrawn": "the notice about this clip was taken back",
    "registered": "this face is on the do-not-generate register",
    "refused": "this face was not put on the do-not-generate register",
}
_ON_REGISTER = {
    "received": "this face resembles somebody enrolled, so an operator looks at it first",
    "appealed_by_notifier": "whoever gave notice has appealed, so another operator looks at this face",
    "withdrawn": "this face was taken off the do-not-generate register, and destroyed",
}
_NEXT = {
    ("app", "removed"): "appeal to `/v1/takedowns` if you think it is wrong",
    ("app", "received"): "do not show the clip if you have any doubt",
    ("app", "held"): "do not show the clip until it is decided",
    ("notifier", "kept"): "appeal with the token you were mailed",
    ("notifier", "restored"): "appeal with the token you were mailed",
    ("register", "refused"): "appeal with the token you were mailed",
    ("register", "registered"): "take it back with the token you were mailed, whenever you want",
}


def _reason(action: str, side: str) -> Reason:
    words = _ON_REGISTER.get(action) if side == "register" else None
    remedy = _NEXT.get((side, action), "there is nothing for you to do")
    return Reason(f"takedown.{action}", words or _HAPPENED[action], remedy)
