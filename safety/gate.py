"""The gate: every question about a real person's likeness is asked here, and nowhere else.

`decide` gathers the facts (prompt scores, faces in the reference picture, standing consent folded at this
moment of the log), asks the policies in force at that moment, and records the answer *before* any model is called,
in the same transaction that reserves one use of each grant. `precheck` gives the same answer and records nothing.
`clear` looks at what the model made. What is asked after that is :mod:`safety.afterwards`, and is asked here as well.

Every answer is a value: a token, or a :class:`Denied` with at least one reason. What cannot be checked is
denied: a missing classifier, an unreadable policy, an unreachable ledger.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ledger.canonical import sha256
from ledger.consent.fold import Standing
from ledger.consent.grant import Action, Audience, Context, Grant, Modality, Purpose
from ledger.consent.held import case_of
from ledger.consent.sighting import Outcome, Where, tell_seen
from ledger.ids import AppId, CameoId, PersonId, VideoId
from ledger.log.sequencer import Ledger
from ledger.provenance.fingerprint import Fingerprint
from ledger.provenance.known_clips import Index
from ledger.provenance.profiles import UNMARKED, Marking
from ledger.reasons import Reason
from ledger.store.journal import About
from ledger.store.records import Depicted, Video
from ledger.store.transaction import Transaction
from safety import copies, faces, known_bad, preferences, sent
from safety.afterwards import (
    DRAFT_LIFE,
    NO_PARENT,
    Afterwards,
    Denied,
    Sets,
    permit_facts,
    requester_facts,
)
from safety.chain import (
    Allowed,
    Cleared,
    Parent,
    Permit,
    RawClip,
    Sealer,
    Stamped,
    Use,
    cleared,
    cleared_again,
)
from safety.clearing import Expected, Looked, look
from safety.decision import (
    Asked,
    Decision,
    Named,
    Pictured,
    decide,
    grantees_of,
)
from safety.errors import InvalidInput
from safety.gallery import Gallery
from safety.known_bad import Lists
from safety.likeness import EnrolledVoices, likeness_of
from safety.models import Folder
from safety.pdq import Hashed
from safety.policy.engine import Ruling
from safety.policy.facts import (
    JobFacts,
    OutputFacts,
    RequestFacts,
    TrafficFacts,
    all_scored,
    filled_scores,
)
from safety.prompt import CATEGORIES, Screening, screen
from safety.prompt.people import figures as people_named
from safety.register import Register
from safety.sent import Sent

__all__ = ["DRAFT_LIFE", "MOST_PEOPLE", "Denied", "Gate", "GenerationRequest", "Sets", "WouldAllow"]

PERMIT_LIFE = timedelta(hours=24)
MINUTE_S, DAY_S = 60, 86_400
MOST_PEOPLE = 4
"""In one clip."""
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
    person: PersonId | None = None
    """Whom the app asks for, where it has shown that it may speak for them."""
    countries: tuple[str, ...] = ("*",)
    """Where the clip will be shown: ISO 3166-1 codes, or `*` for everywhere."""
    action: Action = "generate"
    marking: Marking = UNMARKED
    """How the app and the operator want it marked. What its parent is marked with comes on top."""
    parent: VideoId | None = None
    """The clip to make it from. Everyone that shows is named by it, whether or not `cameo_ids` names them too."""


@dataclass(frozen=True, slots=True)
class WouldAllow:
    """What a precheck answers where `decide` would allow: no permit, and nothing reserved."""


class Gate(Afterwards):
    """Thread-safe. One per service."""

    def __init__(self, ledger: Ledger, sets: Sets, sealer: Sealer, models: Folder | None = None) -> None:
        super().__init__(sets)
        self.models = models
        self.ledger = ledger
        self.sealer = sealer
        self.register = Register()
        self.voices = EnrolledVoices()
        self.gallery = Gallery()
        self.lists = Lists()
        self.clips = Index()

    # -- before the model -------------------------------------------------------------------------------

    def decide(self, request: GenerationRequest, *, at: datetime) -> Allowed | Denied:
        """The decision, recorded. Allowed also opens the job and reserves one use of each grant.

        An app that asks too often is turned away unheard: then nothing is read, weighed or written.
        Raises InvalidInput for a prompt nothing can read (empty, too long): then nothing is written.
        """
        busy = self._turned_away("ask", request.app_id, at)
        if busy is not None:
            return busy
        request = self._naming_all(request)
        asked = self._gathered(request, at)
        return self.ledger.transact(lambda tx: self._decide_in(tx, request, asked, at))

    def _decide_in(
        self, tx: Transaction, request: GenerationRequest, gathered: "_Gathered", at: datetime
    ) -> Allowed | Denied:
        for window_s in (MINUTE_S, DAY_S):
            # By the clock it is looked up with, which the log's own time may be ahead of.
            tx.count(_window("ask", request.app_id, window_s, at), at=at, life_s=window_s)
        # The time the entry will bear, to the second it is written with: whoever decides again has no other.
        at = tx.dated(at).replace(microsecond=0)
        parent = self._parent(tx, request, at)
        if isinstance(parent, Denied):
            # As when somebody asks for the clip itself: who may not have it makes nothing of it.
            return parent
        request = replace(request, marking=request.marking.beside(*_marked_above(tx, request.parent)))
        asked = _asked(tx, request, gathered)
        people = _people(tx, asked.named)
        decision = decide(self.sets.engine(tx, request.app_id), asked, people, at=at)
        index = tx.append(
            "decision",
            request.video_id,
            [About(*part) for part in decision.parts(self.ledger.keyring.facts_key)],
            at=at,
        )
        self.sets.watch(tx, decision, people, at=at)
        if gathered.sent is not None:
            tell_seen(
                tx,
                gathered.sent.enrolled,
                video_id=request.video_id,
                app_id=request.app_id,
                where="pictures",
                outcome="used" if decision.allowed else "refused",
                asked={
                    "action": request.action,
                    "purpose": request.purpose,
                    "audience": request.audience,
                },
                at=at,
            )
        if not decision.allowed:
            return Denied(decision.reasons(), decision.kind)
        facts = asked.request
        permit = Permit(
            video_id=request.video_id,
            app_id=request.app_id,
            decision_index=index,
            model=request.model,
            prompt_sha256=sha256(request.prompt.encode()).hex(),
            purpose=request.purpose,
            audience=request.audience,
            person=request.person,
            countries=request.countries,
            action=request.action,
            parent=parent,
            marking=request.marking,
            modalities=tuple(sorted(request.modalities)),
            contexts=tuple(sorted(facts.contexts)),
            size=request.size,
            seconds=request.seconds,
            uses=tuple(
                Use(
                    person_id=consent.person.owner or "",
                    cameo_id=consent.person.cameo_id,
                    grant_id=consent.grant_id or "",
                )
                for consent in decision.consents
            ),
            scores=dict(facts.scores),
            policy_set=decision.general.policy_set_hash,
            issued=at,
            expires=at + PERMIT_LIFE + (DRAFT_LIFE if _asks_for_approval(decision) else timedelta()),
        )
        sealed = self.sealer.grant(permit)
        _open_job(tx, request, sealed, permit.uses, at)
        return self.sealer.open(sealed, Allowed, at=at)

    def decide_anew(self, tx: Transaction, video: Video, permit: Permit, *, at: datetime) -> Denied | None:
        """Decide once more on a request whose clip was refused by a reviewer, and is let pass on appeal.

        Its uses were given back, so each is asked for again, at this place in the log; the words are screened anew.
        None when it is allowed, under the very grants that the clip was made under.
        """
        at = tx.dated(at).replace(microsecond=0)
        request = _asked_before(video, permit)
        parent = self._parent(tx, request, at)
        if isinstance(parent, Denied):
            return parent
        # The pictures sent are not kept. What they showed stands in the permit, with what the words said.
        seen = Sent(pictured=Pictured(filled_scores(permit.scores), frozenset(permit.contexts)))
        asked = _asked(tx, request, _Gathered(_screened(video.prompt), seen, request.cameo_ids))
        decision = decide(self.sets.engine(tx, request.app_id), asked, _people(tx, asked.named), at=at)
        about = [About(*part) for part in decision.parts(self.ledger.keyring.facts_key)]
        same = {use.grant_id for use in permit.uses} == {one.grant_id for one in decision.consents}
        if decision.allowed and not same:
            return Denied((_CHANGED,), "consent")
        tx.append("decision", f"{video.id}/again", about, at=at)
        return None if decision.allowed else Denied(decision.reasons(), decision.kind)

    def precheck(self, request: GenerationRequest, *, at: datetime) -> WouldAllow | Denied:
        """What :meth:`decide` would answer now, names of people enrolled here apart. Nothing is recorded but that the app asked once more.

        An app learns no more here than from asking: about a likeness it holds no grant for, the answer is the
        same whether that likeness exists, is in use, or has blocked it. Nor can it try people out by the hundred.
        Raises InvalidInput as `decide` does.
        """
        busy = self._turned_away("precheck", request.app_id, at)
        if busy is not None:
            return busy
        window = _window("precheck", request.app_id, MINUTE_S, at)
        self.ledger.transact(lambda tx: tx.count(window, at=at, life_s=MINUTE_S))
        request = self._naming_all(request)
        gathered = self._gathered(request, at)
        with self.ledger.reading() as tx:
            at = tx.dated(at).replace(microsecond=0)
            parent = self._parent(tx, request, at)
            if isinstance(parent, Denied):
                return parent
            # Whose names are known here is only looked at where it leaves a record: else names could be tried for free.
            asked = _asked(tx, request, gathered, enrolled=False)
            people = _people(tx, asked.named)
            decision = decide(self.sets.engine(tx, request.app_id), asked, people, at=at)
        return WouldAllow() if decision.allowed else Denied(decision.reasons(), decision.kind)

    def _naming_all(self, request: GenerationRequest) -> GenerationRequest:
        """The request, naming everyone in the clip it starts from as well. Whom a clip shows never changes."""
        if request.parent is None:
            return request
        with self.ledger.reading() as tx:
            above = [use.cameo_id for use in tx.uses(request.parent)]
        return replace(request, cameo_ids=tuple(dict.fromkeys((*above, *request.cameo_ids))))

    def _parent(self, tx: Transaction, request: GenerationRequest, at: datetime) -> Parent | Denied | None:
        """The clip to start from, if the app may have it now: its own, or one made for everyone to see."""
        if request.parent is None:
            return None
        parent = tx.video(request.parent)
        if parent is None or (parent.app_id != request.app_id and _audience(tx, parent) != "everyone"):
            return Denied((NO_PARENT,), "consent")
        if len(request.cameo_ids) > MOST_PEOPLE:
            raise InvalidInput(
                "request.characters",
                f"at most `{MOST_PEOPLE}` people fit in a clip, with those in the one it starts from",
                "name fewer",
            )
        denied = self.may_download(tx, parent, request.app_id, at=at)
        return denied or Parent(video_id=parent.id, manifest_id=parent.manifest_id or "")

    def _turned_away(self, action: str, app_id: AppId, at: datetime) -> Denied | None:
        """Whether the app asks too often. Those in flight together are counted after they were let in."""
        with self.ledger.reading() as tx:
            traffic = TrafficFacts(
                asked_this_minute=tx.tally(_window("ask", app_id, MINUTE_S, at), at=at),
                asked_today=tx.tally(_window("ask", app_id, DAY_S, at), at=at),
                running=tx.running_jobs(app_id),
                prechecked_this_minute=tx.tally(_window("precheck", app_id, MINUTE_S, at), at=at),
            )
            requester = requester_facts(tx, app_id)
            engine = self.sets.engine(tx, app_id)
        ruling = engine.rule(action, requester=requester, traffic=traffic)
        if ruling.allowed or engine.policies is None:
            # A set that decides nothing refuses the request itself, and that is recorded.
            return None
        named = {policy.id for policy in engine.policies.all}
        # Only what a rule says of traffic is worth asking again for.
        return Denied(ruling.reasons(), "traffic" if named.issuperset(ruling.policy_ids) else "consent")

    def _gathered(self, request: GenerationRequest, at: datetime) -> "_Gathered":
        screening, granting = _screened(request.prompt), tuple(self._granting(request, at))
        return _Gathered(screening, self._sent(request, granting), granting)

    def _sent(self, request: GenerationRequest, granting: Iterable[CameoId]) -> Sent | None:
        """What is in the reference picture. None: it could not be looked at, or not for all that matters.

        Only people whose live grant the app holds are compared with: otherwise an app could find out whose face
        a picture shows by naming them.
        """
        if request.reference is None:
            return Sent()
        try:
            granted = self._templates(granting)
            return sent.look(
                request.reference,
                tuple(granted.values()),
                self._listed(),
                self._enrolled(granted),
                self._known_bad_picture,
                self.models,
            )
        except (Exception, SystemExit):  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
            _log.exception("the reference picture could not be looked at")
            return None

    def _known_bad_picture(self, pictures: Iterable[faces.Picture]) -> int:
        return _Compared(self, clip=False)(pictures) or 0

    def _listed(self) -> Callable[[faces.Face], bool]:
        """Whether a face is on the do-not-generate register, as it is now."""
        with self.ledger.reading() as tx:
            return self.register.listed(tx)

    def _enrolled(self, but: Collection[CameoId]) -> Callable[[faces.Face], CameoId | None]:
        """Whose a face is, of everyone enrolled now but these."""
        with self.ledger.reading() as tx:
            return self.gallery.whose(tx, but=frozenset(but))

    def _granting(self, request: GenerationRequest, at: datetime) -> list[CameoId]:
        """Those named who have a live grant out to this app."""
        with self.ledger.reading() as tx:
            people = _people(tx, request.cameo_ids)
            return [
                person.cameo_id
                for person in people
                if any(
                    person.standing.live(held, at)
                    for held in person.standing.candidates(
                        grantees_of(request.app_id, request.person, person.standing), at
                    )
                )
            ]

    def _templates(self, cameo_ids: Iterable[CameoId]) -> dict[CameoId, faces.Likeness]:
        with self.ledger.reading() as tx:
            return {
                cameo_id: likeness_of(tx, cameo_id).templates for cameo_id in cameo_ids if tx.owner(cameo_id)
            }

    # -- after the model --------------------------------------------------------------------------------

    def clear(self, raw: RawClip, *, at: datetime | None = None) -> Cleared | Denied:
        """Look at the frames: only people who agreed, nothing the policies forbid.

        What only people can judge goes on, and says so: it is marked and signed, and then held for them. Who is in it
        and has not agreed is told, at once. `at`: if it is not given, what is told bears the time of the permit.
        """
        newest = self._newest_listed()
        looked, ruling = self._looked_at(raw.permit, raw.path, closed_model=raw.closed, at=at)
        if not (ruling.allowed or ruling.reviewable):
            return Denied(ruling.reasons(), "output")
        return cleared(
            raw, checks=looked.checks, register=newest, review=_to_judge(ruling), places=looked.places
        )

    def outdated(self, tx: Transaction, clip: Stamped) -> bool:
        """Whether a face was registered, as not to be generated, or a list changed since the clip was looked at."""
        return _newest_known(tx) > clip.register

    def clear_again(self, clip: Stamped, *, at: datetime | None = None) -> Stamped | Denied:
        """Look at the finished clip as :meth:`clear` looked at the raw one, with the register and the lists as they are now.

        What reviewers let pass is asked about as such: the policies still have the last word. It excuses what the clip
        was held for, and nothing that is found only now.
        """
        newest = self._newest_listed()
        with self.ledger.reading() as tx:
            case = case_of(tx, clip.permit.video)
        reviewed = case.passed(clip.sha256)
        looked, ruling = self._looked_at(
            clip.permit, clip.path, closed_model=clip.closed, reviewed=reviewed, at=at
        )
        # What reviewers have let pass is not put before them again by a policy that does not hear them.
        if not ruling.allowed and (reviewed or not ruling.reviewable):
            return Denied(ruling.reasons(), "output")
        if reviewed:
            unheard = self._ruled(clip.permit, replace(looked.facts, reviewed=False), looked.copies)
            if not (unheard.allowed or case.judged(clip.sha256).issuperset(unheard.policy_ids)):
                return Denied(unheard.reasons(), "output")
        return cleared_again(clip, register=newest, review=_to_judge(ruling), places=looked.places)

    def copied(self, file: Fingerprint) -> tuple[VideoId, ...]:
        """The released clips that a clip of this fingerprint is a copy of."""
        with self.ledger.reading() as tx:
            return copies.copied(self.clips, tx, file)

    def stopped(self, tx: Transaction, permit: Permit, clips: Iterable[VideoId], *, at: datetime) -> int:
        """How many of these clips were taken down, or withdrawn by those who do not all agree to this one."""
        shown = {use.ids[0] for use in permit.uses}
        return len(copies.stopped(tx, clips, shown, at=at, but=permit.video))

    def _copies(self, permit: Permit, clip: Path) -> int:
        found = self.copied(copies.looked(clip))
        with self.ledger.reading() as tx:
            return self.stopped(tx, permit, found, at=tx.dated(permit.issued))

    def must_be_seen(self, tx: Transaction, clip: Stamped) -> bool:
        """Whether a finished clip waits for reviewers, who have not let this very file pass."""
        return bool(clip.review) and not case_of(tx, clip.permit.video).passed(clip.sha256)

    def _newest_listed(self) -> int:
        # Read before anything is looked at: what is registered or listed meanwhile is looked for once more.
        with self.ledger.reading() as tx:
            return _newest_known(tx)

    def _looked_at(
        self, permit: Permit, path: Path, *, closed_model: bool, at: datetime | None, reviewed: bool = False
    ) -> tuple[Looked, Ruling]:
        looked = look(
            path,
            lambda: self._expected(permit),
            prompt_scores=filled_scores(permit.scores),
            closed_model=closed_model,
            reviewed=reviewed,
        )
        ruling = self._ruled(permit, looked.facts, looked.copies)
        self._tell(permit, looked, ruling, at or permit.issued)
        return looked, ruling

    def _ruled(self, permit: Permit, output: OutputFacts, copies: int) -> Ruling:
        with self.ledger.reading() as tx:
            engine = self.sets.engine(tx, AppId(permit.app_id))
        job = JobFacts(permit.video, consenting=len(permit.uses), recorded=False, copies=copies)
        return engine.rule("clear", job=job, request=permit_facts(permit), output=output)

    def _tell(self, permit: Permit, looked: Looked, ruling: Ruling, at: datetime) -> None:
        """Tell those who were found in a clip and have not agreed to it. Before it ends: a crash leaves nobody untold."""
        found: tuple[tuple[Where, tuple[CameoId, ...]], ...]
        found = ("clip", looked.strangers), ("voices", looked.overheard)
        if not any(people for _, people in found):
            return
        outcome: Outcome = "used" if ruling.allowed else "refused"
        asked = {"action": permit.action, "purpose": permit.purpose, "audience": permit.audience}

        def operation(tx: Transaction) -> None:
            for where, people in found:
                tell_seen(
                    tx,
                    people,
                    video_id=permit.video,
                    app_id=AppId(permit.app_id),
                    where=where,
                    outcome=outcome,
                    asked=asked,
                    at=at,
                )

        self.ledger.transact(operation)

    def _expected(self, permit: Permit) -> Expected:
        """Whom the clip may show. Where that cannot be read it may show nobody, and nothing passes."""
        heard = set[CameoId]()
        minors, contexts, grants = set[CameoId](), frozenset[Context](get_args(Context)), list[Grant]()
        with self.ledger.reading() as tx:
            for person_id, cameo_id, grant_id in (use.ids for use in permit.uses):
                standing = tx.standing(person_id)
                held = standing.grants.get(grant_id)
                contexts &= _agreed(held.grant) if held is not None else frozenset()
                grants += [held.grant] if held is not None else []
                # As it was when it was asked for: who has come of age since is a minor in this clip still.
                if standing.minor(permit.issued):
                    minors.add(cameo_id)
                elif "voice" in permit.modalities and held is not None and "voice" in held.grant.modalities:
                    heard.add(cameo_id)
            spoken = self.voices.read(tx)
        granted = self._templates(use.ids[1] for use in permit.uses)
        return Expected(
            faces=granted,
            voices={who: voice for who, voice in spoken.items() if who in heard},
            other_voices=spoken,
            minors=frozenset(minors),
            contexts=contexts,
            disliked=lambda words: any(
                preferences.against(words, grant.preferences, grant.language) for grant in grants
            ),
            listed=self._listed(),
            known_bad=_Compared(self),
            copies=lambda clip: self._copies(permit, clip),
            models=self.models,
            enrolled=self._enrolled(granted),
        )


def _newest_known(tx: Transaction) -> int:
    """The place in the log of what was last registered, or of the last change of a list; 0: of nothing."""
    change = tx.newest("hash_list")
    place = tx.find("hash_list", change) if change is not None else None
    return max(tx.register_state().last, place.index if place is not None else 0)


def _to_judge(ruling: Ruling) -> tuple[str, ...]:
    """What people have to look at before a clip goes on."""
    return () if ruling.allowed else ruling.policy_ids


_CHANGED = Reason(
    "review.changed", "what this clip was made under does not stand any more", "ask for a new video"
)


def _asked_before(video: Video, permit: Permit) -> GenerationRequest:
    """The request that a permit was given for."""
    return GenerationRequest(
        video_id=video.id,
        app_id=video.app_id,
        model=video.model,
        prompt=video.prompt,
        seconds=video.seconds,
        size=video.size,
        purpose=permit.purpose,
        audience=permit.audience,
        modalities=frozenset(permit.modalities),
        cameo_ids=tuple(use.ids[1] for use in permit.uses),
        person=permit.person,
        countries=permit.countries,
        action=permit.action,
        parent=video.parent_id,
        marking=permit.marking,
    )


class _Compared:
    """How many more of a clip's frames, of those seen so far, are on a list of known prohibited ones.

    As the lists are now; None: there are none. A clip is shown it in pieces: a video is matched by its share of the
    whole, so what was seen before counts again.
    """

    def __init__(self, gate: Gate, *, clip: bool = True) -> None:
        self._gate, self._clip = gate, clip
        self._parts, self._sizes, self._counted = list[Hashed](), list[int](), 0

    def __call__(self, pictures: Iterable[faces.Picture]) -> int | None:
        with self._gate.ledger.reading() as tx:
            if not self._gate.lists.any(tx):
                return None
        piece = list(pictures)
        self._parts.append(known_bad.hashed(piece, clip=self._clip))
        self._sizes.append(len(piece))
        with self._gate.ledger.reading() as tx:
            found = self._gate.lists.found(tx, known_bad.joined(self._parts, self._sizes))
        before, self._counted = self._counted, max(self._counted, len(found.pictures))
        return self._counted - before


# Facts ------------------------------------------------------------------------------------------------


def _screened(prompt: str) -> Screening | None:
    """What the prompt reads as; None when the screen itself does not work, which denies."""
    try:
        screening = screen(prompt)
        # A score that is none could not even be recorded, nor a name that is none looked up: nothing would be answered.
        return replace(
            screening,
            scores=all_scored(screening.scores),
            figures=frozenset(screening.figures),
            name_keys=frozenset(screening.name_keys),
        )
    except InvalidInput:
        raise
    except (Exception, SystemExit):  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
        _log.exception("the prompt could not be screened")
        return None


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What was found out about a request before its place in the log: it takes time, and reads no consent."""

    screening: Screening | None
    sent: Sent | None
    granting: tuple[CameoId, ...] = ()
    """Those named who have a live grant out to this app: the words may name them as well."""


