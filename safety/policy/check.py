"""Whether a policy set may go into force: everything that is known about it, in one report.

1. It is read whole, the schema knows every word of it, and every fact that there is.
2. Every case of the decision table is answered as the table says.
3. Every invariant follows from the policies, over all requests there can be; and so does every invariant of the set
   it would replace, or dropping it is said.
4. No permit is empty and no forbid idle: each decides at least one request.
5. Every mutant of every policy is noticed by a case or a proof: the table and the invariants are no decoration.
6. No reason that anyone is told speaks of a person whose grant they may not hold.

:func:`compare` says what one set allows, denies or tells that another does not. Nothing here raises for a bad set: what is
wrong with it stands in the report, and a report with anything wrong does not pass.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from ledger.errors import LedgerError
from safety.errors import SafetyError
from safety.policy import cases
from safety.policy.cedar import Invariant, Policies, Policy, Told, pst, set_hash, speaks_of
from safety.policy.engine import Engine, lacking
from safety.policy.mutants import Score, run
from safety.policy.proof import Difference, Idle, Proven, Refuted, differences, prove, vacuous


@dataclass(frozen=True, slots=True)
class Report:
    set_sha256: str
    policies: int = 0
    cases: int = 0
    faults: tuple[str, ...] = ()
    """What is wrong with the set or its table, and each case that is answered otherwise."""
    proofs: tuple[Proven | Refuted | Idle, ...] = ()
    vacuous: tuple[str, ...] = ()
    """Policies that decide nothing."""
    mutants: Score | None = None

    @property
    def passed(self) -> bool:
        return (
            not self.faults
            and self.cases > 0
            and bool(self.proofs)
            and all(isinstance(proof, Proven) for proof in self.proofs)
            and not self.vacuous
            and self.mutants is not None
            and not self.mutants.survivors
        )

    def lines(self) -> Iterator[str]:
        yield f"policies    {self.policies} read; set {self.set_sha256}"
        for fault in self.faults:
            yield f"  WRONG     {fault}"
        yield f"cases       {self.cases - len(self.faults) if self.policies else 0} of {self.cases} passed"
        proven = sum(1 for proof in self.proofs if isinstance(proof, Proven))
        yield f"invariants  {proven} of {len(self.proofs)} proven"
        for proof in self.proofs:
            match proof:
                case Refuted(invariant, question, permitted_by):
                    yield f"  BROKEN    `{invariant.id}`: {invariant.says}; but `{permitted_by[0]}` allows:"
                    yield from (f"              {line}" for line in question.shown())
                case Idle(invariant):
                    yield f"  IDLE      `{invariant.id}` speaks of no request there can be"
                case Proven():
                    pass
        for policy_id in self.vacuous:
            yield f"  EMPTY     `{policy_id}` decides no request there can be"
        if self.mutants is None:
            yield "mutants     not tried: what is wrong above comes first"
        else:
            yield from self.mutants.lines()
        yield "passed" if self.passed else "NOT PASSED"

    def as_json(self) -> dict[str, Any]:
        score = self.mutants
        return {
            "policy_set": self.set_sha256,
            "passed": self.passed,
            "policies": self.policies,
            "cases": self.cases,
            "faults": list(self.faults),
            "invariants": [
                {
                    "id": proof.invariant.id,
                    "proven": isinstance(proof, Proven),
                    "counterexample": proof.question.as_json() if isinstance(proof, Refuted) else None,
                }
                for proof in self.proofs
            ],
            "empty": list(self.vacuous),
            "mutants": None
            if score is None
            else {
                "killed": score.killed,
                "equivalent": len(score.equivalent),
                "stillborn": score.stillborn,
                "survivors": [mutant.what for mutant in score.survivors],
            },
        }


_OF_CLIPS = frozenset(
    {"ask", "precheck", "generate", "use_likeness", "clear", "release", "release_likeness", "download"}
)
"""Actions by whose denial nobody loses a right; the others are an owner's, an auditor's or an operator's."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a new set allows, denies or tells that the old one does not."""

    differences: tuple[Difference, ...]
    dropped: tuple[str, ...]
    """Invariants of the old set that the new one breaks, or no longer states."""
    told: tuple[str, ...] = ()
    """Policies that go by another name now, or that tell more, or tell it to more people."""

    @property
    def loosens(self) -> bool:
        """Whether it takes two operators: more is allowed or told, a right is taken, or an invariant dropped."""
        return bool(self.dropped or self.told) or any(
            found.newly == "allowed" or found.action not in _OF_CLIPS for found in self.differences
        )

    def lines(self) -> Iterator[str]:
        if not self.differences and not self.dropped and not self.told:
            yield "no request there can be is decided differently"
        alike: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
        for found in self.differences:
            _, *facts = found.question.shown()
            alike.setdefault((found.newly, found.by, tuple(facts)), []).append(f"`{found.action}`")
        for (newly, policies, example), actions in alike.items():
            by = ", ".join(f"`{policy_id}`" for policy_id in policies)
            why = f"no longer forbidden by {by}" if newly == "allowed" else f"by {by}"
            yield f"newly {newly}: {', '.join(actions)}, {why}; for example"
            yield from (f"    {line}" for line in example)
        for invariant_id in self.dropped:
            yield f"an invariant in force is broken or no longer stated: `{invariant_id}`"
        for policy_id in self.told:
            yield f"`{policy_id}` goes by another name, or tells more than it did"

    def as_json(self) -> dict[str, Any]:
        return {
            "loosens": self.loosens,
            "dropped": list(self.dropped),
            "told": list(self.told),
            "differences": [
                {
                    "action": found.action,
                    "newly": found.newly,
                    "by": list(found.by),
                    "example": found.question.as_json(),
                }
                for found in self.differences
            ],
        }


