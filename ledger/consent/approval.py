"""The word of those a draft shows: whether it goes out, and whether its asker may ever ask again.

Whose word is needed is for the fold to say (:meth:`Standing.approved`): the owner's or their executor's, for a minor
a guardian's. One refusal ends the job in the transaction that records it, so that no approval that comes later can
release the clip. An approval does not release anything by itself: consent is folded again by whoever releases.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ledger.consent.fold import Role, Standing
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import PersonId, VideoId
from ledger.log.sequencer import Ledger
from ledger.reasons import Reason
from ledger.store.journal import About
from ledger.store.records import Depicted, Video
from ledger.store.transaction import Transaction

Decision = Literal["approve", "refuse", "refuse_and_block"]
_REFUSED = Reason(
    "approval.refused",
    "somebody this clip shows has looked at it, and does not want it to go out",
    "ask them before you ask for another",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One word on one draft: whose likeness it is about, who gave it, and as what."""

    video_id: VideoId
    owner: PersonId
    actor: PersonId
    role: Role
    decision: Decision


def answer_draft(ledger: Ledger, answer: Answer, *, at: datetime) -> None:
    """Record a word on a draft; a refusal also ends its job. Repeating the same word is harmless.

    Raises NotFound where no draft waits for this person's word, InvalidStatement for a word that is not theirs to
    give (`approval.guardian`, `approval.not_theirs`) or that contradicts one that has had its effect (`approval.decided`).
    """
    ledger.transact(lambda tx: _record(tx, answer, at))


def _record(tx: Transaction, answer: Answer, at: datetime) -> None:
    approved = answer.decision == "approve"
    video, use, standing = _draft(tx, answer)
    said = standing.approvals.get(video.id, {})
    waits = tx.held_clip(video.id) is not None and not tx.has_ended(video.id)
    if not waits and said.get(answer.role) != approved:
        raise _nothing(answer) if answer.role not in said else _decided()
    if approved and standing.minor(at) and answer.role != "guardian":
        raise InvalidStatement(
            "approval.guardian",
            "a clip of somebody under 18, or of unknown age, is approved by their guardian",
            "ask the guardian; you may refuse it yourself",
        )
    if approved and not (standing.speaks(answer.role) and _still(standing, answer)):
        # Whoever replays the list finds no consent in a yes of somebody who could not give one.
        raise InvalidStatement(
            "approval.not_theirs",
            "somebody else speaks for this person now",
            "ask whoever looks after their likeness; you may refuse it yourself",
        )
    if waits and said.get(answer.role) != approved:
        told = {"video_id": video.id, "approved": approved}
        by = {"by": answer.actor} if answer.actor != answer.owner else {}
        body = {**told, "cameo_id": use.cameo_id, "role": answer.role, **by}
        ref = f"{video.id}/{answer.owner}/{answer.role}/{'yes' if approved else 'no'}"
        about = [About(video.app_id, "requester", told), About(answer.owner, "depicted", body)]
        tx.append("approval", ref, about, at=at)
    if answer.decision == "refuse_and_block":
        _block(tx, answer.owner, video.requested_by or video.app_id, at)
    if not approved:
        tx.end_job(video.id, "approval", [_REFUSED.as_json()], at=at)


def _still(standing: Standing, answer: Answer) -> bool:
    """Whether whoever answers has their role at this place in the log: it was asked before."""
    match answer.role:
        case "owner":
            return answer.actor == answer.owner
        case "guardian":
            return answer.actor in standing.guardians
        case "executor":
            return answer.actor == standing.executor


def _draft(tx: Transaction, answer: Answer) -> tuple[Video, Depicted, Standing]:
    """The draft, how it shows the owner, and how they stand; only where their grant asks for their word."""
    video = tx.video(answer.video_id)
    use = next((one for one in tx.uses(answer.video_id) if one.person_id == answer.owner), None)
    if video is None or use is None or tx.find("draft", answer.video_id) is None:
        raise _nothing(answer)
    standing = tx.standing(answer.owner)
    held = standing.grants.get(use.grant_id)
    if held is None or held.grant.approval != "before_release":
        raise _nothing(answer)
    return video, use, standing


def _block(tx: Transaction, owner: PersonId, target: str, at: datetime) -> None:
    if target not in tx.standing(owner).blocked:
        ref = f"{owner}/{target}/{tx.held(owner).count}"
        tx.append("block", ref, [About(owner, "owner", {"target": target, "blocked": True})], at=at)


def _nothing(answer: Answer) -> NotFound:
    return NotFound(
        "approval.unknown",
        f"no draft `{answer.video_id[:40]}` waits for this word",
        "look at what waits; a clip that is out is taken back by revoking its grant",
    )


def _decided() -> InvalidStatement:
    return InvalidStatement(
        "approval.decided",
        "something else was said about this clip, and that has had its effect",
        "a clip that is out is taken back by revoking its grant",
    )
