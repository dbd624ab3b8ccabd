"""Guardians, wards, estates, circles and permissions passed on, over HTTP, as those concerned do it."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.canonical import canonical
from ledger.consent.statement import GRANT_TAG, GUARDIANSHIP_TAG, HANDOVER_TAG, encode_key, sign
from live import (
    OPERATOR,
    PATIENCE_S,
    UNHURRIED,
    Launcher,
    Owner,
    Site,
    collins_picture,
    ended,
    hopper_picture,
    unknown,
    wanted,
)
from test_owners_api import reason_of

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

AGENT = Ed25519PrivateKey.generate()
OTHER_AGENT = Ed25519PrivateKey.generate()
DEATH_CERTIFICATE = b"%PDF-1.7 a certificate that nobody else should read"
FOR_A_MINOR: dict[str, Any] = {"approval": "before_release", "max_uses": 2, "days": 30}


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    keys = {name: encode_key(key.public_key()) for name, key in (("agent", AGENT), ("rival", OTHER_AGENT))}
    site = Site(launcher, tmp_path_factory.mktemp("family") / "home", app_keys=keys)
    site.start()
    yield site
    site.stop()


_PEOPLE: list[Owner] = []


@pytest.fixture(autouse=True)
def _everyone_leaves() -> Iterator[None]:
    yield
    while _PEOPLE:
        _PEOPLE.pop().web.close()


def person(site: Site, name: str, born_on: str | None, picture: bytes | None = None) -> Owner:
    _PEOPLE.append(site.enrol(picture or hopper_picture(), display_name=name, born_on=born_on))
    return _PEOPLE[-1]


def child(site: Site) -> Owner:
    return person(site, "Kim", "2012-05-01", collins_picture())


def adult(site: Site, name: str = "Robin") -> Owner:
    return person(site, name, "1980-01-01")


def invitation(ward: Owner) -> str:
    answer = ward.web.post("/v1/guardians/invitations")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def asks(guardian: Owner, **draft: Any) -> httpx.Response:
    """Preview what to sign as a guardian."""
    return guardian.web.post("/v1/guardians/preview", json={"relation": "parent", "max_uses": 3, **draft})


def signs(
    guardian: Owner, preview: dict[str, Any], token: str | None, key: Ed25519PrivateKey | None = None
) -> httpx.Response:
    evidence = sign(GUARDIANSHIP_TAG, preview["canonical"].encode(), key or guardian.device)
    body = {"guardianship": preview["guardianship"], "evidence": evidence.model_dump()}
    return guardian.web.post("/v1/guardians", json={**body, **({"token": token} if token else {})})


def decides(site: Site, review_id: str, decision: str = "accept") -> httpx.Response:
    with site.client(OPERATOR) as web:
        return web.post(
            f"/v1/reviews/{review_id}", json={"decision": decision, "note": "birth certificate seen"}
        )


def guard(site: Site, ward: Owner, guardian: Owner, **draft: Any) -> None:
    """The whole way to being a guardian."""
    token = invitation(ward)
    answer = signs(guardian, asks(guardian, token=token, **draft).json(), token)
    assert answer.status_code == 202, answer.text
    assert decides(site, answer.json()["review_id"]).json()["status"] == "accepted"


def asked(ward: Owner, **draft: Any) -> str:
    """A grant the ward signed, which waits for a guardian."""
    answer = ward.web.post("/v1/grants", json=ward.signed(ward.preview(**{**FOR_A_MINOR, **draft})))
    assert answer.status_code == 202, answer.text
    assert answer.json()["pending"] is True
    return str(answer.json()["grant_id"])


def waiting(guardian: Owner) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = guardian.web.get("/v1/wards/pending").json()["pending"]
    return found


def cosigns(
    guardian: Owner, grant_id: str, signed: str | None = None, key: Ed25519PrivateKey | None = None
) -> httpx.Response:
    text = signed or next((one["canonical"] for one in waiting(guardian) if one["grant_id"] == grant_id), "x")
    evidence = sign(GRANT_TAG, text.encode(), key or guardian.device)
    return guardian.web.post(f"/v1/wards/pending/{grant_id}", json={"evidence": evidence.model_dump()})


def grants(web: httpx.Client, owner: Owner | None = None) -> dict[str, dict[str, Any]]:
    answer = web.get("/v1/grants", params={"for": owner.person_id} if owner else {})
    assert answer.status_code == 200, answer.text
    return {one["grant_id"]: one for one in answer.json()["grants"]}


def reasons(site: Site, app: str, *people: Owner) -> set[str]:
    """Why a video of these people would be refused; none, if it would be made."""
    with site.client(app) as web:
        answer = web.post("/v1/videos/precheck", json=wanted(*people))
    assert answer.status_code == 200, answer.text
    return {one["id"] for one in answer.json()["reasons"]}


# Guardians --------------------------------------------------------------------------------------------------


def test_a_minor_and_a_guardian_sign_the_same_bytes(site: Site) -> None:
    ward, parent = child(site), adult(site)
    token = invitation(ward)
    told = parent.web.get(f"/v1/guardians/invitations/{token}").json()
    assert told["ward"] == {"person_id": ward.person_id, "name": "Kim"}
    preview = asks(parent, token=token).json()
    assert "Kim" in preview["sentence"]
    assert "3 videos" in preview["sentence"]
    answer = signs(parent, preview, token)
    assert (answer.status_code, answer.json()["status"]) == (202, "pending_review")
    # Signed, and nobody's guardian yet.
    assert (
        reason_of(parent.web.get("/v1/grants", params={"for": ward.person_id}), 403) == "access.not_for_them"
    )
    with site.client(OPERATOR) as web:
        (review,) = [
            one
            for one in web.get("/v1/reviews").json()["reviews"]
            if one["ward"]["person_id"] == ward.person_id
        ]
    assert (review["guardian"]["name"], review["ward_born_on"]) == ("Robin", "2012-05-01")
    assert decides(site, review["review_id"]).json()["status"] == "accepted"
    assert reason_of(decides(site, review["review_id"]), 404) == "review.unknown"

    assert ward.preview(**FOR_A_MINOR)["needs_guardian"] is True
    grant_id = asked(ward)
    assert grants(ward.web) == {}
    (shown,) = waiting(parent)
    assert (shown["person_id"], shown["grant_id"]) == (ward.person_id, grant_id)
    assert cosigns(parent, grant_id).status_code == 201
    assert waiting(parent) == []
    assert grants(parent.web, ward)[grant_id]["live"] is True
    recorded = {one["kind"]: one for one in site.audit(ward.cameo_id)}
    assert [one["guardian"] for one in recorded["grant"]["cosignatures"]] == [parent.person_id]
    assert recorded["guardian"]["vouched"] == {
        "operator": OPERATOR,
        "note": "birth certificate seen",
        "review": review["review_id"],
    }
    assert reasons(site, "film club", ward) == set()
    # A guardian sees what is recorded of their ward; nobody else does.
    assert [one["person_id"] for one in parent.web.get("/v1/me").json()["wards"]] == [ward.person_id]


@pytest.mark.parametrize("born_on", ["2012-05-01", None])
def test_nobody_under_age_or_of_unknown_age_signs_alone(site: Site, born_on: str | None) -> None:
    ward = person(site, "Kim", born_on, collins_picture())
    assert ward.preview(**FOR_A_MINOR)["needs_guardian"] is True
    answer = ward.web.post("/v1/grants", json=ward.signed(ward.preview(**FOR_A_MINOR)))
    assert reason_of(answer, 403) == "grant.minor"


def test_what_no_guardian_may_sign_is_refused_before_it_is_asked(site: Site) -> None:
    ward, parent = child(site), adult(site)
    guard(site, ward, parent, max_uses=3)
    for draft in (
        {"max_uses": 4},
        {"approval": "none"},
        {"audience": "everyone"},
        {"allowed_contexts": ["romantic"]},
        {"grantee": {"type": "everyone", "id": "*"}},
        {"days": 400},
    ):
        answer = ward.web.post("/v1/grants", json=ward.signed(ward.preview(**{**FOR_A_MINOR, **draft})))
        assert reason_of(answer, 400) == "grant.minor_limits", draft
    assert waiting(parent) == []


def test_only_an_adult_whose_age_is_known_becomes_a_guardian(site: Site) -> None:
    ward = child(site)
    token = invitation(ward)
    for born_on in ("2011-01-01", None):
        assert reason_of(asks(person(site, "Alex", born_on), token=token), 403) == "guardian.age"
    assert reason_of(asks(ward, token=token), 400) == "guardianship.malformed"
    assert reason_of(adult(site).web.post("/v1/guardians/invitations"), 403) == "guardian.of_age"


def test_an_invitation_is_for_one_ward_and_for_one_guardian(site: Site) -> None:
    ward, other, parent, second = child(site), child(site), adult(site), adult(site, "Sam")
    token, others = invitation(ward), invitation(other)
    preview = asks(parent, token=token).json()
    assert reason_of(signs(parent, preview, others), 404) == "guardian.invitation"
    assert reason_of(signs(parent, preview, None), 404) == "guardian.invitation"
    assert reason_of(signs(second, preview, token), 403) == "guardian.not_you"
    assert reason_of(signs(parent, preview, token, second.device), 403) == "statement.wrong_signer"
    wider = {**preview, "guardianship": {**preview["guardianship"], "max_uses": 9}}
    assert reason_of(signs(parent, wider, token), 403) == "statement.altered"
    old = {**preview["guardianship"], "issued": "2026-01-01T00:00:00Z"}
    stale = {"guardianship": old, "canonical": canonical(old).decode()}
    assert reason_of(signs(parent, stale, token), 400) == "guardianship.stale"
    assert signs(parent, preview, token).status_code == 202
    assert reason_of(signs(parent, preview, token), 404) == "guardian.invitation"
    assert reason_of(second.web.get(f"/v1/guardians/invitations/{token}"), 404) == "guardian.invitation"
    with site.client() as nobody:
        assert reason_of(nobody.get(f"/v1/guardians/invitations/{others}"), 401) == "access.session"


def test_only_an_operator_makes_a_guardian(site: Site) -> None:
    ward, stranger = child(site), adult(site, "Mallory")
    token = invitation(ward)
    review = signs(stranger, asks(stranger, token=token).json(), token).json()["review_id"]
    accept = {"decision": "accept", "note": "trust me"}
    assert reason_of(stranger.web.post(f"/v1/reviews/{review}", json=accept), 401) == "access.key"
    with site.client("film club") as app:
        assert reason_of(app.get("/v1/reviews"), 401) == "access.key"
    assert decides(site, review, "refuse").json()["status"] == "refused"
    answer = ward.web.post("/v1/grants", json=ward.signed(ward.preview(**FOR_A_MINOR)))
    assert reason_of(answer, 403) == "grant.minor"
    assert waiting(stranger) == []
    evidence = sign(GRANT_TAG, b"x", stranger.device).model_dump()
    for grant_id in (unknown("grant"), "x"):
        answer = stranger.web.post(f"/v1/wards/pending/{grant_id}", json={"evidence": evidence})
        assert reason_of(answer, 404) == "guardian.nothing_waits"


def test_a_cosignature_is_the_guardians_own_over_what_the_ward_signed(site: Site) -> None:
    ward, parent, stranger = child(site), adult(site), adult(site, "Mallory")
    guard(site, ward, parent)
    grant_id = asked(ward)
    (shown,) = waiting(parent)
    more = canonical({**shown["grant"], "max_uses": 3}).decode()
    assert reason_of(cosigns(parent, grant_id, more), 403) == "statement.altered"
    assert reason_of(cosigns(parent, grant_id, key=ward.device), 403) == "statement.wrong_signer"
    assert reason_of(cosigns(stranger, grant_id, shown["canonical"]), 404) == "guardian.nothing_waits"
    assert cosigns(parent, grant_id).status_code == 201
    assert reason_of(cosigns(parent, grant_id, shown["canonical"]), 404) == "guardian.nothing_waits"
    declined = asked(ward)
    assert parent.web.delete(f"/v1/wards/pending/{declined}").status_code == 204
    assert waiting(parent) == []
    # A guardian signs with the ward, never in their stead.
    alone = parent.web.post(
        "/v1/grants/preview",
        params={"for": ward.person_id},
        json={"cameo_id": ward.cameo_id, "grantee": {"type": "app", "id": site.holder("film club")}},
    )
    assert reason_of(alone, 403) == "access.not_for_them"


def test_a_guardian_narrows_at_once_and_widens_by_signing(site: Site) -> None:
    ward, parent = child(site), adult(site)
    guard(site, ward, parent, max_uses=3, with_adults=True)
    limits = f"/v1/wards/{ward.person_id}/limits"
    wider = parent.web.post(limits, json={"max_uses": 4, "with_adults": True})
    assert reason_of(wider, 403) == "guardian.wider"
    assert parent.web.post(limits, json={"max_uses": 1, "with_adults": False}).status_code == 200
    back = parent.web.post(limits, json={"max_uses": 1, "with_adults": True})
    assert reason_of(back, 403) == "guardian.wider"
    two = ward.signed(ward.preview(**FOR_A_MINOR))
    assert reason_of(ward.web.post("/v1/grants", json=two), 400) == "grant.minor_limits"
    preview = asks(parent, ward=ward.person_id, max_uses=5).json()
    assert signs(parent, preview, None).json()["status"] == "standing"
    assert ward.web.post("/v1/grants", json=two).status_code == 202
    said = [one for one in site.audit(ward.cameo_id) if one["kind"] == "guardian"]
    assert [one["guardianship"]["max_uses"] for one in said] == [3, 1, 5]
    # What was signed stays beside what only narrows it.
    assert said[1]["narrows"] == said[0]["guardianship"]
    stranger = adult(site, "Mallory")
    answer = stranger.web.post(limits, json={"max_uses": 1, "with_adults": False})
    assert reason_of(answer, 404) == "guardian.unknown"
    assert reason_of(asks(stranger, ward=ward.person_id), 404) == "guardian.unknown"


def test_a_guardian_changes_their_limits_and_leaves_on_the_page(site: Site) -> None:
    ward, parent, stranger = child(site), adult(site), adult(site, "Mallory")
    guard(site, ward, parent, max_uses=3, with_adults=True)

    def sends(who: Owner, path: str, **fields: str) -> tuple[int, str]:
        answer = who.web.post(f"/me/family/{path}", data=fields)
        return answer.status_code, answer.headers.get("location") or unescape(answer.text)

    def limits() -> list[tuple[int, bool]]:
        said = [one["guardianship"] for one in site.audit(ward.cameo_id) if one["kind"] == "guardian"]
        return [(one["max_uses"], one["with_adults"]) for one in said]

    assert ward.person_id in parent.web.get("/me/family").text
    assert sends(parent, "limits", ward=ward.person_id, max_uses="1") == (303, "/me/family?done=limits")
    assert limits() == [(3, True), (1, False)]
    status, page = sends(parent, "limits", ward=ward.person_id, max_uses="5")
    assert (status, limits()) == (200, [(3, True), (1, False)]), "more counted before it was signed"
    assert (
        f'"max_uses":5,"relation":"parent","schema":"countersign/guardianship/v1","ward":"{ward.person_id}"'
        in page
    )
    assert sends(stranger, "limits", ward=ward.person_id, max_uses="1")[0] == 404
    assert sends(stranger, "leave", person_id=ward.person_id)[0] == 404
    assert sends(parent, "leave", person_id=ward.person_id) == (303, "/me/family?done=left")
    assert ward.web.get("/v1/me").json()["guardians"] == []


@pytest.mark.parametrize("with_adults", [False, True])
def test_a_minor_is_shown_with_adults_only_as_far_as_the_guardian_says(site: Site, with_adults: bool) -> None:
    ward, parent, other = child(site), adult(site), adult(site, "Sam")
    guard(site, ward, parent, with_adults=with_adults)
    assert cosigns(parent, asked(ward)).status_code == 201
    other.grant(max_uses=5)
    assert reasons(site, "film club", ward) == set()
    refused = reasons(site, "film club", ward, other)
    assert bool(refused) is not with_adults
    assert all(one.startswith("minors.") for one in refused), refused


def test_a_guardian_who_left_has_no_say_and_a_minor_cannot_send_them_away(site: Site) -> None:
    ward, parent, second = child(site), adult(site), adult(site, "Sam")
    for one in (parent, second):
        guard(site, ward, one)
    grant_id = asked(ward)
    assert reason_of(ward.web.delete(f"/v1/guardians/{parent.person_id}"), 403) == "guardian.minor"
    assert reason_of(second.web.delete(f"/v1/guardians/{parent.person_id}"), 404) == "guardian.unknown"
    text = waiting(parent)[0]["canonical"]
    assert parent.web.delete(f"/v1/guardians/{ward.person_id}").status_code == 200
    assert (
        reason_of(parent.web.get("/v1/grants", params={"for": ward.person_id}), 403) == "access.not_for_them"
    )
    assert reason_of(cosigns(parent, grant_id, text), 404) == "guardian.nothing_waits"
    assert reason_of(parent.web.delete(f"/v1/guardians/{ward.person_id}"), 404) == "guardian.unknown"
    pair = {"ward": ward.person_id, "guardian": second.person_id}
    assert reason_of(ward.web.post("/v1/guardians/end", json=pair), 401) == "access.key"
    with site.client(OPERATOR) as web:
        assert web.post("/v1/guardians/end", json=pair).status_code == 200
    assert waiting(second) == []
    answer = ward.web.post("/v1/grants", json=ward.signed(ward.preview(**FOR_A_MINOR)))
    assert reason_of(answer, 403) == "grant.minor"


def test_whoever_loses_a_ward_by_erasure_goes_on(site: Site) -> None:
    ward, parent = child(site), adult(site)
    guard(site, ward, parent)
    asked(ward)
    erased = ward.web.post(f"/v1/cameos/{ward.cameo_id}/erase", json={"confirm": ward.cameo_id})
    assert erased.status_code == 200, erased.text
    assert waiting(parent) == []
    assert parent.web.get("/v1/me").json()["wards"] == []


def test_at_18_the_likeness_rests_until_its_owner_takes_it_over(
    launcher: Launcher, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = Site(launcher, tmp_path_factory.mktemp("of-age") / "home")
    site.start()
    today = datetime.now(UTC).date()
    birthday = date(today.year - 18, today.month, min(today.day, 28)) + timedelta(
        days=2 + today.day // 29 * 3
    )
    ward = person(site, "Kim", birthday.isoformat(), collins_picture())
    parent = adult(site)
    guard(site, ward, parent)
    grant_id = asked(ward, days=1)
    assert cosigns(parent, grant_id).status_code == 201
    assert reason_of(ward.web.post("/v1/handover/preview"), 403) == "handover.minor"
    site.stop()

    site.start(ahead_s=8 * 86_400)
    for one in (ward, parent):
        assert one.sign_in().status_code == 201
    assert grants(ward.web)[grant_id]["live"] is False
    assert (
        reason_of(parent.web.get("/v1/grants", params={"for": ward.person_id}), 403) == "access.not_for_them"
    )
    assert parent.web.get("/v1/me").json()["wards"] == []
    # Of age, and not taken over: the likeness rests, whatever is signed.
    ward.grant()
    assert reasons(site, "film club", ward) != set()
    preview = ward.web.post("/v1/handover/preview").json()
    body = {
        "statement": preview["statement"],
        "evidence": sign(HANDOVER_TAG, preview["canonical"].encode(), parent.device).model_dump(),
    }
    assert reason_of(ward.web.post("/v1/handover", json=body), 403) == "statement.wrong_signer"
    body["evidence"] = sign(HANDOVER_TAG, preview["canonical"].encode(), ward.device).model_dump()
    assert ward.web.post("/v1/handover", json=body).status_code == 201
    assert reason_of(ward.web.post("/v1/handover", json=body), 400) == "handover.nothing"
    assert reasons(site, "film club", ward) == set()
    assert ward.web.delete(f"/v1/guardians/{parent.person_id}").status_code == 200
    kinds = [one["kind"] for one in site.audit(ward.cameo_id)]
    assert "handover" in kinds
    site.stop()


# Estates ----------------------------------------------------------------------------------------------------


def estate(site: Site, late: str, executor: str, **changes: Any) -> httpx.Response:
    data = {"person_id": late, "executor": executor, "note": "death certificate and will seen", **changes}
    with site.client(OPERATOR) as web:
        return web.post("/v1/estates", data=data, files={"evidence": ("certificate.pdf", DEATH_CERTIFICATE)})


def test_an_executor_permits_and_takes_back_for_somebody_who_has_died(site: Site) -> None:
    late, heir, stranger = person(site, "Grace", "1906-12-09"), adult(site), adult(site, "Mallory")
    before = late.grant()
    assert reason_of(late.web.get("/v1/grants", params={"for": heir.person_id}), 403) == "access.not_for_them"
    opened = estate(site, late.person_id, heir.person_id)
    assert opened.status_code == 201, opened.text
    assert reason_of(late.web.get("/v1/grants"), 401) == "access.session"
    here = {"for": late.person_id}
    assert list(grants(heir.web, late)) == [before]
    assert [one["person_id"] for one in heir.web.get("/v1/me").json()["estates"]] == [late.person_id]
    draft = {"cameo_id": late.cameo_id, "grantee": {"type": "app", "id": site.holder("other app")}}
    assert reasons(site, "other app", late) != set()
    preview = heir.web.post("/v1/grants/preview", params=here, json=draft).json()
    made = heir.web.post("/v1/grants", params=here, json=heir.signed(preview))
    assert made.status_code == 201, made.text
    assert reasons(site, "other app", late) == set()
    for grant_id in (before, made.json()["grant_id"]):
        assert heir.web.post(f"/v1/grants/{grant_id}/revoke", params=here).status_code == 200
    assert reasons(site, "other app", late) != set()
    assert reason_of(stranger.web.get("/v1/grants", params=here), 403) == "access.not_for_them"
    assert reason_of(stranger.web.post("/v1/grants", params=here, json=heir.signed(preview)), 403)
    said = next(one for one in site.audit(late.cameo_id) if one["kind"] == "estate")
    assert said["evidence_sha256"] == opened.json()["evidence_sha256"]
    assert said["vouched"]["operator"] == OPERATOR
    for path in site.home.rglob("*"):
        if path.is_file():
            assert DEATH_CERTIFICATE not in path.read_bytes(), path


def ends(site: Site, late: Owner, executor: Owner, **changes: Any) -> httpx.Response:
    said = {"person_id": late.person_id, "executor": executor.person_id, "note": "she called", **changes}
    with site.client(OPERATOR) as web:
        return web.post("/v1/estates/end", json=said)


def test_a_dead_persons_key_signs_nobody_in(site: Site) -> None:
    late, heir = person(site, "Grace", "1906-12-09"), adult(site)
    assert estate(site, late.person_id, heir.person_id).status_code == 201
    assert reason_of(late.sign_in(), 403) == "access.estate"
    # Who does not hold her key learns nothing by trying.
    assert reason_of(late.sign_in(device=heir.device), 401) == "session.refused"
    assert reason_of(late.web.get("/v1/me"), 401) == "access.session"
    assert heir.sign_in().status_code == 201


def test_a_wrong_estate_is_reversed_and_the_living_sign_in_again(site: Site) -> None:
    late, heir = person(site, "Grace", "1906-12-09"), adult(site)
    here = {"for": late.person_id}
    opened = estate(site, late.person_id, heir.person_id).json()
    assert reason_of(ends(site, late, late), 404) == "estate.none"
    assert reason_of(ends(site, heir, late), 404) == "estate.none"
    assert reason_of(ends(site, late, heir, person_id=unknown("person")), 404) == "estate.none"
    assert reason_of(ends(site, late, heir, note=""), 400)
    said = {"person_id": late.person_id, "executor": heir.person_id, "note": "she called"}
    assert reason_of(heir.web.post("/v1/estates/end", json=said), 401) == "access.key"
    assert reason_of(late.sign_in(), 403) == "access.estate"
    assert ends(site, late, heir).status_code == 200
    assert late.sign_in().status_code == 201
    assert late.grant()
    assert reason_of(heir.web.get("/v1/grants", params=here), 403) == "access.not_for_them"
    assert heir.web.get("/v1/me").json()["estates"] == []
    first, last = (one for one in site.audit(late.cameo_id) if one["kind"] == "estate")
    assert (first["standing"], last["standing"], last["vouched"]["note"]) == (True, False, "she called")
    assert last["evidence_sha256"] == opened["evidence_sha256"]
    assert reason_of(ends(site, late, heir), 404) == "estate.none"


def test_an_estate_needs_an_operator_an_adult_and_evidence(site: Site) -> None:
    late, heir = person(site, "Grace", "1906-12-09"), adult(site)
    young = person(site, "Alex", "2011-01-01")
    assert reason_of(estate(site, late.person_id, young.person_id), 400) == "estate.age"
    assert reason_of(estate(site, late.person_id, late.person_id), 400) == "estate.unknown"
    assert reason_of(estate(site, late.person_id, unknown("person")), 400) == "estate.unknown"
    assert reason_of(estate(site, late.person_id, heir.person_id, note=""), 400) == "request.note"
    data = {"person_id": late.person_id, "executor": heir.person_id, "note": "seen"}
    assert reason_of(heir.web.post("/v1/estates", data=data), 401) == "access.key"
    with site.client(OPERATOR) as web:
        assert reason_of(web.post("/v1/estates", data=data), 400) == "request.evidence"
    assert late.web.get("/v1/grants").status_code == 200


# The circle -------------------------------------------------------------------------------------------------


def test_a_circle_is_what_its_owner_last_said(site: Site) -> None:
    me, friend = adult(site), adult(site, "Sam")
    nobody: dict[str, Any] = {"members": [], "blocked": []}
    assert me.web.get("/v1/circle").json() == nobody
    for member, expected in ((True, [{"person_id": friend.person_id, "name": "Sam"}]), (False, [])):
        for _ in range(2):
            answer = me.web.post("/v1/circle/members", json={"person_id": friend.person_id, "member": member})
            assert answer.json()["members"] == expected
    for target, kind, name in (
        (friend.person_id, "person", "Sam"),
        (site.holder("other app"), "app", "other app"),
    ):
        answer = me.web.post("/v1/circle/blocks", json={"target": target, "blocked": True})
        assert answer.json()["blocked"] == [{"target": target, "name": name, "type": kind}]
        answer = me.web.post("/v1/circle/blocks", json={"target": target, "blocked": False})
        assert answer.json() == nobody
    # What was said already is not said again.
    assert [one["kind"] for one in site.audit(me.cameo_id)].count("group") == 2
    for body in ({"person_id": unknown("person")}, {"person_id": me.person_id}):
        answer = me.web.post("/v1/circle/members", json={**body, "member": True})
        assert reason_of(answer, 404) == "person.unknown"
    for target in (unknown("app"), me.person_id, "x"):
        answer = me.web.post("/v1/circle/blocks", json={"target": target, "blocked": True})
        assert reason_of(answer, 404) == "block.unknown"


def test_a_block_ends_what_is_being_made_and_keeps_the_app_out(site: Site) -> None:
    me = adult(site)
    grant_id = me.grant()
    block = {"target": site.holder("film club"), "blocked": True}
    with site.client("film club") as app:
        video_id = app.post("/v1/videos", json=wanted(me, prompt=f"a portrait {UNHURRIED}")).json()["id"]
        until = time.monotonic() + PATIENCE_S
        while app.get(f"/v1/videos/{video_id}").json()["status"] == "queued" and time.monotonic() < until:
            time.sleep(0.05)
        assert me.web.post("/v1/circle/blocks", json=block).status_code == 200
        video = ended(app, video_id)
        assert (video["status"], video["error"]["code"]) == ("failed", "consent.revoked")
        assert "block" not in str(video["error"])
    assert me.used() == {grant_id: 0}
    assert reasons(site, "film club", me) != set()
    me.web.post("/v1/circle/blocks", json={**block, "blocked": False})
    assert reasons(site, "film club", me) == set()


# Passing on -------------------------------------------------------------------------------------------------


def passable(me: Owner, app: str = "agent", **draft: Any) -> str:
    return me.grant(app, may_pass_on=True, **{"max_uses": 5, **draft})


def to_pass_on(site: Site, me: Owner, parent: str, app: str = "agent", **draft: Any) -> httpx.Response:
    asked = {
        "cameo_id": me.cameo_id,
        "parent": parent,
        "grantee": {"type": "app", "id": site.holder("film club")},
        **draft,
    }
    with site.client(app) as web:
        return web.post("/v1/grants/passed-on/preview", json=asked)


def pass_on(
    site: Site, grant: dict[str, Any], key: Ed25519PrivateKey = AGENT, app: str = "agent"
) -> httpx.Response:
    evidence = sign(GRANT_TAG, canonical(grant), key).model_dump()
    with site.client(app) as web:
        return web.post("/v1/grants/passed-on", json={"grant": grant, "evidence": evidence})


def test_an_app_passes_on_a_part_which_counts_with_the_whole_and_ends_with_it(site: Site) -> None:
    me = adult(site)
    parent = passable(me)
    assert reasons(site, "film club", me) != set()
    preview = to_pass_on(site, me, parent, max_uses=2)
    assert preview.status_code == 200, preview.text
    child = preview.json()["grant"]
    assert (child["parent"], child["max_uses"], child["delegate_key"]) == (parent, 2, None)
    recorded = pass_on(site, child)
    assert recorded.status_code == 201, recorded.text
    assert reason_of(pass_on(site, child), 409) == "grant.replayed"
    assert reasons(site, "film club", me) == set()
    with site.client("film club") as app:
        video_id = app.post("/v1/videos", json=wanted(me)).json()["id"]
        assert ended(app, video_id)["status"] == "completed"
    assert me.used() == {parent: 1, child["grant_id"]: 1}
    assert {one["kind"] for one in site.audit(me.cameo_id)} >= {"grant", "decision", "release"}
    assert me.web.post(f"/v1/grants/{parent}/revoke").status_code == 200
    assert reasons(site, "film club", me) != set()
    assert reason_of(pass_on(site, {**child, "grant_id": unknown("grant")}), 403) == "grant.not_delegable"


@pytest.mark.parametrize(
    "wider",
    [
        {"max_uses": 6},
        {"audience": "everyone"},
        {"purposes": ["dpv:NonCommercialPurpose", "dpv:CommercialPurpose"]},
        {"allowed_contexts": ["romantic"]},
        {"forbidden_contexts": []},
        {"actions": ["generate", "remix"]},
        {"modalities": ["face", "voice"]},
        {"grantee": {"type": "everyone", "id": "*"}},
    ],
    ids=lambda wider: next(iter(wider)),
)
def test_what_is_passed_on_only_narrows(site: Site, wider: dict[str, Any]) -> None:
    me = adult(site)
    parent = passable(me, forbidden_contexts=["political"])
    assert reason_of(to_pass_on(site, me, parent, **wider), 400) == "grant.wider"
    narrow = to_pass_on(site, me, parent).json()["grant"]
    assert reason_of(pass_on(site, {**narrow, **wider}), 400) == "grant.wider"
    longer = {**narrow, "expires": "2030-01-01T00:00:00Z"}
    assert reason_of(pass_on(site, longer), 400) == "grant.wider"
    assert list(grants(me.web)) == [parent]


def test_only_the_app_whose_key_was_named_passes_on(site: Site) -> None:
    me, other = adult(site), adult(site, "Sam")
    parent, plain, foreign = passable(me), me.grant("agent"), passable(other)
    narrow = to_pass_on(site, me, parent).json()["grant"]
    assert reason_of(to_pass_on(site, me, parent, "rival"), 403) == "grant.not_delegable"
    assert reason_of(to_pass_on(site, me, parent, "film club"), 403) == "grant.not_delegable"
    assert reason_of(to_pass_on(site, me, plain), 403) == "grant.not_delegable"
    assert reason_of(to_pass_on(site, me, foreign), 403) == "grant.not_delegable"
    assert reason_of(to_pass_on(site, me, unknown("grant")), 403) == "grant.not_delegable"
    assert reason_of(pass_on(site, narrow, OTHER_AGENT, "rival"), 403) == "grant.not_delegable"
    assert reason_of(pass_on(site, narrow, AGENT, "rival"), 403) == "grant.not_delegable"
    assert reason_of(pass_on(site, narrow, OTHER_AGENT), 403) == "statement.wrong_signer"
    assert reason_of(pass_on(site, {**narrow, "parent": None}), 403) == "grant.not_delegable"
    # Passed on once is passed on for good.
    again = {**narrow, "delegate_key": encode_key(OTHER_AGENT.public_key())}
    assert reason_of(pass_on(site, again), 400) == "grant.malformed"
    asked = {
        "cameo_id": me.cameo_id,
        "grantee": {"type": "app", "id": site.holder("film club")},
        "may_pass_on": True,
    }
    assert reason_of(me.web.post("/v1/grants/preview", json=asked), 400) == "grant.no_app_key"
