"""Whoever is granted something, whoever may sign it, and whatever else stands between a person and a clip.

Through the gate, on a real ledger, under the policies the log says are in force. When each test is over every
decision it made is made again, byte for byte.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.consent.statement import encode_key
from ledger.errors import InvalidStatement
from ledger.ids import AppId
from safety.gate import WouldAllow
from safety.replay import Redecided, redecide
from test_activation import Ruled, opened
from test_gate import download, ids, refused, uses_of
from world import Someone, check_log, zulu

CHILD = date(2015, 5, 5)
ALMOST_18 = date(2008, 6, 1)
"""Of age three months after every test's beginning."""
FOR_A_MINOR: dict[str, Any] = {"approval": "before_release", "max_uses": 3}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Ruled]:
    made = opened(tmp_path)
    yield made
    with made.ledger.reading() as tx:
        found = [entry for app in tx.apps() for entry in tx.decisions_since(app.id, 0)]
        assert found
        for entry in found:
            again = redecide(tx, made.auditor, str(entry.index), facts_key=made.keyring.facts_key)
            assert isinstance(again, Redecided), again
            assert (again.differs, again.decision.allowed) == ((), entry.body["allowed"])
    check_log(made.ledger)
    made.ledger.close()


def ward(world: Ruled, *guardians: Someone, born_on: date = CHILD, **scope: Any) -> Someone:
    """A minor, and who answers for them."""
    child = world.enrol(born_on=born_on)
    for guardian in guardians:
        world.guardian(child, guardian, **scope)
    return child


def granted(world: Ruled, app: AppId, *people: Someone, guardian: Someone, **changes: Any) -> None:
    for child in people:
        world.grant(child, app, cosigned_by=[guardian], **{**FOR_A_MINOR, **changes})


def would(world: Ruled, app: AppId, *people: Someone, **changes: Any) -> set[str]:
    """What a precheck says: the reasons against, or none."""
    answer = world.gate.precheck(world.request(app, *people, **changes), at=world.at)
    return set() if isinstance(answer, WouldAllow) else ids(answer)


# ── when ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_likeness_that_came_in_by_a_film_is_not_used_for_a_day(world: Ruled) -> None:
    app, filmed, seen = world.app(), world.enrol(filmed=True), world.enrol()
    for person in (filmed, seen):
        world.grant(person, app)
    assert world.allow(app, seen).permit, "an operator had them before them"
    assert refused(world, world.request(app, filmed)) == {"consent.cooling_off"}
    world.wait(hours=23, minutes=59)
    assert refused(world, world.request(app, filmed, seen)) == {"consent.cooling_off"}
    world.wait(minutes=1)
    assert world.release(world.allow(app, filmed).permit) is None


# ── to whom ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_grant_to_a_person_is_for_them_through_any_app_and_for_nobody_else(world: Ruled) -> None:
    app, other, ada, bob, eve = world.app(), world.app("Other"), world.enrol(), world.enrol(), world.enrol()
    world.grant(ada, app, grantee={"type": "person", "id": bob.person_id})
    for asked in (None, eve.person_id, ada.person_id):
        assert refused(world, world.request(app, ada, person=asked)) == {"consent.no_grant"}
    for asking in (app, other):
        permit = world.allow(asking, ada, person=bob.person_id).permit
        assert permit.person == bob.person_id
        assert world.release(permit) is None
        (*_, entry) = world.entries(ada.person_id, "decision")
        assert entry.body["requested_by"] == bob.person_id
    assert would(world, app, ada, person=bob.person_id) == set()
    assert would(world, app, ada, person=eve.person_id) == {"consent.no_grant"}


def test_a_permit_for_one_person_releases_nothing_for_another(world: Ruled) -> None:
    app, ada, bob, eve = world.app(), world.enrol(), world.enrol(), world.enrol()
    world.grant(ada, app, grantee={"type": "person", "id": bob.person_id})
    permit = world.allow(app, ada, person=bob.person_id).permit
    altered = permit.model_copy(update={"person": eve.person_id})
    assert ids(world.release(altered)) == {"consent.no_grant"}
    assert world.release(permit) is None


