"""The invisible watermark: what it survives, what it refuses, what it costs the picture."""

import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from ledger.errors import MediaError, ProvenanceError
from ledger.provenance.watermark import (
    PAYLOAD_BYTES,
    Detected,
    Embedder,
    NotDetected,
    detect,
    ecc,
    find,
    geometry,
    lattice,
    sample,
    sampling,
    search,
)
from ledger.provenance.watermark.embed import arrangement

pytestmark = pytest.mark.slow

Frame = NDArray[np.uint8]
Clip = list[Frame]

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
PAYLOAD = bytes.fromhex("c0ffee0123456789")
FRAMES = 24


# Footage ------------------------------------------------------------------------------------------------------------


def photo(name: str) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = getattr(skimage.data, name)()
    return picture


ssim: Callable[[Frame, Frame], float] = structural_similarity


def pan(still: NDArray[np.uint8], frames: int, width: int, height: int, zoom: float = 0.0) -> Clip:
    """A slow move over a photo, resampled so that nothing stays on the pixel grid."""
    picture = Image.fromarray(still).convert("RGB")
    scale = 1.2 * max(width / picture.width, height / picture.height)
    picture = picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
    )
    clip = []
    for t in np.linspace(0.0, 1.0, frames):
        w, h = width * (1 - zoom * t), height * (1 - zoom * t)
        x, y = (picture.width - width) * t * 0.5, (picture.height - height) * t * 0.5
        clip.append(
            np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=(x, y, x + w, y + h)))
        )
    return clip


def portrait(frames: int, width: int, height: int) -> Clip:
    """A face without texture before a dark, defocused background: the softest thing a renderer makes."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(height)
    room = np.stack([28 + 18 * y, 26 + 22 * y, 40 + 8 * x], -1)
    for px, py, size, *colour in np.random.default_rng(3).uniform(0, 1, (8, 6)):
        light = np.exp(-((x - 1.8 * px) ** 2 + (y - py) ** 2) / (2 * (0.12 + 0.2 * size) ** 2))
        room += light[..., None] * (np.array(colour, np.float32) * 60 - 20)
    clip = []
    for t in range(frames):
        u, v = (x - np.float32(width / height / 2 + 0.015 * np.sin(t / 12))) / 0.22, (y - 0.47) / 0.31
        inside = 1 / (1 + np.exp(16 * (np.hypot(u, v) - 1)))[..., None]
        face = np.array([188, 140, 116], np.float32) * (1 - 0.2 * u - 0.1 * v**2)[..., None]
        for eye in (-0.4, 0.4):
            face -= 80 * np.exp(-(((u - eye) / 0.15) ** 2) - ((v + 0.2) / 0.05) ** 2)[..., None]
        clip.append(np.clip(room * (1 - inside) + face * inside, 0, 255).astype(np.uint8))
    return clip


SCENES: dict[str, Callable[[], Clip]] = {
    "photo": lambda: pan(photo("astronaut"), FRAMES, 854, 480),
    "soft": lambda: portrait(FRAMES, 854, 480),
}


def mark(clip: Clip, payload: bytes = PAYLOAD) -> Clip:
    height, width, _ = clip[0].shape
    embed = Embedder(KEY, payload, width=width, height=height)
    return [embed(frame, index) for index, frame in enumerate(clip)]


@pytest.fixture(scope="module", params=sorted(SCENES))
def scene(request: pytest.FixtureRequest) -> tuple[Clip, Clip]:
    clip = SCENES[request.param]()
    return clip, mark(clip)


def h264(clip: Clip, crf: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": str(crf)})
        stream.height, stream.width, _ = clip[0].shape
        stream.pix_fmt = "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def remux(data: bytes) -> bytes:
    out = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(out, "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


def decoded(data: bytes) -> Iterator[Frame]:
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def jpeg(frame: Frame, quality: int) -> Frame:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "jpeg", quality=quality)
    return np.asarray(Image.open(out))


def payload_of(frames: Iterator[Frame] | Clip, key: bytes = KEY) -> bytes | None:
    found = detect(frames, key)
    return found.payload if isinstance(found, Detected) else None


# What it survives ---------------------------------------------------------------------------------------------------


def test_an_untouched_clip_gives_its_payload_with_high_confidence(scene: tuple[Clip, Clip]) -> None:
    found = detect(iter(scene[1]), KEY, fps=24)
    assert isinstance(found, Detected)
    assert found.payload == PAYLOAD
    assert 0.95 <= found.confidence <= 1.0
    assert found.where == "in place, seconds 0.0 to 1.0"


def test_survives_re_encoding_remux_excerpt_and_dropped_frames(scene: tuple[Clip, Clip]) -> None:
    frames = list(decoded(remux(h264(scene[1], 23))))
    assert payload_of(frames) == PAYLOAD
    assert payload_of(frames[3:19]) == PAYLOAD, "two thirds of a second, not starting where a pattern does"
    assert payload_of(frames[::2]) == PAYLOAD, "every other frame"
    irregular = [f for i, f in enumerate(frames) if i * 5 % 8 < 5]
    assert payload_of(irregular) == PAYLOAD, "15 of 24 frames a second, unevenly"


def test_survives_crf_30(scene: tuple[Clip, Clip]) -> None:
    assert payload_of(decoded(h264(scene[1], 30))) == PAYLOAD


def test_survives_as_a_single_jpeg_frame(scene: tuple[Clip, Clip]) -> None:
    assert payload_of([jpeg(scene[1][FRAMES - 2], 75)]) == PAYLOAD


Move = Callable[[Frame], Frame]


def warped(matrix: list[list[float]], width: int, height: int) -> Move:
    """By what takes a pixel of the result to one of the frame."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return lambda f: np.asarray(
        cv2.warpPerspective(f, np.array(matrix, float), (width, height), flags=flags), np.uint8
    )


