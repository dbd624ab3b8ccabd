"""Standing consent: a pure fold over the ledger's entries about one likeness.

*Log order decides, never clocks.* A revocation counts from its place in the log on, whatever any clock said;
only a grant's own start and expiry are compared with `at`. Replaying the same entries always gives the same
answer, so an auditor can redo every decision. What stands is kept in persistent maps: one more entry costs the
same whether a person has signed one grant or ten thousand.

| kind         | effect                                                                 |
|--------------|------------------------------------------------------------------------|
| `enrolment`  | the likeness exists; who it belongs to, when they were born; what came in by a film waits |
| `grant`      | permission, until revoked; the first entry with an id is the only one; what passes one on that may not be, or allows more, is none |
| `revocation` | ends the grant it names, and what passes it on, for good; a later one may only widen its effect |
| `decision`   | an allowed one reserves one use of each grant it names                 |
| `returned`   | gives a reserved use back: the job made nothing that was released      |
| `approval`   | the last word of who may have one on a draft; a guardian's no is final |
| `erasure`    | the likeness is gone                                                   |
| `account`    | the first key that signs for this person                               |
| `device`     | a key more, or one less; what it signed before stays signed            |
| `age`        | what an issuer says; of several words the one for a minor counts       |
| `guardian`   | who co-signs and approves for a minor, and within what limits, or no longer |
| `estate`     | who acts for a person who has died, or no longer                       |
| `handover`   | a person who had a guardian is of age, and keeps their likeness        |
| `group`      | who is among the people this person approves of                        |
| `block`      | an app or person that may not use this likeness, whatever a grant says |
"""

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from immutables import Map

from ledger.consent.grant import Grant, Grantee, RevocationEffect, beyond, parse_grant
from ledger.consent.statement import Guardianship, Signer, device, parse_guardianship
from ledger.ids import CameoId, GrantId, LeafIndex, PersonId, VideoId

