"""Laws of standing consent: the fold against `consent_oracle.py`, which reads the whole list for every question.

Whatever is granted, passed on, taken back, blocked or said of somebody's age, in whatever order: what the fold lets
stand is what the oracle lets stand, nothing more and nothing less.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

import consent_oracle as oracle
from ledger.consent.authority import check_minor
from ledger.consent.fold import Entry, Standing, fold
from ledger.consent.grant import SCHEMA, Grantee, beyond, parse_grant
from ledger.consent.statement import encode_key
from ledger.errors import InvalidStatement
from ledger.ids import AppId, LeafIndex, PersonId, VideoId
from safety.decision import grantees_of

LAW = settings(deadline=None, max_examples=60)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
CAMEO, OWNER = "cameo_" + "a" * 26, "person_" + "b" * 26
APPS = [f"app_{letter * 26}" for letter in "cd"]
FRIENDS = [f"person_{letter * 26}" for letter in "ef"]
GUARDIANS = [f"person_{letter * 26}" for letter in "gh"]
GRANTS = [f"grant_{letter * 26}" for letter in "jkm"]
PASSED_ON = [f"grant_{letter * 26}" for letter in "npq"]
VIDEOS = [f"video_{letter * 26}" for letter in "rs"]
KEY = encode_key(Ed25519PrivateKey.generate().public_key())
EVERYONE, MUTUALS = {"type": "everyone", "id": "*"}, {"type": "group", "id": "mutuals"}
Body = dict[str, Any]


def zulu(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def some_of(*values: str, least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=len(values), unique=True)


grantees = st.sampled_from(
    [{"type": "app", "id": APPS[0]}] * 3
    + [{"type": "app", "id": APPS[1]}, {"type": "person", "id": FRIENDS[0]}, MUTUALS, EVERYONE]
)


def terms(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Body]:
    """A grant's fields: mostly narrow ones, so that one grant lies within another often enough."""

    def whole(drawn: Body) -> Body:
        begin = START + timedelta(days=drawn.pop("begin"))
        end = begin + timedelta(days=drawn.pop("days"))
        forbidden = [one for one in drawn["forbidden_contexts"] if one not in drawn["allowed_contexts"]]
        return {
            "schema": SCHEMA,
            "cameo_id": CAMEO,
            "grantor": OWNER,
            "issued": zulu(START),
            "starts": zulu(begin),
            "expires": zulu(end),
            "notice": {"sha256": "0" * 64, "version": "1"},
            "language": "en",
            **drawn,
            "forbidden_contexts": forbidden,
        }

    return st.fixed_dictionaries(
        {
            "grantee": grantees,
            "modalities": st.sampled_from([["face"], ["face"], ["face", "voice"]]),
            "purposes": st.sampled_from([["dpv:NonCommercialPurpose"]] * 2 + [["dpv:Advertising"]]),
            "allowed_contexts": some_of("political", "violent"),
            "forbidden_contexts": some_of("sexual", "romantic"),
            "actions": st.sampled_from([["generate"], ["generate"], ["generate", "remix"]]),
            "audience": st.sampled_from(["requester", "requester", "everyone"]),
            "max_uses": st.integers(1, 3),
            "begin": st.sampled_from([0, 0, 0, 5]),
            "days": st.sampled_from([10, 20, 30, 365, 400]),
            "jurisdictions": st.sampled_from([["*"], ["*"], ["DE"], ["DE", "FR"]]),
            "approval": st.sampled_from(["none", "before_release", "before_release"]),
            "revocation_effect": st.sampled_from(["stop_new", "stop_new", "withdraw_all"]),
            "preferences": some_of("no alcohol"),
            "delegate_key": st.none(),
            "parent": st.none(),
            **fields,
        }
    ).map(whole)


def narrowed(parent: Body, grant_id: str, grantee: Body, pick: int) -> Body:
    """What somebody passes on: the same in all but the grantee, or in one more thing too narrow or too wide."""
    change: list[Body] = [
        {},
        {},
        {"max_uses": 1},
        {"max_uses": 4},
        {"audience": "everyone"},
        {"preferences": []},
        {"allowed_contexts": []},
        {"jurisdictions": ["DE"]},
        {"approval": "before_release"},
        {"approval": "none"},
    ]
    return {
        **parent,
        "grant_id": grant_id,
        "grantee": grantee,
        "delegate_key": None,
        "parent": parent["grant_id"],
        **change[pick],
    }


