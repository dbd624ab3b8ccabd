"""Sampling: nothing that is shown for three frames lies between two looks, and little is looked at twice."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.provenance import media
from safety import sampling
from safety.sampling import APART_S, CLOSEST_S, SHORT_SIDE, sampled

Picture = NDArray[np.uint8]
RNG = np.random.default_rng(5)
SCENE = RNG.integers(60, 190, (9, 16, 3)).repeat(20, axis=0).repeat(20, axis=1).astype(np.uint8)
PATCH = RNG.integers(0, 255, (6, 6, 3)).repeat(6, axis=0).repeat(6, axis=1).astype(np.uint8)


def clip(path: Path, draw: Callable[[int], Picture], *, count: int = 48, fps: int = 24) -> Path:
    height, width, _ = draw(0).shape
    pattern = path.with_suffix(".pattern.mp4")
    media.write_pattern(pattern, width=width, height=height, count=count, fps=fps)
    media.restamp(pattern, path, lambda _, index: draw(index))
    return path


def looked_at(path: Path, fps: int = 24) -> list[int]:
    return [round(t_s * fps) for t_s, _ in sampled(path)]


def test_a_still_picture_is_looked_at_every_so_often_and_no_more(tmp_path: Path) -> None:
    assert looked_at(clip(tmp_path / "a.mp4", lambda _: SCENE)) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("first", [1, 3, 11, 14, 25, 38])
def test_a_small_picture_shown_for_three_frames_is_looked_at(tmp_path: Path, first: int) -> None:
    """As large as the smallest face that can be found, inside a scene that stands still."""

    def draw(index: int) -> Picture:
        picture = SCENE.copy()
        if first <= index < first + 3:
            picture[50:86, 150:186] = PATCH
        return picture

    assert {first, first + 1, first + 2} & set(looked_at(clip(tmp_path / "a.mp4", draw)))


def test_a_scene_of_one_frame_is_looked_at(tmp_path: Path) -> None:
    seen = looked_at(clip(tmp_path / "a.mp4", lambda index: SCENE if index != 21 else 255 - SCENE))
    # The cut to it, and the cut back.
    assert {21, 22} <= set(seen)


def test_a_picture_that_moves_is_looked_at_at_least_every_third_frame(tmp_path: Path) -> None:
    seen = looked_at(clip(tmp_path / "a.mp4", lambda index: np.roll(SCENE, 4 * index, axis=1)))
    assert set(np.diff(seen)) <= {1, 2, 3}
    assert 15 <= len(seen) <= 18


def test_a_slow_morph_adds_up(tmp_path: Path) -> None:
    """No frame differs much from the one before it."""
    other = 255 - SCENE

    def draw(index: int) -> Picture:
        share = min(index / 47, 1.0)
        return (SCENE * (1 - share) + other * share).astype(np.uint8)

    assert len(looked_at(clip(tmp_path / "a.mp4", draw))) > 5


@pytest.mark.slow
def test_a_picture_of_4k_is_looked_at_at_a_size_that_memory_holds(tmp_path: Path) -> None:
    large = SCENE.repeat(12, axis=0).repeat(12, axis=1)
    shapes = {picture.shape for _, picture in sampled(clip(tmp_path / "a.mp4", lambda _: large, count=2))}
    assert shapes == {(SHORT_SIDE, SHORT_SIDE * 16 // 9, 3)}


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0.001, 0.5), st.integers(0, 3)), min_size=1, max_size=60),
)
def test_whatever_stays_different_for_long_enough_is_looked_at(
    steps: list[tuple[float, int]],
) -> None:
    """Any timing of frames, any order of four pictures: no picture runs for CLOSEST_S and more without a look."""
    patterns = [np.full((18, 32), level, np.uint8) for level in (20, 60, 110, 160)]
    time_s, run_from, seen_in_run, shown = 0.0, 0.0, False, -1
    last: NDArray[np.uint8] | None = None
    before, last_s = patterns[0], 0.0
    for gap_s, which in steps:
        time_s += gap_s
        if which != shown:
            shown, run_from, seen_in_run = which, time_s, False
        grey = patterns[which]
        if last is None or sampling._due(time_s - last_s, grey, last, before):
            last, last_s, seen_in_run = grey, time_s, True
        before = grey
        assert seen_in_run or time_s - run_from < CLOSEST_S or np.array_equal(grey, last)
    assert APART_S > CLOSEST_S


def test_frames_that_claim_one_instant_are_looked_at_each(tmp_path: Path) -> None:
    """The canonical form shows them one after the other: a face could come up slowly while no time goes by."""

    def draw(index: int) -> Picture:
        part = min(index, 36) / 36
        return (SCENE * (1 - part) + (255 - SCENE) * part).astype(np.uint8)

    data = bytearray(clip(tmp_path / "a.mp4", draw).read_bytes())
    # Every frame lasts no time, by the file; and a tick of its clock is a frame.
    table, clock = data.index(b"stts"), data.index(b"mdhd")
    (runs,) = struct.unpack_from(">I", data, table + 8)
    for run in range(runs):
        struct.pack_into(">I", data, table + 16 + 8 * run, 0)
    struct.pack_into(">I", data, clock + 16, 24)
    for other in (b"ctts", b"elst"):
        data = data.replace(other, b"free")
    (tmp_path / "at_once.mp4").write_bytes(data)
    times = [t_s for t_s, _ in sampled(tmp_path / "at_once.mp4")]
    assert len(times) >= 12
