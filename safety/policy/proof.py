"""What the policies allow over every request there can be: decided by z3, shown by an example that Cedar confirms.

    `never.beyond_its_uses`: a grant is used no more often than it says: proven. Without `consent.used_up` it is not:
        action: use_likeness
        grant: max_uses 3, uses 3
        otherwise an ordinary request

One symbolic request stands for all requests of an *environment*: an action, a type of whoever asks and a type of what
is asked about, as the schema has them. Each attribute ranges over exactly its domain in
:data:`~safety.policy.facts.DOMAINS`. What z3 proves of it holds of every request, because

1. a policy's formula says exactly when Cedar applies it. No policy of a valid set errors: of an attribute that may be
   missing the validator demands a `has` first, every entity named is supplied (:mod:`safety.policy.cedar` sees to
   it), and there is no arithmetic that could overflow;
2. a request is allowed exactly if a permit applies and no forbid does;
3. what a policy uses beyond this (arithmetic, `like`, tags, extension types, hierarchies …) is refused by name, and
   so is an attribute without a domain (CheckUnavailable, `policy.outside_fragment`): no formula leaves anything out;
4. a solver that gives no answer in time has proven nothing (CheckUnavailable, `policy.undecided`);
5. no example leaves this module until Cedar itself has answered it as the formula said (RuntimeError if it does not).

Examples are as near an ordinary request as can be, so a threshold is shown exactly on its line.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache, partial, wraps
from itertools import combinations, count
from typing import Any, Literal, ParamSpec, TypeVar

import z3

from safety.errors import CheckUnavailable
from safety.policy.cedar import Forbidden, Invariant, Permitted, Policies, Probe, pst
from safety.policy.engine import query
from safety.policy.facts import (
    CONTEXTS,
    DOMAINS,
    FIELDS,
    IDS,
    KINDS,
    PRINCIPALS,
    QUESTIONS,
    RESOURCES,
    Facts,
    GrantFacts,
    OneOf,
    SetOf,
    Truth,
    Whole,
    as_json,
)
from safety.policy.schema import PLAIN, Schema

LIMIT_MS = 10_000
"""How long the solver may think about one formula. It takes a few milliseconds."""
MOST_LEARNED = 20_000
"""Formulas kept for the next question; a set of a hundred policies has a few hundred."""

# Requests that people can read -------------------------------------------------------------------------

_TYPES = {**PRINCIPALS, **RESOURCES, **CONTEXTS, "grant": "Grant"}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_NONE: Mapping[type, Any] = {Truth: False, Whole: 0, SetOf: frozenset()}
_TRUE = {
    "Cameo": ("active",),
    "Clip": ("released", "viewer_is_requester", "ledger_ok"),
    "Grant": ("for_requester", "started", "within_countries"),
    "Job": ("recorded",),
    "List": ("own", "recorded"),
    "Operator": ("registered",),
    "Order": ("seconded", "checked"),
    "Output": ("faces_checked", "classifiers_ok"),
    "Request": ("classifiers_ok", "ledger_ok"),
}
_ORDINARY: Mapping[str, Any] = {
    **{key: d.words[0] if isinstance(d, OneOf) else _NONE[type(d)] for key, d in DOMAINS.items()},
    **{f"{kind}.{attr}": True for kind, attrs in _TRUE.items() for attr in attrs},
    **dict.fromkeys(("Request.depicted", "Job.consenting", "Output.granted_faces_seen", "Clip.depicted"), 1),
    **dict.fromkeys(("Request.modalities", "Grant.modalities"), frozenset({"face"})),
    "Grant.purposes": frozenset({"dpv:NonCommercialPurpose"}),
    "Grant.actions": frozenset({"generate"}),
    "Grant.uses": 1,
    "Grant.max_uses": 3,
}
"""By `Type.attribute`, a request nobody minds: an app uses the face of one adult, who has granted it."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request in full: an action, and the facts that :data:`~safety.policy.facts.QUESTIONS` names for it."""

    action: str
    facts: Mapping[str, Facts | None]
    compared: frozenset[frozenset[str]] = field(default=frozenset(), compare=False, repr=False)
    """Facts that a policy holds against each other: where one is shown, so is the other."""

    def shown(self) -> list[str]:
        """What sets it apart from an ordinary request, a line for each kind of fact."""
        values = {name: (value, usual) for name, value, usual in self._values()}
        odd = {name for name, (value, usual) in values.items() if value != usual}
        told = odd.union(*(pair for pair in self.compared if pair & odd))
        lines: dict[str, list[str]] = {}
        for name in (name for name in values if name in told):
            fact, _, attribute = name.partition(".")
            lines.setdefault(fact, []).append(_said(attribute, values[name][0]))
        return [
            f"action: {self.action}",
            *(f"{fact}: {', '.join(said)}" for fact, said in lines.items()),
            "otherwise an ordinary request" if lines else "an ordinary request",
        ]

    def as_json(self) -> dict[str, Any]:
        return {"action": self.action, "facts": {name: as_json(facts) for name, facts in self.facts.items()}}

    def _values(self) -> Iterator[tuple[str, object, object]]:
        """The name of each fact, its value, and what that ordinarily is."""
        cameo = self.facts.get("cameo")
        grant = {} if cameo is None else {"grant": getattr(cameo, "grant", None)}
        for name, facts in {**self.facts, **grant}.items():
            if facts is None:
                yield name, None, "there is one"
                continue
            for attr in FIELDS[type(facts)]:
                value = getattr(facts, attr)
                if isinstance(value, Mapping):
                    yield from ((f"{name}.{attr}.{key}", inner, 0) for key, inner in value.items())
                elif attr in IDS:
                    yield f"{name}.{attr}", value, _id(attr)
                elif not isinstance(value, GrantFacts | None):
                    yield f"{name}.{attr}", value, _ORDINARY[f"{_TYPES[name]}.{attr}"]


