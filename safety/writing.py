"""Words that stand in a picture, to be screened as a prompt is.

Guarantees

- Every other sampled frame is glanced at; those that show writing which the last one read did not, there or a little
  way off (:data:`REACH`), are read, and so is one in every :data:`READ_EVERY`. So large words are read where they stand for half a second, in still pictures
  for a whole one; small ones where they stand for one second, and for three in still pictures.
- Only lines that were read with confidence count. Lines that stand together are one passage, top to bottom, so that
  a sentence broken over lines is read whole; and so is everything in a frame.
- What stops this leaves the clip unchecked for `text`: weights that are missing or altered, a crash, no numbers.
- Everything runs in worker processes, from the weights inside the package. Nothing is downloaded or written.

Measured, white on a photograph of 1280 by 720: a glance finds letters from about 30 pixels high, reading those from
16 to 20. Words are read at a slant, on their side, upside down and mirrored; the ends of slanted ones get lost.
It knows Latin, Greek, Chinese and Japanese letters; Cyrillic, Arabic, Hebrew, Indic and Korean ones it cannot read, nor
words drawn as shapes, bent, or spread over several moments. What a reader of those would see is not screened.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safety import models, workers
from safety.errors import CheckUnavailable
from safety.faces import Picture
from safety.policy.facts import Check

GLANCE_EVERY: Final = 2
READ_EVERY: Final = 8
"""Of the sampled frames, how many to one that is glanced at, and to one that is read whatever a glance finds."""
GLANCE_PX, READ_PX = 320, 640
"""The longer side at which writing is looked for. A glance takes a quarter of the time."""
CONFIDENT: Final = 0.8
"""What is no writing, but texture, is read as a letter or two at 0.4 to 0.85; words are read at 0.9 to 1."""
SURE: Final = 0.95
"""Below this, a line is also read upside down and mirrored, and the surest reading counts."""
LETTERS: Final = 2
"""A passage has at least as many letters; one alone is what a texture looks like."""
CHANGED: Final = 12.0
"""Grey levels by which the place of a line looks different on average, so that it is worth reading again."""
MOVED_PX: Final = 8
"""What is smaller is not sought where it may have moved to."""
REACH: Final = 8
"""What part of the longer side a line may have moved and still be the one that was read."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Written:
    """lines: the passages that were read, each once."""

    lines: tuple[str, ...] = ()
    unchecked: frozenset[Check] = frozenset()


class Line(NamedTuple):
    """One line in a picture. Where it stands, in pixels; `text` is empty where it was only glanced at."""

    top: float
    right: float
    bottom: float
    left: float
    text: str = ""


def read(pictures: Sequence[Picture]) -> Written:
    """Read sampled frames, each uint8 [h, w, 3] RGB, in their order."""
    try:
        glances = list(workers.shared().map(glance, ((picture,) for picture in pictures[::GLANCE_EVERY])))
        chosen = worth_reading(pictures, glances)
        found = list(workers.shared().map(lines, ((pictures[index],) for index in chosen)))
    except CheckUnavailable as error:
        _log.warning("writing could not be looked for: %s (%s)", error, error.reason.id)
        return Written(unchecked=frozenset({"text"}))
    return Written(tuple(dict.fromkeys(passage for one in found for passage in passages(one))))


def worth_reading(pictures: Sequence[Picture], glances: Sequence[tuple[Line, ...]]) -> list[int]:
    """Which frames to read: one in every few, and those where a line stands that the last one read did not have.

    `glances`: what was found in every other frame.
    """
    chosen: list[int] = []
    glanced = range(0, len(pictures), GLANCE_EVERY)
    for index, seen in zip(glanced, glances, strict=True):
        picture = pictures[index]
        if index % READ_EVERY == 0 or any(_differ(picture, pictures[chosen[-1]], line) for line in seen):
            chosen.append(index)
    return chosen


def _differ(one: Picture, other: Picture, line: Line) -> bool:
    if one.shape != other.shape:
        return True
    top, left = max(int(line.top), 0), max(int(line.left), 0)
    place = one[top : max(int(line.bottom), top + 1), left : max(int(line.right), left + 1)]
    # A place without pixels is one to look at, too.
    if not place.size:
        return True
    return not _stands(place, other, top, left) and not _stands_near(place, other, top, left)


def _stands(place: Picture, other: Picture, top: int, left: int) -> bool:
    """Whether just this is there, too."""
    there = other[top : top + len(place), left : left + place.shape[1]]
    if top < 0 or left < 0 or there.shape != place.shape:
        return False
    return float(np.abs(place.astype(np.int16) - there).mean()) <= CHANGED


