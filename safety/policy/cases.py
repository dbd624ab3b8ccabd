"""The decision table: what the policies answer to named requests, one line of intent each.

    {"bases": {"adult": {…facts…}, "child": {"like": "adult", "with": {"cameo.minor": true}}},
     "cases": [{"intent": "the grant has expired", "ask": "use_likeness", "base": "adult",
                "with": {"cameo.grant.expired": true}, "forbidden_by": ["consent.expired"]}]}

A case is a base with a few facts replaced, the question put, and every policy that must forbid it: none, where it
must be allowed. The table travels with the policy set that it is about, as `cases.json`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.errors import Unavailable
from safety.policy.cedar import Query
from safety.policy.engine import Engine, query
from safety.policy.facts import KINDS, QUESTIONS, flaws, from_json

FILE = "cases.json"


@dataclass(frozen=True, slots=True)
class Case:
    intent: str
    action: str
    facts: Mapping[str, Any]
    forbidden_by: frozenset[str]
    """The policies that determine a denial; empty for a request that is allowed."""

    @property
    def query(self) -> Query:
        return query(self.action, self.facts)

    def fault(self, engine: Engine) -> str | None:
        """How this set answers otherwise than the case says; None where it does not."""
        ruling = engine.rule(self.action, **self.facts)
        if ruling.allowed != (not self.forbidden_by):
            verdict = "allowed" if ruling.allowed else f"denied by {', '.join(ruling.policy_ids)}"
            return f"`{self.intent}`: {verdict}"
        if not ruling.allowed and set(ruling.policy_ids) != self.forbidden_by:
            expected = ", ".join(sorted(self.forbidden_by))
            return f"`{self.intent}`: denied by {', '.join(ruling.policy_ids)}, not by {expected}"
        return None


def read(data: bytes) -> tuple[Case, ...]:
    """The table in these bytes. Raises Unavailable naming the first thing wrong with it."""
    try:
        table = json.loads(data)
        cases = tuple(_case(table["bases"], written) for written in table["cases"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(f"it does not have the form of a table ({error})") from error
    if len({case.intent for case in cases}) != len(cases):
        raise _unreadable("two cases have the same intent")
    return cases


def _case(bases: Mapping[str, Any], written: Mapping[str, Any]) -> Case:
    intent, action, by = written["intent"], written["ask"], written["forbidden_by"]
    form = written.keys() == {"intent", "ask", "base", "with", "forbidden_by"}
    if not form or type(intent) is not str or action not in QUESTIONS or type(by) is not list:
        raise _unreadable(f"the case `{intent}` is not in the form of a case")
    made = document(bases, written["base"], written["with"])
    facts = {name: from_json(KINDS[name], made[name]) for name in QUESTIONS[action]}
    for name, part in facts.items():
        nobody = part is None and (action, name) == ("download", "cameo")
        if not nobody and (found := flaws(name, KINDS[name], part)):
            raise _unreadable(f"the case `{intent}`: {found[0]}")
    return Case(intent, action, facts, frozenset(by))


def document(bases: Mapping[str, Any], base: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a base as JSON, with dotted paths replaced. Raises KeyError for a path it does not have."""
    entry = bases[base]
    made: dict[str, Any] = (
        document(bases, entry["like"], entry["with"]) if "like" in entry else json.loads(json.dumps(entry))
    )
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = made
        for parent in parents:
            at = at[parent]
        if last not in at:
            raise KeyError(path)
        at[last] = value
    return made


def _unreadable(what: str) -> Unavailable:
    return Unavailable("policy.cases", f"the decision table cannot be used: {what}", f"correct `{FILE}`")
