"""The gate: every question about a real person's likeness is asked here, and nowhere else.

`decide` gathers the facts (prompt scores, faces in the reference picture, standing consent folded at this
moment of the log), asks the policies, and records the answer *before* any model is called, in the same
transaction that reserves one use of each grant. `clear` looks at what the model made. `may_release` and
`may_download` fold consent again at their own moment: a revocation that came in between wins.

Every answer is a value: a token, or a :class:`Denied` with at least one reason. What cannot be checked is
denied: a missing classifier, an unreadable policy, an unreachable ledger.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import sha256
from ledger.consent.fold import GrantStanding, Standing
from ledger.consent.grant import Audience, Grant, Modality, Purpose
from ledger.ids import AppId, CameoId, PersonId, VideoId
from ledger.log.sequencer import Ledger
from ledger.provenance import media
from ledger.reasons import Reason
from ledger.store.journal import About
from ledger.store.records import Depicted, Video
from ledger.store.transaction import Transaction
from safety import faces
from safety.chain import Allowed, Cleared, Permit, RawClip, Sealer, Use, cleared
from safety.engine import (
    CameoFacts,
    ClipFacts,
    Engine,
    GrantFacts,
    OutputFacts,
    RequesterFacts,
    RequestFacts,
    Ruling,
)
from safety.errors import InvalidInput
from safety.likeness import likeness_of
from safety.prompt import CATEGORIES, Screening, screen

PERMIT_LIFE = timedelta(hours=24)
FRAMES_EVERY_S = 0.4
CHECKS = ("faces", "prompt")
"""What `clear` looks at. Frames are not yet classified for nudity or violence: every release entry says so."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What an app asks for. `size`: "1280x720". `reference`: uint8 [h, w, 3] RGB, a picture to start from."""

    video_id: VideoId
    app_id: AppId
    model: str
    prompt: str
    seconds: int
    size: str
    purpose: Purpose
    audience: Audience
    modalities: frozenset[Modality]
    cameo_ids: tuple[CameoId, ...]
    reference: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal. `kind` tells an app whether to change the words (content) or to ask the person (consent)."""

    reasons: tuple[Reason, ...]
    kind: Literal["content", "consent", "output"]

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("a refusal carries at least one reason")


@dataclass(frozen=True, slots=True)
class _Consent:
    """The answer for one person asked about: under which grant, or why not."""

    cameo_id: CameoId
    owner: PersonId | None
    grant_id: str | None
    ruling: Ruling


class Gate:
    """Thread-safe. One per service."""

    def __init__(self, ledger: Ledger, engine: Engine, sealer: Sealer) -> None:
        self.ledger = ledger
        self.engine = engine
        self.sealer = sealer

    # -- before the model -------------------------------------------------------------------------------

    def decide(self, request: GenerationRequest, *, at: datetime) -> Allowed | Denied:
        """The decision, recorded. Allowed also opens the job and reserves one use of each grant.

        Raises InvalidInput for a prompt nothing can read (empty, too long): then nothing is written.
        """
        screening = _screened(request.prompt)
        facts = _request_facts(request, screening, self._strangers(request, at))
        screened_by = screening.version if screening else "unavailable"
        return self.ledger.transact(lambda tx: self._decide_in(tx, request, facts, screened_by, at))

    def _decide_in(
        self, tx: Transaction, request: GenerationRequest, facts: RequestFacts, screened_by: str, at: datetime
    ) -> Allowed | Denied:
        at = tx.dated(at)
        requester = _requester(tx, request.app_id)
        general = self.engine.generate(requester, facts)
        answers = [self._consent(tx, requester, facts, cameo_id, at) for cameo_id in request.cameo_ids]
        # INVARIANT: everyone named must agree; one refusal refuses the clip.
        refusals = [
            ruling for ruling in (general, *(answer.ruling for answer in answers)) if not ruling.allowed
        ]
        record: dict[str, object] = {
            "video_id": request.video_id,
            "allowed": not refusals,
            "action": facts.action,
            "purpose": request.purpose,
            "modalities": sorted(request.modalities),
            "audience": request.audience,
            "contexts": sorted(facts.contexts),
            "prompt": request.prompt,
            "app_id": request.app_id,
            "policy_set": self.engine.policy_set_hash,
            "screening": screened_by,
            "scores": dict(facts.scores),
        }
        about = _about(record, request.app_id, general, answers)
        index = tx.append("decision", request.video_id, about, at=at)
        if refusals:
            return Denied(_unique(reason for ruling in refusals for reason in ruling.reasons), _kind(general))
        permit = Permit(
            video_id=request.video_id,
            app_id=request.app_id,
            decision_index=index,
            model=request.model,
            prompt_sha256=sha256(request.prompt.encode()).hex(),
            purpose=request.purpose,
            audience=request.audience,
            modalities=tuple(sorted(request.modalities)),
            contexts=tuple(sorted(facts.contexts)),
            size=request.size,
            seconds=request.seconds,
            uses=tuple(
                Use(person_id=answer.owner or "", cameo_id=answer.cameo_id, grant_id=answer.grant_id or "")
                for answer in answers
            ),
            scores=dict(facts.scores),
            policy_set=self.engine.policy_set_hash,
            issued=at.replace(microsecond=0),
            expires=(at + PERMIT_LIFE).replace(microsecond=0),
        )
        sealed = self.sealer.grant(permit)
        _open_job(tx, request, sealed, permit.uses, at)
        return self.sealer.open(sealed, Allowed, at=at)

    def _consent(
        self, tx: Transaction, requester: RequesterFacts, facts: RequestFacts, cameo_id: CameoId, at: datetime
    ) -> _Consent:
        """The first of the person's grants that allows this, or the refusal that came closest to allowing it."""
        owner = tx.owner(cameo_id)
        standing = tx.standing(owner) if owner is not None else Standing()
        if standing.erased:
            owner = None  # nobody is left to tell

        def ask(held: GrantStanding | None) -> Ruling:
            about = _cameo_facts(standing, cameo_id, held, requester.app_id, facts.job_id, at)
            return self.engine.use_likeness(requester, about, facts)

        refused: list[Ruling] = []
        for held in standing.grants.values():
            if held.grant.cameo_id == cameo_id and _is_for(held.grant, requester.app_id):
                ruling = ask(held)
                if ruling.allowed:
                    return _Consent(cameo_id, owner, held.grant.grant_id, ruling)
                refused.append(ruling)
        closest = min(refused, key=lambda ruling: len(ruling.reasons)) if refused else ask(None)
        return _Consent(cameo_id, owner, None, closest)

    def _strangers(self, request: GenerationRequest, at: datetime) -> int | None:
        """Recognisable faces in the reference picture that belong to nobody named. None: could not look.

        Only people whose live grant the app holds are compared with: otherwise an app could find out whose face
        a picture shows by naming them.
        """
        if request.reference is None:
            return 0
        try:
            known = self._templates(self._granting(request, at))
            found = faces.find_faces(request.reference)
            return sum(
                1 for face in found if face.recognisable and faces.match(face, tuple(known.values())) is None
            )
        except Exception:  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
            _log.exception("the reference picture could not be looked at")
            return None

    def _granting(self, request: GenerationRequest, at: datetime) -> list[CameoId]:
        with self.ledger.reading() as tx:
            owners = [(cameo_id, tx.owner(cameo_id)) for cameo_id in request.cameo_ids]
            return [
                cameo_id
                for cameo_id, owner in owners
                if owner is not None
                and any(
                    held.live(at) and _is_for(held.grant, request.app_id)
                    for held in tx.standing(owner).grants.values()
                )
            ]

    def _templates(self, cameo_ids: Iterable[CameoId]) -> dict[CameoId, faces.Likeness]:
        with self.ledger.reading() as tx:
            return {
                cameo_id: likeness_of(tx, cameo_id).templates for cameo_id in cameo_ids if tx.owner(cameo_id)
            }

    # -- after the model --------------------------------------------------------------------------------

    def clear(self, raw: RawClip) -> Cleared | Denied:
        """Look at the frames: only people who agreed, nothing the policies forbid."""
        facts = self._look(raw)
        ruling = self.engine.clear(_permit_facts(raw.permit), facts)
        return cleared(raw, checks=CHECKS) if ruling.allowed else Denied(ruling.reasons, "output")

    def _look(self, raw: RawClip) -> OutputFacts:
        ungranted, seen, looked = 0, 0, True
        try:
            granted = self._templates(use.ids[1] for use in raw.permit.uses)
            check = faces.check_output(media.frames(raw.path, every_s=FRAMES_EVERY_S), granted)
            ungranted = len(check.ungranted)
            seen = sum(1 for count in check.granted_seen.values() if count)
        except Exception:  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
            _log.exception("the clip could not be looked at")
            looked = False
        return OutputFacts(
            unreadable=not looked,
            faces_checked=looked,
            classifiers_ok=looked,
            granted_faces_seen=seen,
            ungranted_faces=ungranted,
            # Every recognisable face is a granted adult's or already counted above; nobody's age is guessed.
            apparent_minors=0,
            do_not_generate_matches=0,
            scores=dict(raw.permit.scores),
        )

    # -- consent, folded again --------------------------------------------------------------------------

    def may_release(self, tx: Transaction, permit: Permit, *, at: datetime) -> Denied | None:
        """None when the request may still be made, and everyone shown still agrees, at this place in the log."""
        at = tx.dated(at)
        requester = _requester(tx, AppId(permit.app_id))
        facts = _permit_facts(permit)
        # What the permit says must be what the ledger recorded: its signature alone releases nothing.
        decision = tx.find("decision", permit.video_id)
        recorded = {(use.person_id, use.cameo_id, use.grant_id) for use in tx.uses(permit.video)}
        if (
            decision is None
            or decision.index != permit.decision_index
            or recorded != {use.ids for use in permit.uses}
        ):
            return Denied((_UNRECORDED,), "consent")
        # Asked again too: a clip that shows nobody must not slip past a suspension or a broken policy set.
        refusals = list(self.engine.generate(requester, facts).reasons)
        for use in permit.uses:
            person_id, cameo_id, grant_id = use.ids
            standing = tx.standing(person_id)
            held = standing.grants.get(grant_id)
            about = _cameo_facts(standing, cameo_id, held, requester.app_id, permit.video, at)
            refusals += self.engine.release(requester, about, facts).reasons
        return Denied(_unique(refusals), "consent") if refusals else None

    def may_download(self, tx: Transaction, video: Video, viewer: AppId, *, at: datetime) -> Denied | None:
        """None unless the clip is not out, not for this viewer, or withdrawn by someone it shows."""
        uses = tx.uses(video.id)
        if _requester(tx, viewer).suspended:
            return Denied((_SUSPENDED,), "consent")
        clip = ClipFacts(
            clip_id=video.id,
            depicted=len(uses),
            released=video.object_key is not None,
            quarantined=False,
            taken_down=False,
            viewer_is_requester=video.app_id == viewer,
            ledger_ok=True,
        )
        rulings = [] if uses else [self.engine.download(None, clip)]
        for use in uses:
            standing = tx.standing(use.person_id)
            held = standing.grants.get(use.grant_id)
            about = _cameo_facts(standing, use.cameo_id, held, video.app_id, video.id, at)
            rulings.append(self.engine.download(about, clip))
        reasons = _unique(reason for ruling in rulings for reason in ruling.reasons)
        return Denied(reasons, "consent") if reasons else None


