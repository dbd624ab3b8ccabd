"""Enrolment on film, over HTTP: what is asked for, sent, looked at, vouched for or turned down, and what is kept."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authenticator import Passkey, made_for
from command import countersign
from films import Film, Head, encode, make
from ledger.canonical import canonical
from ledger.consent.statement import ENROLMENT_TAG, sign
from live import OPERATOR, Launcher, Site, collins_picture, hopper_picture, pixels, unknown, video_of, zulu

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow


@dataclass
class Account:
    """Somebody who opened an account and is signed in."""

    site: Site
    person_id: str
    passkey: Passkey
    web: httpx.Client

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.web.get("/v1/enrolment").json()
        return found

    def begin(self) -> dict[str, Any]:
        text = self.status()["consent"]["sha256"]
        answer = self.web.post("/v1/enrolment/challenge", json={"agreed": True, "consent_sha256": text})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def send(self, capture_id: str, film: bytes) -> httpx.Response:
        return self.web.post(f"/v1/enrolment/{capture_id}", files={"film": ("film.webm", film, "video/webm")})

    def vouched(self, capture_id: str, film: bytes, **changes: Any) -> httpx.Response:
        """The operator's word on the film."""
        statement = {
            "schema": "countersign/enrolment/v1",
            "path": "vouched",
            "operator": OPERATOR,
            "display_name": "Eileen Collins",
            "person_id": self.person_id,
            "born_on": "1956-11-19",
            "portrait_sha256": sha256(film).hexdigest(),
            "issued": zulu(datetime.now(UTC)),
            "alike": True,
            **changes,
        }
        evidence = sign(ENROLMENT_TAG, canonical(statement), self.site.operator)
        with self.site.client(OPERATOR) as web:
            return web.post(
                "/v1/cameos/vouched",
                data={
                    "statement": canonical(statement).decode(),
                    "evidence": evidence.model_dump_json(),
                    "capture_id": capture_id,
                },
            )


def opened(site: Site, name: str = "Eileen Collins", language: str = "en") -> Account:
    web = site.client()
    asked = {"display_name": name, "language": language, "born_on": "1956-11-19"}
    told = web.post("/v1/accounts/options", json=asked).json()
    passkey = made_for(told["options"])
    made = passkey.registration(told["options"]["challenge"], site.url)
    answer = web.post("/v1/accounts", json={"nonce": told["nonce"], "response": made})
    assert answer.status_code == 201, answer.text
    return Account(site, answer.json()["person_id"], passkey, web)


@pytest.fixture
def account(live: Site) -> Iterator[Account]:
    someone = opened(live)
    yield someone
    someone.web.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film as a browser's recorder makes it."""
    path = tmp_path_factory.mktemp("film") / "film.webm"
    return video_of(pixels(collins_picture()), path, codec="libvpx")


