"""The policies against their decision table, a second implementation, random facts, and what each reader is told.

How the engine fails is tested in test_engine.py. That no policy changes unnoticed, and that no invariant is broken,
is the business of `safety.policy.mutants` and `safety.policy.proof`.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.reasons import Reason
from policy_oracle import verdict
from safety.policy import cedar, engine
from safety.policy.cases import FILE, Case, document, read
from safety.policy.engine import Engine, Reader
from safety.policy.facts import (
    CONTEXTS,
    DOMAINS,
    KINDS,
    MOST,
    PRINCIPALS,
    QUESTIONS,
    RESOURCES,
    CameoFacts,
    Domain,
    OneOf,
    SetOf,
    Truth,
    Whole,
    from_json,
)

POLICIES = Path(__file__).parent.parent / "policies"
ENGINE = Engine.load(POLICIES)
SET = cedar.Policies(cedar.read(POLICIES))
FORBIDS = {policy.id: policy for policy in SET.all if not policy.permits}
WRITTEN = {
    chunk.split('"', 2)[1]: chunk
    for data in SET.files.values()
    for chunk in re.split(r"^(?=@id\()", data.decode(), flags=re.MULTILINE)[1:]
}
"""The text of each policy, by its id."""
TABLE = read((POLICIES / FILE).read_bytes())
BASES = json.loads((POLICIES / FILE).read_bytes())["bases"]
READERS: tuple[Reader, ...] = get_args(Reader)
Facts = dict[str, Any]


def facts(action: str, base: str = "adult", **changes: Any) -> Facts:
    """What this action is asked about: a base of the table, with `request__scores__hate=900` and the like replaced."""
    made = document(BASES, base, {path.replace("__", "."): value for path, value in changes.items()})
    return {name: from_json(KINDS[name], made[name]) for name in QUESTIONS[action]}


def told(action: str, reader: Reader, base: str = "adult", **changes: Any) -> dict[str, Reason]:
    """What the reader is told, by the id of the reason."""
    return {r.id: r for r in ENGINE.rule(action, **facts(action, base, **changes)).reasons(reader)}


def _actions() -> dict[str, frozenset[str]]:
    """The actions each policy is about, those of its groups included."""
    members = defaultdict(set)
    for name, groups, *_ in cedar._actions(SET.schema):
        for group in (name.strip("`"), *groups.split(", ")):
            members[group].add(name.strip("`"))
    return {p.id: frozenset().union(*(members[at] for at in cedar._at(p.tree).split(", "))) for p in SET.all}


ACTIONS = _actions()


# The decision table ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", QUESTIONS)
def test_decision_table_holds_in_cedar_and_in_the_oracle(action: str) -> None:
    cases = [case for case in TABLE if case.action == action]
    assert [fault for case in cases if (fault := case.fault(ENGINE)) is not None] == []
    assert [case.intent for case in cases if verdict(action, **case.facts) != case.forbidden_by] == []


def test_table_asks_about_every_action_on_both_sides() -> None:
    assert len(TABLE) >= 180
    for action in QUESTIONS:
        assert {not case.forbidden_by for case in TABLE if case.action == action} == {True, False}, action


def test_each_permit_is_the_one_that_allows_some_case() -> None:
    allowing = {ENGINE.rule(c.action, **c.facts).policy_ids for c in TABLE if not c.forbidden_by}
    assert allowing == {(policy.id,) for policy in SET.all if policy.permits}


def test_each_forbid_is_the_only_one_in_some_case_and_is_seen_at_each_of_its_actions() -> None:
    alone = {policy_id for case in TABLE if len(case.forbidden_by) == 1 for policy_id in case.forbidden_by}
    assert alone == FORBIDS.keys()
    seen = {(policy_id, case.action) for case in TABLE for policy_id in case.forbidden_by}
    assert seen == {(policy.id, action) for policy in FORBIDS.values() for action in ACTIONS[policy.id]}


def _limits() -> Iterator[tuple[str, str, int]]:
    """Each policy's limits: the fact, and the first value that is too much."""
    for policy_id in FORBIDS:
        for path, sign, number in re.findall(r"\.([a-z_.]+) (>=?) (\d+)\b", WRITTEN[policy_id]):
            yield policy_id, path, int(number) + (sign == ">")


