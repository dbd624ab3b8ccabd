"""Drafts, remixes, tokens and download counts over HTTP, as an owner and an app meet them."""

import io
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from ledger.canonical import canonical
from live import (
    MODEL,
    PATIENCE_S,
    PROMPT,
    UNHURRIED,
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


@pytest.fixture
def app(live: Site) -> Iterator[httpx.Client]:
    with live.client("film club") as client:
        yield client


@pytest.fixture(scope="module")
def careful(live: Site) -> Iterator[Owner]:
    """Somebody who wants to see each clip before it goes out."""
    owner = live.enrol(collins_picture())
    owner.grant(approval="before_release", actions=["generate", "remix"])
    yield owner
    owner.web.close()


@pytest.fixture(scope="module")
def easy(live: Site) -> Iterator[Owner]:
    """Somebody who lets the film club do what it likes, and anyone watch."""
    owner = live.enrol(collins_picture())
    for name in ("film club", "other app"):
        owner.grant(name, actions=["generate", "remix"], audience="everyone")
    yield owner
    owner.web.close()


@pytest.fixture
def owner(live: Site) -> Iterator[Owner]:
    """Somebody new, who has granted nothing."""
    enrolled = live.enrol(collins_picture())
    yield enrolled
    enrolled.web.close()


def ask(app: httpx.Client, *people: Owner, **changes: Any) -> str:
    answer = app.post("/v1/videos", json=wanted(*people, **changes))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def done(app: httpx.Client, *people: Owner, **changes: Any) -> str:
    video = ended(app, ask(app, *people, **changes))
    assert video["status"] == "completed", video
    return str(video["id"])


def waiting(app: httpx.Client, owner: Owner, **changes: Any) -> dict[str, Any]:
    """A draft on the owner's list, once it is made."""
    video_id, until = ask(app, owner, **changes), time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        drafts: list[dict[str, Any]] = owner.web.get("/v1/approvals").json()["drafts"]
        if found := [draft for draft in drafts if draft["video_id"] == video_id]:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(app.get(f"/v1/videos/{video_id}").text)


def reason_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    (first, *_) = body["error"]["reasons"] if "error" in body else body["reasons"]
    assert first["reason"]
    assert first["remedy"]
    return str(first["id"])


# ── drafts ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_draft_is_seen_by_those_it_shows_and_goes_out_at_their_word(
    live: Site, app: httpx.Client, careful: Owner, easy: Owner
) -> None:
    draft = waiting(app, careful)
    video_id = draft["video_id"]
    assert draft.keys() == {
        "video_id",
        "app_id",
        "app_name",
        "requested_by",
        "requested_by_name",
        "prompt",
        "seconds",
        "size",
        "asked_at",
        "until",
        "grant_id",
        "sentence",
        "clip",
        "thumbnail",
        "approved_by_me",
    }
    assert (draft["app_name"], draft["prompt"], draft["approved_by_me"]) == ("film club", PROMPT, None)
    assert "you approve each one before it goes out" in draft["sentence"]
    assert draft["asked_at"] < draft["until"]
    # To the app it is in the queue, with no bytes to be had.
    video = app.get(f"/v1/videos/{video_id}").json()
    assert (video["status"], video["completed_at"]) == ("queued", None)
    assert reason_of(app.get(f"/v1/videos/{video_id}/content"), 404) == "video.not_ready"
    assert reason_of(easy.web.get("/v1/approvals", params={"for": careful.person_id}), 403)

    # What waits is marked and signed already, and has not been released.
    clip = careful.web.get(draft["clip"])
    assert clip.headers["cache-control"] == "no-store"
    with live.client() as web:
        verdict = web.post("/v1/verify", content=clip.content).json()
        assert (verdict["manifest_trusted"], verdict["asset_bound"], verdict["released"]) == (
            True,
            True,
            False,
        )
        assert reason_of(web.get(draft["clip"]), 401) == "access.session"
    piece = careful.web.get(draft["clip"], headers={"range": "bytes=4-7"})
    assert (piece.status_code, piece.content) == (206, b"ftyp")
    assert careful.web.head(draft["clip"]).headers["content-length"] == str(len(clip.content))
    with Image.open(io.BytesIO(careful.web.get(draft["thumbnail"]).content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (480, 270))
    for path in (draft["clip"], draft["thumbnail"]):
        assert reason_of(easy.web.get(path), 404) == "approval.unknown"
    assert reason_of(easy.web.post(f"/v1/approvals/{video_id}", json={"decision": "approve"}), 404)
    assert reason_of(careful.web.post(f"/v1/approvals/{video_id}", json={"decision": "maybe"}), 400)

    answer = careful.web.post(f"/v1/approvals/{video_id}", json={"decision": "approve"})
    assert answer.json() == {"video_id": video_id, "decision": "approve", "status": "released"}
    assert app.get(f"/v1/videos/{video_id}").json()["status"] == "completed"
    assert app.get(f"/v1/videos/{video_id}/content").content == clip.content
    assert reason_of(careful.web.get(draft["clip"]), 404) == "approval.unknown"
    kinds = [body["kind"] for body in live.audit(careful.cameo_id) if body.get("video_id") == video_id]
    assert kinds == ["decision", "draft", "approval", "release"]


def test_another_site_s_page_can_not_approve(app: httpx.Client, careful: Owner) -> None:
    draft = waiting(app, careful)
    path, elsewhere = f"/v1/approvals/{draft['video_id']}", {"origin": "https://evil.example"}
    answer = careful.web.post(path, json={"decision": "approve"}, headers=elsewhere)
    assert reason_of(answer, 403) == "access.origin"
    assert careful.web.post(path, json={"decision": "refuse"}).json()["status"] == "refused"


def test_a_refusal_ends_the_job_and_blocking_keeps_the_app_out(
    live: Site, app: httpx.Client, owner: Owner
) -> None:
    owner.grant(approval="before_release")
    draft = waiting(app, owner)
    answer = owner.web.post(f"/v1/approvals/{draft['video_id']}", json={"decision": "refuse_and_block"})
    assert answer.json()["status"] == "refused"
    video = app.get(f"/v1/videos/{draft['video_id']}").json()
    assert (video["status"], video["error"]["code"]) == ("failed", "approval.refused")
    assert sum(owner.used().values()) == 0
    assert app.post("/v1/videos", json=wanted(owner)).status_code == 403
    assert owner.web.get("/v1/approvals").json() == {"drafts": []}


def test_a_draft_goes_with_the_grant_and_with_the_video(live: Site, app: httpx.Client, owner: Owner) -> None:
    grant_id = owner.grant(approval="before_release")
    one, two = waiting(app, owner), waiting(app, owner)
    files = {path.name for path in (live.home / "objects" / "clips").rglob("*") if path.is_file()}
    assert app.delete(f"/v1/videos/{one['video_id']}").status_code == 200
    assert owner.web.post(f"/v1/grants/{grant_id}/revoke").status_code == 200
    assert owner.web.get("/v1/approvals").json() == {"drafts": []}
    video = app.get(f"/v1/videos/{two['video_id']}").json()
    assert (video["status"], video["error"]["code"]) == ("failed", "consent.revoked")
    until = time.monotonic() + PATIENCE_S
    while len(files & {path.name for path in (live.home / "objects" / "clips").rglob("*")}) > len(files) - 2:
        assert time.monotonic() < until, "the drafts' files are still there"
        time.sleep(0.2)


# ── remix ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_public_sdk_remixes_and_a_withdrawal_takes_the_remix_along(
    live: Site, app: httpx.Client, owner: Owner
) -> None:
    first = owner.grant(max_uses=1, revocation_effect="withdraw_all")
    parent = done(app, owner)
    owner.grant(actions=["generate", "remix"])
    with live.sdk() as sdk:
        video = sdk.videos.remix(parent, prompt=f"{PROMPT}, at dusk")
        assert (video.remixed_from_video_id, video.size, video.seconds) == (parent, "640x360", "1")
        video = sdk.videos.poll(video.id)
        assert (video.status, video.model) == ("completed", MODEL)
        content = sdk.videos.download_content(video.id).read()
    grandchild = ended(app, app.post(f"/v1/videos/{video.id}/remix", json={"prompt": PROMPT}).json()["id"])
    with live.client() as web:
        verdict = web.post("/v1/verify", content=content).json()
        assert (verdict["manifest_trusted"], verdict["video_id"], verdict["consent_now"]) == (
            True,
            video.id,
            "standing",
        )
        # Being made while its great-grandparent is withdrawn.
        slow = {"prompt": f"{PROMPT}, {UNHURRIED}"}
        running = app.post(f"/v1/videos/{grandchild['id']}/remix", json=slow).json()["id"]
        assert owner.web.post(f"/v1/grants/{first}/revoke").status_code == 200
        for one in (parent, video.id, grandchild["id"]):
            assert reason_of(app.get(f"/v1/videos/{one}/content"), 403) == "download.withdrawn"
            assert web.get(f"/v1/clips/{one}").json()["consent_now"] == "withdrawn"
            refused = app.post(f"/v1/videos/{one}/remix", json={"prompt": PROMPT})
            assert reason_of(refused, 403) == "download.withdrawn"
        assert web.post("/v1/verify", content=content).json()["consent_now"] == "withdrawn"
    stopped = app.get(f"/v1/videos/{running}").json()
    assert (stopped["status"], stopped["error"]["code"]) == ("failed", "consent.revoked")
    time.sleep(3)  # the model has come to its end by now, if it was not told to stop
    assert app.get(f"/v1/videos/{running}").json() == stopped
    kinds = [body["kind"] for body in live.audit(owner.cameo_id) if body.get("video_id") == running]
    assert kinds == ["decision", "returned"]


