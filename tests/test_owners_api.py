"""What a person does with their own likeness, over HTTP: enrol, sign in, grant, watch, take back."""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.canonical import canonical
from ledger.consent.statement import ENROLMENT_TAG, GRANT_TAG, SESSION_TAG, encode_key, sign
from ledger.errors import LedgerError
from ledger.log import completeness
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy
from live import (
    OPERATOR,
    UPLOAD_MB,
    Launcher,
    Owner,
    Site,
    as_file,
    collins_picture,
    ended,
    hopper_picture,
    nobodys_picture,
    pixels,
    unknown,
    video_of,
    wanted,
    zulu,
)

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hopper(live: Site) -> Iterator[Owner]:
    owner = live.enrol(hopper_picture(), display_name="Grace Hopper", born_on="1906-12-09")
    yield owner
    owner.web.close()


def reason_of(answer: httpx.Response, status: int) -> str:
    """The id of a problem's first reason, once the problem is in the form RFC 9457 gives it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail", "reasons"}
    assert body["status"] == status
    assert all(reason["reason"] and reason["remedy"] for reason in body["reasons"])
    assert all(text not in answer.text for text in ("Traceback", "pydantic", "Error'", "site-packages"))
    reason_id = str(body["reasons"][0]["id"])
    assert body["type"] == f"urn:countersign:problem:{reason_id}"
    return reason_id


# Signing in -------------------------------------------------------------------------------------------------


def test_a_session_cookie_is_out_of_reach_of_scripts_and_other_sites(hopper: Owner) -> None:
    answer = hopper.sign_in()
    assert answer.status_code == 201
    assert answer.json() == {"person_id": hopper.person_id}
    value, *flags = (part.strip().lower() for part in answer.headers["set-cookie"].split(";"))
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= set(flags)
    assert "secure" not in flags  # only because this service is reached over http
    assert len(value.partition("=")[2]) >= 43


def test_only_the_enrolled_device_signs_in_and_only_with_its_own_fresh_challenge(
    live: Site, collins: Owner, hopper: Owner
) -> None:
    with live.client() as stranger:
        someone = Owner(live, hopper.person_id, hopper.cameo_id, hopper.device, stranger)
        used = someone.nonce()
        assert someone.sign_in(nonce=used).status_code == 201
        stranger.cookies.clear()
        attempts = {
            "another key": someone.sign_in(device=Ed25519PrivateKey.generate()),
            "another person's key": someone.sign_in(device=collins.device),
            "a used challenge": someone.sign_in(nonce=used),
            "another person's challenge": someone.sign_in(nonce=collins.nonce()),
            "a challenge nobody gave": someone.sign_in(nonce="A" * 43),
            "a person nobody enrolled": someone.sign_in(person_id=unknown("person")),
            "another person's name": someone.sign_in(person_id=collins.person_id),
        }
        for name, answer in attempts.items():
            assert reason_of(answer, 401) == "session.refused", name
            assert "set-cookie" not in answer.headers
        assert stranger.get("/v1/grants").status_code == 401


def test_one_challenge_is_one_try(live: Site, hopper: Owner) -> None:
    nonce = hopper.nonce()
    assert hopper.sign_in(nonce=nonce, device=Ed25519PrivateKey.generate()).status_code == 401
    assert hopper.sign_in(nonce=nonce).status_code == 401


def test_a_challenge_does_not_tell_who_is_enrolled(live: Site, hopper: Owner) -> None:
    with live.client() as web:
        answers = [
            web.post("/v1/sessions/challenge", json={"person_id": person_id})
            for person_id in (hopper.person_id, unknown("person"))
        ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert len({len(answer.text) for answer in answers}) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"person_id": 7}',
        b'{"person_id": "' + b"x" * 10_000 + b'"}',
        b'{"person_id": "p", "nonce": "n", "evidence": {}}',
        b'{"person_id": "p", "nonce": "n", "evidence": {"type": "none", "public_key": "", "signature": ""}}',
        b"\xff\xfe",
        b"[" * 50_000,
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_sign_in_that_cannot_be_read_is_400(live: Site, body: bytes) -> None:
    with live.client() as web:
        for path in ("/v1/sessions", "/v1/sessions/challenge"):
            reason_of(web.post(path, content=body, headers={"content-type": "application/json"}), 400)


def test_a_statement_is_small_and_a_large_one_is_not_read(live: Site) -> None:
    with live.client() as web:
        for path in ("/v1/sessions", "/v1/sessions/challenge", "/v1/grants", "/v1/grants/preview"):
            assert reason_of(web.post(path, json={"person_id": "x" * 100_000}), 413) == "http.413"


def test_signing_out_ends_the_session_itself_not_only_the_cookie(live: Site, hopper: Owner) -> None:
    with live.client() as web:
        owner = Owner(live, hopper.person_id, hopper.cameo_id, hopper.device, web)
        owner.sign_in()
        kept = dict(web.cookies)
        assert web.get("/v1/grants").status_code == 200
        assert web.delete("/v1/sessions").status_code == 204
        web.cookies.clear()
        web.cookies.update(kept)
        assert reason_of(web.get("/v1/grants"), 401) == "access.session"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_another_sites_page_changes_nothing(live: Site, collins: Owner, origin: str) -> None:
    grant_id = next(iter(collins.used()))
    signed = collins.signed(collins.preview())
    nonce, headers = collins.nonce(), {"origin": origin}
    with collins.nothing_happens():
        for method, path, body in (
            ("POST", "/v1/grants/preview", {"cameo_id": collins.cameo_id}),
            ("POST", "/v1/grants", signed),
            ("POST", f"/v1/grants/{grant_id}/revoke", None),
            ("POST", f"/v1/cameos/{collins.cameo_id}/erase", {"confirm": collins.cameo_id}),
            ("DELETE", "/v1/sessions", None),
        ):
            answer = collins.web.request(method, path, json=body, headers=headers)
            if path != "/v1/grants/preview":
                assert reason_of(answer, 403) == "access.origin"
            assert answer.is_error
        # Signing someone in as somebody else is a change too.
        assert reason_of(collins.sign_in(nonce=nonce, headers=headers), 403) == "access.origin"
    assert collins.web.get("/v1/grants", headers={"origin": live.url}).status_code == 200
    assert collins.sign_in(nonce=nonce, headers={"origin": live.url}).status_code == 201


def test_without_a_session_nothing_of_an_owner_is_shown_or_done(live: Site, collins: Owner) -> None:
    grant_id = next(iter(collins.used()))
    signed, preview = collins.signed(collins.preview()), {"cameo_id": collins.cameo_id}
    asks: list[tuple[str, str, Any]] = [
        ("GET", "/v1/grants", None),
        ("POST", "/v1/grants/preview", {**preview, "grantee": {"type": "everyone", "id": "*"}}),
        ("POST", "/v1/grants", signed),
        ("POST", f"/v1/grants/{grant_id}/revoke", None),
        ("GET", f"/v1/cameos/{collins.cameo_id}/uses", None),
        ("GET", f"/v1/cameos/{collins.cameo_id}/uses?proof=true", None),
        ("POST", f"/v1/cameos/{collins.cameo_id}/erase", {"confirm": collins.cameo_id}),
        ("DELETE", "/v1/sessions", None),
    ]
    with live.client() as web, live.client("film club") as app, collins.nothing_happens():
        for client in (web, app):
            for cookie in ("", "countersign_session=guess", "countersign_session=" + "A" * 10_000):
                for method, path, body in asks:
                    answer = client.request(method, path, json=body, headers={"cookie": cookie})
                    assert reason_of(answer, 401) == "access.session"


# Granting ---------------------------------------------------------------------------------------------------


def test_a_preview_is_exactly_what_is_signed_and_writes_nothing(collins: Owner) -> None:
    with collins.nothing_happens():
        preview = collins.preview(max_uses=2, forbidden_contexts=["political"])
    assert preview["canonical"].encode() == canonical(preview["grant"])
    signed = GRANT_TAG.encode() + b"\x00" + preview["canonical"].encode()
    assert preview["challenge"] == encode_key(sha256(signed).digest())
    grant = preview["grant"]
    assert preview["grant"]["notice"]["sha256"] == sha256(preview["notice"].encode()).hexdigest()
    assert (grant["grantor"], grant["cameo_id"]) == (collins.person_id, collins.cameo_id)
    assert "film club" in preview["sentence"]
    assert "2 videos" in preview["sentence"]
    assert "political" in preview["sentence"]


def test_what_is_left_out_of_a_grant_takes_its_narrowest_value(live: Site, collins: Owner) -> None:
    draft = {"cameo_id": collins.cameo_id, "grantee": {"type": "app", "id": live.holder("film club")}}
    grant = collins.web.post("/v1/grants/preview", json=draft).json()["grant"]
    assert (grant["max_uses"], grant["audience"], grant["modalities"]) == (1, "requester", ["face"])
    assert (grant["allowed_contexts"], grant["revocation_effect"]) == ([], "withdraw_all")
    assert grant["purposes"] == ["dpv:NonCommercialPurpose"]


def test_a_signed_grant_is_recorded_once_and_counts_from_then_on(live: Site, collins: Owner) -> None:
    signed = collins.signed(collins.preview("third app", max_uses=3))
    grant_id = signed["grant"]["grant_id"]
    with live.client("third app") as third:
        assert third.post("/v1/videos", json=wanted(collins)).status_code == 403
        granted = collins.web.post("/v1/grants", json=signed)
        assert granted.status_code == 201
        assert granted.json()["grant_id"] == grant_id
        # The grant, and the epoch that gives it its tag.
        assert live.checkpoint().size == granted.json()["index"] + 2
        video = third.post("/v1/videos", json=wanted(collins))
        assert video.status_code == 200
        third.delete(f"/v1/videos/{video.json()['id']}")
    listed = {grant["grant_id"]: grant for grant in collins.web.get("/v1/grants").json()["grants"]}
    assert listed[grant_id]["live"] is True
    assert listed[grant_id]["uses_left"] == 3
    with collins.nothing_happens():
        assert reason_of(collins.web.post("/v1/grants", json=signed), 409) == "grant.replayed"
    # A grant that was taken back is not brought back by sending it again.
    assert collins.web.post(f"/v1/grants/{grant_id}/revoke").status_code == 200
    with collins.nothing_happens():
        assert reason_of(collins.web.post("/v1/grants", json=signed), 409) == "grant.replayed"
    with live.client("third app") as third:
        assert third.post("/v1/videos", json=wanted(collins)).status_code == 403


ALTERATIONS: dict[str, Any] = {
    "max_uses": 1_000_000,
    "audience": "everyone",
    "grantee": {"type": "everyone", "id": "*"},
    "purposes": ["dpv:Advertising"],
    "modalities": ["face", "voice"],
    "actions": ["generate", "remix"],
    "allowed_contexts": ["sexual"],
    "forbidden_contexts": ["political"],
    "expires": "2030-01-01T00:00:00Z",
    "revocation_effect": "stop_new",
    "grant_id": unknown("grant"),
    "language": "fr",
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_grant_altered_after_signing_is_refused(collins: Owner, name: str) -> None:
    signed = collins.signed(collins.preview())
    signed["grant"][name] = ALTERATIONS[name]
    with collins.nothing_happens():
        assert reason_of(collins.web.post("/v1/grants", json=signed), 403) == "statement.altered"


def test_only_the_persons_own_device_grants(live: Site, collins: Owner, hopper: Owner) -> None:
    preview = collins.preview()
    text, sent = preview["canonical"].encode(), preview["grant"]
    right = sign(GRANT_TAG, text, collins.device)
    with collins.nothing_happens():
        by_another = sign(GRANT_TAG, text, hopper.device).model_dump()
        answer = collins.web.post("/v1/grants", json={"grant": sent, "evidence": by_another})
        assert reason_of(answer, 403) == "statement.wrong_signer"
        forged = right.model_dump() | {"signature": by_another["signature"]}
        answer = collins.web.post("/v1/grants", json={"grant": sent, "evidence": forged})
        assert reason_of(answer, 403) == "statement.altered"
        # Signed as something else: a sign-in can not be turned into a grant.
        other_kind = sign(SESSION_TAG, text, collins.device).model_dump()
        answer = collins.web.post("/v1/grants", json={"grant": sent, "evidence": other_kind})
        assert reason_of(answer, 403) == "statement.altered"
        # In another person's session, with a right signature.
        answer = hopper.web.post("/v1/grants", json={"grant": sent, "evidence": right.model_dump()})
        assert reason_of(answer, 403) == "grant.not_yours"
        # One's own grant, over another's likeness.
        stolen = hopper.preview()
        stolen["grant"]["cameo_id"] = collins.cameo_id
        stolen["canonical"] = canonical(stolen["grant"]).decode()
        assert reason_of(hopper.web.post("/v1/grants", json=hopper.signed(stolen)), 403) == "grant.not_yours"


def test_a_grant_without_a_whole_signature_is_refused(collins: Owner) -> None:
    signed = collins.signed(collins.preview())
    evidence = signed["evidence"]
    wrong: list[Any] = [
        None,
        {},
        "signed",
        evidence | {"type": "none"},
        evidence | {"signature": ""},
        evidence | {"signature": evidence["signature"][:-1]},
        evidence | {"signature": evidence["signature"] + "=="},
        evidence | {"signature": "!" * 86},
        evidence | {"public_key": ""},
        evidence | {"trusted": True},
        {key: evidence[key] for key in ("type", "public_key")},
    ]
    with collins.nothing_happens():
        for other in wrong:
            answer = collins.web.post("/v1/grants", json={"grant": signed["grant"], "evidence": other})
            assert reason_of(answer, 400)
        assert reason_of(collins.web.post("/v1/grants", json={"grant": signed["grant"]}), 400)


def test_a_grant_written_by_hand_is_held_to_the_same_rules(collins: Owner) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("grant.stale", {"issued": zulu(now - timedelta(hours=25))}),
        ("grant.clock", {"issued": zulu(now + timedelta(minutes=10))}),
        (
            "grant.expired",
            {"starts": zulu(now - timedelta(days=2)), "expires": zulu(now - timedelta(days=1))},
        ),
        ("grant.malformed", {"expires": zulu(now + timedelta(days=3700))}),
        ("grant.malformed", {"expires": zulu(now - timedelta(days=1))}),
        ("grant.malformed", {"expires": "2030-01-01T00:00:00+00:00"}),
        ("grant.malformed", {"expires": None}),
        ("grant.malformed", {"max_uses": 0}),
        ("grant.malformed", {"max_uses": True}),
        ("grant.malformed", {"max_uses": "3"}),
        ("grant.malformed", {"grantee": {"type": "app", "id": "*"}}),
        ("grant.malformed", {"modalities": []}),
        ("grant.malformed", {"allowed_contexts": ["sexual"], "forbidden_contexts": ["sexual"]}),
        ("grant.malformed", {"grant_id": "grant_1"}),
        ("grant.malformed", {"grant_id": "x" * 10_000}),
        ("grant.malformed", {"schema": "countersign/grant/v2"}),
        ("grant.malformed", {"unlimited": True}),
        ("grant.notice", {"notice": {"sha256": "0" * 64, "version": "1"}}),
        ("grant.unknown_grantee", {"grantee": {"type": "app", "id": unknown("app")}}),
    ]
    with collins.nothing_happens():
        for expected, changes in cases:
            preview = collins.preview()
            preview["grant"] |= changes
            preview["canonical"] = canonical(preview["grant"]).decode()
            answer = collins.web.post("/v1/grants", json=collins.signed(preview))
            assert reason_of(answer, 400) == expected, changes


@pytest.mark.parametrize(
    "changes",
    [
        {"cameo_id": "cameo_1"},
        {"cameo_id": "x" * 10_000},
        {"grantee": None},
        {"grantee": {"type": "app", "id": unknown("app")}},
        {"grantee": {"type": "app", "id": "app_1"}},
        {"grantee": {"type": "country", "id": "FR"}},
        {"max_uses": 0},
        {"max_uses": -1},
        {"max_uses": 10**30},
        {"days": 0},
        {"days": 3651},
        {"days": "a month"},
        {"days": 1.5},
        {"purposes": []},
        {"purposes": ["anything"]},
        {"jurisdictions": ["nowhere"]},
        {"language": "English"},
        {"approval": "after_release"},
        {"consent": "given"},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_draft_that_cannot_be_granted_is_400(live: Site, collins: Owner, changes: dict[str, Any]) -> None:
    draft = {
        "cameo_id": collins.cameo_id,
        "grantee": {"type": "app", "id": live.holder("film club")},
        **changes,
    }
    with collins.nothing_happens():
        reason_of(collins.web.post("/v1/grants/preview", json=draft), 400)


def test_an_operator_brings_in_what_owners_signed_and_nothing_else(
    live: Site, collins: Owner, hopper: Owner
) -> None:
    def line(owner: Owner, signed: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return {"owner": owner.person_id, **signed, **changes}

    first, second = (owner.signed(owner.preview("third app")) for owner in (collins, hopper))
    stolen = hopper.signed(collins.preview("third app"))
    altered = collins.signed(collins.preview("third app"))
    altered["grant"]["max_uses"] = 1000
    lines: list[tuple[Any, str | None]] = [
        (line(collins, first), None),
        ("not JSON", "import.line"),
        ({"owner": collins.person_id}, "import.line"),
        (line(collins, stolen), "statement.wrong_signer"),
        (line(hopper, stolen), "grant.not_yours"),
        (line(collins, altered), "statement.altered"),
        (line(hopper, second), None),
        (line(collins, first), "grant.replayed"),
        (line(collins, collins.signed(collins.preview()), silently=True), "import.line"),
        (line(collins, {**first, "owner": unknown("person")}), "grant.not_yours"),
    ]
    sent = "\n".join(one if isinstance(one, str) else json.dumps(one) for one, _ in lines)
    with collins.nothing_happens():
        assert reason_of(collins.web.post("/v1/grants/import", content=sent), 401) == "access.key"
        for name in ("", "film club", "press council"):
            with live.client(name) as client:
                assert reason_of(client.post("/v1/grants/import", content=sent), 401) == "access.key"
    with live.client(OPERATOR) as operator:
        outcomes = operator.post("/v1/grants/import", content=sent).json()["outcomes"]
        refused = [one["refused"]["id"] if "refused" in one else None for one in outcomes]
        assert refused == [expected for _, expected in lines]
        with collins.nothing_happens():
            again = operator.post("/v1/grants/import", content=sent).json()["outcomes"]
            assert all("refused" in one for one in again)
            too_many = operator.post("/v1/grants/import", content="\n".join(["{}"] * 20_001))
            assert reason_of(too_many, 413) == "request.lines"
    # What was brought in counts, and the owner takes it back like any other.
    grant_id = first["grant"]["grant_id"]
    assert {one["grant_id"]: one["live"] for one in collins.web.get("/v1/grants").json()["grants"]}[grant_id]
    for owner, signed in ((collins, first), (hopper, second)):
        assert owner.web.post(f"/v1/grants/{signed['grant']['grant_id']}/revoke").status_code == 200


@pytest.mark.parametrize("born_on", [None, "2015-06-01"])
def test_a_minor_or_someone_of_unknown_age_grants_nothing_alone(live: Site, born_on: str | None) -> None:
    child = live.enrol(collins_picture(), born_on=born_on)
    signed = child.signed(child.preview())
    with child.nothing_happens():
        assert reason_of(child.web.post("/v1/grants", json=signed), 403) == "grant.minor"
    with live.client("film club") as app:
        assert app.post("/v1/videos", json=wanted(child)).status_code == 403
    child.web.close()


# Taking back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("granted", "asked", "content", "consent_now"),
    [
        ("withdraw_all", None, 403, "withdrawn"),
        ("stop_new", {}, 200, "revoked"),
        ("stop_new", {"effect": "withdraw_all"}, 403, "withdrawn"),
        ("withdraw_all", {"effect": "stop_new"}, 403, "withdrawn"),
    ],
)
def test_a_revocation_works_at_once_on_what_is_new_and_on_what_is_out(
    live: Site,
    collins: Owner,
    granted: str,
    asked: dict[str, str] | None,
    content: int,
    consent_now: str,
) -> None:
    grant_id = collins.grant("other app", revocation_effect=granted)
    with live.client("other app") as app:
        video_id = app.post("/v1/videos", json=wanted(collins)).json()["id"]
        running = ended(app, video_id)
        assert running["status"] == "completed", running
        clip = app.get(f"/v1/videos/{video_id}/content")
        assert clip.status_code == 200
        sent: dict[str, Any] = {} if asked is None else {"json": asked}
        answer = collins.web.post(f"/v1/grants/{grant_id}/revoke", **sent)
        assert answer.status_code == 200, answer.text
        refused = app.post("/v1/videos", json=wanted(collins))
        assert refused.status_code == 403
        assert app.get(f"/v1/videos/{video_id}/content").status_code == content
        part = app.get(f"/v1/videos/{video_id}/content", headers={"range": "bytes=0-9"})
        assert part.status_code == {200: 206}.get(content, content)
        # The video itself is still the app's to see and delete.
        assert app.get(f"/v1/videos/{video_id}").json()["status"] == "completed"
    again = collins.web.post(f"/v1/grants/{grant_id}/revoke")
    assert again.json() == answer.json()
    with live.client() as web:
        assert web.get(f"/v1/clips/{video_id}").json()["consent_now"] == consent_now
        verdict = web.post("/v1/verify", content=clip.content).json()
        assert (verdict["released"], verdict["consent_then"]) == (True, True)
        assert verdict["consent_now"] == consent_now
    listed = {grant["grant_id"]: grant for grant in collins.web.get("/v1/grants").json()["grants"]}
    assert listed[grant_id]["live"] is False
    assert listed[grant_id]["revoked_at"]


def test_a_revocation_while_the_clip_is_made_wins(live: Site, collins: Owner) -> None:
    grant_id = collins.grant("other app")
    with live.client("other app") as app:
        video_id = app.post("/v1/videos", json=wanted(collins)).json()["id"]
        assert collins.web.post(f"/v1/grants/{grant_id}/revoke").status_code == 200
        video = ended(app, video_id)
        assert video["status"] == "failed"
        assert "revoked" in video["error"]["code"]
        assert app.get(f"/v1/videos/{video_id}/content").status_code == 404
    assert collins.used()[grant_id] == 0
    kinds = [body["kind"] for body in live.audit(collins.cameo_id) if body.get("video_id") == video_id]
    assert kinds == ["decision", "returned"]


def test_only_ones_own_grant_can_be_revoked_and_only_in_known_ways(
    live: Site, collins: Owner, hopper: Owner
) -> None:
    grant_id = next(iter(collins.used()))
    with collins.nothing_happens():
        for other in (grant_id, unknown("grant"), "grant_1", "x" * 10_000):
            assert reason_of(hopper.web.post(f"/v1/grants/{other}/revoke"), 404) == "grant.unknown"
        wrong: list[Any] = [{"effect": "all"}, {"effect": "stop_new", "silently": True}, [], "x", 7]
        for body in wrong:
            reason_of(collins.web.post(f"/v1/grants/{grant_id}/revoke", json=body), 400)


# Watching ---------------------------------------------------------------------------------------------------


def test_the_owners_list_is_proven_to_be_whole(live: Site, collins: Owner, hopper: Owner) -> None:
    live.audit(hopper.cameo_id)
    with live.client("third app") as third:
        third.post("/v1/videos", json=wanted(hopper))
    mine = hopper.web.get(f"/v1/cameos/{hopper.cameo_id}/uses").json()
    bundle = hopper.web.get(f"/v1/cameos/{hopper.cameo_id}/uses?proof=true").json()
    with live.client() as web:
        trusted = Policy.alone(VerifierKey.parse(web.get("/v1/log/keys").json()["vkey"]))
    whole = completeness.verify(bundle, trusted)
    # The plain list and the proven one are the same.
    assert [(item["index"], item["body"]) for item in mine["entries"]] == list(whole.records)
    bodies = [body for _, body in whole.records]
    kinds = [body["kind"] for body in bodies]
    assert [item["kind"] for item in mine["entries"]] == kinds
    assert kinds[0] == "enrolment"
    assert "audit" in kinds  # who asks about me is told to me
    refusal = next(body for body in bodies if body["kind"] == "decision")
    assert refusal["allowed"] is False
    assert refusal["app_id"] == live.holder("third app")
    assert collins.person_id not in json.dumps(bundle)

    for spoil in SPOILS:
        spoilt = copy.deepcopy(bundle)
        spoil(spoilt, kinds.index("decision"))
        assert spoilt != bundle
        with pytest.raises(LedgerError):
            completeness.verify(spoilt, trusted)


SPOILS: list[Callable[[dict[str, Any], int], Any]] = [
    lambda whole, n: whole["records"].pop(n),
    lambda whole, n: whole["records"].pop(),
    lambda whole, n: whole.update(records=[]),
    lambda whole, n: whole["records"].append(whole["records"][n]),
    lambda whole, n: whole["records"].reverse(),
    lambda whole, n: whole["records"][n]["body"].update(allowed=True),
    lambda whole, n: whole["records"][n]["body"].update(app_id="app_other"),
    lambda whole, n: whole["records"][n].update(index=whole["records"][n]["index"] + 1),
    lambda whole, n: whole["records"][n].update(role="requester"),
    lambda whole, n: whole["records"][n].update(commitments=whole["records"][n]["commitments"][:-1]),
    lambda whole, n: whole["records"][n].update(leaf=whole["records"][n]["leaf"][:-4] + "AAA="),
    lambda whole, n: whole["records"][n].update(path=whole["records"][n]["path"][:-1]),
    lambda whole, n: whole["records"][n].pop("leaf"),
    lambda whole, n: whole.update(cameo_id=unknown("cameo")),
    lambda whole, n: whole.update(absent=whole["records"][n]["map"]),
]


def test_the_owners_second_list_is_proven_to_extend_the_first(live: Site, hopper: Owner) -> None:
    address = f"/v1/cameos/{hopper.cameo_id}/uses?proof=true"
    with live.client() as web:
        trusted = Policy.alone(VerifierKey.parse(web.get("/v1/log/keys").json()["vkey"]))
    first = completeness.verify(hopper.web.get(address).json(), trusted).seen
    live.audit(hopper.cameo_id)
    later = hopper.web.get(f"{address}&since={first.size}").json()
    second = completeness.verify(later, trusted, first)
    assert (second.extends, second.seen.count) == (first.size, first.count + 1)
    # A list that does not say how the log grew is no answer to someone who was here before.
    with pytest.raises(LedgerError, match="nothing shows that the log extends"):
        completeness.verify(hopper.web.get(address).json(), trusted, first)
    for since in (-1, 0, second.seen.size + 1, 10**30):
        assert hopper.web.get(f"{address}&since={since}").json()["extends"] is None
    assert reason_of(hopper.web.get(f"{address}&since=yesterday"), 400)


def test_another_persons_list_does_not_exist(collins: Owner, hopper: Owner) -> None:
    for cameo_id in (collins.cameo_id, unknown("cameo"), "cameo_1", "x" * 10_000):
        assert reason_of(hopper.web.get(f"/v1/cameos/{cameo_id}/uses"), 404) == "cameo.unknown"
        assert reason_of(hopper.web.get(f"/v1/cameos/{cameo_id}/uses?proof=true"), 404) == "cameo.unknown"


# Enrolment --------------------------------------------------------------------------------------------------


def test_a_short_video_of_the_person_enrols_them(live: Site, tmp_path: Path) -> None:
    seen = live.vouch(
        video_of(pixels(collins_picture()), tmp_path / "seen.mp4"), device=Ed25519PrivateKey.generate()
    )
    assert seen.status_code == 201, seen.text
    assert seen.json().keys() == {"person_id", "cameo_id", "status", "path"}


def test_only_a_known_operators_signature_enrols(live: Site, collins: Owner) -> None:
    picture, now = collins_picture(), datetime.now(UTC)

    def vouch(**changes: Any) -> httpx.Response:
        return live.vouch(picture, **{"device": Ed25519PrivateKey.generate(), **changes})

    with collins.nothing_happens():
        wrong = Ed25519PrivateKey.generate()
        assert reason_of(vouch(signer=wrong), 403) == "statement.wrong_signer"
        assert reason_of(vouch(operator="mallory"), 400) == "enrolment.unknown_operator"
        assert reason_of(vouch(issued=zulu(now - timedelta(hours=25))), 400) == "enrolment.clock"
        assert reason_of(vouch(issued=zulu(now + timedelta(minutes=10))), 400) == "enrolment.clock"
        assert reason_of(vouch(portrait_sha256="0" * 64), 400) == "enrolment.other_picture"
        assert reason_of(vouch(device=collins.device), 400) == "enrolment.device_taken"
        for changes in (
            {"born_on": "yesterday"},
            {"born_on": 7},
            {"display_name": ""},
            {"display_name": "x" * 10_000},
            {"device_key": "x" * 10_000},
            {"device_key": "A" * 42},
            {"path": "remote"},
            {"schema": "countersign/enrolment/v2"},
            {"liveness": "passed"},
            {"issued": "now"},
        ):
            reason_of(vouch(**changes), 400)
        with live.client("film club") as app:
            assert reason_of(app.post("/v1/cameos/vouched", data={"statement": "{}"}), 401) == "access.key"


def test_a_statement_altered_after_signing_enrols_nobody(live: Site, collins: Owner) -> None:
    picture = collins_picture()
    statement = {
        "schema": "countersign/enrolment/v1",
        "path": "vouched",
        "operator": OPERATOR,
        "display_name": "Eileen Collins",
        "device_key": encode_key(Ed25519PrivateKey.generate().public_key()),
        "born_on": None,
        "portrait_sha256": sha256(picture).hexdigest(),
        "issued": zulu(datetime.now(UTC)),
    }
    evidence = sign(ENROLMENT_TAG, canonical(statement), live.operator).model_dump_json()
    older = json.dumps(statement | {"born_on": "1956-11-19"})
    files = {"picture": ("portrait", picture)}
    with live.client(OPERATOR) as web, collins.nothing_happens():
        sent = {"statement": older, "evidence": evidence}
        assert reason_of(web.post("/v1/cameos/vouched", data=sent, files=files), 403) == "statement.altered"
        for sent in (
            {},
            {"statement": older},
            {"evidence": evidence},
            {"statement": "{", "evidence": evidence},
            {"statement": "[" * 100_000, "evidence": evidence},
            {"statement": older, "evidence": "null"},
            {"statement": older, "evidence": "{}"},
        ):
            reason_of(web.post("/v1/cameos/vouched", data=sent, files=files), 400)
        good = {"statement": json.dumps(statement), "evidence": evidence}
        reason_of(web.post("/v1/cameos/vouched", data=good), 400)
        reason_of(web.post("/v1/cameos/vouched", data=good | {"picture": "a face"}), 400)
        reason_of(web.post("/v1/cameos/vouched", json=good), 400)
        reason_of(
            web.post("/v1/cameos/vouched", content=b"\xff", headers={"content-type": "text/plain"}), 400
        )


def test_a_picture_that_does_not_show_one_person_well_enrols_nobody(
    live: Site, collins: Owner, tmp_path: Path
) -> None:
    face = pixels(collins_picture())
    video = video_of(face, tmp_path / "whole.mp4")
    both = np.hstack([face, pixels(hopper_picture())[:512, :512]])
    pictures = {
        "no bytes": (b"", 400),
        "no face": (nobodys_picture(), 400),
        "two faces": (as_file(both, "PNG"), 400),
        "a tiny face": (as_file(face[::8, ::8], "PNG"), 400),
        "half a picture": (collins_picture()[:100_000], 400),
        "half a video": (video[: len(video) // 2], 400),
        "a codec we do not read": (video_of(face, tmp_path / "old.mp4", codec="mpeg2video"), 400),
        "a container we do not read": (video_of(face, tmp_path / "old.avi", codec="mpeg4"), 400),
        "text": (b"a face\n" * 100, 400),
        "a playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 400),
        "over the limit": (b"\x00" * ((UPLOAD_MB << 20) + 1), 413),
    }
    with collins.nothing_happens():
        for name, (picture, status) in pictures.items():
            answer = live.vouch(picture, device=Ed25519PrivateKey.generate())
            assert answer.status_code == status, (name, answer.text)
            reason_of(answer, status)
    assert list(live.temporary.iterdir()) == []


# Time -------------------------------------------------------------------------------------------------------


def test_challenges_sessions_and_grants_end_with_their_time(launcher: Launcher, tmp_path: Path) -> None:
    site = Site(launcher, tmp_path / "home", apps=("film club",))
    site.start()
    owner = site.enrol(collins_picture())
    grant_id = owner.grant(days=1)
    nonce = owner.nonce()
    site.stop()

    site.start(ahead_s=301)
    assert reason_of(owner.sign_in(nonce=nonce), 401) == "session.refused"
    assert owner.web.get("/v1/grants").status_code == 200
    site.stop()

    site.start(ahead_s=12 * 3600 + 1)
    owner.web.cookies.update(dict(owner.web.cookies))
    assert reason_of(owner.web.get("/v1/grants"), 401) == "access.session"
    with site.client("film club") as app:
        answer = app.post("/v1/videos", json=wanted(owner))
        assert answer.status_code == 200
        app.delete(f"/v1/videos/{answer.json()['id']}")
    site.stop()

    site.env["BASE_URL"] = "https://consent.example"
    site.start(ahead_s=86_401)
    answer = owner.sign_in()
    assert "secure" in answer.headers["set-cookie"].lower()
    owner.web.headers["cookie"] = answer.headers["set-cookie"].partition(";")[0]
    listed = {grant["grant_id"]: grant for grant in owner.web.get("/v1/grants").json()["grants"]}
    assert listed[grant_id]["live"] is False
    with site.client("film club") as app:
        answer = app.post("/v1/videos", json=wanted(owner))
        assert answer.status_code == 403
        assert "expired" in answer.text
    owner.web.close()
    site.stop()
