"""Whether a mistake in a policy would be noticed: every policy with one thing changed, put to the decision table.

    `consent.expired`: `resource.grant.expired` negated
    `clear.hate`: `context.output.scores.hate >= 500` turned into `context.output.scores.hate > 500`
    `release.approval`: also about `use_likeness`

:func:`mutants` is every such change, in one fixed order: the policy removed; `forbid` and `permit` exchanged; asked
about one action fewer, one more, or about anyone; a clause gone or turned round; a condition gone, negated or
joined the other way; a comparison, number, word or attribute exchanged for another of its kind. No two mutants of a
policy mean the same in other words, and none means what the policy means. :func:`run` says what became of each:

1. *stillborn*: the schema refuses it, so nobody could put it in force;
2. *killed by a case*: what the case says is denied is allowed, or the reverse; *by the reason*, if only the policies
   named are others, for these are what a person is told and what the ledger keeps;
3. *equivalent*: proven to decide every possible request as before. It may still name other policies for a denial;
   a case of that has killed it under 2, and where there is none, nobody's request is decided wrongly;
4. *killed by a proof*: an invariant that was proven no longer is;
5. a *survivor*: a mistake that nothing would notice. The table wants a case.

Cedar decides the cases, and :mod:`safety.policy.proof` only what no case killed.
"""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from ledger.errors import Unavailable
from safety.policy.cases import Case
from safety.policy.cedar import Forbidden, Invariant, Permitted, Policies, Probe, pst, speaks_of
from safety.policy.facts import DOMAINS, OneOf, SetOf
from safety.policy.proof import Proven, equivalent, prove
from safety.policy.schema import Schema


@dataclass(frozen=True, slots=True)
class Mutant:
    policy_id: str
    what: str
    """The change, as a person reads it: "`consent.expired`: `resource.grant.expired` negated"."""
    tree: pst.Template | None = field(repr=False)
    """None: the policy is gone."""


@dataclass(frozen=True, slots=True)
class Score:
    """What became of the mutants of a set."""

    total: int
    killed_by_case: int
    killed_by_reason: int
    """The decision was the same in every case; only the policies named were others."""
    killed_by_proof: int
    equivalent: tuple[Mutant, ...]
    stillborn: int
    survivors: tuple[Mutant, ...]

    @property
    def killed(self) -> int:
        return self.killed_by_case + self.killed_by_reason + self.killed_by_proof

    @property
    def ratio(self) -> float:
        """The share killed of those that could be; 0 where there were none, for then nothing was shown."""
        judged = self.killed + len(self.survivors)
        return self.killed / judged if judged else 0.0

    def lines(self) -> Iterator[str]:
        yield (
            f"mutants     {self.killed} of {self.killed + len(self.survivors)} noticed ({self.ratio:.1%}):"
            f" {self.killed_by_case} by a case, {self.killed_by_reason} by the policies a case names,"
            f" {self.killed_by_proof} by an invariant"
        )
        yield (
            f"            {len(self.equivalent)} more change no decision,"
            f" {self.stillborn} the schema refuses; {self.total} in all"
        )
        yield from (f"  SURVIVES  {mutant.what}" for mutant in self.survivors)


# What becomes of each ----------------------------------------------------------------------------------

Fate = Literal["stillborn", "case", "reason", "equivalent", "proof", "survivor"]
_BY_DEFAULT = frozenset({"policy.default_deny"})
"""How a case says that nothing forbids it and nothing permits it."""


def run(
    policies: Policies, cases: Sequence[Case], *, progress: Callable[[int, int], None] | None = None
) -> Score:
    """Judge every mutant of a set. `progress` is told how many of how many are judged.

    Raises Unavailable for a case that the set itself does not answer as it says: it would kill for nothing.
    """
    found = tuple(mutants(policies))
    trial = Trial(policies, found)
    refused, killed = trial.refused(), trial.killed(cases)
    held = [proof.invariant for proof in prove(policies) if isinstance(proof, Proven)]
    fates: list[Fate] = []
    for n, mutant in enumerate(found):
        fate: Fate | None = "stillborn" if n in refused else killed.get(n)
        if fate is None:
            fate = _proved(policies, policies.replacing(mutant.policy_id, mutant.tree), held)
        fates.append(fate)
        if progress is not None:
            progress(n + 1, len(found))
    count = Counter(fates)
    return Score(
        total=len(found),
        killed_by_case=count["case"],
        killed_by_reason=count["reason"],
        killed_by_proof=count["proof"],
        equivalent=tuple(m for m, fate in zip(found, fates, strict=True) if fate == "equivalent"),
        stillborn=count["stillborn"],
        survivors=tuple(m for m, fate in zip(found, fates, strict=True) if fate == "survivor"),
    )