def turned(degrees: float, zoom: float = 1.0) -> Move:
    def move(frame: Frame) -> Frame:
        height, width, _ = frame.shape
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, zoom)
        return np.asarray(cv2.warpAffine(frame, matrix, (width, height)), np.uint8)

    return move


def scaled(width: int, height: int) -> Move:
    return lambda f: np.asarray(cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def letterboxed(frame: Frame) -> Frame:
    return np.pad(scaled(720, 404)(frame), ((438, 438), (0, 0), (0, 0)))


def overlaid(frame: Frame) -> Frame:
    frame = frame.copy()
    frame[280:340, 30:400] = (20, 20, 160)
    return np.asarray(
        cv2.putText(frame, "BREAKING NEWS", (50, 320), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2),
        np.uint8,
    )


MOVES: dict[str, tuple[Move, str]] = {
    "cut to its height": (lambda f: f[:, 100:700], "shifted"),
    "crop 80 %": (lambda f: f[40:424, 70:752], "enlarged 1.25 times"),
    "crop 50 %": (lambda f: f[100:340, 200:628], "enlarged 2.00 times"),
    "crop and rescale": (lambda f: scaled(854, 480)(f[40:424, 70:752]), "enlarged 1.25 times"),
    "rotated 2°": (turned(2, 1.06), "rotated -2.0°, enlarged 1.06 times"),
    "rotated 10°, no corners": (turned(-10, 1.46), "rotated 10.0°, enlarged 1.46 times"),
    "turned 90°": (lambda f: np.rot90(f, 3), "turned 90°"),
    "upside down": (lambda f: f[::-1, ::-1], "turned 180°"),
    "mirror": (lambda f: f[:, ::-1], "mirrored"),
    "squeezed": (scaled(640, 480), "stretched 0.75 times, reduced to 87 %"),
    "letterboxed, rescaled": (letterboxed, "reduced to 56 %"),
    "inverted": (lambda f: 255 - f, "in place, inverted"),
    "blurred": (lambda f: np.asarray(cv2.GaussianBlur(f, (0, 0), 1.5), np.uint8), "in place"),
    "half size": (scaled(426, 240), "in place"),
    "overlay": (overlaid, "in place"),
    "darker": (lambda f: np.clip(f * 0.75 + 30, 0, 255).astype(np.uint8), "in place"),
    "brighter": (lambda f: np.clip(f * 1.25 - 12, 0, 255).astype(np.uint8), "in place"),
    "gamma": (lambda f: (255 * (f / 255) ** 1.4).astype(np.uint8), "in place"),
}


@pytest.fixture(scope="module")
def photo_marked() -> Clip:
    return mark(pan(photo("astronaut"), 12, 854, 480))


@pytest.mark.parametrize("move", sorted(MOVES))
def test_is_found_after_the_picture_was_moved_and_encoded_again(photo_marked: Clip, move: str) -> None:
    work, said = MOVES[move]
    moved = [np.ascontiguousarray(work(frame)) for frame in photo_marked]
    found = detect(decoded(h264(moved, 23)), KEY)
    assert isinstance(found, Detected)
    assert found.payload == PAYLOAD
    numbers = re.compile(r"-?\d+\.?\d*")
    told = found.where.removesuffix(", frames 0 to 11")
    assert numbers.sub("#", told) == numbers.sub("#", said)
    assert [float(n) for n in numbers.findall(told)] == pytest.approx(
        [float(n) for n in numbers.findall(said)], rel=0.03, abs=0.3
    )


def test_is_found_in_perspective(photo_marked: Clip) -> None:
    move = warped([[1.02, 0.03, -8], [0.01, 1.04, -6], [3e-5, 5e-5, 1]], 854, 480)
    assert payload_of(decoded(h264([move(frame) for frame in photo_marked], 23))) == PAYLOAD


def test_subtracting_the_clips_own_mean_does_not_remove_the_mark() -> None:
    marked = np.stack(mark(pan(photo("coffee"), 4 * 24, 427, 240))).astype(np.float32)
    mean = marked.mean(0)
    smooth = cv2.blur(mean, (7, 7))
    assert payload_of(list(np.clip(marked - (mean - smooth), 0, 255).astype(np.uint8))) == PAYLOAD


def test_the_pattern_changes_every_segment_and_its_order_and_sign_with_the_payload() -> None:
    still = np.full((240, 426, 3), 120, np.uint8)
    first = Embedder(KEY, PAYLOAD, width=426, height=240)
    steps = [first(still, 24 * segment).astype(np.float32)[..., 0] - 120 for segment in range(5)]
    alike = np.corrcoef([step.ravel() for step in steps])
    assert np.abs(alike[:4, :4] - np.eye(4)).max() < 0.2
    assert alike[0, 4] == pytest.approx(1.0)
    arrangements = [arrangement(KEY, bytes([n] * 8)) for n in range(40)]
    assert len({tuple(order) for order, _ in arrangements}) > 10
    assert {sign for _, sign in arrangements} == {-1, 1}


def test_no_frame_changes_all_at_once_where_the_pattern_does() -> None:
    still = np.full((240, 426, 3), 120, np.uint8)
    embed = Embedder(KEY, PAYLOAD, width=426, height=240)
    marked = [embed(still, index).astype(np.float32) for index in range(14, 28)]
    changes = [float((b - a).std()) for a, b in itertools.pairwise(marked)]
    assert max(changes) < 0.6 * marked[0].std()
    assert 0.8 * marked[0].std() < min(frame.std() for frame in marked)


def test_marking_does_not_depend_on_the_order_of_the_frames() -> None:
    clip = pan(photo("coffee"), 30, 320, 180)
    embed = Embedder(KEY, PAYLOAD, width=320, height=180)
    there = [embed(clip[i], i) for i in range(30)]
    assert all((embed(clip[i], i) == there[i]).all() for i in (29, 3, 25, 0))


# What it refuses ----------------------------------------------------------------------------------------------------


def test_another_key_finds_nothing(scene: tuple[Clip, Clip]) -> None:
    assert isinstance(detect(scene[1][:8], OTHER_KEY), NotDetected)


def unmarked() -> Iterator[tuple[str, Clip]]:
    rng = np.random.default_rng(11)
    size = (180, 320, 3)
    yield "black", [np.zeros(size, np.uint8)] * 3
    yield "noise", list(np.clip(rng.normal(128, 8, (3, *size)), 0, 255).astype(np.uint8))
    yield "static noise", [rng.integers(0, 256, size, np.uint8)] * 3
    stripes = np.indices(size)[1] // 7 % 2 * 255
    yield "stripes", [np.roll(stripes, t, 1).astype(np.uint8) for t in range(3)]
    tile = rng.integers(0, 256, (60, 60, 3), np.uint8)
    yield "a tile of the mark's own period", [np.ascontiguousarray(np.tile(tile, (3, 6, 1))[:, :320])] * 3
    yield "portrait", portrait(3, 320, 180)
    for name in ("coffee", "grass"):
        yield name, pan(photo(name), 3, 320, 180, zoom=0.1)


def test_no_unmarked_clip_is_taken_for_a_marked_one() -> None:
    found = {name: detect(clip, KEY) for name, clip in unmarked()}
    assert len(found) >= 8
    assert [name for name, answer in found.items() if not isinstance(answer, NotDetected)] == []


def test_the_number_of_decodings_stays_within_the_false_positive_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bytes | None] = []
    real = ecc.decode

    def counting(evidence: ecc.Signs, key: bytes) -> bytes | None:
        calls.append(real(evidence, key))
        return calls[-1]

    monkeypatch.setattr(ecc, "decode", counting)
    assert isinstance(
        detect([np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)], KEY), NotDetected
    )
    assert 0 < len(calls) <= search.MAX_ATTEMPTS
    assert search.MAX_ATTEMPTS * ecc.LIST_SIZE * 2.0 ** (-8 * ecc.CHECK_BYTES) <= 1e-9


