"""Copies of what nobody may show any more: none goes out, those that are out are found, and a new agreement counts."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import data as _samples

from command import countersign
from generator.stamp import Held, Released
from ledger.errors import Unavailable
from ledger.ids import AppId, VideoId
from ledger.provenance import media
from ledger.provenance.fingerprint import Fingerprint, of
from safety import copies
from studio import Studio
from test_fingerprint import each, jpeg, middle, moving, scaled
from test_lineage import ids, willing
from test_notices import noticed, ruled, started, taken_back
from world import ORIGIN, World

SAMPLES: Any = _samples


def text(looks: Fingerprint) -> str:
    return base64.b64encode(looks.to_bytes()).decode()


@pytest.fixture(scope="module")
def coffee() -> str:
    return text(of(moving(SAMPLES.coffee())))


@pytest.fixture(scope="module")
def coffee_again() -> str:
    """The same clip out of another run: encoded again, and with half a second more."""
    longer = moving(SAMPLES.coffee())
    return text(of(each(lambda one: jpeg(scaled(one, 160, 90)))([*longer, (3.0, longer[-1][1])])))


@pytest.fixture(scope="module")
def nearer() -> str:
    """The same clip, cropped."""
    return text(of(each(lambda one: middle(one, 0.8))(moving(SAMPLES.coffee()))))


@pytest.fixture(scope="module")
def cat() -> str:
    """Another clip."""
    return text(of(moving(SAMPLES.chelsea())))


@pytest.fixture
def studio(world: World) -> Studio:
    return Studio(world)


@pytest.fixture
def app(world: World) -> AppId:
    return world.app()


def taken_down(world: World, video: VideoId) -> Any:
    notice = started(world, noticed(world, video))
    ruled(world, notice, "erin", "removed")
    return notice


def swept(world: World) -> list[tuple[VideoId, VideoId, str]]:
    with world.ledger.reading() as tx:
        found = copies.sweep(tx, world.gate.clips, at=world.at)
    return [(one.video_id, one.stopped.video_id, one.stopped.why) for one in found]


def test_no_copy_of_a_clip_that_was_taken_down_goes_out(
    studio: Studio, world: World, app: AppId, coffee: str, coffee_again: str, nearer: str, cat: str
) -> None:
    first = studio.out(app, looks=coffee)
    twin = studio.out(app, looks=coffee_again)
    assert swept(world) == []
    notice = started(world, noticed(world, first, intimate=True))  # held back until somebody has decided
    assert swept(world) == [(twin, first, "taken_down")]
    assert ids(studio.release(studio.make(app, looks=coffee_again))) == {"release.copy"}
    assert ids(studio.release(studio.make(world.app("Another"), looks=coffee))) == {"release.copy"}
    assert ids(studio.release(studio.make(app, looks=nearer))) == {"release.copy"}
    assert isinstance(studio.release(studio.make(app, looks=cat)), Released)
    taken_back(world, notice)
    assert isinstance(studio.release(studio.make(app, looks=coffee_again)), Released)
    assert swept(world) == []


def test_a_clip_that_is_taken_down_while_its_copy_waits_keeps_that_one_in(
    studio: Studio, world: World, app: AppId, coffee: str, coffee_again: str
) -> None:
    ada = world.enrol()
    world.grant(ada, app, approval="before_release", max_uses=9)
    first = studio.out(app, looks=coffee)
    clip = studio.make(app, ada, looks=coffee_again)
    assert isinstance(studio.release(clip), Held)
    taken_down(world, first)
    studio.say(clip.permit.video, ada, "approve")
    assert studio.state(clip.permit.video) == ("failed", "release.copy")


def test_of_a_withdrawn_clip_only_those_it_shows_may_allow_a_copy(
    studio: Studio, world: World, app: AppId, coffee: str
) -> None:
    ada, grant = willing(world, app)
    bob, _ = willing(world, app)
    first = studio.out(app, ada, looks=coffee)
    world.revoke(ada, grant)
    assert ids(studio.release(studio.make(app, looks=coffee))) == {"release.copy"}
    assert ids(studio.release(studio.make(app, bob, looks=coffee))) == {"release.copy"}
    world.grant(ada, app, max_uses=9)
    again = studio.out(app, ada, looks=coffee)
    assert swept(world) == [(again, first, "withdrawn")]
    taken_down(world, first)  # somebody else's word: hers does not lift it
    assert ids(studio.release(studio.make(app, ada, looks=coffee))) == {"release.copy"}


def test_a_fingerprint_outlives_the_erasure_of_those_it_shows_and_stands_against_copies(
    studio: Studio, world: World, app: AppId, coffee: str
) -> None:
    ada, _ = willing(world, app)
    first = studio.out(app, ada, looks=coffee)
    world.ledger.transact(lambda tx: tx.erase_person(ada.person_id))
    with world.ledger.reading() as tx:
        assert tx.fingerprint(first) == base64.b64decode(coffee)
        (found,) = copies.stopped(tx, [first], {ada.person_id}, at=world.at)
        assert found.why == "erased"
    assert ids(studio.release(studio.make(app, looks=coffee))) == {"release.copy"}


def test_nothing_goes_out_while_fingerprints_cannot_be_read(
    studio: Studio, world: World, app: AppId, coffee: str
) -> None:
    video = studio.out(app)
    world.ledger.transact(lambda tx: tx.put_fingerprint(video, b"damaged"))
    clip = studio.make(app, looks=coffee)
    with pytest.raises(Unavailable):
        studio.release(clip)
    assert studio.state(clip.permit.video)[0] != "completed"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real file."""
    path = tmp_path_factory.mktemp("film")
    media.write_pattern(path / "blank.mp4", width=256, height=144, count=30, fps=10)
    frames = iter(moving(SAMPLES.coffee()))
    media.restamp(path / "blank.mp4", path / "film.mp4", lambda *_: np.ascontiguousarray(next(frames)[1]))
    return (path / "film.mp4").read_bytes()


def test_clips_from_before_fingerprints_get_one_and_those_that_cannot_be_read_do_not_hold_them_up(
    studio: Studio, world: World, app: AppId, film: bytes, tmp_path: Path
) -> None:
    unreadable = studio.out(app)
    video = studio.out(app, film=film)
    assert copies.fill(world.ledger, studio.objects, tmp_path / "work") == 2
    assert copies.fill(world.ledger, studio.objects, tmp_path / "work") == 0
    assert list((tmp_path / "work").iterdir()) == []
    with world.ledger.reading() as tx:
        kept = {one: Fingerprint.from_bytes(tx.fingerprint(one) or b"") for one in (unreadable, video)}
    assert (len(kept[unreadable]), kept[video].seconds()) == (0, 3)
    taken_down(world, video)
    clip = studio.make(app, film=film)
    assert world.gate._copies(clip.permit, clip.path) == 1
    assert world.gate._copies(studio.make(app).permit, clip.path) == 1


def test_the_command_lists_known_identical_copies(
    studio: Studio, world: World, app: AppId, coffee: str, coffee_again: str
) -> None:
    first, twin = studio.out(app, looks=coffee), studio.out(app, looks=coffee_again)
    taken_down(world, first)
    world.ledger.close()
    said = countersign(world.home, "takedowns", "sweep", ORIGIN=ORIGIN)
    assert said.status == 0, said
    assert said.text.splitlines() == [f"{twin}  is a copy of {first} (taken down)", "1 copy"]
