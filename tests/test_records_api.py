"""What a person reads and keeps, over HTTP: the timeline, its pictures, receipts, notices, and the export."""

import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from command import countersign
from ledger.canonical import canonical
from ledger.consent import certificate, signed_grant
from ledger.log import completeness
from ledger.log.note import VerifierKey
from ledger.log.policy import Policy
from live import (
    PATIENCE_S,
    Clip,
    Launcher,
    Owner,
    Site,
    collins_picture,
    ended,
    hopper_picture,
    unknown,
    wanted,
)

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

DPV = frozenset(
    [
        "ConsentReceipt",
        "ConsentRecord",
        "ConsentNotice",
        "ConsentGiven",
        "ConsentWithdrawn",
        "ConsentExpired",
        "hasRecordOfActivity",
        "hasDataSubject",
        "DataSubject",
        "hasDataController",
        "DataController",
        "hasContact",
        "hasNotice",
        "hasProcess",
        "Process",
        "hasPurpose",
        "NonCommercialPurpose",
        "CommercialPurpose",
        "Advertising",
        "hasPersonalData",
        "SpecialCategoryPersonalData",
        "PersonalData",
        "hasProcessing",
        "Generate",
        "hasRecipient",
        "Recipient",
        "hasStorageCondition",
        "StorageDuration",
        "StorageDeletion",
        "hasDuration",
        "UntilEventDuration",
        "hasHumanInvolvement",
        "HumanInvolvementForDecision",
        "HumanNotInvolved",
        "hasLegalBasis",
        "ExplicitlyExpressedConsent",
        "hasJurisdiction",
        "hasConsentControl",
        "WithdrawConsent",
        "isExercisedAt",
        "hasRight",
        "ActiveRight",
        "hasConsentStatus",
        "isIndicatedBy",
    ]
)
"""The names of DPV 2.2 that a receipt may use."""
OTHERS = {
    "pd": {"FacialPrint", "Picture", "Biometric"},
    "eu-gdpr": {"A9-2-a", "A7-3"},
    "dct": {
        "identifier",
        "conformsTo",
        "created",
        "publisher",
        "description",
        "language",
        "valid",
        "title",
        "hasVersion",
        "date",
        "source",
    },
}


@pytest.fixture(scope="module")
def hopper(live: Site) -> Iterator[Owner]:
    owner = live.enrol(hopper_picture(), display_name="Grace Hopper", born_on="1906-12-09")
    yield owner
    owner.web.close()


def events(owner: Owner, **asked: Any) -> list[dict[str, Any]]:
    answer = owner.web.get("/v1/timeline", params=asked)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


# ── the timeline ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_timeline_tells_every_entry_newest_first(live: Site, collins: Owner, clip: Clip) -> None:
    told = events(collins, limit=200)
    listed = collins.web.get(f"/v1/cameos/{collins.cameo_id}/uses").json()["entries"]
    assert [one["index"] for one in told] == [one["index"] for one in listed[::-1]]
    assert [one["kind"] for one in told] == [one["kind"] for one in listed[::-1]]
    assert set(told[0]) == {
        *("index", "at", "kind", "title", "detail", "app_id", "app_name", "video_id", "prompt", "reasons"),
        *("status", "downloads", "thumbnail", "why"),
    }
    assert all(one["title"] for one in told)
    release = next(one for one in told if one["kind"] == "release" and one["video_id"] == clip.video_id)
    assert (release["status"], release["app_name"]) == ("released", "film club")
    assert release["title"] == "film club published a video with you"
    assert release["app_id"] == live.holder("film club")
    assert release["prompt"] in release["detail"]
    assert release["downloads"] >= 0
    assert release["thumbnail"] == f"/v1/timeline/{clip.video_id}/thumbnail"


def test_pages_are_the_whole_list_once(collins: Owner, clip: Clip) -> None:
    whole, found, before = events(collins, limit=200), list[dict[str, Any]](), None
    while True:
        page = collins.web.get(
            "/v1/timeline", params={"limit": 2} | ({} if before is None else {"before": before})
        ).json()
        assert 1 <= len(page["events"]) <= 2
        found += page["events"]
        before = page["next"]
        if before is None:
            break
    assert found == whole
    assert whole[-1]["kind"] == "enrolment"
    for wrong in ({"limit": 0}, {"limit": 1000}, {"before": -1}):
        assert collins.web.get("/v1/timeline", params=wrong).status_code == 400


