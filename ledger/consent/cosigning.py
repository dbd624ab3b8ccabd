"""What a minor signs waits until a guardian signs the same bytes; only then is it a grant.

It waits for a day, sealed under the minor's key, outside the log: what nobody agreed to with them never was one.
"""

from collections.abc import Iterable
from datetime import datetime

from pydantic import TypeAdapter

from ledger.consent.authority import Cosignature, check_minor, check_signatures
from ledger.consent.family import check_signed_by
from ledger.consent.fold import Standing
from ledger.consent.grant import SIGNING_WINDOW, Grant, check_signable, parse_grant
from ledger.consent.registry import SignedGrant
from ledger.consent.statement import GRANT_TAG, Evidence, wrong_signer
from ledger.errors import InvalidStatement, NotFound
from ledger.ids import GrantId, LeafIndex, PersonId
from ledger.log.sequencer import Ledger
from ledger.store.journal import About
from ledger.store.reviews import Review
from ledger.store.transaction import Transaction

_EVIDENCE: TypeAdapter[Evidence] = TypeAdapter(Evidence)


def keep_for_guardian(ledger: Ledger, signed: SignedGrant, *, at: datetime) -> Grant:
    """Keep what a minor signed until a guardian signs it too. Raises InvalidStatement for what none of them may sign."""
    grant = parse_grant(signed.value)
    check_signable(grant, at=at)

    def operation(tx: Transaction) -> Grant:
        standing = tx.standing(signed.owner)
        _check_new(tx, grant, signed.owner)
        _check_some_guardian_may(standing, grant, at)
        # Verified now, so that nobody is asked for what does not hold; a passkey's counter counts now, too.
        check_signed_by(tx, signed.owner, GRANT_TAG, grant.signed_bytes(), signed.evidence, at)
        said = {
            "grant": grant.model_dump(mode="json", by_alias=True),
            "evidence": signed.evidence.model_dump(mode="json"),
        }
        for one in tx.open_reviews(["cosign"], [signed.owner]):
            if one.said["grant"]["grant_id"] == grant.grant_id or _stale(one, at):
                tx.drop_review(one.id)
        tx.add_review("cosign", signed.owner, said, at=at)
        return grant

    return ledger.transact(operation)


def awaiting(tx: Transaction, wards: Iterable[PersonId], *, at: datetime) -> list[tuple[PersonId, Grant]]:
    """What these minors signed and no guardian has: whose, and the grant. What is over a day old waits no longer."""
    return [
        (one.person_id, parse_grant(one.said["grant"]))
        for one in tx.open_reviews(["cosign"], list(wards))
        if not _stale(one, at)
    ]


def cosign(
    ledger: Ledger, guardian: PersonId, grant_id: GrantId, evidence: Evidence, *, at: datetime
) -> tuple[Grant, LeafIndex]:
    """A guardian signs what a ward of theirs signed, and it counts. Raises InvalidStatement or NotFound."""

    def operation(tx: Transaction) -> tuple[Grant, LeafIndex]:
        review = _pending(tx, guardian, grant_id, at)
        ward, grant = review.person_id, parse_grant(review.said["grant"])
        owner = _EVIDENCE.validate_python(review.said["evidence"])
        check_signable(grant, at=at)
        _check_new(tx, grant, ward)
        cosigned = Cosignature(guardian=guardian, evidence=evidence)
        counted = tx.credential(evidence.key_id)
        found = check_signatures(
            tx.standing(ward),
            grant,
            owner,
            (cosigned,),
            at=at,
            # The ward's counter was looked at when this was kept; it has moved on since.
            last_count=lambda key: counted.sign_count if counted and key == counted.id != owner.key_id else 0,
        )
        # Each with a key that is theirs today: a ward's list is not told at once that a phone was stolen.
        for one, person_id in zip(found, (ward, guardian), strict=True):
            if (held := tx.credential(one.signer.id)) is None or held.person_id != person_id:
                raise wrong_signer()
        if counted is not None and found[-1].signer.kind == "passkey":
            tx.credential_used(counted.id, found[-1].sign_count, at=at)
        body = {**review.said, "cosignatures": [cosigned.model_dump(mode="json")]}
        tx.drop_review(review.id)
        if grant.grantee.type == "app":
            told = {"grant_id": grant.id, "cameo_id": grant.cameo}
            tx.event(grant.grantee.id, "grant.created", told, at=at)
        return grant, tx.append("grant", grant.id, [About(ward, "grantor", body)], at=at)

    return ledger.transact(operation)


def decline(ledger: Ledger, guardian: PersonId, grant_id: GrantId, *, at: datetime) -> None:
    """A guardian does not sign: what the ward signed is gone."""
    ledger.transact(lambda tx: tx.drop_review(_pending(tx, guardian, grant_id, at).id))


def _pending(tx: Transaction, guardian: PersonId, grant_id: GrantId, at: datetime) -> Review:
    wards = [one for one in tx.wards(guardian) if tx.standing(one).minor(at)]
    for one in tx.open_reviews(["cosign"], wards):
        if one.said["grant"]["grant_id"] == grant_id and not _stale(one, at):
            return one
    raise NotFound("guardian.nothing_waits", "no such permission waits for you", "look at what waits for you")


def _stale(review: Review, at: datetime) -> bool:
    return review.created_at < (at - SIGNING_WINDOW).timestamp()


def _check_new(tx: Transaction, grant: Grant, owner: PersonId) -> None:
    if grant.grantor != owner or tx.owner(grant.cameo) != owner:
        raise InvalidStatement(
            "grant.not_yours", "the grant is about a likeness that is not yours", "grant your own likeness"
        )
    if tx.find("grant", grant.id) is not None:
        raise InvalidStatement("grant.replayed", "this grant was already recorded", "ask for a new preview")


def _check_some_guardian_may(standing: Standing, grant: Grant, at: datetime) -> None:
    refused: InvalidStatement | None = None
    for guardian in standing.guardians:
        try:
            return check_minor(standing, grant, [guardian], at=at)
        except InvalidStatement as error:
            refused = error
    if refused is not None:
        raise refused
    return check_minor(standing, grant, [], at=at)