def _proved(policies: Policies, mutated: Policies, held: Sequence[Invariant]) -> Fate:
    if equivalent(policies, mutated):
        return "equivalent"
    broken = any(not isinstance(proof, Proven) for proof in prove(mutated, held))
    return "proof" if broken else "survivor"


class Answer(NamedTuple):
    allowed: bool
    by: frozenset[str]
    """The policies that determine it; none where nothing permits and nothing forbids."""


class Trial:
    """All mutants of a set put to Cedar at once, one question a case.

    A mutant changes one policy. What the set answers with it follows from which policies apply and whether the
    mutant does, and Cedar says both for all of them together: a forbid that applies wins, then a permit that does.
    INVARIANT: none of them errors. What the schema accepts can only overflow, and no fact is above 10⁹.
    """

    def __init__(self, policies: Policies, found: Sequence[Mutant]) -> None:
        self._policies, self._found = policies, found
        self._permits = {policy.id: policy.permits for policy in policies.all}
        whole = {f"policy {policy.id}": policy.tree for policy in policies.all}
        self._probe = Probe(
            policies, whole | {f"mutant {n}": m.tree for n, m in enumerate(found) if m.tree is not None}
        )

    def refused(self) -> frozenset[int]:
        """The mutants, by number, with which there is no valid set."""
        refused = self._probe.refused()
        alone = len(self._permits) == 1
        return frozenset(
            n for n, m in enumerate(self._found) if (alone if m.tree is None else f"mutant {n}" in refused)
        )

    def killed(self, cases: Sequence[Case]) -> dict[int, Literal["case", "reason"]]:
        """The mutants, by number, that some case is answered otherwise with."""
        killed: dict[int, Literal["case", "reason"]] = {}
        for case in cases:
            answer, others = self.answers(case)
            for n, other in others.items():
                if other.allowed != answer.allowed:
                    killed[n] = "case"
                elif other.by != answer.by:
                    killed.setdefault(n, "reason")
        return killed

    def answers(self, case: Case) -> tuple[Answer, dict[int, Answer]]:
        """What the set answers; and what it would with a mutant, for each that applies where its policy does not,
        or the reverse, or to the other effect. Raises Unavailable as :func:`run` does.
        """
        query = case.query
        applying = self._probe.applying(query)
        met = frozenset(policy_id for policy_id in self._permits if f"policy {policy_id}" in applying)
        answer = _answer(met, self._permits)
        denied_by = frozenset() if answer.allowed else answer.by or _BY_DEFAULT
        match self._policies.ask(query):
            case Permitted(by) | Forbidden(by) if {p.id for p in by} == answer.by:
                holds = denied_by == case.forbidden_by
            case _:
                holds = False
        if not holds:
            raise Unavailable(
                "policy.cases",
                f"the case `{case.intent}` is not answered as it says, so it can notice no mistake",
                "correct the case, or the policies",
            )
        others: dict[int, Answer] = {}
        for n, mutant in enumerate(self._found):
            name = mutant.policy_id
            permits = mutant.tree is not None and mutant.tree.effect == "permit"
            applies = f"mutant {n}" in applying
            if applies != (name in met) or permits != self._permits[name]:
                others[n] = _answer(
                    met | {name} if applies else met - {name}, {**self._permits, name: permits}
                )
        return answer, others


def _answer(met: frozenset[str], permits: Mapping[str, bool]) -> Answer:
    forbids = frozenset(policy_id for policy_id in met if not permits[policy_id])
    return Answer(bool(met) and not forbids, forbids or met)


# Every mutant ----------------------------------------------------------------------------------------------


