"""Standing consent as laws, beside a second reading of the log in plain Python."""

import copy
from calendar import isleap
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.consent.fold import Entry, GrantStanding, Standing, fold
from ledger.consent.grant import SCHEMA
from ledger.ids import GrantId, LeafIndex, VideoId

LAW = settings(deadline=None, max_examples=70)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
CAMEO = "cameo_" + "a" * 26
PERSON = "person_" + "b" * 26
GRANTS = [GrantId(f"grant_{letter * 26}") for letter in "cd"]
VIDEOS = [VideoId(f"video_{letter * 26}") for letter in "fghj"]


def zulu(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def terms(grant_id: str, *, max_uses: int = 2, starts: int = 0, days: int = 30) -> dict[str, Any]:
    begin = START + timedelta(days=starts)
    return {
        "schema": SCHEMA,
        "grant_id": grant_id,
        "cameo_id": CAMEO,
        "grantor": PERSON,
        "grantee": {"type": "everyone", "id": "*"},
        "modalities": ["face"],
        "purposes": ["dpv:NonCommercialPurpose"],
        "allowed_contexts": [],
        "forbidden_contexts": [],
        "actions": ["generate"],
        "audience": "requester",
        "max_uses": max_uses,
        "issued": zulu(START),
        "starts": zulu(begin),
        "expires": zulu(begin + timedelta(days=days)),
        "jurisdictions": ["*"],
        "approval": "none",
        "revocation_effect": "stop_new",
        "preferences": [],
        "delegate_key": None,
        "parent": None,
        "notice": {"sha256": "0" * 64, "version": "1"},
        "language": "en",
    }


# ── bodies of entries, with clocks that say anything ──────────────────────────────────────────────────────

Body = Mapping[str, Any]
clocks = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(zulu)  # noqa: DTZ001 — only written out
grant_ids = st.sampled_from(GRANTS)
videos = st.sampled_from(VIDEOS[:2])
effects = st.sampled_from(["stop_new", "withdraw_all"])


def bodies(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, Body]]:
    return st.fixed_dictionaries({"at": clocks, **fields}).map(lambda body: (kind, {"kind": kind, **body}))


grants = bodies(
    "grant",
    grant=st.builds(
        terms,
        grant_ids,
        max_uses=st.integers(1, 3),
        starts=st.integers(-20, 20),
        days=st.integers(1, 40),
    ),
)
revocations = bodies("revocation", grant_id=grant_ids, effect=effects)
decisions = bodies(
    "decision",
    allowed=st.booleans(),
    video_id=videos,
    grant_ids=st.lists(grant_ids, max_size=2, unique=True),
)
returns = bodies("returned", video_id=videos, grant_ids=st.lists(grant_ids, max_size=2, unique=True))
others = st.one_of(
    bodies("approval", video_id=videos, approved=st.booleans()),
    bodies("release", video_id=videos),
    bodies("enrolment", cameo_id=st.just(CAMEO), enrolment=st.just({"born_on": "1980-01-01"})),
    bodies("a kind of the year 2040"),
)
events = st.one_of(grants, revocations, decisions, returns, others)
stories = st.lists(events, max_size=6) | st.lists(events, min_size=7, max_size=20)
moments = st.integers(-30 * 24, 80 * 24).map(lambda hours: START + timedelta(hours=hours))


def entries(story: Sequence[tuple[str, Body]], gaps: Sequence[int] = ()) -> list[Entry]:
    """The story at its places in the log; entries about other people may lie between."""
    index, placed = -1, []
    for at, (kind, body) in enumerate(story):
        index += 1 + (gaps[at] if at < len(gaps) else 0)
        placed.append(Entry(LeafIndex(index), kind, body))
    return placed


# ── the second reading ────────────────────────────────────────────────────────────────────────────────────


