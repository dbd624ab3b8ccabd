"""Which policy set decides: the one the log says is in force at that place, read from the archive by its hash.

A set comes into force by a leaf of the log that operators signed (:class:`ledger.log.public.PolicyChange`), so a
decision's place in the log says under which rules it was made, in every process that shares the ledger, without a
restart. During a roll-out two sets stand side by side, and the log says for what share of the apps the incoming one
decides: always the same apps, so that nobody sees the rules flicker.

A set is asked in its own words: what its schema does not know yet (:data:`safety.policy.facts.LATER`) is left out,
so that a set of years ago decides as it did, byte for byte. It decides nothing new that way: where it would allow
what one of those facts stands against, the answer is no (`policy.outdated`), and no set that lacks one of them passes
the check before an activation.

The archive is the database, and is not trusted: what is read is hashed, and anything but the set in force denies
everything. A candidate *in shadow* decides every request too, beside the active set. It changes nothing; where it
would have answered otherwise is counted.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Literal

from ledger.ids import AppId
from ledger.log.public import WHOLE, InForce, PolicyChange
from ledger.store.transaction import Transaction
from safety.decision import Decision, Named, decide
from safety.policy.cedar import set_hash
from safety.policy.engine import Engine

_log = logging.getLogger(__name__)


class Activated:
    """The sets the log names, each read once. Thread-safe: a set never changes under its hash."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}

    def engine(self, tx: Transaction, app_id: AppId | None = None) -> Engine:
        """The set that decides at this place in the log: for this app, or for whoever is no app.

        Never raises for a set that is not usable.
        """
        in_force = tx.policies()
        return self.of(tx, chosen(in_force, app_id)) if in_force is not None else Engine.missing("")

    def of(self, tx: Transaction, set_sha256: str) -> Engine:
        """The set with this hash; one that denies everything, where the archive does not hold it as it was."""
        engine = self._engines.get(set_sha256)
        if engine is None:
            files = tx.policy_set(set_sha256)
            engine = Engine.missing(set_sha256) if files is None else Engine.of(files, expected=set_sha256)
            if engine.fault is None and engine.policies is not None:
                # Only what is whole is remembered: what is missing may be restored beneath us.
                self._engines[set_sha256] = engine
            else:
                _log.error("policy set %s can not be used: what it decides is denied", set_sha256)
        return engine

    def watch(self, tx: Transaction, decision: Decision, people: Sequence[Named], *, at: datetime) -> None:
        """Decide again under the candidate in shadow, if there is one, and count where it differs."""
        candidate = tx.shadow()
        if candidate is None or candidate == decision.general.policy_set_hash:
            return
        engine = self.of(tx, candidate)
        if engine.policies is None:
            tx.count_shadow(candidate, "unusable", ())
            return
        other = decide(engine, decision.asked, people, at=at)
        tx.count_shadow(candidate, *difference(decision, other))


Outcome = Literal["same", "reasons", "newly_denied", "newly_allowed"]


def difference(active: Decision, candidate: Decision) -> tuple[Outcome, tuple[str, ...]]:
    """How the candidate's answer differs, and by which policies.

    `same`; `reasons` where both refuse, but not by the same policies; `newly_denied` by the candidate's policies;
    `newly_allowed`, where the active set's policies no longer stand.
    """
    if active.allowed and not candidate.allowed:
        return "newly_denied", candidate.policy_ids
    if candidate.allowed and not active.allowed:
        return "newly_allowed", active.policy_ids
    if active.policy_ids != candidate.policy_ids:
        return "reasons", tuple(sorted(set(active.policy_ids) ^ set(candidate.policy_ids)))
    return "same", ()


def chosen(in_force: InForce, app_id: AppId | None) -> str:
    """The hash of the set that decides for this app; a set on its way in decides for apps alone."""
    if in_force.incoming is None or app_id is None:
        return in_force.current
    place = int.from_bytes(sha256(f"{in_force.incoming}/{app_id}".encode()).digest()[:8]) % WHOLE
    return in_force.incoming if place < in_force.share else in_force.current


def archive(tx: Transaction, files: Mapping[str, bytes], *, at: datetime) -> str:
    """Keep a set so that it can be read by its hash for ever. Returns the hash."""
    digest = set_hash(files)
    tx.keep_policy_set(digest, files, at=at)
    return digest


def seed(tx: Transaction, files: Mapping[str, bytes], *, at: datetime) -> InForce:
    """Put the very first set of a log in force; where there is one already, it stays."""
    in_force = tx.policies()
    if in_force is None:
        digest = archive(tx, files, at=at)
        tx.activate(PolicyChange.first(digest, at=at), at=at)
        in_force = InForce(digest, None, 0)
    return in_force