def mutants(policies: Policies) -> Iterator[Mutant]:
    """Every change of every policy, always in the same order."""
    schema = Schema.parse(policies.schema)
    for policy in policies.all:
        yield Mutant(policy.id, f"`{policy.id}` removed", None)
        change = _Change(schema, policy.tree)
        seen = {change.meaning(policy.tree)}
        for what, tree in change.all():
            meaning = change.meaning(tree)
            if meaning not in seen:
                seen.add(meaning)
                yield Mutant(policy.id, f"`{policy.id}`: {what}", tree)


_ORDER: tuple[pst.BinaryOpName, ...] = ("less", "less_eq", "greater", "greater_eq")
_INSTEAD: Mapping[str, tuple[pst.BinaryOpName, ...]] = {
    "eq": ("not_eq",),
    "not_eq": ("eq",),
    "contains_all": ("contains_any",),
    "contains_any": ("contains_all",),
    **{op: tuple(other for other in _ORDER if other != op) for op in _ORDER},
}
_SIGNS: Mapping[str, str] = (
    {"and": "&&", "or": "||", "eq": "==", "not_eq": "!=", "in": "in"}
    | {"less": "<", "less_eq": "<=", "greater": ">", "greater_eq": ">="}
    | {"add": "+", "sub": "-", "mul": "*"}
)
_CALLS = {"contains_all": "containsAll", "contains_any": "containsAny", "is_empty": "isEmpty"}