def _asked(
    tx: Transaction, request: GenerationRequest, gathered: _Gathered, *, enrolled: bool = True
) -> Asked:
    screening, seen = gathered.screening, gathered.sent
    pictured = seen.pictured if seen else None
    people = _named_people(tx, gathered, enrolled=enrolled)
    scores = dict(screening.scores) if screening else dict.fromkeys(CATEGORIES, 0)
    contexts = screening.contexts if screening else frozenset[Context]()
    return Asked(
        video_id=request.video_id,
        prompt=request.prompt,
        screening=screening.version if screening else "unavailable",
        requester=requester_facts(tx, request.app_id),
        request=RequestFacts(
            action=request.action,
            purpose=request.purpose,
            audience=request.audience,
            modalities=request.modalities,
            contexts=pictured.contexts_beside(contexts) if pictured else contexts,
            scores=pictured.scores_beside(scores) if pictured else scores,
            classifiers_ok=screening is not None and seen is not None and people is not None,
            depicted=len(request.cameo_ids),
            unknown_faces=seen.strangers if seen else 0,
            do_not_generate_matches=seen.listed if seen else 0,
            named_people=people or 0,
            known_bad_matches=seen.known_bad if seen else 0,
            ledger_ok=True,
        ),
        named=request.cameo_ids,
        person=request.person,
        countries=request.countries,
        parent=request.parent,
        marking=request.marking,
        pictured=pictured,
    )


