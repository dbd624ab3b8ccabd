"""Who answers for somebody: guardians, executors, and the person themselves once they are of age.

A guardian is an adult whose age is known, who signs that they answer for a minor, and whom an operator believes; what
they sign limits what they may co-sign. They may narrow it with a word, and widen it only by signing anew. When the
minor comes of age, guardians have no say any more, and the likeness rests until its owner signs that they keep it.
What a guardian signs with a minor is :mod:`ledger.consent.cosigning`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from ledger.consent.fold import Standing
from ledger.consent.grant import CLOCK_SKEW, SIGNING_WINDOW, Moment
from ledger.consent.statement import (
    GUARDIANSHIP_TAG,
    HANDOVER_TAG,
    Evidence,
    Guardianship,
    Handover,
    Signer,
    parse_guardianship,
    parsed,
    verify,
)
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import CameoId, LeafIndex, PersonId
from ledger.log.sequencer import Ledger
from ledger.store.journal import About
from ledger.store.reviews import Review
from ledger.store.transaction import Transaction

_EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)
INVITATION = "guardian"
"""What a token is for by which a minor invites a guardian."""

# Becoming a guardian ------------------------------------------------------------------------------------------


def check_guardianship(tx: Transaction, said: Guardianship, *, at: datetime) -> None:
    """That the guardian may answer for the ward. Raises InvalidStatement."""
    ward, guardian = PersonId(said.ward), PersonId(said.guardian)
    if ward == guardian or tx.person(ward) is None or tx.person(guardian) is None:
        raise InvalidStatement(
            "guardian.unknown", "guardian and ward are not two people with an account", "check both ids"
        )
    if tx.standing(guardian).minor(at):
        raise InvalidStatement(
            "guardian.age", "a guardian is an adult whose age is known", "have your age verified first"
        )
    if not tx.standing(ward).minor(at):
        raise InvalidStatement(
            "guardian.of_age", "whom you would answer for is of age", "they decide for themselves"
        )


def ask_to_guard(
    ledger: Ledger,
    guardian: PersonId,
    value: object,
    evidence: Evidence,
    *,
    invitation: bytes | None,
    at: datetime,
) -> str | LeafIndex:
    """What a guardian signed. Of one who is new, invited by the ward: the id of the review it waits in.

    Of one whom operators have accepted before: where their new limits stand in the log. Raises InvalidStatement, or
    NotFound for an invitation that is none any more.
    """
    said = parse_guardianship(value)

    def operation(tx: Transaction) -> str | LeafIndex:
        if said.guardian != guardian:
            raise InvalidStatement(
                "guardian.not_you", "the statement names somebody else as the guardian", "sign your own"
            )
        before = _guardian_entry(tx, PersonId(said.ward), guardian)
        if before is None:
            _use_invitation(tx, invitation, PersonId(said.ward), at)
        else:
            _check_said_once(tx, said)
        check_guardianship(tx, said, at=at)
        _check_fresh("guardianship", said.issued, at)
        check_signed_by(tx, guardian, GUARDIANSHIP_TAG, said.signed_bytes(), evidence, at)
        signed = {"guardianship": _json(said), "evidence": evidence.model_dump(mode="json")}
        if before is None:
            return tx.add_review("guardian", PersonId(said.ward), signed, at=at)
        return _tell_guardian(tx, said, signed["evidence"], vouched=before["vouched"], at=at)

    return ledger.transact(operation)


def accept_guardian(
    tx: Transaction, review: Review, vouched: Mapping[str, Any], *, at: datetime
) -> LeafIndex:
    """An operator believes it. Everything that can have changed since it was signed is looked at again."""
    said = parse_guardianship(review.said["guardianship"])
    check_guardianship(tx, said, at=at)
    return _tell_guardian(tx, said, review.said["evidence"], vouched=vouched, at=at)


def narrow(
    ledger: Ledger, guardian: PersonId, ward: PersonId, *, max_uses: int, with_adults: bool, at: datetime
) -> LeafIndex:
    """Lower a guardian's limits, at once and without a signature. Raises InvalidStatement for what would widen them."""

    def operation(tx: Transaction) -> LeafIndex:
        before = _standing_entry(tx, ward, guardian)
        held = parse_guardianship(before["guardianship"])
        said = held.model_copy(update={"max_uses": max_uses, "with_adults": with_adults})
        if not said.within(held):
            raise InvalidStatement(
                "guardian.wider", "this allows more than what you signed", "sign the wider limits instead"
            )
        # What was signed stays beside it: a reader sees that this only narrows it.
        signed = before.get("narrows", before["guardianship"])
        more = {"narrows": signed}
        return _tell_guardian(tx, said, before["evidence"], vouched=before["vouched"], at=at, more=more)

    return ledger.transact(operation)