class _Change:
    """The ways to get one policy wrong."""

    def __init__(self, schema: Schema, tree: pst.Template) -> None:
        self._schema, self._tree = schema, tree
        self._about = self._covered(tree)
        """Each principal type, action and resource type that the policy is asked about."""

    def all(self) -> Iterator[tuple[str, pst.Template]]:
        tree = self._tree
        effect: pst.Effect = "forbid" if tree.effect == "permit" else "permit"
        yield f"`{tree.effect}` turned into `{effect}`", replace(tree, effect=effect)
        yield from self._scopes()
        for n, clause in enumerate(tree.clauses):
            before, after = tree.clauses[:n], tree.clauses[n + 1 :]
            other = pst.Unless(clause.expr) if isinstance(clause, pst.When) else pst.When(clause.expr)
            said, turned = (f"`{type(one).__name__.lower()}`" for one in (clause, other))
            if before or after:
                said = f"{said} of `{written(clause.expr)}`"
            yield f"{said} removed", replace(tree, clauses=before + after)
            yield f"{said} turned into {turned}", replace(tree, clauses=(*before, other, *after))
            for what, expr in self._conditions(clause.expr):
                yield what, replace(tree, clauses=(*before, replace(clause, expr=expr), *after))

    def _scopes(self) -> Iterator[tuple[str, pst.Template]]:
        """About one action fewer, one more, or about whatever asks or is asked for."""
        about = tuple(dict.fromkeys(action for _, action, _ in self._about))
        for action in about if len(about) > 1 else ():
            rest = tuple(other for other in about if other != action)
            yield f"no longer about `{action}`", replace(self._tree, action=_any_of(rest))
        for action in self._schema.actions:
            if action not in about:
                yield f"also about `{action}`", replace(self._tree, action=_any_of((*about, action)))
        yield "about any principal", replace(self._tree, principal=pst.ScopeAny())
        yield "about any resource", replace(self._tree, resource=pst.ScopeAny())

    def _conditions(self, expr: pst.Expr) -> Iterator[tuple[str, pst.Expr]]:
        """One condition of a clause dropped, negated, joined the other way, or asking something else."""
        match expr:
            case pst.BinaryOp("and" | "or" as op, left, right):
                other: pst.BinaryOpName = "or" if op == "and" else "and"
                said = f"`{_SIGNS[op]}` turned into `{_SIGNS[other]}` in `{written(expr)}`"
                yield said, replace(expr, op=other)
                for dropped, kept in ((left, right), (right, left)):
                    # Of `a && b && c` each one is dropped, and never `a && b`.
                    if not (isinstance(dropped, pst.BinaryOp) and dropped.op == op):
                        yield f"`{written(dropped)}` dropped", kept
                yield from ((what, replace(expr, left=new)) for what, new in self._conditions(left))
                yield from ((what, replace(expr, right=new)) for what, new in self._conditions(right))
            case pst.UnaryOp("not", arg):
                yield f"`{written(expr)}` negated", arg
                yield from ((what, replace(expr, arg=new)) for what, new in self._conditions(arg))
            case pst.IfThenElse(cond, yes, no):
                yield from ((what, replace(expr, cond=new)) for what, new in self._conditions(cond))
                yield from ((what, replace(expr, then_expr=new)) for what, new in self._conditions(yes))
                yield from ((what, replace(expr, else_expr=new)) for what, new in self._conditions(no))
            case _:
                yield f"`{written(expr)}` negated", pst.UnaryOp("not", expr)
                for new in self._asked(expr):
                    yield f"`{written(expr)}` turned into `{written(new)}`", new

    def _asked(self, expr: pst.Expr, words: Sequence[str] = ()) -> Iterator[pst.Expr]:
        """One comparison, number, word or attribute exchanged. `words`: those that can stand here."""
        match expr:
            case pst.LongLit(value):
                yield from (pst.LongLit(value - 1), pst.LongLit(value + 1))
            case pst.StringLit():
                yield from (pst.StringLit(word) for word in words)
            case pst.Set(elements):
                for n, element in enumerate(elements):
                    before, after = elements[:n], elements[n + 1 :]
                    yield pst.Set(before + after)
                    instead = (new for new in self._asked(element, words) if new not in elements)
                    yield from (pst.Set((*before, new, *after)) for new in instead)
            case pst.GetAttr(base, attr):
                yield from (replace(expr, attr=other) for other in self._siblings(base, attr))
                yield from (replace(expr, base=new) for new in self._asked(base))
            case pst.HasAttr(base):
                yield from (replace(expr, base=new) for new in self._asked(base))
            case pst.UnaryOp(_, arg):
                yield from (replace(expr, arg=new) for new in self._asked(arg))
            case pst.BinaryOp(op, left, right):
                yield from (replace(expr, op=other) for other in _INSTEAD.get(op, ()))
                known = self._words(left) or self._words(right)
                yield from (replace(expr, left=new) for new in self._asked(left, known))
                yield from (replace(expr, right=new) for new in self._asked(right, known))

    # What the schema says of it ----------------------------------------------------------------------------

    def _covered(self, tree: pst.Template) -> tuple[tuple[str, str, str], ...]:
        return tuple(
            (principal, name, resource)
            for name, action in self._schema.actions.items()
            if speaks_of(tree.action, action.groups | {name})
            for principal in action.principals
            for resource in action.resources
            if _fits(tree.principal, principal) and _fits(tree.resource, resource)
        )

    def _records(self, expr: pst.Expr) -> Iterator[tuple[str, Mapping[str, str]]]:
        """What an expression can stand for that has attributes: the name of each type, and its attributes' types."""
        match expr:
            case pst.Var("context"):
                yield from (("", self._schema.actions[action].context) for _, action, _ in self._about)
            case pst.Var("principal"):
                yield from ((kind, self._schema.types[kind]) for kind, _, _ in self._about)
            case pst.Var("resource"):
                yield from ((kind, self._schema.types[kind]) for _, _, kind in self._about)
            case pst.GetAttr(base, attr):
                kinds = (record.get(attr, "") for _, record in self._records(base))
                yield from ((kind, self._schema.types[kind]) for kind in kinds if kind in self._schema.types)
            case _:
                pass

    def _siblings(self, base: pst.Expr, attr: str) -> tuple[str, ...]:
        """The other attributes beside this one that are of its type."""
        found = (
            other
            for _, record in self._records(base)
            for other in record
            if record[other] == record.get(attr)
        )
        return tuple(other for other in dict.fromkeys(found) if other != attr)

    def _words(self, expr: pst.Expr) -> tuple[str, ...]:
        """The words an attribute can hold; none for anything else."""
        if isinstance(expr, pst.GetAttr):
            for kind, _ in self._records(expr.base):
                match DOMAINS.get(f"{kind}.{expr.attr}"):
                    case OneOf(words) | SetOf(words):
                        return words
                    case _:
                        pass
        return ()

    def meaning(self, tree: pst.Template) -> Hashable:
        """The same for trees that say the same in other words: about whom and what, and under which conditions."""
        scopes = [s for s in (tree.principal, tree.resource) if not isinstance(s, pst.ScopeAny | pst.ScopeIs)]
        parts = [_meaning(clause.expr, holds=isinstance(clause, pst.When)) for clause in tree.clauses]
        return tree.effect, frozenset(self._covered(tree)), *scopes, _joined("and", parts)


