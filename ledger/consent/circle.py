"""The people somebody approves of, and those who may never use their likeness, whatever a grant says."""

from datetime import datetime

from ledger.errors import NotFound
from ledger.ids import PersonId
from ledger.log.sequencer import Ledger
from ledger.reasons import Reason
from ledger.store.journal import About
from ledger.store.transaction import Transaction

_BLOCKED = Reason(
    "consent.revoked",
    "a person shown has taken their agreement back while the clip was being made",
    "leave this likeness out",
)
"""In the words of a revocation: whoever is blocked is not told."""


def set_member(ledger: Ledger, owner: PersonId, other: PersonId, *, member: bool, at: datetime) -> None:
    """Let somebody into the people one approves of, or out. Raises NotFound for somebody without an account."""

    def operation(tx: Transaction) -> None:
        if member and (other == owner or tx.person(other) is None):
            raise NotFound(
                "person.unknown", f"there is nobody else here called `{other[:40]}`", "check the id"
            )
        if member != (other in tx.standing(owner).members):
            body = {"person_id": other, "member": member}
            tx.append("group", f"{owner}/{tx.held(owner).count}", [About(owner, "owner", body)], at=at)

    ledger.transact(operation)


def set_block(ledger: Ledger, owner: PersonId, target: str, *, blocked: bool, at: datetime) -> None:
    """Keep an app or a person from ever using one's likeness, or let them again. What they are making now, ends."""

    def operation(tx: Transaction) -> None:
        known = tx.app(target) is not None or tx.person(target) is not None
        if blocked and (target == owner or not known):
            raise NotFound("block.unknown", f"there is no app or person `{target[:40]}`", "check the id")
        if blocked != (target in tx.standing(owner).blocked):
            body = {"target": target, "blocked": blocked}
            tx.append("block", f"{owner}/{tx.held(owner).count}", [About(owner, "owner", body)], at=at)
        for video in tx.in_flight(owner, target) if blocked else ():
            tx.end_job(video, "revoked", [_BLOCKED.as_json()], at=at)

    ledger.transact(operation)
