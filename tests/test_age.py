"""How old somebody is: what an issuer's word must be to count, and the journey there and back over HTTP."""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from gateway.access import JSON_BYTES
from gateway.oidc import Claims, Issuer
from gateway.owners import age
from gateway.problems import Problem
from gateway.service import Service
from ledger.consent.statement import encode_key
from ledger.ids import CameoId, PersonId, new_id
from ledger.store.captures import Capture
from ledger.store.journal import About
from ledger.store.records import Credential, Person
from ledger.store.transaction import Transaction
from live import Launcher, Owner, Site, collins_picture
from world import Someone, World

pytest_plugins = ["live"]

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ISSUER = Issuer("https://issuer.example", "us", "", "https://countersign.example/age/return")
KEY = ECKey.generate_key("P-256", {"kid": "a"})
OTHER = ECKey.generate_key("P-256", {"kid": "a"})
KEYS = {"keys": [KEY.as_dict(private=False)]}
GOOD: dict[str, Any] = {
    "iss": ISSUER.url,
    "aud": "us",
    "sub": "someone",
    "nonce": "the nonce",
    "iat": int(AT.timestamp()) - 5,
    "exp": int(AT.timestamp()) + 300,
    "age_over_18": True,
}


def token(key: ECKey = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return jwt.encode(header or {"alg": "ES256", "kid": "a"}, claims, key)


def read(text: str, keys: dict[str, Any] | None = None) -> Claims:
    return ISSUER.read(text, keys or KEYS, nonce="the nonce", at=AT)


def unsigned(alg: str) -> str:
    def part(value: dict[str, Any]) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': alg})}.{part(GOOD)}."


def confused() -> str:
    """Signed with the issuer's public key as if that were a shared secret."""
    public = json.dumps(KEY.as_dict(private=False)).encode()
    return jwt.encode({"alg": "HS256", "kid": "a"}, GOOD, OctKey.import_key(public), algorithms=["HS256"])


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({}, Claims(None, True, "someone")),
        ({"age_over_18": False}, Claims(None, False, "someone")),
        (
            {"age_over_18": None, "birthdate": "2010-02-03"},
            Claims(datetime(2010, 2, 3, tzinfo=UTC).date(), None, "someone"),
        ),
        ({"aud": ["us", "them"], "azp": "us"}, Claims(None, True, "someone")),
        ({"exp": GOOD["iat"] + 5}, Claims(None, True, "someone")),  # within the leeway
    ],
)
def test_a_token_that_holds_says_what_it_says(claims: dict[str, Any], said: Claims) -> None:
    assert read(token(**claims)) == said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(lambda: token(OTHER), "age.token_signature", id="another key"),
        pytest.param(lambda: unsigned("none"), "age.token_signature", id="alg none"),
        pytest.param(lambda: unsigned("ES256"), "age.token_signature", id="no signature"),
        pytest.param(confused, "age.token_signature", id="public key as a secret"),
        pytest.param(lambda: token()[:-2] + "AA", "age.token_signature", id="altered"),
        pytest.param(lambda: "not a token", "age.token_signature", id="garbage"),
        pytest.param(lambda: token(iss="https://issuer.example/"), "age.token_issuer", id="other issuer"),
        pytest.param(lambda: token(iss=None), "age.token_issuer", id="no issuer"),
        pytest.param(lambda: token(aud="them"), "age.token_audience", id="other audience"),
        pytest.param(lambda: token(aud=["us", "them"]), "age.token_audience", id="two, without azp"),
        pytest.param(lambda: token(aud=["us", "them"], azp="them"), "age.token_audience", id="azp another"),
        pytest.param(lambda: token(exp=GOOD["iat"] - 3600), "age.token_expired", id="expired"),
        pytest.param(lambda: token(exp=None), "age.token_expired", id="never expires"),
        pytest.param(lambda: token(iat=None), "age.token_expired", id="no time"),
        pytest.param(lambda: token(iat=GOOD["iat"] - 7200), "age.token_expired", id="issued long ago"),
        pytest.param(lambda: token(iat=GOOD["iat"] + 3600), "age.token_expired", id="from the future"),
        pytest.param(lambda: token(nonce=None), "age.token_nonce", id="no nonce"),
        pytest.param(lambda: token(nonce="another"), "age.token_nonce", id="other nonce"),
        pytest.param(lambda: token(sub=None), "age.token_subject", id="about nobody"),
        pytest.param(lambda: token(sub=""), "age.token_subject", id="about nobody in particular"),
        pytest.param(lambda: token(sub="Zoë"), "age.token_subject", id="not as the specification spells it"),
        pytest.param(lambda: token(sub="x" * 256), "age.token_subject", id="about whoever fits"),
        pytest.param(lambda: token(age_over_18=None), "age.no_claim", id="says nothing"),
        pytest.param(lambda: token(age_over_18="yes"), "age.no_claim", id="says it in words"),
        pytest.param(
            lambda: token(age_over_18=None, birthdate="0000-05-01"), "age.no_claim", id="a day of no year"
        ),
        pytest.param(lambda: token(age_over_18=None, birthdate="2031-01-01"), "age.no_claim", id="unborn"),
    ],
)
def test_a_token_with_one_thing_wrong_is_refused_by_name(text: Any, reason: str) -> None:
    with pytest.raises(Problem) as refused:
        read(text())
    assert refused.value.reasons[0].id == reason
    assert refused.value.status == 403


