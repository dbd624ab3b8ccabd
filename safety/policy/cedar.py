"""Cedar, behind one door: reads a policy set strictly and asks it one question at a time.

Cedar fails open in ways its answers do not show: a `forbid` that errors is skipped, and an entity that is
named but not supplied still gets an Allow. So this module answers :class:`Permitted` only if

1. the set was read whole: UTF-8, parsed, valid against the schema, every policy with an id, a reason, a
   remedy, a source and an audience, every id once, no templates;
2. every entity that the question names, anywhere, is supplied with it;
3. all values are strings, booleans, integers, sets and records of these: nothing with a fraction;
4. Cedar said Allow, without a single error, and named the permits that determined it.

Anything else is :class:`Forbidden` (by policies named) or :class:`Undecided`. What Cedar itself raises goes
through: the caller must take it for a denial. No other module imports cedarpy; what reads or alters policies as
trees takes Cedar's own tree, :data:`pst`, from here.

Beside the policies a set may hold invariants (`invariants.cedar`): forbids that must already follow from them.
They decide nothing; :mod:`safety.policy.proof` proves them.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import cedarpy
from cedarpy import pst as pst  # noqa: PLC0414 — Cedar's tree, for whoever reads or alters policies

from ledger.errors import Unavailable
from safety.policy.schema import Schema

SCHEMA = "schema.cedarschema"
INVARIANTS = "invariants.cedar"
_FILE = re.compile(r"[A-Za-z0-9_-]{1,64}\.(?:cedar|cedarschema)")
SOURCES = ("law: ", "contract: ", "rule: ")

Told = Literal["anyone", "holder", "auditor"]
"""Who may read a policy's reason besides owner and auditor: anyone who asks, the holder of a grant, nobody else."""


@dataclass(frozen=True, slots=True)
class Policy:
    id: str
    permits: bool
    reason: str
    remedy: str
    source: str
    told: Told
    owner: str
    """The reason as the owner of the likeness reads it."""
    owner_remedy: str
    reviewable: bool
    """What it forbids waits for people to look, who may let it pass (`@review("people")`)."""
    tree: pst.Template = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Invariant:
    """What can never be allowed: whatever `tree` forbids."""

    id: str
    says: str
    tree: pst.Template = field(repr=False, compare=False)


class Uid(NamedTuple):
    """An entity: its type in the schema, and which one."""

    type: str
    id: str


@dataclass(frozen=True, slots=True)
class Query:
    """One question. Attribute values may name entities by :class:`Uid`; all must be in `entities`."""

    principal: Uid
    action: str
    resource: Uid
    entities: Mapping[Uid, Mapping[str, object]]
    context: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Permitted:
    by: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Forbidden:
    """By the policies named; by default, where none is."""

    by: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Undecided:
    """Cedar gave no answer that can be relied on. Always a denial."""

    why: str


Answer = Permitted | Forbidden | Undecided


def read(directory: Path) -> dict[str, bytes]:
    """The schema and the policies of a directory, by file name. Raises Unavailable."""
    try:
        names = sorted(p.name for p in directory.iterdir() if p.suffix == ".cedar" or p.name == SCHEMA)
        return {name: (directory / name).read_bytes() for name in names}
    except OSError as error:
        raise _unreadable(f"the directory cannot be read ({error.strerror})") from error


def set_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256, hex, over each file in order of name: name, 00, length as u64be, bytes."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(name.encode() + b"\0" + len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