def test_no_more_words_than_the_list_holds_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    def counting(payload: bytes, _: bytes) -> bytes:
        checked.append(payload)
        return b"no match"

    monkeypatch.setattr(ecc, "_check", counting)
    assert ecc.decode(np.random.default_rng(1).normal(size=ecc.CODED_BITS).astype(np.float32), KEY) is None
    assert len(checked) == ecc.LIST_SIZE


# What it costs the picture ------------------------------------------------------------------------------------------


def test_quality_floors_hold_over_a_clip(scene: tuple[Clip, Clip]) -> None:
    picked = range(0, FRAMES, 8)
    before, after = (np.stack([clip[i] for i in picked]).astype(np.float64) for clip in scene)
    assert 10 * np.log10(255**2 / np.mean((before - after) ** 2)) >= 44.5
    grey = [np.stack([np.asarray(Image.fromarray(clip[i]).convert("L")) for i in (4, 22)]) for clip in scene]
    assert min(ssim(a, b) for a, b in zip(*grey, strict=True)) >= 0.99


@pytest.mark.parametrize(("level", "limit"), [(0, 0.6), (40, 0.8), (128, 0.8), (250, 0.8), (255, 0.6)])
def test_flat_areas_move_by_less_than_a_grey_level(level: int, limit: float) -> None:
    still = np.full((480, 854, 3), level, np.uint8)
    for segment, marked in enumerate(mark([still] * 4)):
        assert np.sqrt(np.mean((marked.astype(float) - level) ** 2)) <= limit, segment