def test_a_token_may_be_signed_with_rsa() -> None:
    key = RSAKey.generate_key(2048, {"kid": "r"})
    text = jwt.encode({"alg": "RS256", "kid": "r"}, GOOD, key)
    assert read(text, {"keys": [key.as_dict(private=False)]}) == Claims(None, True, "someone")


# ── there and back ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home: Path = tmp_path_factory.mktemp("age")
    opened = Site(launcher, home, env={"AGE_ISSUER": "demo"})
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture
def owner(site: Site) -> Iterator[Owner]:
    someone = site.enrol(collins_picture(), born_on=None)
    yield someone
    someone.web.close()


def at_the_issuer(location: str, born: str, say: str = "date", who: str = "") -> dict[str, str]:
    """What a person does there. Returns what they come back with."""
    with httpx.Client(verify=False) as web:
        page = web.get(location)
        assert "believes whatever you choose" in page.text
        hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
        back = web.post(
            f"{location.partition('/authorize')[0]}/authorize",
            data={**hidden, "birthdate": born, "say": say, "who": who},
        )
    assert back.status_code == 303
    return {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}


def checked(owner: Owner, born: str, say: str = "date", who: str = "") -> httpx.Response:
    location = owner.web.post("/v1/age/start").json()["location"]
    return owner.web.post("/v1/age", json=at_the_issuer(location, born, say, who))


def ages(owner: Owner) -> list[dict[str, Any]]:
    entries = owner.web.get(f"/v1/cameos/{owner.cameo_id}/uses").json()["entries"]
    return [entry["body"] for entry in entries if entry["kind"] == "age"]


@pytest.mark.slow
def test_somebody_of_unknown_age_is_a_minor_until_the_issuer_says_otherwise(owner: Owner) -> None:
    draft = owner.web.post("/v1/grants", json=owner.signed(owner.preview()))
    assert draft.json()["reasons"][0]["id"] == "grant.minor"
    assert checked(owner, "1990-01-01").json() == {"minor": False}
    (said,) = ages(owner)
    assert (said["born_on"], said["over_18"]) == (None, True), (
        "more is kept of an adult than that they are one"
    )
    assert owner.grant()


@pytest.mark.slow
def test_of_a_minor_the_birth_date_is_kept_and_one_word_for_a_minor_is_enough(owner: Owner) -> None:
    born = (datetime.now(UTC) - timedelta(days=16 * 365)).date().isoformat()
    assert checked(owner, born).json() == {"minor": True}
    assert ages(owner)[0]["born_on"] == born
    assert checked(owner, "1970-01-01").json() == {"minor": True}


