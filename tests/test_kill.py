"""kill -9 at every step of a clip's life, and just beside it: nothing is lost, charged twice or released wrongly.

Each row: a running service kills itself at one point of one job, is started again, and must finish the job. Then
an outsider looks: at the signed log, at the owner's uses, at what can be downloaded, at what lies on the disk.
"""

import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from ledger.log.note import Checkpoint
from live import BROKEN, PATIENCE_S, PROMPT, UNHURRIED, Launcher, Owner, Site, collins_picture, ended, wanted

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

KILLED = -9
POINTS = [
    "decision.unsigned",  # decided and committed, not yet under a signed checkpoint, the app was told nothing
    "enqueue.before",  # decided and signed, not yet in the queue
    "enqueue.after",
    "render.before",
    "render.after",
    "clear.before",
    "clear.after",
    "stamp.before",
    "stamp.after",
    "release.before",
    "put.half",  # half of the clip lies in the object store, under a temporary name
    "put.torn",  # half of it lies there under its own name
    "put.after",  # all of it does, and nothing names it
    "release.unsigned",  # published, not yet under a signed checkpoint
    "release.after",
    "tidy.before",
    "tidy.after",
]
FAILING = {
    "fail.before": f"{PROMPT}, {BROKEN}",
    "returned.unsigned": f"{PROMPT}, {BROKEN}",
    "fail.after": f"{PROMPT}, {BROKEN}",
}


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    opened = Site(launcher, tmp_path_factory.mktemp("kill") / "home", apps=("film club",), mortal=True)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture(autouse=True)
def _running(site: Site) -> None:
    """A row that failed leaves the next one a living service."""
    site.die_at("")
    if not site.alive():
        site.start()


@pytest.fixture(scope="module")
def owner(site: Site) -> Iterator[Owner]:
    enrolled = site.enrol(collins_picture())
    enrolled.grant()
    yield enrolled
    enrolled.web.close()


def die(site: Site, owner: Owner, point: str, prompt: str) -> None:
    """Ask for a clip, have the service kill itself at `point` while it makes it, and wait until it is dead."""
    site.die_at(point)
    with site.client("film club") as app, suppress(httpx.TransportError):
        video_id = app.post("/v1/videos", json=wanted(owner, prompt=prompt)).json()["id"]
        until = time.monotonic() + PATIENCE_S
        while site.alive():
            assert time.monotonic() < until, f"it passed `{point}`, or never came there"
            # What can be downloaded meanwhile, however far the job has come, is nothing or the finished clip.
            content = app.get(f"/v1/videos/{video_id}/content")
            assert content.status_code == 404 or _is_ours(site, content)
            time.sleep(0.1)
    assert site.ended() == KILLED, site.said()[-2000:]
    site.die_at("")


def _is_ours(site: Site, content: httpx.Response) -> bool:
    """A clip that can be downloaded was released, and is marked and signed."""
    if content.status_code != 200:
        return False
    with site.client() as web:
        verdict = web.post("/v1/verify", content=content.content).json()
    return bool(verdict["manifest_trusted"] and verdict["asset_bound"] and verdict["released"])


def recovered(site: Site, before: Checkpoint) -> str:
    """Start again and wait for the job that was under way. Returns its id."""
    site.start()
    assert site.checkpoint().size >= before.size
    return newest(site)


def newest(site: Site) -> str:
    """The id of the newest job, once it has ended."""
    with site.client("film club") as app:
        (video,) = app.get("/v1/videos", params={"limit": 1}).json()["data"]
        return str(ended(app, video["id"])["id"])


def check(site: Site, owner: Owner, video_id: str, *, uses_before: int, completed: bool) -> None:
    """What an outsider finds after the job has ended."""
    told = [body["kind"] for body in site.audit(owner.cameo_id) if body.get("video_id") == video_id]
    assert told == ["decision", "release" if completed else "returned"]
    assert sum(owner.used().values()) == uses_before + (1 if completed else 0)
    with site.client("film club") as app:
        video = app.get(f"/v1/videos/{video_id}").json()
        content = app.get(f"/v1/videos/{video_id}/content")
        assert app.get("/ready").json()["log_size"] == site.checkpoint().size
    if completed:
        assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)
        assert _is_ours(site, content)
    else:
        assert (video["status"], content.status_code) == ("failed", 404)
        assert video["error"]["message"]
    # Nothing is stored but the clips that are out; half a file under a temporary name is no clip.
    stored = [path.name for path in (site.home / "objects" / "clips").rglob("*") if path.is_file()]
    assert len([name for name in stored if "#" not in name]) == released(site)
    until = time.monotonic() + PATIENCE_S
    while left := list((site.home / "work").iterdir()):
        assert time.monotonic() < until, f"left behind: {left}"
        time.sleep(0.1)
    assert [path.name for path in site.temporary.iterdir() if not path.name.startswith("canary-")] == []
    assert list((site.home / "uploads").iterdir()) == []


def released(site: Site) -> int:
    """How many clips the app can download."""
    with site.client("film club") as app:
        videos = app.get("/v1/videos", params={"limit": 100}).json()["data"]
    return sum(video["status"] == "completed" for video in videos)


@pytest.mark.parametrize("point", POINTS)
def test_a_clip_is_made_once_and_released_once_wherever_it_was_killed(
    site: Site, owner: Owner, point: str
) -> None:
    uses, before = sum(owner.used().values()), site.checkpoint()
    die(site, owner, point, PROMPT)
    video_id = recovered(site, before)
    check(site, owner, video_id, uses_before=uses, completed=True)


@pytest.mark.parametrize("point", FAILING)
def test_a_job_that_fails_gives_its_use_back_once_wherever_it_was_killed(
    site: Site, owner: Owner, point: str
) -> None:
    uses, before = sum(owner.used().values()), site.checkpoint()
    die(site, owner, point, FAILING[point])
    video_id = recovered(site, before)
    check(site, owner, video_id, uses_before=uses, completed=False)


def test_consent_taken_back_after_the_restart_still_stops_the_clip(site: Site, owner: Owner) -> None:
    before = site.checkpoint()
    someone = site.enrol(collins_picture())
    grant_id = someone.grant()
    die(site, someone, "render.before", f"{PROMPT}, {UNHURRIED}")
    site.start()
    assert someone.web.post(f"/v1/grants/{grant_id}/revoke").status_code == 200
    video_id = newest(site)
    check(site, someone, video_id, uses_before=0, completed=False)
    assert site.checkpoint().size > before.size
    someone.web.close()


def test_everything_queued_at_the_moment_of_death_is_made(site: Site, owner: Owner) -> None:
    uses = sum(owner.used().values())
    with site.client("film club") as app:
        waiting = [app.post("/v1/videos", json=wanted(owner)).json()["id"] for _ in range(2)]
        die(site, owner, "clear.after", PROMPT)
        site.start()
        (killed,) = {video["id"] for video in app.get("/v1/videos?limit=3").json()["data"]} - set(waiting)
        waiting.append(killed)
        assert {ended(app, video_id)["status"] for video_id in waiting} == {"completed"}
    for video_id in waiting:
        check(site, owner, video_id, uses_before=uses + len(waiting) - 1, completed=True)
