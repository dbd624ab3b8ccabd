"""What operators order: which policy set is in force, and which apps are let in.

An order is a statement of few fields that an operator signs with their own Ed25519 key. The policies in force decide
whether it may be carried out (`policies/access.cedar`); what is dangerous needs a second operator, who gives the
same order with their own key. The first signature waits a day in the ledger's database.

    activation    the bytes of :class:`ledger.log.public.PolicyChange`: the change stands in the log with the
                  operators' signatures, so anyone can check that the service did not change the rules alone
    standing      tag ``countersign/standing/v1``, canonical JSON {origin, app_id, suspended, reason, number}; the
                  entry stands on the app's own list
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.service import Service
from ledger.canonical import canonical, challenge
from ledger.consent.statement import encode_key
from ledger.errors import NotFound
from ledger.ids import AppId, LeafIndex
from ledger.keys import load_key
from ledger.log.public import POLICIES_TAG, WHOLE, InForce, PolicyChange
from ledger.reasons import Reason
from ledger.store.journal import About
from ledger.store.transaction import Transaction
from safety.errors import Refused
from safety.policy.activation import archive
from safety.policy.engine import Engine
from safety.policy.facts import OperatorFacts, OrderFacts

SIGNATURE_LIFE_S = 86_400
STANDING_TAG = "countersign/standing/v1"
DANGEROUS = frozenset({"operator.two_people", "operator.reinstate_alone"})
"""The policies that only ask for a second operator."""


@dataclass(frozen=True, slots=True)
class Done:
    """The order was carried out: its place in the log, and who signed it."""

    index: LeafIndex
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The order is signed once and needs another operator."""

    reasons: tuple[Reason, ...]


def new_operator_key(path: Path) -> str:
    """A new key in a file only its owner may read. Returns the public key, to register it with."""
    if path.exists():
        raise Refused("operator.key", f"there is a file `{path}` already", "name another one")
    return encode_key(_loaded(path).public_key())


def operator_key(path: Path) -> Ed25519PrivateKey:
    """The key in a file. Raises Refused where there is none, and Unavailable for a damaged file."""
    if not path.exists():
        raise Refused(
            "operator.key", f"there is no key file `{path}`", "make one with `countersign keys new FILE`"
        )
    return _loaded(path)


def _loaded(path: Path) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(load_key(path))
    except OSError as error:
        why = error.strerror or "it is no file"
        raise Refused(
            "operator.key", f"the key file `{path}` cannot be used ({why})", "name another one"
        ) from error


def activate(
    service: Service,
    files: Mapping[str, bytes],
    key: Ed25519PrivateKey,
    *,
    compared_with: InForce | None,
    checked: bool,
    loosens: bool,
    share: int = WHOLE,
) -> Done | Waiting:
    """Put a policy set in force, for all apps or for a share of them (‰), from this place in the log on.

    `checked`, `loosens`: what :mod:`safety.policy.check` found, beside the set `compared_with`, which must still be
    the one in force. Raises Refused when the policies in force forbid it.
    """
    at = service.clock()
    if checked and share and not _can_be_followed(files):
        raise Refused(
            "policy.last",
            "under this set not even two operators could activate another one, so it would stand for ever",
            "let it permit `activate_policies` to two registered operators",
        )

    def operation(tx: Transaction) -> Done | Waiting:
        before = tx.policies()
        if before is None or before != compared_with:
            raise Refused(
                "policy.moved", "another set has come into force meanwhile", "check the candidate again"
            )
        digest = archive(tx, files, at=at)
        change = PolicyChange.following(before, digest, share=share, at=at)
        order = OrderFacts(f"policies/{change.number}", seconded=False, checked=checked, loosens=loosens)
        statement = challenge(POLICIES_TAG, change.statement(service.ledger.origin))
        signed = _sign(service, tx, "activate_policies", order, statement, key, at)
        if isinstance(signed, Waiting):
            return signed
        for public, signature in signed.signatures:
            change = change.bearing(public, signature)
        return Done(tx.activate(change, at=at), signed.operators)

    return service.ledger.transact(operation)