@pytest.mark.slow
def test_that_somebody_was_not_18_yet_does_not_hold_for_ever(owner: Owner) -> None:
    born = (datetime.now(UTC) - timedelta(days=17 * 365)).date().isoformat()
    assert checked(owner, born, "over").json() == {"minor": True}
    assert checked(owner, "1970-01-01", "over").json() == {"minor": False}


@pytest.mark.slow
def test_an_answer_counts_once_and_only_for_who_asked(site: Site, owner: Owner) -> None:
    other = site.enrol(collins_picture(), born_on=None)
    location = owner.web.post("/v1/age/start").json()["location"]
    answer = at_the_issuer(location, "1990-01-01")
    stolen = other.web.post("/v1/age", json=answer)
    assert stolen.json()["reasons"][0]["id"] == "age.state", "somebody else's age was taken for one's own"
    assert owner.web.post("/v1/age", json=answer).json() == {"minor": False}
    assert owner.web.post("/v1/age", json=answer).json()["reasons"][0]["id"] == "age.state"
    assert ages(other) == []
    other.web.close()


@pytest.mark.slow
def test_a_siblings_identity_is_not_used_for_a_second_account(site: Site, owner: Owner) -> None:
    other = site.enrol(collins_picture(), born_on=None)
    assert checked(owner, "1990-01-01", who="Kim").json() == {"minor": False}
    refused = checked(other, "1990-01-01", who="Kim")
    assert (refused.status_code, refused.json()["reasons"][0]["id"]) == (403, "age.other_account")
    assert ages(other) == []
    # The same person asks again, and somebody else has their own.
    assert checked(owner, "1990-01-01", who="Kim").json() == {"minor": False}
    assert checked(other, "1990-01-01", who="Robin").json() == {"minor": False}
    (first, again), (others,) = ages(owner), ages(other)
    assert first["subject_sha256"] == again["subject_sha256"] != others["subject_sha256"]
    assert "Kim" not in str(first)
    # Whoever erased their account is nobody here any more, and may open another.
    erased = owner.web.post(f"/v1/cameos/{owner.cameo_id}/erase", json={"confirm": owner.cameo_id})
    assert erased.status_code == 200, erased.text
    third = site.enrol(collins_picture(), born_on=None)
    assert checked(third, "1990-01-01", who="Kim").json() == {"minor": False}
    for one in (other, third):
        one.web.close()


@pytest.mark.slow
def test_a_code_nobody_gave_out_is_refused(owner: Owner) -> None:
    state = parse_qs(urlsplit(owner.web.post("/v1/age/start").json()["location"]).query)["state"][0]
    refused = owner.web.post("/v1/age", json={"state": state, "code": "made up"})
    assert (refused.status_code, refused.json()["reasons"][0]["id"]) == (403, "age.token_refused")
    assert ages(owner) == []


@pytest.mark.slow
def test_nobody_under_13_keeps_an_account(owner: Owner) -> None:
    born = (datetime.now(UTC) - timedelta(days=11 * 365)).date().isoformat()
    refused = checked(owner, born)
    assert (refused.status_code, refused.json()["reasons"][0]["id"]) == (403, "account.too_young")
    assert owner.web.get("/v1/grants").status_code == 401


def too_young(world: World, someone: Someone) -> list[str]:
    """What follows from the word that somebody is under 13. Returns the files that go."""
    gone: list[str] = []
    service = SimpleNamespace(ledger=world.ledger, objects=SimpleNamespace(delete=gone.append))
    world.age(someone, date(2020, 1, 1))
    assert age._too_young(cast("Service", service), someone.person_id, world.at)
    return gone


