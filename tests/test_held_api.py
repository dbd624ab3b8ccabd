"""The queue of held clips over HTTP: what reviewers see and say, what the app and those shown are told of it."""

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from command import countersign
from gateway.reviewing import SECOND
from live import OPERATOR, PATIENCE_S, PROMPT, STRANGER, Launcher, Owner, Site, collins_picture, ended, wanted

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

OTHERS = ("eve", "finn")
WRONG = 2
"""The exit status of a command that was not right."""


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("held") / "home"
    opened = Site(launcher, home, apps=("film club", "other app"), colleagues=OTHERS, mortal=True)
    opened.start()
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def collins(site: Site) -> Iterator[Owner]:
    enrolled = site.enrol(collins_picture())
    enrolled.grant()
    yield enrolled
    enrolled.web.close()


@pytest.fixture
def app(site: Site) -> Iterator[httpx.Client]:
    with site.client("film club") as web:
        yield web


def held(site: Site, app: httpx.Client, collins: Owner) -> str:
    """A clip with a stranger in it, which waits for reviewers."""
    video_id = str(app.post("/v1/videos", json=wanted(collins, prompt=f"{PROMPT}, {STRANGER}")).json()["id"])
    waits(app, video_id)
    return video_id


def waits(app: httpx.Client, video_id: str) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE_S
    while True:
        video: dict[str, Any] = app.get(f"/v1/videos/{video_id}").json()
        if video["waits"] is not None:
            return video
        assert video["status"] in {"queued", "in_progress"}, video
        assert time.monotonic() < until, video
        time.sleep(0.2)


def queued(site: Site, name: str, video_id: str) -> dict[str, Any] | None:
    with site.client(name) as web:
        clips = web.get("/v1/reviews").json()["clips"]
    return next((one for one in clips if one["video_id"] == video_id), None)


def look(site: Site, name: str, video_id: str) -> None:
    with site.client(name) as web:
        assert web.get(f"/v1/reviews/{video_id}/pictures/0/sharp").status_code == 200


def say(site: Site, name: str, video_id: str, decision: str) -> httpx.Response:
    with site.client(name) as web:
        return web.post(
            f"/v1/reviews/{video_id}", json={"decision": decision, "note": "somebody in the back"}
        )


def passed(site: Site, name: str, video_id: str) -> str:
    look(site, name, video_id)
    answer = say(site, name, video_id, "pass")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["status"])


def reason(answer: httpx.Response) -> str:
    return str(
        answer.json()["error"]["code"] if "error" in answer.json() else answer.json()["reasons"][0]["id"]
    )


def pixels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"), np.float64)


def test_two_reviewers_let_a_clip_pass_and_one_does_not(
    site: Site, app: httpx.Client, collins: Owner
) -> None:
    video_id = held(site, app, collins)
    video = app.get(f"/v1/videos/{video_id}").json()
    assert (video["status"], video["error"], video["waits"]["for"]) == ("queued", None, "review")
    assert app.get(f"/v1/videos/{video_id}/content").status_code == 404
    assert collins.web.get("/v1/approvals").json()["drafts"] == []
    assert collins.web.get(f"/v1/timeline/{video_id}/thumbnail").status_code == 404
    shown = queued(site, OPERATOR, video_id)
    assert shown is not None
    assert (shown["policies"], shown["people_who_agreed"]) == (["clear.ungranted_face"], 1)
    assert all(one["boxes"] for one in shown["pictures"])
    assert "hopper" not in str(shown).lower()

    unseen = say(site, OPERATOR, video_id, "pass")
    assert unseen.status_code == 400, "let pass by somebody who never looked"
    assert passed(site, OPERATOR, video_id) == "waiting"
    assert app.get(f"/v1/videos/{video_id}").json()["status"] == "queued"
    again = say(site, OPERATOR, video_id, "pass")
    assert again.status_code == 400, "one operator was counted as two"
    assert passed(site, "eve", video_id) == "released"

    assert ended(app, video_id)["status"] == "completed"
    assert app.get(f"/v1/videos/{video_id}/content").status_code == 200
    assert queued(site, OPERATOR, video_id) is None
    told = [body for body in site.audit(collins.cameo_id) if body.get("video_id") == video_id]
    kinds = [body["action"] if body["kind"] == "review" else body["kind"] for body in told]
    assert kinds == ["decision", "held", "looked", "passed", "looked", "passed", "release"]
    assert [body["operator"] for body in told if "operator" in body] == [OPERATOR, OPERATOR, "eve", "eve"]
    titles = [one["title"] for one in collins.web.get("/v1/timeline").json()["events"]]
    assert f"{OPERATOR} looked at a video with you" in titles


