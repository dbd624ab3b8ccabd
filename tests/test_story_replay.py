"""A list that is whole can still tell of a wrong: each rule of the replay, by a story that breaks it.

:data:`LIES` holds the stories; `test_completeness` puts the same ones into a log that is signed to the last byte.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from authenticator import Authenticator
from ledger.canonical import challenge
from ledger.consent.grant import SCHEMA, parse_grant
from ledger.consent.statement import (
    DEVICE_TAG,
    ENROLMENT_TAG,
    GRANT_TAG,
    GUARDIANSHIP_TAG,
    HANDOVER_TAG,
    Handover,
    KeyAddition,
    device,
    encode_key,
    parse_guardianship,
    parsed,
    sign,
)
from ledger.consent.story import Story, replay
from ledger.errors import Violation
from ledger.ids import LeafIndex, new_id
from world import START, zulu

LAW = settings(deadline=None, max_examples=120)
APP, RIVAL = new_id("app"), new_id("app")
PERSON = new_id("person")


@dataclass
class Life:
    """One person's records, as a service would write them that has every key but the person's own."""

    cameo: str = field(default_factory=lambda: new_id("cameo"))
    device: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    at: datetime = START
    next: int = 3
    records: list[tuple[LeafIndex, dict[str, Any]]] = field(default_factory=list)

    def wait(self, **span: float) -> "Life":
        self.at += timedelta(**span)
        return self

    def tell(self, kind: str, **body: Any) -> "Life":
        self.records.append((LeafIndex(self.next), {"kind": kind, "at": zulu(self.at), **body}))
        self.next += 2
        return self

    def enrol(self, **changes: Any) -> "Life":
        enrolment = {"born_on": "1980-01-01", "device_key": encode_key(self.device.public_key())}
        fields = {"cameo_id": self.cameo, "list_key": "00" * 32, "enrolment": enrolment, **changes}
        return self.tell("enrolment", **fields)

    def terms(self, **changes: Any) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "grant_id": new_id("grant"),
            "cameo_id": self.cameo,
            "grantor": new_id("person"),
            "grantee": {"type": "app", "id": APP},
            "modalities": ["face"],
            "purposes": ["dpv:NonCommercialPurpose"],
            "allowed_contexts": [],
            "forbidden_contexts": [],
            "actions": ["generate"],
            "audience": "requester",
            "max_uses": 2,
            "issued": zulu(START),
            "starts": zulu(START),
            "expires": zulu(START + timedelta(days=30)),
            "jurisdictions": ["*"],
            "approval": "none",
            "revocation_effect": "stop_new",
            "preferences": [],
            "delegate_key": None,
            "parent": None,
            "notice": {"sha256": "0" * 64, "version": "1"},
            "language": "en",
            **changes,
        }

    def signed(self, terms: dict[str, Any], key: Ed25519PrivateKey | None = None) -> dict[str, Any]:
        evidence = sign(GRANT_TAG, parse_grant(terms).signed_bytes(), key or self.device)
        return {"grant": terms, "evidence": evidence.model_dump(mode="json")}

    def grant(self, **changes: Any) -> str:
        terms = self.terms(**changes)
        self.tell("grant", **self.signed(terms))
        return str(terms["grant_id"])

    def revoke(self, grant: str, effect: str = "stop_new") -> "Life":
        return self.tell("revocation", grant_id=grant, cameo_id=self.cameo, effect=effect)

    def decide(self, video: str, *grants: str, **changes: Any) -> "Life":
        body = {
            "video_id": video,
            "app_id": APP,
            "cameo_id": self.cameo,
            "grant_ids": list(grants),
            "allowed": True,
            "purpose": "dpv:NonCommercialPurpose",
            "action": "generate",
            **changes,
        }
        return self.tell("decision", **body)

    def release(self, video: str, *grants: str) -> "Life":
        clip = {"checks": ["faces"], "manifest_id": "urn:c2pa:1", "payload": "00"}
        return self.tell("release", video_id=video, cameo_id=self.cameo, grant_ids=list(grants), **clip)

    def give_back(self, video: str, *grants: str) -> "Life":
        return self.tell("returned", video_id=video, grant_ids=list(grants), stage="render", reasons=[])

    def age(self, born_on: str | None, *, over_18: bool | None = None) -> "Life":
        return self.tell("age", issuer="https://id.example", born_on=born_on, over_18=over_18)

    def guard(self, guardian: "Guard", **changes: Any) -> "Life":
        return self.tell("guardian", **{**guardian.accepts(self), **changes})

    def settle(self, key: Ed25519PrivateKey, **changes: Any) -> "Life":
        fields = {
            "executor": self.cameo.replace("cameo", "person"),
            "evidence_sha256": "e" * 64,
            "vouched": {"operator": "the office"},
            "standing": True,
            "signers": [signer(key)],
            **changes,
        }
        return self.tell("estate", **fields)

    def approve(self, video: str, role: str, *, approved: bool = True) -> "Life":
        return self.tell("approval", video_id=video, approved=approved, role=role)

    def hand_over(self, key: Ed25519PrivateKey | None = None, **changes: Any) -> "Life":
        said = {
            "schema": "countersign/handover/v1",
            "person_id": new_id("person"),
            "cameo_id": self.cameo,
            "issued": zulu(self.at),
            **changes,
        }
        evidence = sign(HANDOVER_TAG, parsed(Handover, "handover", said).signed_bytes(), key or self.device)
        return self.tell(
            "handover", cameo_id=self.cameo, statement=said, evidence=evidence.model_dump(mode="json")
        )

    def cosigned(self, *guards: "Guard", **changes: Any) -> str:
        """A grant as a minor gives it."""
        terms = self.terms(**{"approval": "before_release", **changes})
        signed = parse_grant(terms).signed_bytes()
        both = [
            {"guardian": one.id, "evidence": sign(GRANT_TAG, signed, one.key).model_dump(mode="json")}
            for one in guards
        ]
        self.tell("grant", **self.signed(terms), cosignatures=both)
        return str(terms["grant_id"])

    def erase(self) -> "Life":
        return self.tell("erasure", cameo_id=self.cameo)

    def replay(self, until: datetime | None = None) -> Story:
        return replay(self.records, int((until or self.at).timestamp()))


@dataclass
class Guard:
    """Somebody's guardian."""

    id: str = field(default_factory=lambda: new_id("person"))
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def accepts(self, ward: Life) -> dict[str, Any]:
        said = {
            "schema": "countersign/guardianship/v1",
            "guardian": self.id,
            "ward": new_id("person"),
            "relation": "parent",
            "max_uses": 5,
            "with_adults": False,
            "issued": zulu(ward.at),
        }
        evidence = sign(GUARDIANSHIP_TAG, parse_guardianship(said).signed_bytes(), self.key)
        return {
            "guardianship": said,
            "evidence": evidence.model_dump(mode="json"),
            "signers": [signer(self.key)],
            "vouched": {"operator": "the office"},
            "standing": True,
        }


