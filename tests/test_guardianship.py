"""Guardians and co-signatures on the ledger itself: keys that go, counters that move on, lists that are replayed."""

import json
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authenticator import Passkey
from command import countersign
from ledger.canonical import challenge, sha256
from ledger.consent import passkey
from ledger.consent.cosigning import awaiting, cosign, keep_for_guardian
from ledger.consent.family import INVITATION, accept_guardian, ask_to_guard, end_guardian, narrow
from ledger.consent.grant import parse_grant
from ledger.consent.registry import SignedGrant
from ledger.consent.statement import (
    DEVICE_TAG,
    GRANT_TAG,
    GUARDIANSHIP_TAG,
    Evidence,
    KeyAddition,
    PasskeyAssertion,
    encode_key,
    parse_guardianship,
    sign,
)
from ledger.consent.story import Record, Story, replay
from ledger.errors import InvalidStatement, NotFound, Violation
from ledger.ids import GrantId
from ledger.store.records import Credential
from ledger.store.tokens import Token
from ledger.store.transaction import Transaction
from world import Someone, World, open_ledger, zulu

RP_ID, ORIGIN = "localhost", "http://localhost:8460"
VOUCHED = {"operator": "dana", "note": "seen"}


@dataclass
class Family:
    """A minor and an adult, both with a passkey that counts beside their device."""

    world: World
    ward: Someone
    parent: Someone
    passkeys: dict[str, Passkey]

    def statement(self, **changes: Any) -> dict[str, Any]:
        return {
            "schema": "countersign/guardianship/v1",
            "guardian": self.parent.person_id,
            "ward": self.ward.person_id,
            "relation": "parent",
            "max_uses": 5,
            "with_adults": True,
            "issued": zulu(self.world.at),
            **changes,
        }

    def by_passkey(self, someone: Someone, tag: str, signed: bytes) -> Evidence:
        asked = encode_key(challenge(tag, signed))
        made = self.passkeys[someone.person_id].assertion(asked, ORIGIN)
        return PasskeyAssertion.model_validate(made)

    def asks(self) -> str:
        """The parent signs, with their passkey. The review it waits in."""
        world, said = self.world, self.statement()
        invitation, now = sha256(b"a link"), int(world.at.timestamp())
        token = Token(invitation, INVITATION, self.ward.person_id, created_at=now, expires_at=now + 60)
        world.ledger.transact(lambda tx: tx.add_token(token))
        evidence = self.by_passkey(self.parent, GUARDIANSHIP_TAG, parse_guardianship(said).signed_bytes())
        found = ask_to_guard(
            world.ledger, self.parent.person_id, said, evidence, invitation=invitation, at=world.at
        )
        assert isinstance(found, str)
        return found

    def accepted(self, review_id: str) -> None:
        def operation(tx: Transaction) -> None:
            review = tx.review(review_id)
            assert review is not None
            accept_guardian(tx, review, VOUCHED, at=self.world.at)

        self.world.ledger.transact(operation)

    def waits(self) -> tuple[GrantId, bytes]:
        """A grant the ward signed with their passkey, and its bytes."""
        draft = self.world.draft(self.ward, self.world.app(), approval="before_release")
        grant = parse_grant(draft)
        evidence = self.by_passkey(self.ward, GRANT_TAG, grant.signed_bytes())
        signed = SignedGrant(self.ward.person_id, draft, evidence)
        keep_for_guardian(self.world.ledger, signed, at=self.world.at)
        return grant.id, grant.signed_bytes()

    def lose(self, someone: Someone) -> None:
        """Somebody's passkey is removed from their account."""
        key = self.passkeys[someone.person_id].id
        self.world.ledger.transact(lambda tx: tx.remove_credential(key))

    def told(self, *more: Record) -> Story:
        """The ward's list, replayed as an auditor would; with these records after it."""
        entries = self.world.entries(self.ward.person_id)
        records = [(one.index, one.body) for one in entries]
        return replay([*records, *more], until=int(self.world.at.timestamp()) + 1)


