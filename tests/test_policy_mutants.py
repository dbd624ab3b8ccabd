"""A mutant is what it says, and the score of a set tells a table that would notice a mistake from one that would not."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import Unavailable
from safety.policy import cases
from safety.policy.cases import Case
from safety.policy.cedar import INVARIANTS, SCHEMA, Permitted, Policies, Undecided, pst, read
from safety.policy.facts import ListFacts, ReaderFacts
from safety.policy.mutants import _BY_DEFAULT, Mutant, Score, Trial, _meaning, mutants, run, written

POLICIES = Path(__file__).parent.parent / "policies"
SET = Policies(read(POLICIES))
MUTANTS = tuple(mutants(SET))
NOTES = '@reason("a reason") @remedy("a remedy") @source("rule: a rule") @told("anyone")'

# Every change of a policy -------------------------------------------------------------------------------

VOCABULARY = b"""
type Request = { audience: String, contexts: Set<String>, depicted: Long, unknown_faces: Long };
entity App = { suspended: Bool };
entity Service;
entity Job = { recorded: Bool };
entity Grant = { expired: Bool, revoked: Bool };
entity Cameo = { minor: Bool, grant?: Grant };
action making;
action generate in [making] appliesTo { principal: [App], resource: [Job], context: { request: Request } };
action clear in [making] appliesTo { principal: [Service], resource: [Job], context: { request: Request } };
action use_likeness in [making] appliesTo { principal: [App], resource: [Cameo], context: { request: Request } };
action precheck appliesTo { principal: [App, Service], resource: [Cameo], context: {} };
"""


def _alone(text: str) -> tuple[Policies, tuple[Mutant, ...]]:
    policies = Policies({SCHEMA: VOCABULARY, "all.cedar": f'@id("p") {NOTES} {text}'.encode()})
    return policies, tuple(mutants(policies))


def _said(text: str) -> list[str]:
    return [mutant.what.removeprefix("`p`").lstrip(": ") for mutant in _alone(text)[1]]


def test_every_mutant_of_a_small_policy_in_order() -> None:
    both = 'context.request.depicted > 0 && !context.request.contexts.containsAny(["sexual", "violent"])'
    assert _said("""
        forbid (principal is App, action in Action::"making", resource)
        when { context.request.depicted > 0 && !context.request.contexts.containsAny(["sexual", "violent"]) }
        unless { principal.suspended };
    """) == [
        "removed",
        "`forbid` turned into `permit`",
        "no longer about `generate`",
        "no longer about `use_likeness`",
        "also about `precheck`",
        "about any principal",
        f"`when` of `{both}` removed",
        f"`when` of `{both}` turned into `unless`",
        f"`&&` turned into `||` in `{both}`",
        "`context.request.depicted > 0` dropped",
        '`!context.request.contexts.containsAny(["sexual", "violent"])` dropped',
        "`context.request.depicted > 0` negated",
        "`context.request.depicted > 0` turned into `context.request.depicted < 0`",
        "`context.request.depicted > 0` turned into `context.request.depicted >= 0`",
        "`context.request.depicted > 0` turned into `context.request.unknown_faces > 0`",
        "`context.request.depicted > 0` turned into `context.request.depicted > 1`",
        '`!context.request.contexts.containsAny(["sexual", "violent"])` negated',
        *(
            '`context.request.contexts.containsAny(["sexual", "violent"])`'
            f" turned into `context.request.contexts.{other}`"
            for other in (
                'containsAll(["sexual", "violent"])',
                'containsAny(["violent"])',
                'containsAny(["political", "violent"])',
                'containsAny(["romantic", "violent"])',
                'containsAny(["advertising", "violent"])',
                'containsAny(["sexual"])',
                'containsAny(["sexual", "political"])',
                'containsAny(["sexual", "romantic"])',
                'containsAny(["sexual", "advertising"])',
            )
        ),
        "`unless` of `principal.suspended` removed",
        "`unless` of `principal.suspended` turned into `when`",
    ]


def test_only_one_of_many_conditions_is_dropped_at_a_time() -> None:
    said = _said("""
        permit (principal, action == Action::"use_likeness", resource)
        when { resource.minor && principal.suspended && context.request.audience == "everyone" };
    """)
    assert [what for what in said if what.endswith("dropped")] == [
        '`context.request.audience == "everyone"` dropped',
        "`resource.minor` dropped",
        "`principal.suspended` dropped",
    ]


def test_a_word_is_exchanged_only_for_another_that_can_stand_there() -> None:
    said = _said("""
        permit (principal, action == Action::"clear", resource)
        when { context.request.audience == "everyone" };
    """)
    assert [what for what in said if "everyone" in what] == [
        '`context.request.audience == "everyone"` turned into `context.request.audience == "requester"`'
    ]


def test_what_says_the_same_in_other_words_is_no_mutant() -> None:
    """`resource is Cameo` says nothing that the action does not; `when` turned round is the condition negated."""
    assert _said("""
        permit (principal, action == Action::"use_likeness", resource is Cameo) when { resource.minor };
    """) == [
        "removed",
        "`permit` turned into `forbid`",
        "also about `precheck`",
        "`when` removed",
        "`when` turned into `unless`",
    ]


def test_branches_of_a_condition_are_changed_too() -> None:
    said = _said("""
        permit (principal, action == Action::"precheck", resource)
        when { if resource.minor then resource.minor == resource.minor else resource has grant };
    """)
    assert "`resource has grant` negated" in said
    assert "`resource.minor == resource.minor` negated" in said
    assert "`resource.minor` negated" in said


def test_mutants_differ_from_their_policy_and_from_each_other() -> None:
    assert len(MUTANTS) > 1000
    for policy in SET.all:
        trees = [policy.tree, *(m.tree for m in MUTANTS if m.policy_id == policy.id)]
        assert len(set(trees)) == len(trees) > 2, policy.id


def test_a_set_has_the_same_mutants_in_the_same_order_each_time() -> None:
    assert tuple(mutants(Policies(SET.files))) == MUTANTS


def test_every_mutant_can_be_told_from_the_others_by_what_it_says() -> None:
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS)


def test_conditions_are_written_as_they_would_be_read() -> None:
    trees = [tree for tree in (*(p.tree for p in SET.all), *(m.tree for m in MUTANTS)) if tree is not None]
    for expr in {clause.expr for tree in trees for clause in tree.clauses}:
        text = f"permit (principal, action, resource) when {{ {written(expr)} }};"
        (again,) = cedarpy.policies_to_pst(text).static_policies.values()
        assert again.clauses == (pst.When(expr),), text


# What they mean --------------------------------------------------------------------------------------------

_TRUTHS: st.SearchStrategy[pst.Expr] = st.sampled_from("pq").map(
    lambda name: pst.GetAttr(pst.Var("context"), name)
)
_NUMBERS: st.SearchStrategy[pst.Expr] = st.one_of(
    st.sampled_from("xy").map(lambda name: pst.GetAttr(pst.Var("context"), name)),
    st.integers(0, 2).map(pst.LongLit),
)
_COMPARED: st.SearchStrategy[pst.Expr] = st.builds(
    pst.BinaryOp,
    st.sampled_from(["less", "less_eq", "greater", "greater_eq", "eq", "not_eq"]),
    _NUMBERS,
    _NUMBERS,
)
_EXPRESSIONS: st.SearchStrategy[pst.Expr] = st.recursive(
    _TRUTHS | _COMPARED,
    lambda inner: (
        st.builds(pst.UnaryOp, st.just("not"), inner)
        | st.builds(pst.BinaryOp, st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=6,
)


def _value(expr: object, facts: Mapping[str, int]) -> int:
    match expr:
        case pst.GetAttr(_, name):
            return facts[name]
        case pst.LongLit(value):
            return value
        case pst.UnaryOp("not", arg):
            return not _value(arg, facts)
        case pst.BinaryOp(op, left, right):
            a, b = _value(left, facts), _value(right, facts)
            return {
                "and": a and b,
                "or": a or b,
                "less": a < b,
                "less_eq": a <= b,
                "greater": a > b,
                "greater_eq": a >= b,
                "eq": a == b,
                "not_eq": a != b,
            }[op]
        case (bool() as holds, inner):
            return bool(_value(inner, facts)) == holds
        case ("and", frozenset() as parts):
            return all(_value(part, facts) for part in parts)
        case ("or", frozenset() as parts):
            return any(_value(part, facts) for part in parts)
        case _:
            raise AssertionError(expr)


@given(
    _EXPRESSIONS,
    st.fixed_dictionaries(
        {"p": st.booleans(), "q": st.booleans(), "x": st.integers(0, 3), "y": st.integers(0, 3)}
    ),
)
def test_meaning_is_true_where_the_expression_is(expr: pst.Expr, facts: dict[str, int]) -> None:
    """Or a mutant would be left out that does change something."""
    assert bool(_value(_meaning(expr, holds=True), facts)) == bool(_value(expr, facts))


# Put to Cedar ---------------------------------------------------------------------------------------------


def test_all_at_once_says_what_each_mutated_set_would_say() -> None:
    table = cases.read((POLICIES / cases.FILE).read_bytes())
    trial = Trial(SET, MUTANTS)
    refused = trial.refused()
    sample = [*range(0, len(MUTANTS), 97), *sorted(refused)[:3]]
    mutated: dict[int, Policies] = {}
    for n in sample:
        if n in refused:
            with pytest.raises(Unavailable, match="the schema refuses"):
                SET.replacing(MUTANTS[n].policy_id, MUTANTS[n].tree)
        else:
            mutated[n] = SET.replacing(MUTANTS[n].policy_id, MUTANTS[n].tree)
    assert 0 < len(mutated) < len(sample)
    for case in table[::5]:
        answer, others = trial.answers(case)
        for n, policies in mutated.items():
            asked = policies.ask(case.query)
            assert not isinstance(asked, Undecided)
            allowed, by = others.get(n, answer)
            assert isinstance(asked, Permitted) == allowed, MUTANTS[n].what
            assert {policy.id for policy in asked.by} == by, MUTANTS[n].what


def test_a_mutant_that_the_schema_refuses_is_found_and_no_other() -> None:
    policies, found = _alone("""
        permit (principal, action == Action::"precheck", resource) when { resource has grant && resource.grant.expired };
    """)
    assert [found[n].what for n in sorted(Trial(policies, found).refused())] == [
        "`p` removed",  # a set of no policies is none
        "`p`: `&&` turned into `||` in `resource has grant && resource.grant.expired`",
        "`p`: `resource has grant` dropped",
        "`p`: `resource has grant` negated",
    ]


# The score ------------------------------------------------------------------------------------------------

SMALL = f"""
@id("permit.read") {NOTES}
permit (principal is Reader, action == Action::"read_list", resource is List)
when {{ principal.role == "owner" || principal.role == "auditor" }};
@id("access.not_yours") {NOTES}
forbid (principal is Reader, action == Action::"read_list", resource is List)
when {{ principal.role == "owner" && !resource.own }};
"""
NEVER = """
@id("never.read_by_others") @says("nobody reads as an owner what is about somebody else")
forbid (principal is Reader, action == Action::"read_list", resource is List)
when { principal.role == "owner" && !resource.own };
"""


def _small(never: str = "", rules: str = SMALL) -> Policies:
    return Policies({SCHEMA: SET.files[SCHEMA], "all.cedar": rules.encode(), INVARIANTS: never.encode()})


def _asks(
    role: str,
    *,
    own: bool,
    recorded: bool = False,
    forbidden_by: frozenset[str] = frozenset(),
    action: str = "read_list",
) -> Case:
    facts = {
        "reader": ReaderFacts("reader_1", role),  # type: ignore[arg-type]
        "list": ListFacts("cameo_1", own=own, recorded=recorded),  # type: ignore[arg-type]
    }
    return Case(f"{action} {role} {own} {recorded}", action, facts, forbidden_by)


def _all_cases() -> Iterator[Case]:
    yield _asks("auditor", own=True, forbidden_by=_BY_DEFAULT, action="erase_list")
    for recorded in (False, True):
        for own in (False, True):
            yield _asks("auditor", own=own, recorded=recorded)
            yield _asks("operator", own=own, recorded=recorded, forbidden_by=_BY_DEFAULT)
        yield _asks("owner", own=True, recorded=recorded)
        yield _asks("owner", own=False, recorded=recorded, forbidden_by=frozenset({"access.not_yours"}))


STRONG = tuple(_all_cases())
WEAK = tuple(case for case in STRONG if not case.forbidden_by)
NOT_YOURS_GONE = "`access.not_yours` removed"


def _whats(found: tuple[Mutant, ...]) -> set[str]:
    return {mutant.what for mutant in found}


def test_a_table_of_every_case_leaves_no_survivor() -> None:
    score = run(_small(), STRONG)
    assert score.survivors == ()
    assert score.ratio == 1.0
    assert score.killed_by_case > 10
    assert score.total == score.killed + len(score.equivalent) + score.stillborn


def test_a_weak_table_leaves_survivors_and_the_score_names_them() -> None:
    score = run(_small(), WEAK)
    assert NOT_YOURS_GONE in _whats(score.survivors)
    assert score.ratio < 1
    assert any(NOT_YOURS_GONE in line and "SURVIVES" in line for line in score.lines())


def test_a_proof_kills_what_no_case_does() -> None:
    score = run(_small(NEVER), WEAK)
    assert score.killed_by_proof > 0
    assert NOT_YOURS_GONE not in _whats(score.survivors)
    assert len(score.survivors) + score.killed_by_proof == len(run(_small(), WEAK).survivors)


def test_an_invariant_broken_from_the_start_kills_nothing() -> None:
    never = NEVER.replace(" && !resource.own", "")
    assert run(_small(never), WEAK).killed_by_proof == 0


def test_a_mutant_that_decides_nothing_otherwise_is_equivalent_and_not_killed() -> None:
    score = run(_small(), STRONG)
    # Erasing a list is permitted to nobody here, so forbidding it to some changes nothing.
    also = "`access.not_yours`: also about `erase_list`"
    assert also in _whats(score.equivalent)
    assert also not in _whats(score.survivors)
    assert score.killed + len(score.equivalent) + score.stillborn == score.total


def test_naming_another_policy_is_noticed_and_counted_apart() -> None:
    twice = SMALL + SMALL[SMALL.index("@id", 2) :].replace("access.not_yours", "access.again")
    by = frozenset({"access.not_yours", "access.again"})
    table = tuple(
        Case(
            case.intent,
            case.action,
            case.facts,
            by if "access.not_yours" in case.forbidden_by else case.forbidden_by,
        )
        for case in STRONG
    )
    trial = Trial(_small(rules=twice), found := tuple(mutants(_small(rules=twice))))
    killed = trial.killed(table)
    gone = next(n for n, mutant in enumerate(found) if mutant.what == NOT_YOURS_GONE)
    assert killed[gone] == "reason"
    assert run(_small(rules=twice), table).killed_by_reason == list(killed.values()).count("reason") > 0


def test_stillborn_mutants_are_counted_apart() -> None:
    alone = SMALL[: SMALL.index('@id("access')]
    score = run(_small(rules=alone), [case for case in STRONG if case.forbidden_by != {"access.not_yours"}])
    assert score.stillborn == 1  # the set would be empty
    assert score.total == score.killed + len(score.equivalent) + len(score.survivors) + 1


@pytest.mark.parametrize(
    "wrong",
    [
        _asks("owner", own=False),
        _asks("owner", own=True, forbidden_by=frozenset({"access.not_yours"})),
        _asks("owner", own=False, forbidden_by=frozenset({"access.other"})),
        _asks("owner", own=False, forbidden_by=_BY_DEFAULT),
        _asks("operator", own=True, forbidden_by=frozenset({"access.not_yours"})),
    ],
    ids=["denied", "allowed", "by another", "by default", "not by default"],
)
def test_a_case_that_is_wrong_about_the_set_is_refused(wrong: Case) -> None:
    with pytest.raises(Unavailable, match="is not answered as it says"):
        run(_small(), [wrong])


def test_progress_counts_every_mutant_once() -> None:
    told: list[tuple[int, int]] = []
    score = run(_small(), STRONG, progress=lambda done, of: told.append((done, of)))
    assert told == [(n + 1, score.total) for n in range(score.total)]


def test_score_adds_up_and_nothing_shown_is_no_full_score() -> None:
    survivor = Mutant("a", "`a` removed", None)
    score = Score(10, 4, 1, 1, (survivor,), 1, (survivor, survivor))
    assert score.killed == 6
    assert score.ratio == 0.75
    assert list(score.lines()) == [
        "mutants     6 of 8 noticed (75.0%): 4 by a case, 1 by the policies a case names, 1 by an invariant",
        "            1 more change no decision, 1 the schema refuses; 10 in all",
        "  SURVIVES  `a` removed",
        "  SURVIVES  `a` removed",
    ]
    assert Score(3, 0, 0, 0, (), 3, ()).ratio == 0.0