def usable(story: Sequence[tuple[str, Body]], grant_id: GrantId, at: datetime) -> tuple[bool, int, bool]:
    """(live, uses left, withdrawn) of one grant, read off the story without keeping any state."""
    told = [
        body["grant"] for kind, body in story if kind == "grant" and body["grant"]["grant_id"] == grant_id
    ]
    if not told:
        return False, 0, False
    first = told[0]
    written = next(
        at
        for at, (kind, body) in enumerate(story)
        if kind == "grant" and body["grant"]["grant_id"] == grant_id
    )
    after = story[written:]
    taken_back = [
        body["effect"] for kind, body in after if kind == "revocation" and body["grant_id"] == grant_id
    ]
    videos = set()
    for kind, body in after:
        if grant_id not in body.get("grant_ids", ()):
            continue
        if kind == "decision" and body["allowed"]:
            videos.add(body["video_id"])
        if kind == "returned":
            videos.discard(body["video_id"])
    live = not taken_back and first["starts"] <= zulu(at) < first["expires"]
    return live, max(0, first["max_uses"] - len(videos)), "withdraw_all" in taken_back


@LAW
@given(stories, st.lists(st.integers(0, 5), max_size=25), moments)
def test_the_fold_and_a_plain_reading_of_the_log_agree(
    story: list[tuple[str, Body]], gaps: list[int], at: datetime
) -> None:
    standing = fold(entries(story, gaps))
    for grant_id in GRANTS:
        held = standing.grants.get(grant_id)
        folded = (held.live(at), held.uses_left, held.withdrawn) if held else (False, 0, False)
        assert folded == usable(story, grant_id, at)


# ── laws ──────────────────────────────────────────────────────────────────────────────────────────────────


@LAW
@given(stories, st.lists(st.tuples(clocks, clocks), min_size=20, max_size=20))
def test_order_decides_and_no_clock_in_an_entry_does(
    story: list[tuple[str, Body]], times: list[tuple[str, str]]
) -> None:
    """A service with a false clock, or an owner who writes an early date, moves nothing."""
    rewritten = [(kind, {**body, "at": time}) for (kind, body), (time, _) in zip(story, times, strict=False)]

    def without_clock(standing: Standing) -> list[tuple[Any, ...]]:
        return [
            (held.grant, held.index, held.uses, held.revoked_index, held.effect)
            for held in standing.grants.values()
        ]

    assert without_clock(fold(entries(story))) == without_clock(fold(entries(rewritten)))


def test_a_revocation_dated_before_its_grant_still_ends_it_and_one_logged_before_it_does_not() -> None:
    grant = ("grant", {"at": zulu(START), "grant": terms(GRANTS[0])})
    ended = ("revocation", {"at": "2001-01-01T00:00:00Z", "grant_id": GRANTS[0], "effect": "stop_new"})
    assert not fold(entries([grant, ended])).grants[GRANTS[0]].live(START)
    assert fold(entries([ended, grant])).grants[GRANTS[0]].live(START)


@LAW
@given(stories, stories, moments)
def test_what_was_taken_back_never_stands_again(
    before: list[tuple[str, Body]], after: list[tuple[str, Body]], at: datetime
) -> None:
    then, later = fold(entries(before)), fold(entries(before + after))
    for grant_id, held in then.grants.items():
        now = later.grants[grant_id]
        if held.revoked_index is not None:
            assert not now.live(at)
            assert (now.revoked_index, now.revoked_at) == (held.revoked_index, held.revoked_at)
            assert now.withdrawn or not held.withdrawn


@LAW
@given(stories)
def test_a_video_counts_once_and_uses_left_is_never_negative(story: list[tuple[str, Body]]) -> None:
    for held in fold(entries(story)).grants.values():
        assert 0 <= held.uses_left <= held.grant.max_uses
        assert len(held.uses) <= len(VIDEOS)