@pytest.fixture
def family(world: World) -> Family:
    people = [world.enrol(date(2012, 5, 1)), world.enrol()]
    passkeys: dict[str, Passkey] = {
        one.person_id: Passkey(RP_ID, one.person_id.encode(), counts=True) for one in people
    }
    for one in people:
        asked, key = challenge("test", one.person_id.encode()), passkeys[one.person_id]
        answer = key.registration(encode_key(asked), ORIGIN)
        made = passkey.register(answer, challenge=asked, rp_id=RP_ID, origin=ORIGIN)
        credential = Credential(
            made.credential_id,
            one.person_id,
            "passkey",
            made.public_key,
            created_at=int(world.at.timestamp()),
            rp_id=RP_ID,
            origin=ORIGIN,
            sign_count=made.sign_count,
        )
        world.ledger.transact(partial(Transaction.add_credential, credential=credential))
        said = {"schema": "countersign/device/v1", "person_id": one.person_id, "issued": zulu(world.at)}
        statement = KeyAddition.model_validate({**said, "key": credential.signer.model_dump()})
        world.tell(
            one,
            "device",
            change="added",
            key=credential.signer.model_dump(mode="json"),
            how="signed",
            statement=statement.model_dump(mode="json", by_alias=True),
            evidence=sign(DEVICE_TAG, statement.signed_bytes(), one.device).model_dump(mode="json"),
        )
    return Family(world, people[0], people[1], passkeys)


def test_a_passkey_that_counted_on_since_still_signed_what_waits(family: Family) -> None:
    family.accepted(family.asks())
    first, _ = family.waits()
    second, _ = family.waits()
    world, guardian = family.world, family.parent
    with world.ledger.reading() as tx:
        waiting = awaiting(tx, [family.ward.person_id], at=world.at)
    assert {grant.id for _, grant in waiting} == {first, second}
    # The second first: when the first is recorded, its counter lies behind what was seen since.
    for grant_id in (second, first):
        text = next(grant.signed_bytes() for _, grant in waiting if grant.id == grant_id)
        evidence = family.by_passkey(guardian, GRANT_TAG, text)
        cosign(world.ledger, guardian.person_id, grant_id, evidence, at=world.at)
    with world.ledger.reading() as tx:
        standing = tx.standing(family.ward.person_id)
        counts = {one.id: one.sign_count for one in tx.credentials(guardian.person_id)}
    assert standing.live(standing.grants[first], world.at)
    assert counts[family.passkeys[guardian.person_id].id] == family.passkeys[guardian.person_id].count
    assert set(family.told().standing.grants) == {first, second}


def test_a_guardians_passkey_that_counts_back_cosigns_nothing(family: Family) -> None:
    family.accepted(family.asks())
    grant_id, signed = family.waits()
    family.passkeys[family.parent.person_id].count = 0
    evidence = family.by_passkey(family.parent, GRANT_TAG, signed)
    with pytest.raises(InvalidStatement) as refused:
        cosign(family.world.ledger, family.parent.person_id, grant_id, evidence, at=family.world.at)
    assert refused.value.reason.id.startswith("passkey.")


def test_whoever_lost_the_key_they_signed_with_signs_again(family: Family) -> None:
    review = family.asks()
    family.lose(family.parent)
    with pytest.raises(InvalidStatement) as refused:
        family.accepted(review)
    assert refused.value.reason.id == "guardian.key_gone"


def test_limits_are_narrowed_under_a_key_that_is_still_theirs(family: Family) -> None:
    family.accepted(family.asks())
    family.lose(family.parent)
    world, ward, parent = family.world, family.ward.person_id, family.parent.person_id
    with pytest.raises(InvalidStatement) as refused:
        narrow(world.ledger, parent, ward, max_uses=1, with_adults=False, at=world.at)
    assert refused.value.reason.id == "guardian.key_gone"
    # Signing anew, with the device they still have, says the same.
    said = family.statement(max_uses=1, with_adults=False)
    evidence = sign(GUARDIANSHIP_TAG, parse_guardianship(said).signed_bytes(), family.parent.device)
    ask_to_guard(world.ledger, parent, said, evidence, invitation=None, at=world.at)
    assert family.told().standing.guardians[parent].guardianship.max_uses == 1
    end_guardian(world.ledger, ward, parent, by="guardian", at=world.at)
    assert not family.told().standing.guardians