# Facts ------------------------------------------------------------------------------------------------


def _requester(tx: Transaction, app_id: AppId) -> RequesterFacts:
    app = tx.app(app_id)
    return RequesterFacts(app_id=app_id, suspended=app is None or app.suspended)


def _screened(prompt: str) -> Screening | None:
    """What the prompt reads as; None when the screen itself does not work, which denies."""
    try:
        return screen(prompt)
    except InvalidInput:
        raise
    except Exception:  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
        _log.exception("the prompt could not be screened")
        return None


def _request_facts(
    request: GenerationRequest, screening: Screening | None, strangers: int | None
) -> RequestFacts:
    return RequestFacts(
        job_id=request.video_id,
        action="generate",
        purpose=request.purpose,
        audience=request.audience,
        modalities=request.modalities,
        contexts=screening.contexts if screening else frozenset(),
        scores=dict(screening.scores) if screening else dict.fromkeys(CATEGORIES, 0),
        classifiers_ok=screening is not None and strangers is not None,
        depicted=len(request.cameo_ids),
        unknown_faces=strangers or 0,
        ledger_ok=True,
    )


def _permit_facts(permit: Permit) -> RequestFacts:
    """The facts the permit was decided on, for the questions that come after."""
    return RequestFacts(
        job_id=permit.video,
        action="generate",
        purpose=permit.purpose,
        audience=permit.audience,
        modalities=frozenset(permit.modalities),
        contexts=frozenset(permit.contexts),
        scores=dict(permit.scores),
        classifiers_ok=True,
        depicted=len(permit.uses),
        unknown_faces=0,
        ledger_ok=True,
    )


