"""What the ledger says of a released clip, to anyone: that it was released, on what, and whether consent to it stands now.

It names nobody. What was made from a clip that somebody has withdrawn is withdrawn too, at any depth.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ledger.errors import NotFound, Unavailable
from ledger.ids import LeafIndex
from ledger.store.records import Depicted, Video
from ledger.store.transaction import Transaction

ConsentNow = Literal["standing", "expired", "revoked", "withdrawn", "erased", "nobody_shown", "unknown"]


@dataclass(frozen=True, slots=True)
class ClipStanding:
    """What the ledger says about one clip, without naming anyone in it.

    checks: what was looked at before its release; None where no record of it can be opened any more.
    line: the clip, what it was made from, and so on.
    """

    video_id: str
    released: bool
    released_at: str | None
    manifest_id: str | None
    decision_index: int | None
    release_index: int | None
    people: int
    consent_then: bool
    consent_now: ConsentNow
    consent_changed_at: str | None
    taken_down_at: str | None = None
    checks: tuple[str, ...] | None = None
    line: tuple[str, ...] = ()


def clip_standing(tx: Transaction, video_id: str, *, at: datetime) -> ClipStanding | None:
    """The ledger's word on a released clip; None for one it never released."""
    video = tx.video(video_id)
    release = tx.find("release", video_id)
    if video is None or release is None:
        return None
    decision = tx.find("decision", video_id)
    uses, line = tx.uses(video.id), tx.lineage(video)
    above = [use for one in line[1:] for use in tx.uses(one.id)]
    now, changed = _consent_now(tx, uses, above, at)
    if line[-1].parent_id is not None:
        now, changed = "unknown", None  # a row of what it was made from is missing
    return ClipStanding(
        video_id=video_id,
        released=True,
        released_at=_iso(release.at),
        manifest_id=video.manifest_id,
        decision_index=decision.index if decision else None,
        release_index=release.index,
        people=len(uses),
        consent_then=decision is not None,
        consent_now=now,
        consent_changed_at=changed,
        taken_down_at=_taken_down(line),
        checks=_checks(tx, video, release.index),
        line=tuple(one.id for one in line),
    )


def _taken_down(line: Iterable[Video]) -> str | None:
    """Since when a clip, or one that it was made from, is down."""
    return min((_iso(one.taken_down_at) for one in line if one.taken_down_at is not None), default=None)


def _checks(tx: Transaction, video: Video, release: LeafIndex) -> tuple[str, ...] | None:
    """From whichever record of the release can still be opened: its app's, else that of somebody it shows."""
    for subject in (video.app_id, *(use.person_id for use in tx.uses(video.id))):
        try:
            entry = tx.entry_at(subject, release)
        except (NotFound, Unavailable):
            continue
        if entry is not None and isinstance(said := entry.body.get("checks"), list):
            return tuple(str(one) for one in said)
    return None


def _consent_now(
    tx: Transaction, uses: Sequence[Depicted], above: Sequence[Depicted], at: datetime
) -> tuple[ConsentNow, str | None]:
    """The worst of everyone shown: one person's withdrawal is the clip's, and that of everything made from it.

    `above`: those shown in the clips it was made from. That a grant of theirs has ended changes nothing made before.
    """
    answers = [_one(tx, use, at) for use in uses]
    answers += [one for use in above if (one := _one(tx, use, at))[0] in _REACHING]
    if not answers:
        return "nobody_shown", None
    order: tuple[ConsentNow, ...] = ("unknown", "erased", "withdrawn", "revoked", "expired", "standing")
    return min(answers, key=lambda answer: order.index(answer[0]))


_REACHING: tuple[ConsentNow, ...] = ("unknown", "erased", "withdrawn")
"""What befalls a clip befalls what was made from it."""


def _one(tx: Transaction, use: Depicted, at: datetime) -> tuple[ConsentNow, str | None]:
    try:
        standing = tx.standing(use.person_id)
    except NotFound:
        return "erased", None
    if standing.erased:
        return "erased", None
    held = standing.grants.get(use.grant_id)
    if held is None:
        return "unknown", None
    if held.revoked_index is not None:
        return ("withdrawn" if held.withdrawn else "revoked"), held.revoked_at
    if held.grant.expires <= at:
        return "expired", held.grant.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    return "standing", None


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