def test_a_refusal_says_why_and_a_question_who_asked(live: Site, hopper: Owner) -> None:
    with live.client("other app") as app:
        assert app.post("/v1/videos", json=wanted(hopper)).status_code == 403
    live.audit(hopper.cameo_id)
    asked, refused = events(hopper)[:2]
    assert asked["title"] == "press council looked at what is recorded about you"
    assert (refused["kind"], refused["status"]) == ("decision", "refused")
    assert refused["title"] == "other app was refused a video with you"
    assert {"id", "reason", "remedy"} <= set(refused["reasons"][0])
    assert refused["thumbnail"] is None


def test_a_draft_waits_on_the_timeline_and_its_end_is_certified(live: Site, hopper: Owner) -> None:
    hopper.grant("third app", approval="before_release")
    with live.client("third app") as app:
        video_id = app.post("/v1/videos", json=wanted(hopper)).json()["id"]
        until = time.monotonic() + PATIENCE_S
        while (newest := events(hopper)[0])["kind"] != "draft":
            assert time.monotonic() < until, newest
            time.sleep(0.2)
        assert (newest["video_id"], newest["status"]) == (video_id, "waiting")
        picture = hopper.web.get(newest["thumbnail"])
        assert Image.open(io.BytesIO(picture.content)).format == "JPEG"
        answer = hopper.web.post(f"/v1/approvals/{video_id}", json={"decision": "refuse"})
        assert answer.status_code == 200, answer.text
    gone, *_ = told = events(hopper)
    assert (gone["kind"], gone["detail"]) == ("deletion", "A draft that was not released: 1")
    assert {one["status"] for one in told if one["video_id"] == video_id} == {"refused"}
    assert hopper.web.get(newest["thumbnail"]).status_code == 404
    made = hopper.web.get(f"/v1/deletions/{gone['index']}").json()
    vkey = VerifierKey.parse(hopper.web.get("/v1/log/keys").json()["vkey"])
    assert certificate.verify(made, Policy.alone(vkey)).body["rule"] == "drafts"
    kept = [one.name for one in (live.home / "objects").rglob("*") if one.is_file()]
    assert not {name for name in kept if made["sha256s"][0] in name}
    assert hopper.web.get(f"/v1/deletions/{newest['index']}").status_code == 404


def test_it_is_told_in_the_persons_language(hopper: Owner) -> None:
    english = events(hopper)
    assert hopper.web.patch("/v1/me", json={"language": "de"}).status_code == 200
    german = events(hopper)
    assert hopper.web.patch("/v1/me", json={"language": "en"}).status_code == 200
    assert [one["index"] for one in english] == [one["index"] for one in german]
    assert all(one["title"] != other["title"] for one, other in zip(english, german, strict=True))
    assert german[-1]["title"] == "Dein Abbild wurde aufgenommen"


def test_nobody_reads_the_timeline_of_another(live: Site, collins: Owner, hopper: Owner, clip: Clip) -> None:
    for path in ("/v1/timeline", "/v1/export", f"/v1/timeline/{clip.video_id}/thumbnail"):
        with live.client() as stranger:
            assert stranger.get(path).status_code == 401, path
        assert hopper.web.get(path, params={"for": collins.person_id}).status_code == 403, path


def test_a_picture_of_a_clip_is_shown_to_whom_it_shows_only(
    live: Site, collins: Owner, hopper: Owner, clip: Clip
) -> None:
    address = f"/v1/timeline/{clip.video_id}/thumbnail"
    answer = collins.web.get(address)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == "private, no-store"
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, max(picture.size)) == ("JPEG", 480)
    assert collins.web.get(address).content == answer.content
    assert hopper.web.get(address).status_code == 404
    assert collins.web.get(f"/v1/timeline/{unknown('video')}/thumbnail").status_code == 404
    kept = [path for path in (live.home / "objects" / "thumbnails").rglob("*") if path.is_file()]
    assert any(path.read_bytes() == answer.content for path in kept)


# ── notices and receipts ──────────────────────────────────────────────────────────────────────────────────


