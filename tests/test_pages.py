"""The pages, as people meet them: every one in both languages on a phone, and the ways through them.

Each is rendered from one rich example of what the JSON routes answer (`pages_fixture`), with text in it that wants to
break out; then a real service is used in a real Chromium, with an authenticator in it.
"""

import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from axe_playwright_python.sync_playwright import Axe
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from playwright.sync_api import Browser, Page, Route, ViewportSize, sync_playwright

import pages_fixture
from gateway.app import ASSETS, CSP
from gateway.enrolments import accept
from gateway.site.open import verdict_in
from gateway.site.render import DONE, local, rendered
from gateway.site.words import CATALOGUES, LANGUAGES, Language, catalogue, negotiated, region, spoken
from ledger.provenance import media
from ledger.provenance.sentences import STATES
from ledger.provenance.verdict import judge
from live import PATIENCE_S, Owner, Site, collins_picture, ended, pixels, video_of, wanted
from safety.clearing import WORDS
from test_verdict import every_evidence

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow
SCREENSHOTS = Path(__file__).resolve().parent.parent / "var" / "screenshots"
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1100, height=900)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ROOT = Path(__file__).resolve().parent.parent
SMALL = """[...document.querySelectorAll('a, button, summary, input, select, textarea')].filter((one) => {
  const inside = one.closest('.sr, label.choice, #drop, .skip') || getComputedStyle(one).display === 'inline';
  const height = one.getBoundingClientRect().height;
  return !inside && height && height < 43.5;
}).map((one) => one.outerHTML.slice(0, 120))"""

BROKEN = """[...document.querySelectorAll('.btn, .pill, .tabs a')].filter((one) => {
  one.style.overflowWrap = 'normal';
  const wide = one.scrollWidth > one.clientWidth + 1;
  one.style.overflowWrap = '';
  return wide;
}).map((one) => one.outerHTML.slice(0, 160))"""
"""What to press whose words do not fit, so that one is broken within."""


# -- what they say ------------------------------------------------------------------------------------------


def test_both_catalogues_say_the_same_things() -> None:
    english, german = catalogue("en"), catalogue("de")
    assert english.keys() == german.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", german[key])), key
        assert text.strip(), key
        assert german[key].strip(), key


def test_every_text_is_used_and_every_text_used_is_there() -> None:
    sources = [*CATALOGUES.glob("*.jinja"), *(ROOT / "gateway" / "site").glob("*.py")]
    text = "\n".join(path.read_text("utf-8") for path in sources)
    named = set(re.findall(r"""\bt\(\s*["']([^"']+)["']\s*[,)]""", text))
    begun = set(re.findall(r"""\bt\(\s*["']([^"']+\.)["']\s*~""", text))
    # Built in Python: by prefix for scripts, by kind for the pages to sign on.
    begun |= {"verdict.", "operator.", "takedown.action.", "month.", "country.", "done.", "grantee."}
    begun |= {f"{kind}." for kind in ("grant", "cosign", "handover", "guardianship", "limits")}
    keys = set(catalogue("en"))
    assert named <= keys
    assert all(any(key.startswith(one) for key in keys) for one in begun)
    used = {key for key in keys if key in named or key.startswith(tuple(begun))}
    plural = {key for key in keys if key.endswith(".one") and key.removesuffix(".one") in used}
    assert keys - used - plural == {"date"}  # `gateway.site.words.day`
    assert {f"done.{one}" for one in DONE} == {key for key in keys if key.startswith("done.")}


def test_every_sentence_of_a_verdict_is_said_in_both_languages() -> None:
    english, german = (verdict_in(language)["said"] for language in ("en", "de"))
    assert english.keys() == german.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", german[key])), key
    assert verdict_in("en")["checks"] == dict(WORDS)


def test_no_page_talks_like_an_engineer() -> None:
    jargon = re.compile(r"\b(grants?|cameos?|ceremon\w+|assertions?|credentials?|WebAuthn)\b", re.IGNORECASE)
    for key, text in (catalogue("en") | verdict_in("en")["said"]).items():
        assert not jargon.search(text), key