def event(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Body]:
    return st.fixed_dictionaries(fields).map(lambda body: {"kind": kind, "at": zulu(START), **body})


def guardianship(guardian: str, max_uses: int) -> Body:
    return {
        "schema": "countersign/guardianship/v1",
        "guardian": guardian,
        "ward": OWNER,
        "relation": "parent",
        "max_uses": max_uses,
        "with_adults": False,
        "issued": zulu(START),
    }


def cosigned(names: Sequence[str]) -> list[Body]:
    return [{"guardian": name} for name in names]


births = st.sampled_from([None, "1980-01-01", "2008-03-11", "2008-02-29", "2015-06-01"])
ages = event("age", issuer=st.just("i"), born_on=births, over_18=st.sampled_from([None, True, False]))
enrolments = event(
    "enrolment",
    cameo_id=st.just(CAMEO),
    enrolment=st.fixed_dictionaries({"born_on": births}),
)
grown = st.sampled_from([[], [], [], cosigned(GUARDIANS[:1]), cosigned(GUARDIANS)])
roots = event(
    "grant",
    grant=terms(grant_id=st.sampled_from(GRANTS), delegate_key=st.sampled_from([None, KEY, KEY])),
    cosignatures=grown,
)
revocations = event(
    "revocation",
    grant_id=st.sampled_from(GRANTS + PASSED_ON),
    effect=st.sampled_from(["stop_new", "withdraw_all"]),
)
one_grant = st.sampled_from(GRANTS + PASSED_ON).map(lambda one: [one])
decisions = event("decision", video_id=st.sampled_from(VIDEOS), grant_ids=one_grant, allowed=st.booleans())
wards = event(
    "guardian",
    guardianship=st.builds(guardianship, st.sampled_from(GUARDIANS), st.integers(1, 3)),
    standing=st.sampled_from([True, True, False]),
    signers=st.just([]),
)
estates = event(
    "estate",
    executor=st.sampled_from(FRIENDS),
    standing=st.sampled_from([True, True, False]),
    signers=st.just([]),
)
blocks = event("block", target=st.sampled_from(APPS + FRIENDS), blocked=st.sampled_from([True, True, False]))
groups = event("group", person_id=st.sampled_from(FRIENDS), member=st.sampled_from([True, True, False]))
approvals = event(
    "approval",
    video_id=st.sampled_from(VIDEOS[:1]),
    approved=st.sampled_from([True, True, False]),
    role=st.sampled_from(["owner", "guardian", "executor"]),
)
others = st.one_of(event("handover"), event("audit"), event("erasure"))
usual = st.one_of(roots, roots, decisions, revocations, wards, blocks, groups, ages, estates, approvals)
rare = st.integers(0, 9).flatmap(lambda n: others if n == 0 else usual)


@st.composite
def stories(draw: st.DrawFn) -> list[Body]:
    """A list, as a service might write it that checks nothing: uses are returned as they were taken."""
    story = [draw(enrolments)] if draw(st.integers(0, 9)) else []
    taken: list[tuple[str, list[str]]] = []
    for _ in range(draw(st.integers(0, 14))):
        given_out = [one["grant"] for one in story if one["kind"] == "grant"]
        # Passing on what was passed on is tried too, but a grant that passes on itself can not even be written.
        name = draw(st.sampled_from(PASSED_ON))
        given_out = [one for one in given_out if one["grant_id"] != name]
        pick = draw(st.integers(0, 9))
        if pick < 3 and given_out:
            child = narrowed(
                draw(st.sampled_from(given_out)),
                name,
                draw(grantees),
                draw(st.integers(0, 9)),
            )
            told = {"kind": "grant", "at": zulu(START), "grant": child}
            story.append(told)
        elif pick == 3 and taken:
            video, grant_ids = taken.pop()
            story.append({"kind": "returned", "at": zulu(START), "video_id": video, "grant_ids": grant_ids})
        else:
            story.append(draw(rare))
            if story[-1]["kind"] == "decision" and story[-1]["allowed"]:
                taken.append((story[-1]["video_id"], story[-1]["grant_ids"]))
    return story


moments = st.sampled_from([0, 1, 6, 9, 10, 11, 15, 31, 400]).map(lambda days: START + timedelta(days=days))


def folded(story: Sequence[Mapping[str, Any]]) -> Standing:
    return fold(Entry(LeafIndex(n), body["kind"], body) for n, body in enumerate(story))


