"""The policy engine: facts in, a ruling with reasons out. It never fails open.

A ruling is allowed only if the policy set was read whole, every fact is of its exact type and in its range,
Cedar answered without a single error, and at least one permit and no forbid applied. Everything else is a
denial with at least one :class:`Finding`, and no method here raises:

| finding id            | what happened                                                         |
|-----------------------|-----------------------------------------------------------------------|
| a policy's id         | that forbid applied; sentence and remedy are the policy's own         |
| `policy.unreadable`   | the policy set is missing, empty or invalid: everything is denied     |
| `policy.error`        | Cedar reported an error, was not decided, or something raised         |
| `policy.outdated`     | allowed, but by a set that does not know a fact which stands against it |
| `policy.default_deny` | no forbid applied and no permit either: one for each condition unmet  |
| `facts.invalid`       | a fact is missing, of a wrong type, or out of range                   |

A finding reads differently to the requester, to the owner of the likeness and to an auditor. What concerns a
grant is kept from a requester who does not hold it; an owner reads what concerns themselves and never whom else
a request named; an auditor reads which rule it was and where it comes from. `policy_ids` is complete.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, assert_never

from ledger.errors import Unavailable
from ledger.reasons import Reason
from safety.policy import cedar
from safety.policy.cedar import Policy, Query, Uid
from safety.policy.explain import Conditions
from safety.policy.facts import (
    CONTEXTS,
    IDS,
    KINDS,
    LATER,
    PRINCIPALS,
    QUESTIONS,
    RESOURCES,
    TYPES,
    attributes,
    flaws,
    known,
)

Reader = Literal["requester", "owner", "auditor"]
_SERVICE = Uid("Service", "countersign")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands against a request, as each reader may know it."""

    id: str
    requester: Reason | None
    """None: withheld from them."""
    owner: Reason
    auditor: Reason

    @classmethod
    def plain(cls, reason: Reason) -> "Finding":
        return cls(reason.id, reason, reason, reason)


@dataclass(frozen=True, slots=True)
class Ruling:
    allowed: bool
    policy_ids: tuple[str, ...]
    """The policies, or engine rules, that determined it."""
    findings: tuple[Finding, ...]
    """Why it was denied; none when allowed."""
    policy_set_hash: str
    reviewable: bool = False
    """Denied, and only by policies that leave the last word to people who look."""

    def __post_init__(self) -> None:
        if self.allowed == bool(self.findings):
            raise ValueError("a denial has reasons and an allowance has none")

    def reasons(self, reader: Reader = "requester") -> tuple[Reason, ...]:
        """What this reader is told: at least one reason of a denial, none of an allowance."""
        found: list[Reason | None]
        match reader:
            case "requester":
                found = [finding.requester for finding in self.findings]
            case "owner":
                found = [finding.owner for finding in self.findings]
            case "auditor":
                found = [finding.auditor for finding in self.findings]
            case _:
                assert_never(reader)
        told = tuple(dict.fromkeys(reason for reason in found if reason is not None))
        return told if told or self.allowed else (_DEFAULT,)