class Policies:
    """A policy set that was read whole; immutable, and safe to share between threads."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Raises Unavailable naming the first thing wrong with the set."""
        # A name that could hold what stands between names and contents would let other files have the same hash.
        if strange := [name for name in files if not _FILE.fullmatch(name)]:
            raise _unreadable(f"`{min(strange)[:40]!a}` is not the name of a policy file")
        if SCHEMA not in files:
            raise _unreadable(f"there is no `{SCHEMA}`")
        self.files = dict(files)
        try:
            text = {name: data.decode() for name, data in files.items()}
            rules = "\n".join(b for name, b in sorted(text.items()) if name not in {SCHEMA, INVARIANTS})
            self._schema = cedarpy.Schema.from_str(text[SCHEMA])
            self._set, tree = _parsed(rules, self._schema)
            _, never = _parsed(text.get(INVARIANTS, ""), self._schema)
        except ValueError as error:
            raise _unreadable(f"a file does not parse: {error}") from error
        self._by_position = {position: _policy(t) for position, t in tree.items()}
        self.all = tuple(self._by_position.values())
        self.invariants = tuple(map(_invariant, never.values()))
        _check_whole(self.all, self.invariants)
        self.vocabulary = Schema.parse(self.schema)
        self._slices = _sliced(tree, self.vocabulary)

    @property
    def hash(self) -> str:
        return set_hash(self.files)

    @property
    def schema(self) -> str:
        """The schema as Cedar itself writes it: one form, whatever the file looks like."""
        return str(self._schema)

    def replacing(self, policy_id: str, tree: pst.Template | None) -> "Policies":
        """The set with one policy changed, or taken out. Raises Unavailable if what results is no valid set."""
        static = {p.tree.id: p.tree for p in self.all if p.id != policy_id}
        if tree is not None:
            static[tree.id] = tree
        rules = str(cedarpy.PolicySet.from_pst(pst.PolicySet({}, static, ()))) if static else ""
        kept = {name: data for name, data in self.files.items() if name in {SCHEMA, INVARIANTS}}
        return Policies({**kept, "all.cedar": rules.encode()})

    def ask(self, query: Query) -> Answer:
        """One question, about the entities it comes with."""
        return self.about([query.entities]).ask(query)

    def read_entities(self, entities: Mapping[Uid, Mapping[str, object]]) -> cedarpy.Entities:
        return _read(entities, self._schema)

    def about(self, entities: Iterable[Mapping[Uid, Mapping[str, object]]]) -> "Sitting":
        """These entities, read once for several questions. Raises ValueError for two that differ under one name."""
        known: dict[Uid, Mapping[str, object]] = {}
        for some in entities:
            for uid, attrs in some.items():
                if known.setdefault(uid, attrs) != attrs:
                    raise ValueError(f"two entities are called `{uid.id}`")
        return Sitting(self, known)

    def decided(self, query: Query, entities: cedarpy.Entities) -> Answer:
        """What :class:`Sitting` asks, once it has seen that no entity is missing."""
        result = _authorize(query, self._slices.get(query.action, self._set), entities, self._schema)
        # A forbid that errors is skipped by Cedar: an Allow beside an error is no Allow.
        if result.diagnostics.errors:
            return Undecided(f"cedar reported: {result.diagnostics.errors[0]}")
        by = tuple(sorted((self._by_position[p] for p in result.diagnostics.reasons), key=lambda p: p.id))
        match result.decision:
            case cedarpy.Decision.Allow if by and all(policy.permits for policy in by):
                return Permitted(by)
            case cedarpy.Decision.Deny:
                return Forbidden(by)
            case _:
                return Undecided("cedar gave no decision")


class Sitting:
    """Questions to one policy set about entities that were read once."""

    def __init__(self, policies: Policies, entities: Mapping[Uid, Mapping[str, object]]) -> None:
        self._policies = policies
        self._names = entities.keys()
        self._read = policies.read_entities(entities)

    def ask(self, query: Query) -> Answer:
        if missing := _named(query) - self._names:
            return Undecided(f"entity `{min(missing).type}` was named but not supplied")
        return self._policies.decided(query, self._read)


class Probe:
    """Policies asked one by one whether they apply, apart from what the set they are from decides."""

    def __init__(self, policies: Policies, trees: Mapping[str, pst.Template]) -> None:
        """`trees`, by a name of the caller's. They need not be valid; one that errors does not apply."""
        named = {f"probe{n}": name for n, name in enumerate(trees)}
        # All as permits: Cedar names every permit that applies only when no forbid does.
        made = {
            probe: replace(trees[name], id=probe, effect="permit", annotations=pst.FrozenMap({"id": probe}))
            for probe, name in named.items()
        }
        self._names, self._schema = named, policies._schema  # noqa: SLF001 — the handle stays in this module
        self._set = cedarpy.PolicySet.from_pst(pst.PolicySet({}, made, ()))

    def applying(self, query: Query) -> frozenset[str]:
        """The names of those that apply."""
        result = _authorize(query, self._set, _read(query.entities, self._schema), self._schema)
        return frozenset(self._names[position] for position in result.diagnostics.reasons)

    def refused(self) -> frozenset[str]:
        """The names of those that the schema does not allow, and :class:`Policies` would not take."""
        checked = cedarpy.validate_policies(str(self._set), self._schema)
        ids = checked.id_annotations_by_policy_id
        return frozenset(self._names[ids[error.policy_id]] for error in checked.errors)