def test_grain_does_not_spill_from_an_edge_into_a_flat_wall() -> None:
    frame = np.full((480, 854, 3), 60, np.uint8)
    frame[:, 400:] = 190
    step = mark([frame])[0].astype(float) - frame
    assert np.sqrt(np.mean(step[:, 360:440] ** 2)) <= 0.8


def test_colour_is_untouched(scene: tuple[Clip, Clip]) -> None:
    before, after = (clip[7].astype(int) for clip in scene)
    inside = ((after > 0) & (after < 255)).all(-1)
    step = (after - before)[inside]
    assert (step == step[:, :1]).all()


# The code -----------------------------------------------------------------------------------------------------------

payloads = st.binary(min_size=PAYLOAD_BYTES, max_size=PAYLOAD_BYTES)
keys = st.binary(min_size=32, max_size=32)


quick = settings(max_examples=30, deadline=None)


@quick
@given(payloads, keys)
def test_law_every_payload_round_trips(payload: bytes, key: bytes) -> None:
    assert ecc.decode(ecc.encode(payload, key), key) == payload


@quick
@given(payloads, st.sets(st.integers(0, ecc.CODED_BITS - 1), max_size=15))
def test_law_any_fifteen_flipped_signs_are_corrected(payload: bytes, flipped: set[int]) -> None:
    """The least distance of the code's words is 32: fewer than 16 errors leave the sent word the nearest."""
    evidence = ecc.encode(payload, KEY)
    evidence[list(flipped)] *= -1
    assert ecc.decode(evidence, KEY) == payload


