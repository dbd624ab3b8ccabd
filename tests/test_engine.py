"""The engine's ways of failing: each ends in a denial with a reason, and each guard has a test that fails without it."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cedarpy
import pytest

from ledger.errors import Unavailable
from ledger.reasons import Reason
from safety.policy import cedar, engine
from safety.policy.engine import Engine, Finding, Ruling
from safety.policy.explain import Conditions
from safety.policy.facts import DOMAINS, KINDS, LATER, QUESTIONS
from test_policies import POLICIES, READERS, facts

FILES = cedar.read(POLICIES)
ENGINE = Engine.load(POLICIES)
Facts = dict[str, Any]

_NOTES = '@reason("r") @remedy("m") @source("rule: s") @told("anyone")'
_PERMIT_ALL = f'@id("all") {_NOTES} permit (principal, action, resource);'
_SCHEMA = FILES[cedar.SCHEMA]
_SMALL = {cedar.SCHEMA: _SCHEMA, "a.cedar": _PERMIT_ALL.encode()}


def small(*rules: str, permit: str = _PERMIT_ALL) -> Engine:
    """An engine of a set that fits into a test."""
    made = Engine.of({cedar.SCHEMA: _SCHEMA, "a.cedar": "\n".join((permit, *rules)).encode()})
    assert made.fault is None, made.fault
    return made


def assert_denies_everything(an_engine: Engine, reason_id: str) -> None:
    for action in QUESTIONS:
        ruling = an_engine.rule(action, **facts(action))
        assert not ruling.allowed
        assert ruling.policy_ids == (reason_id,)
        for reader in READERS:
            assert [reason.id for reason in ruling.reasons(reader)] == [reason_id]


# The policy set -------------------------------------------------------------------------------------------


_ONE = f'@id("one") {_NOTES} forbid'
_ALWAYS = "forbid (principal, action, resource);"
_BROKEN = (
    {
        "no files": {},
        "no schema": {"a.cedar": _PERMIT_ALL.encode()},
        "no policies at all": {cedar.SCHEMA: _SCHEMA},
        "only a comment": {cedar.SCHEMA: _SCHEMA, "a.cedar": b"// nothing\n"},
        "only invariants": {cedar.SCHEMA: _SCHEMA, cedar.INVARIANTS: FILES[cedar.INVARIANTS]},
        "not UTF-8": {**FILES, "a.cedar": b"// \xff\n"},
        "a schema that does not parse": {**FILES, cedar.SCHEMA: b"entity App = {"},
        "a schema of something else": {**FILES, cedar.SCHEMA: b"entity App; action a;"},
    }
    | {
        f"a policy {name}": {**_SMALL, "b.cedar": text.encode()}
        for name, text in {
            "that does not parse": "permit (principal, action, resource",
            "of a misspelt attribute": f"{_ONE} (principal is App, action, resource) when {{ principal.suspnded }};",
            "of an unguarded optional attribute": f"{_ONE} (principal, action, resource is Cameo)"
            " when { resource.grant.revoked };",
            "of an action nobody asks about": f'{_ONE} (principal, action == Action::"sing", resource);',
            "that is a template": f"{_ONE} (principal == ?principal, action, resource);",
            "called as another is": _PERMIT_ALL,
            "with a source of no kind": f"{_ONE} {_ALWAYS[7:]}".replace("rule: s", "s"),
            "told to nobody known": f"{_ONE} {_ALWAYS[7:]}".replace("anyone", "al"),
            **{
                f"without @{note}": re.sub(rf'@{note}\(".*?"\)', "", f"{_ONE} {_ALWAYS[7:]}")
                for note in ("id", "reason", "remedy", "source", "told")
            },
        }.items()
    }
    | {
        f"an invariant {name}": {**_SMALL, cedar.INVARIANTS: text.encode()}
        for name, text in {
            "that does not parse": "forbid (",
            "that permits": f'@id("n") @says("s") {_ALWAYS.replace("forbid", "permit")}',
            "that says nothing": f'@id("n") {_ALWAYS}',
            "without an id": f'@says("s") {_ALWAYS}',
            "called as a policy is": f'@id("all") @says("s") {_ALWAYS}',
            "that is a template": f'@id("n") @says("s") {_ALWAYS.replace("(principal", "(principal == ?principal")}',
            "of a word unknown": f'@id("n") @says("s") {_ALWAYS[:-1]} when {{ context.rich }};',
        }.items()
    }
)


def _write(directory: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


@pytest.mark.parametrize("name", _BROKEN)
def test_a_broken_policy_set_denies_everything(name: str, tmp_path: Path) -> None:
    for broken in (Engine.load(_write(tmp_path, _BROKEN[name])), Engine.of(_BROKEN[name])):
        assert broken.fault is not None
        assert broken.fault.id == "policy.unreadable"
        assert broken.policies is None
        assert_denies_everything(broken, "policy.unreadable")


def test_the_broken_sets_are_broken_by_one_thing_only() -> None:
    never = f'@id("n") @says("s") {_ALWAYS}'
    one = f"{_ONE} {_ALWAYS[7:]}".replace(";", " when { false };")
    for files in (_SMALL, {**_SMALL, cedar.INVARIANTS: never.encode()}, {**_SMALL, "b.cedar": one.encode()}):
        whole = Engine.of(files)
        assert whole.fault is None
        for action in QUESTIONS:
            # An invariant forbids nothing by itself: it has to follow.
            assert whole.rule(action, **facts(action)).allowed


def test_a_set_that_cannot_be_used_names_what_is_wrong() -> None:
    with pytest.raises(Unavailable, match="two policies are called `all`"):
        cedar.Policies(_BROKEN["a policy called as another is"])
    with pytest.raises(Unavailable, match="invariant `n` is no `forbid` with `@id` and `@says`"):
        cedar.Policies(_BROKEN["an invariant that permits"])


def test_a_directory_or_a_file_that_cannot_be_read_denies_everything(tmp_path: Path) -> None:
    assert_denies_everything(Engine.load(tmp_path / "nowhere"), "policy.unreadable")
    _write(tmp_path, FILES)
    (tmp_path / "more.cedar").mkdir()
    assert_denies_everything(Engine.load(tmp_path), "policy.unreadable")


def test_hash_covers_names_and_bytes(tmp_path: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", ENGINE.policy_set_hash)
    assert Engine.load(_write(tmp_path, FILES)).policy_set_hash == ENGINE.policy_set_hash
    renamed = {("cleared.cedar" if name == "clear.cedar" else name): data for name, data in FILES.items()}
    altered = {**FILES, cedar.INVARIANTS: FILES[cedar.INVARIANTS] + b"\n"}
    assert len({cedar.set_hash(files) for files in (FILES, renamed, altered)}) == 3
    assert ENGINE.rule("generate", **facts("generate")).policy_set_hash == ENGINE.policy_set_hash


def test_a_set_that_is_not_the_one_in_force_denies_everything() -> None:
    """Less one file, what is left is a valid set that forbids less."""
    in_force = cedar.set_hash(FILES)
    assert Engine.of(FILES, expected=in_force).fault is None
    fewer = {name: data for name, data in FILES.items() if name != "prohibited.cedar"}
    assert Engine.of(fewer).fault is None
    weaker = Engine.of(fewer, expected=in_force)
    assert weaker.fault is not None
    assert weaker.fault.id == "policy.not_in_force"
    assert f"`{in_force}`" in weaker.fault.sentence
    assert weaker.policy_set_hash == cedar.set_hash(fewer)
    assert_denies_everything(weaker, "policy.unreadable")


def test_a_set_that_is_nowhere_denies_everything_under_its_own_hash() -> None:
    missing = Engine.missing("ab" * 32)
    assert_denies_everything(missing, "policy.unreadable")
    assert missing.rule("ask", **facts("ask")).policy_set_hash == "ab" * 32


# The facts ------------------------------------------------------------------------------------------------


class _Text(str):
    __slots__ = ()


_SCORES = facts("generate")["request"].scores
_BAD_FACTS: dict[str, tuple[object, ...]] = {
    "request.depicted": (-1, 1.0, math.nan, True, "1", None),
    "request.unknown_faces": (2**63, 10**9 + 1),
    "request.ledger_ok": (1, "true"),
    "request.action": ("Generate", frozenset({"generate"})),
    "request.purpose": ("",),
    "request.audience": ("nobody",),
    "request.modalities": (frozenset({"body"}), {"face"}, "face"),
    "request.contexts": (frozenset({"Sexual"}), frozenset({3})),
    "request.scores": (
        None,
        {},
        {**_SCORES, "nudity": 0},
        {name: 0 for name in _SCORES if name != "minors"},
        *(
            {**_SCORES, "violence": bad}
            for bad in (-1, 1001, 0.5, math.nan, math.inf, True, "0", None, 10**30)
        ),
    ),
    "job.job_id": ("", "video_1\n", "<script>", _Text("video_1")),
    "job.consenting": (-1,),
    "job.recorded": ("yes",),
    "requester.app_id": (7,),
    "requester.suspended": (None,),
    "traffic.running": (0.5,),
    "cameo.minor": (None,),
    "cameo.erased": (0,),
    "cameo.grant": ("grant_1", {}),
    "output.ungranted_faces": (-1,),
    "output.faces_checked": ("yes",),
    "output.scores": ({"sexual": 0},),
    "clip.released": (1,),
    "clip.depicted": (0.5,),
    "reader.role": ("Owner",),
    "list.own": (1,),
    "operator.registered": (None,),
    "order.checked": ("true",),
}


@pytest.mark.parametrize("path", _BAD_FACTS)
def test_a_fact_of_wrong_type_or_range_denies(path: str) -> None:
    part, field = path.split(".")
    action = next(action for action, names in QUESTIONS.items() if part in names)
    asked = facts(action)
    for value in _BAD_FACTS[path]:
        ruling = ENGINE.rule(action, **{**asked, part: replace(asked[part], **{field: value})})
        assert not ruling.allowed
        assert ruling.policy_ids == ("facts.invalid",)
        assert f"`{path}`" in ruling.reasons()[0].sentence
        assert "script" not in ruling.reasons()[0].sentence, "what came from outside is repeated"


def test_the_bad_facts_leave_no_kind_out() -> None:
    assert {path.split(".")[0] for path in _BAD_FACTS} == KINDS.keys()


@pytest.mark.parametrize(
    ("field", "value"), [("uses", -1), ("max_uses", 1.0), ("approval", "later"), ("revoked", 0)]
)
@pytest.mark.parametrize("action", ["use_likeness", "release_likeness", "download"])
def test_a_bad_fact_inside_a_grant_denies(action: str, field: str, value: object) -> None:
    asked = facts(action)
    grant = replace(asked["cameo"].grant, **{field: value})
    ruling = ENGINE.rule(action, **{**asked, "cameo": replace(asked["cameo"], grant=grant)})
    assert ruling.policy_ids == ("facts.invalid",)
    assert f"`grant.{field}`" in ruling.reasons()[0].sentence


@pytest.mark.parametrize("action", QUESTIONS)
def test_facts_that_are_missing_or_of_another_kind_deny(action: str) -> None:
    asked = facts(action)
    for name in QUESTIONS[action]:
        other = facts("download")["clip"] if name != "clip" else facts("generate")["request"]
        wrong: list[Facts] = [{**asked, name: other}]
        if (action, name) != ("download", "cameo"):  # a clip of nobody has none
            wrong += [{**asked, name: None}, {k: v for k, v in asked.items() if k != name}]
        for given in wrong:
            ruling = ENGINE.rule(action, **given)
            assert ruling.policy_ids == ("facts.invalid",)
            assert f"the {name} " in ruling.reasons()[0].sentence


@pytest.mark.parametrize("action", QUESTIONS)
def test_facts_that_were_not_asked_for_deny(action: str) -> None:
    for name in (KINDS.keys() - set(QUESTIONS[action])) | {"trusted"}:
        ruling = ENGINE.rule(action, **facts(action), **{name: True})
        assert ruling.policy_ids == ("facts.invalid",)


@pytest.mark.parametrize("action", ["", "Generate", "making", "permit", "generate\n"])
def test_an_action_that_nobody_knows_is_denied(action: str) -> None:
    for given in (facts("generate"), {}):
        assert ENGINE.rule(action, **given).policy_ids == ("facts.invalid",)


# Cedar ----------------------------------------------------------------------------------------------------


def _use() -> cedar.Query:
    return engine.query("use_likeness", facts("use_likeness"))


def test_a_forbid_that_errors_denies_although_cedar_skips_it() -> None:
    product = "context.request.scores.hate * 9223372036854775807"
    overflow = small(
        f'@id("x") {_NOTES} forbid (principal, action == Action::"generate", resource)'
        f" when {{ {product} > 9223372036854775806 }};"
    )
    assert overflow.rule("generate", **facts("generate")).allowed
    assert overflow.rule("generate", **facts("generate", request__scores__hate=2)).policy_ids == (
        "policy.error",
    )


@pytest.mark.parametrize("kind", ["App", "Cameo", "Grant", "Request"])
def test_an_entity_that_is_named_but_not_supplied_denies_although_cedar_allows_it(kind: str) -> None:
    policies, query = cedar.Policies(_SMALL), _use()
    assert isinstance(policies.ask(query), cedar.Permitted)
    fewer = {uid: attrs for uid, attrs in query.entities.items() if uid.type != kind}
    assert len(fewer) == len(query.entities) - 1
    assert isinstance(policies.ask(replace(query, entities=fewer)), cedar.Undecided)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "nothing"},
        {"action": "making"},
        {"principal": cedar.Uid("Cameo", "cameo_1")},
        {"context": {}},
        {"context": {"request": cedar.Uid("Grant", "grant_1")}},
    ],
    ids=str,
)
def test_a_question_outside_the_schema_is_undecided(change: dict[str, Any]) -> None:
    assert isinstance(cedar.Policies(_SMALL).ask(replace(_use(), **change)), cedar.Undecided)


def _with(query: cedar.Query, kind: str, **changes: object) -> cedar.Query:
    """The question with attributes of its one entity of this kind replaced."""
    entities = query.entities.items()
    return replace(
        query, entities={uid: {**a, **(changes if uid.type == kind else {})} for uid, a in entities}
    )


@pytest.mark.parametrize("kind", ["App", "Cameo", "Grant", "Request"])
def test_an_attribute_the_schema_does_not_know_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="entity"):
        cedar.Policies(_SMALL).ask(_with(_use(), kind, trusted=True))


@pytest.mark.parametrize("value", [0.5, math.nan, None, object()])
def test_a_value_that_is_no_integer_never_reaches_cedar(value: object) -> None:
    with pytest.raises(TypeError, match="not a string"):
        cedar.Policies(FILES).ask(_with(_use(), "Request", depicted=value))


@pytest.mark.parametrize(
    "scope",
    [
        "action",
        'action == Action::"release"',
        'action in Action::"release"',
        'action in Action::"making"',
        'action in [Action::"making"]',
        'action in [Action::"ask", Action::"release"]',
    ],
)
def test_a_forbid_is_heard_however_it_names_the_action(scope: str) -> None:
    deaf = small(f'@id("x") {_NOTES} forbid (principal, {scope}, resource);')
    assert deaf.rule("release", **facts("release")).policy_ids == ("x",)
    assert deaf.rule("download", **facts("download")).allowed == (scope != "action")


@pytest.mark.parametrize(
    ("decision", "by"), [("NoDecision", None), ("Allow", None), ("Allow", "consent.expired")]
)
def test_no_decision_and_an_allow_by_no_permit_are_denied(
    decision: str, by: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ENGINE.policies is not None
    reasons = [at for at, policy in ENGINE.policies._by_position.items() if policy.id == by]
    assert len(reasons) == (by is not None)
    diagnostics = SimpleNamespace(errors=[], reasons=reasons)
    answer = SimpleNamespace(decision=cedarpy.Decision[decision], diagnostics=diagnostics)
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_, **__: answer)
    assert_denies_everything(ENGINE, "policy.error")


class _Panic(BaseException):
    """What a panic in Rust looks like from Python: not an Exception."""


_RAISED = [RuntimeError, ValueError, KeyError, RecursionError, MemoryError, _Panic]


def _failing(raised: type[BaseException]) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise raised("no")

    return fail


@pytest.mark.parametrize("raised", _RAISED)
def test_whatever_cedar_raises_denies(raised: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cedarpy, "is_authorized", _failing(raised))
    assert_denies_everything(ENGINE, "policy.error")


@pytest.mark.parametrize("raised", _RAISED)
def test_whatever_is_raised_while_loading_denies(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in ((cedarpy, "validate_policies"), (engine, "Conditions")):
        with monkeypatch.context() as patch:
            patch.setattr(*at, _failing(raised))
            assert_denies_everything(Engine.load(POLICIES), "policy.unreadable")


def test_an_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cedarpy, "is_authorized", _failing(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ENGINE.rule("generate", **facts("generate"))


# Several questions at once -------------------------------------------------------------------------------


def test_questions_asked_together_are_answered_as_they_are_alone_and_in_order() -> None:
    questions = [
        ("generate", facts("generate")),
        ("use_likeness", facts("use_likeness", cameo__grant__expired=True)),
        ("making", {}),
        ("ask", facts("ask", traffic__running=200)),
    ]
    assert ENGINE.rulings(*questions) == [ENGINE.rule(action, **given) for action, given in questions]
    assert ENGINE.rulings() == []


def test_facts_that_differ_under_one_name_deny_every_question_they_are_asked_with() -> None:
    """Else the facts of one question could answer another."""
    suspended = facts("generate", requester__suspended=True)
    together = ENGINE.rulings(("generate", facts("generate")), ("generate", suspended))
    assert [ruling.policy_ids for ruling in together] == [("policy.error",)] * 2


def test_facts_checked_for_one_purpose_do_not_pass_for_another() -> None:
    asked = facts("clear")
    assert ENGINE.rule("clear", **{**asked, "output": asked["request"]}).policy_ids == ("facts.invalid",)
    _, second = ENGINE.rulings(
        ("clear", asked), ("generate", {**facts("generate"), "request": asked["output"]})
    )
    assert second.policy_ids == ("facts.invalid",)


# Why nothing permits --------------------------------------------------------------------------------------

_USE = f'@id("use") {_NOTES} permit (principal is App, action == Action::"use_likeness", resource is Cameo)'


def _unmet(permit: str, action: str = "use_likeness", **changes: Any) -> list[str]:
    ruling = small(permit=permit).rule(action, **facts(action, **changes))
    assert ruling.policy_ids == ("policy.default_deny",)
    assert {reason.id for reason in ruling.reasons()} == {"policy.default_deny"}
    return [reason.sentence for reason in ruling.reasons()]


def test_what_no_rule_allows_is_denied_with_a_reason() -> None:
    assert small(permit=f"{_USE};").rule("use_likeness", **facts("use_likeness")).allowed
    assert _unmet(f"{_USE};", "download") == ["no rule allows this"]


def test_each_unmet_condition_of_a_permit_is_said_in_the_words_of_the_schema() -> None:
    permit = f"{_USE} when {{ resource.active && !resource.minor && context.request.depicted > 1 }};"
    assert small(permit=permit).rule("use_likeness", **facts("use_likeness", request__depicted=2)).allowed
    (one,) = _unmet(permit)
    assert "`use`" in one
    assert "the number of people the clip depicts is above `1`" in one
    several = _unmet(permit, cameo__active=False, cameo__minor=True)
    assert len(several) == 3
    assert "the likeness is in use" in several[0]
    assert "the person is a minor or of unknown age" in several[1]


def test_an_unmet_condition_reads_as_what_is_wanted_or_as_what_stands_against_it() -> None:
    permit = f"{_USE} when {{ resource.guardian_consent }} unless {{ context.request.depicted > 0 }};"
    assert _unmet(permit) == [
        "not so, as `use` needs: a guardian on record has signed the grant too",
        "so, against what `use` needs: the number of people the clip depicts is above `0`",
    ]


def test_an_unmet_condition_about_a_person_is_kept_from_an_app_that_holds_no_grant_of_theirs() -> None:
    within = "resource.active && principal.suspended"
    engine = small(permit=f"{_USE} when {{ {within} }};")
    asked = facts("use_likeness", cameo__active=False)
    held = engine.rule("use_likeness", **asked)
    for reader in ("requester", "owner", "auditor"):
        assert len(held.reasons(reader)) == 2
    stranger = engine.rule("use_likeness", **{**asked, "cameo": replace(asked["cameo"], grant=None)})
    (told,) = stranger.reasons()
    assert "the app is suspended" in told.sentence
    assert len(stranger.reasons("owner")) == 2


def test_a_forbid_over_a_group_of_groups_counts_for_the_actions_in_it() -> None:
    schema = FILES[cedar.SCHEMA].replace(
        b"action making;", b"action everything;\naction making in [everything];"
    )
    scope = 'action in Action::"everything"'
    rules = f'{_PERMIT_ALL}\n@id("x") {_NOTES} forbid (principal, {scope}, resource);'
    engine = Engine.of({cedar.SCHEMA: schema, "a.cedar": rules.encode()})
    assert engine.rule("generate", **facts("generate")).policy_ids == ("x",)
    assert engine.rule("download", **facts("download")).allowed


def test_a_file_whose_name_holds_other_files_is_refused_although_the_hash_is_the_same() -> None:
    """Whoever writes to the archive could else leave out a file: its bytes would stand in another one's name."""
    first, second = b"// one\n", _PERMIT_ALL.encode()
    honest = {cedar.SCHEMA: _SCHEMA, "a.cedar": first, "b.cedar": second}
    swallowed = f"a.cedar\0{len(first).to_bytes(8, 'big').decode()}{first.decode()}b.cedar"
    forged = {cedar.SCHEMA: _SCHEMA, swallowed: second}
    assert cedar.set_hash(forged) == cedar.set_hash(honest)
    assert Engine.of(honest).policies is not None
    assert Engine.of(forged, expected=cedar.set_hash(honest)).policies is None


