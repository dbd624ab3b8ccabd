"""What is asked about a clip once it is made: may it go out, wait, be seen, and may what is recorded be read or erased?

Each question folds consent again at its own moment, and is asked in the transaction whose place in the log it is about:
a revocation that came in between wins. Those about a clip are asked for every clip that it was made from, too: whoever
withdrew one of those has withdrawn everything made of it. Every answer is None, or a :class:`Denied` with its reasons.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from ledger.ids import AppId, GrantId, VideoId
from ledger.reasons import Reason
from ledger.store.records import Depicted, Video
from ledger.store.transaction import Transaction
from safety.chain import Permit
from safety.decision import Decision, Kind, Named, Wanted, cameo_facts, unique
from safety.policy.engine import Engine
from safety.policy.facts import (
    CameoFacts,
    ClipFacts,
    JobFacts,
    ListFacts,
    ReaderFacts,
    RequesterFacts,
    RequestFacts,
    filled_scores,
)

DRAFT_LIFE = timedelta(days=7)
"""How long a finished clip waits for the word of those it shows."""


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal. `kind` tells an app whether to change the words (content), ask the person (consent) or wait."""

    reasons: tuple[Reason, ...]
    kind: Kind

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("a refusal carries at least one reason")


class Sets(Protocol):
    """The policy sets in force, and the one that is only watched."""

    def engine(self, tx: Transaction, app_id: AppId | None = None) -> Engine:
        """The set that decides for this app, or for everyone else, at this place in the log."""

    def watch(self, tx: Transaction, decision: Decision, people: Sequence[Named], *, at: datetime) -> None:
        """Decide again under the candidate in shadow, if there is one, and count. Changes nothing, never raises."""