def test_a_grant_to_the_people_one_approves_of_is_for_those_who_are_among_them_then(world: Ruled) -> None:
    app, ada, bob, eve = world.app(), world.enrol(), world.enrol(), world.enrol()
    grant = world.grant(ada, app, grantee={"type": "group", "id": "mutuals"})
    world.befriend(eve, bob)  # whom others approve of is nothing to her
    assert refused(world, world.request(app, ada, person=bob.person_id)) == {"consent.no_grant"}
    world.befriend(ada, bob)
    assert refused(world, world.request(app, ada)) == {"consent.no_grant"}
    assert refused(world, world.request(app, ada, person=eve.person_id)) == {"consent.no_grant"}
    permit = world.allow(app, ada, person=bob.person_id).permit
    assert uses_of(world, ada, grant) == {permit.video}
    world.befriend(ada, bob, member=False)
    assert ids(world.release(permit)) == {"consent.no_grant"}
    assert refused(world, world.request(app, ada, person=bob.person_id)) == {"consent.no_grant"}
    world.befriend(ada, bob)
    assert world.release(permit) is None


@pytest.mark.parametrize("grantee", ["app", "everyone"])
def test_a_blocked_app_gets_nothing_whatever_a_grant_says(world: Ruled, grantee: str) -> None:
    app, ada = world.app(), world.enrol()
    named = {"app": app, "everyone": "*"}[grantee]
    world.grant(ada, app, grantee={"type": grantee, "id": named})
    permit = world.allow(app, ada).permit
    world.block(ada, app)
    assert refused(world, world.request(app, ada)) == {"standing.blocked"}
    assert ids(world.release(permit)) == {"standing.blocked"}
    world.block(ada, app, blocked=False)
    world.allow(app, ada)
    assert world.release(permit) is None


def test_a_blocked_person_gets_nothing_through_any_app(world: Ruled) -> None:
    app, ada, bob, eve = world.app(), world.enrol(), world.enrol(), world.enrol()
    world.grant(ada, app)
    world.grant(ada, app, grantee={"type": "person", "id": bob.person_id})
    permit = world.allow(app, ada, person=bob.person_id).permit
    world.block(ada, bob.person_id)
    assert refused(world, world.request(app, ada, person=bob.person_id)) == {"standing.blocked"}
    assert ids(world.release(permit)) == {"standing.blocked"}
    world.allow(app, ada)
    world.allow(app, ada, person=eve.person_id)


def test_who_is_blocked_and_holds_no_grant_is_not_told(world: Ruled) -> None:
    app, ada = world.app(), world.enrol()
    world.block(ada, app)
    assert refused(world, world.request(app, ada)) == {"consent.no_grant"} == would(world, app, ada)
    (entry,) = world.entries(ada.person_id, "decision")
    assert "standing.blocked" in {reason["id"] for reason in entry.body["reasons"]}


# ── where, and with what ──────────────────────────────────────────────────────────────────────────────────


def test_a_clip_stays_within_the_countries_a_grant_names(world: Ruled) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app, jurisdictions=["DE", "AT"], max_uses=9)
    world.grant(bob, app)
    for countries in (("*",), ("FR",), ("DE", "FR"), ("DE", "*")):
        assert refused(world, world.request(app, ada, countries=countries)) == {"consent.countries"}
    for countries in (("DE",), ("AT", "DE")):
        assert world.release(world.allow(app, ada, countries=countries).permit) is None
    assert world.entries(app, "decision")[-1].body["countries"] == ["AT", "DE"]
    world.allow(app, bob, countries=("FR",))
    # Together: where both agree.
    world.allow(app, ada, bob, countries=("DE",))
    assert refused(world, world.request(app, ada, bob)) == {"consent.countries"}


def test_a_permit_for_one_country_releases_nothing_for_all_of_them(world: Ruled) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app, jurisdictions=["DE"])
    permit = world.allow(app, ada, countries=("DE",)).permit
    assert ids(world.release(permit.model_copy(update={"countries": ("*",)}))) == {"consent.countries"}
    assert world.release(permit) is None
    assert download(world, permit.video, app) is None