def _read(entities: Mapping[Uid, Mapping[str, object]], schema: cedarpy.Schema) -> cedarpy.Entities:
    written = [
        {"uid": uid._asdict(), "attrs": _encode(attrs), "parents": ()} for uid, attrs in entities.items()
    ]
    return cedarpy.Entities.from_json_str(json.dumps(written), schema)


def _authorize(
    query: Query, policies: cedarpy.PolicySet, entities: cedarpy.Entities, schema: cedarpy.Schema
) -> Any:
    request = {
        "principal": query.principal._asdict(),
        "action": Uid("Action", query.action)._asdict(),
        "resource": query.resource._asdict(),
        "context": _encode(query.context),
    }
    return cedarpy.is_authorized(request, policies, entities, schema=schema)


def _parsed(rules: str, schema: cedarpy.Schema) -> tuple[cedarpy.PolicySet, Mapping[str, pst.Template]]:
    """Raises ValueError for text that is no policy, and Unavailable for what the schema does not know."""
    policies = cedarpy.PolicySet.from_str(rules)
    checked = cedarpy.validate_policies(rules, schema)
    if not checked.validation_passed:
        raise _unreadable(f"the schema refuses a policy: {checked.errors[0]}")
    tree = policies.to_pst()
    if tree.templates:
        raise _unreadable("a policy is a template, which would decide nothing")
    return policies, tree.static_policies


def _sliced(tree: Mapping[str, pst.Template], schema: Schema) -> dict[str, cedarpy.PolicySet]:
    """For each action the policies that speak of it: the others can neither apply nor fail."""
    return {
        name: cedarpy.PolicySet.from_pst(
            pst.PolicySet(
                {}, {at: t for at, t in tree.items() if speaks_of(t.action, action.groups | {name})}, ()
            )
        )
        for name, action in schema.actions.items()
    }


def speaks_of(scope: pst.ActionConstraint, names: frozenset[str]) -> bool:
    """Whether a scope covers an action. `names`: the action's own, and those of every group it is in."""
    match scope:
        case pst.ActionEq():
            return scope.entity.id in names
        case pst.ActionIn():
            return any(one.id in names for one in scope.entities)
        case _:
            return True


def _notes(template: pst.Template) -> dict[str, str]:
    return {name: str(value).strip() for name, value in template.annotations.items()}


def _invariant(template: pst.Template) -> Invariant:
    notes = _notes(template)
    if template.effect != "forbid" or not notes.get("id") or not notes.get("says"):
        raise _unreadable(
            f"invariant `{notes.get('id') or template.id}` is no `forbid` with `@id` and `@says`"
        )
    return Invariant(notes["id"], notes["says"], template)


def _policy(template: pst.Template) -> Policy:
    notes = _notes(template)
    for name in ("id", "reason", "remedy", "source", "told"):
        if not notes.get(name):
            raise _unreadable(f"policy `{notes.get('id') or template.id}` has no `@{name}`")
    if not notes["source"].startswith(SOURCES):
        raise _unreadable(f"policy `{notes['id']}` names neither a law, a contract nor a rule as its source")
    if notes["told"] not in get_args(Told):
        raise _unreadable(f"policy `{notes['id']}` is told to none of `anyone`, `holder`, `auditor`")
    if notes.get("review", "people") != "people":
        raise _unreadable(f"policy `{notes['id']}` is reviewed by none but `people`")
    return Policy(
        id=notes["id"],
        permits=template.effect == "permit",
        reason=notes["reason"],
        remedy=notes["remedy"],
        source=notes["source"],
        told=cast("Told", notes["told"]),
        owner=notes.get("owner") or notes["reason"],
        owner_remedy=notes.get("owner_remedy") or "nothing is shown, and there is nothing for you to do",
        reviewable="review" in notes,
        tree=template,
    )


