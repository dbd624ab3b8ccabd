"""Why no permit applied: its conditions, one by one, in the words of the schema.

A forbid says for itself why it forbids. Where nothing forbids and nothing permits either, the answer is in the
permits: each is split at its `&&`s, every condition is put to Cedar alone, and those that do not hold are said in
English, made of the `@doc`s that the schema gives each attribute:

    permit … when { resource has grant && resource.grant.uses < resource.grant.max_uses } unless { resource.minor }
    not so, as `permit.use_likeness` needs: the number of uses made of the grant is below the number of uses it allows
    so, against what `permit.use_likeness` needs: the person is a minor or of unknown age

A condition about a likeness or a grant is not for an app that holds no grant: it would tell whether somebody is
enrolled, or has blocked it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from safety.policy.cedar import Policies, Policy, Probe, Query, pst
from safety.policy.schema import Schema

_COMPARED: Mapping[str, str] = {
    "eq": "is",
    "not_eq": "is not",
    "less": "is below",
    "less_eq": "is at most",
    "greater": "is above",
    "greater_eq": "is at least",
    "contains": "include",
    "contains_all": "include all of",
    "contains_any": "include some of",
}


@dataclass(frozen=True, slots=True)
class _Condition:
    permit: Policy
    tree: pst.Template
    """The permit with this one condition, and its whole scope."""


@dataclass(frozen=True, slots=True)
class Unmet:
    sentence: str
    private: bool
    """It speaks of a likeness or a grant."""


_PRIVATE = frozenset({"Cameo", "Grant"})


class Conditions:
    """The conditions of every permit of a set."""

    def __init__(self, policies: Policies) -> None:
        self._schema = policies.vocabulary
        permits = [policy for policy in policies.all if policy.permits]
        self._all = {
            f"{policy.id}/{n}": _Condition(policy, tree)
            for policy in permits
            for n, tree in enumerate(_split(policy.tree))
        }
        self._probe = Probe(policies, {name: one.tree for name, one in self._all.items()})

    def unmet(self, query: Query) -> tuple["Unmet", ...]:
        """Each condition that does not hold, of the permits for this action and these parties."""
        met = self._probe.applying(query)
        # A permit whose scope is another question's has no condition here that anyone could meet.
        within = {one.permit.id for name, one in self._all.items() if name in met and not one.tree.clauses}
        said = (
            self._said(one, query)
            for name, one in self._all.items()
            if name not in met and one.permit.id in within
        )
        return tuple(dict.fromkeys(said))

    def _said(self, condition: _Condition, query: Query) -> "Unmet":
        (clause,) = condition.tree.clauses
        expr, wanted = clause.expr, isinstance(clause, pst.When)
        while isinstance(expr, pst.UnaryOp) and expr.op == "not":
            expr, wanted = expr.arg, not wanted
        words = _Words(self._schema, query)
        said, needs = words.clause(expr), f"`{condition.permit.id}` needs"
        return Unmet(
            f"not so, as {needs}: {said}" if wanted else f"so, against what {needs}: {said}",
            private=bool(words.kinds & _PRIVATE),
        )


def _split(tree: pst.Template) -> Iterator[pst.Template]:
    """The permit's bare scope, and the permit with each of its conditions alone."""
    yield replace(tree, clauses=())
    for clause in tree.clauses:
        parts = _conjuncts(clause.expr) if isinstance(clause, pst.When) else [clause.expr]
        for part in parts:
            yield replace(tree, clauses=(type(clause)(part),))


def _conjuncts(expr: pst.Expr) -> list[pst.Expr]:
    if isinstance(expr, pst.BinaryOp) and expr.op == "and":
        return [*_conjuncts(expr.left), *_conjuncts(expr.right)]
    return [expr]


class _Words:
    """Conditions in English, for one question."""

    def __init__(self, schema: Schema, query: Query) -> None:
        self._schema = schema
        self._kinds = {"principal": query.principal.type, "resource": query.resource.type}
        self._context = schema.actions[query.action].context
        self.kinds = set[str]()
        """The types of whatever was spoken of."""

    def clause(self, expr: pst.Expr) -> str:  # noqa: PLR0911 — one line for each form
        match expr:
            case pst.GetAttr():
                return self._noun(expr)
            case pst.UnaryOp("not", arg):
                return f"it is not so that {self.clause(arg)}"
            case pst.UnaryOp("is_empty", arg):
                return f"{self._noun(arg)} are none"
            case pst.HasAttr(base, attrs):
                return f"there is {self._said(base, attrs)}"
            case pst.BinaryOp("and" | "or" as op, left, right):
                return f"{self.clause(left)} {op} {self.clause(right)}"
            case pst.BinaryOp(op, left, right) if op in _COMPARED:
                return f"{self._noun(left)} {_COMPARED[op]} {self._noun(right)}"
            case _:
                self.kinds.add("Cameo")  # nobody looked what it speaks of
                return "a condition it names holds"

    def _noun(self, expr: pst.Expr) -> str:
        match expr:
            case pst.GetAttr(base, attr):
                return self._said(base, (attr,))
            case pst.LongLit(value) | pst.StringLit(value):
                return f"`{value}`"
            case pst.Set(elements):
                return ", ".join(self._noun(element) for element in elements)
            case _:
                self.kinds.add("Cameo")
                return "what it names"

    def _said(self, base: pst.Expr, attrs: Sequence[str]) -> str:
        """The `@doc` of an attribute; its name, where the schema says nothing about it."""
        kind = self._kind(base)
        self.kinds.add(kind)
        for attr in attrs[:-1]:
            kind = self._held(kind, attr)
            self.kinds.add(kind)
        return self._schema.doc(kind, attrs[-1])

    def _kind(self, expr: pst.Expr) -> str:
        """The type of an entity or a record; empty for the context, which has no name, and for anything else."""
        match expr:
            case pst.Var(name):
                return self._kinds.get(name, "")
            case pst.GetAttr(pst.Var("context"), attr):
                return self._context.get(attr, "")
            case pst.GetAttr(base, attr):
                return self._held(self._kind(base), attr)
            case _:
                return ""

    def _held(self, kind: str, attr: str) -> str:
        found = self._schema.attribute(kind, attr)
        return found.type if found is not None else ""
