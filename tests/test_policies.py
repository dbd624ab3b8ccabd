"""The policies against their decision table, a second implementation, and every way of failing.

Each guard of the engine has a test that fails when the guard is taken out; each policy has a case that
fails when the policy is taken out; each limit has a case on both sides.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import cedarpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import Unavailable
from ledger.reasons import Reason
from policy_oracle import verdict
from safety import cedar, engine
from safety.engine import CameoFacts, Engine, GrantFacts, Ruling

ROOT = Path(__file__).parent.parent
POLICIES = ROOT / "policies"
FILES = cedar.read(POLICIES)
ENGINE = Engine.load(POLICIES)
TABLE: dict[str, Any] = json.loads((POLICIES / "cases.json").read_text())
ARGUMENTS = {
    "generate": ("requester", "request"),
    "use_likeness": ("requester", "cameo", "request"),
    "clear": ("request", "output"),
    "release": ("requester", "cameo", "request"),
    "download": ("cameo", "clip"),
}
Facts = dict[str, Any]


# Facts from JSON ----------------------------------------------------------------------------------------


def document(base: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base case as JSON, with dotted paths replaced."""
    entry = TABLE["bases"][base]
    made: dict[str, Any] = (
        document(entry["like"], entry["with"]) if "like" in entry else json.loads(json.dumps(entry))
    )
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = made
        for parent in parents:
            at = at[parent]
        assert last in at, f"the base case has no `{path}`"
        at[last] = value
    return made


def facts_from(made: Mapping[str, Any]) -> Facts:
    return {name: _facts(engine._KINDS[name], part) for name, part in made.items()}


def _facts(kind: Any, part: Mapping[str, Any] | None) -> Any:
    if part is None:
        return None
    values = {name: frozenset(v) if isinstance(v, list) else v for name, v in part.items()}
    if kind is CameoFacts:
        values["grant"] = _facts(GrantFacts, part["grant"])
    return kind(**values)


def ask(an_engine: Engine, question: str, facts: Facts) -> Ruling:
    ruling: Ruling = getattr(an_engine, question)(*(facts[name] for name in ARGUMENTS[question]))
    return ruling


def oracle(question: str, facts: Facts) -> frozenset[str]:
    return verdict(question, **{name: facts[name] for name in ARGUMENTS[question]})


# The decision table ---------------------------------------------------------------------------------------


def _right(an_engine: Engine, case: Mapping[str, Any]) -> bool:
    ruling = ask(an_engine, case["ask"], facts_from(document(case["base"], case["with"])))
    if case["forbidden_by"]:
        return not ruling.allowed and list(ruling.policy_ids) == case["forbidden_by"]
    return ruling.allowed and ruling.policy_ids == (f"permit.{case['ask']}",)


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: case["intent"])
def test_decision_table_holds_in_cedar_and_in_the_oracle(case: Mapping[str, Any]) -> None:
    assert _right(ENGINE, case)
    facts = facts_from(document(case["base"], case["with"]))
    assert oracle(case["ask"], facts) == set(case["forbidden_by"])


def test_table_is_large_and_says_each_thing_once() -> None:
    assert len(TABLE["cases"]) >= 60
    intents = [case["intent"] for case in TABLE["cases"]]
    assert len(intents) == len(set(intents))


def test_reasons_of_every_denial_are_plain_and_complete() -> None:
    for case in TABLE["cases"]:
        ruling = ask(ENGINE, case["ask"], facts_from(document(case["base"], case["with"])))
        assert ruling.allowed != bool(ruling.reasons)
        for reason in ruling.reasons:
            assert reason.sentence[0].islower(), reason
            assert reason.remedy
            assert not re.search(r"[{}]|unknown`|None|True|False|frozenset", reason.sentence), reason


def test_values_are_interpolated() -> None:
    def sentences(question: str, **changes: Any) -> dict[str, str]:
        paths = {path.replace("__", "."): value for path, value in changes.items()}
        ruling = ask(ENGINE, question, facts_from(document("adult", paths)))
        return {reason.id: reason.sentence for reason in ruling.reasons}

    scored = sentences("generate", request__scores__hate=920)["prohibited.hate"]
    assert scored == "the prompt scored `920` of 1000 for hatred; it must stay below `500`"
    spent = sentences("use_likeness", cameo__grant__uses_left=0)["consent.used_up"]
    assert spent == "this grant has `0` uses left"
    voice = sentences("use_likeness", cameo__grant__modalities=["voice"])["consent.modality"]
    assert "(not covered: `face`)" in voice