def reason(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["reasons"][0]["id"]


def kept(site: Site) -> list[Path]:
    return [path for path in (site.home / "objects").rglob("*") if path.is_file()]


def test_a_film_waits_for_an_operator_and_activates_nothing_by_itself(account: Account, film: bytes) -> None:
    assert account.status()["status"] == "none"
    asked = account.begin()
    assert len(asked["digits"]) == 6
    assert set(asked["turns"]) == {"left", "right"}
    assert account.status()["capture"]["digits"] == asked["digits"]
    answer = account.send(asked["capture_id"], film)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending_review")
    assert account.status() | {"consent": None} == {
        "status": "pending_review",
        "consent": None,
        "capture": None,
        "reason": None,
        "reasons": [],
        "usable_from": None,
    }
    assert account.web.get("/v1/me").json()["likeness"] == "pending_review"
    assert account.web.get("/v1/me").json()["cameo_id"] is None


def test_an_operator_sees_what_was_asked_looks_and_vouches(account: Account, film: bytes) -> None:
    asked = account.begin()
    account.send(asked["capture_id"], film)
    with account.site.client(OPERATOR) as operator:
        waiting = {one["capture_id"]: one for one in operator.get("/v1/enrolments").json()["enrolments"]}
        mine = waiting[asked["capture_id"]]
        assert (mine["digits"], mine["turns"]) == (asked["digits"], asked["turns"])
        assert mine["sha256"] == sha256(film).hexdigest()
        assert operator.get(mine["film"]).content == film
    before = set(kept(account.site))
    answer = account.vouched(asked["capture_id"], film)
    assert answer.status_code == 201, answer.text
    assert account.status()["status"] == "active"
    assert account.web.get("/v1/me").json()["cameo_id"] == answer.json()["cameo_id"]
    assert len(set(kept(account.site))) < len(before), "the film is kept after it has served"
    seen = [
        event
        for event in account.web.get(f"/v1/cameos/{answer.json()['cameo_id']}/uses").json()["entries"]
        if event["kind"] == "audit"
    ]
    assert [one["body"]["auditor"] for one in seen] == [OPERATOR], (
        "somebody looked and the person can not see it"
    )
    assert reason(account.vouched(asked["capture_id"], film))[0] == 404


def test_an_operator_accepts_a_film_with_their_own_key_beside_the_service(
    account: Account, film: bytes, tmp_path: Path
) -> None:
    home, key, stranger = account.site.home, tmp_path / "dana.key", tmp_path / "other.key"
    capture_id = account.begin()["capture_id"]
    account.send(capture_id, film)
    listed = countersign(home, "enrolments", "list")
    assert (listed.status, f"{capture_id}  Eileen Collins" in listed.text) == (0, True), listed.text

    assert countersign(home, "keys", "new", stranger).status == 0
    refused = countersign(home, "enrolments", "accept", capture_id, "--key", stranger)
    assert (refused.status, "registered for no operator" in refused.text) == (2, True), refused.text
    assert account.status()["status"] == "pending_review"

    made = countersign(home, "keys", "new", key)
    public = made.text.split()[-1]
    assert countersign(home, "keys", "create", "operator", "fred", "--public-key", public).status == 0
    said = countersign(
        home, "enrolments", "accept", capture_id, "--key", key, "--alike", "--born-on", "1956-11-19"
    )
    assert said.status == 0, said.text
    assert account.status()["status"] == "active"
    cameo_id = account.web.get("/v1/me").json()["cameo_id"]
    assert cameo_id in said.text
    entries = account.web.get(f"/v1/cameos/{cameo_id}/uses").json()["entries"]
    (word,) = [one["body"]["enrolment"] for one in entries if one["kind"] == "enrolment"]
    assert (word["operator"], word["portrait_sha256"]) == ("fred", sha256(film).hexdigest())
    again = countersign(home, "enrolments", "accept", capture_id, "--key", key)
    assert (again.status, "no film" in again.text) == (2, True), again.text


def test_an_operator_turns_a_film_down_beside_the_service(
    account: Account, film: bytes, tmp_path: Path
) -> None:
    home, key = account.site.home, tmp_path / "erin.key"
    capture_id = account.begin()["capture_id"]
    account.send(capture_id, film)
    public = countersign(home, "keys", "new", key).text.split()[-1]
    assert countersign(home, "keys", "create", "operator", "erin", "--public-key", public).status == 0
    said = countersign(home, "enrolments", "refuse", capture_id, "--key", key, "--reason", "too dark to see")
    assert said.status == 0, said.text
    assert account.status()["status"] == "refused"
    assert account.status()["reason"] == "too dark to see"
    again = countersign(home, "enrolments", "refuse", capture_id, "--key", key, "--reason", "too dark to see")
    assert (again.status, "no such film waits" in again.text) == (2, True), again.text


def test_a_film_that_was_turned_down_is_destroyed_and_its_owner_told_why(
    account: Account, film: bytes
) -> None:
    asked = account.begin()
    account.send(asked["capture_id"], film)
    before = len(kept(account.site))
    with account.site.client(OPERATOR) as operator:
        refused = operator.post(
            f"/v1/enrolments/{asked['capture_id']}/refuse", json={"reason": "the digits can not be heard"}
        )
        assert refused.status_code == 200
        assert operator.get(f"/v1/enrolments/{asked['capture_id']}/film").status_code == 404
    told = account.status()
    assert (told["status"], told["reason"]) == ("refused", "the digits can not be heard")
    assert len(kept(account.site)) == before - 1
    assert account.begin()["capture_id"] != asked["capture_id"]


def test_what_is_stored_is_not_the_film(account: Account, film: bytes) -> None:
    asked = account.begin()
    account.send(asked["capture_id"], film)
    assert all(film[200:600] not in path.read_bytes() for path in kept(account.site))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "media.empty"),
        (b"this is not a film", "media.not_video"),
    ],
)
def test_what_is_no_film_is_refused_and_can_be_sent_again(
    account: Account, film: bytes, content: bytes, expected: str
) -> None:
    asked = account.begin()
    assert reason(account.send(asked["capture_id"], content)) == (400, expected)
    assert account.send(asked["capture_id"], film).status_code == 202


