"""What can be said about a file: three findings, then the ledger's word, each with its reason. Never one bit, never "true".

| finding            | says                                                                                      |
|--------------------|-------------------------------------------------------------------------------------------|
| `manifest_trusted` | a C2PA manifest is present, its signer chains to our anchors, and what it says is unaltered |
| `asset_bound`      | the bytes are the ones that manifest was signed over                                       |
| `recovered_via`    | how the ledger's record was found: `embedded`, `watermark`, `fingerprint` or `none`         |

Then `released`, `consent_then`, `consent_now` and `taken_down_at`; and a `state` that sums them up, with one plain sentence.
The form is published: `schemas/verdict-v2.json`.

In two steps. :func:`~ledger.provenance.look.look` decodes the file where nothing else can be reached, and knows no key.
:func:`judge` has the key and the ledger, and never opens the file. It holds what was found against each other:

- A mark shows that pixels carry a number, not that the rest of the picture is what we released: the sentence says so.
- Where manifest, mark and looks point to clips that have nothing to do with one another, **none is believed**.
- Of several clips in one file, the one that least may be shown is told of.
- `released` is never said without a record of the release in this ledger, nor `intact` without a signature of ours over
  these very bytes that names that record's own manifest.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from ledger.errors import MediaError
from ledger.log.sequencer import Ledger
from ledger.provenance import fingerprint, media, watermark
from ledger.provenance.fingerprint import Fingerprint, Likeness
from ledger.provenance.known_clips import Index
from ledger.provenance.look import Seen, look
from ledger.provenance.manifest import ManifestFinding
from ledger.provenance.sentences import SENTENCES, STANDS, STATES, State
from ledger.provenance.standing import ClipStanding, ConsentNow, clip_standing
from ledger.provenance.trust import Anchors, TrustedBy
from ledger.provenance.watermark.sound import SampledSound, find_in_sound
from ledger.store.transaction import Transaction
from ledger.workers import Workers

Via = Literal["embedded", "watermark", "fingerprint", "none"]
SCHEMA: Final = "countersign/verdict/v2"
LOOK_WITHIN_S: Final = 120.0
FIND_WITHIN_S: Final = 60.0
_FOUND_S: Final = 2
"""Seconds of a clip that have to be seen for it to be found by its looks alone; all of a shorter one."""
_WORST_FIRST: Final[tuple[ConsentNow, ...]] = (
    *("withdrawn", "erased", "unknown", "revoked", "expired", "standing", "nobody_shown"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence, its id, and the values in it."""

    about: str
    id: str
    sentence: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A number found in the pictures or the sound."""

    payload: str
    medium: Literal["picture", "sound"]
    confidence: float
    where: str = ""


@dataclass(frozen=True, slots=True)
class Alike:
    """For how many of the file's seconds it looks like a clip."""

    seconds: int
    of: int


