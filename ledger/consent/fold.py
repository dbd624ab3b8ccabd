"""Standing consent: a pure fold over the ledger's entries about one likeness.

*Log order decides, never clocks.* A revocation counts from its place in the log on, whatever any clock said;
only a grant's own start and expiry are compared with `at`. Replaying the same entries always gives the same
answer, so an auditor can redo every decision. What stands is kept in persistent maps: one more entry costs the
same whether a person has signed one grant or ten thousand.

| kind         | effect                                                                 |
|--------------|------------------------------------------------------------------------|
| `enrolment`  | the likeness exists; who it belongs to, when they were born            |
| `grant`      | permission, until revoked; the first entry with an id is the only one  |
| `revocation` | ends the grant it names, for good; a later one may only widen its effect |
| `decision`   | an allowed one reserves one use of each grant it names                 |
| `returned`   | gives a reserved use back: the job made nothing that was released      |
| `approval`   | the owner's word on one draft                                          |
| `erasure`    | the likeness is gone                                                   |
| `account`    | the first key that signs for this person                               |
| `device`     | a key more, or one less; what it signed before stays signed            |
| `age`        | what an issuer says; of several words the one for a minor counts       |
| `guardian`   | who co-signs and approves for a minor, and within what limits          |
| `estate`     | who acts for a person who has died                                     |
| `handover`   | a person who had a guardian is of age, and keeps their likeness        |
| `group`      | who is among the people this person approves of                        |
| `block`      | an app or person that may not use this likeness, whatever a grant says |
"""

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Literal

from immutables import Map

from ledger.consent.grant import Grant, Grantee, RevocationEffect, parse_grant
from ledger.consent.statement import Guardianship, Signer, device, parse_guardianship
from ledger.ids import CameoId, GrantId, LeafIndex, PersonId, VideoId

ADULT_YEARS = 18
_NOTHING: Map[Any, Any] = Map()
Role = Literal["owner", "guardian", "executor"]
"""As what somebody acts for a person."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry about one person: its place in the log, its kind, its decrypted body."""

    index: LeafIndex
    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GrantStanding:
    grant: Grant
    index: LeafIndex
    spent: Map[VideoId, None] = _NOTHING
    revoked_at: str | None = None
    revoked_index: LeafIndex | None = None
    effect: RevocationEffect | None = None
    cosigned: frozenset[PersonId] = frozenset()
    """The guardians who signed it too."""

    @property
    def uses(self) -> frozenset[VideoId]:
        """The videos that each took one use."""
        return frozenset(self.spent)

    @property
    def uses_left(self) -> int:
        return max(0, self.grant.max_uses - len(self.spent))

    @property
    def withdrawn(self) -> bool:
        """Whether clips already made under this grant must no longer be shown."""
        return self.effect == "withdraw_all"

    def live(self, at: datetime) -> bool:
        return self.revoked_index is None and self.grant.starts <= at < self.grant.expires


@dataclass(frozen=True, slots=True)
class _Given:
    """The grants to one grantee."""

    newest: GrantId
    open: tuple[tuple[datetime, LeafIndex, GrantId], ...] = ()
    """Those not revoked, by when they end."""


@dataclass(frozen=True, slots=True)
class Age:
    """One word on how old somebody is: a birth date, or only whether they are 18."""

    born_on: date | None
    over_18: bool | None = None

    def minor(self, at: datetime) -> bool | None:
        """None where it does not say."""
        if self.born_on is None:
            return None if self.over_18 is None else not self.over_18
        return at.date() < birthday(self.born_on, ADULT_YEARS)