@pytest.mark.parametrize("word", ["policy.unreadable", "facts.invalid"])
def test_a_policy_can_not_take_a_name_of_the_engines_own(word: str) -> None:
    taken = _PERMIT_ALL.replace('"all"', f'"{word}"')
    assert Engine.of({cedar.SCHEMA: _SCHEMA, "a.cedar": taken.encode()}).policies is None


def test_explaining_that_fails_denies_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = small(permit=f"{_USE} when {{ resource.minor }};")
    monkeypatch.setattr(Conditions, "unmet", _failing(_Panic))
    ruling = nothing.rule("use_likeness", **facts("use_likeness"))
    assert not ruling.allowed
    assert ruling.reasons()


# A set from before a fact ---------------------------------------------------------------------------------


def before(*unknown: str) -> bytes:
    """The schema as it was before these facts."""
    schema = _SCHEMA.decode()
    for key in unknown:
        kind, _, name = key.partition(".")
        declared = "type" if kind == "Scores" else "entity"
        head, found, rest = schema.partition(f"{declared} {kind} = {{")
        cut = re.sub(rf'\n  @doc\("[^"]*"\) {name}: (Bool|Long|Set<String>),', "", rest, count=1)
        assert found
        assert cut != rest
        schema = head + found + cut
    return schema.encode()