def _can_be_followed(files: Mapping[str, bytes]) -> bool:
    """Whether two operators could ever replace this set. Forbidding more takes one of them, and there is no way around."""
    operator = OperatorFacts("anyone", registered=True)
    order = OrderFacts("policies/next", seconded=True, checked=True, loosens=True)
    return Engine.of(files).rule("activate_policies", operator=operator, order=order).allowed


def stand(
    service: Service, app_id: AppId, key: Ed25519PrivateKey, *, suspended: bool, reason: str
) -> Done | Waiting:
    """Suspend an app, or let it back in. Counts from this place in the log on, also for jobs in flight."""
    at = service.clock()

    def operation(tx: Transaction) -> Done | Waiting:
        app = tx.app(app_id)
        if app is None:
            raise NotFound("app.unknown", f"there is no app `{app_id[:40]}`", "see `countersign apps list`")
        if app.suspended == suspended:
            state = "suspended" if suspended else "in good standing"
            raise Refused("app.unchanged", f"the app `{app_id}` is {state} already", "nothing to do")
        number = len(tx.entries(app_id, ["standing"]))
        statement = canonical(
            {
                "origin": service.ledger.origin,
                "app_id": app_id,
                "suspended": suspended,
                "reason": reason,
                "number": number,
            }
        )
        action: Literal["suspend_app", "reinstate_app"] = "suspend_app" if suspended else "reinstate_app"
        order = OrderFacts(f"{app_id}/{number}", seconded=False, checked=False, loosens=not suspended)
        signed = _sign(service, tx, action, order, challenge(STANDING_TAG, statement), key, at)
        if isinstance(signed, Waiting):
            return signed
        tx.set_suspended(app_id, suspended=suspended)
        body = {
            "app_id": app_id,
            "suspended": suspended,
            "reason": reason,
            "number": number,
            "operators": [[public.hex(), signature.hex()] for public, signature in signed.signatures],
        }
        index = tx.append("standing", f"{app_id}/{number}", [About(app_id, "requester", body)], at=at)
        return Done(index, signed.operators)

    return service.ledger.transact(operation)


@dataclass(frozen=True, slots=True)
class _Signed:
    signatures: tuple[tuple[bytes, bytes], ...]
    """Public key and signature of each operator, ascending by key."""
    operators: tuple[str, ...]


def _sign(
    service: Service,
    tx: Transaction,
    action: str,
    order: OrderFacts,
    statement: bytes,
    key: Ed25519PrivateKey,
    at: datetime,
) -> _Signed | Waiting:
    """Sign an order, with whoever signed the same before. Raises Refused; Waiting where only a second is missing."""
    public = key.public_key().public_bytes_raw()
    operator = tx.operator_by_key(encode_key(key.public_key()))
    # The rows are the database's word: a signature that nobody made must not second an order.
    earlier = {
        one: made for one, made in tx.order_signatures(statement, at=at) if _signs(one, made, statement)
    }
    signatures = earlier | {public: key.sign(statement)}
    # A key that was taken away since no longer counts.
    known = {one: tx.operator_by_key(encode_key(one)) for one in signatures}
    valid = {one: signatures[one] for one, name in known.items() if name is not None}
    facts = OperatorFacts(operator or "unknown", registered=operator is not None)
    order = OrderFacts(order.order_id, len(set(known.values()) - {None}) > 1, order.checked, order.loosens)
    ruling = service.gate.sets.engine(tx).rule(action, operator=facts, order=order)
    if ruling.allowed:
        tx.forget_order(statement)
        names = tuple(sorted(name for name in known.values() if name is not None))
        return _Signed(tuple(sorted(valid.items())), names)
    if operator is not None and set(ruling.policy_ids) <= DANGEROUS:
        tx.sign_order(
            statement, public, signatures[public], expires_at=int(at.timestamp()) + SIGNATURE_LIFE_S
        )
        return Waiting(ruling.reasons())
    # What no second signature would mend comes first: else whoever may not sign at all is sent to find another.
    first = min(ruling.reasons(), key=lambda reason: reason.id in DANGEROUS)
    raise Refused(first.id, first.sentence, first.remedy)


def _signs(public: bytes, signature: bytes, statement: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True