def _said(attribute: str, value: object) -> str:
    match value:
        case True:
            return attribute
        case False:
            return f"not {attribute}"
        case frozenset() if value:
            return f"{attribute} {' and '.join(sorted(value))}"
        case frozenset():
            return f"no {attribute}"
        case None:
            return "none"
        case _:
            return f"{attribute} {value}"


def _id(attribute: str, n: int = 1) -> str:
    """The id of something that might be any of its kind."""
    return f"any_{attribute.removesuffix('_id')}" + (f"_{n}" if n > 1 else "")


@dataclass(frozen=True, slots=True)
class Proven:
    invariant: Invariant


@dataclass(frozen=True, slots=True)
class Refuted:
    """A request that the invariant rules out and the policies allow."""

    invariant: Invariant
    question: Question
    permitted_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """An invariant that rules out no request there can be: it would prove nothing."""

    invariant: Invariant


@dataclass(frozen=True, slots=True)
class Difference:
    action: str
    newly: Literal["allowed", "denied"]
    question: Question
    by: tuple[str, ...]
    """What denies it in the one of the two sets that does; `policy.default_deny` where that is no policy."""


# Formulas ----------------------------------------------------------------------------------------------

# A truth is a bool where it is known, and a z3 formula otherwise; a number likewise.
_Truth = Any
_Words = dict[str, Any]
"""For each word, whether it is in the set. A single word is the set of just itself."""


class _Several(_Words):
    """A set of words, where a single word would be another thing to Cedar: a set holds words, never sets."""


@dataclass(frozen=True, slots=True)
class _Thing:
    """An entity or a record of the symbolic request: its place, e.g. `resource.grant`, and its type."""

    path: str
    type: str


class _Outside(Exception):  # noqa: N818 — names the state
    """What stands here is outside the fragment; the policy is named by whoever asked."""


def _all(parts: Iterable[_Truth]) -> _Truth:
    found = [part for part in parts if part is not True]
    if any(part is False for part in found):
        return False
    return z3.And(found) if len(found) > 1 else found[0] if found else True


def _any(parts: Iterable[_Truth]) -> _Truth:
    found = [part for part in parts if part is not False]
    if any(part is True for part in found):
        return True
    return z3.Or(found) if len(found) > 1 else found[0] if found else False


def _not(part: _Truth) -> _Truth:
    return not part if isinstance(part, bool) else z3.Not(part)