class Engine:
    """One policy set, read once. Immutable, and safe to share between threads."""

    def __init__(
        self, policies: cedar.Policies | None, policy_set_hash: str, fault: Reason | None = None
    ) -> None:
        self.policies = policies
        self.policy_set_hash = policy_set_hash
        self.fault = fault
        """What is wrong with the policy set, for the operator; while there is anything, all is denied."""
        self.unknown = lacking(policies) if policies is not None else frozenset[str]()
        """The facts that are left out when this set is asked: its schema is from before them."""
        self._conditions = Conditions(policies) if policies is not None else None

    @classmethod
    def load(cls, directory: Path) -> "Engine":
        """The set in a directory. Never raises: a broken set gives an engine that denies everything and says so."""
        try:
            return cls.of(cedar.read(directory))
        except Unavailable as error:
            return cls(None, cedar.set_hash({}), error.reason)

    @classmethod
    def of(cls, files: Mapping[str, bytes], *, expected: str | None = None) -> "Engine":
        """The set in these files. Never raises.

        `expected` pins it by its hash: with a file missing or changed, what is left may be valid and weaker.
        """
        found = cedar.set_hash(files)
        if expected not in {None, found}:
            sentence = f"the policy set has the hash `{found}`, not `{expected}`, which is in force"
            return cls(None, found, Reason("policy.not_in_force", sentence, "restore the database"))
        try:
            return cls(cedar.Policies(files), found)
        except Unavailable as error:
            return cls(None, found, error.reason)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 — as in `rule`
            return cls(None, found, _UNREADABLE)

    @classmethod
    def missing(cls, policy_set_hash: str) -> "Engine":
        """For a set that is in force and nowhere to be found: everything is denied."""
        return cls(None, policy_set_hash, _UNREADABLE)

    def rule(self, action: str, **facts: Any) -> Ruling:
        """One question: see :meth:`rulings`."""
        return self.rulings((action, facts))[0]

    def rulings(self, *questions: tuple[str, Mapping[str, Any]]) -> list[Ruling]:
        """The one place where rulings are made; every way of failing ends in a denial of all of them.

        Each question is an action and the facts that :data:`~safety.policy.facts.QUESTIONS` names for it, each of
        its own type. Facts that several share are read once; facts with the same id must be the same.
        """
        try:
            if self.policies is None:
                return [self._deny(_UNREADABLE)] * len(questions)
            checked: dict[tuple[str, int], list[str]] = {}
            found = [_misfits(action, facts, checked) for action, facts in questions]
            asked = [
                None if bad else _without(query(*one), self.unknown)
                for bad, one in zip(found, questions, strict=True)
            ]
            sitting = self.policies.about(one.entities for one in asked if one is not None)
            return [
                self._deny(*map(_invalid, bad)) if one is None else self._ruling(sitting.ask(one), one, facts)
                for bad, one, (_, facts) in zip(found, asked, questions, strict=True)
            ]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 — a panic in Cedar's Rust is not an Exception; none may allow
            return [self._deny(_ERROR)] * len(questions)

    def _ruling(self, answer: cedar.Answer, question: Query, facts: Mapping[str, Any]) -> Ruling:
        match answer:
            case cedar.Permitted() if _unheard(facts, self.unknown):
                # INVARIANT: a person's limit that the set in force can not read is kept to by refusing.
                told = _OUTDATED if _holds_grant(facts) else None
                outdated = Finding(_OUTDATED.id, told, _OUTDATED, _OUTDATED)
                return Ruling(False, (_OUTDATED.id,), (outdated,), self.policy_set_hash)
            case cedar.Permitted(by):
                return Ruling(True, tuple(p.id for p in by), (), self.policy_set_hash)
            case cedar.Forbidden(by) if by:
                return self._forbid(by, facts)
            case cedar.Forbidden():
                return self._default(question, facts)
            case cedar.Undecided():
                return self._deny(_ERROR)
            case _:
                assert_never(answer)

    def _forbid(self, by: tuple[Policy, ...], facts: Mapping[str, Any]) -> Ruling:
        holder, values = _holds_grant(facts), _values(facts)
        findings = tuple(_finding(policy, values, holder=holder) for policy in by)
        reviewable = all(policy.reviewable for policy in by)
        return Ruling(False, tuple(p.id for p in by), findings, self.policy_set_hash, reviewable)

    def _default(self, question: Query, facts: Mapping[str, Any]) -> Ruling:
        """No forbid, and no permit either: which conditions of which permit were unmet."""
        unmet, findings = self._conditions.unmet(question) if self._conditions is not None else (), []
        for one in unmet:
            reason = Reason(_DEFAULT.id, one.sentence, _DEFAULT.remedy)
            withheld = one.private and not _holds_grant(facts)
            findings.append(Finding(_DEFAULT.id, None if withheld else reason, reason, reason))
        told = tuple(findings) or (Finding.plain(_DEFAULT),)
        return Ruling(False, (_DEFAULT.id,), told, self.policy_set_hash)

    def _deny(self, *reasons: Reason) -> Ruling:
        ids = tuple(dict.fromkeys(reason.id for reason in reasons))
        return Ruling(False, ids, tuple(map(Finding.plain, reasons)), self.policy_set_hash)


_UNREADABLE = Reason(
    "policy.unreadable",
    "this service's policies cannot be read, so everything is refused",
    "try again later; the operator has to restore the policies",
)
_ERROR = Reason(
    "policy.error",
    "this service's policies could not decide, so the answer is no",
    "try again later; the operator can find the cause in the service's own records",
)
_OUTDATED = Reason(
    "policy.outdated",
    "this service's policies are older than a limit that the person has set, so the answer is no",
    "try again later; the operator has to put the current policies in force",
)
_DEFAULT = Reason(
    "policy.default_deny",
    "no rule allows this",
    "check the request against the published policies",
)


def _invalid(flaw: str) -> Reason:
    return Reason("facts.invalid", flaw, "this is a fault in the service: report it to the operator")


def _holds_grant(facts: Mapping[str, Any]) -> bool:
    """Whether whoever asks may know how this person's grant to them stands."""
    cameo = facts.get("cameo")
    return cameo is not None and cameo.grant is not None and bool(cameo.grant.for_requester)


def _misfits(action: str, facts: Mapping[str, Any], checked: dict[tuple[str, int], list[str]]) -> list[str]:
    """What is wrong with the facts. `checked`: of those that an earlier question shares, by identity."""
    wanted = QUESTIONS.get(action, ())
    if facts.keys() - set(wanted) or not wanted:
        return [f"the facts are not those that `{action[:40]}` is decided on"]
    # A clip that shows nobody has no cameo; everything else has to be there.
    expected = [n for n in wanted if n != "cameo" or action != "download" or facts.get(n) is not None]
    for name in expected:
        if (name, id(facts.get(name))) not in checked:
            checked[name, id(facts.get(name))] = flaws(name, KINDS[name], facts.get(name))
    return [flaw for name in expected for flaw in checked[name, id(facts.get(name))]]