def test_a_prompt_is_held_against_what_a_person_would_rather_not_be_shown_with(world: Ruled) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app, preferences=["no alcohol", "keine Hunde"])
    world.grant(bob, app)
    for prompt in ("a toast with alcohol", "a walk with a d\u043eg and a Hund", "an alc0hol free drink"):
        request = world.request(app, ada, prompt=prompt)
        assert refused(world, request) == {"consent.preference"}, prompt
    (*_, entry) = world.entries(ada.person_id, "decision")
    assert entry.body["reasons"][0]["reason"].startswith("the prompt mentions what your grant says")
    # What it is, nobody else is told.
    (*_, entry) = world.entries(app, "decision")
    assert "Hunde" not in str(entry.body)
    assert world.release(world.allow(app, ada, prompt="a toast with water").permit) is None
    # It is nobody else's wish.
    world.allow(app, bob, prompt="a toast with alcohol")
    assert refused(world, world.request(app, ada, bob, prompt="beer and alcohol")) == {"consent.preference"}


def test_what_one_grant_rules_out_another_may_allow(world: Ruled) -> None:
    app, ada = world.app(), world.enrol()
    world.grant(ada, app, preferences=["no alcohol"], expires=zulu(world.at.replace(day=20)))
    world.grant(ada, app, jurisdictions=["DE"], expires=zulu(world.at.replace(day=21)))
    third = world.grant(ada, app, expires=zulu(world.at.replace(day=22)))
    permit = world.allow(app, ada, prompt="a glass of alcohol").permit
    assert [use.grant_id for use in permit.uses] == [third]


# ── minors ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_minors_grant_holds_once_a_guardian_signed_it_and_approves_each_clip(world: Ruled) -> None:
    app, mum = world.app(), world.enrol()
    kid = ward(world, mum)
    with pytest.raises(InvalidStatement, match="needs a guardian's co-signature"):
        world.grant(kid, app, **FOR_A_MINOR)
    assert refused(world, world.request(app, kid)) == {"consent.no_grant"}
    granted(world, app, kid, guardian=mum)
    permit = world.allow(app, kid).permit
    assert ids(world.release(permit)) == {"release.approval"}
    world.approve(kid, permit.video_id)  # their own word is not the guardian's
    assert ids(world.release(permit)) == {"release.approval"}
    world.approve(kid, permit.video_id, role="guardian")
    assert world.release(permit) is None
    voice = frozenset({"face", "voice"})
    assert {"minors.voice", "consent.modality"} == refused(world, world.request(app, kid, modalities=voice))
    assert "minors.strangers" in refused(world, world.request(app, kid, audience="everyone"))


def test_a_guardian_who_is_one_no_longer_agrees_no_longer(world: Ruled) -> None:
    app, mum, dad = world.app(), world.enrol(), world.enrol()
    kid = ward(world, mum, dad)
    granted(world, app, kid, guardian=mum)
    permit = world.allow(app, kid).permit
    world.approve(kid, permit.video_id, role="guardian")
    world.guardian(kid, mum, standing=False)
    assert ids(world.release(permit)) == {"minors.guardian"}
    assert refused(world, world.request(app, kid)) == {"minors.guardian"}
    granted(world, app, kid, guardian=dad)
    world.allow(app, kid)


def test_a_person_who_comes_of_age_decides_anew(world: Ruled) -> None:
    app, mum = world.app(), world.enrol()
    kid = ward(world, mum, born_on=ALMOST_18)
    granted(world, app, kid, guardian=mum)
    world.allow(app, kid)
    world.wait(days=100)
    assert refused(world, world.request(app, kid)) == {"standing.inactive", "consent.expired"}
    world.handover(kid)
    assert refused(world, world.request(app, kid)) == {"consent.expired"}
    world.grant(kid, app)
    assert world.release(world.allow(app, kid).permit) is None