def test_the_language_is_the_one_asked_for() -> None:
    assert negotiated("de-AT,de;q=0.9,en;q=0.5") == "de"
    assert negotiated("fr, en;q=0.3, de;q=0.7") == "de"
    assert negotiated("fr") == "en"
    assert negotiated("de;q=x") == "en"
    assert region("en-GB,en;q=0.9") == "GB"
    assert region("en") == ""


def test_nobody_is_sent_elsewhere_after_signing_in() -> None:
    assert local("/me/people?for=x") == "/me/people?for=x"
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example", "", "/a\nb", "/a\\..\\b"):
        assert local(elsewhere) == "/me"


def test_a_reason_reads_as_a_sentence() -> None:
    assert spoken("there is no app `app_1`") == "There is no app app_1."
    assert spoken("") == ""


# -- how they look ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail(
            "the pages need a browser to be tested in: run `make setup`, or `apt-get install chromium`"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


Shown = Callable[..., Page]


@pytest.fixture(scope="module")
def stage(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """One tab for all examples, and what it complained of: opening one costs more than most pages in it."""
    context = browser.new_context(viewport=PHONE, reduced_motion="reduce")
    context.set_default_timeout(1000 * PATIENCE_S)
    page, complaints = context.new_page(), list[str]()
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page, complaints
    context.close()


@pytest.fixture
def shown(stage: tuple[Page, list[str]]) -> Iterator[Shown]:
    """A page from its example, open, under the service's own Content-Security-Policy; no complaint goes unnoticed."""
    page, complaints = stage
    picture = io.BytesIO()
    Image.new("RGB", (320, 180), "#886644").save(picture, "JPEG")

    def show(name: str, language: Language, *, viewport: ViewportSize = PHONE, dark: bool = False) -> Page:
        template, values = pages_fixture.pages(language)[name]

        def answer(route: Route) -> None:
            path = route.request.url.partition("localhost")[2].partition("?")[0]
            if path.startswith("/assets/"):
                file = ASSETS / path.removeprefix("/assets/")
                route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix])
            elif path == "/page":
                text = rendered(template, language, **values)
                policy = {"content-security-policy": CSP}
                route.fulfill(body=text, content_type="text/html; charset=utf-8", headers=policy)
            elif path == "/clip.mp4":
                route.fulfill(body=b"", content_type="video/mp4")
            else:
                assert path == pages_fixture.THUMBNAIL, path
                route.fulfill(body=picture.getvalue(), content_type="image/jpeg")

        page.unroute_all()
        page.route("http://localhost/**", answer)
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.goto("http://localhost/page")
        return page

    yield show
    page.goto("about:blank")
    page.unroute_all()
    said, complaints[:] = list(complaints), []
    assert said == []


def findings(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]


def keep(page: Page, name: str) -> None:
    """A picture of the whole page, taken on a screen as long as the page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    size = page.viewport_size or PHONE
    height = int(page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": size["width"], "height": max(height, size["height"])})
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    page.set_viewport_size(size)


def fits(page: Page) -> None:
    """It does not scroll sideways, nothing to touch is small, and no word on it is broken in two."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    assert page.evaluate(SMALL) == []
    assert page.evaluate(BROKEN) == []


def sound(page: Page) -> None:
    """It fits, and axe-core finds nothing serious."""
    fits(page)
    assert findings(page) == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", sorted(pages_fixture.pages("en")))
def test_every_page_is_sound_on_a_phone(shown: Shown, name: str, language: Language) -> None:
    page = shown(name, language)
    assert page.locator("html").get_attribute("lang") == language
    assert page.locator("h1:visible").count() == 1
    assert page.locator("main").count() == 1
    fits(page)
    if language == "en":
        # What axe-core looks at is the same in German, but for the words.
        assert findings(page) == []
    # What people typed stays text: none of it became an element.
    assert page.locator("img[src=x]").count() == 0
    keep(page, f"page-{name}-{language}")