def test_half_a_film_is_refused(account: Account, film: bytes) -> None:
    asked = account.begin()
    assert account.send(asked["capture_id"], film[: len(film) // 2]).status_code == 400
    assert account.status()["status"] == "challenge"


def test_nobody_sends_a_film_to_somebody_elses_challenge(live: Site, account: Account, film: bytes) -> None:
    other = opened(live, "Grace Hopper")
    asked = account.begin()
    assert reason(other.send(asked["capture_id"], film)) == (404, "enrolment.no_challenge")
    assert reason(other.send(unknown("capture"), film)) == (404, "enrolment.no_challenge")
    assert account.send(asked["capture_id"], film).status_code == 202
    assert reason(account.send(asked["capture_id"], film)) == (404, "enrolment.no_challenge")
    other.web.close()


def test_without_agreeing_to_the_very_text_nothing_begins(account: Account) -> None:
    begin = account.web.post
    wrong = begin("/v1/enrolment/challenge", json={"agreed": True, "consent_sha256": "0" * 64})
    assert reason(wrong) == (400, "enrolment.text")
    text = account.status()["consent"]["sha256"]
    refused = begin("/v1/enrolment/challenge", json={"agreed": False, "consent_sha256": text})
    assert refused.status_code == 400
    assert account.status()["status"] == "none"


def test_only_who_agreed_to_it_is_lit_in_colours_and_never_twice_in_the_same(account: Account) -> None:
    assert account.begin()["colours"] == []
    agreed = {"agreed": True, "lit": True, "consent_sha256": account.status()["consent"]["sha256"]}
    colours = account.web.post("/v1/enrolment/challenge", json=agreed).json()["colours"]
    assert len(colours) == 4
    assert all(one != other for one, other in pairwise(colours))
    assert account.status()["capture"]["colours"] == colours


def test_the_text_is_in_the_persons_language(live: Site) -> None:
    someone = opened(live, "Ada", "de")
    assert "Film" in someone.status()["consent"]["text"]
    assert "Erlaubnis" in someone.status()["consent"]["text"]
    someone.web.close()


def test_an_operators_word_on_one_film_is_not_taken_for_another_persons(
    live: Site, account: Account, film: bytes
) -> None:
    other = opened(live, "Grace Hopper")
    asked = account.begin()
    account.send(asked["capture_id"], film)
    assert reason(account.vouched(asked["capture_id"], film, person_id=other.person_id))[1] == (
        "enrolment.other_person"
    )
    assert reason(account.vouched(asked["capture_id"], hopper_picture()))[1] == "enrolment.other_picture"
    assert account.status()["status"] == "pending_review"
    other.web.close()


def test_a_second_likeness_on_one_account_is_refused(account: Account, film: bytes) -> None:
    asked = account.begin()
    account.send(asked["capture_id"], film)
    assert account.vouched(asked["capture_id"], film).status_code == 201
    text = account.status()["consent"]["sha256"]
    again = account.web.post("/v1/enrolment/challenge", json={"agreed": True, "consent_sha256": text})
    assert reason(again) == (409, "enrolment.twice")


@pytest.mark.parametrize("role", ["film club", "press council", ""])
def test_only_operators_see_films(account: Account, film: bytes, role: str) -> None:
    asked = account.begin()
    account.send(asked["capture_id"], film)
    with account.site.client(role) as web:
        assert web.get("/v1/enrolments").status_code == 401
        assert web.get(f"/v1/enrolments/{asked['capture_id']}/film").status_code == 401
        refuse = web.post(f"/v1/enrolments/{asked['capture_id']}/refuse", json={"reason": "because"})
        assert refuse.status_code == 401


def test_a_film_that_comes_too_late_is_refused(launcher: Launcher, tmp_path: Path, film: bytes) -> None:
    site = Site(launcher, tmp_path)
    site.start()
    someone = opened(site)
    asked = someone.begin()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database, database:
        database.execute("UPDATE capture SET expires_at = expires_at - 301")
    assert reason(someone.send(asked["capture_id"], film)) == (403, "enrolment.expired")
    assert someone.status()["status"] == "expired"
    assert kept(site) == [path for path in kept(site) if "probe" in path.parts]
    someone.web.close()
    site.stop()


# Films that are looked at -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looking(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service whose workers look at every film."""
    site = Site(launcher, tmp_path_factory.mktemp("looking") / "home", examines=True)
    site.start()
    yield site
    site.stop()


def acted(asked: dict[str, Any], path: Path, **changes: Any) -> bytes:
    """A film of somebody doing as they were asked."""
    film = Film(asked["digits"], asked["turns"], turn_s=1.2, **changes)
    return make(film, pixels(collins_picture()), path)


@pytest.mark.timeout(400)
def test_a_film_of_what_was_asked_waits_with_its_scores_and_a_still_one_is_refused(
    looking: Site, tmp_path: Path
) -> None:
    someone = opened(looking)
    asked = someone.begin()
    film = acted(asked, tmp_path / "film.webm")
    answer = someone.send(asked["capture_id"], film)
    if answer.status_code == 403:  # a machine understands a machine's digits five times in six
        assert {one["id"] for one in answer.json()["reasons"]} == {"enrolment.film.digits"}
        asked = someone.begin()
        film = acted(asked, tmp_path / "film.webm")
        answer = someone.send(asked["capture_id"], film)
    assert answer.status_code == 202, answer.text
    with looking.client(OPERATOR) as operator:
        (waiting,) = operator.get("/v1/enrolments").json()["enrolments"]
    scores = {one["check"]: one["score"] for one in waiting["findings"]}
    assert list(scores.values()) == sorted(scores.values()), "the worst first"
    assert set(scores) == {
        "face", "person", "turns", "digits", "lips", "camera", "screen", "depth", "pace",
    }  # fmt: skip
    assert min(scores["face"], scores["person"], scores["turns"], scores["camera"]) >= 500, scores
    told = countersign(looking.home, "enrolments", "show", asked["capture_id"])
    assert (told.status, "the head turns as was asked" in told.text) == (0, True), told.text

    # One picture, and nothing to hear: refused at once, with what to do better, and not kept.
    other = opened(looking, "Grace Hopper")
    theirs, before = other.begin(), kept(looking)
    still = encode([Head(pixels(collins_picture())).picture] * 75, None, tmp_path / "still.webm")
    refused = other.send(theirs["capture_id"], still)
    assert refused.status_code == 403, refused.text
    reasons = {one["id"]: one for one in refused.json()["reasons"]}
    assert set(reasons) >= {f"enrolment.film.{one}" for one in ("turns", "digits", "camera")}
    assert all(one["remedy"] for one in reasons.values())
    assert kept(looking) == before
    status = other.status()
    assert (status["status"], status["reasons"]) == ("refused", refused.json()["reasons"])
    assert reason(other.send(theirs["capture_id"], still)) == (404, "enrolment.no_challenge")
    assert other.begin()["digits"] != theirs["digits"]
    for account in (someone, other):
        account.web.close()


def test_a_second_account_for_a_face_needs_an_operator_who_knows(launcher: Launcher, tmp_path: Path) -> None:
    site = Site(launcher, tmp_path / "home")
    site.start()
    picture, device = collins_picture(), Ed25519PrivateKey.generate()
    first = site.vouch(picture, device=device, alike=...)
    assert first.status_code == 201, first.text
    again = site.vouch(picture, device=Ed25519PrivateKey.generate(), alike=...)
    assert reason(again) == (400, "enrolment.already_enrolled")
    assert first.json()["person_id"] not in again.text, "it says who has that face"
    assert site.vouch(hopper_picture(), device=Ed25519PrivateKey.generate(), alike=...).status_code == 201
    assert site.vouch(picture, device=Ed25519PrivateKey.generate()).status_code == 201
    site.stop()


def test_a_filmed_likeness_is_not_used_for_a_day_and_its_owner_reads_when(
    account: Account, film: bytes
) -> None:
    asked = account.begin()
    account.send(asked["capture_id"], film)
    began = datetime.now(UTC)
    cameo_id = account.vouched(asked["capture_id"], film).json()["cameo_id"]
    usable = datetime.fromisoformat(account.status()["usable_from"])
    assert 23.9 < (usable - began).total_seconds() / 3600 <= 24.1
    assert account.web.get("/v1/me").json()["usable_from"] == account.status()["usable_from"]
    entries = account.web.get(f"/v1/cameos/{cameo_id}/uses").json()["entries"]
    (entry,) = [one for one in entries if one["kind"] == "enrolment"]
    assert entry["body"]["filmed"] is True