def test_a_minor_is_shown_beside_a_stranger_only_if_every_guardian_allows_it(world: Ruled) -> None:
    app, mum, dad, ada = world.app(), world.enrol(), world.enrol(), world.enrol()
    kid = ward(world, mum, dad)
    granted(world, app, kid, guardian=mum)
    for adult in (ada, mum):
        world.grant(adult, app)
    assert refused(world, world.request(app, kid, ada)) == {"minors.with_adults"}
    assert refused(world, world.request(app, ada, kid)) == {"minors.with_adults"}
    # Of why, the other one is told nothing.
    (*_, entry) = world.entries(ada.person_id, "decision")
    assert [reason["id"] for reason in entry.body["reasons"]] == ["consent.quorum"]
    world.allow(app, kid)
    world.allow(app, kid, mum)  # who is no stranger
    world.guardian(kid, mum, with_adults=True)
    assert refused(world, world.request(app, kid, ada)) == {"minors.with_adults"}
    world.guardian(kid, dad, with_adults=True)
    permit = world.allow(app, kid, ada).permit
    world.approve(kid, permit.video_id, role="guardian")
    world.guardian(kid, dad, with_adults=False)
    assert ids(world.release(permit)) == {"minors.with_adults"}
    world.guardian(kid, dad, with_adults=True)
    assert world.release(permit) is None


def test_a_guardian_beside_somebody_elses_child_is_a_stranger_to_that_child(world: Ruled) -> None:
    app, mum, other = world.app(), world.enrol(), world.enrol()
    kid, friend = ward(world, mum), ward(world, other)
    granted(world, app, kid, guardian=mum)
    granted(world, app, friend, guardian=other)
    world.grant(mum, app)
    world.allow(app, kid, mum)
    assert refused(world, world.request(app, kid, mum, friend)) == {"minors.with_adults"}


def test_two_minors_may_be_shown_together(world: Ruled) -> None:
    app, mum, dad = world.app(), world.enrol(), world.enrol()
    kid, friend = ward(world, mum), ward(world, dad)
    granted(world, app, kid, guardian=mum)
    granted(world, app, friend, guardian=dad)
    permit = world.allow(app, kid, friend).permit
    for one in (kid, friend):
        assert ids(world.release(permit)) == {"release.approval"}
        world.approve(one, permit.video_id, role="guardian")
    assert world.release(permit) is None


def test_who_came_of_age_is_an_adult_beside_a_minor(world: Ruled) -> None:
    app, mum = world.app(), world.enrol()
    kid, big = ward(world, mum), ward(world, mum, born_on=ALMOST_18)
    granted(world, app, kid, big, guardian=mum, expires=zulu(world.at.replace(month=5)))
    world.allow(app, kid, big)
    world.wait(days=100)
    world.handover(big)
    world.grant(big, app)
    granted(world, app, kid, guardian=mum)
    assert refused(world, world.request(app, kid, big)) == {"minors.with_adults"}


# ── approval, delegation, estates ─────────────────────────────────────────────────────────────────────────


def test_a_clip_waits_for_its_owner(world: Ruled) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    world.grant(ada, app, approval="before_release")
    world.grant(bob, app)
    first, second = world.allow(app, ada, bob).permit, world.allow(app, ada, bob).permit
    for permit in (first, second):
        assert ids(world.release(permit)) == {"release.approval"}
        world.approve(bob, permit.video_id)
        assert ids(world.release(permit)) == {"release.approval"}
    world.approve(ada, first.video_id)
    assert world.release(first) is None
    world.approve(ada, second.video_id, approved=False)
    assert ids(world.release(second)) == {"release.approval"}


def test_a_minors_clip_that_one_guardian_refuses_stays_in(world: Ruled) -> None:
    app, mum, dad = world.app(), world.enrol(), world.enrol()
    kid = ward(world, mum, dad)
    granted(world, app, kid, guardian=mum)
    permit = world.allow(app, kid).permit
    for word in (True, False, True):
        world.approve(kid, permit.video_id, approved=word, role="guardian")
    assert ids(world.release(permit)) == {"release.approval"}


def delegable(world: Ruled, someone: Someone, app: AppId, **changes: Any) -> tuple[Any, Ed25519PrivateKey]:
    key = Ed25519PrivateKey.generate()
    return world.grant(someone, app, delegate_key=encode_key(key.public_key()), **changes), key


