"""Deciding again what was decided: on what the ledger held at that place, byte for byte.

A decision is a function of the policy set in force, of the facts recorded with it, and of the consent that stood
at its place in the log. All three are in the ledger, so anybody who holds it can make the decision once more:
:func:`redecide` does, and compares every byte that each reader was given. :func:`replay` decides what apps asked for
in the past under a candidate set, to see what it would have done to them.

What can not be made again: a decision about somebody who has since been erased (their list is destroyed, which is
the point), one under a set that the archive no longer holds, and one about somebody whose preferences another version
held against the prompt. Each is said, never passed over.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.canonical import canonical, sha256
from ledger.consent.fold import Standing, fold
from ledger.consent.story import moment
from ledger.errors import NotFound
from ledger.ids import AppId, CameoId, LeafIndex, PersonId, VideoId, is_id
from ledger.log.leaf import Opening, commit, commitments_preimage
from ledger.provenance.profiles import Marking
from ledger.store.journal import Opened
from ledger.store.transaction import Transaction
from safety import preferences
from safety.decision import Asked, Decision, Named, Pictured, decide
from safety.errors import InvalidInput
from safety.policy.activation import Activated, Outcome, chosen, difference
from safety.policy.engine import Engine
from safety.policy.facts import RequesterFacts, RequestFacts, filled, filled_scores, from_json
from safety.prompt import screen

_DIGITS = 18
_LATER: Mapping[str, Any] = {"requested_by": None, "countries": ["*"], "preferences": None}
"""What records from before it do not say: nobody was named, clips were for everywhere, nobody had preferences."""


@dataclass(frozen=True, slots=True)
class Redecided:
    """The decision, made again, and where it is not what was recorded: nothing, if the ledger is honest."""

    index: LeafIndex
    at: datetime
    decision: Decision
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """What this decision was made on is not there any more."""

    index: LeafIndex
    at: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a candidate set would have made of one recorded decision."""

    index: LeafIndex
    at: datetime
    video_id: VideoId
    app_id: AppId
    allowed: bool
    """As it was decided."""
    what: Outcome
    policies: tuple[str, ...]


def redecide(tx: Transaction, sets: Activated, entry: str, *, facts_key: bytes) -> Redecided | Lost:
    """The decision at an index of the log, or on a video, made again. Raises NotFound where there is none."""
    index, opened = found(tx, entry)
    if opened is None:
        return Lost(index, None, "no app's list opens to it: what is stored is not what was recorded")
    made = _again(tx, sets, _People(tx), index, opened)
    if isinstance(made, Lost):
        return made
    decision, at = made
    differs = []
    in_force = tx.policies_at(index)
    app_id = decision.asked.requester.app_id
    if in_force is None or chosen(in_force, app_id) != opened.body["policy_set"]:
        differs.append("the log says that another policy set was in force")
    parts, openings = {part.subject_id: part for part in decision.parts(facts_key)}, list[Opening]()
    if len(parts) - 1 != len(opened.others):
        differs.append(f"`{len(opened.others)}` people were recorded as depicted, not `{len(parts) - 1}`")
    for subject, part in parts.items():
        held = opened if subject == app_id else tx.entry_at(subject, index)
        if held is None:
            differs.append(f"the entry is not on the list of `{part.body.get('cameo_id', subject)}`")
            continue
        openings.append(held.opening)
        if held.body["at"] != opened.body["at"]:
            differs.append(f"`{part.role}`: `at`")
        differs += [f"`{part.role}`: `{name}`" for name in _unlike(_whole(held.body), part.body)]
    before, over = tx.epoch_times(index)
    if not before <= at.timestamp() <= over:
        differs.append("its time is not between those of the log before and after it")
    differs += _untrue(tx, decision.asked, index)
    if not _committed(tx, index, openings):
        differs.append("what is stored is not what the leaf in the log was made over")
    return Redecided(index, at, decision, tuple(differs))