# Mutants: policies and limits -----------------------------------------------------------------------------


def _without(policy_id: str) -> dict[str, bytes]:
    """The set less one policy: the text from its `@id` to the next."""
    cut = re.compile(rf'@id\("{re.escape(policy_id)}"\).*?(?=@id\(|\Z)', re.DOTALL)
    return {name: cut.sub("", data.decode()).encode() for name, data in FILES.items()}


def _engine(files: Mapping[str, bytes]) -> Engine:
    return Engine(cedar.Policies(files), cedar.set_hash(files))


@pytest.mark.parametrize("policy", ENGINE.policies, ids=lambda policy: policy.id)
def test_removing_a_policy_changes_a_decision(policy: cedar.Policy) -> None:
    mutant = _engine(_without(policy.id))
    assert len(mutant.policies) == len(ENGINE.policies) - 1
    cases = [c for c in TABLE["cases"] if policy.id in (*c["forbidden_by"], f"permit.{c['ask']}")]
    if policy.id == "consent.no_grant":  # the permits ask for the grant as well: only the reason is lost
        assert not all(_right(mutant, case) for case in cases)
        return
    decided = [c for c in cases if c["forbidden_by"] in ([policy.id], [])]
    flipped = [
        ask(mutant, c["ask"], facts_from(document(c["base"], c["with"]))).allowed == bool(c["forbidden_by"])
        for c in decided
    ]
    assert any(flipped)


def _limits() -> Iterator[tuple[str, int, int]]:
    for name, data in FILES.items():
        for match in re.finditer(r"[<>]=? (\d+)", data.decode()):
            yield name, match.start(1), match.end(1)


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("limit", list(_limits()), ids=str)
def test_moving_a_limit_by_one_is_noticed(limit: tuple[str, int, int], step: int) -> None:
    name, start, end = limit
    text = FILES[name].decode()
    moved = text[:start] + str(int(text[start:end]) + step) + text[end:]
    mutant = _engine({**FILES, name: moved.encode()})
    rule = text[text.rindex("@id(", 0, start) : text.index(";\n", start)]
    near = [
        case
        for case in TABLE["cases"]
        if not case["with"] or any(re.search(rf"\b{path.split('.')[-1]}\b", rule) for path in case["with"])
    ]
    assert not all(_right(mutant, case) for case in near)


# Random facts ---------------------------------------------------------------------------------------------

_EDGES = st.sampled_from([0, 1, 298, 299, 300, 399, 400, 499, 500, 501, 699, 700, 1000]) | st.integers(
    0, 1000
)


def _paths() -> dict[str, st.SearchStrategy[Any]]:
    """Every field that a case can change, with values for it."""
    found: dict[str, st.SearchStrategy[Any]] = {}
    kinds = {**engine._KINDS, "cameo.grant": GrantFacts}
    for prefix, kind in kinds.items():
        for field, hint in get_type_hints(kind, include_extras=True).items():
            path = f"{prefix}.{field}"
            if hint is bool:
                found[path] = st.booleans()
            elif hint == engine.Count:
                found[path] = st.integers(0, 3)
            elif hint == engine.Scores:
                found |= {f"{path}.{category}": _EDGES for category in get_args(engine.Category)}
            elif get_origin(hint) is frozenset:
                found[path] = st.lists(st.sampled_from(get_args(get_args(hint)[0])), unique=True)
            elif get_origin(hint) is Literal:
                found[path] = st.sampled_from(get_args(hint))
    return found


_PATHS = _paths()


@st.composite
def _changed(draw: st.DrawFn) -> Facts:
    """A base case with a few fields changed: near the line between allowed and denied, where bugs live."""
    made = document(draw(st.sampled_from(["adult", "minor"])), {})
    for path in draw(st.lists(st.sampled_from(sorted(_PATHS)), max_size=9, unique=True)):
        *parents, last = path.split(".")
        at = made
        for parent in parents:
            at = at[parent]
        at[last] = draw(_PATHS[path])
    if draw(st.integers(0, 9)) == 0:
        made["cameo"]["grant"] = None
    return facts_from(made)