@quick
@given(payloads, st.sets(st.integers(0, ecc.CODED_BITS - 1), max_size=31), st.floats(1e-6, 1e6))
def test_law_any_31_erasures_are_filled_at_any_gain(payload: bytes, erased: set[int], gain: float) -> None:
    evidence = ecc.encode(payload, KEY) * np.float32(gain)
    evidence[list(erased)] = 0.0
    assert ecc.decode(evidence, KEY) == payload


@quick
@given(payloads, payloads)
def test_law_sums_of_words_are_words_and_words_are_far_apart(one: bytes, other: bytes) -> None:
    apart = int((ecc.encode(one, KEY) != ecc.encode(other, KEY)).sum())
    assert apart == 0 if one == other else apart >= 32


@quick
@given(payloads, st.integers(0, 2**32))
def test_law_noise_stronger_than_the_signal_is_corrected(payload: bytes, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 1.3, ecc.CODED_BITS)
    assert ecc.decode((ecc.encode(payload, KEY) + noise).astype(np.float32), KEY) == payload


@quick
@given(payloads)
def test_law_a_perfect_word_under_another_key_is_refused(payload: bytes) -> None:
    assert ecc.decode(ecc.encode(payload, OTHER_KEY), KEY) is None


@quick
@given(st.integers(0, 2**32))
def test_law_noise_is_refused(seed: int) -> None:
    assert ecc.decode(np.random.default_rng(seed).normal(size=ecc.CODED_BITS).astype(np.float32), KEY) is None


def test_silence_is_not_the_payload_zero() -> None:
    assert ecc.decode(np.zeros(ecc.CODED_BITS, np.float32), KEY) is None


def test_the_mark_of_this_version_never_changes() -> None:
    """Clips already released are found by these bits: a change here is a new version beside the old one."""
    signs = np.packbits(ecc.encode(PAYLOAD, KEY) < 0).tobytes()
    assert (
        hashlib.sha256(signs).hexdigest()
        == "981eb007b4e6858ded275a7a43b08a7aecf822dca08f8bb80ed232714732f862"
    )
    parts = [lattice.waves().ky, lattice.waves().kx]
    for pattern in lattice.patterns(KEY):
        parts += [pattern.template, pattern.data, pattern.bits]
    places = b"".join(part.astype(">i2").tobytes() for part in parts)
    assert (
        hashlib.sha256(places).hexdigest()
        == "fd7cb6940a31ffac3ce815c1211bbbad17bee80022389028e1ba3b480430816b"
    )
    assert np.angle(lattice.patterns(KEY)[0].phases[:3]).tolist() == pytest.approx(
        [-1.3555, 2.7498, -2.4098], abs=1e-3
    )
    assert arrangement(KEY, PAYLOAD) == ([3, 2, 1, 0], 1)


# The lattice --------------------------------------------------------------------------------------------------------


def test_the_lattice_maps_onto_itself_under_every_turn_and_mirror() -> None:
    """Else a turned picture would have to be searched for eight times."""
    points = np.stack([lattice.waves().kx, lattice.waves().ky])
    whole = {tuple(p) for p in np.concatenate([points, -points], axis=1).T.tolist()}
    assert len(geometry.symmetries()) == 8
    for symmetry in geometry.symmetries():
        assert {tuple(p) for p in (symmetry @ points).T.tolist()} <= whole


@settings(max_examples=8, deadline=None)
@given(
    st.floats(1.2, 2.0),
    st.floats(-0.78, 0.78),
    st.floats(-0.3, 0.3),
    st.integers(0, 2**32),
)
def test_law_where_the_lattice_lies_shows_without_a_key(
    units: float, angle: float, stretch: float, seed: int
) -> None:
    """The true move scores above any other that is not one of its symmetries."""
    rng = np.random.default_rng(seed)
    move = geometry.move_of(units, angle, stretch)
    y, x = np.mgrid[0:180, 0:320].astype(float)
    u = np.linalg.inv(move) @ np.stack([x.ravel(), y.ravel()])
    k = lattice.waves()
    some = rng.choice(len(k), 60, replace=False)
    waves = np.cos(
        2 * np.pi / lattice.PERIOD * (np.outer(k.kx[some], u[0]) + np.outer(k.ky[some], u[1]))
        + rng.uniform(0, 2 * np.pi, (60, 1))
    ).sum(0)
    picture = (waves + rng.normal(0, 8, waves.shape)).reshape(1, 180, 320).astype(np.float32)
    spectra = geometry.Spectra.of(picture, picture[0])
    others = np.stack(
        [
            geometry.move_of(units * a, angle + b, stretch)
            for a, b in rng.uniform((0.7, -0.1), (0.95, 0.1), (40, 2))
        ]
    )
    assert spectra.scores(move[None])[0] > spectra.scores(others).max()