def _untrue(tx: Transaction, asked: Asked, index: LeafIndex) -> list[str]:
    """What the app's own record says that elsewhere is otherwise: how the app stood, and how its prompt scores."""
    found = []
    stood = [
        one.body["suspended"] for one in tx.entries(asked.requester.app_id, ["standing"]) if one.index < index
    ]
    if asked.requester.suspended != (bool(stood) and stood[-1]):
        found.append("the app's list says otherwise whether it was suspended")
    try:
        screening = screen(asked.prompt)
    except InvalidInput:
        return found
    scores, contexts = dict(screening.scores), screening.contexts
    if asked.pictured is not None:
        # The pictures are not kept, so what they scored is the record's word; never that the words scored less.
        scores, contexts = asked.pictured.scores_beside(scores), asked.pictured.contexts_beside(contexts)
    # Scores of another version can not be made again here.
    if screening.version == asked.screening and (
        scores != dict(asked.request.scores) or contexts != asked.request.contexts
    ):
        found.append("the prompt does not score as recorded")
    # Names of people enrolled then, and what those depicted were called then, can not be made again.
    if (
        screening.version == asked.screening
        and not asked.named
        and len(screening.figures) > asked.request.named_people
    ):
        found.append("the prompt names more people than was recorded")
    return found


def replay(tx: Transaction, sets: Activated, candidate: Engine, since: LeafIndex) -> Iterator[Change | Lost]:
    """Every decision from a place in the log on, in log order, as `candidate` would have made it."""
    asked = [opened for app in tx.apps() for opened in tx.decisions_since(app.id, since)]
    people = _People(tx)
    for opened in sorted(asked, key=lambda one: one.index):
        made = _again(tx, sets, people, opened.index, opened)
        if isinstance(made, Lost):
            yield made
            continue
        decision, at = made
        other = decide(candidate, decision.asked, people.at(decision.asked.named, opened), at=at)
        what, policies = difference(decision, other)
        if decision.allowed != opened.body["allowed"]:
            yield Lost(
                opened.index, at, "deciding again does not give what was recorded: see `audit redecide`"
            )
            continue
        app_id, video_id = decision.asked.requester.app_id, decision.asked.video_id
        yield Change(opened.index, at, video_id, app_id, decision.allowed, what, policies)


class _People:
    """Standing consent at one place after another: each list is opened once, and folded onward."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._lists: dict[PersonId, list[Opened]] = {}
        self._stood: dict[PersonId, tuple[int, Standing]] = {}

    def at(self, named: Sequence[CameoId], opened: Opened) -> list[Named]:
        """Everyone named, before the entry. Raises NotFound for somebody it is about who was erased since."""
        return [self._person(cameo_id, opened) for cameo_id in named]

    def _person(self, cameo_id: CameoId, opened: Opened) -> Named:
        owner = self._tx.owner(cameo_id)
        if owner is None:
            if cameo_id in opened.others:
                raise NotFound("replay.erased", f"the likeness `{cameo_id}` has been erased since")
            return Named(cameo_id, None, Standing())
        standing = self._standing(owner, opened.index)
        # Who enrolled only later was nobody then.
        return Named(cameo_id, owner if standing.cameo_id is not None else None, standing)

    def _standing(self, owner: PersonId, before: LeafIndex) -> Standing:
        if owner not in self._lists:
            self._lists[owner] = self._tx.entries(owner)
        entries, (known, standing) = self._lists[owner], self._stood.get(owner, (0, Standing()))
        if known and entries[known - 1].index >= before:
            known, standing = 0, Standing()
        until = known
        while until < len(entries) and entries[until].index < before:
            until += 1
        standing = fold((one.entry() for one in entries[known:until]), standing)
        self._stood[owner] = (until, standing)
        return standing


def _again(
    tx: Transaction, sets: Activated, people: _People, index: LeafIndex, opened: Opened
) -> tuple[Decision, datetime] | Lost:
    body, at = _whole(opened.body), moment(opened.body["at"])
    if not body["allowed"] and body.get("policy_ids") == ["policy.unreadable"]:
        # A set that was restored since would answer, and an honest refusal would look like a forged one.
        return Lost(index, at, "the policies in force could not be read when it was made")
    engine = sets.of(tx, body["policy_set"])
    if engine.policies is None:
        return Lost(index, at, f"the policy set `{body['policy_set']}` is not in the archive")
    try:
        asked = _asked(body)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Lost(index, at, "the facts it was made on were not recorded with it")
    try:
        named = people.at(asked.named, opened)
    except NotFound as error:
        return Lost(index, at, str(error))
    if asked.preferences != preferences.VERSION and any(
        held.grant.preferences for person in named for held in person.standing.grants.values()
    ):
        return Lost(index, at, "another version held what people would rather not be shown with against it")
    return decide(engine, asked, named, at=at), at


def _asked(body: Mapping[str, Any]) -> Asked:
    """What was decided on, as the requester's record holds it."""
    facts = dict(body["facts"])
    requester = RequesterFacts(AppId(body["app_id"]), facts.pop("suspended"))
    shared = {
        name: body[name] for name in ("action", "purpose", "audience", "modalities", "contexts", "scores")
    }
    return Asked(
        video_id=VideoId(body["video_id"]),
        prompt=body["prompt"],
        screening=body["screening"],
        requester=requester,
        request=from_json(RequestFacts, shared | facts),
        named=tuple(CameoId(one) for one in body["named"]),
        person=PersonId(body["requested_by"]) if body["requested_by"] else None,
        countries=tuple(body["countries"]),
        parent=VideoId(body["parent_id"]) if "parent_id" in body else None,
        marking=Marking.model_validate(body.get("marking", {})),
        preferences=body["preferences"],
        pictured=_pictured(body.get("pictured")),
    )