def _meaning(expr: pst.Expr, *, holds: bool) -> tuple[object, object]:
    """With `!` moved inwards, comparisons made `<` and `==` with the number on the right, and in no order.

    `!(a < 3 || b)` and `!b && a > 2` are one. Only what never errors may be reordered: see :class:`Trial`.
    """
    match expr:
        case pst.UnaryOp("not", arg):
            return _meaning(arg, holds=not holds)
        case pst.BinaryOp("and" | "or" as op, left, right):
            joined = op if holds else {"and": "or", "or": "and"}[op]
            return _joined(joined, [_meaning(left, holds=holds), _meaning(right, holds=holds)])
        case pst.BinaryOp("not_eq" | "greater_eq" as op, left, right):
            opposite: pst.BinaryOpName = "eq" if op == "not_eq" else "less"
            return _meaning(pst.BinaryOp(opposite, left, right), holds=not holds)
        case pst.BinaryOp("greater" | "less_eq" as op, left, right):
            return _meaning(pst.BinaryOp("less", right, left), holds=holds == (op == "greater"))
        case pst.BinaryOp("less", pst.LongLit(value), right) if not isinstance(right, pst.LongLit):
            return _meaning(pst.BinaryOp("less", right, pst.LongLit(value + 1)), holds=not holds)
        case _:
            return holds, expr


def _joined(op: str, parts: Sequence[tuple[object, object]]) -> tuple[object, object]:
    flat: set[object] = set()
    for part in parts:
        match part:
            case (joined, frozenset() as inner) if joined == op:
                flat |= inner
            case _:
                flat.add(part)
    return parts[0] if len(flat) == 1 else (op, frozenset(flat))


def _fits(scope: pst.PrincipalOrResourceConstraint, kind: str) -> bool:
    match scope:
        case pst.ScopeIs(entity_type) | pst.ScopeIsIn(entity_type):
            return str(entity_type) == kind
        case _:
            return True


def _any_of(actions: Sequence[str]) -> pst.ActionConstraint:
    named = tuple(pst.EntityUid(pst.EntityType("Action"), action) for action in actions)
    return pst.ActionEq(named[0]) if len(named) == 1 else pst.ActionIn(named)


# As a person reads it ----------------------------------------------------------------------------------


def written(expr: pst.Expr) -> str:  # noqa: PLR0911 — one line for each form
    """An expression as it stands in a policy file."""
    match expr:
        case pst.Var(name):
            return name
        case pst.BoolLit() | pst.LongLit() | pst.StringLit():
            return json.dumps(expr.value, ensure_ascii=False)
        case pst.Set(elements):
            return f"[{', '.join(map(written, elements))}]"
        case pst.GetAttr(base, attr):
            return f"{_grouped(base)}.{attr}"
        case pst.HasAttr(base, attrs):
            return f"{_grouped(base)} has {'.'.join(attrs)}"
        case pst.UnaryOp("not", arg):
            return f"!{_grouped(arg)}"
        case pst.UnaryOp(op, arg):
            return f"{_grouped(arg)}.{_CALLS.get(op, op)}()"
        case pst.BinaryOp(op, left, right) if op in _SIGNS:
            within = "" if isinstance(right, pst.BinaryOp) and right.op == op else op
            return f"{_grouped(left, op)} {_SIGNS[op]} {_grouped(right, within)}"
        case pst.BinaryOp(op, left, right):
            return f"{_grouped(left)}.{_CALLS.get(op, op)}({written(right)})"
        case _:
            return f"<{type(expr).__name__}>"


def _grouped(expr: pst.Expr, within: str = "") -> str:
    """In parentheses where it would read otherwise without."""
    match expr:
        case pst.BinaryOp(op) if op in _SIGNS:
            bare = op == within or (within in {"and", "or"} and op not in {"and", "or"})
        case pst.HasAttr() | pst.UnaryOp("not"):
            bare = within in {"and", "or"}
        case _:
            bare = True
    return written(expr) if bare else f"({written(expr)})"
