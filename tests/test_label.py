"""The label people see: how large, how clear, where, and that it stays."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ledger.provenance.label import Label, Labeller, Language, words

LANGUAGES: tuple[Language, ...] = get_args(Language)
SIZES = [(426, 240), (240, 426), (640, 360), (1280, 720), (1920, 1080), (1080, 1920)]
Frame = NDArray[np.uint8]


def labeller(label: Label, width: int, height: int, *, fps: float = 24, seconds: float = 8) -> Labeller:
    return Labeller(label, width=width, height=height, fps=fps, seconds=seconds)


def plain(width: int, height: int, value: int) -> Frame:
    return np.full((height, width, 3), value, np.uint8)


def luminance(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a grey, relative, as WCAG 2.2 has it."""
    share = value / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def shown(drawn: Frame, one: Labeller, index: int) -> NDArray[np.float64]:
    top, left = one.corner(index)
    height, width = one.plate.shape
    return drawn[top : top + height, left : left + width, 0].astype(np.float64)


@pytest.mark.parametrize("value", [0, 90, 255])
@pytest.mark.parametrize(("width", "height"), SIZES[:2])
def test_letters_are_seven_to_one_on_any_grey(width: int, height: int, value: int) -> None:
    one = labeller(Label(("en",)), width, height)
    seen = shown(one(plain(width, height, value), 0), one, 0)
    bright, dark = np.percentile(seen, 99), np.percentile(seen, 40)
    assert bright > 250
    ratio = (luminance(np.array(bright)) + 0.05) / (luminance(np.array(dark)) + 0.05)
    assert ratio >= 7


def test_the_plate_is_seen_on_black_and_on_white() -> None:
    for value in (0, 255):
        one = labeller(Label(("en",)), 640, 360)
        before = plain(640, 360, value)
        changed = np.any(one(before, 0) != before, axis=2)
        height, width = one.plate.shape
        # Its rim on black, its ground on white: along both, there is an edge to be seen.
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert (
            (rows.size, columns.size) == (height, width)
            if value == 0
            else (height - 1, width - 1)
            <= (
                rows.size + 8,
                columns.size + 8,
            )
        )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_letters_are_as_high_as_asked_in_every_language(language: Language, width: int, height: int) -> None:
    """Measured on the plate: the rows that hold ink, left of no mark."""
    one = labeller(Label((language,), least_height=0.05), width, height)
    ink = one.plate.paint > 200
    rim = max(3, round(0.02 * min(width, height)))
    inside = ink[rim:-rim, rim:-rim]
    rows = np.flatnonzero(inside.any(axis=1))
    assert rows[-1] - rows[0] + 1 >= max(12, 0.05 * min(width, height)) - 1


@given(
    width=st.integers(120, 1000).map(lambda side: side * 2),
    height=st.integers(120, 1000).map(lambda side: side * 2),
    languages=st.lists(st.sampled_from(LANGUAGES), min_size=1, max_size=3, unique=True),
    least=st.sampled_from([0.0, 0.1]),
    index=st.integers(0, 400),
)
@settings(max_examples=25, deadline=None)
def test_it_is_inside_of_every_frame_and_covers_what_was_asked(
    width: int, height: int, languages: list[Language], least: float, index: int
) -> None:
    one = labeller(Label(tuple(languages), least_area=least), width, height)
    (rows, columns), (top, left) = one.plate.shape, one.corner(index)
    assert rows * columns >= least * width * height
    assert 0 <= top <= height - rows
    assert 0 <= left <= width - columns


@pytest.mark.parametrize("seconds", [1.0, 2.5, 4.0, 12.0])
@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right"])
def test_cutting_off_one_edge_leaves_it_in_a_part_of_the_clip(seconds: float, edge: str) -> None:
    width, height, fps = 640, 360, 24
    one = labeller(Label(("en",)), width, height, fps=fps, seconds=seconds)
    rows, columns = one.plate.shape
    whole = 0
    for index in range(int(seconds * fps)):
        top, left = one.corner(index)
        keeps = {
            "top": top >= height // 4,
            "bottom": top + rows <= height - height // 4,
            "left": left >= width // 4,
            "right": left + columns <= width - width // 4,
        }
        whole += keeps[edge]
    assert whole >= int(seconds * fps) // 4


def test_it_begins_at_the_top_right_and_is_in_every_frame() -> None:
    one = labeller(Label(("de", "zh")), 640, 360, seconds=4)
    frame = plain(640, 360, 128)
    top, left = one.corner(0)
    assert top < 90
    assert left > 320
    for index in range(0, 96, 7):
        assert np.any(one(frame, index) != frame)


@given(seed=st.integers(0, 1000), value=st.integers(0, 255))
@settings(max_examples=20, deadline=None)
def test_it_is_found_where_it_is_and_nowhere_else(seed: int, value: int) -> None:
    one = labeller(Label(("en",)), 320, 240)
    noise = np.random.default_rng(seed).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    for frame in (noise, plain(320, 240, value)):
        assert one.is_in(one(frame, 0), 0)
        assert not one.is_in(frame, 0)
        assert not one.is_in(one(frame, 0), 48), "it moved, and the frame did not"


def test_the_frame_given_is_left_as_it_was() -> None:
    frame = plain(640, 360, 128)
    labeller(Label(("en",)), 640, 360)(frame, 0)
    assert (frame == 128).all()


def test_the_words_are_the_ones_that_were_set() -> None:
    assert words("zh") == "人工智能生成"
    assert words("de") == "KI-generiert"
    assert words("en") == "AI-generated"
    # China's standard asks for AI and for its being generated, in these very words.
    assert {"人工智能", "生成"} <= {words("zh")[:4], words("zh")[4:]}