@dataclass(frozen=True, slots=True)
class Found:
    """A released clip that something in the file points to. alike: None where looks were not compared, or say nothing."""

    standing: ClipStanding
    via: Via
    mark: Mark | None = None
    alike: Alike | Literal[False] | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict rests on. clips: what is surest first. claimed: the clip that a manifest of ours names, and
    what that was made from.
    """

    manifest: ManifestFinding
    clips: tuple[Found, ...] = ()
    unmatched: tuple[Mark, ...] = ()
    claimed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    sentence: str
    stands: bool
    manifest_trusted: bool
    asset_bound: bool
    recovered_via: Via
    released: bool
    released_at: str | None
    consent_then: bool
    consent_now: ConsentNow
    consent_changed_at: str | None
    taken_down_at: str | None
    video_id: str | None
    people: int | None
    checks: tuple[str, ...] | None
    signer: str | None
    signed_at: str | None
    manifest_state: str
    trusted_by: TrustedBy | None
    development: bool
    failures: tuple[str, ...]
    manifest: str | None
    """Where the manifest of the clip can be had, by its path here."""
    marks: tuple[Mark, ...]
    clips: tuple[str, ...]
    log: dict[str, Any] | None
    reasons: tuple[Said, ...]
    contradictions: tuple[Said, ...]

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Verifier:
    """Looks at a file and asks the ledger. Keeps nothing.

    `eyes` are closed workers, which open the file. `minds` are kept ones: they see what was sampled, and hold the key.
    """

    ledger: Ledger
    anchors: Callable[[], Anchors]
    watermark_key: bytes = field(repr=False)
    limits: media.Limits
    eyes: Workers
    minds: Workers
    index: Index = field(default_factory=Index, repr=False)

    def verify(self, path: Path, *, at: datetime) -> Verdict:
        """The verdict on a file. Raises MediaError for what is not a video we can decode, Unavailable for no answer."""
        seen = self.eyes.call(look, path.resolve(), self.limits, self.anchors(), timeout_s=LOOK_WITHIN_S)
        if seen.prints is not None:
            seen.prints.require_possible()
        marks = self.minds.call(
            found_marks, seen.picture, seen.sound, self.watermark_key, timeout_s=FIND_WITHIN_S
        )
        with self.ledger.reading() as tx:
            evidence = gathered(seen, marks, tx, self.index, at=at)
        return judge(evidence, self.ledger.origin)


# --- gathering -------------------------------------------------------------------------------------------------


def found_marks(
    picture: watermark.Sampled | watermark.NotDetected | None, heard: SampledSound | None, key: bytes
) -> tuple[Mark, ...]:
    """The marks of this key in what was sampled. Raises MediaError where the samples are not what samples are."""
    found: list[tuple[Literal["picture", "sound"], watermark.Detected | watermark.NotDetected]] = []
    try:
        if picture is not None:
            found.append(("picture", watermark.find(picture, key)))
        if heard is not None:
            found.append(("sound", find_in_sound(heard, key)))
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise MediaError(
            "media.crashed",
            "the program that reads videos breaks off at this file",
            "export the clip again with another program",
        ) from error
    return tuple(
        Mark(one.payload.hex(), medium, round(one.confidence, 3), one.where)
        for medium, one in found
        if isinstance(one, watermark.Detected)
    )


def gathered(seen: Seen, marks: tuple[Mark, ...], tx: Transaction, index: Index, *, at: datetime) -> Evidence:
    """What manifest, marks and looks point to in the ledger."""
    found = seen.manifest
    if found.trusted_by == "ours" and found.asset_bound:
        # Such a signature fixes every pixel already, mark included. Whoever else we trust can write any clip's number
        # and its manifest's id over any picture: both are public.
        standing = _clip_by_payload(tx, found.soft_binding, at)
        named = (Found(standing, "embedded"),) if standing else ()
        return Evidence(found, named, claimed=_claimed(tx, found, at))
    claimed = _claimed(tx, found, at)
    clips: list[Found] = []
    unmatched: list[Mark] = []
    explained = set[int]()
    alone = not any(mark.medium == "picture" for mark in marks)
    for mark in marks:
        standing = _clip_by_payload(tx, mark.payload, at)
        if standing is None:
            unmatched.append(mark)
        else:
            likeness = _likeness(seen, mark, tx, standing, alone=alone)
            explained |= _shown(likeness) if likeness else set()
            clips.append(Found(standing, "watermark", mark, _alike(likeness)))
    clips += _looking_alike(seen, tx, index, explained, at)
    return Evidence(found, tuple(clips), tuple(unmatched), claimed)


def _likeness(
    seen: Seen, mark: Mark, tx: Transaction, clip: ClipStanding, *, alone: bool
) -> Likeness | Literal[False] | None:
    """How much of the clip that its mark names the file shows. False: it shows something else. That can be said only of a
    mark in its place, and of one in the sound where none is in the pictures (`alone`): a track of sound is laid under
    others by anybody.
    """
    kept = tx.fingerprint(clip.video_id)
    heard = mark.medium == "sound"
    if seen.prints is None or kept is None or (heard and not alone):
        return None
    held = Fingerprint.from_bytes(kept)
    agrees = fingerprint.agrees(seen.prints, held, moved=not (heard or mark.where.startswith("in place")))
    return fingerprint.like(seen.prints, held) if agrees else False if agrees is False else None


def _alike(likeness: Likeness | Literal[False] | None) -> Alike | Literal[False] | None:
    return Alike(len(likeness.seconds), likeness.of) if likeness else False if likeness is False else None


def _shown(likeness: Likeness) -> set[int]:
    """The seconds of the file in which the clip is seen."""
    return {round(second + likeness.offset_s) for second in likeness.seconds}


def _looking_alike(
    seen: Seen, tx: Transaction, index: Index, explained: set[int], at: datetime
) -> Iterator[Found]:
    """The clips that the file looks like, where no mark says whose its pictures are (`explained`, in seconds).

    A model that is asked for the same twice makes twins: which of them a file shows, its mark says and its looks do not.
    """
    if seen.prints is None:
        return
    for match in index.matches(tx, seen.prints):
        likeness = match.likeness
        if _shown(likeness) <= explained or len(likeness.seconds) < min(_FOUND_S, likeness.of):
            continue
        standing = clip_standing(tx, match.video_id, at=at)
        if standing is not None:
            yield Found(standing, "fingerprint", alike=Alike(len(likeness.seconds), likeness.of))


def _claimed(tx: Transaction, found: ManifestFinding, at: datetime) -> tuple[str, ...]:
    video_id = (found.consent or {}).get("video_id") if found.trusted_by == "ours" else None
    if not isinstance(video_id, str):
        return ()
    standing = clip_standing(tx, video_id, at=at)
    return (video_id,) if standing is None else tuple(dict.fromkeys((video_id, *standing.line)))


def _clip_by_payload(tx: Transaction, payload: object, at: datetime) -> ClipStanding | None:
    if not isinstance(payload, str) or not re.fullmatch(r"[0-9a-f]{16}", payload):
        return None  # a manifest may name anything as its mark
    video_id = tx.video_by_payload(bytes.fromhex(payload))
    return clip_standing(tx, video_id, at=at) if video_id else None


# --- judging ---------------------------------------------------------------------------------------------------


def judge(evidence: Evidence, origin: str) -> Verdict:
    """The verdict that this evidence bears, and no more. Pure."""
    found = evidence.manifest
    contradictions = tuple(_contradictions(evidence))
    told = None if contradictions else _worst(evidence.clips)
    clip = told.standing if told else None
    state = _state(evidence, told, contradictory=bool(contradictions))
    marks = [one.mark for one in evidence.clips if one.mark] + list(evidence.unmatched)
    return Verdict(
        state=state,
        sentence=STATES[state],
        stands=state in STANDS,
        manifest_trusted=found.manifest_trusted,
        asset_bound=found.asset_bound,
        recovered_via=told.via if told else "none",
        released=clip is not None,
        released_at=clip.released_at if clip else None,
        consent_then=clip is not None and clip.consent_then,
        consent_now=clip.consent_now if clip else "unknown",
        consent_changed_at=clip.consent_changed_at if clip else None,
        taken_down_at=clip.taken_down_at if clip else None,
        video_id=clip.video_id if clip else None,
        people=clip.people if clip else None,
        checks=clip.checks if clip else None,
        signer=found.signer,
        signed_at=_iso(found.signed_at),
        manifest_state=found.state,
        trusted_by=found.trusted_by,
        development=found.development,
        failures=found.failures,
        manifest=f"/v1/manifests/{clip.manifest_id}" if clip and clip.manifest_id else None,
        marks=tuple(marks),
        clips=tuple(dict.fromkeys(one.standing.video_id for one in evidence.clips)),
        log=None
        if clip is None
        else {"origin": origin, "decision": clip.decision_index, "release": clip.release_index},
        reasons=tuple(_reasons(evidence, told)),
        contradictions=contradictions,
    )


def _state(evidence: Evidence, told: Found | None, *, contradictory: bool) -> State:  # noqa: PLR0911 — one for each
    found = evidence.manifest
    if contradictory:
        return "contradiction"
    if told is not None:
        clip = told.standing
        if clip.taken_down_at is not None:
            return "taken_down"
        if clip.consent_now in {"withdrawn", "erased"}:
            return "consent_withdrawn"
        if clip.consent_now == "unknown" or not clip.consent_then:
            return "consent_unknown"
        if told.via == "embedded":
            return "intact"
        return "altered" if found.manifest_trusted and not found.asset_bound else "recovered"
    if found.manifest_trusted and not found.asset_bound:
        return "altered"
    if evidence.unmatched:
        return "mark_without_match"
    by_state: dict[str, State] = {
        "trusted": "trusted_elsewhere",
        "valid": "unknown_signer",
        "none": "no_evidence",
    }
    return by_state.get(found.state, "broken_manifest")


def _worst(clips: tuple[Found, ...]) -> Found | None:
    """Of several, the one that least may be shown."""
    return min(
        clips,
        key=lambda one: (
            one.standing.taken_down_at is None,
            _WORST_FIRST.index(one.standing.consent_now),
        ),
        default=None,
    )


def _contradictions(evidence: Evidence) -> Iterator[Said]:
    found = evidence.manifest
    for clip in evidence.clips:
        standing = clip.standing
        # What was made from a clip may carry that clip's mark as well.
        related = {standing.video_id} & {*evidence.claimed} or {*evidence.claimed[:1]} & {*standing.line}
        # Someone who can sign as we do could write a released clip's number into other footage: the number is public.
        if clip.via == "embedded" and (
            found.manifest_id != standing.manifest_id
            or evidence.claimed[:1] not in ((), (standing.video_id,))
        ):
            yield _said("contradictions", "contradiction.footage")
        elif evidence.claimed and not related:
            yield _said("contradictions", "contradiction.clips")
        if clip.mark is not None and clip.alike is False:
            yield _said("contradictions", "contradiction.looks")


def _reasons(evidence: Evidence, told: Found | None) -> Iterator[Said]:
    found = evidence.manifest
    yield from _of_the_manifest(found)
    if found.asset_bound:
        yield _said("asset_bound", "bytes.bound")
    else:
        yield _said("asset_bound", "bytes.other" if found.manifest_trusted else "bytes.unsigned")
    yield _said("recovered_via", f"via.{told.via if told else 'none'}")
    if told is not None:
        yield from _of_the_find(told)
    if told is not None and (count := len({one.standing.video_id for one in evidence.clips})) > 1:
        yield _said("recovered_via", "clips.several", count=str(count))
    if evidence.unmatched:
        yield _said("recovered_via", "mark.unmatched")
    if told is not None:
        yield from _of_the_clip(told.standing)


def _of_the_manifest(found: ManifestFinding) -> Iterator[Said]:
    if not found.manifest_trusted:
        kind = {"none": "none", "valid": "unknown"}.get(found.state, "broken")
        kind = "revoked" if found.revoked is not None else kind
        yield _said("manifest_trusted", f"manifest.{kind}")
        return
    signer = found.signer or "somebody without a name"
    if found.signed_at is None:
        yield _said("manifest_trusted", "manifest.undated", signer=signer)
    else:
        yield _said("manifest_trusted", "manifest.trusted", signer=signer, at=_iso(found.signed_at) or "")
    if found.development:
        yield _said("manifest_trusted", "manifest.development")
    if any(not code.startswith("assertion.bmffHash.") for code in found.failures):
        yield _said("manifest_trusted", "manifest.ingredients")


def _of_the_find(told: Found) -> Iterator[Said]:
    if told.mark is not None:
        where = f" ({told.mark.where})" if told.mark.where else ""
        yield _said("recovered_via", f"mark.{told.mark.medium}", where=where)
    if told.alike:
        alike = {"seconds": str(told.alike.seconds), "of": str(told.alike.of)}
        yield _said(
            "recovered_via", "looks.same" if told.mark else "looks.alike", **({} if told.mark else alike)
        )


def _of_the_clip(clip: ClipStanding) -> Iterator[Said]:
    yield _said("released", "ledger.released", at=clip.released_at or "")
    if clip.checks is None:
        yield _said("released", "ledger.unchecked")
    elif clip.checks:
        yield _said("released", "ledger.checks", checks=", ".join(clip.checks))
    if clip.people:
        yield _said("consent_then", "then.agreed" if clip.consent_then else "then.unknown")
    at = {"at": clip.consent_changed_at} if clip.consent_changed_at else {}
    yield _said("consent_now", f"now.{clip.consent_now}", **at)
    if clip.taken_down_at is not None:
        yield _said("taken_down_at", "down.taken", at=clip.taken_down_at)


def _said(about: str, sentence_id: str, **values: str) -> Said:
    text = SENTENCES[sentence_id]
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", in_words(value) if name == "at" else value)
    return Said(about, sentence_id, text.replace("{at}", "a date not known"), values)


def in_words(moment: str) -> str:
    """`2026-03-01T12:00:00Z` as a person writes it."""
    try:
        return f"{datetime.fromisoformat(moment):%-d %B %Y, %H:%M} UTC"
    except ValueError:
        return "a date not known"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