@pytest.mark.parametrize("name", ["check", "draft", "me", "permission", "sign"])
def test_a_page_is_sound_at_a_desk_and_in_the_dark(shown: Shown, name: str) -> None:
    page = shown(name, "en", viewport=DESK, dark=True)
    sound(page)
    keep(page, f"page-{name}-desk-dark")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_verdict_can_be_read(shown: Shown, tmp_path: Path, language: Language) -> None:
    page = shown("check", language)
    told, said = set[str](), verdict_in(language)["said"]
    media.write_pattern(tmp_path / "clip.mp4")
    answers = list[dict[str, Any]]()
    page.route("**/v1/verify", lambda route: route.fulfill(json=answers[-1]))
    for evidence in every_evidence():
        verdict = judge(evidence, "test.example/log").as_json()
        answers.append(verdict)
        page.set_input_files("#file", tmp_path / "clip.mp4")
        page.wait_for_function(
            "told => JSON.stringify(JSON.parse(document.getElementById('raw').textContent || 'null')) === told",
            arg=json.dumps(verdict, separators=(",", ":"), ensure_ascii=False),
        )
        if page.locator("#auditors").get_attribute("open") is None:
            page.locator("#auditors > summary").click()
        assert page.inner_text("#sentence") == said[verdict["state"]]
        shows = page.inner_text("#verdict")
        # The bare data, for programs, is not for reading.
        shows = shows.replace(page.inner_text("#raw"), "")
        assert not re.search(r"\{|undefined|null|NaN|Invalid|object", shows), shows
        for reason in (*verdict["reasons"], *verdict["contradictions"]):
            pattern = re.escape(said[reason["id"]])
            for name in ("at", "signer", "where", "checks", "count", "seconds", "of"):
                pattern = pattern.replace(re.escape(f"{{{name}}}"), ".*")
            assert re.search(pattern, shows), reason["id"]
        expected = f"/takedown?video={verdict['video_id']}" if verdict["released"] else "/takedown"
        assert page.locator("#report").get_attribute("href") == expected
        fits(page)
        if verdict["state"] not in told:
            told.add(verdict["state"])
            keep(page, f"page-verdict-{verdict['state']}-{language}")
            if language == "en":
                assert findings(page) == []
    assert told == set(STATES)


def test_refusing_is_as_large_as_approving(shown: Shown) -> None:
    for name, choices in (
        ("draft", "#decide .btn"),
        ("permission", ".take .btn"),
        ("sign", "#sign .btn"),
        ("leave", "form .pair .btn"),
    ):
        page = shown(name, "en")
        page.wait_for_timeout(100)
        sizes = {
            (round(box["width"]), round(box["height"]))
            for one in page.locator(choices).all()
            if (box := one.bounding_box()) is not None
        }
        assert len(sizes) == 1, (name, sizes)


def test_a_permission_is_put_together_with_the_keyboard_alone(shown: Shown) -> None:
    page = shown("permission-new", "en")
    for path in ("**/me/permissions/preview", "**/sent"):
        page.route(path, lambda route: route.fulfill(body="<title>sent</title>", content_type="text/html"))

    def focused(selector: str) -> None:
        for _ in range(40):
            if page.evaluate(f"document.activeElement?.matches({selector!r})"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"the keyboard does not reach {selector}")

    focused("input[name=who]")
    page.keyboard.press("Enter")
    assert page.inner_text(".step-count") == "Step 1 of 8", "nobody was chosen yet"
    page.keyboard.press("Space")
    for step in range(2, 9):
        focused("form .pair .btn.main[type=button]")
        page.keyboard.press("Enter")
        assert page.inner_text(".step-count") == f"Step {step} of 8"
        assert page.evaluate("document.activeElement.tagName") == "LEGEND"
        if step == 2:
            sound(page)
    with page.expect_request("**/me/permissions/preview") as sent:
        focused("[data-end] .btn.main")
        page.keyboard.press("Enter")
    body = sent.value.post_data or ""
    page.wait_for_url("**/preview")
    assert "max_uses=1&" in body
    assert "days=30" in body
    assert "approval=before_release" in body
    assert "may_pass_on=no" in body
    assert body.count("forbidden_contexts=") == 5
    assert "jurisdictions=DE" in body
    assert "actions=generate" in body
    assert "person=" not in body