def check(
    files: Mapping[str, bytes],
    table: bytes | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Everything about one set. `table`: its `cases.json`; without one nothing passes."""
    digest = set_hash(files)
    try:
        policies = Policies(files)
        listed = cases.read(table) if table is not None else ()
        engine = Engine.of(files)
        faults = [fault for case in listed if (fault := case.fault(engine)) is not None]
        faults += _indiscreet(policies)
        faults += [f"the schema does not know `{key}`" for key in sorted(lacking(policies))]
        if not listed:
            faults.append(f"there is no decision table `{cases.FILE}`")
        proofs, empty = prove(policies), vacuous(policies)
        # A table that is wrong about the set kills mutants for nothing.
        score = None if faults else run(policies, listed, progress=progress)
    except (LedgerError, SafetyError) as error:
        return Report(digest, faults=(str(error),))
    return Report(digest, len(policies.all), len(listed), tuple(faults), proofs, empty, score)


def compare(old: Policies, new: Policies) -> Comparison:
    """Over every request there can be. Raises CheckUnavailable where the two can not be compared."""
    held = prove(new, old.invariants)
    broken = {proof.invariant.id for proof in held if not isinstance(proof, Proven)}
    # One that is only no longer stated would not be proven of the set after this one.
    stated = [_meaning(one) for one in new.invariants]
    gone = {one.id for one in old.invariants if _meaning(one) not in stated}
    return Comparison(differences(old, new), tuple(sorted(broken | gone)), _told(old, new))


def _meaning(one: Invariant | Policy) -> pst.Template:
    return replace(one.tree, id="", annotations=pst.FrozenMap({}))


_HEARD: Mapping[Told, int] = {"auditor": 0, "holder": 1, "anyone": 2}


def _told(old: Policies, new: Policies) -> tuple[str, ...]:
    """Policies of the old set that the new one calls otherwise, or lets say more, or say it to more people."""
    now, meanings = {policy.id: policy for policy in new.all}, {_meaning(policy) for policy in new.all}

    def says_more(policy: Policy) -> bool:
        after = now.get(policy.id)
        if after is None:
            # Reasons are recorded, and looked up, by their names.
            return _meaning(policy) in meanings
        wider = _HEARD[after.told] > _HEARD[policy.told]
        return wider or any(
            _quoted(theirs) - _quoted(ours)
            for ours, theirs in ((policy.reason, after.reason), (policy.owner, after.owner))
        )

    return tuple(policy.id for policy in old.all if says_more(policy))


def _quoted(sentence: str) -> set[str]:
    return set(re.findall(r"\{([a-z_.]+)\}", sentence))


def _indiscreet(policies: Policies) -> list[str]:
    """Policies whose reason anyone is told, and that would say something about a person whose grant they do not hold."""
    found = []
    for policy in policies.all:
        depicting = any(
            "depicting" in action.groups and speaks_of(policy.tree.action, action.groups | {name})
            for name, action in policies.vocabulary.actions.items()
        )
        quoted = {name.partition(".")[0] for name in _quoted(policy.reason)}
        told = policy.told == "anyone" and not policy.permits and depicting
        if told and (quoted & {"cameo", "grant", "beyond", "forbidden"} or _reads_of(policy.tree) - _OPEN):
            found.append(f"`{policy.id}` tells anyone about a person whose grant they may not hold")
    return found


_OPEN = frozenset({"grant", "grant.for_requester"})
"""What whoever asks knows of a likeness anyway: whether they hold a grant."""


def _reads_of(node: object) -> set[str]:
    """The attributes of `resource` that a policy looks at: `grant`, `grant.uses`, `minor`."""
    match node:
        case pst.GetAttr() | pst.HasAttr() if (path := _path(node)) is not None:
            return {path}
        case tuple():
            return {path for inner in node for path in _reads_of(inner)}
        case _ if is_dataclass(node) and not isinstance(node, type):
            return {path for part in fields(node) for path in _reads_of(getattr(node, part.name))}
        case _:
            return set()


def _path(expr: object) -> str | None:
    match expr:
        case pst.Var("resource"):
            return ""
        case pst.GetAttr(base, attr):
            attrs: tuple[str, ...] = (attr,)
        case pst.HasAttr(base, attrs):
            pass
        case _:
            return None
    below = _path(base)
    return None if below is None else ".".join([*filter(None, [below]), *attrs])