def test_pictures_are_blurred_until_somebody_chooses_to_look(
    site: Site, app: httpx.Client, collins: Owner
) -> None:
    video_id = held(site, app, collins)
    path = f"/v1/reviews/{video_id}/pictures/0"
    before = site.checkpoint().size
    with site.client("finn") as web:
        blurred = web.get(path)
        assert (blurred.status_code, blurred.headers["cache-control"]) == (200, "no-store")
        assert site.checkpoint().size == before, "a blurred picture is nothing to record"
        sharp = web.get(f"{path}/sharp")
        assert web.get(f"/v1/reviews/{video_id}/pictures/99").status_code == 404
        assert web.get(f"/v1/reviews/{video_id}/clip", headers={"range": "bytes=0-9"}).status_code == 206
    detail = [np.abs(np.diff(pixels(one.content), axis=1)).mean() for one in (blurred, sharp)]
    assert detail[0] * 2 < detail[1], f"as sharp as the sharp one: {detail}"
    looks = [
        b
        for b in site.audit(collins.cameo_id)
        if b.get("video_id") == video_id and b.get("action") == "looked"
    ]
    assert [one["operator"] for one in looks] == ["finn"]
    for name in ("", "film club", "press council"):
        with site.client(name) as web:
            for one in (path, f"{path}/sharp", f"/v1/reviews/{video_id}/clip"):
                assert web.get(one).status_code == 401
    assert say(site, OPERATOR, video_id, "refuse").json()["status"] == "refused"