def _named_people(tx: Transaction, gathered: _Gathered, *, enrolled: bool) -> int | None:
    """How many people the words name whom the request does not, or who have no live grant out. None: it cannot be told.

    As far as an app can tell, somebody enrolled here is one more of those whom everybody knows.
    """
    if gathered.screening is None:
        return None
    owners = {owner for cameo_id in gathered.granting if (owner := tx.owner(cameo_id)) is not None}
    names = [person.display_name for owner in owners if (person := tx.person(owner)) is not None]
    others = tx.called(gathered.screening.name_keys) - owners if enrolled else frozenset()
    try:
        figures = gathered.screening.figures - people_named(names)
    except (Exception, SystemExit):  # noqa: BLE001 — what cannot be checked is denied, whatever stopped it
        _log.exception("whom the words name could not be told")
        return None
    return len(figures) + len(others)


def _people(tx: Transaction, named: Iterable[CameoId]) -> list[Named]:
    """Everyone named, and how their consent stands. An erased person has nobody left to tell."""
    people = []
    for cameo_id in named:
        owner = tx.owner(cameo_id)
        standing = tx.standing(owner) if owner is not None else Standing()
        people.append(Named(cameo_id, None if standing.erased else owner, standing))
    return people


def _agreed(grant: Grant) -> frozenset[Context]:
    return frozenset(grant.allowed_contexts) - frozenset(grant.forbidden_contexts)