def test_a_remix_needs_a_clip_and_everyone_s_consent_to_it(
    live: Site, app: httpx.Client, easy: Owner, careful: Owner
) -> None:
    hopper = live.enrol(hopper_picture(), display_name="Grace Hopper")
    hopper.grant()  # to make, not to remix
    private, public = done(app, easy), done(app, easy, audience="everyone")
    with_hopper = done(app, easy, hopper)
    assert (
        reason_of(app.post(f"/v1/videos/{with_hopper}/remix", json={"prompt": PROMPT}), 403)
        == "consent.action"
    )
    with live.client("other app") as other:
        for video_id in (private, unknown("video"), "nonsense"):
            answer = other.post(f"/v1/videos/{video_id}/remix", json={"prompt": PROMPT})
            assert reason_of(answer, 404) == "video.unknown"
        answer = other.post(f"/v1/videos/{public}/remix", json={"prompt": PROMPT, "audience": "everyone"})
        assert ended(other, answer.json()["id"])["remixed_from_video_id"] == public
    for body, reason in (
        ({}, "request.prompt"),
        ({"prompt": ""}, "prompt.empty"),
        ({"prompt": PROMPT, "size": "640x360"}, "request.size"),
        ({"prompt": PROMPT, "characters": [{"id": unknown("cameo")}] * 5}, "request.characters"),
        ({"prompt": PROMPT, "countries": ["Germany"]}, "request.countries.0"),
    ):
        assert reason_of(app.post(f"/v1/videos/{private}/remix", json=body), 400) == reason
    running = ask(app, easy, prompt=f"{PROMPT}, {UNHURRIED}")
    answer = app.post(f"/v1/videos/{running}/remix", json={"prompt": PROMPT})
    assert reason_of(answer, 404) == "video.not_ready"
    app.delete(f"/v1/videos/{running}")
    # Somebody new comes in with their own grant, and sees it first.
    hers = {"prompt": PROMPT, "characters": [{"id": careful.cameo_id}]}
    added = app.post(f"/v1/videos/{private}/remix", json=hers)
    assert added.status_code == 200, added.text
    assert app.delete(f"/v1/videos/{added.json()['id']}").status_code == 200
    hopper.web.close()