def older(*unknown: str) -> Engine:
    made = Engine.of({cedar.SCHEMA: before(*unknown), "a.cedar": _PERMIT_ALL.encode()})
    assert made.fault is None, made.fault
    return made


@pytest.mark.parametrize("action", QUESTIONS)
def test_a_set_from_before_a_fact_is_asked_without_it(action: str) -> None:
    made = older(*LATER)
    assert made.unknown == LATER.keys()
    assert made.rule(action, **facts(action)).policy_ids == ("all",)
    assert ENGINE.unknown == frozenset()


OUTWEIGHED: list[tuple[str, Facts]] = [
    ("Grant.within_countries", {"cameo__grant__within_countries": False}),
    ("Grant.against_preferences", {"cameo__grant__against_preferences": True}),
    ("Cameo.with_adult", {"cameo__minor": True, "cameo__with_adult": True}),
    ("Cameo.cooling_off", {"cameo__cooling_off": True}),
]


@pytest.mark.parametrize("action", ["use_likeness", "release_likeness", "download"])
@pytest.mark.parametrize(("unknown", "changes"), OUTWEIGHED, ids=[key for key, _ in OUTWEIGHED])
def test_a_set_allows_nothing_that_a_fact_it_does_not_know_stands_against(
    unknown: str, changes: Facts, action: str
) -> None:
    asked = facts(action, **changes)
    assert older().rule(action, **asked).allowed
    ruling = older(unknown).rule(action, **asked)
    assert ruling.policy_ids == ("policy.outdated",)
    for reader in READERS:
        assert [reason.id for reason in ruling.reasons(reader)] == ["policy.outdated"]
    if "with_adult" not in unknown:
        # Of the grant itself they are not to know.
        stranger = facts(action, **changes, cameo__grant__for_requester=False)
        ruling = older(unknown).rule(action, **stranger)
        assert [reason.id for reason in ruling.reasons()] == ["policy.default_deny"]
    at_rest = facts(action, cameo__with_adult=True)  # beside an adult who is nobody's ward
    assert older(unknown).rule(action, **at_rest).allowed