def _pictured(written: Mapping[str, Any] | None) -> Pictured | None:
    if written is None:
        return None
    return Pictured(filled_scores(written["scores"]), frozenset(written["contexts"]))


def _whole(body: Mapping[str, Any]) -> dict[str, Any]:
    """A record with everything that it is from before of."""
    made = {**_LATER, **body}
    if isinstance(made.get("scores"), Mapping):
        made["scores"] = filled_scores(made["scores"])
    if "pictured" in made:
        made["pictured"] = {**made["pictured"], "scores": filled_scores(made["pictured"]["scores"])}
    if isinstance(made.get("facts"), Mapping):
        suspended = made["facts"].get("suspended")
        made["facts"] = {**filled(RequestFacts, made["facts"]), "suspended": suspended}
    return made


def _unlike(recorded: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    """The names under which two bodies differ. `kind` and `at` are the entry's own."""
    names = (recorded.keys() | made.keys()) - {"kind", "at"}
    return sorted(
        name
        for name in names
        if name not in recorded
        or name not in made
        or canonical({"": recorded[name]}) != canonical({"": made[name]})
    )


def _committed(tx: Transaction, index: LeafIndex, openings: Sequence[Opening]) -> bool:
    """Whether a leaf was made over these, and nothing else: whoever holds the keys can seal other records later."""
    leaf, commitments = tx.statements([index])[index]
    return (
        sorted(map(commit, openings)) == sorted(commitments)
        and bytes(sha256(commitments_preimage(commitments))) in leaf
    )


def found(tx: Transaction, entry: str) -> tuple[LeafIndex, Opened | None]:
    """The decision's place, and how its app may read it, if that can be opened at all."""
    place = tx.find("decision", entry) if is_id(entry, "video") else None
    # As many digits as an index has: no database knows more.
    number = int(entry) if entry.isdecimal() and len(entry) <= _DIGITS else None
    index = place.index if place is not None else LeafIndex(number) if number is not None else None
    if index is not None:
        for app in tx.apps():
            opened = tx.entry_at(app.id, index)
            if opened is not None and opened.kind == "decision":
                return index, opened
    if place is not None:
        return place.index, None
    raise NotFound(
        "replay.no_decision", f"there is no decision `{entry[:40]}`", "give an index or a video's id"
    )