def test_random_facts_reach_every_field() -> None:
    assert {
        "cameo.grant.withdrawn",
        "output.scores.minors",
        "clip.depicted",
        "request.purpose",
    } <= _PATHS.keys()
    assert len(_PATHS) > 50


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(question=st.sampled_from(sorted(ARGUMENTS)), facts=_changed())
def test_cedar_and_the_oracle_agree_on_random_facts(question: str, facts: Facts) -> None:
    ruling, forbids = ask(ENGINE, question, facts), oracle(question, facts)
    assert ruling.allowed == (not forbids)
    assert set(ruling.policy_ids) == (forbids or {f"permit.{question}"})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(question=st.sampled_from(["use_likeness", "release"]), facts=_changed())
def test_law_nobody_is_shown_without_standing_consent(question: str, facts: Facts) -> None:
    """A likeness is used only under a live grant to this app; a minor's only with all that protects them."""
    if not ask(ENGINE, question, facts).allowed:
        return
    cameo, request, grant = facts["cameo"], facts["request"], facts["cameo"].grant
    assert grant.for_requester
    assert grant.started
    assert not any((grant.expired, grant.revoked, grant.withdrawn, cameo.erased, cameo.blocks_requester))
    assert request.modalities <= grant.modalities
    assert "sexual" not in request.contexts
    if cameo.minor:
        assert cameo.guardian_consent
        assert grant.approval == "before_release"
        assert question == "use_likeness" or grant.approved
        assert request.modalities == {"face"}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(facts=_changed())
def test_law_nothing_is_told_about_a_grant_that_is_not_the_requesters(facts: Facts) -> None:
    cameo = facts["cameo"]
    if cameo.grant is not None:
        cameo = replace(cameo, grant=replace(cameo.grant, for_requester=False))
    ruling = ask(ENGINE, "use_likeness", {**facts, "cameo": cameo})
    told = {policy.id: policy.told for policy in ENGINE.policies}
    assert "consent.no_grant" in {reason.id for reason in ruling.reasons}
    assert {told[reason.id] for reason in ruling.reasons} == {"anyone"}


# Ways of failing: the policy set --------------------------------------------------------------------------

_NOTES = '@reason("r") @remedy("m") @source("rule: s") @told("anyone")'
_PERMIT_ALL = f'@id("all") {_NOTES} permit (principal, action, resource);'
_SCHEMA = FILES[cedar.SCHEMA]

_BROKEN: dict[str, dict[str, bytes]] = {
    "no files": {},
    "no schema": {"a.cedar": _PERMIT_ALL.encode()},
    "no policies at all": {cedar.SCHEMA: _SCHEMA},
    "only a comment": {cedar.SCHEMA: _SCHEMA, "a.cedar": b"// nothing\n"},
    "not UTF-8": {**FILES, "a.cedar": b"// \xff\n"},
    "a policy that does not parse": {**FILES, "a.cedar": b"permit (principal, action, resource"},
    "a schema that does not parse": {**FILES, cedar.SCHEMA: b"entity App = {"},
    "a schema of something else": {**FILES, cedar.SCHEMA: b"entity App; action a;"},
    "a misspelt attribute": {
        **FILES,
        "a.cedar": f'@id("x") {_NOTES} forbid (principal, action == Action::"clear", resource)'
        " when { context.output.unreadabel };".encode(),
    },
    "an unguarded optional attribute": {
        **FILES,
        "a.cedar": f'@id("x") {_NOTES} forbid (principal, action == Action::"release", resource)'
        " when { resource.grant.revoked };".encode(),
    },
    "a template": {
        **FILES,
        "a.cedar": f'@id("x") {_NOTES} forbid (principal == ?principal, action, resource);'.encode(),
    },
    "two policies of one id": {cedar.SCHEMA: _SCHEMA, "a.cedar": (_PERMIT_ALL * 2).encode()},
    "a source of no kind": {cedar.SCHEMA: _SCHEMA, "a.cedar": _PERMIT_ALL.replace("rule: s", "s").encode()},
    "told to nobody known": {cedar.SCHEMA: _SCHEMA, "a.cedar": _PERMIT_ALL.replace("anyone", "al").encode()},
} | {
    f"a policy without @{name}": {
        cedar.SCHEMA: _SCHEMA,
        "a.cedar": re.sub(rf'@{name}\(".*?"\)', "", _PERMIT_ALL).encode(),
    }
    for name in ("id", "reason", "remedy", "source", "told")
}


