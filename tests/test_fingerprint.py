"""Fingerprints: a clip is known again from any second of it, changed as people change clips, and nothing plain is."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data as _samples

from ledger.errors import MediaError, Unavailable
from ledger.ids import AppId, VideoId, new_id
from ledger.provenance.fingerprint import MOST_LOOKED, MOST_ROWS, Fingerprint, agrees, like, of
from ledger.provenance.known_clips import Index
from ledger.provenance.pdq import Picture
from ledger.store.records import Video
from ledger.store.transaction import Transaction
from world import World

SAMPLES: Any = _samples
Clip = list[tuple[float, Picture]]
FPS = 10


def moving(photo: Picture, seconds: float = 3.0) -> Clip:
    """A camera that moves over a photograph and comes nearer."""
    height, width = photo.shape[:2]
    frames = []
    for number in range(round(seconds * FPS)):
        way = number / (seconds * FPS)
        side = 0.75 - 0.25 * way
        top, left = round(height * (1 - side) * way), round(width * (1 - side) * (1 - way) / 2)
        seen = photo[top : top + round(height * side), left : left + round(width * side)]
        frames.append((number / FPS, scaled(seen, 256, 144)))
    return frames


@pytest.fixture(scope="module")
def clips() -> dict[str, Clip]:
    return {name: moving(getattr(SAMPLES, name)()) for name in ("astronaut", "coffee", "chelsea")}


@pytest.fixture(scope="module")
def kept(clips: dict[str, Clip]) -> dict[str, Fingerprint]:
    return {name: of(clip).kept() for name, clip in clips.items()}


def each(change: Callable[[Picture], Picture]) -> Callable[[Clip], Clip]:
    return lambda clip: [(seconds, np.ascontiguousarray(change(frame))) for seconds, frame in clip]


def scaled(picture: Picture, width: int, height: int) -> Picture:
    return np.asarray(cv2.resize(picture, (width, height)), np.uint8)


def jpeg(picture: Picture) -> Picture:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [1, 20])[1], 1), np.uint8)


def middle(picture: Picture, part: float) -> Picture:
    y, x = (round(side * (1 - part) / 2) for side in picture.shape[:2])
    return picture[y : picture.shape[0] - y, x : picture.shape[1] - x]


def boxed(picture: Picture) -> Picture:
    return np.pad(picture, ((40, 40), (0, 0), (0, 0)))


def excerpt(clip: Clip, begin: float, end: float) -> Clip:
    return [(seconds - begin, frame) for seconds, frame in clip if begin - 1e-6 <= seconds < end - 1e-6]


CHANGES: dict[str, Callable[[Clip], Clip]] = {
    "as it is": lambda clip: clip,
    "encoded again, half the size": each(lambda one: jpeg(scaled(one, 128, 72))),
    "squeezed": each(lambda one: scaled(one, 144, 144)),
    "mirrored": each(lambda one: one[:, ::-1]),
    "turned by a quarter": each(np.rot90),
    "upside down": each(lambda one: np.rot90(one, 2)),
    "cropped to 90 %": each(lambda one: middle(one, 0.9)),
    "cropped to 80 %, encoded again": each(lambda one: jpeg(middle(one, 0.8))),
    "cropped to 72 %": each(lambda one: middle(one, 0.72)),
    "cropped to 50 %": each(lambda one: middle(one, 0.5)),
    "bars around it": each(boxed),
    "half the frames": lambda clip: clip[::2],
    "faster": lambda clip: [(seconds / 1.25, frame) for seconds, frame in clip],
    "trimmed ends": lambda clip: excerpt(clip, 0.3, 2.6),
    "one second": lambda clip: excerpt(clip, 1.3, 2.3),
    "one second, cropped and mirrored": lambda clip: each(lambda one: middle(one, 0.85)[:, ::-1])(
        excerpt(clip, 0.7, 1.7)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_clip_is_known_again_however_it_was_changed(
    clips: dict[str, Clip], kept: dict[str, Fingerprint], change: str
) -> None:
    for name, clip in clips.items():
        file = of(CHANGES[change](clip))
        found = {other for other, one in kept.items() if agrees(file, one)}
        assert found == {name}
        assert like(file, kept[name]).seconds  # type: ignore[union-attr]


def test_it_is_said_which_seconds_of_a_clip_a_file_shows_where_and_how(
    clips: dict[str, Clip], kept: dict[str, Fingerprint]
) -> None:
    other = excerpt(clips["coffee"], 0.0, 1.0)
    inside = each(lambda one: one[:, ::-1])(excerpt(clips["astronaut"], 2.0, 3.0))
    found = like(of([*other, *((seconds + 1, frame) for seconds, frame in inside)]), kept["astronaut"])
    assert found is not None
    assert found.seconds == (2,)
    assert (found.of, found.offset_s, found.how) == (3, -1.0, "mirrored")


@pytest.mark.parametrize(
    "plain",
    [
        np.zeros((144, 256, 3), np.uint8),
        np.full((144, 256, 3), 200, np.uint8),
        np.tile(np.linspace(60, 90, 256).astype(np.uint8)[None, :, None], (144, 1, 3)),
        np.full((8, 8, 3), 9, np.uint8),
        np.zeros((1, 900, 3), np.uint8),
    ],
    ids=["black", "grey", "a soft slope", "tiny", "a line"],
)
def test_nothing_plain_has_a_fingerprint(plain: Picture, kept: dict[str, Fingerprint]) -> None:
    file = of([(number / FPS, plain) for number in range(12)])
    assert len(file) == 0
    assert all(agrees(file, one) is None for one in kept.values())
    assert agrees(file, file) is None


def test_a_mark_in_its_place_on_other_pictures_is_contradicted_and_one_on_its_own_never(
    clips: dict[str, Clip], kept: dict[str, Fingerprint]
) -> None:
    def barred(picture: Picture) -> Picture:
        changed = picture.copy()
        changed[-30:-8, 20:-20] = 255
        return changed

    own: list[Callable[[Picture], Picture]] = [barred, lambda one: 255 - one, lambda one: one // 2 + 20]
    for name, clip in clips.items():
        file = of(clip)
        answers = {other: agrees(file, one, moved=False) for other, one in kept.items()}
        assert answers == {other: other == name for other in kept}
        assert all(agrees(of(each(change)(clip)), kept[name], moved=False) is not False for change in own)
        # A corner, a small turn: it is the clip, but nothing here can tell.
        corner = of(each(lambda one: one[:130, :230])(clip))
        assert agrees(corner, kept[name]) is not False
        assert all(agrees(file, one) is not False for one in kept.values())


def test_a_long_file_is_looked_at_throughout_in_bounded_memory() -> None:
    shown: list[Picture] = [frame for _, frame in moving(SAMPLES.coffee(), 1.0)]
    file = of((number * 0.04, shown[number % len(shown)]) for number in range(3 * MOST_LOOKED))
    looked = np.unique(file.at_ms[file.view == 0])
    assert MOST_LOOKED // 3 <= len(looked) <= MOST_LOOKED
    assert looked.max() > 0.95 * 3 * MOST_LOOKED * 40
    assert np.diff(looked).max() < 400


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(), st.integers(-5, 10**18).map(float), st.sampled_from([0.0, 0.01])), max_size=12
    )
)
def test_times_that_make_no_sense_cost_nothing_and_break_nothing(times: list[float]) -> None:
    picture = scaled(SAMPLES.coffee(), 96, 64)
    file = of((seconds, picture) for seconds in times)
    assert set(np.unique(file.at_ms) // 1000) <= {int(one) for one in times if 0 <= one < 1e6} | {
        int(one) + 1 for one in times if 0 <= one < 1e6
    }
    assert Fingerprint.from_bytes(file.to_bytes()).to_bytes() == file.to_bytes()


def test_what_is_stored_is_read_back_and_anything_else_is_refused(kept: dict[str, Fingerprint]) -> None:
    data = kept["astronaut"].to_bytes()
    again = Fingerprint.from_bytes(data)
    assert (again.at_ms == kept["astronaut"].at_ms).all()
    assert (again.hashes == kept["astronaut"].hashes).all()
    for wrong in (b"", data[:-1], data + b"\0", b"cfp2" + data[4:], b"cfp1\x01\x00" + bytes(37)):
        with pytest.raises(ValueError, match="fingerprint"):
            Fingerprint.from_bytes(wrong)


def test_the_binding_in_a_manifest_is_enough_to_find_the_clip_by(kept: dict[str, Fingerprint]) -> None:
    bound = Fingerprint.from_binding(kept["astronaut"].as_binding())
    assert len(bound) == 3
    assert agrees(bound, kept["astronaut"])
    assert not agrees(bound, kept["chelsea"])
    with pytest.raises(ValueError, match=r"fingerprint|base64|padding|alphabet"):
        Fingerprint.from_binding("not one")


# ── among all clips ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def released(world: World, kept: dict[str, Fingerprint]) -> dict[str, VideoId]:
    """A ledger that knows three clips."""
    app = world.app()
    found = {}
    for name, one in kept.items():
        found[name] = put(world, app, one.to_bytes())
    return found


def put(world: World, app: AppId, content: bytes) -> VideoId:
    video = Video(VideoId(new_id("video")), app, "any", "words", "640x360", 3, created_at=0)

    def operation(tx: Transaction) -> VideoId:
        tx.open_job(video, "permit", [])
        tx.put_fingerprint(video.id, content)
        return video.id

    return world.ledger.transact(operation)


def test_the_index_finds_a_clip_and_no_other(
    world: World, released: dict[str, VideoId], clips: dict[str, Clip]
) -> None:
    index = Index()
    file = of(each(lambda one: jpeg(middle(one, 0.8)[:, ::-1]))(excerpt(clips["chelsea"], 1.0, 2.5)))
    with world.ledger.reading() as tx:
        (match,) = index.matches(tx, file)
        assert match.video_id == released["chelsea"]
        assert match.likeness.how == "mirrored, cropped to about 80 %"
        assert index.matches(tx, of(moving(SAMPLES.camera()[..., None].repeat(3, 2)))) == ()
        assert index.matches(tx, of([])) == ()


def test_what_comes_later_is_found_at_the_next_look_and_what_cannot_be_read_by_nobody(
    world: World, released: dict[str, VideoId], clips: dict[str, Clip]
) -> None:
    index, app = Index(), world.app("Another")
    new = of(moving(SAMPLES.immunohistochemistry()))
    with world.ledger.reading() as tx:
        assert index.matches(tx, new) == ()
    video = put(world, app, new.to_bytes())
    twin = put(world, app, new.to_bytes())
    with world.ledger.reading() as tx:
        assert {match.video_id for match in index.matches(tx, new)} == {video, twin}
        assert [match.video_id for match in index.matches(tx, of(clips["coffee"]))] == [released["coffee"]]
    put(world, app, b"cfp1 and something else")
    with world.ledger.reading() as tx, pytest.raises(Unavailable):
        index.matches(tx, new)


def test_a_clips_fingerprint_stays_what_it_was_first(world: World, released: dict[str, VideoId]) -> None:
    before = world.ledger.transact(lambda tx: tx.fingerprint(released["coffee"]))
    world.ledger.transact(lambda tx: tx.put_fingerprint(released["coffee"], b"another"))
    with world.ledger.reading() as tx:
        assert tx.fingerprint(released["coffee"]) == before
        assert tx.last_fingerprint() == len(released)


def _rows(count: int, **other: Any) -> Fingerprint:
    columns: dict[str, Any] = {
        "at_ms": np.zeros(count, np.uint32),
        "view": np.zeros(count, np.uint8),
        "hashes": np.zeros((count, 4), np.uint64),
    }
    return Fingerprint(**(columns | other))


@pytest.mark.parametrize(
    "made_up",
    [
        _rows(MOST_ROWS + 1),
        _rows(2, at_ms=np.zeros(2, np.float64)),
        _rows(2, view=np.zeros(3, np.uint8)),
        _rows(2, hashes=np.zeros((2, 400), np.uint64)),
        _rows(2, hashes="text"),
        _rows(2, at_ms=None),
        _rows(2, at_ms=np.array(0, np.uint32)),
    ],
)
def test_what_a_decoder_that_was_taken_over_makes_up_is_not_searched_for(made_up: Fingerprint) -> None:
    """The search runs in the service: a million rows would keep it busy for hours."""
    with pytest.raises(MediaError):
        made_up.require_possible()


def test_what_a_look_makes_is_possible(clips: dict[str, Clip]) -> None:
    for one in (of(clips["coffee"]), of(clips["coffee"]).kept(), of(())):
        one.require_possible()