def test_the_desk_shows_how_to_accept_a_film(shown: Shown) -> None:
    page, film = shown("operator", "en"), f"capture_{'k' * 26}"
    answers = {"reviews": "reviews", "takedowns/queue": "notices"}
    waiting = {
        "capture_id": film,
        "display_name": pages_fixture.NASTY,
        "digits": "481273",
        "turns": ["left", "right"],
        "born_on": "1956-11-19",
        "sent_at": "2026-02-20T10:00:00Z",
        "sha256": "0" * 64,
        "film": "/film",
        "findings": [
            {"check": "depth", "score": 150, "sentence": "the face is as flat as a picture", "doubted": True},
            {"check": "person", "score": 950, "sentence": pages_fixture.NASTY, "doubted": False},
        ],
    }
    page.route("**/v1/enrolments", lambda route: route.fulfill(json={"enrolments": [waiting]}))
    for path, name in answers.items():
        page.route(f"**/v1/{path}", lambda route, _request, name=name: route.fulfill(json={name: []}))
    page.fill("#key", "cs_operator_x")
    page.click("#operator-in button")
    page.wait_for_selector("#captures pre")
    command = page.inner_text("#captures pre").split()
    assert command[:4] == ["countersign", "enrolments", "accept", film]
    options = {option for one in accept.params for option in one.opts}
    assert set(command[4::2]) <= options, "the desk shows options that the command does not have"
    sound(page)
    keep(page, "desk-with-a-film")
    page.click("#operator-out")
    assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize(("language", "dark"), [("en", False), ("de", True)])
def test_the_desk_fetches_nothing_sharp_of_a_held_clip_before_somebody_asks(
    shown: Shown, language: Language, dark: bool
) -> None:
    page, asked = shown("operator", language, viewport=DESK, dark=dark), list[str]()
    clip = pages_fixture.held_clip()

    def picture(route: Route) -> None:
        assert route.request.headers["authorization"] == "Bearer cs_operator_x"
        path = route.request.url.partition("localhost")[2]
        asked.append(path)
        out = io.BytesIO()
        Image.linear_gradient("L").resize((320, 180)).convert("RGB").save(out, "JPEG")
        route.fulfill(body=out.getvalue(), content_type="image/jpeg")

    empty = {"takedowns/queue": "notices", "enrolments": "enrolments"}
    for path, name in empty.items():
        page.route(f"**/v1/{path}", lambda route, _request, name=name: route.fulfill(json={name: []}))
    page.route("**/v1/reviews", lambda route: route.fulfill(json={"reviews": [], "clips": [clip]}))
    page.route("**/v1/reviews/*/pictures/**", picture)
    page.route("**/v1/reviews/*/clip", picture)
    page.fill("#key", "cs_operator_x")
    page.click("#operator-in button")
    for n in (1, 2):
        page.wait_for_selector(f".frames figure:nth-child({n}) img[src]")
    assert sorted(asked) == [one["blurred"] for one in clip["pictures"]]
    assert page.evaluate("getComputedStyle(document.querySelector('.frames img')).filter") == "grayscale(1)"
    sound(page)
    keep(page, f"desk-with-a-held-clip-{language}")
    # By keyboard alone: show, blur again, load the clip.
    button = page.locator(".frames button").first
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".frames button[aria-pressed=true]")
    assert asked[-1] == clip["pictures"][0]["sharp"]
    page.keyboard.press("Enter")
    page.wait_for_selector(".frames button[aria-pressed=true]", state="detached")
    assert asked[-1] == clip["pictures"][0]["blurred"]
    page.locator(".held .quiet").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".held video")
    film = page.evaluate(
        "(({ muted, autoplay, paused }) => ({ muted, autoplay, paused }))(document.querySelector('.held video'))"
    )
    assert film == {"muted": True, "autoplay": False, "paused": True}
    sound(page)
    # A word is sent with its reason.
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.route(
            f"**/v1/reviews/{clip['video_id']}", lambda route: route.fulfill(json={"status": "waiting"})
        )
        page.fill(".held input[type=text]", "a statue")
        page.locator(".held .pair button").first.click()
    assert sent.value.post_data_json == {"decision": "pass", "note": "a statue"}
    page.click("#operator-out")


