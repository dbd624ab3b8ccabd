"""Writing consent: a grant that verifies, a revocation that is instant, an erasure that is final.

All are entries in the one log; what stands afterwards is for :mod:`ledger.consent.fold` to say. A grant is
kept whole, with its evidence, so that anyone the owner shows it to can check the signature offline.
"""

from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from typing import Any

from ledger.consent.authority import Cosignature, check_signatures, signers_of
from ledger.consent.certificate import certificate as certified
from ledger.consent.fold import Standing, fold
from ledger.consent.grant import Grant, RevocationEffect, check_signable, parse_grant
from ledger.consent.signed_grant import signed_grant
from ledger.consent.statement import GRANT_TAG, DeviceSignature, Evidence, device, verify, wrong_signer
from ledger.errors import InvalidStatement, LogError, NotFound
from ledger.ids import CameoId, GrantId, LeafIndex, PersonId
from ledger.log.sequencer import Ledger
from ledger.store.journal import About, Draft, Opened
from ledger.store.transaction import Transaction

BATCH = 250
"""Grants verified in one piece, and written in one transaction."""


@dataclass(frozen=True, slots=True)
class SignedGrant:
    """A grant and its evidence as they came in, and whose they claim to be."""

    owner: PersonId
    value: Any
    evidence: Evidence
    cosignatures: tuple[Cosignature, ...] = ()


def record_grant(ledger: Ledger, signed: SignedGrant, *, at: datetime) -> tuple[Grant, LeafIndex]:
    """Add a grant the owner signed. Raises InvalidStatement; then nothing is written."""
    grant = _verified(signed, at)

    def operation(tx: Transaction) -> LeafIndex:
        _Facts(tx, [grant.id], at).check(signed, grant)
        index = tx.append("grant", grant.id, _about(signed, grant), at=at)
        _tell(tx, "grant.created", grant, at)
        return index

    return grant, ledger.transact(operation)


def record_grants(
    ledger: Ledger, signed: Sequence[SignedGrant], *, at: datetime
) -> list[LeafIndex | InvalidStatement]:
    """Add many grants that their owners signed. What became of each, in order; one refused hinders no other.

    Signatures are verified in the ledger's worker processes, where it has any, before the log is held up.
    """
    parts = [signed[start : start + BATCH] for start in range(0, len(signed), BATCH)]
    check, workers = partial(_verified_or_why, at=at), ledger.keys.workers
    checked = workers.map(check, parts) if workers is not None else map(check, parts)
    outcomes: list[LeafIndex | InvalidStatement] = []
    for part, grants in zip(parts, checked, strict=True):
        outcomes += ledger.transact(partial(_record_part, part=part, grants=grants, at=at))
    return outcomes


def _record_part(
    tx: Transaction,
    part: Sequence[SignedGrant],
    grants: Sequence[Grant | InvalidStatement],
    at: datetime,
) -> list[LeafIndex | InvalidStatement]:
    answers: list[LeafIndex | InvalidStatement | None] = []
    drafts: list[Draft] = []
    facts = _Facts(tx, [grant.id for grant in grants if isinstance(grant, Grant)], at)
    for one, grant in zip(part, grants, strict=True):
        try:
            if isinstance(grant, InvalidStatement):
                raise grant
            facts.check(one, grant)
            drafts.append(Draft("grant", grant.id, _about(one, grant), at))
            _tell(tx, "grant.created", grant, at)
            answers.append(None)
        except InvalidStatement as refused:
            answers.append(refused)
    indices = iter(tx.append_all(drafts) if drafts else [])
    return [next(indices) if answer is None else answer for answer in answers]


def _verified_or_why(part: Sequence[SignedGrant], at: datetime) -> list[Grant | InvalidStatement]:
    answers: list[Grant | InvalidStatement] = []
    for one in part:
        try:
            answers.append(_verified(one, at))
        except InvalidStatement as refused:
            answers.append(refused)
    return answers


def _verified(signed: SignedGrant, at: datetime) -> Grant:
    """Everything that can be said of a grant without the ledger. That the key is the owner's is said later."""
    grant = parse_grant(signed.value)
    check_signable(grant, at=at)
    if isinstance(signed.evidence, DeviceSignature):
        # A passkey's assertion does not say which key it was made with; it is verified where that is known.
        verify(GRANT_TAG, grant.signed_bytes(), signed.evidence, signers=[device(signed.evidence.public_key)])
    return grant


