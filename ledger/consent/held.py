"""What reviewers say about a clip that was held for them (design §8): recorded word for word, the first to the last.

    held ─ looked ─ passed, by one ─ passed, by another ─→ asked about again as reviewed, and out
              └──── refused, by one ─→ the job ends; kept ─ appealed ─ passed by two others ─→ decided anew, and out
                                         └─ 14 days       └─ refused by another ─→ destroyed

Guarantees

- What becomes of a held clip follows from its words in the log alone; each names the file it is about by its SHA-256,
  and counts for no other.
- Nobody lets a clip pass whom the log does not show to have looked at it; nobody who refused it decides on the appeal.
- The app reads each word, and the same pseudonym for the same reviewer of one clip; who that is, only those it shows.

Whether one word is enough, and who may say it, is for the policies (`pass_clip`, `refuse_clip`): who calls :func:`say`
asks them. Letting pass releases nothing: consent is folded, and the clip looked at, once more by whoever releases.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ledger.consent.grant import zulu
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import LeafIndex, VideoId
from ledger.reasons import Reason
from ledger.store.records import HeldClip
from ledger.store.transaction import Transaction

Action = Literal["held", "looked", "passed", "refused", "appealed"]
APPEAL_LIFE = timedelta(days=14)
"""How long what a reviewer refused is kept, for the app to ask for another look."""
HEARING_LIFE = timedelta(days=7)
"""How long an appeal waits for another reviewer."""
REFUSED = Reason(
    "review.refused",
    "somebody here has looked at this clip, and does not let it go out",
    "describe what it shows otherwise; or ask within 14 days for another look: `POST /v1/videos/{id}/appeal`",
)
REFUSED_FOR_GOOD = Reason(
    "review.refused_for_good",
    "somebody else here has looked at this clip too, and does not let it go out",
    "describe what it shows otherwise",
)


@dataclass(frozen=True, slots=True)
class Word:
    """One entry about a held clip. `by`: a reviewer's pseudonym. `final`: it took effect, alone or with those before.

    `policies`: what it was held for.
    """

    index: LeafIndex
    action: Action
    at: str
    sha256: str
    by: str
    note: str
    final: bool
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that was said about one clip, in the order of the log."""

    words: tuple[Word, ...] = ()

    def passed(self, sha256: str) -> bool:
        """Whether reviewers have let this very file pass, and none has refused it since."""
        last = next((one for one in reversed(self.words) if one.final), None)
        return last is not None and (last.action, last.sha256) == ("passed", sha256)

    def passed_by(self, sha256: str) -> frozenset[str]:
        """Those who let this file pass since it was held, or since the appeal."""
        since = max(
            (n for n, one in enumerate(self.words) if one.action in {"refused", "appealed"}), default=-1
        )
        later = self.words[since + 1 :]
        return frozenset(one.by for one in later if (one.action, one.sha256) == ("passed", sha256))

    def judged(self, sha256: str) -> frozenset[str]:
        """The policies that this file was put before reviewers for: their word is about nothing else."""
        held = (one for one in self.words if (one.action, one.sha256) == ("held", sha256))
        return frozenset(policy for one in held for policy in one.policies)

    def looked_by(self, sha256: str) -> frozenset[str]:
        return frozenset(one.by for one in self.words if (one.action, one.sha256) == ("looked", sha256))

    @property
    def refused_by(self) -> frozenset[str]:
        return frozenset(one.by for one in self.words if one.action == "refused")

    @property
    def appeal(self) -> Word | None:
        return next((one for one in self.words if one.action == "appealed"), None)

    @property
    def open_appeal(self) -> bool:
        """Whether an appeal waits to be heard."""
        return self.appeal is not None and len([one for one in self.words if one.action == "refused"]) == 1


def case_of(tx: Transaction, video_id: VideoId) -> Case:
    """What the log says about a held clip; nothing, of one that never was."""
    video, words = tx.video(video_id), list[Word]()
    while video is not None and (place := tx.find("review", f"{video_id}/{len(words)}")) is not None:
        entry = tx.recorded(video.app_id, place.index)
        if entry is None:
            raise NotFound("review.unreadable", "what reviewers said can not be read", "restore the database")
        said = entry.body
        words.append(
            Word(
                place.index,
                said["action"],
                said["at"],
                said["sha256"],
                said.get("reviewer", ""),
                said.get("note", ""),
                bool(said.get("final", False)),
                tuple(said.get("policies", ())),
            )
        )
    return Case(tuple(words))


def hold_for_review(
    tx: Transaction, clip: HeldClip, sha256: str, policies: Sequence[str], *, at: datetime
) -> LeafIndex:
    """Keep a finished clip until reviewers have spoken; the app is told that it waits. `policies`: those that ask for it."""
    until = zulu(datetime.fromtimestamp(clip.expires_at, UTC))
    said = {"action": "held", "sha256": sha256, "policies": list(policies), "until": until}
    index = _append(tx, clip.video_id, said, at=at)
    tx.keep_clip(clip)
    _tell(tx, clip.video_id, "video.awaiting_review", {"until": until}, at)
    return index


@dataclass(frozen=True, slots=True)
class Reviewer:
    """An operator who looks at a clip: their name, and what the app reads in its place."""

    operator: str
    pseudonym: str