def usable(standing: Standing, app: str, person: str | None, at: datetime) -> set[str]:
    """What the gate would try: the candidates, with what it asks of each."""
    if not standing.in_use(at) or app in standing.blocked or person in standing.blocked:
        return set()
    who = grantees_of(AppId(app), PersonId(person) if person else None, standing)
    found = standing.candidates(who, at)
    return {str(one.grant.id) for one in found if standing.live(one, at) and standing.uses_left(one) > 0}


# ── the fold and the oracle ───────────────────────────────────────────────────────────────────────────────


@LAW
@given(stories(), moments)
def test_nothing_stands_that_the_oracle_denies_nor_the_reverse(story: list[Body], at: datetime) -> None:
    standing = folded(story)
    for app in APPS:
        for person in (None, *FRIENDS):
            assert usable(standing, app, person, at) == oracle.usable(story, app, person, at)
    assert standing.minor(at) == oracle.is_minor(story, at)
    assert set(standing.guardians) == set(oracle.guardians(story))
    assert standing.executor == oracle.executor(story)
    assert standing.approved(VideoId(VIDEOS[0]), at) == oracle.approved(story, VIDEOS[0], at)
    assert set(standing.grants) == {
        one for one in GRANTS + PASSED_ON if oracle.place_of(story, one) is not None
    }
    for grant_id, held in standing.grants.items():
        assert held.effect == oracle.taken_back(story, grant_id)
        assert (held.revoked_index is None) == (held.effect is None)
        assert set(held.uses) == oracle.uses(story, grant_id)


@LAW
@given(stories(), st.data())
def test_the_fold_goes_on_from_wherever_it_was(story: list[Body], data: st.DataObject) -> None:
    entries = [Entry(LeafIndex(n), body["kind"], body) for n, body in enumerate(story)]
    place = data.draw(st.integers(0, len(entries)))
    assert fold(entries[place:], fold(entries[:place])) == fold(entries)


@LAW
@given(stories(), stories(), moments)
def test_what_was_taken_back_never_stands_again_whatever_follows(
    before: list[Body], after: list[Body], at: datetime
) -> None:
    then, later = folded(before), folded(before + after)
    for grant_id, held in then.grants.items():
        now = later.grants[grant_id]
        if held.revoked_index is not None:
            assert not later.live(now, at)
            assert now.revoked_index == held.revoked_index
            assert now.withdrawn or not held.withdrawn


@LAW
@given(stories())
def test_what_is_passed_on_is_never_used_more_than_what_it_comes_from(story: list[Body]) -> None:
    standing = folded(story)
    for held in standing.grants.values():
        if held.grant.parent is not None:
            above = standing.grants[held.grant.parent]  # type: ignore[index]
            assert held.uses <= above.uses
            assert not beyond(held.grant, above.grant)
            assert above.grant.parent is None
            assert above.revoked_index is None or held.revoked_index is not None


# ── delegation only narrows ───────────────────────────────────────────────────────────────────────────────

ASKED = st.fixed_dictionaries(
    {
        "modality": st.sampled_from(["face", "voice"]),
        "purpose": st.sampled_from(["dpv:NonCommercialPurpose", "dpv:Advertising"]),
        "action": st.sampled_from(["generate", "remix"]),
        "audience": st.sampled_from(["requester", "everyone"]),
        "context": st.sampled_from(["political", "violent", "sexual", "romantic", None]),
        "country": st.sampled_from(["DE", "FR", "US"]),
        "hours": st.integers(-1, 410 * 24),
        "used": st.integers(0, 3),
        "shows": st.sampled_from(["no alcohol", None]),
        "seen_first": st.booleans(),
    }
)


