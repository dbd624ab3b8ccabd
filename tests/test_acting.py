"""Who acts for whom: what both people's lists say, and only while both say it."""

from datetime import date
from typing import Any

from ledger.canonical import canonical
from ledger.consent.statement import GUARDIANSHIP_TAG, device, encode_key, sign
from ledger.store.journal import About
from world import Someone, World, zulu


def guardian(world: World, ward: Someone, adult: Someone, *, standing: bool = True) -> None:
    """`adult` becomes `ward`'s guardian, or stops being it."""
    statement = {
        "schema": "countersign/guardianship/v1",
        "guardian": adult.person_id,
        "ward": ward.person_id,
        "relation": "parent",
        "max_uses": 5,
        "with_adults": False,
        "issued": zulu(world.at),
    }
    body: dict[str, Any] = {
        "guardianship": statement,
        "evidence": sign(GUARDIANSHIP_TAG, canonical(statement), adult.device).model_dump(),
        "signers": [device(encode_key(adult.device.public_key())).model_dump()],
        "vouched": None,
        "standing": standing,
    }
    copy = {**body, "role": "guardian", "person_id": ward.person_id}
    about = [About(ward.person_id, "owner", body), About(adult.person_id, "guardian", copy)]
    ref = f"{ward.person_id}/{adult.person_id}/{standing}"
    world.ledger.transact(lambda tx: tx.append("guardian", ref, about, at=world.at))


def executor(world: World, late: Someone, heir: Someone) -> None:
    body: dict[str, Any] = {
        "executor": heir.person_id,
        "evidence_sha256": "0" * 64,
        "vouched": None,
        "standing": True,
        "signers": [],
    }
    copy = {**body, "role": "executor", "person_id": late.person_id}
    about = [About(late.person_id, "owner", body), About(heir.person_id, "executor", copy)]
    world.ledger.transact(lambda tx: tx.append("estate", late.person_id, about, at=world.at))


def test_a_guardian_and_an_executor_find_those_they_answer_for(world: World) -> None:
    child, parent, late = world.enrol(date(2012, 5, 1)), world.enrol(), world.enrol()
    guardian(world, child, parent)
    executor(world, late, parent)
    with world.ledger.reading() as tx:
        assert tx.people_of(parent.person_id) == {child.person_id: "guardian", late.person_id: "executor"}
        assert tx.people_of(child.person_id) == tx.people_of(late.person_id) == {}
    guardian(world, child, parent, standing=False)
    with world.ledger.reading() as tx:
        assert tx.people_of(parent.person_id) == {late.person_id: "executor"}


def test_answering_for_somebody_changes_nothing_about_oneself(world: World) -> None:
    """A guardian's own likeness has no guardian; or it would lapse until they came of age once more."""
    child, parent = world.enrol(date(2012, 5, 1)), world.enrol()
    guardian(world, child, parent)
    executor(world, world.enrol(), parent)
    with world.ledger.reading() as tx:
        own, wards = tx.standing(parent.person_id), tx.standing(child.person_id)
    assert (dict(own.guardians), own.had_guardian, own.executor) == ({}, False, None)
    assert own.in_use(world.at)
    assert list(wards.guardians) == [parent.person_id]
