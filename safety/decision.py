"""One decision on one request: pure, so that it can be made again.

From the facts about the request, the standing consent of everyone it names and a policy set, to an answer with its
reasons and to the bodies of the entry that records it. The gate decides here at its place in the log; a precheck
decides here and records nothing; a candidate set is asked here beside the active one; and an auditor decides here
again, on what the ledger held at that place, and compares every byte.

What each reader's record holds:

    both        the request, its scores and by which classifiers, the policy set, and `facts_digest`: over everything
                the policies were asked about, with a key of the service, so that no reader can search it
    requester   also what the app was told, whom it named, and the facts about itself and its inputs
    depicted    also their own grant, and what they are told; of an allowed request nothing that the requester does
                not know, who could else not show that it is on this person's list
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from ledger.consent.fold import GrantStanding, Standing
from ledger.consent.grant import Context, Grantee
from ledger.ids import AppId, CameoId, PersonId, VideoId
from ledger.provenance.profiles import UNMARKED, Marking
from ledger.reasons import Reason
from safety import preferences
from safety.policy.engine import Engine, Reader, Ruling
from safety.policy.facts import (
    FIELDS,
    CameoFacts,
    Category,
    GrantFacts,
    JobFacts,
    RequesterFacts,
    RequestFacts,
    as_json,
    digest,
)

Kind = Literal["content", "consent", "output", "traffic"]
_SHARED = ("action", "purpose", "audience", "modalities", "contexts", "scores")
"""Facts about the request that everyone it concerns may read."""
_OWN = tuple(name for name in FIELDS[RequestFacts] if name not in _SHARED)
"""The rest of them, which only the requester's record holds."""
_EVERYONE = Grantee(type="everyone", id="*")
_MUTUALS = Grantee(type="group", id="mutuals")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a request bears on one person's consent."""

    video_id: VideoId
    app_id: AppId
    prompt: str
    person: PersonId | None = None
    """Whom the app asks for, where it has shown that it may speak for them."""
    countries: tuple[str, ...] = ("*",)
    """Where the clip will be shown; `*` is everywhere."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """What the pictures sent with a request show and say, scored as a prompt is."""

    scores: Mapping[Category, int]
    contexts: frozenset[Context]

    def scores_beside(self, words: Mapping[Category, int]) -> dict[Category, int]:
        """What is decided on: of the words and of the pictures, whichever scored higher."""
        return {category: max(score, self.scores[category]) for category, score in words.items()}

    def contexts_beside(self, words: frozenset[Context]) -> frozenset[Context]:
        return words | self.contexts

    def as_json(self) -> dict[str, Any]:
        return {"scores": dict(self.scores), "contexts": sorted(self.contexts)}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is decided on, but for consent: the request as it was gathered."""

    video_id: VideoId
    prompt: str
    screening: str
    """The version of the classifier that scored the prompt."""
    requester: RequesterFacts
    request: RequestFacts
    named: tuple[CameoId, ...]
    person: PersonId | None = None
    countries: tuple[str, ...] = ("*",)
    parent: VideoId | None = None
    """The clip it is to be made from: everyone that shows is among the named."""
    marking: Marking = UNMARKED
    """How the clip has to be marked: recorded, and weighed by nobody."""
    preferences: str | None = preferences.VERSION
    """The version by which people's preferences are held against the prompt. None: there were none yet."""
    pictured: Pictured | None = None
    """What the pictures sent scored by themselves; the request's own scores are never lower. None: there were none."""

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.video_id, self.requester.app_id, self.prompt, self.person, self.countries)


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody the request names, and how their consent stands at this place in the log."""

    cameo_id: CameoId
    owner: PersonId | None
    """None where nobody is left to tell: an unknown or erased likeness."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class Consent:
    """The answer for one person: under which grant, or why not."""

    person: Named
    grant_id: str | None
    ruling: Ruling
    considered: tuple[CameoFacts, ...]
    """The facts the policies were asked about, one for each grant tried, in order."""