# Edges --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(361, 203), (203, 361), (1023, 577)])
def test_odd_sizes_and_portrait_orientation_carry_the_mark(width: int, height: int) -> None:
    assert payload_of(mark(pan(photo("coffee"), 6, width, height))) == PAYLOAD


def test_long_clips_are_sampled_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "residual", lambda _: np.zeros((1, 1), np.int8))
    frame = np.zeros((144, 144, 3), np.uint8)
    for length in (1, 3, 95, 96, 97, 192, 193, 1000):
        sampled = sample(frame for _ in range(length))
        assert not isinstance(sampled, NotDetected)
        assert sampled.frames == length
        assert len(sampled.bursts) == len(sampled.residuals) == len(sampled.indices)
        assert min(length, 48) <= len(sampled.residuals) <= sampling.BURST_FRAMES * sampling.MAX_BURSTS
        assert sampled.indices[-1] < length <= 2 * (sampled.indices[-1] + 1)


def test_what_is_sampled_of_the_largest_picture_stays_small_and_holds_no_key() -> None:
    sampled = sample([np.zeros((2160, 3840, 3), np.uint8)])
    assert not isinstance(sampled, NotDetected)
    assert sampled.residuals.nbytes * sampling.BURST_FRAMES * sampling.MAX_BURSTS <= 16_000_000
    assert isinstance(find(sampled, KEY), NotDetected)


@pytest.mark.parametrize("shape", [(64, 64, 3), (143, 900, 3), (200, 900, 3)])
def test_pictures_too_small_or_narrow_are_refused_not_crashed_on(shape: tuple[int, int, int]) -> None:
    with pytest.raises(MediaError, match="too"):
        Embedder(KEY, PAYLOAD, width=shape[1], height=shape[0])
    assert isinstance(detect([np.zeros(shape, np.uint8)], KEY), NotDetected)


def test_no_frames_is_an_answer() -> None:
    assert detect([], KEY) == NotDetected("there are no frames")


@pytest.mark.parametrize(
    "frame",
    [np.zeros((200, 300), np.uint8), np.zeros((200, 300, 4), np.uint8), np.zeros((200, 300, 3), np.float32)],
)
def test_what_is_not_a_frame_is_named(frame: Frame) -> None:
    with pytest.raises(MediaError, match="uint8 \\[h, w, 3\\]"):
        detect([frame], KEY)
    with pytest.raises(MediaError, match="uint8 \\[h, w, 3\\]"):
        Embedder(KEY, PAYLOAD, width=300, height=200)(frame, 0)


def test_frames_of_another_size_or_a_negative_index_are_refused() -> None:
    embed = Embedder(KEY, PAYLOAD, width=300, height=200)
    with pytest.raises(MediaError, match="frames are"):
        embed(np.zeros((300, 200, 3), np.uint8), 0)
    with pytest.raises(MediaError, match="negative"):
        embed(np.zeros((200, 300, 3), np.uint8), -1)
    with pytest.raises(MediaError, match="frame `1`"):
        detect([np.zeros((200, 300, 3), np.uint8), np.zeros((202, 300, 3), np.uint8)], KEY)


def test_keys_and_payloads_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ProvenanceError, match="key"):
        Embedder(KEY[:-1], PAYLOAD, width=300, height=200)
    with pytest.raises(ProvenanceError, match="key"):
        detect([], KEY + b"\x00")
    with pytest.raises(ProvenanceError, match="payload"):
        Embedder(KEY, PAYLOAD[:-1], width=300, height=200)
