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
"""

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from immutables import Map

from ledger.consent.grant import Grant, Grantee, RevocationEffect, parse_grant
from ledger.ids import CameoId, GrantId, LeafIndex, VideoId

ADULT_YEARS = 18
_NOTHING: Map[Any, Any] = Map()


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
class Standing:
    """What one person's likeness allows, as of the last entry folded."""

    cameo_id: CameoId | None = None
    born_on: date | None = None
    erased: bool = False
    grants: Mapping[GrantId, GrantStanding] = _NOTHING
    approvals: Mapping[VideoId, bool] = _NOTHING
    given: Mapping[Grantee, _Given] = _NOTHING

    @property
    def active(self) -> bool:
        return self.cameo_id is not None and not self.erased

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
                if held.live(at) and held.uses_left:
                    found.append(held)
        newest = (self.grants[one.newest] for one in given)
        found.sort(key=lambda held: (held.grant.expires, held.index))
        return found or sorted(newest, key=lambda held: held.index)[-1:]

    def minor(self, at: datetime) -> bool:
        """Whether the person is under 18 at `at`. Unknown age is a minor's age."""
        if self.born_on is None:
            return True
        today, born = at.date(), self.born_on
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day)) < ADULT_YEARS


def fold(entries: Iterable[Entry], onto: Standing | None = None) -> Standing:
    """Replay entries in log order, onto what stood before them. Entries about things never granted change nothing."""
    standing, last = onto or Standing(), -1
    for entry in entries:
        if entry.index <= last:
            raise ValueError(f"entry {entry.index} is out of log order")
        last = entry.index
        standing = _step(standing, entry)
    return standing


def _step(standing: Standing, entry: Entry) -> Standing:  # noqa: PLR0911 — one arm for each kind
    body = entry.body
    match entry.kind:
        case "enrolment":
            born = body["enrolment"]["born_on"]
            return replace(
                standing,
                cameo_id=CameoId(body["cameo_id"]),
                born_on=date.fromisoformat(born) if born else None,
            )
        case "grant":
            grant = parse_grant(body["grant"])
            if grant.id in standing.grants:
                return standing
            return _give(_with(standing, GrantStanding(grant, entry.index)), grant, entry.index)
        case "revocation":
            return _revoke(standing, entry)
        case "decision" if body["allowed"]:
            return _use(standing, body, reserve=True)
        case "returned":
            return _use(standing, body, reserve=False)
        case "approval":
            approvals = Map(standing.approvals).set(VideoId(body["video_id"]), body["approved"])
            return replace(standing, approvals=approvals)
        case "erasure":
            return replace(standing, erased=True)
        case _:
            return standing


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
    return _with(standing, held)


def _use(standing: Standing, body: Mapping[str, Any], *, reserve: bool) -> Standing:
    video = VideoId(body["video_id"])
    for grant_id in body["grant_ids"]:
        held = standing.grants.get(GrantId(grant_id))
        if held is not None:
            spent = held.spent.set(video, None) if reserve else _without(held.spent, video)
            standing = _with(standing, replace(held, spent=spent))
    return standing


def _with(standing: Standing, held: GrantStanding) -> Standing:
    return replace(standing, grants=Map(standing.grants).set(held.grant.id, held))


def _without(spent: Map[VideoId, None], video: VideoId) -> Map[VideoId, None]:
    return spent.delete(video) if video in spent else spent


def _give(standing: Standing, grant: Grant, index: LeafIndex) -> Standing:
    before = standing.given.get(grant.grantee)
    still = list(before.open) if before is not None else []
    insort(still, (grant.expires, index, grant.id))
    given = Map(standing.given).set(grant.grantee, _Given(grant.id, tuple(still)))
    return replace(standing, given=given)


def _end(standing: Standing, held: GrantStanding) -> Standing:
    before = standing.given[held.grant.grantee]
    still = tuple(one for one in before.open if one[2] != held.grant.id)
    return replace(standing, given=Map(standing.given).set(held.grant.grantee, replace(before, open=still)))