def test_what_was_passed_on_is_used_from_what_it_comes_from(world: Ruled) -> None:
    app, other, ada = world.app(), world.app("Other"), world.enrol()
    parent, key = delegable(world, ada, app, max_uses=2)
    assert refused(world, world.request(other, ada)) == {"consent.no_grant"}
    child = world.delegate(ada, parent, key, other, max_uses=2)
    first = world.allow(other, ada).permit
    assert [use.grant_id for use in first.uses] == [child]
    assert uses_of(world, ada, parent) == uses_of(world, ada, child) == {first.video}
    second = world.allow(app, ada).permit
    assert uses_of(world, ada, parent) == {first.video, second.video}
    assert uses_of(world, ada, child) == {first.video}
    # One use is left of the child, and none of what it was taken from.
    for asking in (app, other):
        assert refused(world, world.request(asking, ada)) == {"consent.used_up"}
    assert world.release(first) is None
    assert world.release(second) is None


def test_what_was_passed_on_ends_with_what_it_comes_from(world: Ruled) -> None:
    app, other, ada = world.app(), world.app("Other"), world.enrol()
    parent, key = delegable(world, ada, app)
    world.delegate(ada, parent, key, other)
    permit = world.allow(other, ada).permit
    world.revoke(ada, parent)
    assert ids(world.release(permit)) == {"consent.revoked"}
    assert refused(world, world.request(other, ada)) == {"consent.revoked"}
    with pytest.raises(InvalidStatement, match="does not stand, or may not be passed on"):
        world.delegate(ada, parent, key, other)


def test_what_an_app_passed_on_is_worth_nothing_while_that_app_is_blocked(world: Ruled) -> None:
    app, other, ada = world.app(), world.app("Other"), world.enrol()
    parent, key = delegable(world, ada, app)
    world.delegate(ada, parent, key, other)
    permit = world.allow(other, ada).permit
    world.block(ada, app)
    assert ids(world.release(permit)) == {"consent.expired"}
    assert refused(world, world.request(other, ada)) == {"consent.expired"}
    world.block(ada, app, blocked=False)
    assert world.release(permit) is None


def test_nobody_passes_on_more_than_they_hold_nor_with_another_key(world: Ruled) -> None:
    app, other, ada = world.app(), world.app("Other"), world.enrol()
    parent, key = delegable(world, ada, app, jurisdictions=["DE"], preferences=["no alcohol"])
    narrow: dict[str, Any] = {"jurisdictions": ["DE"], "preferences": ["no alcohol"]}
    beyond: list[dict[str, Any]] = [{"jurisdictions": ["*"]}, {"preferences": []}, {"max_uses": 4}]
    for wider in beyond:
        with pytest.raises(InvalidStatement, match="allows more"):
            world.delegate(ada, parent, key, other, **{**narrow, **wider})
    with pytest.raises(InvalidStatement, match="signed by a key that is not the one on record"):
        world.delegate(ada, parent, Ed25519PrivateKey.generate(), other, **narrow)
    assert refused(world, world.request(other, ada)) == {"consent.no_grant"}
    world.delegate(ada, parent, key, other, **narrow)
    assert refused(world, world.request(other, ada)) == {"consent.countries"}
    assert refused(world, world.request(other, ada, countries=("DE",), prompt="alcohol")) == {
        "consent.preference"
    }
    world.allow(other, ada, countries=("DE",))


def test_an_executor_grants_and_approves_for_who_has_died(world: Ruled) -> None:
    app, ada, bob = world.app(), world.enrol(), world.enrol()
    draft = world.draft(ada, app, approval="before_release")
    with pytest.raises(InvalidStatement, match="signed by a key that is not the one on record"):
        world.record(ada, draft, key=bob.device)
    world.executor(ada, bob)
    world.record(ada, draft, key=bob.device)
    permit = world.allow(app, ada).permit
    assert ids(world.release(permit)) == {"release.approval"}
    world.approve(ada, permit.video_id, role="executor")
    assert world.release(permit) is None