class _Facts:
    """What a grant must agree with, read once for all grants of one transaction."""

    def __init__(self, tx: Transaction, grants: Sequence[GrantId], at: datetime) -> None:
        self._tx, self._at = tx, at
        self._taken = tx.taken("grant", grants)
        self._person, self._owner, self._app = cache(tx.person), cache(tx.owner), cache(tx.app)
        self._standing = cache(tx.standing)

    def check(self, signed: SignedGrant, grant: Grant) -> None:
        """Raises InvalidStatement. A grant that passed is taken: it does not pass twice."""
        owner = signed.owner
        # 1. The grantor is the person asking, and the likeness is theirs.
        if self._person(owner) is None or grant.grantor != owner or self._owner(grant.cameo) != owner:
            raise InvalidStatement(
                "grant.not_yours",
                "the grant is about a likeness that is not yours",
                "grant your own likeness",
            )
        # 2. It is new: a grant that was revoked can not be brought back by sending it again.
        if grant.id in self._taken:
            raise InvalidStatement(
                "grant.replayed", "this grant was already recorded", "ask for a new preview"
            )
        # 3. Whoever may use it exists.
        self._check_grantee(grant)
        # 4. Exactly these bytes were signed by whoever may, and a minor's by a guardian too, each with a key that
        #    is theirs today: a list is not told at once that a guardian's phone was stolen.
        standing, known = self._standing(owner), cache(self._tx.credential)
        signing = {owner, standing.executor, *(one.guardian for one in signed.cosignatures)}
        for found in check_signatures(
            standing,
            grant,
            signed.evidence,
            signed.cosignatures,
            at=self._at,
            last_count=lambda key: one.sign_count if (one := known(key)) else 0,
        ):
            signer = found.signer
            passed_on = grant.parent is not None and signer.id == signed.evidence.key_id
            if not passed_on and ((held := known(signer.id)) is None or held.person_id not in signing):
                raise wrong_signer()
            if signer.kind == "passkey":
                self._tx.credential_used(signer.id, found.sign_count, at=self._at)
        self._taken.add(grant.id)

    def _check_grantee(self, grant: Grant) -> None:
        grantee = grant.grantee
        if grantee.type == "app" and self._app(grantee.id) is None:
            raise InvalidStatement(
                "grant.unknown_grantee", f"there is no app `{grantee.id}`", "check the app's id"
            )
        if grantee.type == "person" and self._person(grantee.id) is None:
            raise InvalidStatement(
                "grant.unknown_grantee", f"there is no person `{grantee.id}`", "check the person's id"
            )


def _tell(tx: Transaction, event: str, grant: Grant, at: datetime, **more: str) -> None:
    """Tell the app that a grant names; what was granted to people and groups is nobody's to be told."""
    if grant.grantee.type == "app":
        tx.event(grant.grantee.id, event, {"grant_id": grant.id, "cameo_id": grant.cameo, **more}, at=at)


def _about(signed: SignedGrant, grant: Grant) -> list[About]:
    body: dict[str, Any] = {
        "grant": grant.model_dump(mode="json", by_alias=True),
        "evidence": signed.evidence.model_dump(mode="json"),
    }
    if signed.cosignatures:
        body["cosignatures"] = [one.model_dump(mode="json") for one in signed.cosignatures]
    return [About(signed.owner, "grantor", body)]


def revoke(
    ledger: Ledger, owner: PersonId, grant_id: GrantId, effect: RevocationEffect | None, *, at: datetime
) -> LeafIndex:
    """End a grant, from this place in the log on. Needs no signature and cannot be undone; repeating it is harmless.

    In the same transaction end the jobs that are still being made under it, or under what was passed on from it, and
    with `withdraw_all` those that are made from its clips: none of them is released later.
    `effect` widens or keeps what the grant says: `withdraw_all` may always be chosen, `stop_new` cannot undo it.
    Raises NotFound for a grant that is not this owner's.
    """

    def operation(tx: Transaction) -> LeafIndex:
        standing = tx.standing(owner)
        held = standing.grants.get(grant_id)
        if held is None:
            raise NotFound(
                "grant.unknown", f"you have no grant `{grant_id[:40]}`", "look at your list of grants"
            )
        ref: str = grant_id
        if held.revoked_index is not None:
            if held.withdrawn or effect != "withdraw_all":
                return held.revoked_index
            # Over already; what is out is now taken back as well.
            ref = f"{grant_id}/withdrawal"
        strongest = "withdraw_all" if "withdraw_all" in {effect, held.grant.revocation_effect} else "stop_new"
        body = {"grant_id": grant_id, "cameo_id": held.grant.cameo_id, "effect": strongest}
        index = tx.append("revocation", ref, [About(owner, "grantor", body)], at=at)
        ended = _passed_on(standing, grant_id)
        tx.take_back(ended, withdraw=strongest == "withdraw_all", at=at)
        for one in ended:
            _tell(tx, "grant.revoked", standing.grants[one].grant, at, effect=strongest)
        return index

    return ledger.transact(operation)


def _passed_on(standing: Standing, grant_id: GrantId) -> list[GrantId]:
    """A grant, and every one that passes it on."""
    found = [grant_id]
    for one in found:
        found += [child for child in standing.passed_on.get(one, ()) if child not in found]
    return found