def _cameo_facts(
    standing: Standing,
    cameo_id: CameoId,
    held: GrantStanding | None,
    app_id: AppId,
    video_id: VideoId,
    at: datetime,
) -> CameoFacts:
    return CameoFacts(
        cameo_id=cameo_id,
        active=standing.active and standing.cameo_id == cameo_id,
        erased=standing.erased,
        minor=standing.minor(at),
        guardian_consent=False,
        blocks_requester=False,
        grant=None if held is None else _grant_facts(held, standing, app_id, video_id, at),
    )


def _grant_facts(
    held: GrantStanding, standing: Standing, app_id: AppId, video_id: VideoId, at: datetime
) -> GrantFacts:
    grant = held.grant
    return GrantFacts(
        grant_id=grant.id,
        for_requester=_is_for(grant, app_id),
        offered_to_everyone=grant.grantee.type == "everyone",
        started=grant.starts <= at,
        expired=grant.expires <= at,
        revoked=held.revoked_index is not None,
        withdrawn=held.withdrawn,
        modalities=frozenset(grant.modalities),
        purposes=frozenset(grant.purposes),
        actions=frozenset(grant.actions),
        allowed_contexts=frozenset(grant.allowed_contexts),
        forbidden_contexts=frozenset(grant.forbidden_contexts),
        audience=grant.audience,
        uses_left=held.uses_left,
        approval=grant.approval,
        approved=standing.approvals.get(video_id, False),
    )


