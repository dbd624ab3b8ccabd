"""Cedar, behind one door: reads a policy set strictly and asks it one question at a time.

Cedar fails open in ways its answers do not show: a `forbid` that errors is skipped, and an entity that is
named but not supplied still gets an Allow. So this module answers :class:`Permitted` only if

1. the set was read whole: UTF-8, parsed, valid against the schema, every policy with an id, a reason, a
   remedy, a source and an audience, every id once, no templates;
2. every entity that the question names, anywhere, is supplied with it;
3. all values are strings, booleans, integers, sets and records of these: nothing with a fraction;
4. Cedar said Allow, without a single error, and named the permits that determined it.

Anything else is :class:`Forbidden` (by policies named) or :class:`Undecided`. What Cedar itself raises goes
through: the caller must take it for a denial. No other module imports cedarpy.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import cedarpy

from ledger.errors import Unavailable

SCHEMA = "schema.cedarschema"
SOURCES = ("law: ", "contract: ", "rule: ")

Told = Literal["anyone", "holder"]
"""Who may read a policy's reason: anyone who asks, or only the holder of the grant it speaks about."""


@dataclass(frozen=True, slots=True)
class Policy:
    id: str
    permits: bool
    reason: str
    remedy: str
    source: str
    told: Told


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
        if SCHEMA not in files:
            raise _unreadable(f"there is no `{SCHEMA}`")
        try:
            text = {name: data.decode() for name, data in files.items()}
            rules = "\n".join(body for name, body in sorted(text.items()) if name != SCHEMA)
            self._schema = cedarpy.Schema.from_str(text[SCHEMA])
            self._set = cedarpy.PolicySet.from_str(rules)
            checked = cedarpy.validate_policies(rules, self._schema)
            tree = self._set.to_pst()
        except ValueError as error:
            raise _unreadable(f"a file does not parse: {error}") from error
        if not checked.validation_passed:
            raise _unreadable(f"the schema refuses a policy: {checked.errors[0]}")
        if tree.templates:
            raise _unreadable("a policy is a template, which would decide nothing")
        self._by_position = {position: _policy(t) for position, t in tree.static_policies.items()}
        self.all = tuple(self._by_position.values())
        _check_whole(self.all)

    def ask(self, query: Query) -> Answer:
        if missing := _named(query) - query.entities.keys():
            return Undecided(f"entity `{min(missing).type}` was named but not supplied")
        result = cedarpy.is_authorized(
            {
                "principal": query.principal._asdict(),
                "action": Uid("Action", query.action)._asdict(),
                "resource": query.resource._asdict(),
                "context": _encode(query.context),
            },
            self._set,
            [
                {"uid": uid._asdict(), "attrs": _encode(attrs), "parents": []}
                for uid, attrs in query.entities.items()
            ],
            schema=self._schema,
        )
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


def _policy(template: Any) -> Policy:
    notes = {name: str(value).strip() for name, value in template.annotations.items()}
    for name in ("id", "reason", "remedy", "source", "told"):
        if not notes.get(name):
            raise _unreadable(f"policy `{notes.get('id') or template.id}` has no `@{name}`")
    if not notes["source"].startswith(SOURCES):
        raise _unreadable(f"policy `{notes['id']}` names neither a law, a contract nor a rule as its source")
    if notes["told"] not in get_args(Told):
        raise _unreadable(f"policy `{notes['id']}` is told to neither `anyone` nor `holder`")
    return Policy(
        id=notes["id"],
        permits=template.effect == "permit",
        reason=notes["reason"],
        remedy=notes["remedy"],
        source=notes["source"],
        told=cast("Told", notes["told"]),
    )


def _check_whole(policies: tuple[Policy, ...]) -> None:
    if not policies:
        raise _unreadable("there are no policies")
    ids = [policy.id for policy in policies]
    if twice := {policy_id for policy_id in ids if ids.count(policy_id) > 1}:
        raise _unreadable(f"two policies are called `{min(twice)}`")


def _named(query: Query) -> set[Uid]:
    """Every entity the question names: principal, resource, and each one that an attribute points to."""
    values: Iterable[object] = [value for attrs in query.entities.values() for value in attrs.values()]
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


def table(policies: Iterable[Policy]) -> str:
    """The policies as Markdown: what each says, and why it exists."""
    lines = [
        "# Policies",
        "",
        "Generated: `python -m safety.cedar policies > policies/README.md`. A test checks that it is current.",
        "",
        "A request is allowed when a permit applies and no forbid does. No grant overrides a forbid. Scores run",
        "from 0 to 1000. Reasons told to the *holder* are shown only to an app that holds the grant concerned.",
        "`cases.json` is the decision table: facts, the decision, and the policies that determine it.",
        "",
        "| id | effect | reason | remedy | source | told to |",
        "|---|---|---|---|---|---|",
    ]
    for p in sorted(policies, key=lambda p: (not p.permits, p.id)):
        effect = "permit" if p.permits else "forbid"
        lines.append(f"| `{p.id}` | {effect} | {p.reason} | {p.remedy} | {p.source} | {p.told} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(Policies(read(Path(sys.argv[1]))).all))