class Afterwards:
    """The part of the gate that asks again. Holds nothing but where the policies in force are read."""

    def __init__(self, sets: Sets) -> None:
        self.sets = sets

    def may_release(
        self,
        tx: Transaction,
        permit: Permit,
        *,
        at: datetime,
        supposing_approval: bool = False,
        copies: int = 0,
    ) -> Denied | None:
        """None when the request may still be made, and everyone shown still agrees, at this place in the log.

        `supposing_approval`: what the answer would be if everyone asked had approved this very clip. `copies`: of how
        many clips that were taken down or withdrawn it is a copy.
        """
        at = tx.dated(at)
        app_id, facts = AppId(permit.app_id), permit_facts(permit)
        engine, requester = self.sets.engine(tx, app_id), requester_facts(tx, app_id)
        agreeing, refusals = 0, list[Reason]()
        video = tx.video(permit.video)
        prompt = video.prompt if video is not None else ""
        wanted = Wanted(permit.video, app_id, prompt, permit.person, permit.countries)
        shown = [Named(use.ids[1], use.ids[0], tx.standing(use.ids[0])) for use in permit.uses]
        for person, use in zip(shown, permit.uses, strict=True):
            held = person.standing.grants.get(use.ids[2])
            others = [one for one in shown if one is not person]
            about = cameo_facts(person, held, wanted, others, at)
            if supposing_approval and about.grant is not None:
                about = replace(about, grant=replace(about.grant, approved=True))
            ruling = engine.rule("release_likeness", requester=requester, cameo=about, request=facts)
            agreeing += ruling.allowed
            refusals += ruling.reasons()
        # What the permit says must be what the ledger recorded: its signature alone releases nothing.
        decision = tx.find("decision", permit.video_id)
        recorded = {(use.person_id, use.cameo_id, use.grant_id) for use in tx.uses(permit.video)}
        job = JobFacts(
            permit.video,
            consenting=agreeing,
            recorded=decision is not None
            and decision.index == permit.decision_index
            and recorded == {use.ids for use in permit.uses}
            # The row's parent, which the release entry will repeat.
            and video is not None
            and video.parent_id == (permit.parent.video_id if permit.parent else None),
            copies=copies,
        )
        general = engine.rule("release", requester=requester, job=job, request=facts)
        if not job.recorded:
            # What a permit of somebody else's making says of people is not for its bearer.
            return Denied(general.reasons() or (_UNRECORDED,), "consent")
        if general.allowed and agreeing == len(permit.uses):
            return self._still_there(tx, permit, at)
        if not refusals or general.policy_ids != _QUORUM:
            refusals += general.reasons()
        return Denied(unique(refusals), "consent")

    def _still_there(self, tx: Transaction, permit: Permit, at: datetime) -> Denied | None:
        """None unless the clip that this one was made from has been withdrawn. That its app let go of it is no matter."""
        if permit.parent is None:
            return None
        parent = tx.video(permit.parent.video_id)
        if parent is None:
            return Denied((NO_PARENT,), "consent")
        return self._may_see(tx, parent, AppId(permit.app_id), released=True, at=at)

    def may_wait(
        self, tx: Transaction, permit: Permit, *, at: datetime, by: datetime | None = None
    ) -> datetime | None:
        """Until when the clip may wait for the word of those it shows, where nothing else is missing; None: not at all.

        `by`: how long it may wait at all; as long as the permit stands, if not said.
        """
        at = tx.dated(at).replace(microsecond=0)
        awaited = self.awaited(tx, permit.video, at=at)
        if not awaited or any(tx.standing(use.person_id).refused(permit.video) for use in awaited):
            return None
        if self.may_release(tx, permit, at=at, supposing_approval=True) is not None:
            return None
        grants = [tx.standing(use.ids[0]).grants[use.ids[2]].grant for use in permit.uses]
        return min(at + DRAFT_LIFE, by or permit.expires, *(grant.expires for grant in grants))

    def may_be_reviewed(self, tx: Transaction, permit: Permit, *, at: datetime) -> datetime | Denied:
        """Until when a clip may wait for reviewers; denied, where it could not go out whatever they say."""
        at = tx.dated(at).replace(microsecond=0)
        denied = self.may_release(tx, permit, at=at, supposing_approval=True)
        if denied is not None:
            return denied
        grants = [tx.standing(use.ids[0]).grants[use.ids[2]].grant for use in permit.uses]
        return min([at + DRAFT_LIFE, *(grant.expires for grant in grants)])

    def awaited(self, tx: Transaction, video_id: VideoId, *, at: datetime) -> list[Depicted]:
        """Those in a clip whose grant asks for approval, and who have not approved it."""
        found = []
        for use in tx.uses(video_id):
            standing = tx.standing(use.person_id)
            held = standing.grants.get(use.grant_id)
            asks = held is None or held.grant.approval == "before_release"
            if asks and not standing.approved(video_id, at):
                found.append(use)
        return found

    def may_read(self, tx: Transaction, reader: ReaderFacts, about: ListFacts) -> Denied | None:
        """None when everything recorded about this person may be shown to whoever asks."""
        ruling = self.sets.engine(tx).rule("read_list", reader=reader, list=about)
        return None if ruling.allowed else Denied(ruling.reasons(), "consent")

    def may_erase(self, tx: Transaction, reader: ReaderFacts, about: ListFacts) -> Denied | None:
        """None when everything recorded about this person may be destroyed at the word of whoever asks."""
        ruling = self.sets.engine(tx).rule("erase_list", reader=reader, list=about)
        return None if ruling.allowed else Denied(ruling.reasons(), "consent")

    def may_download(self, tx: Transaction, video: Video, viewer: AppId, *, at: datetime) -> Denied | None:
        """None unless the clip is not out, not for this viewer, or withdrawn by someone it shows.

        Or by someone shown in a clip that it was made from, or in one that was made from, to the first.
        """
        return self._may_see(tx, video, viewer, released=video.object_key is not None, at=at)

    def _may_see(
        self, tx: Transaction, video: Video, viewer: AppId, *, released: bool, at: datetime
    ) -> Denied | None:
        engine, requester, line = self.sets.engine(tx, viewer), requester_facts(tx, viewer), tx.lineage(video)
        shown, intact = list[CameoFacts | None](), line[-1].parent_id is None
        for one in line:
            uses = tx.uses(one.id)
            intact = intact and _as_released(tx, one, {use.grant_id for use in uses})
            wanted = Wanted(one.id, one.app_id, one.prompt, one.requested_by)
            for use in uses:
                person = Named(use.cameo_id, use.person_id, tx.standing(use.person_id))
                held = person.standing.grants.get(use.grant_id)
                shown.append(cameo_facts(person, held, wanted, (), at))
        clip = ClipFacts(
            clip_id=video.id,
            depicted=len(shown),
            released=released,
            quarantined=False,
            taken_down=any(one.taken_down_at is not None for one in line),
            viewer_is_requester=video.app_id == viewer,
            ledger_ok=intact,
        )
        rulings = [
            engine.rule("download", requester=requester, clip=clip, cameo=one) for one in shown or [None]
        ]
        reasons = unique(reason for ruling in rulings for reason in ruling.reasons())
        return Denied(reasons, "consent") if reasons else None


# Facts ------------------------------------------------------------------------------------------------


def requester_facts(tx: Transaction, app_id: AppId) -> RequesterFacts:
    app = tx.app(app_id)
    return RequesterFacts(app_id=app_id, suspended=app is None or app.suspended)


def permit_facts(permit: Permit) -> RequestFacts:
    """The facts the permit was decided on, for the questions that come after."""
    return RequestFacts(
        action=permit.action,
        purpose=permit.purpose,
        audience=permit.audience,
        modalities=frozenset(permit.modalities),
        contexts=frozenset(permit.contexts),
        scores=filled_scores(permit.scores),
        classifiers_ok=True,
        depicted=len(permit.uses),
        unknown_faces=0,
        do_not_generate_matches=0,
        named_people=0,
        known_bad_matches=0,
        ledger_ok=True,
    )


def _as_released(tx: Transaction, video: Video, grants: Collection[GrantId]) -> bool:
    """Whether the rows name the same people, and the same parent, as the release did: asked, not believed."""
    release = tx.find("release", video.id)
    if release is None:
        return video.object_key is None
    entry = tx.entry_at(video.app_id, release.index)
    return (
        entry is not None
        and set(entry.body["grant_ids"]) == set(grants)
        and entry.body.get("parent_id") == video.parent_id
    )


_QUORUM = ("consent.quorum",)
"""That not everyone agrees says nothing beside the reasons of those who do not."""
NO_PARENT = Reason(
    "parent.unknown",
    "there is no such clip to start from",
    "check its id; it is your own, or made for everyone",
)
_UNRECORDED = Reason(
    "release.unrecorded", "the ledger has no decision that allows this clip", "ask for the video again"
)