def without_likeness(world: World) -> Someone:
    """Somebody with an account, and a film that waits to be looked at."""
    someone = Someone(PersonId(new_id("person")), CameoId(""), Ed25519PrivateKey.generate())
    key, now = encode_key(someone.device.public_key()), int(world.at.timestamp())

    def operation(tx: Transaction) -> None:
        tx.add_person(
            Person(someone.person_id, "Someone", created_at=now),
            Credential(key, someone.person_id, "device", key, created_at=now),
        )
        body = {"key": someone.signer, "list_key": tx.held(someone.person_id).list_key_digest}
        tx.append("account", someone.person_id, [About(someone.person_id, "owner", body)], at=world.at)
        tx.add_capture(
            Capture(new_id("capture"), someone.person_id, "pending_review", b"", now, now, "clips/aa/film")
        )

    world.ledger.transact(operation)
    return someone


def kept(world: World, someone: Someone) -> bool:
    with world.ledger.reading() as tx:
        return tx.person(someone.person_id) is not None


def test_an_account_of_a_child_goes_with_its_film(world: World) -> None:
    child = without_likeness(world)
    assert too_young(world, child) == ["clips/aa/film"]
    assert not kept(world, child)


def test_one_word_for_a_child_destroys_no_account_that_another_calls_an_adults(world: World) -> None:
    ada = without_likeness(world)
    world.age(ada, over_18=True)
    assert too_young(world, ada) == []
    assert kept(world, ada)
    with world.ledger.reading() as tx:
        assert tx.standing(ada.person_id).minor(world.at)


def test_one_word_for_a_child_destroys_nobody_that_a_minor_relies_on(world: World) -> None:
    parent, ward = without_likeness(world), world.enrol(date(2012, 5, 1))
    world.guardian(ward, parent)
    world.tell(parent, "guardian", "guardian", **guarding(world, ward, parent))
    assert too_young(world, parent) == []
    assert kept(world, parent)


def guarding(world: World, ward: Someone, parent: Someone) -> dict[str, Any]:
    """The guardian's own copy of what stands on the ward's list."""
    (entry,) = world.entries(ward.person_id, "guardian")
    return {
        **{name: entry.body[name] for name in ("guardianship", "evidence", "vouched", "standing")},
        "role": "guardian",
        "person_id": ward.person_id,
    }


@pytest.mark.slow
def test_a_stranger_sends_no_large_answer_of_an_issuer(site: Site) -> None:
    with site.client() as web:
        answer = web.post("/age/finish", data={"state": "s", "code": "c" * JSON_BYTES})
    assert answer.status_code == 413


@pytest.mark.slow
def test_the_way_back_works_in_a_page_and_changes_nothing_by_being_opened(owner: Owner) -> None:
    location = owner.web.post("/v1/age/start").json()["location"]
    answer = at_the_issuer(location, "1990-01-01")
    page = owner.web.get("/age/return", params=answer)
    assert page.status_code == 200
    assert ages(owner) == []
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
    done = owner.web.post("/age/finish", data=fields)
    assert (done.status_code, done.headers["location"]) == (303, "/me/security?done=age")
    assert ages(owner)[0]["over_18"] is True
    hostile = owner.web.get("/age/return", params={"state": '"><script>x</script>', "code": "c"})
    assert "<script>" not in hostile.text
    # It comes without a session, and speaks the language of whoever left.
    with owner.site.client() as nobody:
        spoken = nobody.get("/age/return", params=answer, headers={"accept-language": "de-AT,de;q=0.9"})
        assert '<html lang="de">' in spoken.text
        assert "Weiter" in spoken.text
        nobody.cookies.set("countersign_language", "en")
        again = nobody.get(
            "/age/return", params={"error": "access_denied"}, headers={"accept-language": "de"}
        )
        assert "was not finished" in again.text


@pytest.mark.slow
def test_without_an_issuer_nobody_can_show_their_age(live: Site) -> None:
    owner = live.enrol(collins_picture(), born_on=None)
    answer = owner.web.post("/v1/age/start")
    assert (answer.status_code, answer.json()["reasons"][0]["id"]) == (404, "age.not_offered")
    owner.web.close()