def lets(grant: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether one request, of the plainest kind, is within a grant."""
    at = START + timedelta(hours=asked["hours"])
    return (
        asked["modality"] in grant["modalities"]
        and asked["purpose"] in grant["purposes"]
        and asked["action"] in grant["actions"]
        and asked["audience"] in ("requester", grant["audience"])
        and (asked["context"] is None or asked["context"] in grant["allowed_contexts"])
        and asked["context"] not in grant["forbidden_contexts"]
        and ("*" in grant["jurisdictions"] or asked["country"] in grant["jurisdictions"])
        and oracle.moment(grant["starts"]) <= at < oracle.moment(grant["expires"])
        and asked["used"] < grant["max_uses"]
        and asked["shows"] not in grant["preferences"]
        and (asked["seen_first"] or grant["approval"] == "none")
    )


@LAW
@given(terms(grant_id=st.just(GRANTS[0]), delegate_key=st.just(KEY)), st.data())
def test_whatever_a_narrower_grant_lets_the_wider_one_lets(parent: Body, data: st.DataObject) -> None:
    child = data.draw(
        terms(grant_id=st.just(PASSED_ON[0]), parent=st.just(parent["grant_id"]))
        | st.builds(narrowed, st.just(parent), st.just(PASSED_ON[0]), grantees, st.integers(0, 9))
    )
    wider = beyond(parse_grant(child), parse_grant(parent))
    assert (not wider) == oracle.is_narrower(child, parent)
    if not wider:
        for asked in data.draw(st.lists(ASKED, min_size=5, max_size=20)):
            assert lets(parent, asked) or not lets(child, asked)


PARENT: Body = {
    "schema": SCHEMA,
    "grant_id": GRANTS[0],
    "cameo_id": CAMEO,
    "grantor": OWNER,
    "grantee": {"type": "app", "id": APPS[0]},
    "modalities": ["face"],
    "purposes": ["dpv:NonCommercialPurpose"],
    "allowed_contexts": ["political"],
    "forbidden_contexts": ["sexual"],
    "actions": ["generate"],
    "audience": "requester",
    "max_uses": 3,
    "issued": zulu(START),
    "starts": zulu(START),
    "expires": zulu(START + timedelta(days=30)),
    "jurisdictions": ["DE"],
    "approval": "before_release",
    "revocation_effect": "withdraw_all",
    "preferences": ["no alcohol"],
    "delegate_key": KEY,
    "parent": None,
    "notice": {"sha256": "0" * 64, "version": "1"},
    "language": "en",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grantor", FRIENDS[0]),
        ("cameo_id", "cameo_" + "z" * 26),
        ("grantee", EVERYONE),
        ("grantee", MUTUALS),
        ("modalities", ["face", "voice"]),
        ("purposes", ["dpv:NonCommercialPurpose", "dpv:Advertising"]),
        ("allowed_contexts", ["political", "violent"]),
        ("forbidden_contexts", []),
        ("actions", ["generate", "remix"]),
        ("audience", "everyone"),
        ("max_uses", 4),
        ("starts", zulu(START - timedelta(seconds=1))),
        ("expires", zulu(START + timedelta(days=30, seconds=1))),
        ("jurisdictions", ["DE", "FR"]),
        ("jurisdictions", ["*"]),
        ("approval", "none"),
        ("revocation_effect", "stop_new"),
        ("preferences", []),
    ],
    ids=str,
)
def test_what_is_passed_on_is_wider_in_no_field(field: str, value: Any) -> None:
    child = narrowed(PARENT, PASSED_ON[0], {"type": "app", "id": APPS[1]}, 0)
    assert beyond(parse_grant(child), parse_grant(PARENT)) == []
    assert beyond(parse_grant({**child, field: value}), parse_grant(PARENT)) == [field]


# ── the rules for minors ──────────────────────────────────────────────────────────────────────────────────


@LAW
@given(
    births=st.lists(ages, max_size=2),
    accepted=st.lists(wards, max_size=3),
    signed=some_of(*GUARDIANS),
    grant=terms(
        grant_id=st.just(GRANTS[0]),
        delegate_key=st.sampled_from([None, None, None, KEY]),
        allowed_contexts=st.sampled_from([[], [], ["political"], ["violent"], ["romantic"]]),
        approval=st.sampled_from(["before_release", "before_release", "before_release", "none"]),
    ),
)
def test_no_grant_overrides_a_rule_for_minors(
    births: list[Body], accepted: list[Body], signed: list[str], grant: Body
) -> None:
    story = [*births, *accepted]
    parsed = parse_grant(grant)
    try:
        check_minor(folded(story), parsed, signed, at=START)
    except InvalidStatement as error:
        refused = error.reason.id
    else:
        refused = ""
    if oracle.is_minor(story, START):
        assert (not refused) == oracle.a_minor_may_sign(story, grant, signed), refused
    else:
        assert (not refused) == (not signed), refused


@LAW
@given(stories(), moments, st.sampled_from(APPS))
def test_whatever_is_granted_a_minor_is_used_only_under_a_guardian_who_still_is_one(
    story: list[Body], at: datetime, app: str
) -> None:
    standing = folded(story)
    if not standing.minor(at):
        return
    for name in usable(standing, app, None, at):
        held = next(held for held in standing.grants.values() if held.grant.id == name)
        assert held.cosigned & set(standing.guardians)
        assert held.grant.parent is None


# ── single cases ──────────────────────────────────────────────────────────────────────────────────────────


def born(*days: str | None, over_18: bool | None = None) -> list[Body]:
    return [{"kind": "age", "at": "", "issuer": "i", "born_on": day, "over_18": over_18} for day in days]


def test_of_two_birth_dates_the_one_of_a_minor_counts() -> None:
    standing = folded(born("1980-01-01", "2015-06-01"))
    assert standing.minor(START)
    assert standing.born_on == date(2015, 6, 1)
    assert not standing.minor(START.replace(year=2033, month=6))


def test_not_yet_18_is_true_when_it_is_said_and_gives_way_to_a_later_word() -> None:
    told = born(None, over_18=False)
    assert folded(told).minor(START)
    assert not folded(told + born(None, over_18=True)).minor(START)
    assert not folded([*born("1980-01-01"), *told, *born("1980-01-01")]).minor(START)
    assert folded(born(None, over_18=True) + told).minor(START)
    # A word that says nothing takes nothing back.
    assert folded([*born(None, over_18=True), *told, *born(None)]).minor(START)


def test_a_birth_date_at_the_end_of_time_is_a_minors() -> None:
    assert folded(born("9999-12-31")).minor(START)


def test_who_gets_a_guardian_again_decides_anew_when_they_are_of_age() -> None:
    """Otherwise a handover, once made, would count for a childhood that had not been over."""
    enrolled = {"kind": "enrolment", "at": "", "cameo_id": CAMEO, "enrolment": {"born_on": "2008-02-28"}}
    ward: Body = {"kind": "guardian", "at": "", "standing": True, "signers": []}
    ward["guardianship"] = guardianship(GUARDIANS[0], 3)
    handed = {"kind": "handover", "at": ""}
    assert not folded([enrolled, ward]).in_use(START)
    assert folded([enrolled, ward, handed]).in_use(START)
    assert not folded([enrolled, ward, handed, ward]).in_use(START)
    # … and losing the guardian is no decision either.
    assert not folded([enrolled, ward, {**ward, "standing": False}]).in_use(START)


def test_a_guardians_own_copy_makes_nobody_their_guardian() -> None:
    copy: Body = {"kind": "guardian", "at": "", "standing": True, "signers": [], "role": "guardian"}
    copy |= {"guardianship": guardianship(GUARDIANS[0], 3), "person_id": OWNER}
    estate: Body = {"kind": "estate", "at": "", "standing": True, "signers": [], "role": "executor"}
    standing = folded([copy, {**estate, "executor": FRIENDS[0]}])
    assert (dict(standing.guardians), standing.executor) == ({}, None)


def test_an_estate_that_is_over_leaves_nobody_to_sign() -> None:
    key = {"id": KEY, "kind": "device", "public_key": KEY, "rp_id": "", "origin": ""}
    stands = {"kind": "estate", "at": "", "executor": FRIENDS[0], "standing": True, "signers": [key]}
    over = {**stands, "standing": False}
    assert [one.id for one in folded([stands]).signers("executor")] == [KEY]
    assert folded([stands, over]).signers("executor") == ()
    # The end of somebody else's is not the end of this one.
    assert folded([stands, {**over, "executor": FRIENDS[1]}]).executor == FRIENDS[0]


def test_thousands_of_grants_passed_on_end_with_one_entry_in_no_time() -> None:
    """An app that passes on without end must not stop the log for everybody when its owner has had enough."""
    many = [narrowed(PARENT, f"grant_{n:026d}", {"type": "app", "id": APPS[1]}, 0) for n in range(3_000)]
    story = [{"kind": "grant", "at": "", "grant": one} for one in [PARENT, *many]]
    standing = folded(story)
    assert len(standing.passed_on[parse_grant(PARENT).id]) == 3_000
    began = datetime.now(UTC)
    ended = {"kind": "revocation", "at": "", "grant_id": PARENT["grant_id"], "effect": "stop_new"}
    standing = fold([Entry(LeafIndex(20_000), "revocation", ended)], standing)
    assert datetime.now(UTC) - began < timedelta(seconds=5)
    # What was passed on promised more than the parent's revocation says.
    assert {held.effect for held in standing.grants.values()} == {"withdraw_all"}
    everyone = [Grantee(type="app", id=app) for app in APPS]
    assert not any(standing.live(one, START) for one in standing.candidates(everyone, START))