# ── speaking for a person; countries ──────────────────────────────────────────────────────────────────────


def test_an_app_speaks_for_a_person_with_their_token_and_for_no_one_without(
    live: Site, app: httpx.Client, easy: Owner, owner: Owner
) -> None:
    # To a person, who may ask through any app they let speak for them.
    preview = owner.preview(approval="before_release")
    grant = {**preview["grant"], "grantee": {"type": "person", "id": easy.person_id}}
    signed = owner.signed({"grant": grant, "canonical": canonical(grant).decode()})
    assert owner.web.post("/v1/grants", json=signed).status_code == 201

    app_id = live.holder("film club")
    assert reason_of(easy.web.post("/v1/tokens", json={"app_id": unknown("app")}), 400) == "token.app"
    assert reason_of(easy.web.post("/v1/tokens", json={"app_id": app_id, "days": 91}), 400)
    made = easy.web.post("/v1/tokens", json={"app_id": app_id, "days": 90})
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    speaking = {"x-countersign-person": token}
    body = wanted(owner)
    assert reason_of(app.post("/v1/videos", json=body), 403) == "consent.no_grant"
    assert reason_of(app.post("/v1/videos", json=body, headers={"x-countersign-person": "x"}), 401) == (
        "access.person_token"
    )
    with live.client("other app") as other:
        refused = other.post("/v1/videos", json=body, headers=speaking)
        assert reason_of(refused, 401) == "access.person_token"
    answer = app.post("/v1/videos/precheck", json=body, headers=speaking)
    assert answer.json()["allowed"] is True
    video_id = app.post("/v1/videos", json=body, headers=speaking).json()["id"]
    until = time.monotonic() + PATIENCE_S
    while not (drafts := owner.web.get("/v1/approvals").json()["drafts"]):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert (drafts[0]["requested_by"], drafts[0]["requested_by_name"]) == (easy.person_id, "Eileen Collins")
    blocked = owner.web.post(f"/v1/approvals/{video_id}", json={"decision": "refuse_and_block"})
    assert blocked.json()["status"] == "refused"
    assert app.post("/v1/videos", json=body, headers=speaking).status_code == 403

    (listed,) = easy.web.get("/v1/tokens").json()["tokens"]
    assert listed.keys() == {"id", "app_id", "app_name", "created_at", "expires_at"}
    assert (listed["app_name"], token in str(listed)) == ("film club", False)
    assert reason_of(owner.web.delete(f"/v1/tokens/{listed['id']}"), 404) == "token.unknown"
    assert easy.web.delete(f"/v1/tokens/{listed['id']}").status_code == 204
    assert easy.web.get("/v1/tokens").json() == {"tokens": []}
    refused = app.post("/v1/videos", json=body, headers=speaking)
    assert reason_of(refused, 401) == "access.person_token"