def test_a_grant_names_the_notice_that_was_shown(live: Site, hopper: Owner) -> None:
    for language, word in (("en", "You are about to let"), ("de", "Du bist dabei")):
        preview = hopper.preview(language=language)
        named = preview["grant"]["notice"]
        assert sha256(preview["notice"].encode()).hexdigest() == named["sha256"]
        assert preview["notice"].startswith(word)
        with live.client() as web:
            kept = web.get(f"/v1/notices/{named['sha256']}")
            assert kept.content == preview["notice"].encode()
            assert kept.headers["content-language"] == language
            assert named["sha256"] in {one["sha256"] for one in web.get("/v1/notices").json()["notices"]}
            assert web.get(f"/v1/notices/{'0' * 64}").status_code == 404
    assert "darf" in preview["sentence"]
    invented = hopper.signed(preview)
    invented["grant"] = invented["grant"] | {"notice": {"sha256": "0" * 64, "version": "1"}}
    answer = hopper.web.post("/v1/grants", json=invented)
    assert (answer.status_code, answer.json()["reasons"][0]["id"]) == (400, "grant.notice")


def terms(value: Any) -> Iterator[str]:
    """Every compact IRI in a JSON-LD document, but in its context: keys, types, and values that are terms."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key != "@context":
                if not key.startswith("@"):
                    yield key
                yield from terms(one)
    elif isinstance(value, list):
        for one in value:
            yield from terms(one)
    elif isinstance(value, str) and re.fullmatch(r"(dpv|pd|eu-gdpr|loc|cs):[A-Za-z0-9-]+", value):
        yield value


def check_json_ld(found: dict[str, Any]) -> None:
    """Every term is one that its vocabulary has; every prefix is declared, and every key expands to an IRI."""
    context = found["@context"]
    assert context["dpv"] == "https://w3id.org/dpv#"
    for term in terms(found):
        prefix, _, name = term.partition(":")
        assert context[prefix].endswith(("#", "/", ":")), term
        if prefix == "dpv":
            assert name in DPV, term
        elif prefix in OTHERS:
            assert name in OTHERS[prefix], term
        else:
            assert prefix in {"cs", "loc"}, term


def test_consent_has_a_receipt_when_it_is_given_and_when_it_is_taken_back(live: Site, hopper: Owner) -> None:
    grant_id = hopper.grant(
        forbidden_contexts=["political"], jurisdictions=["DE", "FR"], approval="before_release", max_uses=3
    )
    answer = hopper.web.get(f"/v1/grants/{grant_id}/receipt")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/ld+json")
    given = answer.json()
    check_json_ld(given)
    record = given["dpv:hasRecordOfActivity"]
    assert given["@type"] == "dpv:ConsentReceipt"
    assert record["dct:conformsTo"][0] == "https://w3id.org/dpv/schema/dpv-27560#record"
    assert record["dpv:hasDataSubject"]["dct:identifier"] == hopper.person_id
    assert record["dpv:hasDataController"]["@id"] == live.url
    assert record["dpv:hasLegalBasis"] == ["dpv:ExplicitlyExpressedConsent", "eu-gdpr:A9-2-a"]
    assert record["dpv:hasJurisdiction"] == ["loc:DE", "loc:FR"]
    process = record["dpv:hasProcess"]
    assert process["dpv:hasPurpose"] == ["dpv:NonCommercialPurpose"]
    assert process["dpv:hasRecipient"]["dct:identifier"] == live.holder("film club")
    assert {one["@type"][0] for one in process["dpv:hasPersonalData"]} == {"pd:FacialPrint", "pd:Picture"}
    assert process["cs:maxUses"] == 3
    assert record["dpv:hasConsentControl"]["dpv:isExercisedAt"] == f"{live.url}/v1/grants/{grant_id}/revoke"
    assert record["dct:description"]["@value"].startswith("film club may make up to 3 videos")
    (event,) = record["dpv:hasConsentStatus"]

    index = hopper.web.post(f"/v1/grants/{grant_id}/revoke").json()["index"]
    taken = hopper.web.get(f"/v1/grants/{grant_id}/receipt").json()
    check_json_ld(taken)
    assert taken["dct:identifier"] == f"{grant_id}/withdrawn"
    first, last = taken["dpv:hasRecordOfActivity"]["dpv:hasConsentStatus"]
    assert first == event
    assert (last["@type"], last["cs:index"]) == ("dpv:ConsentWithdrawn", index)
    # What the receipt says is what the proven list holds, at that place.
    bundle = hopper.web.get(f"/v1/cameos/{hopper.cameo_id}/uses", params={"proof": True}).json()
    vkey = VerifierKey.parse(hopper.web.get("/v1/log/keys").json()["vkey"])
    listed = dict(completeness.verify(bundle, Policy.alone(vkey)).records)
    for one in (first, last):
        body = listed[one["cs:index"]]
        assert (sha256(canonical(body)).hexdigest(), body["at"]) == (
            one["cs:evidenceSha256"],
            one["dct:date"],
        )
    assert hopper.web.get(f"/v1/grants/{unknown('grant')}/receipt").status_code == 404


# ── the export ────────────────────────────────────────────────────────────────────────────────────────────


def unpacked(owner: Owner) -> dict[str, bytes]:
    answer = owner.web.get("/v1/export")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert "content-length" not in answer.headers, "it is written while it is sent"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_export_is_everything_and_its_proof_holds(
    live: Site, collins: Owner, clip: Clip, tmp_path: Path
) -> None:
    found = unpacked(collins)
    assert "countersign audit verify list.proof.json" in found["README.txt"].decode()
    entries = json.loads(found["entries.json"])
    assert entries == collins.web.get(f"/v1/cameos/{collins.cameo_id}/uses").json()["entries"]
    proof = tmp_path / "list.proof.json"
    proof.write_bytes(found["list.proof.json"])
    with live.client() as web:
        vkey = web.get("/v1/log/keys").json()["vkey"]
    told = countersign(
        tmp_path, "audit", "verify", proof, "--log-key", vkey, "--memory", tmp_path / "seen.json"
    )
    assert told.status == 0, told.text
    assert f"{len(entries)} records" in told.text

    content = collins.web.get("/v1/timeline").json()
    assert found[f"clips/{clip.video_id}.mp4"] == clip.content
    assert Image.open(io.BytesIO(found[f"thumbnails/{clip.video_id}.jpg"])).format == "JPEG"
    assert content["events"]
    grants = {one["body"]["grant"]["grant_id"] for one in entries if one["kind"] == "grant"}
    assert grants
    for grant_id in grants:
        check_json_ld(json.loads(found[f"receipts/{grant_id}.jsonld"]))
        signed = json.loads(found[f"grants/{grant_id}.json"])
        checked = signed_grant.verify(signed, Policy.alone(VerifierKey.parse(vkey)))
        assert checked.grant.grant_id == grant_id
        assert checked.log is not None


def test_a_withdrawn_clip_is_not_in_the_export_and_still_has_its_picture(
    launcher: Launcher, tmp_path: Path
) -> None:
    site = Site(launcher, tmp_path / "home")
    site.start()
    try:
        owner = site.enrol(collins_picture())
        grant_id = owner.grant("film club")
        with site.client("film club") as app:
            video_id = app.post("/v1/videos", json=wanted(owner)).json()["id"]
            assert ended(app, video_id)["status"] == "completed"
        assert f"clips/{video_id}.mp4" in unpacked(owner)
        owner.web.post(f"/v1/grants/{grant_id}/revoke", json={"effect": "withdraw_all"})
        assert f"clips/{video_id}.mp4" not in unpacked(owner)
        newest = events(owner)[0]
        assert newest["title"] == "A permission was taken back"
        release = next(one for one in events(owner) if one["kind"] == "release")
        assert release["status"] == "withdrawn"
        assert owner.web.get(release["thumbnail"]).status_code == 200
        # Once everything is erased there is neither.
        body = {"confirm": owner.cameo_id}
        answer = owner.web.post(f"/v1/cameos/{owner.cameo_id}/erase", json=body)
        assert answer.status_code == 200, answer.text
        objects = [one for one in (site.home / "objects").rglob("*") if one.is_file()]
        assert [one.name for one in objects] == ["create-only"]
        path = tmp_path / "certificate.json"
        path.write_text(json.dumps(answer.json()["certificate"]))
        with site.client() as web:
            vkey = web.get("/v1/log/keys").json()["vkey"]
        memory = ("--memory", tmp_path / "seen.json")
        told = countersign(tmp_path, "audit", "verify", path, "--log-key", vkey, *memory)
        assert told.status == 0, told.text
        assert "everything about this person was erased" in told.text
        assert countersign(tmp_path, "audit", "verify", path, *memory).status == 2
        path.write_text(json.dumps(answer.json()["certificate"] | {"n": 1}))
        refused = countersign(tmp_path, "audit", "verify", path, "--log-key", vkey, *memory)
        assert (refused.status, "NOT PROVEN" in refused.text) == (1, True)
        owner.web.close()
    finally:
        site.stop()


def test_the_schedule_is_published(live: Site) -> None:
    with live.client() as web:
        rules = web.get("/v1/retention").json()["rules"]
    assert {"captures", "prompts", "likeness_of_age", "log"} <= {rule["id"] for rule in rules}
