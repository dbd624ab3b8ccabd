"""What a person does here, from the first page to the last, on a phone in a real Chromium with a real passkey.

One person goes the whole way; every page they see is kept under `var/screenshots/journey-*.png`.
"""

import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from command import countersign
from ledger.canonical import canonical
from ledger.consent.statement import ENROLMENT_TAG, sign
from live import OPERATOR, PATIENCE_S, PROMPT, Launcher, Site, collins_picture, ended, pixels, video_of, zulu

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

SCREENSHOTS = Path(__file__).resolve().parent.parent / "var" / "screenshots"
LASTING = {"SESSION_HOURS": "72", "IDLE_MINUTES": "4000"}
"""Sessions outlive the day that a filmed likeness waits."""
PHONE = ViewportSize(width=390, height=844)
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    opened = Site(launcher, tmp_path_factory.mktemp("journey"), env={"AGE_ISSUER": "demo", **LASTING})
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's camera sees: Eileen Collins."""
    path = tmp_path_factory.mktemp("camera") / "collins.mjpeg"
    video_of(pixels(collins_picture()), path, codec="mjpeg", frames=24)
    return path


@pytest.fixture(scope="module")
def browser(camera: Path) -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "the pages need a browser to be tested in: run `make setup`"
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


class Journey:
    """One person's phone."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self.site = site
        self.context: BrowserContext = browser.new_context(
            viewport=PHONE, base_url=site.url, permissions=["camera", "microphone"], accept_downloads=True
        )
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on(
            "console",
            lambda said: (
                self.complaints.append(f"{said.text} {said.location['url']}")
                if said.type == "error"
                else None
            ),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        session = self.context.new_cdp_session(self.page)
        session.send("WebAuthn.enable")
        session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        self.shots = 0

    def shot(self, name: str) -> None:
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.shots += 1
        # On a screen as long as the page: else what sticks to its end stands in the middle.
        height = int(self.page.evaluate("document.documentElement.scrollHeight"))
        self.page.set_viewport_size({"width": PHONE["width"], "height": max(height, PHONE["height"])})
        self.page.screenshot(path=SCREENSHOTS / f"journey-{self.shots:02}-{name}.png")
        self.page.set_viewport_size(PHONE)

    def api(self, path: str) -> Any:
        """What the page's own session is told."""
        answer = self.context.request.get(path)
        assert answer.ok, answer.text()
        return answer.json()

    def button(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()


@pytest.fixture
def journey(browser: Browser, site: Site) -> Iterator[Journey]:
    opened = Journey(browser, site)
    yield opened
    opened.context.close()


def join(journey: Journey, name: str, born: str = "1956-11-19") -> None:
    page = journey.page
    page.goto("/join")
    journey.shot("join")
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Date of birth").fill(born)
    journey.button("Create a passkey")
    page.locator("#codes, .codes").first.wait_for()


def vouch(site: Site, person_id: str) -> str:
    """The operator looks at the film and vouches. Returns the id of the likeness."""
    with site.client(OPERATOR) as operator:
        (waiting,) = [
            one
            for one in operator.get("/v1/enrolments").json()["enrolments"]
            if one["person_id"] == person_id
        ]
        film = operator.get(waiting["film"]).content
        statement = {
            "schema": "countersign/enrolment/v1",
            "path": "vouched",
            "operator": OPERATOR,
            "display_name": "Eileen Collins",
            "person_id": person_id,
            "born_on": None,
            "portrait_sha256": sha256(film).hexdigest(),
            "issued": zulu(datetime.now(UTC)),
            "alike": True,
        }
        evidence = sign(ENROLMENT_TAG, canonical(statement), site.operator)
        answer = operator.post(
            "/v1/cameos/vouched",
            data={
                "statement": canonical(statement).decode(),
                "evidence": evidence.model_dump_json(),
                "capture_id": waiting["capture_id"],
            },
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["cameo_id"])


def test_from_the_first_page_to_the_last(journey: Journey, site: Site, tmp_path: Path) -> None:
    page = journey.page
    # An account, with a passkey and nothing else.
    join(journey, "Eileen Collins")
    journey.shot("recovery-codes")
    page.goto("/me")
    journey.shot("home-at-first")
    me = journey.api("/v1/me")
    assert (me["likeness"], me["minor"], me["age_known"]) == ("none", True, False)

    # How old they are, from the issuer.
    page.goto("/me/security")
    journey.shot("security")
    page.locator("#age").get_by_role("button").click()
    journey.shot("to-the-age-check")
    page.get_by_role("main").get_by_role("link").last.click()
    page.get_by_role("button", name="Share only whether I am 18").click()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/me/security*")
    me = journey.api("/v1/me")
    assert (me["minor"], me["age_known"]) == (False, True)

    # On film, with the camera of this phone.
    page.goto("/me/enrol")
    page.get_by_role("checkbox").first.check()
    journey.button("Begin")
    page.locator(".digits").wait_for()
    journey.shot("enrol-digits")
    page.locator("#record").click()
    page.get_by_text("A person is checking your film").wait_for(timeout=1000 * PATIENCE_S)
    journey.shot("enrol-sent")
    assert journey.api("/v1/me")["likeness"] == "pending_review"
    cameo_id = vouch(site, me["person_id"])
    page.goto("/me")
    assert journey.api("/v1/me")["likeness"] == "active"
    page.get_by_text("To be used from").wait_for()
    journey.shot("home-while-it-waits")

    # A permission: narrow as it is offered, read, signed with the passkey.
    page.goto("/me/permissions/new")
    journey.shot("permission-who")
    page.get_by_role("radio", name="One app").check()
    page.get_by_label("Which app").select_option(label="film club")
    while page.get_by_role("button", name="Next").is_visible():
        everywhere = page.get_by_role("checkbox", name="Anywhere")
        if everywhere.is_visible():
            everywhere.check()
        journey.button("Next")
    journey.button("See what it says")
    page.locator(".says").first.wait_for()
    journey.shot("permission-preview")
    sentence = page.locator(".says").first.inner_text()
    assert "film club may make" in sentence
    page.get_by_text("Your browser checked: this is exactly what you sign.").wait_for()
    page.locator("#sign button").click()
    page.wait_for_url("**/me/permissions/grant_*")
    journey.shot("permission")
    grant_id = page.url.split("/")[-1].partition("?")[0]
    assert page.locator(".says").first.inner_text() == sentence

    # What was signed, checked offline by whoever has the file.
    file = tmp_path / "permission.json"
    file.write_text(json.dumps(journey.api(f"/v1/grants/{grant_id}")))
    said = countersign(tmp_path / "elsewhere", "consent", "verify", file)
    assert said.status == 0, said.text
    assert site.url in said.text

    # An app asks too early: the likeness came in by a film, and waits a day.
    with site.client("film club") as app:
        asking = {"prompt": PROMPT, "seconds": "1", "size": "640x360", "character_ids": [cameo_id]}
        early = app.post("/v1/videos", json=asking)
        assert (early.status_code, early.json()["error"]["code"]) == (403, "consent.cooling_off"), early.text
    site.stop()
    site.start(ahead_s=25 * 3600)

    # An app asks, and the draft waits.
    with site.client("film club") as app:
        asked = app.post(
            "/v1/videos",
            json={"prompt": PROMPT, "seconds": "1", "size": "640x360", "character_ids": [cameo_id]},
        )
        assert asked.status_code == 200, asked.text
        video_id = asked.json()["id"]
        until = time.monotonic() + PATIENCE_S
        while not journey.api("/v1/approvals")["drafts"] and time.monotonic() < until:
            time.sleep(0.2)
        assert app.get(f"/v1/videos/{video_id}").json()["status"] == "queued"
        page.goto("/me")
        journey.shot("home-with-a-draft")
        page.locator("a.draft").click()
        page.wait_for_function("() => document.querySelector('video').videoWidth > 0")
        journey.shot("draft")
        journey.button("Approve")
        assert ended(app, video_id)["status"] == "completed"
        assert app.get(f"/v1/videos/{video_id}/content").status_code == 200

        # It is on the timeline, with a picture of it.
        page.goto("/me/timeline")
        picture = page.locator("img").first
        picture.wait_for()
        page.wait_for_function(
            "() => [...document.images].every(one => one.complete && one.naturalWidth > 0)"
        )
        journey.shot("timeline")

        # Taken back with one tap and no passkey: refused from then on, and withdrawn.
        page.goto("/me")
        assert journey.api("/v1/grants")["grants"][0]["status"] == "used_up"
        page.get_by_role("button", name="Withdraw everything made").click()
        page.locator("#done").get_by_text("Everything made with it is withdrawn").wait_for()
        assert page.get_by_role("button", name="Withdraw everything made").count() == 0
        assert "Withdrawn" in page.locator("#recent").inner_text()
        journey.shot("taken-back")
        assert app.get(f"/v1/videos/{video_id}/content").status_code == 403
        again = app.post(
            "/v1/videos",
            json={"prompt": PROMPT, "seconds": "1", "size": "640x360", "character_ids": [cameo_id]},
        )
        assert (again.status_code, again.json()["error"]["code"]) == (403, "consent.revoked")

    # Everything out, then everything gone.
    page.goto("/me/export-erase")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download everything").click()
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"
    journey.shot("leave")
    page.get_by_label("To go on, type").fill("ERASE")
    journey.button("Erase it")
    page.get_by_role("heading", name="Your likeness is erased").wait_for()
    journey.shot("erased")
    with site.client("film club") as app:
        gone = app.get(f"/v1/clips/{video_id}").json()
    assert gone["consent_now"] == "erased"
    assert journey.complaints == []