def signer(key: Ed25519PrivateKey) -> dict[str, Any]:
    return device(encode_key(key.public_key())).model_dump(mode="json")


def honest() -> Life:
    """Everything that may happen, as it should."""
    life = Life().enrol()
    grant = life.grant()
    life.wait(minutes=1).decide("v1", grant).decide("v2", grant)
    life.tell("decision", video_id="v0", app_id=RIVAL, grant_ids=[], allowed=False, reasons=[])
    life.tell("audit", auditor="a newspaper", asked="uses")
    life.wait(minutes=1).release("v1", grant).give_back("v2", grant)
    life.decide("v3", grant).release("v3", grant)
    return life.wait(days=1).revoke(grant).revoke(grant, "withdraw_all")


def test_an_honest_story_is_believed_and_counted() -> None:
    story = honest().replay()
    assert (story.allowed, story.refused, story.released) == (3, 1, 2)
    (held,) = story.standing.grants.values()
    assert held.withdrawn
    assert not held.live(START)
    assert honest().erase().replay().standing.erased


def test_a_use_within_a_day_of_the_film_a_likeness_came_in_by_is_no_honest_story() -> None:
    def filmed(hours: float) -> Life:
        life = Life().enrol(filmed=True)
        grant = life.grant()
        return life.wait(hours=hours).decide("video_a", grant)

    assert filmed(24).replay().allowed == 1
    with pytest.raises(Violation) as caught:
        filmed(23.9).replay()
    assert caught.value.reason.id == "story.cooling_off"


# --- accounts, guardians, executors, delegates ---------------------------------------------------------------


def account(key: Authenticator) -> Life:
    """An account by passkey, and then a likeness that an operator vouched for."""
    life = Life().tell("account", key=key.signer(), list_key="00" * 32)
    return life.enrol(enrolment={"born_on": "1980-01-01", "person_id": new_id("person")})


def ward(guard: Guard, born_on: str = "2012-01-01") -> Life:
    life = Life()
    named = {"born_on": born_on, "device_key": encode_key(life.device.public_key())}
    return life.enrol(enrolment=named).guard(guard)


def by_passkey(life: Life, key: Authenticator, **changes: Any) -> str:
    terms = life.terms(**changes)
    evidence = key.sign(challenge(GRANT_TAG, parse_grant(terms).signed_bytes()))
    life.tell("grant", grant=terms, evidence=evidence)
    return str(terms["grant_id"])