def end_guardian(ledger: Ledger, ward: PersonId, guardian: PersonId, *, by: str, at: datetime) -> LeafIndex:
    """Somebody is this person's guardian no longer. Raises NotFound if they were none."""

    def operation(tx: Transaction) -> LeafIndex:
        before = _standing_entry(tx, ward, guardian)
        said = parse_guardianship(before["guardianship"])
        more = {"ended_by": by, **({"narrows": before["narrows"]} if "narrows" in before else {})}
        return _tell_guardian(
            tx, said, before["evidence"], vouched=before["vouched"], at=at, standing=False, more=more
        )

    return ledger.transact(operation)


def _tell_guardian(
    tx: Transaction,
    said: Guardianship,
    evidence: Mapping[str, Any],
    *,
    vouched: Mapping[str, Any] | None,
    at: datetime,
    standing: bool = True,
    more: Mapping[str, Any] | None = None,
) -> LeafIndex:
    ward, guardian = PersonId(said.ward), PersonId(said.guardian)
    body = {
        "guardianship": _json(said),
        "evidence": evidence,
        "vouched": vouched,
        "standing": standing,
        **(more or {}),
    }
    signers = [one.signer for one in tx.credentials(guardian)]
    if standing:
        _check_still_theirs(body, signers)
    keys = [one.model_dump(mode="json") for one in signers]
    about = [About(ward, "owner", {**body, "signers": keys})]
    if not tx.erased(guardian):
        about.append(About(guardian, "guardian", {**body, "role": "guardian", "person_id": ward}))
    return tx.append("guardian", _next(tx, ward), about, at=at)


def _check_still_theirs(body: Mapping[str, Any], signers: Iterable[Signer]) -> None:
    """That the guardian still has the key they signed with: whoever replays the list finds no other there."""
    signed = parse_guardianship(body.get("narrows", body["guardianship"])).signed_bytes()
    evidence = _EVIDENCE.validate_python(body["evidence"])
    if all(one.id != evidence.key_id for one in signers):
        raise InvalidStatement(
            "guardian.key_gone",
            "the guardian signed with a key that is theirs no longer",
            "have them sign again, with a key they have now",
        )
    verify(GUARDIANSHIP_TAG, signed, evidence, signers=signers)


def _use_invitation(tx: Transaction, invitation: bytes | None, ward: PersonId, at: datetime) -> None:
    found = tx.token(invitation, INVITATION, at=at) if invitation is not None else None
    if found is None or found.person_id != ward:
        raise NotFound(
            "guardian.invitation", "this invitation is not good, or no longer", "ask to be sent a new link"
        )
    tx.drop_token(found.hash)


def _guardian_entry(tx: Transaction, ward: PersonId, guardian: PersonId) -> Mapping[str, Any] | None:
    """The newest word on a guardian who stands."""
    if tx.person(ward) is None or guardian not in tx.standing(ward).guardians:
        return None
    said = [one.body for one in tx.entries(ward, ["guardian"]) if one.opening.label == "owner"]
    return [one for one in said if one["guardianship"]["guardian"] == guardian][-1]


def _check_said_once(tx: Transaction, said: Guardianship) -> None:
    """That these are not limits the guardian signed before, and may have narrowed since.

    Evidence stands on the list, and most keys do not count: without this, a session would be enough to widen them.
    """
    for one in tx.entries(PersonId(said.ward), ["guardian"]):
        signed = parse_guardianship(one.body.get("narrows", one.body["guardianship"]))
        theirs = one.opening.label == "owner" and signed.guardian == said.guardian
        if theirs and (said == signed or said.issued < signed.issued):
            raise InvalidStatement(
                "guardian.replayed",
                "this was signed and recorded before",
                "ask for a new preview and sign that",
            )


def _standing_entry(tx: Transaction, ward: PersonId, guardian: PersonId) -> Mapping[str, Any]:
    found = _guardian_entry(tx, ward, guardian)
    if found is None:
        raise NotFound("guardian.unknown", "there is no such guardian", "look at who answers for you")
    return found


# Coming of age, and dying ------------------------------------------------------------------------------------------


def check_handover(standing: Standing, *, at: datetime) -> CameoId:
    """The likeness that its owner may take over now. Raises InvalidStatement."""
    if standing.cameo_id is None or not standing.had_guardian or standing.handed_over:
        raise InvalidStatement(
            "handover.nothing", "there is nothing to be handed over to you", "go on as you are"
        )
    if standing.minor(at):
        raise InvalidStatement(
            "handover.minor",
            "your likeness is handed over to you when you are 18, and your age is known",
            "wait until then, or have your age verified",
        )
    return standing.cameo_id


