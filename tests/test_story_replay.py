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

from ledger.consent.grant import SCHEMA, parse_grant
from ledger.consent.statement import ENROLMENT_TAG, GRANT_TAG, encode_key, sign
from ledger.consent.story import Story, replay
from ledger.errors import Violation
from ledger.ids import LeafIndex, new_id
from world import START, zulu

LAW = settings(deadline=None, max_examples=120)
APP, RIVAL = new_id("app"), new_id("app")


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

    def erase(self) -> "Life":
        return self.tell("erasure", cameo_id=self.cameo)

    def replay(self, until: datetime | None = None) -> Story:
        return replay(self.records, int((until or self.at).timestamp()))


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