def _stands_near(place: Picture, other: Picture, top: int, left: int) -> bool:
    """Whether just this is there but for how far it may have moved: a picture that pans shows nothing new to read.

    It is sought at half the size, and then has to be there pixel by pixel.
    """
    if min(place.shape[:2]) < MOVED_PX:
        return False
    reach = max(other.shape) // REACH
    first, start = max(top - reach, 0), max(left - reach, 0)
    around = other[first : top + len(place) + reach, start : left + place.shape[1] + reach]
    y, x = _best_fit(_halved(place), _halved(around))
    near = [(first + 2 * y + down, start + 2 * x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return any(_stands(place, other, *at) for at in near)


def _halved(picture: Picture) -> NDArray[np.float64]:
    """Brightness, of each two pixels by two."""
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    grey = picture[:height, :width].mean(axis=2)
    halved: NDArray[np.float64] = grey.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return halved


def _best_fit(part: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[int, int]:
    """Where in the whole the part lies, row and column, by the least sum of squares."""
    (height, width), size = part.shape, (whole.shape[0], whole.shape[1])
    products = np.fft.irfft2(np.fft.rfft2(whole) * np.conj(np.fft.rfft2(part, size)), size)
    sums = np.pad(np.square(whole), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    squares = (
        sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    )
    apart = squares - 2 * products[: squares.shape[0], : squares.shape[1]]
    row, column = np.unravel_index(int(apart.argmin()), apart.shape)
    return int(row), int(column)


def passages(found: Sequence[Line]) -> list[str]:
    """Lines that stand together, joined in the order they are read; and everything, where there are several."""
    blocks: list[list[Line]] = []
    for line in sorted(found, key=lambda line: (line.top, line.left)):
        near = next((block for block in blocks if any(_together(one, line) for one in block)), None)
        if near is None:
            blocks.append([line])
        else:
            near.append(line)
    whole = [" ".join(line.text for line in _in_order(block)) for block in blocks]
    if len(blocks) > 1:
        whole.append(" ".join(whole))
    return [text for text in whole if sum(letter.isalnum() for letter in text) >= LETTERS]


def _together(above: Line, below: Line) -> bool:
    """Of one paragraph: the next row under it, or farther on in the same row."""
    height = max(1.0, min(above.bottom - above.top, below.bottom - below.top))
    beside = min(above.bottom, below.bottom) - max(above.top, below.top) > height / 2
    gap = max(above.left, below.left) - min(above.right, below.right)
    return (gap < 2 * height) if beside else (below.top - above.bottom < height and gap < 0)


def _in_order(block: Sequence[Line]) -> list[Line]:
    """Row by row, each from left to right."""
    rows: list[list[Line]] = []
    for line in sorted(block, key=lambda line: line.top + line.bottom):
        middle = (line.top + line.bottom) / 2
        if rows and rows[-1][0].top < middle < rows[-1][0].bottom:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.left)]


# ── in a worker ───────────────────────────────────────────────────────────────────────────────────────────


def glance(picture: Picture) -> tuple[Line, ...]:
    """Where lines seem to stand, at a low resolution. None of them is read."""
    return tuple(_place(corners) for corners in _found(picture, GLANCE_PX))


def lines(picture: Picture) -> tuple[Line, ...]:
    """Every line that can be read with confidence."""
    reader = _reader()
    read_here = []
    for corners in _found(picture, READ_PX):
        strip = reader.upright(picture[:, :, ::-1], corners.astype(np.float32))
        text, confidence = _text(strip)
        if confidence < SURE:
            turned = (strip[::-1, ::-1], strip[:, ::-1], strip[::-1])
            text, confidence = max((text, confidence), *map(_text, turned), key=lambda found: found[1])
        if confidence >= CONFIDENT and text.strip():
            read_here.append(_place(corners)._replace(text=text.strip()))
    return tuple(read_here)


def _place(corners: NDArray[np.int32]) -> Line:
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    return Line(float(top), float(right), float(bottom), float(left))


def _found(picture: Picture, longest_px: int) -> list[NDArray[np.int32]]:
    """The corners of each line, int32 [4, 2], looked for at this size."""
    height, width = picture.shape[:2]
    scale = longest_px / max(height, width)
    # The network's own size is a multiple of 32 pixels; BGR, from -1 to 1.
    size = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
    small = np.asarray(Image.fromarray(picture).resize((size[0], size[1]), Image.Resampling.BILINEAR))
    given = np.ascontiguousarray((small[:, :, ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None])
    reader = _reader()
    corners, _ = reader.places(reader.detector(given), (height, width))
    return list(corners)


_HEIGHT_PX, _LEAST_PX, _MOST_PX = 48, 320, 3_200


def _text(strip: NDArray[np.uint8]) -> tuple[str, float]:
    """What one line says, and how sure that is, 0 to 1. strip: uint8 [h, w, 3], BGR."""
    height, width = strip.shape[:2]
    seen_px = min(max(1, -(-_HEIGHT_PX * width // height)), _MOST_PX)
    small = Image.fromarray(np.ascontiguousarray(strip)).resize(
        (seen_px, _HEIGHT_PX), Image.Resampling.BILINEAR
    )
    given = np.zeros((1, 3, _HEIGHT_PX, max(seen_px, _LEAST_PX)), np.float32)
    given[0, :, :, :seen_px] = (np.asarray(small, np.float32) / 127.5 - 1).transpose(2, 0, 1)
    reader = _reader()
    ((text, confidence), *_), _ = reader.letters(reader.recogniser(given))
    return str(text), float(confidence)


class _Reader(NamedTuple):
    """The networks, and what the package that carries them makes of their answers."""

    detector: models.Session
    recogniser: models.Session
    places: Any
    letters: Any
    upright: Any


@lru_cache(maxsize=1)
def _reader() -> _Reader:
    # The package as a whole would fetch what it misses, and takes a failure for an empty picture: only its parts
    # that turn a network's answer into places and letters are used.
    from rapidocr.ch_ppocr_det.utils import DBPostProcess  # noqa: PLC0415
    from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode  # noqa: PLC0415
    from rapidocr.utils.process_img import get_rotate_crop_image  # noqa: PLC0415

    folder = models.packaged("pp-ocr")
    recogniser = models.Session(folder / "PP-OCRv6_rec_small.onnx")
    return _Reader(
        models.Session(folder / "PP-OCRv6_det_small.onnx"),
        recogniser,
        DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True),
        CTCLabelDecode(character=recogniser.metadata["character"].splitlines()),
        get_rotate_crop_image,
    )