# Facts to Cedar ---------------------------------------------------------------------------------------


def query(action: str, facts: Mapping[str, Any]) -> Query:
    """Field names are attribute names; ids become entities; traffic, request and output are the context."""
    entities: dict[Uid, Mapping[str, object]] = {}
    principal = resource = _SERVICE
    refs: dict[str, Uid] = {}
    for name, part in facts.items():
        if part is None:
            continue
        if name in PRINCIPALS:
            principal = _entity(entities, PRINCIPALS[name], part)
        elif name == "cameo":
            held = {} if part.grant is None else {"grant": _entity(entities, "Grant", part.grant)}
            resource = refs["cameo"] = _entity(entities, "Cameo", part, held)
    for name in RESOURCES.keys() & facts.keys() - {"cameo"}:
        resource = _entity(entities, RESOURCES[name], facts[name], refs if name == "clip" else {})
    if _SERVICE in {principal, resource}:
        entities[_SERVICE] = {}
    context = {name: Uid(kind, name) for name, kind in CONTEXTS.items() if name in facts}
    entities |= {uid: attributes(facts[name]) for name, uid in context.items()}
    return Query(principal, action, resource, entities, context)


def _entity(
    entities: dict[Uid, Mapping[str, object]], kind: str, facts: Any, refs: Mapping[str, Uid] | None = None
) -> Uid:
    uid = Uid(kind, next(getattr(facts, field) for field in type(facts).__slots__ if field in IDS))
    entities[uid] = {**attributes(facts), **(refs or {})}
    return uid


def lacking(policies: cedar.Policies) -> frozenset[str]:
    """Which of :data:`~safety.policy.facts.LATER` this set's schema is from before."""
    types = policies.vocabulary.types
    return frozenset(
        key for key in LATER if key.partition(".")[2] not in types.get(key.partition(".")[0], ())
    )


def _without(asked: Query, unknown: frozenset[str]) -> Query:
    """The question as the set can read it. No policy of the set can speak of what is left out."""
    if not unknown:
        return asked
    entities = {
        uid: {
            name: known(value, unknown) if isinstance(value, Mapping) else value
            for name, value in attrs.items()
            if f"{uid.type}.{name}" not in unknown
        }
        for uid, attrs in asked.entities.items()
    }
    return replace(asked, entities=entities)


def _unheard(facts: Mapping[str, Any], unknown: frozenset[str]) -> bool:
    """Whether something was left out that a set which knows it might refuse for."""
    cameo = facts.get("cameo")
    parts = [*facts.values(), cameo.grant if cameo is not None else None]
    stated = [(TYPES[type(part)], part) for part in parts if part is not None]
    stated += [("Scores", part.scores) for _, part in stated if hasattr(part, "scores")]
    return any(
        not LATER[key].at_rest(part) for kind, part in stated for key in unknown if key.startswith(f"{kind}.")
    )


# Facts to words ---------------------------------------------------------------------------------------


def _values(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a policy's sentence may quote, e.g. `{request.scores.sexual}` or `{grant.uses}`."""
    cameo, request, output = facts.get("cameo"), facts.get("request"), facts.get("output")
    grant = cameo.grant if cameo is not None else None
    values: dict[str, str] = {}
    for name, part in {**facts, "grant": grant}.items():
        if part is None:
            continue
        for field in type(part).__slots__:
            value = getattr(part, field)
            if isinstance(value, Mapping):
                values |= {f"{name}.{field}.{key}": str(inner) for key, inner in value.items()}
            else:
                values[f"{name}.{field}"] = _shown(value)
    if grant is not None and request is not None:
        values["beyond.modalities"] = _shown(request.modalities - grant.modalities)
        values["beyond.contexts"] = _shown(request.contexts - grant.allowed_contexts)
        values["forbidden.contexts"] = _shown(request.contexts & grant.forbidden_contexts)
    if output is not None:
        values["unagreed.contexts"] = _shown(output.contexts - output.agreed_contexts)
    return values


def _shown(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none named"
    return str(value)


def _finding(policy: Policy, values: Mapping[str, str], *, holder: bool) -> Finding:
    def filled(sentence: str) -> str:
        return re.sub(r"\{([a-z_.]+)\}", lambda m: values.get(m[1], "unknown"), sentence)

    reason = Reason(policy.id, filled(policy.reason), policy.remedy)
    return Finding(
        policy.id,
        reason if policy.told == "anyone" or (policy.told == "holder" and holder) else None,
        Reason(policy.id, filled(policy.owner), policy.owner_remedy),
        Reason(policy.id, f"{reason.sentence} ({policy.source})", policy.remedy),
    )