def _same(left: _Truth, right: _Truth) -> _Truth:
    if isinstance(left, bool):
        return right if left else _not(right)
    return _same(right, left) if isinstance(right, bool) else left == right


def _apart(bits: Iterable[_Truth]) -> list[_Truth]:
    return [z3.Not(z3.And(one, other)) for one, other in combinations(bits, 2)]


def _chosen(condition: _Truth, yes: _Truth, no: _Truth) -> _Truth:
    return _any((_all((condition, yes)), _all((_not(condition), no))))


def _decided(applying: Iterable[tuple[pst.Effect, _Truth]]) -> _Truth:
    found = list(applying)
    permits, forbids = ([met for effect, met in found if effect == which] for which in ("permit", "forbid"))
    return _all((_any(permits), _not(_any(forbids))))


def _thing(value: Any) -> _Thing:
    if not isinstance(value, _Thing):
        raise _Outside("an attribute of an entity that is named")
    return value


def _all_of(words: _Words, others: _Words) -> _Truth:
    return _all(_any((_not(bit), words.get(word, False))) for word, bit in others.items())


class _Environment:
    """All requests of one action, principal type and resource type: one symbolic request and what is asked of it.

    INVARIANT: the solver holds, outside of any question, only what is true of every request: the domains, and of
    each policy met so far a name that is defined to be its formula.
    """

    def __init__(self, schema: Schema, action: str, principal: str, resource: str) -> None:
        self._schema, self.action = schema, action
        self.types = schema.types
        self._actions = {action, *schema.actions[action].groups}
        self._solver = z3.SimpleSolver()
        self._solver.set("timeout", LIMIT_MS)
        self.leaves: dict[str, Any] = {}
        """The variables of each plain attribute, by its place: a truth, a number, or words."""
        self.things: dict[str, str] = {}
        """The type of each entity and record, by its place."""
        self.present: dict[str, _Truth] = {}
        """Of each thing that may be missing, whether it is there."""
        self.ids: dict[str, dict[str, _Truth]] = {}
        """Of each entity that a policy names, whether the one at this place is it."""
        self._wishes: list[tuple[int, _Truth]] = []
        """What would be ordinary, and how much that matters."""
        self._numbers: list[tuple[_Truth, int]] = []
        self._named: dict[tuple[object, ...], _Truth] = {}
        self._declare("principal", principal)
        self._declare("resource", resource)
        self.things["context"] = "context"
        for name, kind in schema.actions[action].context.items():
            self._declare(f"context.{name}", kind)
        # What is deeper, a grant above all, stays as it is: the example is then of an odd request, not an odd grant.
        self._wishes.sort(key=lambda wish: -wish[0])

    # The symbolic request --------------------------------------------------------------------------------

    def _declare(self, path: str, kind: str) -> None:
        if path.count(".") > 8:
            raise _outside("the schema", f"`{kind}` in itself")
        self.things[path] = kind
        for attr, attribute in self._schema.record(kind).items():
            place = f"{path}.{attr}"
            if attribute.type not in PLAIN:
                if attribute.optional:
                    self.present[place] = present = z3.Bool(f"has {place}")
                    self._wishes.append((99, present))
                self._declare(place, attribute.type)
            elif attribute.optional:
                raise _outside("the schema", f"`{kind}.{attr}`, which may be missing,")
            else:
                self._leaf(place, f"{kind}.{attr}", attribute.type)

    def _leaf(self, path: str, key: str, kind: str) -> None:
        """A variable with exactly the values of its domain. An attribute of another type than its domain is none."""
        usual: Any = _ORDINARY.get(key)
        match DOMAINS.get(key), kind:
            case Truth(), "Bool":
                self.leaves[path] = truth = z3.Bool(path)
                wishes = [_same(truth, usual)]
            case Whole(most), "Long":
                self.leaves[path] = number = z3.Int(path)
                self._solver.add(number >= 0, number <= most)
                self._numbers.append((number, usual))
                wishes = [number == usual]
            case OneOf(words), "String":
                self.leaves[path] = bits = {word: z3.Bool(f"{path} is {word}") for word in words}
                self._solver.add(_any(bits.values()), *_apart(bits.values()))
                wishes = [bits[word] for word in sorted(words, key=lambda word: word != usual)]
            case SetOf(words), "Set<String>":
                self.leaves[path] = bits = _Several({word: z3.Bool(f"{path} has {word}") for word in words})
                wishes = [_same(bit, word in usual) for word, bit in bits.items()]
            case _:
                raise _outside("the schema", f"`{key}`, whose values are not known,")
        self._wishes += [(path.count("."), wish) for wish in wishes]

    @property
    def learned(self) -> int:
        """Policies that have a name here."""
        return len(self._named)

    # What a policy says of it ----------------------------------------------------------------------------

    def concerned(self, tree: pst.Template) -> bool:
        """Whether the policy is about such requests at all."""
        match tree.action:
            case pst.ActionEq(entity):
                named = {entity.id}
            case pst.ActionIn(entities):
                named = {entity.id for entity in entities}
            case _:
                named = self._actions
        scopes = (("principal", tree.principal), ("resource", tree.resource))
        return bool(named & self._actions) and all(
            str(scope.entity_type) == self.things[path]
            for path, scope in scopes
            if isinstance(scope, pst.ScopeIs | pst.ScopeIsIn)
        )

    def applies(self, tree: pst.Template) -> _Truth:
        """A name for :meth:`formula`, defined once for every set that has this policy."""
        if not self.concerned(tree):
            return False
        meaning = _meaning(tree)
        if meaning not in self._named:
            name, formula = z3.FreshBool("policy"), self.formula(tree)
            if not isinstance(formula, bool):
                self._solver.add(_same(name, formula))
                formula = name
            self._named[meaning] = formula
        return self._named[meaning]

    def formula(self, tree: pst.Template) -> _Truth:
        """When the policy applies. Raises CheckUnavailable for one that is outside the fragment."""
        if not self.concerned(tree):
            return False
        try:
            found = self._scope("principal", tree.principal), self._scope("resource", tree.resource)
            met = _all(found)
            for clause in tree.clauses:
                # What a clause before it rules out, the validator has not looked at.
                holds = met is not False and self._value(clause.expr)
                met = _all((met, _not(holds) if isinstance(clause, pst.Unless) else holds))
        except _Outside as found:
            raise _outside(f"policy `{tree.annotations.get('id')}`", str(found)) from None
        return met

    def allowed(self, trees: Iterable[pst.Template]) -> _Truth:
        return _decided((tree.effect, self.applies(tree)) for tree in trees)

    def _scope(self, path: str, scope: pst.PrincipalOrResourceConstraint) -> _Truth:
        thing = _Thing(path, self.things[path])
        match scope:
            case pst.ScopeAny():
                return True
            case pst.ScopeIs(entity_type):
                return str(entity_type) == thing.type
            # Nothing is in anything else: the schema has no hierarchies.
            case pst.ScopeEq(pst.EntityUid() as entity) | pst.ScopeIn(pst.EntityUid() as entity):
                return self._is(thing, entity)
            case pst.ScopeIsIn(entity_type, pst.EntityUid() as entity):
                return str(entity_type) == thing.type and self._is(thing, entity)
            case _:
                raise _Outside("a template's slot")

    def _is(self, thing: _Thing, entity: pst.EntityUid) -> _Truth:
        """Whether it is this very entity. Any may be, and no two at once."""
        if str(entity.type) != thing.type:
            return False
        if thing.type not in _NAMES:
            raise _Outside(f"`{entity}`")
        known = self.ids.setdefault(thing.path, {})
        if entity.id not in known:
            known[entity.id] = z3.Bool(f"{thing.path} is {entity}")
            self._solver.add(*_apart(known.values()))
            self._wishes.insert(0, (99, _not(known[entity.id])))
        return known[entity.id]

    def _value(self, expr: pst.Expr) -> Any:  # noqa: C901, PLR0911, PLR0912 — one line for each form
        match expr:
            case pst.BoolLit(value) | pst.LongLit(value):
                return value
            case pst.StringLit(value):
                return {value: True}
            case pst.EntityLit(value):
                return value
            case pst.Var("action"):
                return pst.EntityUid(pst.EntityType("Action"), self.action)
            case pst.Var(name):
                return _Thing(name, self.things[name])
            case pst.Set(elements):
                return self._set([self._value(element) for element in elements])
            case pst.GetAttr(base, attr):
                return self._attribute(self._value(base), attr)
            case pst.HasAttr(base, attrs):
                return self._has(self._value(base), attrs)
            case pst.UnaryOp("not", arg):
                return _not(self._value(arg))
            case pst.UnaryOp("is_empty", arg):
                return _not(_any(self._value(arg).values()))
            case pst.Is(base, entity_type, None):
                return str(self._value(base).type) == str(entity_type)
            case pst.IfThenElse(condition, yes, no):
                return self._either(self._value(condition), yes, no)
            case pst.BinaryOp("and", left, right):
                # As the validator, this does not look at what can not be reached.
                first = self._value(left)
                return first is not False and _all((first, self._value(right)))
            case pst.BinaryOp("or", left, right):
                first = self._value(left)
                return first is True or _any((first, self._value(right)))
            case pst.BinaryOp("in", pst.Var("action"), right):
                return self._grouped(right)
            case pst.BinaryOp(op, left, right) if op in _OPERATORS:
                return _OPERATORS[op](self, self._value(left), self._value(right))
            case pst.UnaryOp(op) | pst.BinaryOp(op):
                raise _Outside(f"`{op}`")
            case _:
                raise _Outside(f"`{type(expr).__name__.lower()}`")

    def _attribute(self, base: Any, attr: str) -> Any:
        path = f"{_thing(base).path}.{attr}"
        if path in self.leaves:
            return self.leaves[path]
        if path not in self.things:
            raise _Outside(f"`{attr}`, which `{base.type}` does not have,")
        return _Thing(path, self.things[path])

    def _has(self, base: Any, attrs: tuple[str, ...]) -> _Truth:
        found: list[_Truth] = []
        path = _thing(base).path
        for attr in attrs:
            path = f"{path}.{attr}"
            found.append(self.present.get(path, path in self.leaves or path in self.things))
        return _all(found)

    def _set(self, elements: Sequence[Any]) -> _Words:
        if not all(type(element) is dict for element in elements):
            raise _Outside("a set of something other than words")
        return _Several({word: _any(e.get(word, False) for e in elements) for e in elements for word in e})

    def _either(self, condition: _Truth, yes: pst.Expr, no: pst.Expr) -> Any:
        if isinstance(condition, bool):
            return self._value(yes if condition else no)
        left, right = self._value(yes), self._value(no)
        if isinstance(left, dict):
            both = {**left, **right}
            return type(left)((w, _chosen(condition, left.get(w, False), right.get(w, False))) for w in both)
        if isinstance(left, bool) or z3.is_bool(left):
            return _chosen(condition, left, right)
        if isinstance(left, int) or z3.is_int(left):
            return z3.If(condition, left, right)
        raise _Outside("an `if` between entities")

    def _grouped(self, expr: pst.Expr) -> bool:
        """Whether the action is, or is in, one of those that are written there."""
        written = expr.elements if isinstance(expr, pst.Set) else (expr,)
        named = [one.value for one in written if isinstance(one, pst.EntityLit)]
        if len(named) < len(written):
            raise _Outside("`in` something that is not written out")
        return any(str(one.type) == "Action" and one.id in self._actions for one in named)

    def equal(self, left: Any, right: Any) -> _Truth:
        match left, right:
            case dict(), dict():
                return _all(
                    _same(left.get(w, False), right.get(w, False)) for w in left.keys() | right.keys()
                )
            case pst.EntityUid(), pst.EntityUid():
                return left == right
            case _Thing(), pst.EntityUid():
                return self._is(left, right)
            case pst.EntityUid(), _Thing():
                return self._is(right, left)
            case (_Thing(), _) | (_, _Thing()):
                raise _Outside("a comparison of entities or records")
            case (bool(), _) | (_, bool()):
                return _same(left, right)
            case _:
                return left == right

    # Questions to the solver -----------------------------------------------------------------------------

    def possible(self, *conditions: _Truth) -> bool:
        """Whether some request meets all of them. Raises CheckUnavailable if the solver gives up."""
        self._solver.push()
        try:
            self._solver.add(*conditions)
            return self._check() is not None
        finally:
            self._solver.pop()

    def nearest(self, *conditions: _Truth) -> "_Request | None":
        """A request that meets all of them and is ordinary in all else; None if there is none."""
        self._solver.push()
        try:
            self._solver.add(*conditions)
            model = self._check()
            for _, wish in self._wishes if model is not None else ():
                closer = model if z3.is_true(model.eval(wish, True)) else self._check(wish)
                self._solver.add(wish if closer is not None else _not(wish))
                model = closer or model
            for number, usual in self._numbers if model is not None else ():
                model = self._approach(model, number, usual)
            return _Request(self, model) if model is not None else None
        finally:
            self._solver.pop()

    def _approach(self, model: Any, number: Any, usual: int) -> Any:
        """As close to what is usual as this number can come."""
        least, most = 0, abs(_number(model, number) - usual)
        while least < most:
            middle = (least + most) // 2
            closer = self._check(usual - middle <= number, number <= usual + middle)
            if closer is None:
                least = middle + 1
            else:
                model, most = closer, abs(_number(closer, number) - usual)
        below = self._check(number == usual - most)
        self._solver.add(number == (usual + most if below is None else usual - most))
        return below or self._check()

    def _check(self, *conditions: _Truth) -> Any:
        """A model of what the solver holds and these; None if there is none."""
        answer = self._solver.check(*conditions)
        if answer == z3.sat:
            return self._solver.model()
        if answer == z3.unsat:
            return None
        raise CheckUnavailable(
            "policy.undecided",
            f"the solver could not decide a question about `{self.action}`: {self._solver.reason_unknown()}",
            "write the policies more simply, or try again on a faster machine",
        )