def taken_along(ledger: Ledger, owner: PersonId, grant_id: GrantId) -> dict[str, Any]:
    """A signed grant with its evidence, the keys it was signed with, and its place in the log, as one file.

    :mod:`ledger.consent.signed_grant` checks it. Raises NotFound for a grant that is not this owner's, LogError while
    witnesses keep the checkpoint waiting.
    """
    with ledger.reading() as tx:
        held = tx.standing(owner).grants.get(grant_id)
        if held is None:
            raise NotFound(
                "grant.unknown", f"you have no grant `{grant_id[:40]}`", "look at your list of grants"
            )
        entries = tx.entries(owner)
        leaf, commitments = tx.statements([held.index])[held.index]
    entry = next(one for one in entries if one.index == held.index)
    # The keys as they stood then: one that was taken away since has signed all the same.
    before = fold(one.entry() for one in entries if one.index < held.index)
    signers = {one.id: one for one in signers_of(before, held.grant)}
    signers |= {one.id: one for guardian in before.guardians.values() for one in guardian.signers}
    cosignatures = entry.body.get("cosignatures", [])
    evidence = [entry.body["evidence"], *(one["evidence"] for one in cosignatures)]
    ledger.published(held.index)
    return signed_grant(
        entry.body["grant"],
        entry.body["evidence"],
        cosignatures,
        [signers[one.get("public_key") or one["credential_id"]] for one in evidence],
        parent=taken_along(ledger, owner, GrantId(held.grant.parent)) if held.grant.parent else None,
        log={
            "origin": ledger.origin,
            "vkey": str(ledger.verifier),
            "index": held.index,
            "n": entry.opening.n,
            "role": entry.opening.label,
            "body": dict(entry.body),
            "secret": b64encode(entry.opening.secret).decode(),
            "leaf": b64encode(leaf).decode(),
            "commitments": [b64encode(one).decode() for one in commitments],
            "proof": ledger.proof(held.index).encode().decode(),
        },
    )


@dataclass(frozen=True, slots=True)
class Erased:
    """What is left of someone: the opening of their last entry, and the objects that must go."""

    entry: Opened
    leaf: bytes
    commitments: tuple[bytes, ...]
    records: int
    """How many entries about them can no longer be read, this one included."""
    objects: tuple[str, ...]


def erase(ledger: Ledger, owner: PersonId, cameo: CameoId, *, at: datetime) -> Erased:
    """Destroy everything about a person but the leaves, which name nobody. Cannot be undone.

    Backups of the database become unreadable in this part with the next rotation of the wrapping key. Raises
    NotFound for a likeness that is not theirs.
    """

    def operation(tx: Transaction) -> Erased:
        if tx.owner(cameo) != owner:
            raise NotFound("cameo.unknown", f"you have no likeness `{cameo[:40]}`", "check the id")
        drafts = tx.end_jobs_of(owner, at=at)  # before their last entry: nothing follows it
        count = tx.held(owner).count
        index = tx.append("erasure", cameo, [About(owner, "owner", {"cameo_id": cameo})], at=at)
        (entry,) = tx.entries(owner, start=count)
        leaf, commitments = tx.statements([index])[index]
        return Erased(entry, leaf, commitments, count + 1, (*tx.erase_person(owner), *drafts))

    return ledger.transact(operation)


def certificate(ledger: Ledger, erased: Erased) -> dict[str, Any]:
    """What the erased person keeps: that the log holds a signed entry which says that the rest is gone.

    `proof`: null while witnesses keep the checkpoint waiting; anyone can ask for it later, by its index.
    """
    entry = erased.entry
    return certified(
        entry.index,
        entry.body,
        entry.opening,
        erased.leaf,
        erased.commitments,
        origin=ledger.origin,
        proof=_proof(ledger, entry.index),
        records_destroyed=erased.records,
    )


def deletion_certificate(ledger: Ledger, owner: PersonId, index: LeafIndex) -> dict[str, Any]:
    """That something kept about a person was destroyed, as their own list says at `index`. Raises NotFound."""
    with ledger.reading() as tx:
        entry = tx.recorded(owner, index)
        if entry is None or entry.kind != "deletion":
            raise NotFound("deletion.unknown", f"your list has no deletion at `{index}`", "look at your list")
        leaf, commitments = tx.statements([index])[index]
    return certified(
        index,
        entry.body,
        entry.opening,
        leaf,
        commitments,
        origin=ledger.origin,
        proof=_proof(ledger, index),
    )


def _proof(ledger: Ledger, index: LeafIndex) -> str | None:
    # What has been destroyed can not be asked for again: this must not fail while witnesses keep the log waiting.
    with suppress(LogError):
        ledger.published(index)
        return ledger.proof(index).encode().decode()
    return None