def test_limits_narrowed_by_a_word_are_not_widened_by_a_signature_used_again(family: Family) -> None:
    world, ward, parent = family.world, family.ward.person_id, family.parent.person_id
    family.accepted(family.asks())
    # Signed anew with a key that does not count, as most do not; the evidence stands on the list for whoever reads it.
    world.wait(minutes=1)
    said = family.statement(max_uses=100)
    evidence = sign(GUARDIANSHIP_TAG, parse_guardianship(said).signed_bytes(), family.parent.device)
    ask_to_guard(world.ledger, parent, said, evidence, invitation=None, at=world.at)
    world.wait(minutes=1)
    narrow(world.ledger, parent, ward, max_uses=1, with_adults=False, at=world.at)
    world.wait(minutes=1)
    with pytest.raises(InvalidStatement) as refused:
        ask_to_guard(world.ledger, parent, said, evidence, invitation=None, at=world.at)
    assert refused.value.reason.id == "guardian.replayed"
    assert family.told().standing.guardians[parent].guardianship.max_uses == 1
    wider = family.statement(max_uses=100)
    anew = sign(GUARDIANSHIP_TAG, parse_guardianship(wider).signed_bytes(), family.parent.device)
    ask_to_guard(world.ledger, parent, wider, anew, invitation=None, at=world.at)
    assert family.told().standing.guardians[parent].guardianship.max_uses == 100


def test_a_lost_phone_cosigns_nothing_though_the_list_still_names_its_key(family: Family) -> None:
    family.accepted(family.asks())
    grant_id, signed = family.waits()
    evidence = family.by_passkey(family.parent, GRANT_TAG, signed)
    family.lose(family.parent)
    with pytest.raises(InvalidStatement) as refused:
        cosign(family.world.ledger, family.parent.person_id, grant_id, evidence, at=family.world.at)
    assert refused.value.reason.id == "statement.wrong_signer"


def test_what_waits_waits_for_a_day(family: Family) -> None:
    family.accepted(family.asks())
    grant_id, signed = family.waits()
    world = family.world
    world.wait(hours=25)
    with world.ledger.reading() as tx:
        assert awaiting(tx, [family.ward.person_id], at=world.at) == []
    evidence = family.by_passkey(family.parent, GRANT_TAG, signed)
    with pytest.raises(NotFound) as refused:
        cosign(world.ledger, family.parent.person_id, grant_id, evidence, at=world.at)
    assert refused.value.reason.id == "guardian.nothing_waits"


def test_an_auditor_sees_limits_that_nobody_signed(family: Family) -> None:
    family.accepted(family.asks())
    world = family.world
    narrow(
        world.ledger,
        family.parent.person_id,
        family.ward.person_id,
        max_uses=2,
        with_adults=False,
        at=world.at,
    )
    told = world.entries(family.ward.person_id, "guardian")[-1]
    limits = family.told().standing.guardians[family.parent.person_id].guardianship
    assert (limits.max_uses, limits.with_adults) == (2, False)
    for wider in (
        {"guardianship": {**told.body["guardianship"], "max_uses": 6}},
        {"narrows": {**told.body["narrows"], "max_uses": 9}},
    ):
        with pytest.raises(Violation):
            family.told((type(told.index)(told.index + 5), {**told.body, **wider}))


def test_an_app_registers_the_key_it_passes_grants_on_with(tmp_path: Path) -> None:
    key = encode_key(Ed25519PrivateKey.generate().public_key())
    said = countersign(
        tmp_path, "keys", "create", "app", "agent", "--public-key", key, ORIGIN="test.example/log"
    )
    assert said.status == 0, said.text
    for wrong in ("AAAA", "not a key", key + "="):
        refused = countersign(tmp_path, "keys", "create", "app", "agent", "--public-key", wrong)
        assert refused.status == 2, refused.text
    ledger, _ = open_ledger(tmp_path)
    with ledger.reading() as tx:
        assert [(one.id, one.public_key) for one in tx.apps()] == [(json.loads(said.text)["holder"], key)]
    ledger.close()
