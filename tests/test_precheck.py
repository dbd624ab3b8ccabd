"""Asking beforehand: the same answer, no trace, and no way to search for other people's grants."""

import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from ledger.consent.registry import erase
from ledger.ids import AppId, CameoId, new_id
from live import Launcher, Owner, Site, collins_picture, ended, unknown, wanted
from safety.gate import Denied, GenerationRequest, WouldAllow
from test_activation import ALICE, COMMERCIAL, NO_COMMERCE, Ruled, hash_of, opened
from world import Someone

pytest_plugins = ["live"]
pytestmark = pytest.mark.slow

LIMIT = 30


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Ruled]:
    world = opened(tmp_path)
    yield world
    world.ledger.close()


def precheck(world: Ruled, request: GenerationRequest) -> WouldAllow | Denied:
    return world.gate.precheck(request, at=world.at)


def told(answer: object) -> tuple[Any, ...]:
    """What an app reads of an answer."""
    return (answer.kind, *answer.reasons) if isinstance(answer, Denied) else ()


def tables(world: Ruled) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that is kept, but for how often was asked."""
    with world.ledger.database.engine.connect() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars()
        return {
            name: sorted(map(tuple, connection.execute(text(f'SELECT * FROM "{name}"'))), key=repr)
            for name in names
            if name != "tally"
        }


# ── the same answer ───────────────────────────────────────────────────────────────────────────────────────


def test_a_precheck_answers_as_the_decision_that_follows(ruled: Ruled) -> None:
    """A law: whoever is told yes and asks at once is not refused, and the reverse, word for word."""
    pick, apps = random.Random(5), [ruled.app() for _ in range(3)]
    people = [ruled.enrol(), ruled.enrol(), ruled.enrol(born_on=date(2015, 5, 5))]
    for person in people[:2]:
        for app in apps[:2]:
            ruled.grant(person, app, max_uses=8, purposes=[COMMERCIAL, "dpv:NonCommercialPurpose"])
    ruled.revoke(people[1], ruled.grant(people[1], apps[2]))
    ruled.suspend(apps[2], ALICE)
    ruled.rule(NO_COMMERCE, share=500)
    kinds = set()
    for n in range(54):
        named = [one.cameo_id for one in pick.sample(people, pick.choice([0, 1, 1, 1, 2]))]
        request = ruled.request(
            pick.choice(apps),
            cameo_ids=(*named, *([CameoId(new_id("cameo"))] if n % 9 == 0 else [])),
            prompt=pick.choice(["a portrait in golden light", "explicit sex", "a bloody battle"]),
            purpose=pick.choice([COMMERCIAL, "dpv:NonCommercialPurpose"]),
            audience=pick.choice(["requester", "requester", "everyone"]),
        )
        before = precheck(ruled, request)
        after = ruled.gate.decide(request, at=ruled.at)
        assert told(before) == told(after)
        kinds.add(before.kind if isinstance(before, Denied) else "allowed")
        ruled.wait(seconds=20)
    assert kinds == {"allowed", "content", "consent"}


def test_a_precheck_leaves_nothing_behind(ruled: Ruled) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app, max_uses=1)
    ruled.shadow(NO_COMMERCE)
    seen, kept = ruled.ledger.checkpoint(), tables(ruled)
    for n in range(LIMIT):
        answer = precheck(
            ruled, ruled.request(app, ada, purpose=COMMERCIAL if n % 2 else "dpv:NonCommercialPurpose")
        )
        assert isinstance(answer, Denied) == bool(n % 2)
    assert ruled.ledger.checkpoint() == seen
    assert tables(ruled) == kept, "no entry, no use, no job, nothing counted for the shadow"
    # And nothing of it counts against asking: the one use is still there.
    ruled.allow(app, ada)


# ── how often ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_thirty_first_precheck_in_a_minute_is_refused_for_that(ruled: Ruled) -> None:
    app, other, ada = ruled.app(), ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    ruled.wait(seconds=3)
    for _ in range(LIMIT):
        assert isinstance(precheck(ruled, ruled.request(app, ada)), WouldAllow)
    for _ in range(3):
        late = precheck(ruled, ruled.request(app, ada))
        assert isinstance(late, Denied)
        assert (late.kind, [reason.id for reason in late.reasons]) == ("traffic", ["standing.prechecks"])
        assert "`30` times" in late.reasons[0].sentence
    # It is about this app, this minute, and prechecks alone; who is turned away is not counted further.
    assert isinstance(precheck(ruled, ruled.request(other)), WouldAllow)
    ruled.allow(app, ada)
    ruled.at = ruled.at.replace(second=0) + timedelta(minutes=1)
    assert isinstance(precheck(ruled, ruled.request(app, ada)), WouldAllow)


def test_two_processes_count_an_apps_prechecks_together(ruled: Ruled) -> None:
    app = ruled.app()
    other = opened(ruled.home)
    for world in [ruled, other] * (LIMIT // 2):
        assert isinstance(precheck(world, world.request(app)), WouldAllow)
    for world in (ruled, other):
        assert isinstance(precheck(world, world.request(app)), Denied)
    other.ledger.close()


def tallies(app_id: AppId, at: datetime, **counts: int) -> list[dict[str, Any]]:
    """Rows as if an app had asked this often."""
    rows = []
    for asked, count in counts.items():
        what, _, length = asked.partition("_")
        window = {"minute": 60, "day": 86_400}[length]
        now = int(at.timestamp())
        name = f"{what}/{app_id}/{window}/{now // window}"
        rows.append({"name": name, "count": count, "expires_at": now + window})
    return rows


ADD_TALLY = text("INSERT INTO tally (name, count, expires_at) VALUES (:name, :count, :expires_at)")


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"ask_minute": 600}, "standing.minute"),
        ({"ask_day": 20_000}, "standing.day"),
        ({"ask_minute": 599, "ask_day": 19_999}, None),
    ],
)
def test_who_asks_too_often_is_turned_away_unheard(
    ruled: Ruled, counts: dict[str, int], reason: str | None
) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    with ruled.ledger.database.writing() as session:
        for row in tallies(app, ruled.at, **counts):
            session.execute(ADD_TALLY, row)
    seen = ruled.ledger.checkpoint()
    answer = ruled.gate.decide(ruled.request(app, ada), at=ruled.at)
    if reason is None:
        assert not isinstance(answer, Denied)
        answer = ruled.gate.decide(ruled.request(app, ada), at=ruled.at)
        assert isinstance(answer, Denied)
        return
    assert isinstance(answer, Denied)
    assert (answer.kind, [one.id for one in answer.reasons]) == ("traffic", [reason])
    assert ruled.ledger.checkpoint() == seen
    assert ruled.entries(app) == []
    assert ruled.gate.decide(ruled.request(ruled.app()), at=ruled.at)
    # The next day it is another one.
    ruled.wait(days=1)
    ruled.allow(app, ada)


def test_two_hundred_videos_in_the_making_are_enough(ruled: Ruled) -> None:
    app = ruled.app()
    first = ruled.allow(app).permit
    with ruled.ledger.reading() as tx:
        assert tx.running_jobs(app) == 1
    ruled.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 199)"
        " INSERT INTO video (id, app_id, model, prompt, size, seconds, status, progress, created_at,"
        " action, downloads)"
        " SELECT 'video_' || i, :app, 'm', 'p', '640x360', 1, 'queued', 0, 0, 'generate', 0 FROM n",
        app=app,
    )
    answer = ruled.gate.decide(ruled.request(app), at=ruled.at)
    assert isinstance(answer, Denied)
    assert [one.id for one in answer.reasons] == ["standing.running"]
    assert "`200` videos" in answer.reasons[0].sentence
    reasons = [{"id": "x", "reason": "it stopped", "remedy": "none"}]
    ruled.ledger.transact(lambda tx: tx.end_job(first.video, "render", reasons, at=ruled.at))
    ruled.allow(app)


# ── what an app may not find out ──────────────────────────────────────────────────────────────────────────


def strangers(world: Ruled, app: AppId) -> dict[str, CameoId]:
    """Likenesses that this app holds no grant for, each in another state."""
    other = world.app()
    granted, revoked, gone, young, unborn = (
        world.enrol(),
        world.enrol(),
        world.enrol(),
        world.enrol(born_on=date(2015, 5, 5)),
        world.enrol(born_on=None),
    )
    world.grant(granted, other)
    world.revoke(revoked, world.grant(revoked, other))
    world.grant(gone, other)
    erase(world.ledger, gone.person_id, gone.cameo_id, at=world.at)
    found: dict[str, Someone] = {
        "enrolled": world.enrol(),
        "granted to another app": granted,
        "taken back from another app": revoked,
        "erased": gone,
        "a child": young,
        "of unknown age": unborn,
    }
    return {
        "unknown": CameoId(new_id("cameo")),
        "no id": CameoId("cameo_1"),
        **{name: one.cameo_id for name, one in found.items()},
    }


@pytest.mark.parametrize("also", [False, True], ids=["alone", "beside somebody who agreed"])
def test_about_a_likeness_it_holds_no_grant_for_an_app_learns_nothing(ruled: Ruled, also: bool) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app, max_uses=90)
    beside = (ada.cameo_id,) if also else ()
    others = strangers(ruled, app)
    for prompt, audience in (
        ("a portrait in golden light", "requester"),
        ("a portrait", "everyone"),
        ("a romantic kiss at sunset", "requester"),
        ("explicit sex", "requester"),
    ):
        answers = {}
        for name, cameo in others.items():
            request = ruled.request(app, cameo_ids=(*beside, cameo), prompt=prompt, audience=audience)
            answers[name] = told(precheck(ruled, request))
            # Asking in earnest tells no more.
            assert told(ruled.gate.decide(request, at=ruled.at)) == answers[name]
            ruled.wait(seconds=30)
        assert len(set(answers.values())) == 1, answers
        assert answers["unknown"]


def test_what_a_picture_shows_can_not_be_found_out_by_naming_people(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only with people who have granted the app anything is a face in the picture compared at all."""
    app = ruled.app()
    compared: list[list[CameoId]] = []
    templates = type(ruled.gate)._templates

    def spy(self: Any, cameo_ids: Any) -> Any:
        compared.append(list(cameo_ids))
        return templates(self, compared[-1])

    monkeypatch.setattr(type(ruled.gate), "_templates", spy)
    monkeypatch.setattr("safety.faces.search", lambda pictures: [() for _ in pictures])
    mine = ruled.enrol()
    ruled.grant(mine, app)
    named = (mine.cameo_id, *strangers(ruled, app).values())
    picture: Any = object()
    precheck(ruled, ruled.request(app, cameo_ids=named[:4], reference=picture))
    assert compared == [[mine.cameo_id]]