ADULT_YEARS = 18
COOLING_OFF = timedelta(hours=24)
"""How long a likeness that came in by a film is not used: time for whoever it really is to hear of it, and to say so."""
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
        return at.astimezone(UTC).date() < birthday(self.born_on, ADULT_YEARS)


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
    usable_from: datetime | None = None
    """Of a likeness that came in by a film; None where an operator had the person before them."""
    ages: tuple[Age, ...] = ()
    keys: Mapping[str, Signer] = _NOTHING
    """Those that sign for this person, by their id."""
    grants: Mapping[GrantId, GrantStanding] = _NOTHING
    approvals: Mapping[VideoId, Mapping[str, bool]] = _NOTHING
    """On each draft, the last word of each of those who may have one."""
    given: Mapping[Grantee, _Given] = _NOTHING
    passed_on: Mapping[GrantId, Mapping[GrantId, None]] = _NOTHING
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

    def cooling_off(self, at: datetime) -> bool:
        """Whether the likeness came in by a film, too short a time ago to be used."""
        return self.usable_from is not None and at < self.usable_from

    def minor(self, at: datetime) -> bool:
        """Whether the person is under 18 at `at`. Unknown age is a minor's, and one word for a minor is enough."""
        words = [word for age in self.ages if (word := age.minor(at)) is not None]
        return not words or any(words)

    def approved(self, video_id: VideoId, at: datetime) -> bool:
        """Whether this person's side lets a draft go out: for a minor, their guardian; and nobody said no."""
        words = self.approvals.get(video_id, _NOTHING)
        needed: tuple[Role, ...] = ("guardian",) if self.minor(at) else ("owner", "executor")
        return all(words.values()) and any(role in words for role in needed)

    def speaks(self, role: str) -> bool:
        """Whether anybody has this role, so that their yes counts. Of who has died, the executor speaks alone."""
        match role:
            case "owner":
                return self.executor is None
            case "guardian":
                return bool(self.guardians)
            case "executor":
                return self.executor is not None
            case _:
                return False

    def refused(self, video_id: VideoId) -> bool:
        return not all(self.approvals.get(video_id, _NOTHING).values())

    def live(self, held: GrantStanding, at: datetime) -> bool:
        """Whether a grant stands: in its time, not taken back, and this person's to give."""
        return held.live(at) and not self.lapsed(held, at) and (not self.minor(at) or self.guarded(held))

    def guarded(self, held: GrantStanding) -> bool:
        """Whether somebody who is a guardian still co-signed it."""
        return any(one in self.guardians for one in held.cosigned)

    def lapsed(self, held: GrantStanding, at: datetime) -> bool:
        """Whether a grant is over before its time.

        What guardians co-signed ends when the person comes of age; what was passed on, while whoever had it to pass
        on is blocked, and for a minor always.
        """
        if held.cosigned and not self.minor(at):
            return True
        above = self._above(held)
        return above is not None and (above.grant.grantee.id in self.blocked or self.minor(at))

    def delegable(self, grant_id: str) -> GrantStanding | None:
        """The grant with this id, if it stands and whoever it names may pass it on."""
        held = self.grants.get(GrantId(grant_id))
        if held is None or held.grant.delegate_key is None or held.revoked_index is not None:
            return None
        return None if held.grant.grantee.id in self.blocked else held

    def uses_left(self, held: GrantStanding) -> int:
        """How many uses are left, of this grant and of the one it passes on."""
        above = self._above(held)
        return held.uses_left if above is None else min(held.uses_left, above.uses_left)

    def _above(self, held: GrantStanding) -> GrantStanding | None:
        return self.grants.get(GrantId(held.grant.parent)) if held.grant.parent else None

    def signers(self, held_by: Role = "owner") -> tuple[Signer, ...]:
        """The keys that sign for this person, where an executor's sign, or a guardian's beside them."""
        match held_by:
            case "owner":
                return tuple(self.keys.values())
            case "executor":
                return self.executor_keys
            case "guardian":
                return tuple(key for one in self.guardians.values() for key in one.signers)

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
    if year > date.max.year:
        return date.max
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
            return _aged(standing, body["born_on"], body["over_18"])
        case "grant":
            cosigned = frozenset(PersonId(one["guardian"]) for one in body.get("cosignatures", ()))
            return _grant(standing, GrantStanding(parse_grant(body["grant"]), entry.index, cosigned=cosigned))
        case "revocation":
            return _revoke(standing, entry)
        case "decision" if body["allowed"]:
            return _use(standing, body, reserve=True)
        case "returned":
            return _use(standing, body, reserve=False)
        case "approval":
            return _approve(standing, VideoId(body["video_id"]), body.get("role", "owner"), body["approved"])
        case "guardian" | "estate" if body.get("role", "owner") != "owner":
            # The guardian's or executor's own copy: it is about somebody else's likeness.
            return standing
        case "guardian":
            return _guard(standing, body)
        case "estate":
            return _settle(standing, body)
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
    key = said.get("device_key")
    if key is not None and not standing.keys:
        # Whoever has an account brings their own keys: an operator adds none to them.
        standing = _key(standing, device(key), added=True)
    # As it was recorded, whatever a clock says later: the same list always gives the same answer.
    usable_from = datetime.fromisoformat(body["at"]) + COOLING_OFF if body.get("filmed") else None
    return replace(
        _aged(standing, said["born_on"], None), cameo_id=CameoId(body["cameo_id"]), usable_from=usable_from
    )


def _aged(standing: Standing, born: str | None, over_18: bool | None) -> Standing:
    age = Age(date.fromisoformat(born) if born else None, over_18)
    if (age.born_on, age.over_18) == (None, None):
        return standing
    # That somebody was not 18 yet was true when it was said; a birth date stays one.
    kept = tuple(one for one in standing.ages if one.born_on is not None or one.over_18)
    return replace(standing, ages=kept if age in kept else (*kept, age))


def _grant(standing: Standing, held: GrantStanding) -> Standing:
    grant = held.grant
    if grant.id in standing.grants:
        return standing
    if grant.parent is not None:
        above = standing.delegable(grant.parent)
        if above is None or beyond(grant, above.grant):
            return standing
        passed: Map[GrantId, None] = Map(standing.passed_on.get(above.grant.id, _NOTHING))
        passed_on = Map(standing.passed_on).set(above.grant.id, passed.set(grant.id, None))
        standing = replace(standing, passed_on=passed_on)
    before = standing.given.get(grant.grantee)
    still = list(before.open) if before is not None else []
    insort(still, (grant.expires, held.index, grant.id))
    given = Map(standing.given).set(grant.grantee, _Given(grant.id, tuple(still)))
    return _with(replace(standing, given=given), held)