@LAW
@given(
    st.lists(st.tuples(st.sampled_from(["ask", "return", "revoke"]), st.sampled_from(VIDEOS)), max_size=30)
)
def test_whoever_asks_the_fold_first_never_exceeds_the_uses_granted(steps: list[tuple[str, VideoId]]) -> None:
    """The gate's loop: a use is reserved only while the fold shows one left."""
    story: list[tuple[str, Body]] = [("grant", {"at": zulu(START), "grant": terms(GRANTS[0], max_uses=2)})]
    for step, video in steps:
        held = fold(entries(story)).grants[GRANTS[0]]
        if step == "ask":
            allowed = held.live(START) and held.uses_left > 0
            body = {"at": zulu(START), "allowed": allowed, "video_id": video, "grant_ids": [GRANTS[0]]}
            story.append(("decision", body))
        elif step == "return":
            story.append(("returned", {"at": zulu(START), "video_id": video, "grant_ids": [GRANTS[0]]}))
        else:
            body = {"at": zulu(START), "grant_id": GRANTS[0], "effect": "stop_new"}
            story.append(("revocation", body))
        assert len(fold(entries(story)).grants[GRANTS[0]].uses) <= 2


def test_a_refused_decision_takes_no_use_and_a_failed_job_gives_its_own_back() -> None:
    def about(video: VideoId, **fields: Any) -> Body:
        return {"at": zulu(START), "video_id": video, "grant_ids": [GRANTS[0]], **fields}

    story: list[tuple[str, Body]] = [("grant", {"at": zulu(START), "grant": terms(GRANTS[0])})]
    for kind, body, left in [
        ("decision", about(VIDEOS[0], allowed=False), 2),
        ("decision", about(VIDEOS[0], allowed=True), 1),
        ("decision", about(VIDEOS[0], allowed=True), 1),
        ("returned", about(VIDEOS[1]), 1),
        ("release", about(VIDEOS[0]), 1),
        ("returned", about(VIDEOS[0]), 2),
        ("returned", about(VIDEOS[0]), 2),
    ]:
        story.append((kind, body))
        assert fold(entries(story)).grants[GRANTS[0]].uses_left == left


@LAW
@given(stories, st.builds(terms, grant_ids, max_uses=st.integers(1, 1000), days=st.integers(1, 400)))
def test_the_first_entry_with_a_grants_id_is_the_only_one(
    story: list[tuple[str, Body]], again: dict[str, Any]
) -> None:
    """Otherwise a second entry could widen a grant, or bring a revoked one back."""
    grant_id = GrantId(again["grant_id"])
    before = fold(entries(story))
    after = fold(entries([*story, ("grant", {"at": zulu(START), "grant": again})]))
    if grant_id in before.grants:
        assert after == before
    else:
        assert after.grants[grant_id].index == len(story)


@LAW
@given(stories.filter(lambda story: len(story) > 1), st.data())
def test_entries_out_of_log_order_are_refused(story: list[tuple[str, Body]], data: st.DataObject) -> None:
    placed = entries(story)
    at = data.draw(st.integers(0, len(placed) - 2))
    placed[at], placed[at + 1] = placed[at + 1], placed[at]
    with pytest.raises(ValueError, match="out of log order"):
        fold(placed)


@LAW
@given(stories.filter(bool))
def test_an_entry_given_twice_is_refused(story: list[tuple[str, Body]]) -> None:
    placed = entries(story)
    with pytest.raises(ValueError, match="out of log order"):
        fold([*placed, placed[-1]])


@LAW
@given(stories, stories)
def test_the_fold_is_pure_and_goes_on_from_where_it_was(
    before: list[tuple[str, Body]], after: list[tuple[str, Body]]
) -> None:
    placed = entries(before + after)
    kept = copy.deepcopy(placed)
    prefix = fold(placed[: len(before)])
    remembered = copy.deepcopy(prefix)
    whole = fold(placed)
    assert fold(placed) == whole == fold(iter(placed))
    assert placed == kept, "the fold changed what it read"
    assert prefix == remembered, "folding on changed an earlier answer"


