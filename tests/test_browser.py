"""The page anyone opens, in a real Chromium: a clip is dropped on it, and the words are read as a person would."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from ledger.provenance import media
from live import PATIENCE_S, Clip, Site

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

SCREENSHOTS = Path(__file__).resolve().parent.parent / "var" / "screenshots"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PHONE, DESK = ViewportSize(width=390, height=844), ViewportSize(width=1100, height=1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail(
            "the page needs a browser to be tested in: run `make setup`, or `apt-get install chromium`"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(params=["phone", "desk"])
def page(browser: Browser, live: Site, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, open; anything it complains about in the console fails the test."""
    page = browser.new_page(viewport=PHONE if request.param == "phone" else DESK)
    page.set_default_timeout(1000 * PATIENCE_S)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{live.url}/verify")
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.name}.png", full_page=True)
    page.close()
    assert [text for text in complaints if "415" not in text] == []


def checked(page: Page, clip: Path) -> list[str]:
    page.set_input_files("#file", clip)
    page.wait_for_selector("#findings li", timeout=1000 * PATIENCE_S)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    return [*page.locator("#facts dd").all_inner_texts(), *page.locator("#findings li").all_inner_texts()]


def test_a_released_clip_shows_who_signed_and_that_everyone_agreed(
    page: Page, clip: Clip, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.content)
    found = " ".join(checked(page, path))
    assert "Its bytes are the ones that were signed" in found
    assert "Everyone shown in the clip still agrees" in found
    assert "exactly as it was released" in page.inner_text("#sentence")
    page.wait_for_function("() => document.getElementById('player').videoWidth > 0")
    page.click("#auditors > summary")
    assert "faces" in page.inner_text("#notes")
    page.click("#report")
    page.wait_for_url("**/takedown?video=*")
    assert page.input_value("[name=video]") == clip.video_id
    page.go_back()


def test_a_stripped_clip_is_found_through_its_mark(page: Page, clip: Clip, tmp_path: Path) -> None:
    path, stripped = tmp_path / "clip.mp4", tmp_path / "stripped.mp4"
    path.write_bytes(clip.content)
    media.remux(path, stripped)
    found = " ".join(checked(page, stripped))
    assert "no signed statement" in found
    assert "through the invisible mark" in found
    assert "what else it shows is not covered" in page.inner_text("#sentence")


def test_a_file_that_is_no_video_gets_words_and_not_a_blank(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "letter.mp4"
    path.write_text("this is not a video")
    page.set_input_files("#file", path)
    page.locator("#sentence", has_text="not a video that we can read").wait_for()
    assert page.locator("#findings li").count() == 0