def hand_over(
    ledger: Ledger, person_id: PersonId, value: object, evidence: Evidence, *, at: datetime
) -> LeafIndex:
    """Somebody who had a guardian is of age, and signs that their likeness stays. Raises InvalidStatement."""
    said = parsed(Handover, "handover", value)

    def operation(tx: Transaction) -> LeafIndex:
        cameo_id = check_handover(tx.standing(person_id), at=at)
        if (said.person_id, said.cameo_id) != (person_id, cameo_id):
            raise InvalidStatement(
                "handover.not_yours", "the statement is about another likeness", "ask for a new preview"
            )
        _check_fresh("handover", said.issued, at)
        check_signed_by(tx, person_id, HANDOVER_TAG, said.signed_bytes(), evidence, at)
        body = {"cameo_id": cameo_id, "statement": _json(said), "evidence": evidence.model_dump(mode="json")}
        return tx.append("handover", cameo_id, [About(person_id, "owner", body)], at=at)

    return ledger.transact(operation)


def check_estate(tx: Transaction, person_id: PersonId, executor: PersonId, *, at: datetime) -> None:
    """That one can act for the other's estate. Raises InvalidStatement."""
    if person_id == executor or tx.person(person_id) is None or tx.person(executor) is None:
        raise InvalidStatement(
            "estate.unknown",
            "the person and the executor are not two people with an account",
            "check both ids",
        )
    if tx.standing(executor).minor(at):
        raise InvalidStatement(
            "estate.age", "an executor is an adult whose age is known", "have their age verified first"
        )


def open_estate(
    tx: Transaction,
    person_id: PersonId,
    executor: PersonId,
    evidence_sha256: str,
    vouched: Mapping[str, Any],
    *,
    at: datetime,
) -> LeafIndex:
    """Somebody has died, and who acts for them is known. Nobody stays signed in as them, or signs in again."""
    check_estate(tx, person_id, executor, at=at)
    body = {"evidence_sha256": evidence_sha256, "vouched": vouched, "standing": True}
    index = _tell_estate(tx, person_id, executor, body, at=at)
    tx.close_sessions(person_id)
    tx.drop_tokens(person_id)
    return index


def end_estate(
    ledger: Ledger, person_id: PersonId, executor: PersonId, vouched: Mapping[str, Any], *, at: datetime
) -> LeafIndex:
    """An estate that should not be: who was taken for dead signs in again. Raises NotFound if there is none."""

    def operation(tx: Transaction) -> LeafIndex:
        if tx.person(person_id) is None or tx.standing(person_id).executor != executor:
            raise NotFound("estate.none", "nobody of this id acts for this person's estate", "check both ids")
        said = [one.body for one in tx.entries(person_id, ["estate"]) if one.opening.label == "owner"][-1]
        body = {"evidence_sha256": said["evidence_sha256"], "vouched": vouched, "standing": False}
        return _tell_estate(tx, person_id, executor, body, at=at)

    return ledger.transact(operation)


def _tell_estate(
    tx: Transaction, person_id: PersonId, executor: PersonId, said: Mapping[str, Any], *, at: datetime
) -> LeafIndex:
    body = {"executor": executor, **said}
    signers = [one.signer.model_dump(mode="json") for one in tx.credentials(executor)]
    about = [About(person_id, "owner", {**body, "signers": signers})]
    if not tx.erased(executor):
        about.append(About(executor, "executor", {**body, "role": "executor", "person_id": person_id}))
    return tx.append("estate", _next(tx, person_id), about, at=at)


# What all of them need --------------------------------------------------------------------------------------------


def check_signed_by(
    tx: Transaction, person_id: PersonId, tag: str, statement: bytes, evidence: Evidence, at: datetime
) -> None:
    """That this person signed, with a key of their account. Raises InvalidStatement."""
    keys = {one.id: one for one in tx.credentials(person_id)}
    known = keys.get(evidence.key_id)
    found = verify(
        tag,
        statement,
        evidence,
        signers=[one.signer for one in keys.values()],
        sign_count=known.sign_count if known is not None else 0,
    )
    if found.signer.kind == "passkey":
        tx.credential_used(found.signer.id, found.sign_count, at=at)


def _check_fresh(name: str, issued: Moment, at: datetime) -> None:
    if not at - SIGNING_WINDOW <= issued <= at + CLOCK_SKEW:
        raise InvalidStatement(
            f"{name}.stale",
            "this was prepared over a day ago, or in the future",
            "ask for a new preview and sign that",
        )


def _next(tx: Transaction, person_id: PersonId) -> str:
    """A name for the next entry on somebody's list, which no other has."""
    return f"{person_id}/{tx.held(person_id).count}"


def _json(said: Guardianship | Handover) -> dict[str, Any]:
    return said.model_dump(mode="json", by_alias=True)