def _value(case: Case, path: str) -> Any:
    """The value of a fact by the path a policy writes: `request.scores.hate`, or `depicted` of the resource."""
    resource = [name for name in RESOURCES if name in case.facts][-1:]
    value: Any = case.facts
    for step in path.split(".") if "." in path else (*resource, path):
        value = value[step] if isinstance(value, dict) else getattr(value, step)
    return value


@pytest.mark.parametrize(("policy_id", "path", "limit"), list(_limits()))
def test_each_limit_has_a_case_on_both_sides(policy_id: str, path: str, limit: int) -> None:
    about = [case for case in TABLE if case.action in ACTIONS[policy_id]]
    seen = {(_value(case, path) - limit, policy_id in case.forbidden_by) for case in about}
    assert seen >= {(-1, False), (0, True)} or seen >= {(-1, True), (0, False)}


@pytest.mark.parametrize(
    ("policy_id", "path", "limit"),
    [
        ("consent.used_up", "cameo.grant.uses", "cameo.grant.max_uses"),
        ("clear.too_many_people", "output.granted_faces_seen", "request.depicted"),
        ("consent.quorum", "job.consenting", "request.depicted"),
    ],
)
def test_each_limit_that_is_a_fact_itself_has_cases_on_every_side(
    policy_id: str, path: str, limit: str
) -> None:
    about = [case for case in TABLE if case.action in ACTIONS[policy_id]]
    held = [case for case in about if "cameo" not in path or case.facts["cameo"].grant is not None]
    over = {_value(c, path) - _value(c, limit): policy_id in c.forbidden_by for c in held}
    assert {n: over[n] for n in (-1, 0, 1)} == {
        -1: policy_id == "consent.quorum",
        0: policy_id == "consent.used_up",
        1: True,
    }


# Random facts ---------------------------------------------------------------------------------------------


def _paths() -> dict[str, Domain]:
    """Every fact that can reach a policy, by its path in a base of the table."""
    at = defaultdict(list, {"Grant": ["cameo.grant"], "Scores": ["request.scores", "output.scores"]})
    for name, kind in {**PRINCIPALS, **RESOURCES, **CONTEXTS}.items():
        at[kind].append(name)
    return {
        f"{prefix}.{attribute}": domain
        for (kind, attribute), domain in ((key.split("."), domain) for key, domain in DOMAINS.items())
        for prefix in at[kind]
    }


_PATHS = _paths()
_NEAR = sorted({n + d for _, _, n in _limits() for d in (-2, -1, 0, 1)} | {0, 1, 2, 3, MOST} - {-1})


def _values(domain: Domain) -> st.SearchStrategy[Any]:
    match domain:
        case Truth():
            return st.booleans()
        case Whole(most):
            near = st.sampled_from([n for n in _NEAR if 0 <= n <= most])
            return near | st.integers(0, 3) | st.integers(0, most)
        case OneOf(words):
            return st.sampled_from(words)
        case SetOf(words):
            return st.lists(st.sampled_from(words), unique=True)


@st.composite
def _drawn(draw: st.DrawFn, action: str, *, anything: bool) -> Facts:
    """Anything at all; or a base with a few facts replaced, near the line between allowed and denied."""
    own = sorted(path for path in _PATHS if path.split(".")[0] in QUESTIONS[action])
    paths = own if anything else draw(st.lists(st.sampled_from(own), max_size=6, unique=True))
    base = draw(st.sampled_from(sorted(BASES.keys() - {"nobody"})))
    made = document(BASES, base, {path: draw(_values(_PATHS[path])) for path in paths})
    if draw(st.integers(0, 9)) == 0:
        made["cameo"]["grant"] = None
    if action == "download" and draw(st.integers(0, 9)) == 0:
        made["cameo"] = None
    return {name: from_json(KINDS[name], made[name]) for name in QUESTIONS[action]}