class Part(NamedTuple):
    """Whom an entry is about, in what role, and the entry as they may read it."""

    subject_id: str
    role: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    asked: Asked
    general: Ruling
    consents: tuple[Consent, ...]
    unknown: frozenset[str] = frozenset()
    """Facts that the policy set was not asked about: its schema is from before them."""

    @property
    def allowed(self) -> bool:
        """INVARIANT: everyone named must agree; one refusal refuses the clip."""
        return self.general.allowed and all(consent.ruling.allowed for consent in self.consents)

    @property
    def policy_ids(self) -> tuple[str, ...]:
        """Those that allowed it; or those, of every ruling that refused, that forbade it."""
        rulings = (self.general, *(consent.ruling for consent in self.consents))
        deciding = [ruling for ruling in rulings if ruling.allowed == self.allowed]
        return tuple(sorted({policy for ruling in deciding for policy in ruling.policy_ids}))

    @property
    def kind(self) -> Kind:
        content = {policy for policy in self.general.policy_ids if policy.startswith("prohibited.")}
        return "content" if content - {"prohibited.unknown_face"} else "consent"

    def reasons(self, reader: Reader = "requester") -> tuple[Reason, ...]:
        """Everything that stands against the request, as this reader may know all of it."""
        refusing = [consent.ruling for consent in self.consents if not consent.ruling.allowed]
        told = [reason for ruling in refusing for reason in ruling.reasons(reader)]
        general = self.general.reasons(reader)
        if refusing:
            # That not everyone agrees says nothing beside the reasons of those who do not; and to one of them it
            # would say that somebody else has refused, which may be false.
            alone = self.general.policy_ids == (_SOMEONE_ELSE.id,)
            general = () if alone else tuple(one for one in general if one.id != _SOMEONE_ELSE.id)
        return unique((*general, *told))

    def parts(self, facts_key: bytes) -> list[Part]:
        """The entry that records it, for each of those it concerns. `facts_key`: :attr:`ledger.keys.Keyring.facts_key`."""
        asked, request = self.asked, as_json(self.asked.request) or {}
        heard = as_json(asked.request, unknown=self.unknown)
        shared = {name: request[name] for name in _SHARED}
        record: dict[str, Any] = {
            "video_id": asked.video_id,
            "app_id": asked.requester.app_id,
            "requested_by": asked.person,
            "countries": list(asked.countries),
            # Only where there is one: what was recorded before there were any is made again byte for byte.
            **({"parent_id": asked.parent} if asked.parent is not None else {}),
            **({"marking": asked.marking.model_dump(mode="json")} if asked.marking != UNMARKED else {}),
            "allowed": self.allowed,
            "prompt": asked.prompt,
            "screening": asked.screening,
            "preferences": asked.preferences,
            "policy_set": self.general.policy_set_hash,
            "facts_digest": digest(
                facts_key,
                requester=as_json(asked.requester),
                request=heard,
                considered=[
                    [as_json(facts, unknown=self.unknown) for facts in c.considered] for c in self.consents
                ],
            ),
            **shared,
        }
        told = self.reasons()
        requester = Part(
            asked.requester.app_id,
            "requester",
            {
                **record,
                "policy_ids": list(self.policy_ids) if self.allowed else sorted({r.id for r in told}),
                "reasons": [reason.as_json() for reason in told],
                "grant_ids": [c.grant_id for c in self.consents] if self.allowed else [],
                "named": list(asked.named),
                **({"pictured": asked.pictured.as_json()} if asked.pictured is not None else {}),
                "facts": {
                    "suspended": asked.requester.suspended,
                    **{name: request[name] for name in _OWN},
                },
            },
        )
        depicted = [self._part_of(consent, consent.person.owner, record) for consent in self.consents]
        return [requester, *(one for one in depicted if one is not None)]

    def _part_of(self, consent: Consent, owner: PersonId | None, record: dict[str, Any]) -> Part | None:
        """What one person depicted reads: their own part, and nobody else's."""
        if owner is None:
            return None
        alone = replace(self, consents=(consent,))
        body = {
            **record,
            "cameo_id": consent.person.cameo_id,
            "policy_ids": list(self.policy_ids if self.allowed else alone.policy_ids),
            "reasons": []
            if self.allowed
            else [r.as_json() for r in alone.reasons("owner") or (_SOMEONE_ELSE,)],
            "grant_ids": [consent.grant_id] if self.allowed else [],
        }
        return Part(owner, "depicted", body)


_SOMEONE_ELSE = Reason(
    "consent.quorum",
    "someone else whom the request names has not agreed",
    "nothing is shown, and there is nothing for you to do",
)


def decide(engine: Engine, asked: Asked, people: Sequence[Named], *, at: datetime) -> Decision:
    """The answer of one policy set. Asks nothing of the outside, and never raises."""
    tried = [_considered(asked, person, people, at) for person in people]
    # Asked together, as if everyone agreed: the facts they share are read once. Mostly that is all there is to ask.
    first = [_use(asked, facts[0]) for facts in tried]
    *rulings, general = engine.rulings(*first, _whole(asked, len(people)))
    consents = tuple(
        _consent(engine, asked, person, facts, ruling)
        for person, facts, ruling in zip(people, tried, rulings, strict=True)
    )
    agreeing = sum(1 for consent in consents if consent.ruling.allowed)
    if agreeing != len(people):
        (general,) = engine.rulings(_whole(asked, agreeing))
    return Decision(asked, general, consents, engine.unknown)


