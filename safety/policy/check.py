"""Whether a policy set may go into force: everything that is known about it, in one report.

1. It is read whole, and the schema knows every word of it.
2. Every case of the decision table is answered as the table says.
3. Every invariant follows from the policies, over all requests there can be; and so does every invariant of the set
   it would replace, or dropping it is said.
4. No permit is empty and no forbid idle: each decides at least one request.
5. Every mutant of every policy is noticed by a case or a proof: the table and the invariants are no decoration.

:func:`compare` says what one set allows or denies that another does not. Nothing here raises for a bad set: what is
wrong with it stands in the report, and a report with anything wrong does not pass.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ledger.errors import LedgerError
from safety.errors import SafetyError
from safety.policy import cases
from safety.policy.cedar import Policies, set_hash
from safety.policy.engine import Engine
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
        if self.mutants is not None:
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


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a new set allows or denies that the old one does not."""

    differences: tuple[Difference, ...]
    dropped: tuple[str, ...]
    """Invariants of the old set that the new one breaks."""

    @property
    def loosens(self) -> bool:
        return bool(self.dropped) or any(found.newly == "allowed" for found in self.differences)

    def lines(self) -> Iterator[str]:
        if not self.differences and not self.dropped:
            yield "no request there can be is decided differently"
        for found in self.differences:
            by = ", ".join(f"`{policy_id}`" for policy_id in found.by)
            why = f"no longer forbidden by {by}" if found.newly == "allowed" else f"by {by}"
            yield f"newly {found.newly}: `{found.action}`, {why}; for example"
            yield from (f"    {line}" for line in found.question.shown())
        for invariant_id in self.dropped:
            yield f"an invariant in force no longer holds: `{invariant_id}`"

    def as_json(self) -> dict[str, Any]:
        return {
            "loosens": self.loosens,
            "dropped": list(self.dropped),
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
    dropped = tuple(proof.invariant.id for proof in held if not isinstance(proof, Proven))
    return Comparison(differences(old, new), dropped)