def _approve(standing: Standing, video: VideoId, role: str, approved: bool) -> Standing:
    if approved and not standing.speaks(role):
        return standing
    words = Map(standing.approvals.get(video, _NOTHING))
    # Several guardians share their role: none of them takes back the no that another said.
    said = approved and (role != "guardian" or words.get(role, True))
    words = words.set(role, said)
    return replace(standing, approvals=Map(standing.approvals).set(video, words))


def _settle(standing: Standing, body: Mapping[str, Any]) -> Standing:
    executor = PersonId(body["executor"])
    if body["standing"]:
        signers = tuple(map(Signer.model_validate, body["signers"]))
        return replace(standing, executor=executor, executor_keys=signers)
    return replace(standing, executor=None, executor_keys=()) if standing.executor == executor else standing


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
        # Whoever gets a guardian, even once more, decides anew when they come of age.
        return replace(standing, guardians=guardians, had_guardian=True, handed_over=False)
    if guardian in guardians:
        guardians = guardians.delete(guardian)
    return replace(standing, guardians=guardians)


def _marked(marked: Mapping[Any, None], name: str, *, present: bool) -> Map[Any, None]:
    kept: Map[Any, None] = Map(marked)
    if present:
        return kept.set(name, None)
    return kept.delete(name) if name in kept else kept


def _revoke(standing: Standing, entry: Entry) -> Standing:
    named = GrantId(entry.body["grant_id"])
    if named not in standing.grants:
        return standing
    ended: list[GrantStanding] = []
    # What was passed on ends with what it was taken from.
    for grant_id in (named, *standing.passed_on.get(named, _NOTHING)):
        held = standing.grants[grant_id]
        withdrawn = "withdraw_all" in {entry.body["effect"], held.grant.revocation_effect}
        effect: RevocationEffect = "withdraw_all" if withdrawn else "stop_new"
        if held.revoked_index is None:
            ended.append(held)
            held = replace(held, revoked_index=entry.index, revoked_at=entry.body["at"], effect=effect)
        elif entry.body["effect"] == "withdraw_all" and not held.withdrawn:
            # Over already. More may still be withdrawn, never less.
            held = replace(held, effect=effect)
        else:
            continue
        standing = _with(standing, held)
    return _close(standing, ended)


def _close(standing: Standing, ended: Iterable[GrantStanding]) -> Standing:
    """Take what ended from what is open, once for each grantee however many it was."""
    by_grantee: dict[Grantee, set[GrantId]] = {}
    for held in ended:
        by_grantee.setdefault(held.grant.grantee, set()).add(held.grant.id)
    given = Map(standing.given)
    for grantee, gone in by_grantee.items():
        before = standing.given[grantee]
        still = tuple(one for one in before.open if one[2] not in gone)
        given = given.set(grantee, replace(before, open=still))
    return replace(standing, given=given)


def _use(standing: Standing, body: Mapping[str, Any], *, reserve: bool) -> Standing:
    video = VideoId(body["video_id"])
    for name in map(GrantId, body["grant_ids"]):
        held = standing.grants.get(name)
        if held is None or (video in held.spent) == reserve:
            continue
        # A use of what was passed on is one of the grant it was taken from, too.
        for one in (name, GrantId(held.grant.parent)) if held.grant.parent else (name,):
            used = standing.grants[one]
            spent = used.spent.set(video, None) if reserve else _without(used.spent, video)
            standing = _with(standing, replace(used, spent=spent))
    return standing


def _with(standing: Standing, held: GrantStanding) -> Standing:
    return replace(standing, grants=Map(standing.grants).set(held.grant.id, held))


def _without(spent: Map[VideoId, None], video: VideoId) -> Map[VideoId, None]:
    return spent.delete(video) if video in spent else spent
