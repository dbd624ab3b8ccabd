"""Accounts by passkey, over HTTP: opened, signed in to, given and rid of keys, recovered; and what thieves get."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authenticator import PRESENT, VERIFIED, Passkey, b64url
from ledger.canonical import canonical
from ledger.consent.statement import DEVICE_TAG, sign
from live import OPERATOR, Launcher, Site, collins_picture, zulu
from people import ADULT, Visitor, visitor_at

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow
EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def ada(live: Site) -> Iterator[Visitor]:
    visitor = visitor_at(live)()
    yield visitor
    visitor.web.close()


@pytest.fixture
def someone(live: Site) -> Iterator[Visitor]:
    """A fresh account, signed in."""
    visitor = visitor_at(live)()
    yield visitor
    visitor.web.close()


def reason_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    reasons = answer.json()["reasons"]
    assert all(one["reason"] and one["remedy"] for one in reasons)
    return answer.status_code, str(reasons[0]["id"])


def cookie_of(answer: httpx.Response) -> tuple[str, str, set[str]]:
    value, *flags = (part.strip() for part in answer.headers["set-cookie"].split(";"))
    name, _, token = value.partition("=")
    return name, token, {flag.lower() for flag in flags}


# Signing up -------------------------------------------------------------------------------------------------


def test_an_account_needs_a_name_and_a_passkey_and_nothing_else(live: Site) -> None:
    visitor = Visitor(live, live.client())
    before = datetime.now(UTC).replace(microsecond=0)
    answer = visitor.sign_up("Ada Lovelace")
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    name, token, flags = cookie_of(answer)
    assert (name, len(token)) == ("countersign_session", 43)
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= flags
    me = visitor.me()
    (key,), (session,) = me.pop("passkeys"), me.pop("sessions")
    assert me == {
        "person_id": visitor.person_id,
        "display_name": "Ada Lovelace",
        "language": "en",
        "cameo_id": None,
        "likeness": "none",
        "usable_from": None,
        "minor": True,
        "age_known": False,
        "guardians": [],
        "wards": [],
        "estates": [],
        "recovery_codes_left": 10,
        "recovered": False,
    }
    assert (key["id"], key["kind"], key["current"], key["used_at"]) == (visitor.key.id, "passkey", True, None)
    assert zulu(before) <= key["created_at"] <= zulu(datetime.now(UTC))
    assert session["current"] is True
    assert len(set(visitor.codes)) == 10
    assert all(re.fullmatch("([0-9a-z]{5}-){3}[0-9a-z]{5}", code) for code in visitor.codes)
    # What the browser was told to make: a passkey that says whose it is, and under no name that we could look up.
    assert visitor.key.rp_id == "localhost"
    assert len(visitor.key.handle) == 32
    visitor.web.close()


def test_nothing_that_opens_an_account_is_stored_in_clear(live: Site, ada: Visitor) -> None:
    stored = b"".join(path.read_bytes() for path in live.home.glob("ledger.db*"))
    assert ada.person_id.encode() in stored
    for secret in (
        ada.web.cookies["countersign_session"],
        *ada.codes,
        *(c.replace("-", "") for c in ada.codes),
    ):
        assert secret.encode() not in stored
    assert ADULT.encode() not in stored


FALSE_PASSKEYS: dict[str, tuple[dict[str, Any], int, str]] = {
    "another site's page": ({"origin": EVIL}, 400, "passkey.origin"),
    "another port": ({"origin": "http://localhost:1"}, 400, "passkey.origin"),
    "this address, but no name": ({"origin": "http://127.0.0.1"}, 400, "passkey.origin"),
    "an assertion": ({"kind": "webauthn.get"}, 400, "passkey.ceremony"),
    "another site": ({"rp_id": "evil.example"}, 400, "passkey.rp_id"),
    "nobody verified": ({"flags": PRESENT}, 400, "passkey.user_verification"),
    "nobody there": ({"flags": 0}, 400, "passkey.user_presence"),
}


@pytest.mark.parametrize("name", FALSE_PASSKEYS)
def test_a_passkey_made_elsewhere_or_unverified_opens_nothing(live: Site, name: str) -> None:
    changes, status, reason = FALSE_PASSKEYS[name]
    with live.client() as web:
        answer = Visitor(live, web).sign_up(**changes)
        assert reason_of(answer) == (status, reason)
        assert "set-cookie" not in answer.headers


def test_a_sign_up_challenge_is_good_once_and_a_passkey_for_one_account(live: Site, ada: Visitor) -> None:
    with live.client() as web:
        visitor = Visitor(live, web)
        person = {"display_name": "Eve", "born_on": ADULT}
        asked = visitor.ok("/v1/accounts/options", person)
        challenge = asked["options"]["challenge"]
        made = ada.key.registration(challenge, live.url)
        body = {"nonce": asked["nonce"], "response": made}
        assert reason_of(visitor.post("/v1/accounts", body)) == (400, "passkey.taken")
        new = Passkey("localhost", b"x" * 32)
        body["response"] = new.registration(challenge, live.url)
        assert reason_of(visitor.post("/v1/accounts", body)) == (400, "passkey.challenge")
        # A response over an earlier challenge is no answer to this one.
        again = visitor.ok("/v1/accounts/options", person)
        answer = visitor.post("/v1/accounts", {"nonce": again["nonce"], "response": body["response"]})
        assert reason_of(answer) == (403, "statement.altered")
        # The challenge of a sign-in opens no account.
        other = visitor.ok("/v1/sessions/options")
        body = {"nonce": other["nonce"], "response": new.registration(other["nonce"], live.url)}
        assert reason_of(visitor.post("/v1/accounts", body)) == (400, "passkey.challenge")


@pytest.mark.parametrize(
    "person",
    [
        {},
        {"display_name": "Ada"},
        {"display_name": "", "born_on": ADULT},
        {"display_name": "   ", "born_on": ADULT},
        {"display_name": "A\x00da", "born_on": ADULT},
        {"display_name": "\u202eadA", "born_on": ADULT},
        {"display_name": "x" * 81, "born_on": ADULT},
        {"display_name": "Ada", "born_on": "9999-12-31"},
        {"display_name": "Ada", "born_on": "no date"},
        {"display_name": "Ada", "born_on": ADULT, "language": "english"},
        {"display_name": "Ada", "born_on": ADULT, "admin": True},
    ],
    ids=repr,
)
def test_a_sign_up_that_cannot_be_read_is_400(live: Site, person: dict[str, Any]) -> None:
    with live.client() as web:
        assert web.post("/v1/accounts/options", json=person).status_code == 400


@pytest.mark.parametrize(
    "response", [{}, {"response": 7}, {"response": {"clientDataJSON": "!"}}, {"id": "x" * 9}]
)
def test_a_registration_that_cannot_be_read_is_400(live: Site, response: dict[str, Any]) -> None:
    with live.client() as web:
        asked = Visitor(live, web).ok("/v1/accounts/options", {"display_name": "A", "born_on": ADULT})
        answer = web.post("/v1/accounts", json={"nonce": asked["nonce"], "response": response})
        assert reason_of(answer) == (400, "passkey.malformed")


def years_ago(years: int, *, days: int = 0) -> str:
    today = datetime.now(UTC)
    return f"{today.year - years}-{today.month:02}-{max(1, min(28, today.day) + days):02}"


def test_nobody_under_13_has_an_account_and_another_birthday_is_not_asked_for(live: Site) -> None:
    young = {"display_name": "Kim", "born_on": years_ago(12)}
    older = young | {"born_on": ADULT}
    with live.client() as browser, live.client() as elsewhere:
        browser.headers["user-agent"] = "a child's tablet"
        first = browser.post("/v1/accounts/options", json=young)
        assert reason_of(first) == (403, "account.too_young")
        assert {"httponly", "samesite=strict", "max-age=3600"} <= cookie_of(first)[2]
        assert reason_of(browser.post("/v1/accounts/options", json=older)) == (403, "account.too_young")
        # Without the cookie it is the same browser at the same address; and with it, at another.
        kept = dict(browser.cookies)
        browser.cookies.clear()
        assert reason_of(browser.post("/v1/accounts/options", json=older)) == (403, "account.too_young")
        browser.headers["user-agent"] = "another name"
        browser.cookies.update(kept)
        assert reason_of(browser.post("/v1/accounts/options", json=older)) == (403, "account.too_young")
        # Their parents' own browser in the same house is not refused.
        assert elsewhere.post("/v1/accounts/options", json=older).status_code == 200


def test_thirteen_is_old_enough(live: Site) -> None:
    with live.client() as web:
        web.headers["user-agent"] = "thirteen"
        person = {"display_name": "Kim", "born_on": years_ago(13)}
        assert web.post("/v1/accounts/options", json=person).status_code == 200


# Signing in -------------------------------------------------------------------------------------------------


def test_a_passkey_says_whose_it_is(live: Site, ada: Visitor) -> None:
    with live.client() as web:
        browser = Visitor(live, web, passkey=ada.key)
        asked = browser.ok("/v1/sessions/options")
        assert asked["options"].get("allowCredentials", []) == []
        assert asked["options"]["userVerification"] == "required"
        answer = browser.answer(asked)
        assert (answer.status_code, answer.json()) == (201, {"person_id": ada.person_id})
        assert browser.me()["passkeys"][0]["used_at"] is not None


FALSE_ASSERTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "another site's page": ({"origin": EVIL}, "passkey.origin"),
    "in another site's frame": ({"cross_origin": True}, "passkey.origin"),
    "another site": ({"rp_id": "evil.example"}, "passkey.rp_id"),
    "a registration": ({"kind": "webauthn.create"}, "passkey.ceremony"),
    "nobody verified": ({"flags": PRESENT}, "passkey.user_verification"),
    "nobody there": ({"flags": VERIFIED}, "passkey.user_presence"),
    "another challenge": ({"challenge": "A" * 43}, "statement.altered"),
}


@pytest.mark.parametrize("name", FALSE_ASSERTIONS)
def test_a_signature_that_is_not_for_this_sign_in_opens_nothing(live: Site, ada: Visitor, name: str) -> None:
    changes, reason = FALSE_ASSERTIONS[name]
    with live.client() as web:
        answer = Visitor(live, web, passkey=ada.key).sign_in(**changes)
        assert reason_of(answer) == (401, reason)
        assert "set-cookie" not in answer.headers


def test_an_assertion_is_good_once(live: Site, ada: Visitor) -> None:
    with live.client() as web:
        browser = Visitor(live, web)
        asked = browser.ok("/v1/sessions/options")
        evidence = ada.signed(asked)
        body = {"nonce": asked["nonce"], "evidence": evidence}
        assert browser.post("/v1/sessions", body).status_code == 201
        web.cookies.clear()
        assert reason_of(browser.post("/v1/sessions", body)) == (401, "session.refused")
        body["nonce"] = browser.ok("/v1/sessions/options")["nonce"]
        assert reason_of(browser.post("/v1/sessions", body)) == (401, "statement.altered")
        assert browser.web.get("/v1/me").status_code == 401


def test_only_a_key_on_record_signs_in(live: Site, ada: Visitor, someone: Visitor) -> None:
    with live.client() as web:
        browser = Visitor(live, web)
        assert reason_of(browser.sign_in(Passkey("localhost", ada.key.handle))) == (401, "session.refused")
        # Another key under the id of one that is known.
        forged = Passkey("localhost", ada.key.handle, credential_id=ada.key.credential_id)
        assert reason_of(browser.sign_in(forged)) == (401, "statement.altered")
        # A challenge given for one person is not for another.
        nonce = browser.ok("/v1/sessions/challenge", {"person_id": someone.person_id})["nonce"]
        body = {"nonce": nonce, "evidence": ada.key.assertion("A" * 43, live.url)}
        for person_id in ("", ada.person_id, someone.person_id):
            answer = browser.post("/v1/sessions", {**body, "person_id": person_id})
            assert reason_of(answer) == (401, "session.refused")


def test_a_counter_that_went_back_is_a_copy(live: Site) -> None:
    visitor = visitor_at(live)(counts=True)
    assert visitor.sign_in().status_code == 201
    copy = Passkey(**{**vars(visitor.key), "count": 0})
    assert reason_of(visitor.sign_in(copy)) == (401, "passkey.counter")
    assert visitor.sign_in().status_code == 201
    visitor.web.close()


# Sessions ---------------------------------------------------------------------------------------------------


def test_a_session_is_closed_from_another(live: Site, someone: Visitor) -> None:
    with live.client() as second, live.client() as third:
        second.headers["user-agent"] = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) Version/18.0 Safari/604.1"
        browsers = [Visitor(live, web, passkey=someone.key) for web in (second, third)]
        for browser in browsers:
            assert browser.sign_in().status_code == 201
        listed = someone.me()["sessions"]
        assert len(listed) == 3
        assert sum(one["current"] for one in listed) == 1
        phone = next(one for one in listed if one["agent"] == "Safari, iPhone")
        assert someone.web.delete(f"/v1/sessions/{phone['id']}").status_code == 204
        assert [browser.web.get("/v1/me").status_code for browser in browsers] == [401, 200]
        assert someone.web.delete(f"/v1/sessions/{phone['id']}").status_code == 404
        assert someone.web.delete("/v1/sessions/others").status_code == 204
        assert [browser.web.get("/v1/me").status_code for browser in browsers] == [401, 401]
        assert len(someone.me()["sessions"]) == 1


def test_nobody_closes_another_persons_session(ada: Visitor, someone: Visitor) -> None:
    theirs = ada.me()["sessions"][0]["id"]
    assert reason_of(someone.web.delete(f"/v1/sessions/{theirs}")) == (404, "session.unknown")
    assert someone.web.delete("/v1/sessions/others").status_code == 204
    assert ada.web.get("/v1/me").status_code == 200


def test_a_session_ends_when_it_is_not_used_and_after_its_longest_life(
    launcher: Launcher, tmp_path: Path
) -> None:
    site = Site(launcher, tmp_path / "home", env={"IDLE_MINUTES": "60", "SESSION_HOURS": "3"})
    site.start()
    visitor = visitor_at(site)()
    minutes_later = [(50, 200), (100, 200), (150, 200), (175, 200), (185, 401)]
    for minutes, status in minutes_later:
        site.stop()
        site.start(ahead_s=minutes * 60)
        assert visitor.web.get("/v1/me").status_code == status, minutes
    assert visitor.sign_in().status_code == 201
    site.stop()
    site.start(ahead_s=(185 + 61) * 60)
    assert reason_of(visitor.web.get("/v1/me")) == (401, "access.session")
    site.stop()
    visitor.web.close()


def test_a_session_that_may_be_stolen_by_now_gives_nobody_more_than_they_have(
    launcher: Launcher, tmp_path: Path
) -> None:
    site = Site(launcher, tmp_path / "home", env={"AGE_ISSUER": "demo"})
    site.start()
    visitor, other = visitor_at(site)(), visitor_at(site)()
    app = site.holder("film club")
    visitor.ok("/v1/circle/blocks", {"target": app, "blocked": True})
    site.stop()
    site.start(ahead_s=901)
    gives: list[tuple[str, Any, int]] = [
        ("/v1/circle/members", {"person_id": other.person_id, "member": True}, 200),
        ("/v1/circle/blocks", {"target": app, "blocked": False}, 200),
        ("/v1/tokens", {"app_id": app}, 201),
        ("/v1/age/start", None, 200),
    ]
    for path, body, _ in gives:
        assert reason_of(visitor.post(path, body)) == (403, "access.again"), path
    page = visitor.web.post("/me/people/add", data={"person_id": other.person_id})
    assert (page.status_code, page.headers["location"]) == (303, "/signin?next=%2Fme%2Fpeople&done=again")
    # What only takes away waits for no device.
    visitor.ok("/v1/circle/members", {"person_id": other.person_id, "member": False})
    visitor.ok("/v1/circle/blocks", {"target": other.person_id, "blocked": True})
    assert visitor.sign_in().status_code == 201
    for path, body, status in gives:
        visitor.ok(path, body, status)
    site.stop()
    for one in (visitor, other):
        one.web.close()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/grants",
        "/v1/timeline",
        "/v1/circle",
        "/v1/tokens",
        "/v1/approvals",
        "/v1/enrolment",
        "/age/return",
    ],
)
def test_nothing_of_a_persons_own_is_kept_by_a_cache(ada: Visitor, path: str) -> None:
    answer = ada.web.get(path)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_over_https_no_other_host_can_set_the_cookie(launcher: Launcher, tmp_path: Path) -> None:
    site = Site(launcher, tmp_path / "home", env={"BASE_URL": "https://consent.example"})
    site.start()
    with site.client() as web:
        visitor = Visitor(site, web)
        # As behind a proxy that speaks TLS: the page is at the public address.
        web.headers["origin"] = "https://consent.example"
        answer = visitor.sign_up(origin="https://consent.example")
        assert answer.status_code == 201, answer.text
        name, token, flags = cookie_of(answer)
        assert name == "__Host-countersign_session"
        assert {"secure", "httponly", "samesite=strict", "path=/"} <= flags
        assert not any(flag.startswith("domain") for flag in flags)
        assert visitor.key.rp_id == "consent.example"
        web.cookies.clear()
        for cookie, status in ((name, 200), ("countersign_session", 401)):
            assert web.get("/v1/me", headers={"cookie": f"{cookie}={token}"}).status_code == status
        out = web.delete("/v1/sessions", headers={"cookie": f"{name}={token}"})
        assert out.status_code == 204
        assert {"secure", "path=/", "max-age=0"} <= cookie_of(out)[2]
        assert web.get("/v1/me", headers={"cookie": f"{name}={token}"}).status_code == 401
    site.stop()


FOREIGN: list[dict[str, str]] = [
    {"origin": EVIL},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://localhost"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=repr)
def test_another_sites_page_does_nothing_in_my_session(
    live: Site, ada: Visitor, headers: dict[str, str]
) -> None:
    mixed = [headers, {"sec-fetch-site": "same-origin", **headers}, {"origin": live.url, **headers}]
    before = ada.me()
    for sent in mixed:
        for method, path, body in (
            ("PATCH", "/v1/me", {"display_name": "Mallory"}),
            ("POST", "/v1/passkeys/options", None),
            ("POST", "/v1/recovery-codes/options", None),
            ("DELETE", f"/v1/passkeys/{ada.key.id}", None),
            ("DELETE", "/v1/sessions", None),
            ("DELETE", "/v1/sessions/others", None),
            ("POST", "/v1/sessions/recover", {"code": "0" * 20}),
            ("POST", "/v1/accounts/options", {"display_name": "x", "born_on": ADULT}),
        ):
            answer = ada.web.request(method, path, json=body, headers=sent)
            assert reason_of(answer) == (403, "access.origin"), (method, path, sent)
    assert ada.me() == before


def test_our_own_page_is_let_in(live: Site, ada: Visitor) -> None:
    for headers in ({"origin": live.url}, {"sec-fetch-site": "same-origin"}):
        answer = ada.web.patch("/v1/me", json={"language": "de"}, headers=headers)
        assert (answer.status_code, answer.json()["language"]) == (200, "de")
    assert ada.web.patch("/v1/me", json={"display_name": "\x07"}).status_code == 400
    assert ada.web.patch("/v1/me", json={"person_id": "x"}).status_code == 400


# Keys -------------------------------------------------------------------------------------------------------


def test_another_passkey_is_signed_for_with_one_that_is_there(live: Site, someone: Visitor) -> None:
    new, asked = someone.preview_key()
    said = asked["statement"]
    assert (said["key"]["id"], said["person_id"]) == (new.id, someone.person_id)
    assert asked["canonical"].encode() == canonical(said)
    assert [one["id"] for one in asked["options"]["allowCredentials"]] == [someone.key.id]
    added = someone.ok("/v1/passkeys", {"nonce": asked["nonce"], "evidence": someone.signed(asked)}, 201)
    assert added["id"] == new.id
    with live.client() as web:
        assert Visitor(live, web, passkey=new).sign_in().status_code == 201
    assert {key["id"] for key in someone.me()["passkeys"]} == {someone.key.id, new.id}


def test_a_stolen_session_adds_no_key(live: Site, ada: Visitor, someone: Visitor) -> None:
    new, asked = someone.preview_key()
    _, other = someone.preview_key()
    answers = {
        "passkey.unsigned": None,
        "statement.wrong_signer": someone.signed(asked, new),
        "statement.altered": someone.signed(other),
        "passkey.user_verification": someone.key.assertion(
            asked["options"]["challenge"], live.url, flags=PRESENT
        ),
        "passkey.origin": someone.key.assertion(asked["options"]["challenge"], EVIL),
    }
    for reason, evidence in answers.items():
        _, fresh = someone.preview_key()
        if reason != "statement.altered" and evidence is not None and reason != "statement.wrong_signer":
            changes: dict[str, Any] = (
                {"flags": PRESENT, "origin": live.url} if "user" in reason else {"origin": EVIL}
            )
            evidence = someone.key.assertion(fresh["options"]["challenge"], **changes)  # noqa: PLW2901
        answer = someone.post("/v1/passkeys", {"nonce": fresh["nonce"], "evidence": evidence})
        assert reason_of(answer)[1] == reason
        assert answer.status_code in {400, 403}
    # By somebody else's key; and in somebody else's session, with a right signature.
    body = {"nonce": asked["nonce"], "evidence": someone.signed(asked)}
    assert reason_of(ada.post("/v1/passkeys", body)) == (400, "passkey.challenge")
    body["evidence"] = ada.signed(asked)
    assert reason_of(someone.post("/v1/passkeys", body)) == (403, "statement.wrong_signer")
    # One challenge, one try: the right answer comes too late.
    body["evidence"] = someone.signed(asked)
    assert reason_of(someone.post("/v1/passkeys", body)) == (400, "passkey.challenge")
    assert len(someone.me()["passkeys"]) == 1


def test_a_removed_key_opens_and_signs_nothing_and_what_it_opened_ends(live: Site, someone: Visitor) -> None:
    cameo_id = someone.enrol(collins_picture())
    new = someone.add_key()
    with live.client() as web:
        other = Visitor(live, web, someone.person_id, new)
        assert other.sign_in().status_code == 201
        assert other.grant(cameo_id).status_code == 201
        assert someone.web.delete(f"/v1/passkeys/{new.id}").status_code == 204
        assert other.web.get("/v1/me").status_code == 401
        assert reason_of(other.sign_in()) == (401, "session.refused")
    assert reason_of(someone.grant(cameo_id, new)) == (403, "statement.wrong_signer")
    assert someone.grant(cameo_id).status_code == 201
    assert reason_of(someone.web.delete(f"/v1/passkeys/{someone.key.id}")) == (403, "passkey.last")
    assert reason_of(someone.web.delete(f"/v1/passkeys/{new.id}")) == (404, "passkey.unknown")
    # The grant it signed while it counted still stands, and the whole story can be told.
    kinds = [body["kind"] for body in live.audit(cameo_id)]
    assert kinds[:5] == ["account", "enrolment", "device", "grant", "device"]


def test_nobody_removes_another_persons_key(ada: Visitor, someone: Visitor) -> None:
    someone.add_key()
    assert reason_of(someone.web.delete(f"/v1/passkeys/{ada.key.id}")) == (404, "passkey.unknown")
    assert ada.sign_in().status_code == 201


def test_a_device_key_of_the_command_line_signs_for_a_first_passkey(live: Site) -> None:
    owner = live.enrol(collins_picture())
    visitor = Visitor(live, owner.web, owner.person_id)
    new, asked = visitor.preview_key()
    evidence = sign(DEVICE_TAG, asked["canonical"].encode(), owner.device).model_dump()
    visitor.ok("/v1/passkeys", {"nonce": asked["nonce"], "evidence": evidence}, 201)
    visitor.passkey = new
    assert visitor.sign_in().status_code == 201
    assert {key["kind"] for key in visitor.me()["passkeys"]} == {"device", "passkey"}
    # The account keeps the handle its first passkey was made with.
    assert visitor.ok("/v1/passkeys/options")["options"]["user"]["id"] == b64url(new.handle)
    owner.web.close()


# Granting ---------------------------------------------------------------------------------------------------


def test_a_stolen_session_grants_nothing(live: Site, someone: Visitor, ada: Visitor) -> None:
    cameo_id = someone.enrol(collins_picture())
    thief = Ed25519PrivateKey.generate()
    attempts = {
        "another passkey": (someone.grant(cameo_id, ada.key), (403, "statement.wrong_signer")),
        "nobody verified": (someone.grant(cameo_id, flags=PRESENT), (400, "passkey.user_verification")),
        "another page": (someone.grant(cameo_id, origin=EVIL), (400, "passkey.origin")),
        "another site": (someone.grant(cameo_id, rp_id="evil.example"), (400, "passkey.rp_id")),
        "an old challenge": (someone.grant(cameo_id, challenge="A" * 43), (403, "statement.altered")),
    }
    for name, (answer, reason) in attempts.items():
        assert reason_of(answer) == reason, name
    preview = someone.preview(cameo_id)
    forged = sign(DEVICE_TAG, preview["canonical"].encode(), thief).model_dump()
    answer = someone.post("/v1/grants", {"grant": preview["grant"], "evidence": forged})
    assert answer.is_error
    assert someone.web.get("/v1/grants").json()["grants"] == []


# Recovery ---------------------------------------------------------------------------------------------------


def test_a_recovery_code_opens_just_enough_to_add_a_passkey(live: Site, someone: Visitor) -> None:
    cameo_id = someone.enrol(collins_picture())
    grant_id = someone.grant(cameo_id).json()["grant_id"]
    with live.client() as web:
        lost = Visitor(live, web, someone.person_id)
        typed = someone.codes[3].upper().replace("-", " ").replace("0", "O").replace("1", "l")
        answer = lost.post("/v1/sessions/recover", {"code": typed})
        assert (answer.status_code, answer.json()["person_id"]) == (201, someone.person_id)
        assert {"httponly", "samesite=strict", "max-age=900"} <= cookie_of(answer)[2]
        me = lost.me()
        assert (me["recovered"], me["recovery_codes_left"]) == (True, 9)
        preview = someone.preview(cameo_id)
        signed = {
            "grant": preview["grant"],
            "evidence": someone.key.assertion(preview["challenge"], live.url),
        }
        for method, path, body in (
            ("POST", "/v1/grants/preview", {"cameo_id": cameo_id, "grantee": preview["grant"]["grantee"]}),
            ("POST", "/v1/grants", signed),
            ("GET", f"/v1/cameos/{cameo_id}/uses", None),
            ("GET", f"/v1/cameos/{cameo_id}/uses?proof=true", None),
            ("POST", f"/v1/cameos/{cameo_id}/erase", {"confirm": cameo_id}),
            ("PATCH", "/v1/me", {"display_name": "Mallory"}),
            ("POST", "/v1/recovery-codes/options", None),
            ("DELETE", f"/v1/passkeys/{someone.key.id}", None),
            ("DELETE", "/v1/sessions/others", None),
        ):
            assert reason_of(web.request(method, path, json=body)) == (403, "access.recovered"), path
        assert [one["live"] for one in web.get("/v1/grants").json()["grants"]] == [True]
        assert web.post(f"/v1/grants/{grant_id}/revoke").status_code == 200
        new, asked = lost.preview_key()
        lost.ok("/v1/passkeys", {"nonce": asked["nonce"], "evidence": None}, 201)
        # It is over now, here and wherever the lost key was signed in.
        assert [one.get("/v1/me").status_code for one in (web, someone.web)] == [401, 401]
        assert lost.sign_in(new).status_code == 201
        assert web.delete(f"/v1/passkeys/{someone.key.id}").status_code == 204
    last = live.audit(cameo_id)
    assert [(one["change"], one["how"]) for one in last if one["kind"] == "device"] == [
        ("added", "recovery"),
        ("removed", "session"),
    ]


def test_a_dead_persons_recovery_code_opens_nothing_and_is_not_used_up(live: Site, someone: Visitor) -> None:
    heir = live.enrol(collins_picture())
    both = {"person_id": someone.person_id, "executor": heir.person_id, "note": "certificate seen"}
    with live.client() as web, live.client(OPERATOR) as operator:
        finder = Visitor(live, web, someone.person_id)
        assert finder.post("/v1/sessions/recover", {"code": someone.codes[0]}).status_code == 201
        opened = operator.post("/v1/estates", data=both, files={"evidence": ("c.pdf", b"seen")})
        assert opened.status_code == 201, opened.text
        # What the code had opened before is over, too.
        assert reason_of(web.get("/v1/me")) == (401, "access.session")
        code = {"code": someone.codes[1]}
        assert reason_of(finder.post("/v1/sessions/recover", code)) == (403, "access.estate")
        assert reason_of(someone.sign_in()) == (403, "access.estate")
        assert operator.post("/v1/estates/end", json=both).status_code == 200
        assert finder.post("/v1/sessions/recover", code).status_code == 201
        assert someone.sign_in().status_code == 201
    heir.web.close()


def test_a_recovery_code_is_good_once_and_its_sign_in_for_a_quarter_of_an_hour(
    launcher: Launcher, tmp_path: Path
) -> None:
    site = Site(launcher, tmp_path / "home")
    site.start()
    visitor = visitor_at(site)()
    visitor.web.cookies.clear()
    code = {"code": visitor.codes[0]}
    assert visitor.post("/v1/sessions/recover", code).status_code == 201
    assert reason_of(visitor.post("/v1/sessions/recover", code)) == (401, "session.recovery")
    _, asked = visitor.preview_key()
    assert visitor.web.get("/v1/me").status_code == 200
    site.stop()
    site.start(ahead_s=901)
    body = {"nonce": asked["nonce"], "evidence": None}
    assert reason_of(visitor.post("/v1/passkeys", body)) == (401, "access.session")
    assert reason_of(visitor.web.get("/v1/me")) == (401, "access.session")
    assert visitor.sign_in().status_code == 201
    assert len(visitor.me()["passkeys"]) == 1
    site.stop()
    visitor.web.close()


def test_what_was_handed_out_before_a_recovery_is_good_no_longer(live: Site, someone: Visitor) -> None:
    someone.ok("/v1/tokens", {"app_id": live.holder("film club")}, 201)
    someone.web.cookies.clear()
    assert someone.post("/v1/sessions/recover", {"code": someone.codes[0]}).status_code == 201
    new, asked = someone.preview_key()
    someone.ok("/v1/passkeys", {"nonce": asked["nonce"], "evidence": None}, 201)
    someone.passkey = new
    assert someone.sign_in().status_code == 201
    assert someone.web.get("/v1/tokens").json() == {"tokens": []}


def test_signing_out_ends_a_recovery_too(live: Site, someone: Visitor) -> None:
    with live.client() as web:
        web.post("/v1/sessions/recover", json={"code": someone.codes[0]})
        kept = dict(web.cookies)
        assert web.delete("/v1/sessions").status_code == 204
        web.cookies.update(kept)
        assert web.get("/v1/me").status_code == 401


def test_new_recovery_codes_need_a_signature_and_end_the_old_ones(live: Site, someone: Visitor) -> None:
    asked = someone.ok("/v1/recovery-codes/options")
    wrong = {
        "statement.wrong_signer": Passkey("localhost", b""),
        "passkey.user_verification": None,
    }
    for reason, key in wrong.items():
        fresh = someone.ok("/v1/recovery-codes/options")
        flags = PRESENT | VERIFIED if key else PRESENT
        evidence = (key or someone.key).assertion(fresh["options"]["challenge"], live.url, flags=flags)
        answer = someone.post("/v1/recovery-codes", {"nonce": fresh["nonce"], "evidence": evidence})
        assert reason_of(answer)[1] == reason
    assert someone.post("/v1/recovery-codes", {"nonce": asked["nonce"]}).status_code == 400
    # What was signed to add a key, or to sign in, is no word on codes.
    other = someone.ok("/v1/sessions/options")
    body = {"nonce": asked["nonce"], "evidence": someone.signed(other)}
    assert reason_of(someone.post("/v1/recovery-codes", body)) == (403, "statement.altered")
    fresh = someone.ok("/v1/recovery-codes/options")
    body = {"nonce": fresh["nonce"], "evidence": someone.signed(fresh)}
    codes = someone.ok("/v1/recovery-codes", body, 201)["recovery_codes"]
    assert len(set(codes) - set(someone.codes)) == 10
    with live.client() as web:
        for code in someone.codes:
            assert web.post("/v1/sessions/recover", json={"code": code}).status_code == 401
        assert web.post("/v1/sessions/recover", json={"code": codes[9]}).status_code == 201


# Trying often -----------------------------------------------------------------------------------------------


def test_what_needs_no_session_is_throttled_by_address_and_account(
    launcher: Launcher, tmp_path: Path
) -> None:
    limits = {
        "SIGN_INS_PER_ADDRESS": "30",
        "ACCOUNTS_PER_ADDRESS": "6",
        "RECOVERIES_PER_ADDRESS": "3",
        "FAILURES_PER_ACCOUNT": "4",
        "PROXIES": "1",
    }
    site = Site(launcher, tmp_path / "home", env=limits)
    site.start()
    from_here, elsewhere = (
        {"x-forwarded-for": "198.51.100.7"},
        {"x-forwarded-for": "198.51.100.7, 203.0.113.9"},
    )
    visitor = Visitor(site, site.client())
    visitor.web.headers.update(from_here)
    assert visitor.sign_up().status_code == 201  # two of six

    def throttled(answer: httpx.Response) -> bool:
        if answer.status_code != 429:
            return False
        assert reason_of(answer)[1] == "access.throttled"
        assert int(answer.headers["retry-after"]) in {300, 3600}
        return True

    # Accounts, by address; what stands before our proxy's own word anyone may have written.
    person = {"display_name": "Bot", "born_on": ADULT}
    tries = [throttled(visitor.post("/v1/accounts/options", person)) for _ in range(6)]
    assert tries == [False] * 4 + [True] * 2
    assert not throttled(visitor.post("/v1/accounts/options", person, headers=elsewhere))
    spoofed = {"x-forwarded-for": "192.0.2.1, 198.51.100.7"}
    assert throttled(visitor.post("/v1/accounts/options", person, headers=spoofed))
    # Codes, by address.
    tries = [throttled(visitor.post("/v1/sessions/recover", {"code": "0" * 20})) for _ in range(4)]
    assert tries == [False] * 3 + [True]
    assert throttled(visitor.post("/v1/sessions/recover", {"code": visitor.codes[0]}))
    # Wrong signatures, by account: also the right one waits then, and nobody else does.
    other = Visitor(site, site.client())
    other.web.headers["x-forwarded-for"] = "203.0.113.5"
    assert other.sign_up().status_code == 201
    tries = [throttled(visitor.sign_in(challenge="A" * 43)) for _ in range(5)]
    assert tries == [False] * 4 + [True]
    assert throttled(visitor.sign_in())
    assert other.sign_in().status_code == 201
    # Sign-ins, by address: asking counts as well.
    asked = [throttled(visitor.post("/v1/sessions/options")) for _ in range(20)]
    assert asked == [False] * 18 + [True] * 2
    assert throttled(visitor.post("/v1/sessions/challenge", {"person_id": visitor.person_id}))
    assert other.sign_in().status_code == 201
    site.stop()
    site.start(ahead_s=301)
    assert visitor.sign_in().status_code == 201
    assert throttled(visitor.post("/v1/accounts/options", person))
    site.stop()
    for browser in (visitor, other):
        browser.web.close()