def test_a_suspended_app_learns_that_it_is_suspended(ruled: Ruled) -> None:
    app, ada = ruled.app(), ruled.enrol()
    ruled.grant(ada, app)
    ruled.suspend(app, ALICE)
    for people in ((), (ada,)):
        answer = precheck(ruled, ruled.request(app, *people))
        assert isinstance(answer, Denied)
        assert (answer.kind, [reason.id for reason in answer.reasons]) == ("consent", ["standing.suspended"])


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def site(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(launcher, tmp_path_factory.mktemp("precheck") / "home")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def owner(site: Site) -> Iterator[Owner]:
    enrolled = site.enrol(collins_picture())
    enrolled.grant("film club")
    yield enrolled
    enrolled.web.close()


def ask(web: httpx.Client, *people: Owner, **changes: Any) -> httpx.Response:
    return web.post("/v1/videos/precheck", json=wanted(*people, **changes))


@pytest.mark.slow
def test_an_app_asks_beforehand_and_nothing_happens(site: Site, owner: Owner) -> None:
    with site.client("film club") as app, site.client("other app") as other, site.client() as nobody:
        with owner.nothing_happens():
            yes = ask(app, owner)
            assert (yes.status_code, yes.json()) == (
                200,
                {"object": "video.precheck", "allowed": True, "reasons": []},
            )
            no = ask(other, owner)
            assert no.status_code == 200
            assert no.json()["allowed"] is False
            assert [reason["id"] for reason in no.json()["reasons"]] == ["consent.no_grant"]
            assert ask(other, characters=[{"id": unknown("cameo")}]).json() == no.json()
            assert ask(nobody, owner).status_code == 401
            # What could not be asked for cannot be asked about either, in the same words.
            for changes in (
                {"model": "x"},
                {"seconds": "99"},
                {"prompt": ""},
                {"prompt": "\x00"},
                {"lora": "x"},
            ):
                both = [
                    app.post(path, json=wanted(owner, **changes))
                    for path in ("/v1/videos", "/v1/videos/precheck")
                ]
                assert both[0].status_code == both[1].status_code == 400
                assert both[0].json() == both[1].json()
        assert app.get("/v1/videos").json()["data"] == []
        video = app.post("/v1/videos", json=wanted(owner)).json()
        assert ended(app, video["id"])["status"] == "completed"


@pytest.mark.slow
def test_the_thirty_first_request_in_a_minute_is_429(site: Site, owner: Owner) -> None:
    with site.client("third app") as app:
        answers: list[httpx.Response] = []
        while not answers or answers[-1].status_code == 200:
            answers.append(ask(app))
            assert len(answers) < 63, "two minutes' worth, should the clock turn over in between"
        assert len(answers) > LIMIT
        late = answers[-1]
        assert late.status_code == 429
        assert late.headers["retry-after"] == "60"
        error = late.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "standing.prechecks")
        # It may still ask in earnest.
        assert app.post("/v1/videos", json=wanted()).status_code == 200