def _write(directory: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def _assert_denies_everything(an_engine: Engine, reason_id: str) -> None:
    for question in ARGUMENTS:
        ruling = ask(an_engine, question, facts_from(document("adult", {})))
        assert not ruling.allowed
        assert [reason.id for reason in ruling.reasons] == [reason_id]
        assert ruling.policy_ids == (reason_id,)


@pytest.mark.parametrize("name", _BROKEN)
def test_a_broken_policy_set_denies_everything(name: str, tmp_path: Path) -> None:
    broken = Engine.load(_write(tmp_path, _BROKEN[name]))
    assert broken.fault is not None
    assert broken.fault.id == "policy.unreadable"
    assert broken.policies == ()
    _assert_denies_everything(broken, "policy.unreadable")


def test_the_broken_sets_are_broken_by_one_thing_only(tmp_path: Path) -> None:
    whole = Engine.load(_write(tmp_path, {cedar.SCHEMA: _SCHEMA, "a.cedar": _PERMIT_ALL.encode()}))
    assert whole.fault is None
    for question in ARGUMENTS:
        assert ask(whole, question, facts_from(document("adult", {}))).allowed


def test_a_missing_directory_denies_everything(tmp_path: Path) -> None:
    _assert_denies_everything(Engine.load(tmp_path / "nowhere"), "policy.unreadable")


def test_a_file_that_cannot_be_read_denies_everything(tmp_path: Path) -> None:
    _write(tmp_path, FILES)
    (tmp_path / "more.cedar").mkdir()
    _assert_denies_everything(Engine.load(tmp_path), "policy.unreadable")


def test_hash_covers_names_and_bytes(tmp_path: Path) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", ENGINE.policy_set_hash)
    assert Engine.load(_write(tmp_path, FILES)).policy_set_hash == ENGINE.policy_set_hash
    renamed = {("cleared.cedar" if name == "clear.cedar" else name): data for name, data in FILES.items()}
    altered = {**FILES, "clear.cedar": FILES["clear.cedar"] + b"\n"}
    assert len({cedar.set_hash(files) for files in (FILES, renamed, altered)}) == 3
    assert (
        ask(ENGINE, "generate", facts_from(document("adult", {}))).policy_set_hash == ENGINE.policy_set_hash
    )


# Ways of failing: the facts -------------------------------------------------------------------------------


class _Text(str):
    __slots__ = ()


_BAD_FACTS: list[tuple[str, str, object]] = [
    ("request", "depicted", -1),
    ("request", "depicted", 1.0),
    ("request", "depicted", math.nan),
    ("request", "depicted", True),
    ("request", "depicted", "1"),
    ("request", "depicted", None),
    ("request", "unknown_faces", 2**63),
    ("request", "ledger_ok", 1),
    ("request", "ledger_ok", "true"),
    ("request", "action", "Generate"),
    ("request", "purpose", ""),
    ("request", "audience", "nobody"),
    ("request", "modalities", frozenset({"body"})),
    ("request", "modalities", {"face"}),
    ("request", "modalities", "face"),
    ("request", "contexts", frozenset({"Sexual"})),
    ("request", "contexts", frozenset({3})),
    ("request", "job_id", ""),
    ("request", "job_id", "video_1\n"),
    ("request", "job_id", _Text("video_1")),
    ("request", "scores", None),
    ("request", "scores", {}),
    ("requester", "app_id", 7),
    ("requester", "suspended", None),
    ("cameo", "minor", None),
    ("cameo", "erased", 0),
    ("cameo", "grant", "grant_1"),
    ("cameo", "grant", {}),
    ("output", "ungranted_faces", -1),
    ("output", "faces_checked", "yes"),
    ("output", "scores", {"sexual": 0}),
    ("clip", "released", 1),
    ("clip", "depicted", 0.5),
]
_WHERE = {
    "request": "generate",
    "requester": "generate",
    "cameo": "release",
    "output": "clear",
    "clip": "download",
}


def _with(facts: Facts, part: str, field: str, value: object) -> Facts:
    return {**facts, part: replace(facts[part], **{field: value})}


@pytest.mark.parametrize(("part", "field", "value"), _BAD_FACTS)
def test_a_fact_of_wrong_type_or_range_denies(part: str, field: str, value: object) -> None:
    ruling = ask(ENGINE, _WHERE[part], _with(facts_from(document("adult", {})), part, field, value))
    assert not ruling.allowed
    assert ruling.policy_ids == ("facts.invalid",)
    assert f"`{part}.{field}`" in ruling.reasons[0].sentence


@pytest.mark.parametrize("value", [-1, 1001, 0.5, math.nan, math.inf, True, "0", None, 10**30])
def test_a_score_out_of_range_denies(value: object) -> None:
    facts = facts_from(document("adult", {}))
    scores = {**facts["request"].scores, "violence": value}
    ruling = ask(ENGINE, "generate", _with(facts, "request", "scores", scores))
    assert ruling.policy_ids == ("facts.invalid",)


def test_a_missing_or_an_unknown_score_denies() -> None:
    facts = facts_from(document("adult", {}))
    fewer = {k: v for k, v in facts["request"].scores.items() if k != "minors"}
    more = {**facts["request"].scores, "nudity": 0}
    for scores in (fewer, more):
        assert ask(ENGINE, "generate", _with(facts, "request", "scores", scores)).policy_ids == (
            "facts.invalid",
        )


@pytest.mark.parametrize(("field", "value"), [("uses_left", -1), ("approval", "later"), ("revoked", 0)])
def test_a_bad_fact_inside_a_grant_denies(field: str, value: object) -> None:
    facts = facts_from(document("adult", {}))
    grant = replace(facts["cameo"].grant, **{field: value})
    ruling = ask(ENGINE, "use_likeness", _with(facts, "cameo", "grant", grant))
    assert ruling.policy_ids == ("facts.invalid",)


@pytest.mark.parametrize("question", sorted(ARGUMENTS))
def test_facts_that_are_missing_altogether_deny(question: str) -> None:
    for name in ARGUMENTS[question]:
        if (question, name) == ("download", "cameo"):
            continue  # a clip of nobody has no cameo
        ruling = ask(ENGINE, question, {**facts_from(document("adult", {})), name: None})
        assert ruling.policy_ids == ("facts.invalid",)


# Ways of failing: Cedar -----------------------------------------------------------------------------------


def _small(*rules: str) -> Engine:
    return _engine({cedar.SCHEMA: _SCHEMA, "a.cedar": "\n".join((_PERMIT_ALL, *rules)).encode()})


def _use() -> cedar.Query:
    facts = facts_from(document("adult", {}))
    return engine._query("use_likeness", {name: facts[name] for name in ARGUMENTS["use_likeness"]})


def test_a_forbid_that_errors_denies_although_cedar_skips_it() -> None:
    product = "context.request.scores.hate * 9223372036854775807"
    overflow = (
        f'@id("x") {_NOTES} forbid (principal, action == Action::"generate", resource)'
        f" when {{ {product} > 9223372036854775806 }};"
    )
    small = _small(overflow)
    assert ask(small, "generate", facts_from(document("adult", {}))).allowed
    ruling = ask(small, "generate", facts_from(document("adult", {"request.scores.hate": 2})))
    assert ruling.policy_ids == ("policy.error",)


@pytest.mark.parametrize("kind", ["App", "Cameo", "Grant"])
def test_an_entity_that_is_named_but_not_supplied_denies_although_cedar_allows_it(kind: str) -> None:
    policies, query = cedar.Policies({cedar.SCHEMA: _SCHEMA, "a.cedar": _PERMIT_ALL.encode()}), _use()
    assert isinstance(policies.ask(query), cedar.Permitted)
    fewer = {uid: attrs for uid, attrs in query.entities.items() if uid.type != kind}
    assert len(fewer) == len(query.entities) - 1
    assert isinstance(policies.ask(replace(query, entities=fewer)), cedar.Undecided)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "nothing"},
        {"principal": cedar.Uid("Job", "video_1")},
        {"context": {}},
        {"context": {"request": {}}},
    ],
    ids=str,
)
def test_a_question_outside_the_schema_is_undecided(change: dict[str, Any]) -> None:
    policies = cedar.Policies({cedar.SCHEMA: _SCHEMA, "a.cedar": _PERMIT_ALL.encode()})
    assert isinstance(policies.ask(replace(_use(), **change)), cedar.Undecided)


