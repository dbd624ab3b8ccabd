"""One question to the policies, may this likeness be used: Cedar, the plain-Python oracle of the tests, and CEL.

    python benchmarks/engines.py           the same figures alone; `gate.py` takes them in its own run

Cedar's trees are translated into the Common Expression Language (https://cel.dev), each action's policies into one list
of which of them apply; before anything is timed, both answer every case of `policies/cases.json`, and must agree on the
answer and on the policies that made it. Both are given a `Query` and give an `Answer`; the oracle, which only says what
forbids, is given the facts. `engine_us` is Cedar with all that a ruling is beside it: facts checked, reasons written.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cel

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from log import seconds

from policy_oracle import verdict
from safety.policy import cases, cedar
from safety.policy.cedar import Forbidden, Permitted, Policies, Query, Uid, pst
from safety.policy.engine import Engine, query
from safety.policy.schema import Schema

POLICIES = Path(__file__).parent.parent / "policies"
QUESTIONS = 600


def compare(policies: Policies) -> dict[str, float]:
    """µs for each engine."""
    table = cases.read((POLICIES / cases.FILE).read_bytes())
    peers = {action: InCel(policies, action) for action in {case.action for case in table}}
    for case in table:
        theirs, ours = peers[case.action].ask(case.query), policies.ask(case.query)
        if isinstance(ours, cedar.Undecided) or policy_ids(theirs) != policy_ids(ours):
            raise AssertionError(f"they do not agree that {case.intent}")
    granted = next(case for case in table if case.action == "use_likeness" and not case.forbidden_by)
    facts = [used(granted.facts, times) for times in range(QUESTIONS)]
    queries, engine = [query("use_likeness", one) for one in facts], Engine.of(policies.files)
    cedar_us, cel_us = (
        per_question_us(policies.ask, queries),
        per_question_us(peers["use_likeness"].ask, queries),
    )
    return {
        "cedar_alone_us": round(cedar_us, 1),
        "oracle_us": round(per_question_us(lambda one: verdict("use_likeness", **one), facts), 1),
        "cel_us": round(cel_us, 1),
        "cel_ratio": round(cel_us / cedar_us, 2),
        "engine_us": round(per_question_us(lambda one: engine.rule("use_likeness", **one), facts), 1),
        "cases_agreed": len(table),
    }


def policy_ids(answer: Permitted | Forbidden) -> tuple[bool, set[str]]:
    return isinstance(answer, Permitted), {policy.id for policy in answer.by}


def used(facts: Mapping[str, Any], times: int) -> dict[str, Any]:
    """The same question under a grant that was used so often: none that was put before, and answered the same."""
    grant = replace(facts["cameo"].grant, uses=times, max_uses=QUESTIONS)
    return {**facts, "cameo": replace(facts["cameo"], grant=grant)}


def per_question_us(answer: Callable[[Any], object], questions: Sequence[Any]) -> float:
    """In the best hundred."""
    hundreds = [questions[start : start + 100] for start in range(0, len(questions), 100)]
    return min(1e4 * seconds(lambda some=some: [answer(one) for one in some]) for some in hundreds)  # type: ignore[misc]


class InCel:
    """The policies that speak of one action."""

    def __init__(self, policies: Policies, action: str) -> None:
        asked = Schema.parse(policies.schema).actions[action]
        self.all = [
            policy
            for policy in policies.all
            if within(policy.tree.principal, asked.principals)
            and within(policy.tree.resource, asked.resources)
            and {uid.id for uid in pst.entity_uids(policy.tree.action)} & {action, *asked.groups}
        ]
        self.program = cel.compile(f"[{', '.join(conditions(policy.tree) for policy in self.all)}]")

    def ask(self, asked: Query) -> Permitted | Forbidden:
        def inlined(value: object) -> Any:
            if isinstance(value, Uid):
                return {name: inlined(inner) for name, inner in asked.entities[value].items()}
            return list(value) if isinstance(value, frozenset) else value

        facts = {
            "principal": inlined(asked.principal),
            "resource": inlined(asked.resource),
            "context": {name: inlined(value) for name, value in asked.context.items()},
        }
        applied = [
            policy for policy, holds in zip(self.all, self.program.execute(facts), strict=True) if holds
        ]
        forbidding = tuple(policy for policy in applied if not policy.permits)
        return Forbidden(forbidding) if forbidding or not applied else Permitted(tuple(applied))


def within(scope: pst.PrincipalOrResourceConstraint, types: Sequence[str]) -> bool:
    """Whether it is met by whatever the schema lets stand there. A scope that names somebody is not translated."""
    if not isinstance(scope, pst.ScopeAny | pst.ScopeIs):
        raise TypeError(f"`{scope}` is not translated")
    return isinstance(scope, pst.ScopeAny) or tuple(types) == (scope.entity_type.basename,)


def conditions(tree: pst.Template) -> str:
    parts = [f"{'' if isinstance(one, pst.When) else '!'}({in_cel(one.expr)})" for one in tree.clauses]
    return " && ".join(parts) or "true"


_SIGNS = {"and": "&&", "or": "||", "eq": "==", "not_eq": "!=", "less": "<", "less_eq": "<="}
_SIGNS |= {"greater": ">", "greater_eq": ">="}
_CALLS = {
    "contains": "({right} in {left})",
    "contains_all": "{right}.all(x, x in {left})",
    "contains_any": "{right}.exists(x, x in {left})",
}


def in_cel(expr: pst.Expr) -> str:  # noqa: PLR0911 — one line for each form
    match expr:
        case pst.Var(name):
            return str(name)
        case pst.BoolLit(value) | pst.LongLit(value) | pst.StringLit(value):
            return json.dumps(value)
        case pst.Set(elements):
            return f"[{', '.join(map(in_cel, elements))}]"
        case pst.GetAttr(base, attr):
            return f"{in_cel(base)}.{attr}"
        case pst.HasAttr(base, (attr,)):
            return f"has({in_cel(base)}.{attr})"
        case pst.UnaryOp("not", arg):
            return f"!({in_cel(arg)})"
        case pst.UnaryOp("is_empty", arg):
            return f"({in_cel(arg)} == [])"
        case pst.BinaryOp(op, left, right) if op in {**_SIGNS, **_CALLS}:
            form = _CALLS.get(op, f"({{left}} {_SIGNS.get(op)} {{right}})")
            return form.format(left=in_cel(left), right=in_cel(right))
    raise TypeError(f"`{expr}` is not translated")


if __name__ == "__main__":
    print(json.dumps(compare(Policies(cedar.read(POLICIES)))))