def test_a_clip_is_for_the_countries_it_says_and_without_a_word_for_all(
    live: Site, app: httpx.Client, owner: Owner
) -> None:
    owner.grant(jurisdictions=["DE", "AT"])
    refused = app.post("/v1/videos", json=wanted(owner))
    assert refused.status_code == 403
    assert app.post("/v1/videos", json=wanted(owner, countries=["DE", "FR"])).status_code == 403
    for spelt in (wanted(owner, countries=["AT"]), wanted(owner, countries=["DE", "AT"])):
        answer = app.post("/v1/videos", json=spelt)
        assert answer.status_code == 200, answer.text
        assert app.delete(f"/v1/videos/{answer.json()['id']}").status_code == 200
    form = {**{k: v for k, v in wanted(owner).items() if k != "characters"}, "countries[]": "DE"}
    sent = app.post("/v1/videos", data={**form, "character_ids[]": owner.cameo_id})
    assert sent.status_code == 200, sent.text
    assert app.delete(f"/v1/videos/{sent.json()['id']}").status_code == 200


def test_a_voice_is_asked_for_and_made_only_where_it_was_granted(app: httpx.Client, owner: Owner) -> None:
    owner.grant(modalities=["face"])
    heard = wanted(owner, modalities=["face", "voice"])
    assert reason_of(app.post("/v1/videos", json=heard), 403) == "consent.modality"
    assert (
        reason_of(app.post("/v1/videos", json=wanted(owner, modalities=["voice"])), 400)
        == "request.modalities"
    )
    owner.grant(modalities=["face", "voice"])
    answer = app.post("/v1/videos", json=heard)
    assert answer.status_code == 200, answer.text
    assert app.delete(f"/v1/videos/{answer.json()['id']}").status_code == 200


# ── downloads ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_download_is_counted_once_however_a_player_asks_for_it(
    live: Site, app: httpx.Client, easy: Owner
) -> None:
    video_id = done(app, easy)
    path = f"/v1/videos/{video_id}/content"

    def counted() -> int:
        with closing(sqlite3.connect(f"file:{live.home / 'ledger.db'}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT downloads FROM video WHERE id = ?", (video_id,)).fetchone()
            return int(row[0])

    assert counted() == 0
    app.head(path)
    app.get(path, headers={"range": "bytes=100-"})
    app.get(path, headers={"range": "bytes=-50"})
    app.get(path, headers={"range": "bytes=999999999-"})
    assert counted() == 0
    content = app.get(path).content
    app.get(path, headers={"range": "bytes=0-99"})
    assert counted() == 2
    with av.open(io.BytesIO(content)) as clip:
        assert clip.streams.video[0].frames > 0
    with live.client("other app") as other:
        assert other.get(path).status_code == 404
    assert counted() == 2