def test_the_browser_signs_nothing_but_what_it_shows(shown: Shown) -> None:
    page = shown("sign", "en")
    page.wait_for_selector("#hash-check.yes")
    assert page.locator("#sign button").is_enabled()
    other = shown("sign-guardian", "en")
    # The example's challenge is a permission's; here the page is told another tag.
    other.evaluate("document.getElementById('canonical').textContent += ' '")
    altered = rendered("sign", "en", **pages_fixture.pages("en")["sign"][1]).replace(
        "{&quot;grantee", "{ &quot;grantee"
    )
    assert altered != rendered("sign", "en", **pages_fixture.pages("en")["sign"][1])
    page.route(
        "http://localhost/altered", lambda route: route.fulfill(body=altered, content_type="text/html")
    )
    page.goto("http://localhost/altered")
    page.wait_for_selector("#hash-check.no")
    assert page.locator("#sign button").is_disabled()


# -- on a running service -----------------------------------------------------------------------------------


@pytest.fixture
def phone(browser: Browser, live: Site) -> Iterator[Page]:
    """A phone with a fingerprint reader (a CDP virtual authenticator)."""
    context = browser.new_context(viewport=PHONE, base_url=live.url, locale="en-GB", reduced_motion="reduce")
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    tools = context.new_cdp_session(page)
    tools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    tools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    # A refusal is a status that Chromium writes down as an error; a script that fails is what is looked for.
    assert [text for text in complaints if "the server responded with a status of 4" not in text] == []


def joined(page: Page, name: str = "Ada") -> str:
    """Open an account on its page. Returns one of the recovery codes."""
    page.goto("/join")
    page.fill("#name", name)
    page.fill("#born", "1980-05-04")
    page.click("#join button")
    page.wait_for_selector("#codes li")
    codes = page.locator("#codes li").all_inner_texts()
    assert len(codes) == 10
    page.click("text=I have kept them safe")
    page.wait_for_url("**/me")
    return codes[0]


def enrolled(page: Page, site: Site) -> None:
    """The operator has seen the person, and says so."""
    me = page.request.get("/v1/me").json()
    answer = site.vouch(
        collins_picture(), device=Ed25519PrivateKey.generate(), device_key=None, person_id=me["person_id"]
    )
    assert answer.status_code == 201, answer.text


def test_from_joining_to_taking_back(phone: Page, live: Site) -> None:
    joined(phone)
    assert "Hello, Ada" in phone.inner_text("h1")
    assert "not here yet" in phone.inner_text("#likeness-title")
    enrolled(phone, live)
    phone.reload()
    assert "protected" in phone.inner_text("#likeness-title")
    keep(phone, "journey-home")

    phone.click("text=New permission")
    phone.check("input[name=who][value=app]")
    phone.select_option("#app", label="film club")
    for _ in range(7):
        phone.click("form .pair .btn.main[type=button]")
    phone.click("text=See what it says")
    phone.wait_for_selector("#hash-check.yes")
    words = phone.inner_text("#sentence")
    assert "film club" in words
    assert "your face, not your voice" in words
    sound(phone)
    keep(phone, "journey-sign")
    phone.click("text=Allow, with my passkey")
    phone.wait_for_url("**/me/permissions/grant_*")
    assert "In force" in phone.inner_text("#permissions")
    sound(phone)
    keep(phone, "journey-permission")

    phone.goto("/me")
    phone.click("#permissions button[value=withdraw_all]")
    phone.wait_for_selector("#done .banner")
    assert phone.url.endswith("/me"), "the page was not left"
    assert "You allow nothing right now" in phone.inner_text("#permissions")
    assert phone.evaluate("document.activeElement.id") == "permissions-title"
    phone.wait_for_function("document.getElementById('live').textContent.includes('Taken back')")

    for path in ("/me/timeline", "/me/people", "/me/family", "/me/security", "/me/enrol", "/me/export-erase"):
        phone.goto(path)
        assert phone.locator("h1").count() == 1, path
        fits(phone)
        keep(phone, f"journey{path.replace('/', '-')}")


def test_signing_in_again_and_with_a_recovery_code(phone: Page) -> None:
    code = joined(phone, "Grace")
    phone.click("text=Sign out")
    phone.goto("/me/people")
    phone.wait_for_url("**/signin?next=*")
    phone.click("#signin button")
    phone.wait_for_url("**/me/people")
    phone.click("text=Sign out")
    phone.goto("/signin")
    phone.click("summary")
    phone.fill("#code", code)
    phone.click("#recover button")
    phone.wait_for_url("**/me/security?done=recovered")
    assert "Add a new passkey now" in phone.inner_text("#done")
    sound(phone)
    # One sees what is allowed, and no more.
    phone.goto("/me/timeline")
    assert phone.url.endswith("/me/security")
    phone.goto("/signin")
    phone.click("summary")
    phone.fill("#code", code)
    phone.click("#recover button")
    assert "did not work" in phone.locator("main [role=alert]", has_text="code").first.inner_text()


