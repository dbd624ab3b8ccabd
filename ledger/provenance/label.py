"""The label people see: a mark that says AI, and words that say the clip was made by it, burnt into every frame.

Guarantees:
- letters are at least `least_height` of the frame's shorter side high (of a line of words: its capitals, or its
  ideographs, larger by a third) and never under 12 pixels; the plate they stand on covers at least `least_area` of the frame;
- white on a plate that lets little of the picture through: at least 7 to 1 in contrast over any picture (WCAG 2.2
  §1.4.6), with a bright rim, so that the plate itself is seen on black;
- it is in every frame, and in another corner every two seconds (sooner in a short clip), beginning at the top right and
  going to the opposite one: cutting off any one edge leaves it in a part of the clip. A crop to the middle loses all of
  it; the invisible mark remains;
- :meth:`Labeller.is_in` says whether it can be seen in a finished frame;
- the words are in one of the languages of `lettering.json`, set there once and for all: no font is needed here, and the
  same pixels come out everywhere.

The mark is drawn by us: the letters "AI" in a rounded frame. It is not one of the official icons of the European Union.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Language = Literal["de", "en", "es", "fr", "hi", "it", "nl", "pl", "pt", "zh"]

DWELL_S: Final = 2.0
"""How long it stays in one corner; never longer than half of the clip."""
_CORNERS: Final = ("top right", "bottom left", "top left", "bottom right")
_LEAST_PIXELS: Final = 12
_OVERSAMPLED: Final = 4
_PLATE: Final = 0.80
"""How much of the plate covers the picture: what shines through of white is a fifth."""
_SEEN: Final = 120
"""How much brighter the ink must be than what it stands on, of 255: on white it is over 200 when it is drawn."""
_MARGIN: Final = 0.03
"""Between the plate and the frame's edges, of the shorter side."""
_WIDEST: Final = 1 - 2 * _MARGIN


@dataclass(frozen=True, slots=True)
class Label:
    """What has to be seen. `least_height`: of the shorter side; `least_area`: of the frame."""

    languages: tuple[Language, ...]
    least_height: float = 0.05
    least_area: float = 0.0


@dataclass(frozen=True, slots=True)
class Plate:
    """A label as it is laid over a frame. paint, cover: float32 [h, w]; what is shown is `paint` + (1 - cover) * frame."""

    paint: NDArray[np.float32]
    cover: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.paint.shape
        return height, width


class Labeller:
    """Draws a label on frames of one size. Frames: uint8 [h, w, 3], RGB, 0-255."""

    def __init__(self, label: Label, *, width: int, height: int, fps: float, seconds: float) -> None:
        self._size = width, height
        self._frames_a_stay = max(1.0, fps * min(DWELL_S, seconds / 2))
        self.plate = _plate(label, width, height)

    def __call__(self, frame: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        top, left = self.corner(index)
        height, width = self.plate.shape
        drawn = frame.copy()
        below = drawn[top : top + height, left : left + width].astype(np.float32)
        over = self.plate.paint[..., None] + (1 - self.plate.cover[..., None]) * below
        drawn[top : top + height, left : left + width] = np.round(over).astype(np.uint8)
        return drawn

    def is_in(self, frame: NDArray[np.uint8], index: int) -> bool:
        """Whether the label can still be seen in a frame that was encoded since: its ink far brighter than its ground."""
        top, left = self.corner(index)
        height, width = self.plate.shape
        grey = frame[top : top + height, left : left + width].mean(axis=2)
        ink, ground = self.plate.paint > 250, (self.plate.paint == 0) & (self.plate.cover > 0)
        return bool(grey[ink].mean() - grey[ground].mean() >= _SEEN)

    def corner(self, index: int) -> tuple[int, int]:
        """(top, left) of the plate in the frame of that index."""
        width, height = self._size
        gap = round(_MARGIN * min(width, height))
        name = _CORNERS[int(index / self._frames_a_stay) % len(_CORNERS)]
        top = gap if "top" in name else height - gap - self.plate.shape[0]
        left = gap if "left" in name else width - gap - self.plate.shape[1]
        return top, left


# --- drawing ---------------------------------------------------------------------------------------------------


def _plate(label: Label, width: int, height: int) -> Plate:
    """The label as small as it may be; larger where it has to cover more, in as many rows as fit the frame."""
    short = min(width, height)
    capital = max(float(_LEAST_PIXELS), label.least_height * short)
    # Room for rounding, so that what is measured in whole pixels is never less than what was asked for.
    wanted = label.least_area * width * height * 1.02
    rooms = _WIDEST * width, _WIDEST * height
    layouts = [_Layout.of(label.languages, beside=beside) for beside in (True, False)]
    fitting = [one for one in layouts if one.width * capital <= rooms[0]] or [
        min(layouts, key=lambda one: one.width)
    ]
    # Of those that fit, the one that has to grow least.
    sizes = [(max(capital, (wanted / (one.width * one.height)) ** 0.5), one) for one in fitting]
    size, layout = min(sizes, key=lambda pair: pair[0])
    size = min(size, rooms[0] / layout.width)
    plate_width = round(layout.width * size)
    plate_height = max(round(layout.height * size), int(np.ceil(wanted / plate_width)))
    return layout.drawn(size, plate_width, plate_height)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Mark and words in units of a capital's height: the mark beside the lines of words, or above them."""

    lines: tuple[str, ...]
    beside: bool
    width: float
    height: float

    @classmethod
    def of(cls, languages: tuple[Language, ...], *, beside: bool) -> "_Layout":
        text = max(_width(language) for language in languages)
        lines = len(languages) + (len(languages) - 1) * _LEADING
        if beside:
            width, height = _MARK_WIDTH + _GAP + text, max(_MARK_HEIGHT, lines)
        else:
            width, height = max(_MARK_WIDTH, text), _MARK_HEIGHT + _GAP + lines
        return cls(tuple(languages), beside, width + 2 * _PADDING, height + 2 * _PADDING)

    def drawn(self, size: float, width: int, height: int) -> Plate:
        scale = size * _OVERSAMPLED
        wide, high = width * _OVERSAMPLED, height * _OVERSAMPLED
        ground = _rounded(wide, high, 0, 0, wide, high, 0.35 * scale)
        rim = max(_OVERSAMPLED, round(0.07 * scale))
        inner = _rounded(wide, high, rim, rim, wide - rim, high - rim, 0.35 * scale - rim)
        # Centred, where the plate is larger than what stands on it.
        left = (wide - (self.width - 2 * _PADDING) * scale) / 2
        top = (high - (self.height - 2 * _PADDING) * scale) / 2
        bottom = high - top
        ink = np.zeros((high, wide), np.uint8)
        mark_top = (top + bottom - _MARK_HEIGHT * scale) / 2 if self.beside else top
        mark_left = left if self.beside else (wide - _MARK_WIDTH * scale) / 2
        _mark(ink, mark_left, mark_top, scale)
        lines = len(self.lines) + (len(self.lines) - 1) * _LEADING
        at = (top + bottom - lines * scale) / 2 if self.beside else bottom - lines * scale
        for language in self.lines:
            start = (
                left + (_MARK_WIDTH + _GAP) * scale if self.beside else (wide - _width(language) * scale) / 2
            )
            _write(ink, language, start, at + scale, scale)
            at += (1 + _LEADING) * scale
        bright = np.maximum(ink, cv2.subtract(ground, inner))
        cover = np.maximum(bright, np.round(ground * _PLATE).astype(np.uint8))
        return Plate(_smaller(bright, width, height), _smaller(cover, width, height) / np.float32(255))


_MARK_WIDTH: Final = 2.35
_MARK_HEIGHT: Final = 1.75
_GAP: Final = 0.55
_LEADING: Final = 0.75
_PADDING: Final = 0.55
_RING: Final = 0.16
"""All in units of the height of the words' capitals."""


@cache
def _lettering() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        resources.files("ledger.provenance").joinpath("lettering.json").read_text("utf-8")
    )
    return found


