"""The reference renderer: what a clip promises, what a face must survive, what failure leaves behind."""

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import av
import face_recognition
import matplotlib.cbook
import numpy as np
import pytest
import skimage.data
import torch
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from generator.backend import Backend, Portrait, RenderRequest
from generator.errors import BackendFailed
from generator.reference import ReferenceRenderer, camera, painting, scene, sound, stage, weather
from ledger.ids import CameoId, VideoId

pytestmark = pytest.mark.slow


def collins() -> Portrait:
    image = np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    return Portrait(CameoId("cameo_collins"), image, (76, 265, 166, 175))


def hopper() -> Portrait:
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        image = np.asarray(picture.convert("RGB"), np.uint8)
    return Portrait(CameoId("cameo_hopper"), image, (139, 366, 325, 180))


def asked(prompt: str = "a portrait in golden sunset light", **changes: object) -> RenderRequest:
    small = RenderRequest(
        VideoId("video_test"), prompt, width=160, height=90, seconds=1, seed=7, portraits=(collins(),), fps=12
    )
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


def rendered(request: RenderRequest, folder: Path, name: str = "clip.mp4") -> Path:
    ReferenceRenderer().render(request, folder / name, lambda _: None)
    return folder / name


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as file:
        return [
            np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in file.decode(video=0)
        ]


def heard(path: Path) -> NDArray[np.float32]:
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1).astype(
            np.float32
        )


def first_frame(
    prompt: str, portraits: tuple[Portrait, ...], width: int, height: int, seed: int = 3
) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    told = scene.read(prompt, rng)
    built = stage.build(told, portraits, width, height, rng)
    path = camera.Path.of(told, 2.0, width / height, rng)
    return camera.Camera(told, built, path, width, height, rng).frame(0.5)


# -- the clip ------------------------------------------------------------------------------------------------


def test_the_renderer_is_a_backend() -> None:
    backend: Backend = ReferenceRenderer()
    assert (backend.name, backend.version) == ("countersign-reference", "1")


@pytest.mark.parametrize(
    ("width", "height", "seconds", "fps"),
    [(160, 90, 2, 24), (90, 160, 1, 30), (64, 64, 1, 1), (202, 66, 3, 10)],
)
def test_a_clip_has_exactly_the_form_asked_for(
    tmp_path: Path, width: int, height: int, seconds: int, fps: int
) -> None:
    path = rendered(asked(width=width, height=height, seconds=seconds, fps=fps), tmp_path)
    with av.open(str(path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert isinstance(video, VideoStream)
        assert isinstance(audio, AudioStream)
        assert (video.codec_context.name, video.pix_fmt, video.width, video.height) == (
            "h264",
            "yuv420p",
            width,
            height,
        )
        assert video.average_rate == fps
        assert video.frames == seconds * fps
        assert video.duration is not None
        assert video.time_base is not None
        assert video.duration * video.time_base == seconds
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", 48_000, 2)
        assert audio.duration is not None
        assert audio.time_base is not None
        assert abs(audio.duration * audio.time_base - seconds) <= Fraction(1024, 48_000)
    times = [index / fps for index in range(seconds * fps)]
    with av.open(str(path)) as file:
        assert [frame.time for frame in file.decode(video=0)] == pytest.approx(times)


def test_the_same_request_gives_the_same_clip_and_another_seed_another(tmp_path: Path) -> None:
    first, again = (rendered(asked("snow at night"), tmp_path, name) for name in ("a.mp4", "b.mp4"))
    other = rendered(asked("snow at night", seed=8), tmp_path, "c.mp4")
    assert np.array_equal(pictures(first), pictures(again))
    assert np.array_equal(heard(first), heard(again))
    assert not np.array_equal(pictures(first), pictures(other))


@pytest.mark.parametrize("seed", [0, -1, (1 << 64) - 1, -(1 << 63)])
def test_any_64_bit_seed_is_a_seed(tmp_path: Path, seed: int) -> None:
    assert pictures(rendered(asked(seed=seed, fps=1, width=64, height=64), tmp_path))


def test_colours_come_back_as_they_were_drawn(tmp_path: Path) -> None:
    """A wrong matrix or range in the file would shift skin tones in every player."""
    request = asked("sunny day", seconds=1, fps=2, width=320, height=180)
    decoded = pictures(rendered(request, tmp_path))[0].astype(np.float64)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(request.seed).spawn(5)]
    told = scene.read(request.prompt, streams[0])
    built = stage.build(told, request.portraits, 320, 180, streams[1])
    path = camera.Path.of(told, 1.0, 320 / 180, streams[2])
    drawn = camera.Camera(told, built, path, 320, 180, streams[3]).frame(0.0).permute(1, 2, 0).numpy() * 255
    assert np.abs(decoded.mean((0, 1)) - drawn.mean((0, 1))).max() < 2.0


# -- faces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "people", "size"),
    [
        ("a portrait in golden sunset light with drifting dust", (collins,), (640, 360)),
        ("walking through snow at night", (collins,), (360, 640)),
        ("neon city rain", (hopper,), (640, 360)),
        ("two astronauts floating among stars", (collins, hopper), (640, 360)),
    ],
)
def test_the_granted_faces_stay_recognisable_and_no_other_face_appears(
    tmp_path: Path, prompt: str, people: tuple[object, ...], size: tuple[int, int]
) -> None:
    portraits = tuple(person() for person in people)  # type: ignore[operator]
    known = [face_recognition.face_encodings(p.image, [p.face], model="small")[0] for p in portraits]
    clip = rendered(
        asked(prompt, portraits=portraits, width=size[0], height=size[1], seconds=2, fps=4), tmp_path
    )
    frames = pictures(clip)
    seen = np.zeros(len(known))
    for frame in frames:
        boxes = face_recognition.face_locations(frame)
        for face in face_recognition.face_encodings(frame, boxes, model="small"):
            distances = face_recognition.face_distance(known, face)
            assert distances.min() <= 0.40, "a face nobody granted"
            seen[distances.argmin()] += 1
    assert (seen >= 0.9 * len(frames)).all()