_OPERATORS: Mapping[str, Callable[[_Environment, Any, Any], _Truth]] = {
    "eq": lambda env, left, right: env.equal(left, right),
    "not_eq": lambda env, left, right: _not(env.equal(left, right)),
    "less": lambda _, left, right: left < right,
    "less_eq": lambda _, left, right: left <= right,
    "greater": lambda _, left, right: left > right,
    "greater_eq": lambda _, left, right: left >= right,
    "contains": lambda _, left, right: _all_of(left, right),
    "contains_all": lambda _, left, right: _all_of(left, right),
    "contains_any": lambda _, left, right: _any(
        _all((left[w], right[w])) for w in left.keys() & right.keys()
    ),
}


class _Request:
    """One of an environment's requests, as the solver found it."""

    def __init__(self, env: _Environment, model: Any) -> None:
        self._env, self._model = env, model

    def question(self, *about: pst.Template) -> Question:
        """As facts. Raises CheckUnavailable if there are none that could stand for it."""
        env = self._env
        facts: dict[str, Facts | None] = {}
        for name in QUESTIONS.get(env.action, ()):
            places = [place for place, kind in env.things.items() if kind == _TYPES[name]]
            if len(places) != 1:
                raise _outside("the schema", f"`{env.action}` without exactly one `{_TYPES[name]}`")
            facts[name] = self._facts(KINDS[name], places[0])
        compared = frozenset(pair for tree in about for pair in _compared(tree, env))
        return Question(env.action, facts, compared)

    def _facts(self, kind: type[Any], place: str) -> Any:
        if not self._holds(self._env.present.get(place, True)):
            return None
        return kind(**{attr: self._fact(place, attr) for attr in FIELDS[kind]})

    def _fact(self, place: str, attr: str) -> Any:  # noqa: PLR0911 — one for each kind of value
        there, kind = f"{place}.{attr}", self._env.things[place]
        if attr in IDS:
            known = self._env.ids.get(place, {})
            which = (name for name, bit in known.items() if self._holds(bit))
            others = (one for one in map(partial(_id, attr), count(1)) if one not in known)
            return next(which, None) or next(others)
        if there not in self._env.leaves and there not in self._env.things:
            raise _outside("the schema", f"no `{kind}.{attr}`")
        if attr == "grant":
            return self._facts(GrantFacts, there)
        if there in self._env.things:
            return {inner: self._fact(there, inner) for inner in self._env.types[self._env.things[there]]}
        leaf = self._env.leaves[there]
        match DOMAINS[f"{kind}.{attr}"]:
            case Truth():
                return self._holds(leaf)
            case Whole():
                return _number(self._model, leaf)
            case OneOf(words):
                return next(word for word in words if self._holds(leaf[word]))
            case SetOf(words):
                return frozenset(word for word in words if self._holds(leaf[word]))

    def _holds(self, truth: _Truth) -> bool:
        return truth if isinstance(truth, bool) else z3.is_true(self._model.eval(truth, True))