_RANDOMLY = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=40
)


def test_random_facts_reach_every_attribute_of_the_schema() -> None:
    named = set(re.findall(r"^\s+@doc\(.*?\) (\w+)\??:", SET.files[cedar.SCHEMA].decode(), re.MULTILINE))
    assert named - {path.rpartition(".")[2] for path in _PATHS} == {"scores", "grant", "cameo"}


@pytest.mark.parametrize("anything", [False, True], ids=["near", "anything"])
@pytest.mark.parametrize("action", QUESTIONS)
@_RANDOMLY
@given(data=st.data())
def test_cedar_and_the_oracle_agree_on_random_facts(action: str, anything: bool, data: st.DataObject) -> None:
    drawn = data.draw(_drawn(action, anything=anything))
    ruling, forbids = ENGINE.rule(action, **drawn), verdict(action, **drawn)
    assert ruling.allowed == (not forbids)
    assert set(ruling.policy_ids) == forbids or ruling.allowed


@pytest.mark.parametrize("action", ["use_likeness", "release_likeness"])
@_RANDOMLY
@given(data=st.data())
def test_law_nobody_is_shown_without_standing_consent(action: str, data: st.DataObject) -> None:
    """A likeness is used only under a live grant to this app; a minor's only with all that protects them."""
    drawn = data.draw(_drawn(action, anything=False))
    if not ENGINE.rule(action, **drawn).allowed:
        return
    cameo, request, grant = drawn["cameo"], drawn["request"], drawn["cameo"].grant
    assert grant.for_requester
    assert grant.started
    assert not any((grant.expired, grant.revoked, grant.withdrawn, cameo.erased, cameo.blocks_requester))
    assert grant.within_countries
    assert not grant.against_preferences
    assert request.modalities <= grant.modalities
    assert "sexual" not in request.contexts
    if cameo.minor:
        assert cameo.guardian_consent
        assert grant.approval == "before_release"
        assert cameo.guardians_allow_adults or not cameo.with_adult
        assert action == "use_likeness" or grant.approved
        assert request.modalities == {"face"}


# What each reader is told: sentences ----------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
def test_reasons_of_every_denial_are_plain_and_complete(reader: Reader) -> None:
    for case in TABLE:
        reasons = ENGINE.rule(case.action, **case.facts).reasons(reader)
        assert bool(reasons) == bool(case.forbidden_by), case.intent
        for reason in reasons:
            assert reason.sentence[0].islower() or reason.sentence[0] == "`", reason
            assert reason.remedy
            assert not re.search(r"[{}]|unknown`|None|True|False|frozenset", reason.sentence), reason