def _use(asked: Asked, cameo: CameoFacts) -> tuple[str, dict[str, Any]]:
    return "use_likeness", {"requester": asked.requester, "cameo": cameo, "request": asked.request}


def _whole(asked: Asked, agreeing: int) -> tuple[str, dict[str, Any]]:
    job = JobFacts(asked.video_id, consenting=agreeing, recorded=False, copies=0)
    return "generate", {"requester": asked.requester, "job": job, "request": asked.request}


def _considered(asked: Asked, person: Named, people: Sequence[Named], at: datetime) -> list[CameoFacts]:
    """The facts about one person under each grant that could allow this; never none."""
    grantees = grantees_of(asked.requester.app_id, asked.person, person.standing)
    candidates = person.standing.candidates(grantees, at)
    held = [one for one in candidates if one.grant.cameo_id == person.cameo_id]
    under: list[GrantStanding | None] = [*held] or [None]
    others = [one for one in people if one is not person]
    return [cameo_facts(person, one, asked.wanted, others, at) for one in under]


def _consent(
    engine: Engine, asked: Asked, person: Named, tried: Sequence[CameoFacts], ruling: Ruling
) -> Consent:
    """The first of the person's grants that allows this, or the refusal that came closest to allowing it."""
    rulings = [ruling]
    while not rulings[-1].allowed and len(rulings) < len(tried):
        rulings += engine.rulings(_use(asked, tried[len(rulings)]))
    considered = tuple(tried[: len(rulings)])
    if rulings[-1].allowed:
        grant = considered[-1].grant
        return Consent(person, grant.grant_id if grant else None, rulings[-1], considered)
    return Consent(person, None, min(rulings, key=lambda one: len(one.findings)), considered)


@lru_cache(maxsize=1000)
def _grantee(kind: Literal["app", "person"], name: str) -> Grantee:
    return Grantee.model_construct(type=kind, id=name)


def grantees_of(app_id: AppId, person: PersonId | None, standing: Standing) -> tuple[Grantee, ...]:
    """As whom the app, and the person it asks for, may have been granted something by the one `standing` is about."""
    found = [_grantee("app", app_id), _EVERYONE]
    if person is not None:
        found.append(_grantee("person", person))
        if person in standing.members:
            found.append(_MUTUALS)
    return tuple(found)


def cameo_facts(
    person: Named, held: GrantStanding | None, wanted: Wanted, others: Iterable[Named], at: datetime
) -> CameoFacts:
    """The facts about one person, under one of their grants. `others`: everyone else the request names."""
    standing = person.standing
    guardians = standing.guardians
    return CameoFacts(
        cameo_id=person.cameo_id,
        active=standing.in_use(at) and standing.cameo_id == person.cameo_id,
        erased=standing.erased,
        minor=standing.minor(at),
        guardian_consent=held is not None and standing.guarded(held),
        # Their own guardian beside them is no stranger.
        with_adult=any(
            not one.standing.minor(at) and (one.owner is None or one.owner not in guardians) for one in others
        ),
        guardians_allow_adults=bool(guardians)
        and all(one.guardianship.with_adults for one in guardians.values()),
        blocks_requester=wanted.app_id in standing.blocked
        or (wanted.person is not None and wanted.person in standing.blocked),
        cooling_off=standing.cooling_off(at),
        grant=None if held is None else _grant_facts(held, standing, wanted, at),
    )


def _grant_facts(held: GrantStanding, standing: Standing, wanted: Wanted, at: datetime) -> GrantFacts:
    grant = held.grant
    return GrantFacts(
        grant_id=grant.id,
        for_requester=grant.grantee in grantees_of(wanted.app_id, wanted.person, standing),
        offered_to_everyone=grant.grantee.type == "everyone",
        started=grant.starts <= at,
        expired=grant.expires <= at or standing.lapsed(held, at),
        revoked=held.revoked_index is not None,
        withdrawn=held.withdrawn,
        modalities=frozenset(grant.modalities),
        purposes=frozenset(grant.purposes),
        actions=frozenset(grant.actions),
        allowed_contexts=frozenset(grant.allowed_contexts),
        forbidden_contexts=frozenset(grant.forbidden_contexts),
        audience=grant.audience,
        within_countries="*" in grant.jurisdictions or set(wanted.countries) <= set(grant.jurisdictions),
        against_preferences=preferences.against(wanted.prompt, grant.preferences, grant.language),
        uses=grant.max_uses - standing.uses_left(held),
        max_uses=grant.max_uses,
        approval=grant.approval,
        approved=standing.approved(wanted.video_id, at),
    )


def unique(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Each once, in the order of its first."""
    return tuple(dict.fromkeys(reasons))