def addition(life: Life, key: Authenticator, new: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A key more, as the account's own key signs for it. `changes` replace fields of what is signed."""
    said = {"schema": "countersign/device/v1", "person_id": PERSON, "key": new, "issued": zulu(life.at)}
    statement = KeyAddition.model_validate({**said, **changes})
    return {
        "change": "added",
        "key": new,
        "how": "signed",
        "statement": statement.model_dump(mode="json", by_alias=True),
        "evidence": key.sign(challenge(DEVICE_TAG, statement.signed_bytes())),
    }


def passed_on(life: Life, app: str = RIVAL, **changes: Any) -> tuple[str, str]:
    """(a grant, what the app that has it passes on to another)."""
    key = Ed25519PrivateKey.generate()
    who = {"grantor": new_id("person")}
    parent = life.grant(delegate_key=encode_key(key.public_key()), **who)
    terms = life.terms(parent=parent, grantee={"type": "app", "id": app}, **who, **changes)
    life.tell("grant", **life.signed(terms, key))
    return parent, str(terms["grant_id"])


def test_an_account_then_a_likeness_then_a_grant_by_passkey() -> None:
    key = Authenticator()
    life = account(key)
    grant = by_passkey(life, key)
    assert life.decide("v", grant).release("v", grant).replay().released == 1


def test_a_key_that_was_added_signs_and_one_that_was_taken_away_does_not() -> None:
    first, second = Authenticator(), Authenticator("EdDSA")
    life = account(first)
    life.tell("device", **addition(life, first, second.signer()))
    by_passkey(life, second)
    life.tell("device", change="removed", key=second.signer(), how="session")
    by_passkey(life, first)
    life.replay()
    by_passkey(life, second)
    with pytest.raises(Violation, match="not the one on record"):
        life.replay()


def test_a_key_that_came_by_recovery_is_told_as_such_and_signs() -> None:
    first, second = Authenticator(), Authenticator()
    life = account(first).tell("device", change="added", key=second.signer(), how="recovery")
    by_passkey(life, second)
    assert set(life.replay().standing.keys) == {first.id, second.id}


def _issued_later(body: dict[str, Any]) -> dict[str, Any]:
    body["statement"]["issued"] = zulu(START + timedelta(minutes=1))
    return body


def _brought_back(life: Life, first: Authenticator, new: Authenticator) -> object:
    signed = addition(life, first, new.signer())
    life.tell("device", **signed).tell("device", change="removed", key=new.signer(), how="session")
    return life.tell("device", **signed)


UNSIGNED: dict[str, tuple[str, Callable[[Life, Authenticator, Authenticator], object]]] = {
    "nobody signed": (
        "unreadable",
        lambda life, _, new: life.tell("device", change="added", key=new.signer(), how="signed"),
    ),
    "by itself": (
        "unreadable",
        lambda life, _, new: life.tell("device", **addition(life, new, new.signer())),
    ),
    "by a key that was taken away": (
        "unreadable",
        lambda life, first, new: life.tell(
            "device", change="removed", key=first.signer(), how="session"
        ).tell("device", **addition(life, first, new.signer())),
    ),
    "for another key": (
        "device",
        lambda life, first, new: life.tell(
            "device", **{**addition(life, first, Authenticator().signer()), "key": new.signer()}
        ),
    ),
    "altered since": (
        "unreadable",
        lambda life, first, new: life.tell("device", **_issued_later(addition(life, first, new.signer()))),
    ),
    "with the signature for one that was taken away": ("device", _brought_back),
    "in a session": (
        "device",
        lambda life, _, new: life.tell("device", change="added", key=new.signer(), how="session"),
    ),
}


@pytest.mark.parametrize("name", UNSIGNED)
def test_a_key_that_nobody_signed_for_is_not_let_in(name: str) -> None:
    rule, tell = UNSIGNED[name]
    first, new = Authenticator(), Authenticator()
    life = account(first)
    tell(life, first, new)
    with pytest.raises(Violation) as caught:
        life.replay()
    assert caught.value.reason.id == f"story.{rule}"
    assert caught.value.index == life.records[-1][0]


def test_a_grant_that_a_minor_and_their_guardian_signed_is_used_and_approved_by_the_guardian() -> None:
    guard = Guard()
    life = ward(guard)
    grant = life.cosigned(guard)
    life.decide("v", grant).approve("v", "owner").approve("v", "guardian").release("v", grant)
    assert life.replay().released == 1


def test_who_comes_of_age_hands_over_and_then_signs_alone() -> None:
    guard = Guard()
    life = ward(guard, "2008-03-10")
    life.cosigned(guard, expires=zulu(START + timedelta(days=5)))
    life.wait(days=20).hand_over()
    grant = life.grant()
    life.decide("v", grant).release("v", grant)
    assert life.replay().released == 1


def test_an_executor_grants_approves_and_lets_it_out() -> None:
    key = Ed25519PrivateKey.generate()
    life = Life().enrol().settle(key)
    terms = life.terms(approval="before_release")
    life.tell("grant", **life.signed(terms, key))
    life.decide("v", terms["grant_id"]).approve("v", "executor").release("v", terms["grant_id"])
    assert life.replay().released == 1


def test_an_estate_ends_without_anybody_vouching_for_that() -> None:
    key = Ed25519PrivateKey.generate()
    life = Life().enrol().settle(key).settle(key, standing=False, vouched=None)
    life.decide("v", life.grant())
    assert life.replay().standing.executor is None


def test_what_was_passed_on_is_used_by_whom_it_names_and_the_passed_on_use_counts_above() -> None:
    life = Life().enrol()
    parent, child = passed_on(life)
    life.decide("v", child, app_id=RIVAL).release("v", child)
    story = life.replay()
    assert {len(held.uses) for held in story.standing.grants.values()} == {1}
    life.decide("w", parent).replay()


def test_a_grant_to_a_person_or_to_friends_is_used_by_the_app_that_asks_for_them() -> None:
    friend = new_id("person")
    life = Life().enrol().tell("group", person_id=friend, member=True)
    named = {"v": {"type": "person", "id": friend}, "w": {"type": "group", "id": "mutuals"}}
    for video, grantee in named.items():
        life.decide(video, life.grant(grantee=grantee), requested_by=friend)
    assert life.replay().allowed == 2


def test_an_operator_gives_nobody_a_key_who_has_their_own() -> None:
    key, theirs = Authenticator(), Ed25519PrivateKey.generate()
    life = Life().tell("account", key=key.signer(), list_key="00" * 32)
    named = {"born_on": "1980-01-01", "device_key": encode_key(theirs.public_key())}
    with pytest.raises(Violation) as caught:
        life.enrol(enrolment=named).replay()
    assert caught.value.reason.id == "story.key"


def test_somebody_elses_copy_of_a_guardianship_is_no_part_of_this_story() -> None:
    guard = Guard()
    copy = {**guard.accepts(Life()), "role": "guardian", "person_id": new_id("person"), "vouched": None}
    story = Life().enrol().tell("guardian", **copy).replay()
    assert dict(story.standing.guardians) == {}


# --- the lies -----------------------------------------------------------------------------------------------

Lie = Callable[[Life], object]
LIES: dict[str, tuple[str, Lie]] = {}
"""By what is wrong: the rule, and how the story is told after an enrolment. The last record is the one that lies."""


def lie(rule: str) -> Callable[[Lie], Lie]:
    def keep(tell: Lie) -> Lie:
        LIES[tell.__name__.strip("_")] = (f"story.{rule}", tell)
        return tell

    return keep


@lie("enrolment")
def _second_enrolment(life: Life) -> object:
    return life.enrol()


@lie("erased")
def _use_after_erasure(life: Life) -> object:
    grant = life.grant()
    return life.erase().decide("v", grant)


@lie("erased")
def _second_erasure(life: Life) -> object:
    return life.erase().erase()


@lie("foreign")
def _record_about_another_likeness(life: Life) -> object:
    return life.tell("audit", auditor="x", asked="uses", cameo_id=new_id("cameo"))


@lie("time")
def _time_runs_backwards(life: Life) -> object:
    return life.wait(seconds=-1).tell("audit", auditor="x", asked="uses")


@lie("unreadable")
def _time_in_another_spelling(life: Life) -> object:
    return life.tell("audit", auditor="x", asked="uses", at="2026-3-1T12:0:0Z")


@lie("unreadable")
def _kind_that_nobody_defined(life: Life) -> object:
    return life.tell("permission", grant_id="g")


@lie("replayed")
def _grant_recorded_twice(life: Life) -> object:
    life.grant()
    life.records.append((LeafIndex(life.next), life.records[-1][1]))
    return life


@lie("replayed")
def _grant_brought_back_after_its_revocation(life: Life) -> object:
    signed = life.signed(life.terms())
    return life.tell("grant", **signed).revoke(signed["grant"]["grant_id"]).tell("grant", **signed)


@lie("replayed")
def _grant_superseded_under_its_own_id(life: Life) -> object:
    grant = life.grant()
    return life.grant(grant_id=grant, max_uses=1000)


@lie("foreign")
def _grant_for_another_likeness(life: Life) -> object:
    return life.grant(cameo_id=new_id("cameo"))


@lie("unreadable")
def _grant_signed_by_the_service(life: Life) -> object:
    return life.tell("grant", **life.signed(life.terms(), Ed25519PrivateKey.generate()))


@lie("unreadable")
def _grant_that_claims_the_owners_key(life: Life) -> object:
    signed = life.signed(life.terms(), Ed25519PrivateKey.generate())
    signed["evidence"]["public_key"] = encode_key(life.device.public_key())
    return life.tell("grant", **signed)


@lie("unreadable")
def _grant_altered_after_it_was_signed(life: Life) -> object:
    signed = life.signed(life.terms())
    return life.tell("grant", **{**signed, "grant": {**signed["grant"], "max_uses": 1000}})


@lie("unreadable")
def _grant_from_a_signature_over_another_kind_of_statement(life: Life) -> object:
    terms = life.terms()
    evidence = sign(ENROLMENT_TAG, parse_grant(terms).signed_bytes(), life.device)
    return life.tell("grant", grant=terms, evidence=evidence.model_dump(mode="json"))


@lie("ungranted")
def _use_never_granted(life: Life) -> object:
    return life.decide("v", new_id("grant"))


@lie("ungranted")
def _use_of_one_live_grant_and_one_invented(life: Life) -> object:
    return life.decide("v", life.grant(), new_id("grant"))


@lie("use")
def _use_without_naming_a_grant(life: Life) -> object:
    life.grant()
    return life.decide("v")


@lie("use")
def _use_allowed_twice(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant).decide("v", grant)


@lie("revoked")
def _use_after_revocation(life: Life) -> object:
    grant = life.grant()
    return life.revoke(grant).decide("v", grant)


@lie("expired")
def _use_at_the_moment_of_expiry(life: Life) -> object:
    grant = life.grant()
    return life.wait(days=30).decide("v", grant)


@lie("expired")
def _use_before_the_start(life: Life) -> object:
    return life.decide("v", life.grant(starts=zulu(START + timedelta(seconds=1))))


@lie("spent")
def _use_of_a_spent_grant(life: Life) -> object:
    grant = life.grant()
    return life.decide("v1", grant).decide("v2", grant).decide("v3", grant)


@lie("foreign")
def _use_by_an_app_that_was_not_named(life: Life) -> object:
    return life.decide("v", life.grant(), app_id=RIVAL)


@lie("foreign")
def _use_by_an_app_under_a_grant_to_friends(life: Life) -> object:
    return life.decide("v", life.grant(grantee={"type": "group", "id": "mutuals"}))


@lie("beyond")
def _use_for_a_purpose_that_was_not_granted(life: Life) -> object:
    return life.decide("v", life.grant(), purpose="dpv:Advertising")


@lie("beyond")
def _use_for_a_purpose_that_is_not_told(life: Life) -> object:
    life.decide("v", life.grant())
    return life.records[-1][1].pop("purpose")


@lie("beyond")
def _remix_under_a_grant_to_generate(life: Life) -> object:
    return life.decide("v", life.grant(), action="remix")


@lie("unreadable")
def _use_that_other_readers_take_for_allowed(life: Life) -> object:
    return life.decide("v", new_id("grant"), allowed=[])


@lie("unreadable")
def _use_whose_grants_are_no_list(life: Life) -> object:
    return life.decide("v", grant_ids={life.grant(): 1})


@lie("release")
def _release_without_a_decision(life: Life) -> object:
    return life.release("v", life.grant())


@lie("release")
def _release_after_a_refusal(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant, allowed=False).release("v", grant)


@lie("release")
def _two_releases(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant).release("v", grant).release("v", grant)


@lie("release")
def _release_of_what_was_not_made(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant).give_back("v", grant).release("v", grant)


@lie("revoked")
def _release_after_revocation(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant).revoke(grant).release("v", grant)


@lie("expired")
def _release_after_expiry(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant).wait(days=30).release("v", grant)


@lie("ungranted")
def _release_under_a_newer_grant_than_the_decision(life: Life) -> object:
    old = life.grant()
    life.decide("v", old).revoke(old)
    return life.release("v", life.grant())


@lie("unapproved")
def _release_without_the_approval_that_was_asked_for(life: Life) -> object:
    grant = life.grant(approval="before_release")
    return life.decide("v", grant).release("v", grant)


@lie("unapproved")
def _release_against_the_owners_word(life: Life) -> object:
    grant = life.grant(approval="before_release")
    return life.decide("v", grant).tell("approval", video_id="v", approved=False).release("v", grant)


@lie("returned")
def _use_given_back_after_the_clip_went_out(life: Life) -> object:
    """Otherwise one use makes any number of clips."""
    grant = life.grant(max_uses=1)
    return life.decide("v", grant).release("v", grant).give_back("v", grant)


@lie("returned")
def _use_given_back_twice(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant).give_back("v", grant).give_back("v", grant)


@lie("returned")
def _use_given_back_to_another_grant(life: Life) -> object:
    return life.decide("v", life.grant()).give_back("v", life.grant())


@lie("returned")
def _use_given_back_that_was_never_allowed(life: Life) -> object:
    return life.give_back("v", life.grant())


@lie("enrolment")
def _account_opened_after_the_likeness(life: Life) -> object:
    return life.tell("account", key=signer(Ed25519PrivateKey.generate()), list_key="00" * 32)


@lie("unreadable")
def _grant_of_a_minor_without_a_guardian(life: Life) -> object:
    life.age("2012-01-01")
    return life.grant()


@lie("unreadable")
def _grant_of_a_minor_with_a_stranger(life: Life) -> object:
    life.age("2012-01-01").guard(Guard())
    return life.cosigned(Guard())


@lie("unreadable")
def _grant_of_a_minor_beyond_what_one_may_give(life: Life) -> object:
    guard = Guard()
    life.age("2012-01-01").guard(guard)
    return life.cosigned(guard, modalities=["face", "voice"])


@lie("unreadable")
def _grant_of_a_minor_whose_guardian_is_one_no_longer(life: Life) -> object:
    guard = Guard()
    life.age("2012-01-01").guard(guard).guard(guard, standing=False)
    return life.cosigned(guard)


@lie("expired")
def _use_of_a_minor_whose_guardian_is_one_no_longer(life: Life) -> object:
    guard = Guard()
    life.age("2012-01-01").guard(guard)
    grant = life.cosigned(guard)
    return life.guard(guard, standing=False).decide("v", grant)


@lie("expired")
def _use_of_an_adults_grant_once_they_turn_out_to_be_a_minor(life: Life) -> object:
    grant = life.grant()
    return life.age("2012-01-01").decide("v", grant)


@lie("inactive")
def _use_after_majority_without_a_handover(life: Life) -> object:
    guard = Guard()
    life.age("2008-03-10").guard(guard)
    life.wait(days=20)
    return life.decide("v", life.grant())


@lie("handover")
def _handover_by_a_minor(life: Life) -> object:
    return life.age("2012-01-01").guard(Guard()).hand_over()


@lie("unreadable")
def _handover_that_somebody_else_signed(life: Life) -> object:
    return life.hand_over(Ed25519PrivateKey.generate())


@lie("guardian")
def _guardian_for_whom_nobody_vouched(life: Life) -> object:
    return life.guard(Guard(), vouched=None)


@lie("guardian")
def _guardian_who_signs_with_the_wards_own_key(life: Life) -> object:
    return life.guard(Guard(key=life.device))


@lie("unreadable")
def _guardian_who_never_accepted(life: Life) -> object:
    accepted = Guard().accepts(life)
    accepted["guardianship"]["max_uses"] = 1000
    return life.tell("guardian", **accepted)


@lie("estate")
def _executor_for_whom_nobody_vouched(life: Life) -> object:
    return life.settle(Ed25519PrivateKey.generate(), vouched=None)


@lie("unreadable")
def _grant_signed_by_who_has_died(life: Life) -> object:
    life.settle(Ed25519PrivateKey.generate())
    return life.grant()


@lie("unreadable")
def _grant_by_an_executor_whose_time_is_over(life: Life) -> object:
    key = Ed25519PrivateKey.generate()
    life.settle(key).settle(key, standing=False)
    return life.tell("grant", **life.signed(life.terms(), key))


@lie("approval")
def _approval_by_a_guardian_nobody_has(life: Life) -> object:
    grant = life.grant(approval="before_release")
    return life.decide("v", grant).approve("v", "guardian")


@lie("approval")
def _approval_by_an_executor_nobody_has(life: Life) -> object:
    grant = life.grant(approval="before_release")
    return life.decide("v", grant).approve("v", "executor")


@lie("unapproved")
def _release_of_a_minor_whom_only_they_approved(life: Life) -> object:
    guard = Guard()
    life.age("2012-01-01").guard(guard)
    grant = life.cosigned(guard)
    return life.decide("v", grant).approve("v", "owner").release("v", grant)


@lie("unapproved")
def _release_against_one_guardian_with_the_word_of_another(life: Life) -> object:
    guard = Guard()
    life.age("2012-01-01").guard(guard).guard(Guard())
    grant = life.cosigned(guard)
    life.decide("v", grant).approve("v", "guardian", approved=False).approve("v", "guardian")
    return life.release("v", grant)


@lie("unreadable")
def _grant_passed_on_wider(life: Life) -> object:
    return passed_on(life, max_uses=3)


@lie("unreadable")
def _grant_passed_on_by_who_may_not(life: Life) -> object:
    parent = life.grant()
    return life.grant(parent=parent)


@lie("unreadable")
def _grant_passed_on_after_it_was_taken_back(life: Life) -> object:
    key, who = Ed25519PrivateKey.generate(), new_id("person")
    parent = life.grant(delegate_key=encode_key(key.public_key()), grantor=who)
    life.revoke(parent)
    return life.tell("grant", **life.signed(life.terms(parent=parent, grantor=who), key))


@lie("revoked")
def _use_of_what_was_passed_on_after_its_source_was_taken_back(life: Life) -> object:
    parent, child = passed_on(life)
    return life.revoke(parent).decide("v", child, app_id=RIVAL)


@lie("spent")
def _use_of_what_was_passed_on_once_its_source_is_spent(life: Life) -> object:
    parent, child = passed_on(life)
    return life.decide("v", parent).decide("w", parent).decide("x", child, app_id=RIVAL)


@lie("expired")
def _use_of_what_a_blocked_app_passed_on(life: Life) -> object:
    _, child = passed_on(life)
    return life.tell("block", target=APP, blocked=True).decide("v", child, app_id=RIVAL)


@lie("blocked")
def _use_by_a_blocked_app(life: Life) -> object:
    grant = life.grant()
    return life.tell("block", target=APP, blocked=True).decide("v", grant)


@lie("blocked")
def _use_for_a_blocked_person(life: Life) -> object:
    who = new_id("person")
    grant = life.grant()
    return life.tell("block", target=who, blocked=True).decide("v", grant, requested_by=who)


@lie("blocked")
def _release_to_an_app_that_was_blocked_since(life: Life) -> object:
    grant = life.grant()
    return life.decide("v", grant).tell("block", target=APP, blocked=True).release("v", grant)


@lie("foreign")
def _use_for_who_is_a_friend_no_longer(life: Life) -> object:
    who = new_id("person")
    grant = life.grant(grantee={"type": "group", "id": "mutuals"})
    life.tell("group", person_id=who, member=True).tell("group", person_id=who, member=False)
    return life.decide("v", grant, requested_by=who)


@lie("beyond")
def _use_where_it_was_not_granted(life: Life) -> object:
    return life.decide("v", life.grant(jurisdictions=["DE"]), countries=["DE", "FR"])


@lie("beyond")
def _use_anywhere_under_a_grant_for_one_country(life: Life) -> object:
    return life.decide("v", life.grant(jurisdictions=["DE"]))


@lie("beyond")
def _use_of_a_voice_that_was_not_granted(life: Life) -> object:
    return life.decide("v", life.grant(), modalities=["face", "voice"])


@lie("beyond")
def _use_in_a_context_that_was_not_granted(life: Life) -> object:
    return life.decide("v", life.grant(), contexts=["political"])


@lie("beyond")
def _use_before_everyone_under_a_grant_for_few(life: Life) -> object:
    return life.decide("v", life.grant(), audience="everyone")


def told(name: str) -> tuple[Life, str]:
    """The story with that lie, and the rule it breaks."""
    rule, tell = LIES[name]
    life = Life().enrol()
    tell(life)
    return life, rule


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named_at_the_record_that_tells_it(name: str) -> None:
    life, rule = told(name)
    with pytest.raises(Violation) as caught:
        life.replay(START + timedelta(days=365))
    assert (caught.value.reason.id, caught.value.index) == (rule, life.records[-1][0])
    life.records.pop()
    life.replay(START + timedelta(days=365))


# --- order, and what is no story at all ---------------------------------------------------------------------


def test_nothing_is_no_story() -> None:
    with pytest.raises(Violation, match="begins with its only enrolment"):
        replay([], 2**40)


@pytest.mark.parametrize("first", ["grant", "decision", "revocation", "audit"])
def test_a_story_begins_with_the_enrolment(first: str) -> None:
    life = honest()
    life.records = [record for record in life.records if record[1]["kind"] == first]
    with pytest.raises(Violation) as caught:
        life.replay()
    assert caught.value.reason.id == "story.enrolment"


def test_revoke_and_decide_in_the_same_second_are_told_apart_by_their_places() -> None:
    """In one batch of the sequencer both bear the same time, and the epoch is the same."""
    before, after = Life().enrol(), Life().enrol()
    grant = before.grant()
    before.decide("v", grant).revoke(grant).replay()
    grant = after.grant()
    after.revoke(grant).decide("v", grant)
    with pytest.raises(Violation) as caught:
        after.replay()
    assert caught.value.reason.id == "story.revoked"
    # A clock cannot make up for it: dated before the revocation, it is out of order.
    after.records[-1][1]["at"] = zulu(after.at - timedelta(seconds=1))
    with pytest.raises(Violation) as caught:
        after.replay()
    assert caught.value.reason.id == "story.time"


@pytest.mark.parametrize("step", [0, -1, -3])
def test_places_that_do_not_ascend_are_refused(step: int) -> None:
    life = honest()
    life.records[4] = (LeafIndex(life.records[3][0] + step), life.records[4][1])
    with pytest.raises(Violation) as caught:
        life.replay()
    assert caught.value.reason.id == "story.order"


def test_a_record_dated_after_the_end_of_the_log_is_refused() -> None:
    life = honest()
    life.replay(life.at)
    with pytest.raises(Violation) as caught:
        life.replay(life.at - timedelta(seconds=1))
    assert (caught.value.reason.id, caught.value.index) == ("story.time", life.records[-2][0])


def test_an_approval_that_was_given_lets_the_clip_out() -> None:
    life = Life().enrol()
    grant = life.grant(approval="before_release")
    life.decide("v", grant).tell("approval", video_id="v", approved=True).release("v", grant)
    assert life.replay().released == 1


# --- laws ---------------------------------------------------------------------------------------------------


@LAW
@given(data=st.data())
def test_wherever_a_revocation_is_put_what_follows_it_is_refused(data: st.DataObject) -> None:
    life = Life().enrol()
    grant = life.grant(max_uses=9)
    for n in range(data.draw(st.integers(1, 4))):
        life.decide(f"v{n}", grant)
        if data.draw(st.booleans()):
            life.release(f"v{n}", grant)
    life.revoke(grant)
    life.replay()
    revocation = life.records.pop()[1]
    where = data.draw(st.integers(2, len(life.records) - 1))
    bodies = [body for _, body in life.records]
    bodies.insert(where, revocation)
    with pytest.raises(Violation) as caught:
        replay([(LeafIndex(n), body) for n, body in enumerate(bodies)], int(life.at.timestamp()))
    assert (caught.value.reason.id, caught.value.index) == ("story.revoked", where + 1)


@LAW
@given(data=st.data())
def test_grants_give_no_more_clips_than_they_say(data: st.DataObject) -> None:
    """However uses are taken, released and given back: what is believed never exceeds what was signed."""
    life, videos = Life().enrol(), [f"v{n}" for n in range(4)]
    grants = {
        life.grant(max_uses=most): most
        for most in data.draw(st.lists(st.integers(1, 2), min_size=1, max_size=2))
    }
    for _ in range(data.draw(st.integers(0, 9))):
        act = data.draw(st.sampled_from([life.decide, life.release, life.give_back]))
        act(data.draw(st.sampled_from(videos)), data.draw(st.sampled_from(sorted(grants))))
    try:
        life.replay()
    except Violation:
        return
    released = [body["grant_ids"][0] for _, body in life.records if body["kind"] == "release"]
    assert all(released.count(grant) <= most for grant, most in grants.items())


Path = tuple[str | int, ...]


def places(value: Any, here: Path = ()) -> Iterator[Path]:
    """Every value inside, containers too."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in inside:
        yield (*here, step)
        yield from places(inner, (*here, step))


def at(item: Any, path: Path) -> Any:
    for step in path:
        item = item[step]
    return item


def put(item: Any, path: Path, value: object) -> Any:
    altered = copy.deepcopy(item)
    at(altered, path[:-1])[path[-1]] = value
    return altered


STRANGE = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["2026-03-01T12:00:00Z", "9999-12-31T23:59:59Z", "\ud800", "0000-01-01", APP])
    | st.lists(st.none() | st.text(max_size=2) | st.lists(st.just(1)), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.none(), max_size=2)
)


@LAW
@given(data=st.data(), value=STRANGE)
def test_whatever_a_record_holds_it_is_told_or_refused_and_nothing_breaks(
    data: st.DataObject, value: object
) -> None:
    life = honest()
    bodies = [body for _, body in life.records]
    bodies = put(bodies, data.draw(st.sampled_from(list(places(bodies)))), value)
    with suppress(Violation):
        replay([(LeafIndex(n), body) for n, body in enumerate(bodies)], 2**40)


@LAW
@given(data=st.data(), value=STRANGE)
def test_no_part_of_a_grant_can_be_changed_by_anyone_but_its_owner(
    data: st.DataObject, value: object
) -> None:
    life = Life().enrol()
    life.grant(allowed_contexts=["romantic"])
    body = life.records[-1][1]
    path = data.draw(st.sampled_from([p for p in places(body) if p[0] in ("grant", "evidence")]))
    altered = put(body, path, value)
    if repr(altered) == repr(body):
        return
    life.records[-1] = (life.records[-1][0], altered)
    with pytest.raises(Violation):
        life.replay()