@pytest.mark.parametrize(
    ("action", "policy_id", "sentence", "changes"),
    [
        (
            "generate",
            "prohibited.hate",
            "the prompt scored `920` of 1000 for hatred; it must stay below `500`",
            {"request__scores__hate": 920},
        ),
        (
            "use_likeness",
            "consent.used_up",
            "this grant has been used `3` of `3` times",
            {"cameo__grant__uses": 3},
        ),
        (
            "use_likeness",
            "consent.modality",
            "this grant does not cover all that the request uses of the person (not covered: `face`)",
            {"cameo__grant__modalities": ["voice"]},
        ),
        (
            "use_likeness",
            "standing.blocked",
            "the owner of this likeness accepts no requests from this app, or from the person it asks for",
            {"cameo__blocks_requester": True},
        ),
        (
            "release_likeness",
            "consent.forbidden_context",
            "the person forbids the context the prompt reads as (forbidden: `political, violent`)",
            {
                "request__contexts": ["political", "romantic", "violent"],
                "cameo__grant__forbidden_contexts": ["violent", "political", "advertising"],
            },
        ),
        (
            "ask",
            "standing.running",
            "`200` videos of this app are being made; it may have `200` at a time",
            {"traffic__running": 200},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and " " not in value else "",
)
def test_values_are_interpolated(action: str, policy_id: str, sentence: str, changes: Facts) -> None:
    assert told(action, "requester", **changes)[policy_id].sentence == sentence


def test_requester_owner_and_auditor_read_the_same_refusal_each_in_their_own_words() -> None:
    spent = {
        reader: told("use_likeness", reader, cameo__grant__uses=3)["consent.used_up"] for reader in READERS
    }
    assert (spent["requester"].sentence, spent["requester"].remedy) == (
        "this grant has been used `3` of `3` times",
        "ask for a new one",
    )
    assert (spent["owner"].sentence, spent["owner"].remedy) == (
        "your grant has been used `3` of `3` times, and `app_1` asked again",
        "sign a new grant if you want them to go on",
    )
    assert spent["auditor"].sentence == (
        "this grant has been used `3` of `3` times (contract: the grant's number of uses)"
    )


def test_every_policy_about_a_likeness_speaks_to_its_owner() -> None:
    about = re.compile(r"consent\.|minors\.|download\.|release\.approval|standing\.(inactive|erased|blocked)")
    for policy in FORBIDS.values():
        if about.match(policy.id):
            assert policy.owner != policy.reason, policy.id
            assert re.search(r"\byou(r|rs)?\b", f"{policy.owner} {policy.owner_remedy}"), policy.id
            assert not re.search(r"\b(holder|requester|owner|cameo|this app)\b(?!\.)", policy.owner), (
                policy.id
            )


# What each reader is told: secrets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason_id",
    [
        "consent.countries",
        "consent.expired",
        "consent.preference",
        "minors.voice",
        "minors.with_adults",
        "release.approval",
        "standing.blocked",
    ],
)
def test_what_concerns_a_grant_is_told_to_its_holder_the_owner_and_the_auditor(reason_id: str) -> None:
    changes = {
        "cameo__grant__expired": True,
        "cameo__grant__within_countries": False,
        "cameo__grant__against_preferences": True,
        "cameo__blocks_requester": True,
        "cameo__with_adult": True,
        "request__modalities": ["face", "voice"],
    }
    for held in (True, False):
        changes["cameo__grant__for_requester"] = held
        who = {r: told("release_likeness", r, "minor", **changes) for r in READERS}
        assert {r for r in READERS if reason_id in who[r]} == {"owner", "auditor"} | (
            {"requester"} if held else set()
        )
        assert FORBIDS[reason_id].source in who["auditor"][reason_id].sentence


def test_how_many_of_the_others_agree_is_for_the_auditor() -> None:
    one_of_two = {reader: told("generate", reader, "pair", job__consenting=1) for reader in READERS}
    assert one_of_two["requester"].keys() == {"policy.default_deny"}
    assert (
        one_of_two["owner"]["consent.quorum"].sentence == "someone else whom the request names has not agreed"
    )
    assert one_of_two["auditor"]["consent.quorum"].sentence.startswith(
        "of `2` people depicted, `1` agree (law: "
    )


@pytest.mark.parametrize("action", QUESTIONS)
@_RANDOMLY
@given(data=st.data())
def test_law_owner_and_auditor_are_told_of_every_policy_and_the_requester_of_no_other(
    action: str, data: st.DataObject
) -> None:
    ruling = ENGINE.rule(action, **data.draw(_drawn(action, anything=False)))
    if ruling.allowed:
        return
    by = {reader: {reason.id for reason in ruling.reasons(reader)} for reader in READERS}
    assert by["owner"] == by["auditor"] == set(ruling.policy_ids)
    assert by["requester"] <= by["auditor"] or by["requester"] == {"policy.default_deny"}
    assert all(FORBIDS[reason.id].source in reason.sentence for reason in ruling.reasons("auditor"))


def _not_held(data: st.DataObject, action: str) -> tuple[Facts, CameoFacts]:
    """A question about a likeness that the app holds no grant for; and one about which nothing is known."""
    drawn = data.draw(_drawn(action, anything=True))
    cameo = drawn["cameo"] or facts(action)["cameo"]
    if cameo.grant is not None:
        cameo = replace(cameo, grant=replace(cameo.grant, for_requester=False))
    unknown = CameoFacts(
        cameo.cameo_id,
        active=False,
        erased=False,
        minor=True,
        guardian_consent=False,
        with_adult=False,
        guardians_allow_adults=False,
        blocks_requester=False,
        cooling_off=False,
        grant=None,
    )
    return {**drawn, "cameo": cameo}, unknown


@pytest.mark.parametrize("action", ["use_likeness", "release_likeness"])
@_RANDOMLY
@given(data=st.data())
def test_law_an_app_without_a_grant_cannot_tell_one_likeness_from_another(
    action: str, data: st.DataObject
) -> None:
    """Enrolled or not, erased, blocking the app, a minor's, granted to others: it reads what nobody's would say."""
    drawn, unknown = _not_held(data, action)
    reasons = ENGINE.rule(action, **drawn).reasons()
    assert reasons == ENGINE.rule(action, **{**drawn, "cameo": unknown}).reasons()
    clean = ENGINE.rule(action, **{**facts(action), "cameo": drawn["cameo"]}).reasons()
    assert clean == (
        Reason("consent.no_grant", "no grant lets this app use this likeness", "ask the person for a grant"),
    )


@_RANDOMLY
@given(data=st.data())
def test_law_fetching_a_clip_tells_a_stranger_nothing_about_the_state_of_a_likeness(
    data: st.DataObject,
) -> None:
    drawn, unknown = _not_held(data, "download")
    usual = replace(drawn["cameo"], active=True, erased=False, minor=False, blocks_requester=False)
    assert _told(drawn) == _told({**drawn, "cameo": usual})
    assert _told({**drawn, "cameo": replace(usual, grant=None)}) == _told({**drawn, "cameo": unknown})


def _told(drawn: Facts) -> set[Reason]:
    """What stands against a download by name; that nothing allows it names nothing."""
    return {r for r in ENGINE.rule("download", **drawn).reasons() if r.id != "policy.default_deny"}


@pytest.mark.parametrize("action", ["generate", "release"])
@_RANDOMLY
@given(data=st.data())
def test_law_an_app_is_not_told_how_many_of_those_it_names_agree(action: str, data: st.DataObject) -> None:
    drawn = data.draw(_drawn(action, anything=False))
    agreed = {**drawn, "job": replace(drawn["job"], consenting=drawn["request"].depicted)}
    reasons = ENGINE.rule(action, **drawn).reasons()
    assert reasons == ENGINE.rule(action, **agreed).reasons() or [r.id for r in reasons] == [
        "policy.default_deny"
    ]


# The set as it stands -------------------------------------------------------------------------------------


def test_the_readme_lists_the_policies_as_they_are() -> None:
    assert (POLICIES / "README.md").read_text() == cedar.table(SET), (
        "run: python -m safety.policy.cedar policies > policies/README.md"
    )


def test_every_limit_named_in_a_sentence_is_the_one_in_its_rule() -> None:
    unsaid = {"prohibited.sexual_minors", "clear.sexual_minors"}  # nobody is told how close to come
    for policy_id in FORBIDS:
        limits = {str(limit) for named, _, limit in _limits() if named == policy_id and limit > 1}
        sentences = "".join(re.findall(r'@(?:reason|owner)\("(.*)"\)', WRITTEN[policy_id]))
        assert set(re.findall(r"`(\d+)`", sentences)) == (limits if policy_id not in unsaid else set()), (
            policy_id
        )


def test_every_value_a_sentence_quotes_exists_wherever_its_policy_applies() -> None:
    for policy in FORBIDS.values():
        quoted = set(re.findall(r"\{(.*?)\}", policy.reason + policy.owner))
        for action in ACTIONS[policy.id]:
            assert quoted <= engine._values(facts(action)).keys(), (policy.id, action)
        assert not re.search(r"[{}]", policy.remedy + policy.owner_remedy), policy.id


def test_only_permits_are_called_permits() -> None:
    for policy in SET.all:
        assert policy.permits == policy.id.startswith("permit."), policy.id