@LAW
@given(stories, st.lists(grant_ids, max_size=2, unique=True), clocks)
def test_entries_about_grants_never_made_change_nothing(
    story: list[tuple[str, Body]], named: list[GrantId], clock: str
) -> None:
    unknown = [f"grant_{'z' * 26}" for _ in named] or [f"grant_{'y' * 26}"]
    noise: list[tuple[str, Body]] = [
        ("revocation", {"at": clock, "grant_id": unknown[0], "effect": "withdraw_all"}),
        ("decision", {"at": clock, "allowed": True, "video_id": VIDEOS[0], "grant_ids": unknown}),
        ("returned", {"at": clock, "video_id": VIDEOS[0], "grant_ids": unknown}),
    ]
    assert fold(entries(story + noise)) == fold(entries(story))


@LAW
@given(stories, moments)
def test_a_grant_stands_from_its_start_until_just_before_its_end(
    story: list[tuple[str, Body]], at: datetime
) -> None:
    for held in fold(entries(story)).grants.values():
        assert not held.live(held.grant.expires)
        assert not held.live(held.grant.starts - timedelta(seconds=1))
        assert held.live(held.grant.starts) == (held.revoked_index is None)
        assert held.live(held.grant.expires - timedelta(seconds=1)) == (held.revoked_index is None)
        assert not held.live(at) or held.grant.starts <= at < held.grant.expires


def test_an_erased_likeness_is_not_active_again() -> None:
    enrolment = ("enrolment", {"at": "", "cameo_id": CAMEO, "enrolment": {"born_on": None}})
    assert not fold([]).active
    assert fold(entries([enrolment])).active
    assert not fold(entries([enrolment, ("erasure", {})])).active
    assert not fold(entries([enrolment, ("erasure", {}), enrolment])).active


def test_a_standing_cannot_be_changed_from_outside() -> None:
    held = fold(entries([("grant", {"at": "", "grant": terms(GRANTS[0])})])).grants[GRANTS[0]]
    with pytest.raises(AttributeError):
        held.revoked_index = None  # type: ignore[misc]
    assert GrantStanding.__dataclass_params__.frozen  # type: ignore[attr-defined]


# ── minors ────────────────────────────────────────────────────────────────────────────────────────────────


def born(day: date | None) -> Standing:
    return fold(
        entries(
            [
                (
                    "enrolment",
                    {"at": "", "cameo_id": CAMEO, "enrolment": {"born_on": day.isoformat() if day else None}},
                )
            ]
        )
    )


@pytest.mark.parametrize(
    ("day", "last_of_childhood"),
    [
        (date(2008, 3, 2), date(2026, 3, 1)),
        (date(2008, 1, 1), date(2025, 12, 31)),
        (date(2007, 12, 31), date(2025, 12, 30)),
        # Born on 29 February: 18 when that day is over in a year without one, never before.
        (date(2008, 2, 29), date(2026, 2, 28)),
        (date(2006, 3, 1), date(2024, 2, 29)),
        (date(2006, 2, 28), date(2024, 2, 27)),
    ],
)
def test_eighteen_begins_on_the_birthday(day: date, last_of_childhood: date) -> None:
    for hour in (0, 23):
        then = datetime(
            last_of_childhood.year, last_of_childhood.month, last_of_childhood.day, hour, tzinfo=UTC
        )
        assert born(day).minor(then)
        assert not born(day).minor(then + timedelta(days=1))


@LAW
@given(st.dates(date(1900, 1, 1), date(2030, 12, 31)), st.dates(date(1900, 1, 1), date(2060, 1, 1)))
def test_age_is_counted_in_birthdays(day: date, today: date) -> None:
    year = day.year + 18
    turns = (
        date(year, 3, 1) if (day.month, day.day) == (2, 29) and not isleap(year) else day.replace(year=year)
    )
    assert born(day).minor(datetime(today.year, today.month, today.day, tzinfo=UTC)) == (today < turns)


def test_nobody_grows_younger() -> None:
    days = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(0, 4000, 13)]
    minor = [born(date(2008, 2, 29)).minor(day) for day in days]
    assert all(before or not after for before, after in pairwise(minor))


def test_unknown_age_is_a_minors_age() -> None:
    assert born(None).minor(datetime(2099, 1, 1, tzinfo=UTC))
    assert Standing().minor(datetime(2099, 1, 1, tzinfo=UTC))