def waiting_for_review(tx: Transaction, video_id: VideoId, *, at: datetime) -> HeldClip:
    """The clip, if it waits for a reviewer now. Raises NotFound for any other."""
    held = tx.held_clip(video_id)
    if held is not None and held.expires_at > at.timestamp():
        if held.waits_for == "review" and not tx.has_ended(video_id):
            return held
        if held.waits_for == "appeal" and case_of(tx, video_id).open_appeal:
            return held
    raise NotFound("review.unknown", "no such review waits", "ask for the list")


def note_look(tx: Transaction, held: HeldClip, reviewer: Reviewer, *, at: datetime) -> None:
    """That somebody here is about to see the clip: written before they do, once for each of them."""
    if reviewer.pseudonym not in case_of(tx, held.video_id).looked_by(held.sha256):
        _say(tx, held, reviewer, {"action": "looked"}, at=at)


def say(
    tx: Transaction,
    held: HeldClip,
    reviewer: Reviewer,
    action: Literal["passed", "refused"],
    note: str,
    *,
    final: bool,
    at: datetime,
) -> LeafIndex:
    """A reviewer's word. A refusal ends the job, and keeps the file for an appeal; on an appeal, it ends that."""
    case = case_of(tx, held.video_id)
    check_word(case, held, reviewer, action)
    index = _say(tx, held, reviewer, {"action": action, "note": note, "final": final}, at=at)
    if action == "refused":
        heard = held.waits_for == "appeal"
        kept = replace(held, waits_for="approval" if heard else "appeal", expires_at=_after(at, APPEAL_LIFE))
        tx.end_job(held.video_id, "review", [REFUSED.as_json()], at=at)
        tx.keep_clip(kept)
        if heard:
            _tell(tx, held.video_id, "video.failed", {"reasons": [REFUSED_FOR_GOOD.id]}, at)
    return index


def resume(tx: Transaction, held: HeldClip, *, at: datetime) -> None:
    """On appeal it was let pass, and decided anew: it waits for nothing of reviewers any more."""
    tx.keep_clip(replace(held, waits_for="review", expires_at=_after(at, HEARING_LIFE)))


def give_up(tx: Transaction, held: HeldClip, reasons: Sequence[Reason], *, at: datetime) -> None:
    """On appeal it was let pass, and is not allowed any more: consent is gone, or the rules have changed."""
    tx.keep_clip(replace(held, waits_for="approval"))
    _tell(tx, held.video_id, "video.failed", {"reasons": [one.id for one in reasons]}, at)


def check_word(case: Case, held: HeldClip, reviewer: Reviewer, action: str) -> None:
    """Raises InvalidStatement for a word that this reviewer has no right to."""
    if reviewer.pseudonym in case.refused_by:
        raise InvalidStatement(
            "review.same_operator",
            "you have refused this clip before",
            "let another operator decide on the appeal",
        )
    if action == "passed" and reviewer.pseudonym in case.passed_by(held.sha256):
        raise InvalidStatement(
            "review.same_operator",
            "you have let this clip pass already, and it takes two",
            "let another operator look at it",
        )
    if action == "passed" and reviewer.pseudonym not in case.looked_by(held.sha256):
        raise InvalidStatement(
            "review.not_looked_at", "you have not looked at this clip", "look at it before you let it pass"
        )


def appeal(tx: Transaction, video_id: VideoId, text: str, *, at: datetime) -> datetime:
    """The app asks for another look at what a reviewer refused; once. Returns until when somebody will have looked."""
    held, case = tx.held_clip(video_id), case_of(tx, video_id)
    if case.appeal is not None:
        raise InvalidStatement("review.appealed", "you have appealed already", "an appeal is heard once")
    if held is None or held.waits_for != "appeal" or held.expires_at <= at.timestamp():
        raise InvalidStatement(
            "review.nothing_to_appeal",
            "no clip that a reviewer refused is kept of this video",
            "an appeal is heard within 14 days of the refusal; ask for a new video",
        )
    until = _after(at, HEARING_LIFE)
    _append(tx, video_id, {"action": "appealed", "sha256": held.sha256}, own={"note": text}, at=at)
    tx.keep_clip(replace(held, expires_at=until))
    return datetime.fromtimestamp(until, UTC)


def _after(at: datetime, life: timedelta) -> int:
    return int((at + life).timestamp())


def _say(
    tx: Transaction, held: HeldClip, reviewer: Reviewer, said: dict[str, Any], *, at: datetime
) -> LeafIndex:
    said = {**said, "sha256": held.sha256, "reviewer": reviewer.pseudonym}
    return _append(tx, held.video_id, said, theirs={"operator": reviewer.operator}, at=at)


def _append(
    tx: Transaction,
    video_id: VideoId,
    said: dict[str, Any],
    *,
    own: dict[str, Any] | None = None,
    theirs: dict[str, Any] | None = None,
    at: datetime,
) -> LeafIndex:
    """One word more. `own`: what only the app reads; `theirs`: what only those shown do."""
    app, *shown = tx.about_video(video_id, said)
    about = [replace(app, body={**app.body, **(own or {})})]
    about += [replace(one, body={**one.body, **(theirs or {})}) for one in shown]
    return tx.append("review", f"{video_id}/{len(case_of(tx, video_id).words)}", about, at=at)


def _tell(tx: Transaction, video_id: VideoId, kind: str, more: dict[str, Any], at: datetime) -> None:
    video = tx.video(video_id)
    if video is not None:
        tx.event(video.app_id, kind, {"video_id": video_id, **more}, at=at)
