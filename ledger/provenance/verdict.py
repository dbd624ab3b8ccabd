"""What can be said about a clip: three findings, then the ledger's word. Never one bit, never "true".

| finding            | says                                                                             |
|--------------------|----------------------------------------------------------------------------------|
| `manifest_trusted` | a C2PA manifest is present, and its signer chains to our anchor                  |
| `asset_bound`      | the bytes are the ones that manifest was signed over                             |
| `recovered_via`    | how the ledger's record was found: `embedded`, `watermark` or `none`             |

Then `released`, `consent_then`, `consent_now` and `taken_down_at`. A mark alone shows that the pixels carry a number; it does
not show that the rest of the picture is what we released, and the verdict says so. When manifest and mark
point to different clips, neither is believed. What was made from a clip that somebody has withdrawn is withdrawn
too, at any depth.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ledger.errors import NotFound
from ledger.log.sequencer import Ledger
from ledger.provenance import media, watermark
from ledger.provenance.manifest import ManifestFinding, read
from ledger.provenance.trust import Anchors
from ledger.store.records import Depicted, Video
from ledger.store.transaction import Transaction

Via = Literal["embedded", "watermark", "none"]
ConsentNow = Literal["standing", "expired", "revoked", "withdrawn", "erased", "nobody_shown", "unknown"]


@dataclass(frozen=True, slots=True)
class ClipStanding:
    """What the ledger says about one clip, without naming anyone in it."""

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


@dataclass(frozen=True, slots=True)
class Verdict:
    summary: str
    manifest_trusted: bool
    asset_bound: bool
    recovered_via: Via
    released: bool
    consent_then: bool
    consent_now: ConsentNow
    consent_changed_at: str | None
    video_id: str | None
    signer: str | None
    signed_at: str | None
    manifest_state: str
    watermark: str | None
    log: dict[str, Any] | None
    notes: tuple[str, ...]
    contradictions: tuple[str, ...]
    taken_down_at: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"schema": "countersign/verdict/v1", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Verifier:
    """Reads a file and asks the ledger. Keeps nothing."""

    ledger: Ledger
    anchors: Callable[[], Anchors]
    watermark_key: bytes
    limits: media.Limits

    def verify(self, path: Path, *, at: datetime) -> Verdict:
        """The verdict on a file. Raises MediaError for what is not a video we can decode."""
        # 1. It is a video, whole and within limits.
        media.probe(path, self.limits)
        # 2. What the file says about itself.
        found = read(path, self.anchors())
        embedded = found.manifest_trusted and found.asset_bound
        # 3. What the pixels say. A trusted, bound manifest already fixes every pixel, mark included.
        mark = None if embedded else self._mark(path)
        # 4. What the ledger says about the clip either of them names.
        payload = found.soft_binding if embedded else mark
        with self.ledger.reading() as tx:
            standing = _clip_by_payload(tx, payload, at=at) if payload else None
        return _compile(found, mark, standing, self.ledger.origin, embedded=embedded)

    def _mark(self, path: Path) -> str | None:
        found = watermark.detect((frame for _, frame in media.frames(path)), self.watermark_key)
        return found.payload.hex() if isinstance(found, watermark.Detected) else None


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
    )


def _taken_down(line: Iterable[Video]) -> str | None:
    """Since when a clip, or one that it was made from, is down."""
    return min((_iso(one.taken_down_at) for one in line if one.taken_down_at is not None), default=None)


def _clip_by_payload(tx: Transaction, payload: str, *, at: datetime) -> ClipStanding | None:
    if not re.fullmatch(r"[0-9a-f]{16}", payload):
        return None  # a manifest may name anything as its mark
    video_id = tx.video_by_payload(bytes.fromhex(payload))
    return clip_standing(tx, video_id, at=at) if video_id else None


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


def _compile(
    found: ManifestFinding, mark: str | None, standing: ClipStanding | None, origin: str, *, embedded: bool
) -> Verdict:
    contradictions = _contradictions(found, standing, embedded=embedded)
    unknown_mark = mark is not None and standing is None
    if contradictions:
        standing = None  # which of the two clips this is, if either, cannot be said
    via: Via = "none" if standing is None else "embedded" if embedded else "watermark"
    return Verdict(
        summary=_summary(found, standing, via, contradictions),
        manifest_trusted=found.manifest_trusted,
        asset_bound=found.asset_bound,
        recovered_via=via,
        released=standing is not None,
        consent_then=standing is not None and standing.consent_then,
        consent_now=standing.consent_now if standing else "unknown",
        consent_changed_at=standing.consent_changed_at if standing else None,
        video_id=standing.video_id if standing else None,
        signer=found.signer,
        signed_at=found.signed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if found.signed_at else None,
        manifest_state=found.state,
        watermark=mark or (found.soft_binding if embedded else None),
        log=None
        if standing is None
        else {"origin": origin, "decision": standing.decision_index, "release": standing.release_index},
        notes=_notes(found, via, unknown_mark=unknown_mark),
        contradictions=contradictions,
        taken_down_at=standing.taken_down_at if standing else None,
    )


def _contradictions(
    found: ManifestFinding, standing: ClipStanding | None, *, embedded: bool
) -> tuple[str, ...]:
    # Someone who can sign as we do could write a released clip's number into other footage: the number is public.
    if embedded and standing and found.manifest_id != standing.manifest_id:
        return (
            "the manifest is not the one the clip it names was released with: it was made for other footage",
        )
    claimed = found.consent.get("video_id") if found.manifest_trusted and found.consent else None
    if claimed and standing and claimed != standing.video_id:
        return ("the manifest names one clip and the mark another: at least one was copied here",)
    return ()


def _notes(found: ManifestFinding, via: Via, *, unknown_mark: bool) -> tuple[str, ...]:
    notes = []
    if found.state != "none" and not found.manifest_trusted:
        notes.append(f"the manifest is not one we trust (`{found.state}`), so nothing it says is believed")
    if found.manifest_trusted and not found.asset_bound:
        notes.append(
            "the manifest was signed by us over other bytes: this file was altered, or it was copied here"
        )
    if via == "watermark":
        notes.append(
            "the mark shows that pixels of that clip are in this file; what else the file shows is not covered"
        )
    if unknown_mark:
        notes.append("a mark was found, but the ledger knows no released clip by it")
    return tuple(notes)


def _summary(
    found: ManifestFinding, standing: ClipStanding | None, via: Via, contradictions: Sequence[str]
) -> str:
    if contradictions:
        return "This file contradicts itself; nothing it says about its origin can be relied on."
    if standing is None:
        if found.state in {"valid", "trusted"}:
            return "This file is signed, but it is not a clip this ledger released."
        return "No evidence of where this file comes from was found. That does not mean it is real, or that it is not."
    released = _in_words(standing.released_at)
    how = (
        f"Its signed manifest is intact: an AI-generated clip, released on {released}."
        if via == "embedded"
        else f"No intact manifest, but it carries the mark of an AI-generated clip released on {released}; "
        "what else this file shows is not covered."
    )
    if standing.taken_down_at is not None:
        how += f" It was taken down on {_in_words(standing.taken_down_at)}, and should no longer be shown."
    consent = _CONSENT_WORDS[standing.consent_now].format(at=_in_words(standing.consent_changed_at))
    return f"{how} {consent if via == 'embedded' else consent.replace('Everyone shown', 'Everyone in that clip')}"


_CONSENT_WORDS: dict[ConsentNow, str] = {
    "standing": "Everyone shown agreed, and still does.",
    "expired": "Everyone shown agreed then; the grant ended on {at}.",
    "revoked": "Everyone shown agreed then; consent for anything new was withdrawn on {at}.",
    "withdrawn": "Everyone shown agreed then; consent was withdrawn on {at}, and the clip should no longer be shown.",
    "erased": "Everyone shown agreed then; someone has since had their likeness erased.",
    "nobody_shown": "It shows nobody's enrolled likeness.",
    "unknown": "What consent it had cannot be told.",
}


def _in_words(moment: str | None) -> str:
    """`2026-03-01T12:00:00Z` as a person writes it."""
    return f"{datetime.fromisoformat(moment):%-d %B %Y, %H:%M} UTC" if moment else "a date not known"


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