@pytest.mark.slow
def test_an_app_that_asks_too_often_is_429_and_nothing_is_recorded(site: Site, owner: Owner) -> None:
    """The rows are written as if it had asked; 600 requests take a while."""
    database = create_engine(f"sqlite:///{site.home / 'ledger.db'}")
    with site.client("film club") as app, database.begin() as connection:
        now = datetime.now().astimezone()
        connection.execute(text("DELETE FROM tally"))
        for at in (now, now + timedelta(minutes=1)):  # should the clock turn over in between
            for row in tallies(AppId(site.holder("film club")), at, ask_minute=600):
                connection.execute(ADD_TALLY, row)
        connection.commit()
        with owner.nothing_happens():
            late = app.post("/v1/videos", json=wanted(owner))
        assert (late.status_code, late.headers["retry-after"]) == (429, "60")
        assert late.json()["error"]["code"] == "standing.minute"
        assert ask(app, owner).json()["allowed"] is True
        with site.client("other app") as other:
            assert other.post("/v1/videos", json=wanted()).status_code == 200
    database.dispose()


@pytest.mark.slow
def test_anyone_reads_which_rules_are_in_force_and_what_they_are(site: Site) -> None:
    with site.client() as web:
        told = web.get("/v1/policies").json()
        assert told == {
            "current": web.get("/ready").json()["policy_set"],
            "incoming": None,
            "share_per_mille": 0,
        }
        files = web.get(f"/v1/policies/{told['current']}").json()["files"]
        assert hash_of({name: content.encode() for name, content in files.items()}) == told["current"]
        for wrong in ("ab" * 32, "x" * 5000, "active"):
            answer = web.get(f"/v1/policies/{wrong}")
            assert (answer.status_code, answer.json()["reasons"][0]["id"]) == (404, "policy.unknown")