def _number(model: Any, number: Any) -> int:
    return int(model.eval(number, True).as_long())


def _compared(tree: pst.Template, env: _Environment) -> Iterator[frozenset[str]]:
    """The pairs of facts that a policy holds against each other."""
    unread: list[Any] = [clause.expr for clause in tree.clauses]
    while unread:
        match unread.pop():
            case pst.BinaryOp(op, pst.GetAttr() as left, pst.GetAttr() as right) if op not in {"and", "or"}:
                yield frozenset({_fact_named(left, env), _fact_named(right, env)})
            case tuple() as several:
                unread += several
            case node if is_dataclass(node):
                unread += [getattr(node, f.name) for f in fields(node)]


def _fact_named(expr: pst.Expr, env: _Environment) -> str:
    """`grant.uses` for `resource.grant.uses`, and `request.scores.hate` for `context.request.scores.hate`."""
    rest: list[str] = []
    while isinstance(expr, pst.GetAttr):
        rest.insert(0, expr.attr)
        expr = expr.base
        place = _place(expr)
        if name := _NAMES.get(env.things.get(place, "")):
            return ".".join((name, *rest))
    return ".".join(rest)


def _place(expr: pst.Expr) -> str:
    match expr:
        case pst.Var(name):
            return name
        case pst.GetAttr(base, attr):
            return f"{_place(base)}.{attr}"
        case _:
            return ""