def _check_whole(policies: tuple[Policy, ...], invariants: tuple[Invariant, ...]) -> None:
    if not policies:
        raise _unreadable("there are no policies")
    ids = [*(policy.id for policy in policies), *(invariant.id for invariant in invariants)]
    if reserved := [one for one in ids if one.startswith(("policy.", "facts."))]:
        raise _unreadable(f"`{min(reserved)}` is the engine's own word, and no name for a policy")
    if twice := {policy_id for policy_id in ids if ids.count(policy_id) > 1}:
        raise _unreadable(f"two policies are called `{min(twice)}`")


def _named(query: Query) -> set[Uid]:
    """Every entity the question names: principal, resource, and each one that an attribute or the context does."""
    values = [v for attrs in (query.context, *query.entities.values()) for v in attrs.values()]
    return {query.principal, query.resource, *(value for value in values if isinstance(value, Uid))}


def _encode(value: object) -> Any:
    kind = type(value)
    if kind is bool or kind is int or kind is str:
        return value
    if isinstance(value, Uid):
        return {"__entity": value._asdict()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {name: _encode(inner) for name, inner in value.items()}
    raise TypeError("a value is not a string, a boolean, an integer, a set or a record")


def _unreadable(what: str) -> Unavailable:
    return Unavailable(
        "policy.unreadable",
        f"the policy set cannot be used: {what}",
        "restore the policy files and start again",
    )


def table(policies: Policies) -> str:
    """The set as Markdown: what is asked, what each policy says and why it exists, and what can never be allowed."""
    by_id = sorted(policies.all, key=lambda p: p.id)
    permits, forbids = ([p for p in by_id if p.permits is effect] for effect in (True, False))
    return "\n".join(
        (
            "# Policies",
            "",
            "Generated: `python -m safety.policy.cedar policies > policies/README.md`. A test checks that it is current.",
            "",
            "A request is allowed when a permit applies and no forbid does. No grant overrides a forbid. Scores run",
            "from 0 to 1000. `cases.json` is the decision table: facts, and every policy that must forbid them.",
            *_section("What is asked", "action | group | asked by | about", _actions(policies.schema)),
            "",
            "A rule *at* a group is about each action in it.",
            *_section(
                "What is permitted",
                "id | at | what | source",
                ((f"`{p.id}`", _at(p.tree), p.reason, p.source) for p in permits),
            ),
            *_section(
                "What is forbidden",
                "id | at | reason | remedy | source | told to",
                (
                    (f"`{p.id}`" + "†" * p.reviewable, _at(p.tree), p.reason, p.remedy, p.source, p.told)
                    for p in forbids
                ),
            ),
            "",
            "† Held rather than refused where nothing else forbids it: people look, and may let it pass.",
            "",
            "Told to *anyone* who asks; to the *holder*, only an app that holds the grant concerned; or to an *auditor*,",
            "whom every reason is told, with its source. Where all are withheld, what is told is that no rule allows this.",
            *_section(
                "What the owner of a likeness reads instead",
                "id | reason | remedy",
                ((f"`{p.id}`", p.owner, p.owner_remedy) for p in forbids if p.owner != p.reason),
            ),
            *_section(
                "What can never be allowed",
                "id | invariant",
                ((f"`{i.id}`", i.says) for i in sorted(policies.invariants, key=lambda i: i.id)),
            ),
            "",
        )
    )


def _section(title: str, columns: str, rows: Iterable[tuple[str, ...]]) -> list[str]:
    rule = "|".join("---" for _ in columns.split("|"))
    body = (f"| {' | '.join(row)} |" for row in rows)
    return ["", f"## {title}", "", f"| {columns} |", f"|{rule}|", *body]


def _actions(schema: str) -> Iterable[tuple[str, ...]]:
    form = r'action "(\w+)"(?: in \[(.*)\])? appliesTo \{\s*principal: \[(\w+)\],\s*resource: \[(\w+)\]'
    for name, groups, principal, resource in re.findall(form, schema):
        yield f"`{name}`", ", ".join(re.findall(r'"(\w+)"', groups)), principal, resource


def _at(tree: pst.Template) -> str:
    """The actions, or groups of actions, that a policy names."""
    return ", ".join(sorted(uid.id for uid in pst.entity_uids(tree.action)))


if __name__ == "__main__":
    sys.stdout.write(table(Policies(read(Path(sys.argv[1])))))