def test_erasing_asks_for_a_word_and_hands_over_what_remains(phone: Page, live: Site) -> None:
    joined(phone, "Mia")
    enrolled(phone, live)
    phone.goto("/me/export-erase")
    phone.fill("#confirm", "yes")
    phone.click("text=Erase it")
    assert "Nothing was erased" in phone.inner_text("main")
    phone.fill("#confirm", "erase")
    phone.click("text=Erase it")
    phone.wait_for_selector("text=Your likeness is erased")
    sound(phone)
    with phone.expect_download() as saved:
        phone.click("button:has-text('Save the certificate')")
    assert "erased" in saved.value.path().read_text() or "erasure" in saved.value.path().read_text()


def test_a_film_is_sent_and_waits(phone: Page, tmp_path: Path) -> None:
    joined(phone, "Hedy")
    film = tmp_path / "film.mp4"
    video_of(pixels(collins_picture()), film, frames=48)
    phone.goto("/me/enrol")
    phone.check("input[name=agreed]")
    phone.click("text=Begin")
    phone.wait_for_selector(".digits li")
    assert re.fullmatch(r"\d{6}", phone.get_attribute(".digits", "aria-label") or "")
    assert re.fullmatch(r"[45]:\d\d", phone.inner_text(".clock"))
    sound(phone)
    phone.click("#by-file summary")
    phone.set_input_files("#film", film)
    phone.click("text=Send the film")
    phone.wait_for_selector("text=A person is checking your film")
    phone.goto("/me")
    assert "A person is checking your film" in phone.inner_text("#likeness-title")


def test_a_draft_waits_first_and_is_let_out(browser: Browser, live: Site, collins: Owner) -> None:
    collins.grant("other app", approval="before_release", max_uses=2)
    with live.client("other app") as app:
        asked = app.post("/v1/videos", json=wanted(collins, prompt="a portrait, waiting"))
        assert asked.status_code == 200, asked.text
    until = time.monotonic() + PATIENCE_S
    while not collins.web.get("/v1/approvals").json()["drafts"] and time.monotonic() < until:
        time.sleep(0.5)
    context = browser.new_context(viewport=PHONE, base_url=live.url, locale="en-GB")
    context.set_default_timeout(1000 * PATIENCE_S)
    cookies = [
        {"name": one.name, "value": one.value or "", "url": live.url} for one in collins.web.cookies.jar
    ]
    context.add_cookies(cast("Any", cookies))
    page = context.new_page()
    page.goto("/me")
    page.click("a.draft")
    assert "a portrait, waiting" in page.inner_text("blockquote")
    page.wait_for_function("document.querySelector('video').readyState >= 1")
    sound(page)
    keep(page, "journey-draft")
    page.click("button[value=approve]")
    page.wait_for_url("**/me?done=approved")
    assert "Nothing is waiting" in page.inner_text("#waiting")
    context.close()
    with live.client("other app") as app:
        assert ended(app, asked.json()["id"])["status"] == "completed"


@pytest.fixture
def unscripted(browser: Browser, live: Site, collins: Owner) -> Iterator[Page]:
    """A browser without JavaScript in which somebody is signed in."""
    context = browser.new_context(
        viewport=PHONE, base_url=live.url, java_script_enabled=False, locale="de-DE"
    )
    context.set_default_timeout(1000 * PATIENCE_S)
    cookies = [
        {"name": one.name, "value": one.value or "", "url": live.url} for one in collins.web.cookies.jar
    ]
    context.add_cookies(cast("Any", cookies))
    yield context.new_page()
    context.close()


