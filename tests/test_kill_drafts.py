"""kill -9 around a draft: between the hold, the word and the release. Nothing is lost, released twice or left behind.

Each row: a running service kills itself at one point, is started again, and does what is left to do by itself.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from live import PATIENCE_S, PROMPT, Launcher, Owner, Site, collins_picture, ended, wanted

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

KILLED = -9


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    opened = Site(launcher, tmp_path_factory.mktemp("drafts") / "home", apps=("film club",), mortal=True)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture(autouse=True)
def _running(site: Site) -> None:
    site.die_at("")
    if not site.alive():
        site.start()


@pytest.fixture
def owner(site: Site) -> Iterator[Owner]:
    enrolled = site.enrol(collins_picture())
    enrolled.grant(approval="before_release")
    yield enrolled
    enrolled.web.close()


def drafts(owner: Owner) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = owner.web.get("/v1/approvals").json()["drafts"]
    return found


def waiting(owner: Owner) -> str:
    until = time.monotonic() + PATIENCE_S
    while not (found := drafts(owner)):
        assert time.monotonic() < until, "no draft came"
        time.sleep(0.1)
    return str(found[0]["video_id"])


def ask(site: Site, owner: Owner) -> None:
    with site.client("film club") as app, suppress(httpx.TransportError):
        app.post("/v1/videos", json=wanted(owner, prompt=PROMPT))


def dead(site: Site) -> None:
    until = time.monotonic() + PATIENCE_S
    while site.alive():
        assert time.monotonic() < until, "it did not come there"
        time.sleep(0.1)
    assert site.ended() == KILLED, site.said()[-2000:]
    site.die_at("")


def check(site: Site, owner: Owner, video_id: str, *, released: bool) -> None:
    """What an outsider finds after all of it."""
    told = [body["kind"] for body in site.audit(owner.cameo_id) if body.get("video_id") == video_id]
    assert told == ["decision", "draft", "approval", "release" if released else "returned"]
    assert sum(owner.used().values()) == (1 if released else 0)
    with site.client("film club") as app, site.client() as web:
        video = ended(app, video_id)
        content = app.get(f"/v1/videos/{video_id}/content")
        listed = app.get("/v1/videos", params={"limit": 100}).json()["data"]
        if released:
            assert (video["status"], video["progress"], content.status_code) == ("completed", 100, 200)
            verdict = web.post("/v1/verify", content=content.content).json()
            assert (verdict["asset_bound"], verdict["released"]) == (True, True)
        else:
            assert (video["error"]["code"], content.status_code) == ("approval.refused", 404)
    assert drafts(owner) == []
    # Nothing lies on the disk but the clips that are out.
    out, until = sum(one["status"] == "completed" for one in listed), time.monotonic() + PATIENCE_S
    clips, work = site.home / "objects" / "clips", site.home / "work"
    while len([p for p in clips.rglob("*") if p.is_file() and "#" not in p.name]) != out or list(
        work.iterdir()
    ):
        assert time.monotonic() < until, list(clips.rglob("*"))
        time.sleep(0.2)


@pytest.mark.parametrize(
    "point",
    [
        "put.after",  # the file is stored, and nothing names it
        "draft.unsigned",  # held and committed, not yet under a signed checkpoint
        "release.after",  # held, and the workflow does not know it yet
        "tidy.before",
    ],
)
def test_a_clip_is_held_once_wherever_it_was_killed(site: Site, owner: Owner, point: str) -> None:
    site.die_at(point)
    ask(site, owner)
    dead(site)
    site.start()
    video_id = waiting(owner)
    assert (
        owner.web.post(f"/v1/approvals/{video_id}", json={"decision": "approve"}).json()["status"]
        == "released"
    )
    check(site, owner, video_id, released=True)


@pytest.mark.parametrize("decision", ["approve", "refuse"])
@pytest.mark.parametrize(
    "point",
    [
        "approval.unsigned",  # the word is committed, not yet under a signed checkpoint
        "settle.before",  # the word is durable, and nothing was done about it
        "settle.after",
    ],
)
def test_a_word_takes_effect_wherever_it_was_killed(
    site: Site, owner: Owner, point: str, decision: str
) -> None:
    ask(site, owner)
    video_id = waiting(owner)
    site.die_at(point)
    with suppress(httpx.TransportError):
        owner.web.post(f"/v1/approvals/{video_id}", json={"decision": decision})
    dead(site)
    site.start()
    check(site, owner, video_id, released=decision == "approve")
    # Whoever got no answer asks again, and is told what is so.
    again = owner.web.post(f"/v1/approvals/{video_id}", json={"decision": decision}).json()
    assert again["status"] == ("released" if decision == "approve" else "refused")


@pytest.mark.parametrize("point", ["put.after", "release.unsigned"])
def test_a_release_after_approval_is_finished_wherever_it_was_killed(
    site: Site, owner: Owner, point: str
) -> None:
    ask(site, owner)
    video_id = waiting(owner)
    site.die_at(point)
    with suppress(httpx.TransportError):
        owner.web.post(f"/v1/approvals/{video_id}", json={"decision": "approve"})
    dead(site)
    site.start()
    check(site, owner, video_id, released=True)


def test_a_draft_that_lapsed_while_nothing_ran_is_gone_after_the_start(site: Site, owner: Owner) -> None:
    ask(site, owner)
    video_id = waiting(owner)
    site.stop()
    site.start(ahead_s=8 * 86_400)
    with site.client("film club") as app:
        assert ended(app, video_id)["error"]["code"] == "approval.lapsed"
    until = time.monotonic() + PATIENCE_S
    while any(path.is_file() for path in (site.home / "work").rglob("*")):
        assert time.monotonic() < until
        time.sleep(0.2)