@cache
def _polygons(name: str) -> tuple[tuple[NDArray[np.float64], ...], ...]:
    """Each glyph as its contours: float64 [n, 2], x to the right and y *up*, in units of a capital's height."""
    glyphs = _lettering()[name]["glyphs"]
    left = min(x for glyph in glyphs for contour in glyph for x, _ in contour)
    return tuple(
        tuple((np.array(contour, np.float64) - (left, 0)) / 1000 for contour in glyph) for glyph in glyphs
    )


def words(language: Language) -> str:
    """What the label says in a language."""
    return str(_lettering()[language]["text"])


def _width(name: str) -> float:
    return max(float(contour[:, 0].max()) for glyph in _polygons(name) for contour in glyph)


def _write(
    ink: NDArray[np.uint8], name: str, left: float, baseline: float, scale: float, value: int = 255
) -> None:
    for glyph in _polygons(name):
        contours = [
            np.round(contour * (scale, -scale) + (left, baseline)).astype(np.int32) for contour in glyph
        ]
        # One glyph at a time: where two touch, even and odd would make a hole.
        shape = np.zeros_like(ink)
        cv2.fillPoly(shape, contours, 255)
        ink[shape > 0] = value


def _mark(ink: NDArray[np.uint8], left: float, top: float, scale: float) -> None:
    """The letters AI cut out of a bright field with rounded corners."""
    high, wide = ink.shape
    right, bottom = left + _MARK_WIDTH * scale, top + _MARK_HEIGHT * scale
    field = _rounded(wide, high, round(left), round(top), round(right), round(bottom), 0.4 * scale)
    np.maximum(ink, field, out=ink)
    size = (_MARK_HEIGHT - 4 * _RING) * scale
    middle = (left + right) / 2 - _width("icon") * size / 2
    _write(ink, "icon", middle, (top + bottom) / 2 + size / 2, size, value=0)


def _rounded(
    wide: int, high: int, left: int, top: int, right: int, bottom: int, radius: float
) -> NDArray[np.uint8]:
    shape = np.zeros((high, wide), np.uint8)
    r = max(0, min(round(radius), (right - left) // 2, (bottom - top) // 2))
    cv2.rectangle(shape, (left + r, top), (right - r - 1, bottom - 1), 255, -1)
    cv2.rectangle(shape, (left, top + r), (right - 1, bottom - r - 1), 255, -1)
    for x in (left + r, right - r - 1):
        for y in (top + r, bottom - r - 1):
            cv2.circle(shape, (x, y), r, 255, -1)
    return shape


def _smaller(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