def test_an_attribute_the_schema_does_not_know_is_undecided() -> None:
    query = _use()
    entities = {uid: {**attrs, "trusted": True} for uid, attrs in query.entities.items()}
    policies = cedar.Policies({cedar.SCHEMA: _SCHEMA, "a.cedar": _PERMIT_ALL.encode()})
    assert isinstance(policies.ask(replace(query, entities=entities)), cedar.Undecided)


@pytest.mark.parametrize("value", [0.5, math.nan, None, object()])
def test_a_value_that_is_no_integer_never_reaches_cedar(value: object) -> None:
    query = _use()
    request = {**query.context["request"], "depicted": value}  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="not a string"):
        cedar.Policies(FILES).ask(replace(query, context={"request": request}))


def _answer(decision: Any, errors: list[str], reasons: list[str]) -> Any:
    return SimpleNamespace(decision=decision, diagnostics=SimpleNamespace(errors=errors, reasons=reasons))


@pytest.mark.parametrize("decision", ["NoDecision", "Allow"])
def test_no_decision_and_an_allow_by_no_permit_are_denied(
    decision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = _answer(cedarpy.Decision[decision], [], [])
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_, **__: answer)
    _assert_denies_everything(ENGINE, "policy.error")


def test_an_allow_determined_by_a_forbid_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ENGINE._policies is not None
    forbid = next(at for at, policy in ENGINE._policies._by_position.items() if not policy.permits)
    answer = _answer(cedarpy.Decision.Allow, [], [forbid])
    monkeypatch.setattr(cedarpy, "is_authorized", lambda *_, **__: answer)
    _assert_denies_everything(ENGINE, "policy.error")