@example(width=64, height=64, move=scene.Move.PULL, side=-1.0, phase=0.0, moment=1.0, steps_hz=0.0)
@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(32, 960).map(lambda n: 2 * n),
    height=st.integers(32, 960).map(lambda n: 2 * n),
    move=st.sampled_from(scene.Move),
    side=st.sampled_from((-1.0, 1.0)),
    phase=st.floats(0, 1),
    moment=st.floats(0, 1),
    steps_hz=st.sampled_from((0.0, 1.75)),
)
def test_no_camera_move_looks_past_the_stage(
    width: int, height: int, move: scene.Move, side: float, phase: float, moment: float, steps_hz: float
) -> None:
    aspect = width / height
    pose = camera.Path(move, 4.0, side, phase, steps_hz, aspect).pose(4.0 * moment)
    assert pose.zoom >= 1.0
    across, down = aspect / 2, 0.5
    x = (
        (across * math.cos(pose.roll) + down * abs(math.sin(pose.roll))) / pose.zoom
        + abs(pose.x)
        + abs(pose.sway_x)
    )
    y = (
        (down * math.cos(pose.roll) + across * abs(math.sin(pose.roll))) / pose.zoom
        + abs(pose.y)
        + abs(pose.sway_y)
    )
    assert x <= across * stage.OVERSCAN
    assert y <= down * stage.OVERSCAN


@pytest.mark.parametrize(("width", "height"), [(854, 480), (480, 854), (640, 640)])
def test_one_face_fills_about_a_third_of_the_frame(width: int, height: int) -> None:
    rng = np.random.default_rng(1)
    (face,) = stage.build(scene.read("", rng), (hopper(),), width, height, rng).faces
    assert 0.3 <= face.height <= 0.45
    assert abs(face.x - width / height / 2) < 0.02
    assert 0.3 <= face.y <= 0.6


def test_a_face_is_never_stretched() -> None:
    """A round spot on a portrait's face is as wide as it is high in the frame."""
    image = np.full((300, 200, 3), 90, np.uint8)
    row, column = np.mgrid[:300, :200]
    image[np.hypot(row - 150, column - 100) < 20] = 255
    portrait = Portrait(CameoId("cameo_spot"), image, (100, 150, 200, 50))
    for width, height in ((640, 160), (160, 640), (320, 320)):
        frame = first_frame("", (portrait,), width, height).mean(0)
        spot = frame > (frame.max() + frame.median()) / 2
        high, wide = int(spot.any(1).sum()), int(spot.any(0).sum())
        assert abs(high - wide) <= 2