# Proofs ------------------------------------------------------------------------------------------------

_LOCK = threading.RLock()
_P = ParamSpec("_P")
_R = TypeVar("_R")


def _alone(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """One caller at a time: z3 is for one thread, and nothing of its may be let go of in another."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _LOCK:
            try:
                return function(*args, **kwargs)
            except CheckUnavailable as error:
                fault = error.with_traceback(None)
                fault.__context__ = None
        raise fault

    return call


@_alone
def prove(
    policies: Policies, invariants: Sequence[Invariant] | None = None
) -> tuple[Proven | Refuted | Idle, ...]:
    """Whether each invariant follows from the policies; by default, those of the set itself."""
    decided = [(env, env.allowed(_trees(policies))) for env in _environments(policies)]
    return tuple(
        _proof(policies, invariant, decided)
        for invariant in (policies.invariants if invariants is None else invariants)
    )


def _proof(
    policies: Policies, invariant: Invariant, decided: Sequence[tuple[_Environment, _Truth]]
) -> Proven | Refuted | Idle:
    idle = True
    for env, allowed in decided:
        broken = env.applies(invariant.tree)
        if broken is False:
            continue
        request = env.nearest(allowed, broken)
        if request is not None:
            question = request.question(invariant.tree)
            return Refuted(invariant, question, _permits(policies, question, invariant))
        idle = idle and not env.possible(broken)
    return Idle(invariant) if idle else Proven(invariant)


def _permits(policies: Policies, question: Question, invariant: Invariant) -> tuple[str, ...]:
    asked = query(question.action, question.facts)
    match policies.ask(asked):
        case Permitted(by) if Probe(policies, {invariant.id: invariant.tree}).applying(asked):
            return tuple(policy.id for policy in by)
        case answer:
            raise _disagreement(question, answer)


@_alone
def vacuous(policies: Policies) -> tuple[str, ...]:
    """The permits by which nothing is ever allowed, and the forbids that never apply."""
    decided = [(env, env.allowed(_trees(policies))) for env in _environments(policies)]
    return tuple(
        policy.id
        for policy in policies.all
        if not any(
            env.concerned(policy.tree)
            and env.possible(env.applies(policy.tree), allowed if policy.permits else True)
            for env, allowed in decided
        )
    )


@_alone
def equivalent(a: Policies, b: Policies) -> bool:
    """Whether the two sets decide every request alike."""
    _same_vocabulary(a, b)
    sets = [{_meaning(tree): tree for tree in _trees(policies)} for policies in (a, b)]
    changed = sets[0].keys() ^ sets[1].keys()
    trees = [tree for one in sets for meaning, tree in one.items() if meaning in changed]
    for env in _environments(a):
        if any(map(env.concerned, trees)):
            # What is in both is known to the solver by name; what is not is forgotten again.
            first, second = (
                _decided(
                    (tree.effect, (env.formula if meaning in changed else env.applies)(tree))
                    for meaning, tree in one.items()
                )
                for one in sets
            )
            if env.possible(_not(_same(first, second))):
                return False
    return True


@_alone
def differences(old: Policies, new: Policies) -> tuple[Difference, ...]:
    """One example for each environment and each policy that makes a difference there; none if the two are equivalent.

    Raises CheckUnavailable, `policy.schemas_differ`, for sets in different vocabularies.
    """
    _same_vocabulary(old, new)
    return tuple(
        difference
        for env in _environments(old)
        for difference in (*_newly("allowed", old, new, env), *_newly("denied", new, old, env))
    )


def _newly(
    newly: Literal["allowed", "denied"], denying: Policies, allowing: Policies, env: _Environment
) -> Iterator[Difference]:
    """What the one set denies and the other allows: by a forbid that only the one has, or as it has no permit."""
    denies, allowed = _not(env.allowed(_trees(denying))), env.allowed(_trees(allowing))
    if not env.possible(denies, allowed):
        return
    shared = set(map(_meaning, _trees(allowing)))
    forbids = [tree for tree in _trees(denying) if tree.effect == "forbid"]
    causes = [(env.applies(tree), tree) for tree in forbids if _meaning(tree) not in shared]
    by_default = _not(_any(map(env.applies, forbids)))
    found: set[tuple[str, ...]] = set()
    for cause, *trees in (*causes, (by_default,)):
        request = env.nearest(denies, allowed, cause)
        if request is not None:
            question = request.question(*trees)
            by = _denied_by(denying, allowing, question)
            if by not in found:
                found.add(by)
                yield Difference(env.action, newly, question, by)


def _denied_by(denying: Policies, allowing: Policies, question: Question) -> tuple[str, ...]:
    asked = query(question.action, question.facts)
    match denying.ask(asked), allowing.ask(asked):
        case Forbidden(by), Permitted():
            return tuple(policy.id for policy in by) or ("policy.default_deny",)
        case answers:
            raise _disagreement(question, answers)


def _disagreement(question: Question, answer: object) -> RuntimeError:
    """Never raised unless a formula means something else than its policy. Then no proof is worth anything."""
    return RuntimeError(f"the proof and Cedar disagree about {question}: Cedar says {answer}")


def _trees(policies: Policies) -> list[pst.Template]:
    return [policy.tree for policy in policies.all]


def _meaning(tree: pst.Template) -> tuple[object, ...]:
    """What makes a policy decide as it does: all but its id and what it says."""
    return tree.effect, tree.principal, tree.action, tree.resource, tree.clauses


def _same_vocabulary(old: Policies, new: Policies) -> None:
    if old.schema != new.schema:
        raise CheckUnavailable(
            "policy.schemas_differ",
            "the two policy sets have different schemas, so no request is the same to both",
            "compare them step by step: first the schema alone, with the same policies",
        )


def _environments(policies: Policies) -> tuple[_Environment, ...]:
    """Each with what it has learned from sets before, as long as that is not too much."""
    found = _known(policies.schema)
    if sum(env.learned for env in found) > MOST_LEARNED:
        _known.cache_clear()
        found = _known(policies.schema)
    return found


@lru_cache(maxsize=2)
def _known(schema: str) -> tuple[_Environment, ...]:
    tree = Schema.parse(schema)
    return tuple(
        _Environment(tree, name, principal, resource)
        for name, action in tree.actions.items()
        for principal in action.principals
        for resource in action.resources
    )


def _outside(where: str, what: str) -> CheckUnavailable:
    return CheckUnavailable(
        "policy.outside_fragment",
        f"nothing can be proven about the policy set: {where} uses {what}",
        "say it with comparisons, `has`, sets of words and attributes that have a domain",
    )