class _Panic(BaseException):
    """What a panic in Rust looks like from Python: not an Exception."""


@pytest.mark.parametrize("raised", [RuntimeError, ValueError, KeyError, RecursionError, MemoryError, _Panic])
def test_whatever_cedar_raises_denies(raised: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised("no")

    monkeypatch.setattr(cedarpy, "is_authorized", fail)
    _assert_denies_everything(ENGINE, "policy.error")


@pytest.mark.parametrize("raised", [RuntimeError, RecursionError, _Panic])
def test_whatever_cedar_raises_while_loading_denies(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised("no")

    monkeypatch.setattr(cedarpy, "validate_policies", fail)
    _assert_denies_everything(Engine.load(POLICIES), "policy.unreadable")


def test_an_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cedarpy, "is_authorized", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ask(ENGINE, "generate", facts_from(document("adult", {})))


def test_what_no_rule_allows_is_denied_with_a_reason() -> None:
    one = f'@id("one") {_NOTES} permit (principal, action == Action::"generate", resource);'
    lone = _engine({cedar.SCHEMA: _SCHEMA, "a.cedar": one.encode()})
    assert ask(lone, "generate", facts_from(document("adult", {}))).allowed
    ruling = ask(lone, "download", facts_from(document("adult", {})))
    assert ruling.policy_ids == ("policy.default_deny",)
    assert [reason.id for reason in ruling.reasons] == ["policy.default_deny"]


def test_a_ruling_cannot_deny_without_a_reason_nor_allow_with_one() -> None:
    reason = Reason("a.b", "no", "ask")
    for allowed, reasons in ((False, ()), (True, (reason,))):
        with pytest.raises(ValueError, match="a denial has reasons"):
            Ruling(allowed, ("a.b",), reasons, "")


# The set as it stands -------------------------------------------------------------------------------------


def test_the_readme_lists_the_policies_as_they_are() -> None:
    assert (POLICIES / "README.md").read_text() == cedar.table(ENGINE.policies), (
        "run: python -m safety.cedar policies > policies/README.md"
    )


def test_every_limit_named_in_a_reason_is_the_one_in_its_rule() -> None:
    text = "\n".join(data.decode() for data in FILES.values())
    for chunk in re.split(r"(?=@id\()", text)[1:]:
        for named in re.findall(r"below `(\d+)`", chunk):
            assert f">= {named}" in chunk, chunk


def test_every_value_a_reason_quotes_exists() -> None:
    facts = facts_from(document("adult", {}))
    values = engine._values(facts)
    for policy in ENGINE.policies:
        assert set(re.findall(r"\{(.*?)\}", policy.reason)) <= values.keys(), policy.id


def test_minors_rules_and_prohibitions_are_forbids() -> None:
    for policy in ENGINE.policies:
        assert policy.permits == policy.id.startswith("permit."), policy.id


def test_only_one_module_speaks_to_cedar() -> None:
    packages = ("ledger", "safety", "generator", "gateway")
    users = [
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^\s*(?:import|from) cedarpy", path.read_text(), re.MULTILINE)
    ]
    assert users == ["safety/cedar.py"]


def test_a_set_that_cannot_be_used_names_what_is_wrong() -> None:
    with pytest.raises(Unavailable, match="two policies are called `all`"):
        cedar.Policies(_BROKEN["two policies of one id"])