# -- edges ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "face"),
    [
        ((4, 4), (0, 4, 4, 0)),
        ((12, 12), (2, 10, 10, 2)),
        ((40, 900), (4, 480, 36, 448)),
        ((900, 40), (440, 36, 472, 4)),
        ((1500, 1500), (700, 706, 706, 700)),
        ((200, 200), (0, 200, 200, 0)),
        ((200, 200), (0, 40, 40, 0)),
    ],
)
def test_odd_portraits_still_make_a_picture(shape: tuple[int, int], face: tuple[int, int, int, int]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for width, height in ((160, 90), (64, 128)):
        frame = first_frame("rainy night", (Portrait(CameoId("cameo_odd"), noise, face),), width, height)
        assert torch.isfinite(frame).all()
        assert float(frame.std()) > 0.01


@pytest.mark.parametrize("count", [2, 5])
def test_people_share_the_frame_from_left_to_right(count: int) -> None:
    rng = np.random.default_rng(1)
    built = stage.build(scene.read("at sea", rng), ((collins(), hopper()) * 3)[:count], 320, 180, rng)
    places = [face.x for face in built.faces]
    assert len(places) == count
    assert places == sorted(places)
    assert places[0] > 0
    assert places[-1] < 320 / 180
    assert float(built.near[3].max()) <= 1.001


def test_the_smallest_and_a_long_thin_frame_work(tmp_path: Path) -> None:
    for index, (width, height) in enumerate(((64, 64), (480, 64), (64, 480))):
        path = rendered(
            asked("neon city rain fog", width=width, height=height, fps=2), tmp_path, f"{index}.mp4"
        )
        assert len(pictures(path)) == 2


BAD_PORTRAIT = Portrait(CameoId("cameo_bad"), np.zeros((50, 50, 3), np.uint8), (10, 60, 40, 20))
GREY_PORTRAIT = Portrait(CameoId("cameo_grey"), np.zeros((50, 50), np.uint8), (10, 40, 40, 20))
SPECK = Portrait(CameoId("cameo_speck"), np.zeros((50, 50, 3), np.uint8), (10, 12, 12, 10))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 161}, "backend.size"),
        ({"height": 62}, "backend.size"),
        ({"width": 1922}, "backend.size"),
        ({"seconds": 0}, "backend.length"),
        ({"seconds": 61}, "backend.length"),
        ({"fps": 0}, "backend.length"),
        ({"portraits": (collins(),) * 7}, "backend.people"),
        ({"portraits": (BAD_PORTRAIT,)}, "backend.portrait"),
        ({"portraits": (GREY_PORTRAIT,)}, "backend.portrait"),
        ({"portraits": (SPECK,)}, "backend.portrait"),
    ],
)
def test_what_cannot_be_rendered_is_refused_in_words(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(BackendFailed) as refused:
        rendered(dataclasses.replace(asked(), **changes), tmp_path)  # type: ignore[arg-type]
    assert refused.value.reason.id == reason
    assert refused.value.reason.sentence[0].islower() or refused.value.reason.sentence[0] == "`"
    assert refused.value.reason.remedy
    assert not list(tmp_path.iterdir())


# -- progress and failure ------------------------------------------------------------------------------------


def test_progress_rises_steadily_to_one(tmp_path: Path) -> None:
    steps: list[float] = []
    ReferenceRenderer().render(asked(), tmp_path / "clip.mp4", steps.append)
    assert steps == sorted(steps)
    assert all(0 <= step <= 1 for step in steps)
    assert steps[-1] == 1.0
    assert len(steps) >= 12


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_a_cancelled_render_leaves_nothing_not_even_an_earlier_clip(tmp_path: Path, at: float) -> None:
    class Cancelled(Exception):  # noqa: N818 — names the state
        pass

    def progress(done: float) -> None:
        if done >= at:
            raise Cancelled

    (tmp_path / "clip.mp4").write_bytes(b"an earlier attempt")
    with pytest.raises(Cancelled):
        ReferenceRenderer().render(asked(), tmp_path / "clip.mp4", progress)
    assert not list(tmp_path.iterdir())


def test_a_failure_inside_becomes_one_reason_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sound, "compose", broken)
    with pytest.raises(BackendFailed) as failed:
        rendered(asked(), tmp_path)
    assert failed.value.reason.id == "backend.render"
    assert "Zero" not in failed.value.reason.sentence
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_a_reason_too(tmp_path: Path) -> None:
    with pytest.raises(BackendFailed) as failed:
        rendered(asked(), tmp_path / "gone")
    assert failed.value.reason.id == "backend.disk"


# -- words ---------------------------------------------------------------------------------------------------


def test_words_of_weather_change_the_picture() -> None:
    prompts = (
        "a hill",
        "a hill in rain",
        "a hill in snow",
        "a hill with embers",
        "a hill in fog",
        "a hill with petals",
    )
    frames = [first_frame(prompt, (), 160, 90) for prompt in prompts]
    for index, frame in enumerate(frames):
        for other in frames[index + 1 :]:
            assert float((frame - other).abs().mean()) > 0.001