def _audience(tx: Transaction, video: Video) -> str | None:
    """For whose eyes a clip was allowed, as its decision says."""
    decision = tx.find("decision", video.id)
    entry = tx.entry_at(video.app_id, decision.index) if decision is not None else None
    return entry.body["audience"] if entry is not None else None


def _marked_above(tx: Transaction, parent_id: VideoId | None) -> tuple[Marking, ...]:
    """How the clip to start from was marked, as its decision says: what is made of it is marked so too."""
    parent = tx.video(parent_id) if parent_id is not None else None
    decision = tx.find("decision", parent.id) if parent is not None else None
    if parent is None or decision is None:
        return ()
    entry = tx.entry_at(parent.app_id, decision.index)
    said = entry.body.get("marking") if entry is not None else None
    return (Marking.model_validate(said),) if said is not None else ()


def _asks_for_approval(decision: Decision) -> bool:
    grants = [consent.considered[-1].grant for consent in decision.consents]
    return any(grant is not None and grant.approval == "before_release" for grant in grants)


def _window(what: str, app_id: AppId, length_s: int, at: datetime) -> str:
    """The name of a counter: of one app, in one minute or day of the clock."""
    return f"{what}/{app_id}/{length_s}/{int(at.timestamp()) // length_s}"


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
        action=request.action,
        parent_id=request.parent,
        requested_by=request.person,
    )
    tx.open_job(video, sealed, [Depicted(*use.ids) for use in uses])