@dataclass(frozen=True, slots=True)
class Guardian:
    """A guardian, as they accepted it, and the keys they sign with."""

    guardianship: Guardianship
    signers: tuple[Signer, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What one person's likeness allows, as of the last entry folded."""

    cameo_id: CameoId | None = None
    erased: bool = False
    ages: tuple[Age, ...] = ()
    keys: Mapping[str, Signer] = _NOTHING
    """Those that sign for this person, by their id."""
    grants: Mapping[GrantId, GrantStanding] = _NOTHING
    approvals: Mapping[VideoId, Mapping[Role, bool]] = _NOTHING
    """On each draft, the last word of each of those who may have one."""
    given: Mapping[Grantee, _Given] = _NOTHING
    passed_on: Mapping[GrantId, tuple[GrantId, ...]] = _NOTHING
    """The grants that pass on a grant."""
    guardians: Mapping[PersonId, Guardian] = _NOTHING
    had_guardian: bool = False
    handed_over: bool = False
    executor: PersonId | None = None
    executor_keys: tuple[Signer, ...] = ()
    members: Mapping[PersonId, None] = _NOTHING
    """The people this person approves of (`mutuals`)."""
    blocked: Mapping[str, None] = _NOTHING
    """Apps and people who may never use this likeness."""

    @property
    def active(self) -> bool:
        return self.cameo_id is not None and not self.erased

    @property
    def born_on(self) -> date | None:
        """Of several birth dates the latest."""
        return max((age.born_on for age in self.ages if age.born_on is not None), default=None)

    def in_use(self, at: datetime) -> bool:
        """Whether the likeness may be asked for: whoever had a guardian decides anew when they come of age."""
        return self.active and (not self.had_guardian or self.handed_over or self.minor(at))

    def minor(self, at: datetime) -> bool:
        """Whether the person is under 18 at `at`. Unknown age is a minor's, and one word for a minor is enough."""
        words = [word for age in self.ages if (word := age.minor(at)) is not None]
        return not words or any(words)

    def approved(self, video_id: VideoId, at: datetime) -> bool:
        """Whether this person's side lets a draft go out: for a minor, their guardian; and nobody said no."""
        words = self.approvals.get(video_id, _NOTHING)
        needed: tuple[Role, ...] = ("guardian",) if self.minor(at) else ("owner", "executor")
        return all(words.values()) and any(role in words for role in needed)

    def refused(self, video_id: VideoId) -> bool:
        return not all(self.approvals.get(video_id, _NOTHING).values())

    def live(self, held: GrantStanding, at: datetime) -> bool:
        """Whether a grant stands. What guardians co-signed ends when the person comes of age."""
        return held.live(at) and not (held.cosigned and not self.minor(at))

    def uses_left(self, held: GrantStanding) -> int:
        """How many uses are left, of this grant and of the one it passes on."""
        above = self.grants.get(GrantId(held.grant.parent)) if held.grant.parent else None
        return held.uses_left if above is None else min(held.uses_left, above.uses_left)

    def signers(self, held_by: Role = "owner") -> tuple[Signer, ...]:
        """The keys that sign grants for this person."""
        return self.executor_keys if held_by == "executor" else tuple(self.keys.values())

    def candidates(self, grantees: Iterable[Grantee], at: datetime) -> list[GrantStanding]:
        """The grants to any of these that something could be done under at `at`: the one that ends first, first.

        If there is none, the newest that they were given, which is over, spent or has not begun.
        """
        given = [self.given[grantee] for grantee in grantees if grantee in self.given]
        found: list[GrantStanding] = []
        for one in given:
            for expires, _, grant_id in reversed(one.open):
                if expires <= at:
                    break
                held = self.grants[grant_id]
                if self.live(held, at) and self.uses_left(held):
                    found.append(held)
        newest = (self.grants[one.newest] for one in given)
        found.sort(key=lambda held: (held.grant.expires, held.index))
        return found or sorted(newest, key=lambda held: held.index)[-1:]


def birthday(born_on: date, years: int) -> date:
    """The day somebody becomes `years` old; of one born on 29 February, in other years 1 March."""
    year = born_on.year + years
    try:
        return born_on.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def fold(entries: Iterable[Entry], onto: Standing | None = None) -> Standing:
    """Replay entries in log order, onto what stood before them. Entries about things never granted change nothing."""
    standing, last = onto or Standing(), -1
    for entry in entries:
        if entry.index <= last:
            raise ValueError(f"entry {entry.index} is out of log order")
        last = entry.index
        standing = _step(standing, entry)
    return standing


def _step(standing: Standing, entry: Entry) -> Standing:  # noqa: C901, PLR0911, PLR0912 — one arm for each kind
    body = entry.body
    match entry.kind:
        case "account":
            return _key(standing, Signer.model_validate(body["key"]), added=True)
        case "enrolment":
            return _enrol(standing, body)
        case "device":
            return _key(standing, Signer.model_validate(body["key"]), added=body["change"] == "added")
        case "age":
            born = body["born_on"]
            age = Age(date.fromisoformat(born) if born else None, body["over_18"])
            # That somebody was not 18 yet was true when it was said; a birth date stays one.
            kept = (one for one in standing.ages if one.born_on is not None or one.over_18)
            return replace(standing, ages=(*kept, age))
        case "grant":
            grant = parse_grant(body["grant"])
            if grant.id in standing.grants:
                return standing
            cosigned = frozenset(PersonId(one["guardian"]) for one in body.get("cosignatures", ()))
            return _give(
                _with(standing, GrantStanding(grant, entry.index, cosigned=cosigned)), grant, entry.index
            )
        case "revocation":
            return _revoke(standing, entry)
        case "decision" if body["allowed"]:
            return _use(standing, body, reserve=True)
        case "returned":
            return _use(standing, body, reserve=False)
        case "approval":
            video, role = VideoId(body["video_id"]), body.get("role", "owner")
            words = Map(standing.approvals.get(video, _NOTHING)).set(role, body["approved"])
            return replace(standing, approvals=Map(standing.approvals).set(video, words))
        case "guardian" | "estate" if body.get("role", "owner") != "owner":
            # The guardian's or executor's own copy: it is about somebody else's likeness.
            return standing
        case "guardian":
            return _guard(standing, body)
        case "estate":
            signers = tuple(map(Signer.model_validate, body["signers"]))
            return replace(standing, executor=PersonId(body["executor"]), executor_keys=signers)
        case "handover":
            return replace(standing, handed_over=True)
        case "group":
            member = PersonId(body["person_id"])
            return replace(standing, members=_marked(standing.members, member, present=body["member"]))
        case "block":
            blocked = _marked(standing.blocked, body["target"], present=body["blocked"])
            return replace(standing, blocked=blocked)
        case "erasure":
            return replace(standing, erased=True)
        case _:
            return standing


def _enrol(standing: Standing, body: Mapping[str, Any]) -> Standing:
    said = body["enrolment"]
    born, key = said["born_on"], said.get("device_key")
    if key is not None:
        standing = _key(standing, device(key), added=True)
    ages = (*standing.ages, Age(date.fromisoformat(born))) if born else standing.ages
    return replace(standing, cameo_id=CameoId(body["cameo_id"]), ages=ages)


def _key(standing: Standing, signer: Signer, *, added: bool) -> Standing:
    keys = Map(standing.keys)
    if added:
        return replace(standing, keys=keys.set(signer.id, signer))
    return replace(standing, keys=keys.delete(signer.id)) if signer.id in keys else standing


def _guard(standing: Standing, body: Mapping[str, Any]) -> Standing:
    guardianship = parse_guardianship(body["guardianship"])
    guardian, guardians = PersonId(guardianship.guardian), Map(standing.guardians)
    if body["standing"]:
        signers = tuple(map(Signer.model_validate, body["signers"]))
        guardians = guardians.set(guardian, Guardian(guardianship, signers))
    elif guardian in guardians:
        guardians = guardians.delete(guardian)
    return replace(standing, guardians=guardians, had_guardian=standing.had_guardian or body["standing"])


def _marked(marked: Mapping[Any, None], name: str, *, present: bool) -> Map[Any, None]:
    kept: Map[Any, None] = Map(marked)
    if present:
        return kept.set(name, None)
    return kept.delete(name) if name in kept else kept


def _revoke(standing: Standing, entry: Entry) -> Standing:
    held, effect = standing.grants.get(GrantId(entry.body["grant_id"])), entry.body["effect"]
    if held is None:
        return standing
    if held.revoked_index is None:
        standing = _end(standing, held)
        held = replace(held, revoked_index=entry.index, revoked_at=entry.body["at"], effect=effect)
    elif effect == "withdraw_all":
        # Over already. More may still be withdrawn, never less.
        held = replace(held, effect=effect)
    standing = _with(standing, held)
    for child in standing.passed_on.get(held.grant.id, ()):
        # What was passed on ends with what it was taken from.
        standing = _revoke(standing, replace(entry, body={**entry.body, "grant_id": child}))
    return standing


def _use(standing: Standing, body: Mapping[str, Any], *, reserve: bool) -> Standing:
    video = VideoId(body["video_id"])
    for grant_id in _with_parents(standing, body["grant_ids"]):
        held = standing.grants.get(grant_id)
        if held is not None:
            spent = held.spent.set(video, None) if reserve else _without(held.spent, video)
            standing = _with(standing, replace(held, spent=spent))
    return standing


def _with_parents(standing: Standing, named: Iterable[str]) -> list[GrantId]:
    """A use of a grant that was passed on is one of the grant it was taken from, too."""
    found: dict[GrantId, None] = {}
    for name in map(GrantId, named):
        found[name] = None
        held = standing.grants.get(name)
        if held is not None and held.grant.parent is not None:
            found[GrantId(held.grant.parent)] = None
    return list(found)


def _with(standing: Standing, held: GrantStanding) -> Standing:
    return replace(standing, grants=Map(standing.grants).set(held.grant.id, held))


def _without(spent: Map[VideoId, None], video: VideoId) -> Map[VideoId, None]:
    return spent.delete(video) if video in spent else spent


def _give(standing: Standing, grant: Grant, index: LeafIndex) -> Standing:
    before = standing.given.get(grant.grantee)
    still = list(before.open) if before is not None else []
    insort(still, (grant.expires, index, grant.id))
    given = Map(standing.given).set(grant.grantee, _Given(grant.id, tuple(still)))
    passed_on = Map(standing.passed_on)
    if grant.parent is not None:
        above = GrantId(grant.parent)
        passed_on = passed_on.set(above, (*passed_on.get(above, ()), grant.id))
    return replace(standing, given=given, passed_on=passed_on)


def _end(standing: Standing, held: GrantStanding) -> Standing:
    before = standing.given[held.grant.grantee]
    still = tuple(one for one in before.open if one[2] != held.grant.id)
    return replace(standing, given=Map(standing.given).set(held.grant.grantee, replace(before, open=still)))