@pytest.mark.parametrize(
    ("prompt", "hour", "place", "weather"),
    [
        ("Neon city rain", scene.Hour.NEON, scene.Place.CITY, (scene.Weather.RAIN,)),
        ("walking through SNOW at night", scene.Hour.NIGHT, scene.Place.FOREST, (scene.Weather.SNOW,)),
        ("two astronauts floating among stars", scene.Hour.SPACE, scene.Place.SPACE, (scene.Weather.STARS,)),
        ("a brainy starter", scene.Hour.DAY, scene.Place.STUDIO, (scene.Weather.DUST,)),
        ("", scene.Hour.DAY, scene.Place.STUDIO, (scene.Weather.DUST,)),
    ],
)
def test_words_are_read_whole(
    prompt: str, hour: scene.Hour, place: scene.Place, weather: tuple[scene.Weather, ...]
) -> None:
    told = scene.read(prompt, np.random.default_rng(0))
    assert (told.hour, told.place, told.weather) == (hour, place, weather)


@pytest.mark.parametrize("hour", list(scene.Hour))
def test_every_hour_paints_a_landscape_without_people(hour: scene.Hour) -> None:
    words = {**dict(scene._HOURS)}[hour].split()[0]
    frame = first_frame(f"{words} landscape", (), 160, 90)
    assert float(frame.std()) > 0.02
    assert 0.01 < float(frame.mean()) < 0.95


def test_a_landscape_differs_by_seed() -> None:
    first, second = (first_frame("mountains", (), 160, 90, seed) for seed in (1, 2))
    assert float((first - second).abs().mean()) > 0.01


def test_weather_thins_out_before_a_face() -> None:
    """A blizzard that hides the person would fail the check for granted faces, or pass without one."""
    rng = np.random.default_rng(2)
    told = scene.read("blizzard", rng)
    flakes = snowfall(told, rng)
    assert flakes[:, 40:80, 70:90].mean() < 0.35 * flakes.mean()


def snowfall(told: scene.Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    canvas = np.zeros((3, 120, 160), np.float32)
    (snow,) = weather.bodies(told, 160, 120, rng)
    for moment in range(40):
        snow.draw(canvas, moment * 0.7, (0.0, 0.0), [stage.Face(160 / 120 / 2, 0.5, 0.5)])
    return canvas


# -- sound ---------------------------------------------------------------------------------------------------


def soundtrack(prompt: str, seconds: int = 4) -> NDArray[np.float32]:
    rng = np.random.default_rng(4)
    told = scene.read(prompt, rng)
    return sound.compose(told, camera.Path.of(told, float(seconds), 16 / 9, rng), seconds, rng)


def test_the_sound_in_the_file_is_audible_and_never_clips(tmp_path: Path) -> None:
    track = heard(rendered(asked("campfire embers", seconds=2), tmp_path))
    assert track.shape[0] == 2
    assert 0.3 < np.abs(track).max() < 0.95
    assert np.sqrt(np.mean(track**2)) > 0.01


@pytest.mark.parametrize("seconds", [1, 4])
def test_the_sound_opens_and_closes_in_silence(seconds: int) -> None:
    track = soundtrack("rain on a city", seconds)
    assert track.shape == (2, seconds * 48_000)
    assert np.abs(track).max() <= sound.PEAK + 1e-6
    assert np.abs(track[:, :48]).max() < 0.01
    assert np.abs(track[:, -48:]).max() < 0.01


def test_the_sound_is_brightest_where_the_camera_is_fastest() -> None:
    track = soundtrack("a quiet studio")
    bright = np.abs(np.diff(track, axis=1)).mean(0)
    peak, rest = bright[int(1.7 * 48_000) : int(2.3 * 48_000)], bright[int(0.3 * 48_000) : int(0.9 * 48_000)]
    assert peak.mean() > 1.5 * rest.mean()


def test_rain_is_heard() -> None:
    def hiss(track: NDArray[np.float32]) -> float:
        power = np.abs(np.fft.rfft(track[0])) ** 2
        return float(power[4 * 3000 :].sum() / power.sum())

    assert hiss(soundtrack("rain")) > 5 * hiss(soundtrack("dust"))


def test_noise_has_the_shape_asked_for() -> None:
    field = painting.noise(30, 50, (3, 5), np.random.default_rng(0))
    assert field.shape == (30, 50)
    assert field.min() >= 0.0
    assert field.max() <= 1.0