def test_what_an_older_set_forbids_it_forbids_for_its_own_reasons() -> None:
    """Or a refusal of years ago could not be made again."""
    forbid = f'@id("x") {_NOTES} forbid (principal, action, resource);'
    made = Engine.of({cedar.SCHEMA: before(*LATER), "a.cedar": (_PERMIT_ALL + forbid).encode()})
    asked = facts("use_likeness", cameo__grant__within_countries=False)
    assert made.rule("use_likeness", **asked).policy_ids == ("x",)


@pytest.mark.parametrize("key", ["Grant.uses", "Grant.approved", "Cameo.erased", "Request.depicted"])
def test_a_fact_that_every_set_has_always_known_is_never_left_out(key: str) -> None:
    name = key.partition(".")[2]
    schema = re.sub(rf'\n  @doc\("[^"]*"\) {name}: (Bool|Long),', "", _SCHEMA.decode())
    made = Engine.of({cedar.SCHEMA: schema.encode(), "a.cedar": _PERMIT_ALL.encode()})
    assert made.fault is None
    assert not made.unknown
    assert made.rule("use_likeness", **facts("use_likeness")).policy_ids == ("policy.error",)


def test_every_fact_that_came_later_is_one_of_the_facts_and_at_rest_in_an_ordinary_request() -> None:
    assert LATER.keys() <= DOMAINS.keys()
    cameo, clear = facts("use_likeness")["cameo"], facts("clear")
    ordinary = {
        "Cameo": cameo,
        "Grant": cameo.grant,
        "Request": clear["request"],
        "Job": clear["job"],
        "Output": clear["output"],
        "Scores": clear["output"].scores,
    }
    for key, later in LATER.items():
        assert later.at_rest(ordinary[key.partition(".")[0]]), key


# Rulings --------------------------------------------------------------------------------------------------


def test_a_ruling_cannot_deny_without_a_reason_nor_allow_with_one() -> None:
    finding = Finding.plain(Reason("a.b", "no", "ask"))
    for allowed, findings in ((False, ()), (True, (finding,))):
        with pytest.raises(ValueError, match="a denial has reasons"):
            Ruling(allowed, ("a.b",), findings, "")


@pytest.mark.parametrize("audience", ["auditor", "holder"])
def test_a_refusal_whose_every_reason_is_withheld_still_says_no(audience: str) -> None:
    """No app holds a grant where none is concerned."""
    secret = _NOTES.replace("anyone", audience).replace('"r"', '"a secret"')
    ruling = small(f'@id("x") {secret} {_ALWAYS}').rule("ask", **facts("ask"))
    assert ruling.policy_ids == ("x",)
    said = {reader: [reason.sentence for reason in ruling.reasons(reader)] for reader in READERS}
    assert said == {
        "requester": ["no rule allows this"],
        "owner": ["a secret"],
        "auditor": ["a secret (rule: s)"],
    }