def test_without_javascript_everything_but_passkeys_works(unscripted: Page, collins: Owner) -> None:
    page = unscripted
    page.goto("/me")
    assert page.locator("html").get_attribute("lang") in LANGUAGES
    before = collins.web.get("/v1/circle").json()["blocked"]
    target = collins.site.holder("other app")
    page.goto("/me/people")
    page.fill("#block", target)
    page.click("form[action^='/me/people/block'] button")
    assert page.url.endswith("/me/people?done=blocked")
    assert [one["target"] for one in collins.web.get("/v1/circle").json()["blocked"]] == [target]
    page.click(f"button[value='{target}']")
    assert collins.web.get("/v1/circle").json()["blocked"] == before
    grant = collins.grant("third app")
    page.goto(f"/me/permissions/{grant}")
    page.click("button[value=withdraw_all]")
    assert page.url.endswith(f"/me/permissions/{grant}?done=withdrawn")
    told = {one["grant_id"]: one for one in collins.web.get("/v1/grants").json()["grants"]}
    assert told[grant]["status"] == "revoked"
    page.click("footer button[name=language]")
    page.goto("/me")
    assert page.locator("html").get_attribute("lang") == "de"
    page.goto("/me/permissions/new")
    page.check("input[name=who][value=everyone]")
    page.check("input[name=jurisdictions][value=DE]")
    page.click("text=Ansehen, was sie sagt")
    assert "Alle dürfen" in page.inner_text("#sentence")


def test_an_app_may_ask_in_my_name_until_i_take_that_back(live: Site, collins: Owner) -> None:
    held = {"app": live.holder("other app"), "days": "7"}
    made = collins.web.post("/me/security/tokens", data=held)
    (token,) = re.findall(r"cs_person_[\w-]{43}", made.text)
    after = collins.web.get("/me/security").text
    assert token not in after, "it is shown a second time"
    (one,) = collins.web.get("/v1/tokens").json()["tokens"]
    assert one["id"] in after
    taken = collins.web.post("/me/security/tokens/remove", data={"token": one["id"]})
    assert (taken.status_code, taken.headers["location"]) == (303, "/me/security?done=removed")
    assert collins.web.get("/v1/tokens").json()["tokens"] == []


def test_one_signs_out_everywhere_else(live: Site, collins: Owner) -> None:
    with live.client() as elsewhere:
        there = replace(collins, web=elsewhere)
        assert there.sign_in().status_code == 201
        assert elsewhere.get("/v1/me").status_code == 200
        answer = collins.web.post("/me/security/sessions/others")
        assert (answer.status_code, answer.headers["location"]) == (303, "/me/security?done=signed_out")
        assert elsewhere.get("/v1/me").status_code == 401
    assert len(collins.web.get("/v1/me").json()["sessions"]) == 1


def test_a_page_of_another_site_can_send_no_form(live: Site, collins: Owner) -> None:
    grant = collins.grant("third app")
    for path, form in (
        (f"/me/permissions/{grant}/take-back", {"effect": "withdraw_all"}),
        ("/me/people/block", {"target": live.holder("film club")}),
        ("/me/export-erase/erase", {"confirm": "ERASE"}),
        ("/me/security/tokens", {"app": live.holder("film club"), "days": "7"}),
        ("/me/security/sessions/others", {}),
        ("/me/family/leave", {"person_id": collins.person_id}),
        ("/language", {"language": "de"}),
        ("/signout", {}),
    ):
        answer = collins.web.post(path, data=form, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403, path
    assert collins.web.get("/v1/me").status_code == 200
    assert all(
        one["revoked_at"] is None
        for one in collins.web.get("/v1/grants").json()["grants"]
        if one["grant_id"] == grant
    )


def test_what_is_not_there_is_a_page_too(live: Site, collins: Owner) -> None:
    missing = collins.web.get("/me/permissions/grant_nothing", headers={"accept-language": "en"})
    assert missing.status_code == 404
    assert "There is nothing here" in missing.text
    other = collins.web.get(f"/me?for=person_{'0' * 26}")
    assert other.status_code == 403
    with live.client() as nobody:
        away = nobody.get("/me/people?for=x")
        assert away.status_code == 303
        assert away.headers["location"] == "/signin?next=%2Fme%2Fpeople%3Ffor%3Dx"
        sent = nobody.post("/takedown", data={"kind": "takedown", "name": '"><img src=x>'})
        assert sent.status_code == 400
        assert "<img src=x>" not in sent.text