def _is_for(grant: Grant, app_id: AppId) -> bool:
    """Groups and persons are not resolved yet: such a grant is nobody's, which denies."""
    return grant.grantee.type == "everyone" or (grant.grantee.type == "app" and grant.grantee.id == app_id)


# The record -------------------------------------------------------------------------------------------


_UNRECORDED = Reason(
    "release.unrecorded", "the ledger has no decision that allows this clip", "ask for the video again"
)
_SUSPENDED = Reason("standing.suspended", "this app is suspended", "ask the operator of this service")
_SOMEONE_ELSE = Reason(
    "decision.someone_else",
    "someone else whom the request names has not agreed",
    "there is nothing for you to do",
)


def _about(
    record: Mapping[str, object], app_id: AppId, general: Ruling, answers: Sequence[_Consent]
) -> list[About]:
    """The requester sees what they were told; each person depicted sees their own part and nobody else's."""
    allowed = bool(record["allowed"])

    def body(rulings: Sequence[Ruling], grants: Sequence[str | None], *, told: bool) -> dict[str, object]:
        refusing = [ruling for ruling in rulings if not ruling.allowed]
        reasons = _unique(reason for ruling in refusing for reason in ruling.reasons)
        if not allowed and not reasons:
            reasons = (_SOMEONE_ELSE,)
        # A policy id can tell about a person what its reason was withheld for.
        ids = {reason.id for reason in reasons} if told else {p for r in refusing for p in r.policy_ids}
        return {
            **record,
            "policy_ids": sorted(general.policy_ids if allowed else ids),
            "reasons": [reason.as_json() for reason in reasons],
            "grant_ids": [grant for grant in grants if grant is not None] if allowed else [],
        }

    everyone = [general, *(answer.ruling for answer in answers)]
    about = [About(app_id, "requester", body(everyone, [answer.grant_id for answer in answers], told=True))]
    return about + [
        About(
            answer.owner,
            "depicted",
            {**body([general, answer.ruling], [answer.grant_id], told=False), "cameo_id": answer.cameo_id},
        )
        for answer in answers
        if answer.owner is not None
    ]


def _open_job(
    tx: Transaction, request: GenerationRequest, sealed: str, uses: Sequence[Use], at: datetime
) -> None:
    video = Video(
        id=request.video_id,
        app_id=request.app_id,
        model=request.model,
        prompt=request.prompt,
        size=request.size,
        seconds=request.seconds,
        created_at=int(at.timestamp()),
    )
    tx.open_job(video, sealed, [Depicted(*use.ids) for use in uses])


def _kind(general: Ruling) -> Literal["content", "consent"]:
    content = {policy for policy in general.policy_ids if policy.startswith("prohibited.")}
    return "content" if content - {"prohibited.unknown_face"} else "consent"


def _unique(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    return tuple(dict.fromkeys(reasons))