def test_a_refused_clip_is_heard_once_by_others_and_comes_back(
    site: Site, app: httpx.Client, collins: Owner
) -> None:
    before = collins.used()
    video_id = held(site, app, collins)
    assert say(site, OPERATOR, video_id, "refuse").json()["status"] == "refused"
    failed = app.get(f"/v1/videos/{video_id}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "review.refused")
    assert failed["waits"]["for"] == "may_appeal"
    assert collins.used() == before
    assert queued(site, "eve", video_id) is None, "nobody has appealed"

    with site.client("other app") as other:
        assert other.post(f"/v1/videos/{video_id}/appeal", json={"text": "please"}).status_code == 404
    appealed = app.post(f"/v1/videos/{video_id}/appeal", json={"text": "that is a statue"})
    assert appealed.status_code == 202, appealed.text
    assert app.post(f"/v1/videos/{video_id}/appeal", json={"text": "please"}).status_code == 400
    shown = queued(site, "eve", video_id)
    assert shown is not None
    assert (shown["waits_for"], shown["appeal"]) == ("appeal", "that is a statue")
    assert "statue" not in str(site.audit(collins.cameo_id)), "what the app wrote is not for everyone"

    look(site, OPERATOR, video_id)
    assert say(site, OPERATOR, video_id, "pass").status_code == 400, "heard by who refused it"
    assert passed(site, "eve", video_id) == "waiting"
    assert passed(site, "finn", video_id) == "released"
    assert ended(app, video_id)["status"] == "completed"
    assert app.get(f"/v1/videos/{video_id}/content").status_code == 200
    assert sum(collins.used().values()) == sum(before.values()) + 1
    told = [body for body in site.audit(collins.cameo_id) if body.get("video_id") == video_id]
    kinds = [body["kind"] for body in told if body["kind"] != "review"]
    assert kinds == ["decision", "returned", "decision", "release"]


def test_an_appeal_that_is_refused_ends_it(site: Site, app: httpx.Client, collins: Owner) -> None:
    video_id = held(site, app, collins)
    say(site, OPERATOR, video_id, "refuse")
    app.post(f"/v1/videos/{video_id}/appeal", json={"text": "that is a statue"})
    assert say(site, OPERATOR, video_id, "refuse").status_code == 400
    assert say(site, "eve", video_id, "refuse").json()["status"] == "refused"
    assert app.get(f"/v1/videos/{video_id}").json()["waits"] is None
    assert queued(site, "finn", video_id) is None
    assert app.post(f"/v1/videos/{video_id}/appeal", json={"text": "once more"}).status_code == 400


def test_a_reviewer_does_the_same_at_the_command_line(
    site: Site, app: httpx.Client, collins: Owner, tmp_path: Path
) -> None:
    video_id, key, out = held(site, app, collins), tmp_path / "dana.key", tmp_path / "pictures"
    key.write_bytes(site.operator.private_bytes_raw())
    key.chmod(0o600)
    stranger = tmp_path / "nobody.key"
    stranger.write_bytes(bytes(range(32)))
    note = ("--note", "somebody in the back")

    def say(*said: str | Path, by: Path = key) -> tuple[int, str]:
        answer = countersign(site.home, "reviews", *said, "--key", by, PORT=str(site.port))
        return answer.status, answer.text

    assert say("list", by=stranger)[0] == WRONG
    status, listed = say("list")
    assert (status, video_id in listed, "clear.ungranted_face" in listed) == (0, True, True)
    assert say("show", video_id, "--out", out)[0] == 0
    blurred = (out / f"{video_id}-0.jpg").read_bytes()
    unseen = say("pass", video_id, *note)
    assert (unseen[0], "not looked at" in unseen[1]) == (WRONG, True)
    assert say("show", video_id, "--out", out, "--sharp")[0] == 0
    assert (out / f"{video_id}-0.jpg").read_bytes() != blurred
    assert say("pass", video_id, *note)[0] == SECOND
    again = say("pass", video_id, *note)
    assert (again[0], "takes two" in again[1]) == (WRONG, True)
    assert "let pass by one" in say("list")[1]
    refused = say("refuse", video_id, *note)
    assert refused == (0, f"{video_id} is refused\n")
    assert app.get(f"/v1/videos/{video_id}").json()["error"]["code"] == "review.refused"


# ── kill -9 ───────────────────────────────────────────────────────────────────────────────────────────────


def dead(site: Site) -> None:
    until = time.monotonic() + PATIENCE_S
    while site.alive():
        assert time.monotonic() < until, "it did not come there"
        time.sleep(0.1)
    site.ended()
    site.die_at("")
    site.start()


@pytest.mark.parametrize("point", ["put.after", "review.unsigned", "release.after"])
def test_a_clip_is_held_once_wherever_it_was_killed(site: Site, collins: Owner, point: str) -> None:
    site.die_at(point)
    with site.client("film club") as app:
        video_id = str(
            app.post("/v1/videos", json=wanted(collins, prompt=f"{PROMPT}, {STRANGER}")).json()["id"]
        )
    dead(site)
    with site.client("film club") as app:
        waits(app, video_id)
        assert say(site, OPERATOR, video_id, "refuse").json()["status"] == "refused"
        assert app.delete(f"/v1/videos/{video_id}").status_code == 200
    held_once = [
        b for b in site.audit(collins.cameo_id) if b.get("video_id") == video_id and b.get("action") == "held"
    ]
    assert len(held_once) == 1


@pytest.mark.parametrize("point", ["review.unsigned", "settle.before", "put.after", "release.unsigned"])
def test_the_second_word_takes_effect_wherever_it_was_killed(site: Site, collins: Owner, point: str) -> None:
    with site.client("film club") as app:
        video_id = held(site, app, collins)
    assert passed(site, OPERATOR, video_id) == "waiting"
    look(site, "eve", video_id)
    site.die_at(point)
    with contextlib.suppress(httpx.TransportError):
        say(site, "eve", video_id, "pass")
    dead(site)
    with site.client("film club") as app:
        assert ended(app, video_id)["status"] == "completed"
        listed = app.get("/v1/videos", params={"limit": 100}).json()["data"]
    out = sum(one["status"] == "completed" for one in listed)
    kept = sum(one["waits"] is not None for one in listed)
    clips = [p for p in (site.home / "objects" / "clips").rglob("*") if p.is_file() and "#" not in p.name]
    assert len(clips) == out + kept
